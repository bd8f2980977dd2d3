"""One module per command; each has `configure` and `run` and is imported only when chosen."""
