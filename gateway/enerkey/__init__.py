"""The EnerKey API: its contract as configuration, its client, and what each answer proves."""
