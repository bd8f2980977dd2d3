"""MQTT meters: any broker, any topic, any JSON."""
