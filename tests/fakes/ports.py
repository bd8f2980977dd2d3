"""A port for a server that goes and comes back: nobody else gets it meanwhile.

The system gives ports of its own range to whoever asks for any, other tests among them; this one is below that range.
"""

from __future__ import annotations

import socket
from pathlib import Path
from random import SystemRandom

HOST = "127.0.0.1"
RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")  # the first and the last, ip(7)
FIRST = 10_240
CHANCE = SystemRandom()  # not the same in all processes that run tests


def lasting_port() -> int:
    """One that is free now."""
    end = int(RANGE.read_text().split()[0])
    while True:
        port = CHANCE.randrange(FIRST, end) if end > FIRST else 0
        try:
            with socket.create_server((HOST, port)) as trial:
                return int(trial.getsockname()[1])
        except OSError:  # somebody's
            continue
