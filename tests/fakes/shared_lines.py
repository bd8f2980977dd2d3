"""Modbus TCP connections that are served together: a gateway to which anything may happen, and all workers in virtual time.

with OddGateway() as east, OddGateway() as west:
    lines = SharedLines(east.url, west.url)
    lines.run(60)                               # every worker as the service steps it, one after the other
    lines.steps["line0"]                        # how often the connection's own thread would have run
    east.script.append(twice)                   # what happens instead of the next answer
    east.interject(b"stray")                    # now, unasked
    east.hang_up()
"""

from __future__ import annotations

import math
import select
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from threading import Thread
from typing import Self

from drivers.base import Driver, Helper
from drivers.modbus.config import Connection, Source, check
from drivers.modbus.driver import ModbusDriver, build, share
from tests.fakes.clock import FakeClock
from tests.fakes.driver_ports import FakePorts

HOST = "127.0.0.1"
WITHIN = 30.0  # s for a thread to end, or for something to come about
PATIENT = "30s"  # as a timeout: whoever answers does so long before
LONGEST_WAIT = 10.0  # s, as in gateway.service
MOST_STEPS = 20_000  # workers that want to be called again at once, for ever, are a busy loop
REGISTERS = (10, 100)  # of each meter: one request for each
SIZE = 4  # bytes of such a value


class Silence(Enum):
    """Longer than the timeout of who has asked, by the wire's time (tests/fakes/wire_time.py)."""

    LASTING = "lasting"
    BROKEN = "until something else is asked"


Piece = bytes | float | Silence | None  # to send; so many seconds without a word; the end of the connection
Script = Callable[[bytes, bytes], Sequence[Piece]]  # of the request and the good answer


class OddGateway:
    """Modbus TCP, for anybody who connects; each answer of two registers holds a u32 that no other one holds.

    What is asked besides, to clear up what may still come, is neither told nor scripted.
    """

    def __init__(self) -> None:
        self.told: list[int] = []  # by good answers, whatever became of them
        self.script: deque[Script] = deque()
        self.silent = False
        self.timeout_passes: Callable[[], None] = lambda: None
        self.accepted = 0
        self._clients: list[socket.socket] = []
        self._listener = socket.create_server((HOST, 0))
        self.url = f"tcp://{HOST}:{self._listener.getsockname()[1]}"
        self._threads = [Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(WITHIN)
        self.hang_up()
        for thread in self._threads:
            thread.join(WITHIN)

    def interject(self, data: bytes) -> None:
        """Say something unasked, on the newest connection."""
        self._clients[-1].sendall(data)

    def hang_up(self) -> None:
        """End every connection."""
        for client in self._clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.accepted += 1
                self._clients.append(client)
                self._threads.append(Thread(target=self._serve, args=(client,), daemon=True))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            while request := client.recv(1024):
                for piece in self._pieces(request):
                    if piece is None:
                        return
                    if isinstance(piece, bytes):
                        client.sendall(piece)
                    elif isinstance(piece, Silence):
                        self.timeout_passes()
                        if piece is Silence.BROKEN:
                            select.select([client], [], [], WITHIN)
                    else:
                        time.sleep(piece)

    def _pieces(self, request: bytes) -> Sequence[Piece]:
        if self.silent:
            return [Silence.LASTING]
        size = 2 * int.from_bytes(request[10:12], "big")
        if size != SIZE:
            return [framed(request, bytes([3, size]) + bytes([0xFF]) * size)]
        self.told.append(len(self.told) + 1)
        answer = framed(request, bytes([3, SIZE]) + struct.pack(">I", self.told[-1]))
        return self.script.popleft()(request, answer) if self.script else [answer]


def framed(request: bytes, pdu: bytes, *, transaction: int | None = None) -> bytes:
    """A Modbus TCP frame around a PDU; the request's ids but where another is asked for."""
    number = int.from_bytes(request[:2], "big") if transaction is None else transaction
    return struct.pack(">HHHB", number, 0, len(pdu) + 1, request[6]) + pdu


class SharedLines:
    """Drivers "line0", "line1" … with a meter each, and what serves them together."""

    def __init__(
        self,
        *urls: str,
        clock: FakeClock | None = None,
        polls: Sequence[str] = (),
        timeouts: Sequence[str] = (),
        **keys,
    ) -> None:
        """`polls`: of each connection, else 10 s; `timeouts`: the same, else longer than a busy machine takes; `keys`: of all."""
        self.clock = clock or FakeClock()
        self.store = FakePorts(self.clock)
        self.steps: Counter[str] = Counter()
        polls = polls or ["10s"] * len(urls)
        timeouts = timeouts or [PATIENT] * len(urls)
        of = [{"poll": poll, "timeout": timeout} for poll, timeout in zip(polls, timeouts, strict=True)]
        self.drivers = [self._driver(f"line{n}", url, of[n] | keys) for n, url in enumerate(urls)]
        self.loop, self.storing = share(self.drivers, self.clock, self.store.deliver_together, LONGEST_WAIT)
        self._due: dict[Driver | Helper, float] = dict.fromkeys((*self.drivers, self.loop, self.storing), 0.0)

    def _driver(self, name: str, url: str, keys: dict) -> ModbusDriver:
        settings = Connection.model_validate({"driver": "modbus", "url": url} | keys)
        usual = {"connection": name, "device": 1, "type": "u32", "unit": "kWh", "max_registers": 10}
        sources = {f"{name}/{at}": Source.model_validate(usual | {"register": at}) for at in REGISTERS}
        assert not check(settings, sources)
        return build(name, settings, sources, self.store.ports)

    def run(self, seconds: float) -> None:
        """Step whoever is due or woken, until so much time has passed."""
        end = self.clock.boottime + seconds
        for _ in range(MOST_STEPS):
            called = [each for each, due in self._due.items() if each.wake.is_set() or due <= self.clock.boottime]
            for each in called:
                self.step(each)
            if not called:
                until = min(end, *self._due.values())
                if until > self.clock.boottime:
                    self.clock.advance(until - self.clock.boottime)
                if until >= end:
                    return
        raise AssertionError("the workers never rest")

    def step(self, worker: Driver | Helper) -> None:
        """One step, as the service's."""
        worker.wake.clear()
        self.steps[worker.name] += 1
        now = self.clock.now()
        due = worker.step(now)
        self._due[worker] = math.inf if due is None else min(due, now.boottime + LONGEST_WAIT)

    def values(self, line: int) -> list[int]:
        """What is stored of a connection's first register, in the order of its arrival."""
        return [int(reading.value) for reading in self.store.of(f"line{line}/{REGISTERS[0]}")]

    def close(self) -> None:
        """All of them, in the order in which the service knows them."""
        for each in self._due:
            each.close()
