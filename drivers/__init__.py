"""Field drivers: from the wire to readings. They import nothing of the gateway or the buffer."""
