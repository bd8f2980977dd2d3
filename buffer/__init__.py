"""The durable buffer: readings, hours and the journal of what was sent (SQLite)."""
