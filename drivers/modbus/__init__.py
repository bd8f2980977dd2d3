"""Modbus meters: TCP and RTU."""
