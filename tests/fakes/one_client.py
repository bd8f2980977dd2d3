"""A server for one client at a time on loopback; what it does with a connection is its subclass's."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Event, Thread
from typing import Self

from tests.fakes.modbus_server import HOST

STOP_WITHIN = 60.0  # s


class OneClient:
    """Serves from `with` on, until its end."""

    def __init__(self, scheme: str) -> None:
        """`scheme`: of its URL."""
        self.client: socket.socket | None = None
        self.over = Event()
        self._listener = socket.create_server((HOST, 0))
        self.url = f"{scheme}://{HOST}:{self._listener.getsockname()[1]}"
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for each in (self._listener, self.client):
            with suppress(OSError, AttributeError):
                each.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(STOP_WITHIN)

    def serve(self, client: socket.socket) -> None:
        """Until the client or the line is gone; may raise OSError."""
        raise NotImplementedError

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                self.client, _ = self._listener.accept()
                self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self.client, suppress(OSError):
                    self.serve(self.client)
