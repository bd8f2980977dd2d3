"""Stands between the gateway and the broker, and looks into the database before it passes an acknowledgement on (R3).

SQLite shows a commit to other connections only when its log is synced: what is seen here is durable. MQTT 5.0, sections
2.1, 3.3 (PUBLISH) and 3.4 (PUBACK).
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from threading import Lock, Thread

HOST = "127.0.0.1"
PUBLISH, PUBACK = 3, 4
DUP = 0x08
Stored = Callable[[set[int]], set[int]]
"""Which of these messages, by number, are durable."""


class AckProxy:
    """Listens on a port of its own. Messages are known by the "n" in their payload."""

    def __init__(self, broker_port: int, stored: Stored) -> None:
        self._broker_port = broker_port
        self._stored = stored
        self._listener = socket.create_server((HOST, 0))
        self._lock = Lock()
        self.port = int(self._listener.getsockname()[1])
        self.acknowledged: set[int] = set()
        self.too_early: set[int] = set()  # acknowledged before they were durable
        self.again = 0  # messages that the broker marked as sent before
        Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                gateway, _ = self._listener.accept()
                Thread(target=self._serve, args=(gateway,), daemon=True).start()

    def _serve(self, gateway: socket.socket) -> None:
        with gateway, contextlib.suppress(OSError), socket.create_connection((HOST, self._broker_port)) as broker:
            sent: dict[int, int] = {}  # packet id -> message, of this connection
            back = Thread(
                target=self._pass, args=(broker, gateway, lambda packet: self._note(packet, sent)), daemon=True
            )
            back.start()
            self._pass(gateway, broker, lambda packet: self._check(packet, sent))
            with contextlib.suppress(OSError):
                broker.shutdown(socket.SHUT_RDWR)
            back.join()

    def _pass(self, source: socket.socket, target: socket.socket, look: Callable[[list[bytes]], None]) -> None:
        """Whole packets only, and only after the look."""
        waiting = b""
        with contextlib.suppress(OSError):
            while got := source.recv(65_536):
                waiting += got
                whole = list(packets(waiting))
                look(whole)
                length = sum(map(len, whole))
                target.sendall(waiting[:length])
                waiting = waiting[length:]
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def _note(self, whole: list[bytes], sent: dict[int, int]) -> None:
        for packet in whole:
            if packet[0] >> 4 == PUBLISH:
                topic = 1 + _length_of(packet)[0]
                mid = topic + 2 + int.from_bytes(packet[topic : topic + 2])
                number = json.loads(packet[packet.index(b"{", mid + 2) :])["n"]
                with self._lock:
                    sent[int.from_bytes(packet[mid : mid + 2])] = number
                    self.again += packet[0] & DUP > 0

    def _check(self, whole: list[bytes], sent: dict[int, int]) -> None:
        with self._lock:
            numbers = {sent[int.from_bytes(packet[2:4])] for packet in whole if packet[0] >> 4 == PUBACK}
        if numbers:
            durable = self._stored(numbers)
            with self._lock:
                self.acknowledged |= numbers
                self.too_early |= numbers - durable


def packets(data: bytes) -> Iterator[bytes]:
    """The whole packets at the start of the data."""
    while len(data) >= 2:
        try:
            size, length = _length_of(data)
        except IndexError:
            return
        end = 1 + size + length
        if len(data) < end:
            return
        yield data[:end]
        data = data[end:]


def _length_of(packet: bytes) -> tuple[int, int]:
    """How many bytes the remaining length takes, and what it is; IndexError where it is not all there."""
    length = 0
    for position in range(4):
        byte = packet[1 + position]
        length |= (byte & 0x7F) << 7 * position
        if not byte & 0x80:
            return position + 1, length
    raise AssertionError("not MQTT")
