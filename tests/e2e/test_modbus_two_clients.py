"""The wire behind a serial server with two clients: both hear all answers, and neither the other's requests."""

from __future__ import annotations

import socket
import struct
from time import monotonic

import pytest

from drivers.modbus.plan import Block, Place
from drivers.modbus.wire import BadAnswer, Request
from gateway.simulator.frames import Ascii, Rtu
from tests.fakes.one_client import OneClient
from tests.fakes.patience import PATIENCE
from tests.waiting import until

OURS, THEIRS = 1234, 777  # of the same device, in as many registers
ASKED = Request(1, Block("holding", 10, 2, (Place("holding", 10, 2),)), PATIENCE, 0.05)


class SharedServer(OneClient):
    """`busy`: before our answer comes that to the other client's request, since the line takes one after the other."""

    def __init__(self, framing: Rtu | Ascii) -> None:
        super().__init__("ascii+tcp" if isinstance(framing, Ascii) else "rtu+tcp")
        self.busy = False
        self.rested = 0.0  # s between the two
        self._framing = framing

    def answer(self, value: int) -> bytes:
        return self._framing.wrap(0, 1, struct.pack(">BBI", 3, 4, value))

    def interject(self, data: bytes) -> None:
        assert self.client
        self.client.sendall(data)

    def serve(self, client: socket.socket) -> None:
        while client.recv(1024):
            if self.busy:
                client.sendall(self.answer(THEIRS))
                said = monotonic()
                self.over.wait(0.15)
                self.rested = monotonic() - said
            client.sendall(self.answer(OURS))


@pytest.mark.parametrize("framing", [Rtu(), Ascii()])
def test_the_answer_to_another_clients_request_is_never_ours_once_one_was_heard(bus, framing):
    """R2: it comes in time, and ours only after the gap; so from then on the line is listened to for longer."""
    listens = 1.0  # s, half the timeout

    def is_bad() -> bool:
        """Unless the machine brings ours when the line is not listened to any more."""
        with SharedServer(framing) as server:
            line = bus(server.url, timeout=f"{2 * listens:g}s")
            assert line.read(ASKED).words == (0, OURS)
            server.interject(server.answer(THEIRS))
            assert line.read(ASKED).words == (0, OURS)
            server.busy = True
            try:
                words = line.read(ASKED).words
            except BadAnswer as bad:
                return str(bad).startswith("two answers to one request")
            until(lambda: server.rested)
            assert server.rested > listens / 2, words
            return False

    until(is_bad)
