"""What a fuzzer calls in the Modbus driver: each function takes any bytes; what it raises is a bug.

The bytes stand for what a device, a line or a file says. `scripts/fuzz` lets atheris choose them, the tests hypothesis.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice, product
from pathlib import Path
from threading import Thread
from typing import Self, get_args

from drivers.base import AnswerError, DriverError, LineError
from drivers.modbus import profile as profiles
from drivers.modbus.address import address_of
from drivers.modbus.bus import PymodbusBus
from drivers.modbus.config import Connection, check, describe
from drivers.modbus.decode import Type, is_float
from drivers.modbus.device import Look
from drivers.modbus.driver import ModbusDriver
from drivers.modbus.plan import REGISTERS, Block, Place
from drivers.modbus.profile import BadProfile, Profile
from drivers.modbus.reader import Reader
from drivers.modbus.source import Source
from drivers.modbus.target import Target, target_of
from drivers.modbus.wire import EXCEPTIONS, Answer, BadAnswer, ExceptionAnswer, NoAnswer, Request
from drivers.reading import Reading, Rejected
from tests.fakes.clock import FakeClock
from tests.fakes.driver_ports import FakePorts

AT = datetime(2026, 3, 2, 10, tzinfo=UTC)
HOST = "127.0.0.1"
SILENCE = 0.005  # s that a request waits where the other end says nothing more
ORDERS = ("big", "little")
BESIDE: tuple[dict[str, object], ...] = (
    {},
    {"fraction_register": 15, "fraction_type": "u16", "fraction_scale": "0.001"},
    {"exponent_register": 8},
    {"factor_register": 20, "na": ["0xFFFF", "s32:0x80000000", "0x7FFFFFFFFFFFFFFF"]},
)


# --- words ------------------------------------------------------------------------------------------------------------


def source(**keys: object) -> Source:
    """On a connection "main", device 1."""
    return Source.model_validate({"connection": "main", "device": 1, "unit": "kWh"} | keys)


def every_source() -> Iterator[Source]:
    """Every point of every profile; every type in every order, alone, with what may stand beside it, and in a sum."""
    for name in profiles.names():
        for point in profiles.load(name).points:
            yield source(profile=name, point=point)
    for type_, words, octets in product(get_args(Type), ORDERS, ORDERS):
        keys = {"type": type_, "word_order": words, "byte_order": octets}
        for beside in BESIDE:
            yield source(register=10, **keys | beside)
        yield source(registers=[10, 50], scale="1e-12", **keys)


MOST = 10**50  # twenty digits, times a profile's scale, a factor and the largest power of ten
TARGETS = tuple(target_of("m", each) for each in every_source())


def value(data: bytes) -> None:
    """Two bytes choose what is read, the rest are its words: a number, or a rejection that can be kept."""
    target = TARGETS[int.from_bytes(data[:2], "big") % len(TARGETS)]
    clock = FakeClock()
    words = _words(data[2:])
    reader = Reader(clock, FakePorts(clock).ports.memory)
    (item,) = reader.take(Look(target, AT, words, None, 0.02))
    _can_be_stored(item)
    terms = target.terms or (target,)
    if isinstance(item, Reading) and not any(is_float(term.encoding.type) for term in terms):
        assert abs(item.value) < MOST
    wanted = sum(term.place.width for term in terms)
    assert len(words) >= wanted or isinstance(item, Rejected), "a value of too few words"


def _words(data: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data) - 1, 2))


def _can_be_stored(item: Reading | Rejected) -> None:
    if isinstance(item, Reading):
        assert item.value.is_finite()
    else:
        (item.reason + item.detail + item.payload).encode()


# --- an answer on a socket --------------------------------------------------------------------------------------------

PLACE = Place("holding", 10, 2)


class Babbler:
    """The other end of a line: what it hears is kept, what it says was given before."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.says = b""
        self.rtu = False
        self.hangs_up = True
        self.request = b""
        self.said = b""
        self._thread = Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client, suppress(OSError):
                    self.request = client.recv(1024)
                    # what nobody can guess has a name: 0xF0 is the request's transaction id
                    self.said = self.says if self.rtu else self.says.replace(b"\xf0", self.request[:2])
                    client.sendall(self.said)
                    if not self.hangs_up:
                        client.recv(1024)  # until the other side has had enough

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@contextmanager
def babbler() -> Iterator[Babbler]:
    """One that listens."""
    with Babbler() as running:
        yield running


