"""The wire behind a serial server with two clients: both hear all answers, and neither the other's requests."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

import pytest

from drivers.modbus.plan import Block, Place
from drivers.modbus.wire import BadAnswer, Request
from gateway.simulator.frames import Ascii, Rtu
from tests.fakes.modbus_server import HOST

OURS, THEIRS = 1234, 777  # of the same device, in as many registers
ASKED = Request(1, Block("holding", 10, 2, (Place("holding", 10, 2),)), 0.5, 0.05)
WITHIN = 5.0  # s


class SharedServer:
    """`busy`: before our answer comes that to the other client's request, since the line takes one after the other."""

    def __init__(self, framing: Rtu | Ascii) -> None:
        self.busy = False
        self._framing = framing
        self._over = Event()
        self._client: socket.socket | None = None
        self._listener = socket.create_server((HOST, 0))
        name = "ascii" if isinstance(framing, Ascii) else "rtu"
        self.url = f"{name}+tcp://{HOST}:{self._listener.getsockname()[1]}"
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        for each in (self._listener, self._client):
            with suppress(OSError, AttributeError):
                each.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(WITHIN)

    def answer(self, value: int) -> bytes:
        return self._framing.wrap(0, 1, struct.pack(">BBI", 3, 4, value))

    def interject(self, data: bytes) -> None:
        assert self._client
        self._client.sendall(data)

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                self._client, _ = self._listener.accept()
                self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._client, suppress(OSError):
                    while self._client.recv(1024):
                        if self.busy:
                            self._client.sendall(self.answer(THEIRS))
                            self._over.wait(0.15)
                        self._client.sendall(self.answer(OURS))


@contextmanager
def shared(framing: Rtu | Ascii) -> Iterator[SharedServer]:
    server = SharedServer(framing)
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize("framing", [Rtu(), Ascii()])
def test_the_answer_to_another_clients_request_is_never_ours_once_one_was_heard(bus, framing):
    """R2: it comes in time, and ours only after the gap; so from then on the line is listened to for longer."""
    with shared(framing) as server:
        line = bus(server.url)
        assert line.read(ASKED).words == (0, OURS)
        server.interject(server.answer(THEIRS))
        assert line.read(ASKED).words == (0, OURS)
        server.busy = True
        with pytest.raises(BadAnswer, match="two answers to one request"):
            line.read(ASKED)
