"""Speaking to systemd: readiness and the watchdog, sd_notify(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends to $NOTIFY_SOCKET; does nothing outside systemd."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        """Reads NOTIFY_SOCKET and WATCHDOG_USEC."""
        self._address = environ.get("NOTIFY_SOCKET", "")
        usec = environ.get("WATCHDOG_USEC", "")
        self.watchdog = int(usec) / 1e6 if usec.isdigit() else None  # s; None: no watchdog

    def send(self, *lines: str) -> None:
        """Send state lines such as "READY=1"; a failure is none of the meters' business."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            try:
                channel.sendto("\n".join(lines).encode(), address)
            except OSError:
                return