def answer(data: bytes, other: Babbler, timeout: float = SILENCE) -> tuple[int, ...]:
    """One byte says how the other end behaves, the rest is what it says: words that it has said, or a declared error (then none)."""
    request = Request(1, Block(*PLACE, (PLACE,)), timeout, 0.0)
    how = data[0] if data else 0
    other.rtu = rtu = bool(how & 1)
    other.hangs_up = bool(how & 6)  # a silence takes time: not every time
    other.says = data[1:] + checksum(data[1:]) if rtu and how & 16 else data[1:]
    url = f"{'rtu+tcp' if rtu else 'tcp'}://{HOST}:{other.port}"
    settings = Connection.model_validate({"driver": "modbus", "url": url, "local_echo": rtu and bool(how & 8)})
    bus = PymodbusBus(settings, address_of(url))
    try:
        bus.open()
        words = bus.read(request).words
    except (AnswerError, LineError):
        return ()
    finally:
        bus.close()
    payload = b"\x01\x03\x04" + b"".join(word.to_bytes(2, "big") for word in words)
    frame = payload + checksum(payload) if rtu else other.request[:2] + b"\0\0\0\x07" + payload
    assert frame in other.said, f"{words} taken from {other.said.hex(' ')}"
    return words


def checksum(frame: bytes) -> bytes:
    """CRC-16 of an RTU frame, bit by bit as the specification has it (Modbus over serial line 1.02, 6.2.2)."""
    found = 0xFFFF
    for octet in frame:
        found ^= octet
        for _ in range(8):
            found = found >> 1 ^ 0xA001 if found & 1 else found >> 1
    return found.to_bytes(2, "little")


# --- a whole driver ---------------------------------------------------------------------------------------------------

MOST_REQUESTS = 1000  # in one step: two devices, the longest walk along SunSpec models, and a retry for each
STEPS = 30
METERS = {
    "plain": source(register=10, type="u32"),
    "wide": source(register=100, type="f64", max_registers=20),
    "far": source(register=110, type="acc32", table="input"),
    "sum": source(registers=[12, 14], type="s32"),
    "model": source(device=2, profile="sunspec-meter", point="energy_import_total"),
    "second": source(device=2, sunspec=203, instance=2, register=38, type="acc32"),
}


class ByteBus:
    """A line whose every answer comes from a row of bytes; when they are used up, nobody answers."""

    def __init__(self, data: bytes, clock: FakeClock) -> None:
        self.opened = 0
        self.is_open = False
        self.asked = 0
        self._data = iter(data)
        self._clock = clock

    def open(self) -> None:
        self.opened += 1
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    def pause(self, seconds: float) -> None:
        self._clock.advance(seconds)

    def read(self, request: Request) -> Answer:
        assert self.is_open, "asked on a closed line"
        self.asked += 1
        self._clock.advance(0.01)
        how = next(self._data, None)
        if how is None or how < 0x10:
            self._clock.advance(request.timeout)
            raise NoAnswer("nothing")
        if how < 0x20:
            self.close()
            raise LineError("cut")
        if how < 0x30:
            raise BadAnswer("babble", raw=bytes([how]))
        if how < 0x60:
            raise ExceptionAnswer(sorted(EXCEPTIONS)[how % len(EXCEPTIONS)])
        if how < 0x70:  # what a walk looks for
            return Answer((0x5375, 0x6E53, *[203] * request.block.count)[: request.block.count], 0.01)
        said = bytes(islice(self._data, 2 * request.block.count)).ljust(2 * request.block.count, b"\0")
        return Answer(_words(said), 0.01)


def driver(data: bytes) -> None:
    """What two devices say in some polls: readings and rejections that can be kept, and no step that never ends."""
    clock = FakeClock()
    store = FakePorts(clock)
    settings = Connection.model_validate({"driver": "modbus", "url": "tcp://192.0.2.10:502"})
    bus = ByteBus(data, clock)
    running = ModbusDriver("main", settings, METERS, store.ports, bus)
    for _ in range(STEPS):
        before = bus.asked
        due = running.step(clock.now())
        assert bus.asked - before <= MOST_REQUESTS, "a poll that does not end"
        clock.advance(max(0.0, due - clock.boottime))
    for item in (*store.readings, *store.rejected):
        _can_be_stored(item)
    running.close()


# --- a profile of the operator's own ----------------------------------------------------------------------------------


def profile(data: bytes, path: Path) -> None:
    """A file of these bytes: refused with a reason, or every point of it can be described and read."""
    path.write_bytes(data)
    profiles.load.cache_clear()
    try:
        loaded = profiles.load(str(path))
    except BadProfile:
        return
    for point in loaded.points:
        _described(loaded, str(path), point)


def _described(loaded: Profile, path: str, point: str) -> None:
    """What `check` and the first poll do with a point."""
    one = source(profile=path, point=point, scale="0.001", ct_ratio="200/5")
    settings = Connection.model_validate({"driver": "modbus", "url": "tcp://192.0.2.10:502"})
    if check(settings, {"m": one}):
        return
    assert describe(one).unit
    target = target_of("m", one)
    assert target.place.end <= REGISTERS or loaded.sunspec
    with suppress(DriverError):
        _read(target)


def _read(target: Target) -> None:
    clock = FakeClock()
    words = _words(bytes(2 * target.place.width))
    for item in Reader(clock, FakePorts(clock).ports.memory).take(Look(target, AT, words, None, 0.02)):
        _can_be_stored(item)
