"""Commissioning the API: what is asked of EnerKey on a meter of its own, and what the answers prove."""
