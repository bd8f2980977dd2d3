"""Simulated EnerKey, Modbus meters and MQTT devices for `demo`, `simulate` and the tests."""
