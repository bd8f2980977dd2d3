"""Speaking to systemd: readiness and the watchdog, sd_notify(3)."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PATIENCE = 1.0  # s; a manager that does not take its mail must not stop the meters


class Notifier:
    """Sends to $NOTIFY_SOCKET; does nothing outside systemd."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        """Reads NOTIFY_SOCKET; a leading "@" stands for the zero byte of an abstract address."""
        given = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + given[1:] if given.startswith("@") else given

    def send(self, *lines: str) -> None:
        """Send state lines such as "READY=1"; a failure is none of the meters' business."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(PATIENCE)
            try:
                channel.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                return
