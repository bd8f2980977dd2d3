"""The real Modbus driver behind gateways that keep an answer: until they are asked again, or until somebody connects."""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from drivers.modbus.address import address_of
from drivers.modbus.bus import PymodbusBus
from drivers.modbus.config import Connection, Source
from drivers.modbus.driver import build, share
from drivers.modbus.plan import Block, Place
from drivers.modbus.wire import DriverError, ExceptionAnswer, NoAnswer, Request
from gateway.clock import SystemClock
from gateway.simulator.frames import Rtu
from tests.fakes.driver_ports import FakePorts
from tests.fakes.driver_thread import LONGEST_WAIT, DriverThread
from tests.fakes.one_client import OneClient
from tests.fakes.patience import PATIENCE
from tests.waiting import until

SILENCE = 0.2  # s, where no answer is to be waited for
ONE, OTHER = 10, 200  # registers of the same device, of which each holds its own number


def asked(register: int, timeout: float = PATIENCE) -> Request:
    """A u32."""
    return Request(1, Block("holding", register - 1, 2, (Place("holding", register - 1, 2),)), timeout, 0.05)


class KeepingGateway(OneClient):
    """Answers with the oldest message that its line has brought, under the newest request's transaction.

    `lost`: so many requests from now on whose answers its line brings too late: they are found there by the next one.
    """

    def __init__(self, *, rtu: bool = False) -> None:
        super().__init__("rtu+tcp" if rtu else "tcp")
        self.lost = 0
        self.says = b""  # message instead of the silence, where it gives up
        self.forgets = False  # what is kept, with each connection
        self.rests = 0.0  # s from a connection to what was kept for it, on RTU
        self.thinks = 0.0  # s to each answer, on RTU
        self._rtu = rtu
        self._kept: deque[bytes] = deque()

    def serve(self, client: socket.socket) -> None:
        if self.forgets:
            self._kept.clear()
        if self._rtu and self._kept:
            self.over.wait(self.rests)
            client.sendall(self._kept.popleft())
        while request := client.recv(1024):
            answer = self._answer(request if self._rtu else request[6:])
            if self.lost:
                self.lost -= 1
                self._kept.append(answer)
                if self.says:
                    client.sendall(self._framed(request, self.says))
            elif self._rtu:
                self.over.wait(self.thinks)
                client.sendall(answer)
            else:
                self._kept.append(answer)
                client.sendall(self._framed(request, self._kept.popleft()))

    def _answer(self, asked: bytes) -> bytes:
        device, function, first, count = struct.unpack_from(">BBHH", asked)
        message = struct.pack(f">BB{count}H", function, 2 * count, *range(first, first + count))
        return Rtu().wrap(0, device, message) if self._rtu else bytes([device]) + message

    def _framed(self, request: bytes, kept: bytes) -> bytes:
        return request[:4] + len(kept).to_bytes(2, "big") + kept


@contextmanager
def wire(url: str, latest: float) -> Iterator[PymodbusBus]:
    bus = PymodbusBus(Connection.model_validate({"driver": "modbus", "url": url}), address_of(url), latest=latest)
    bus.open()
    try:
        yield bus
    finally:
        bus.close()


def values(bus: PymodbusBus, times: int) -> Iterator[tuple[int, int]]:
    """Each register's number and what was read there, in turn; nothing for what fails."""
    for register in (ONE, OTHER) * times:
        with suppress(DriverError):
            if not bus.is_open:
                bus.open()
            yield register, bus.read(asked(register)).words[1]


@pytest.mark.parametrize("says", [b"", b"\x01\x83\x0b", b"\x01\x83\x04"])
@pytest.mark.parametrize("latest", [0.0, 30.0])
def test_a_gateway_that_stays_one_answer_behind_brings_no_value_of_another_register(says, latest):
    """R2: its frames bear the right transaction, device, function and length (grid-x/modbus 78, genmon 312).

    Nor does it where more time has passed than a late answer takes by itself: this one waits for the next request.
    """
    with KeepingGateway() as gateway, wire(gateway.url, latest) as bus:
        assert list(values(bus, 1)) == [(ONE, ONE), (OTHER, OTHER)]
        gateway.lost, gateway.says = 1, says
        with pytest.raises(ExceptionAnswer if says else NoAnswer):
            bus.read(asked(ONE, PATIENCE if says else SILENCE))
        until(lambda: not gateway.lost)  # it has heard it
        assert all(register == read for register, read in values(bus, 4))
        gateway.forgets = True
        bus.close()
        assert list(values(bus, 1)) == [(ONE, ONE), (OTHER, OTHER)]


def test_a_late_answer_that_waits_for_the_next_connection_is_no_value_of_another_register():
    """R2: a serial server hands it on when somebody connects, however long that takes, and not at once."""
    with KeepingGateway(rtu=True) as gateway, wire(gateway.url, 0.0) as bus:
        gateway.rests, gateway.thinks = 0.12, 0.1
        assert list(values(bus, 1)) == [(ONE, ONE), (OTHER, OTHER)]
        gateway.lost = 1
        with pytest.raises(NoAnswer):
            bus.read(asked(OTHER, SILENCE))
        until(lambda: not gateway.lost)  # it has heard it
        assert all(register == read for register, read in values(bus, 3))
        assert list(values(bus, 1)) == [(ONE, ONE), (OTHER, OTHER)]


@contextmanager
def polled(gateway: KeepingGateway) -> Iterator[tuple[DriverThread, FakePorts]]:
    """The driver with its loop, once a second; at its end every value is that of its own register."""
    clock = SystemClock()
    store = FakePorts(clock)
    connection = {"driver": "modbus", "url": gateway.url, "poll": "1s", "timeout": "200ms"}
    source = {"connection": "main", "device": 1, "type": "u32", "max_registers": 10, "unit": "kWh"}
    sources = {str(each): Source.model_validate(source | {"register": each - 1}) for each in (ONE, OTHER)}
    driver = build("main", Connection.model_validate(connection), sources, store.ports)
    helpers = share([driver], clock, store.deliver_together, LONGEST_WAIT)
    with DriverThread(driver, clock, helpers) as running:
        yield running, store
    low = {source: {int(reading.value) & 0xFFFF for reading in store.of(source)} for source in sources}
    assert low == {str(ONE): {ONE}, str(OTHER): {OTHER}}


def test_what_a_gateway_keeps_is_never_stored_by_connections_that_share_a_thread():
    """R2: the loop sends nothing that could be mistaken; when the gateway has forgotten, all goes on by itself."""
    with KeepingGateway() as gateway, polled(gateway) as (running, store):
        running.until(lambda: len(store.readings) >= 4)
        gateway.lost = 1
        running.until(lambda: len(store.rejected) >= 2)
        gateway.forgets = True
        before = len(store.readings)
        running.until(lambda: len(store.readings) >= before + 4)


def test_what_a_gateway_has_kept_of_somebody_else_is_never_stored():
    """R2: it was one answer behind before the service came, after a search that did not wait long enough."""
    with KeepingGateway() as gateway:
        gateway.lost = 1
        with wire(gateway.url, 0.0) as bus, pytest.raises(NoAnswer):
            bus.read(asked(OTHER, SILENCE))
        until(lambda: not gateway.lost)  # it has heard it, and keeps the answer
        with polled(gateway) as (running, store):
            running.until(lambda: len(store.rejected) >= 2)
            gateway.forgets = True
            running.until(lambda: len(store.readings) >= 4)
