"""The running service's ear: one JSON request per connection on a Unix socket that only its user can open."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

LONGEST_REQUEST = 65_536  # bytes
LONGEST_ANSWER = 64 * 1024 * 1024
ANSWER_WITHIN = 5.0  # s

Handler = Callable[[dict[str, Any]], dict[str, Any]]


class ControlServer:
    """Answers requests in its own thread; a broken request harms nobody but its sender."""

    def __init__(self, path: Path, handler: Handler) -> None:
        """Bind at once, or raise OSError; a socket that a dead process left is replaced (the lock proves it dead)."""
        self._path = path
        self._handler = handler
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short(path) as address:
                self._listener.bind(address)
            path.chmod(0o600)
            self._listener.listen(8)
        except OSError:
            self._listener.close()
            raise
        Thread(target=self._serve, name="control", daemon=True).start()

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._path.unlink(missing_ok=True)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept(), which close alone does not
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                channel, _ = self._listener.accept()
            except OSError:  # closed
                return
            with channel:
                channel.settimeout(ANSWER_WITHIN)
                self._answer(channel)

    def _answer(self, channel: socket.socket) -> None:
        try:
            request = json.loads(_line(channel, LONGEST_REQUEST))
            answer = self._handler(request)
            channel.sendall(json.dumps(answer, default=str).encode() + b"\n")
        except Exception as error:  # noqa: BLE001 - the thread's top: no request may end the service's ear
            log.warning("control request failed: %s: %s", type(error).__name__, error)


def ask(path: Path, request: dict[str, Any]) -> dict[str, Any] | None:
    """The service's answer; None when nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(ANSWER_WITHIN)
        try:
            with _short(path) as address:
                channel.connect(address)
            channel.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(_line(channel, LONGEST_ANSWER))
        except (OSError, ValueError):
            return None
    return answer if isinstance(answer, dict) else None


def _line(channel: socket.socket, longest: int) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n") and (more := channel.recv(LONGEST_REQUEST)):
        received += more
        if len(received) > longest:
            raise ValueError(f"more than {longest} bytes")
    return bytes(received)


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """An address below the 108 bytes that unix(7) allows, however deep the directory is."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
