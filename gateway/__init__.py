"""The meter gateway application: from stored readings to hours that EnerKey has accepted."""

__version__ = "0.1.0"
