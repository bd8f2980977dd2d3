"""The real Modbus driver on a serial line: a pair of pseudo-terminals, with the clock at the meters' side."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import time
import tty
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from threading import Event, Thread, Timer

import pytest
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.base import LineError, SetupError
from drivers.modbus.address import address_of
from drivers.modbus.bus import DRAIN, PymodbusBus
from drivers.modbus.config import Connection, Source, check
from drivers.modbus.driver import build
from drivers.modbus.plan import Block, Place
from drivers.modbus.wire import BadAnswer, ExceptionAnswer, NoAnswer, Request
from gateway.clock import SystemClock
from gateway.simulator.frames import Ascii, Rtu
from gateway.simulator.modbus import SerialSimulator
from tests.fakes.driver_ports import FakePorts
from tests.fakes.driver_thread import DriverThread
from tests.fakes.patience import PATIENCE, at_last, missed, patiently
from tests.fakes.serial_line import meeting, serial_line
from tests.waiting import until

TIMEOUT = 0.3  # s, where it is to pass
ANSWER = 7  # bytes, with a u16
HASTY = f"{TIMEOUT * 1000:g}ms"


def connection(url: str, **keys) -> Connection:
    return Connection.model_validate({"driver": "modbus", "url": url, "poll": "1s", "timeout": HASTY} | keys)


def asked(device: int = 1, register: int = 10, *, gap: float = 0.0, timeout: float = PATIENCE) -> Request:
    """A u16."""
    place = Place("holding", register, 1)
    return Request(device, Block("holding", register, 1, (place,)), timeout, gap)


def in_vain(device: int = 1, register: int = 10) -> Request:
    """The same, where no answer is to be waited for."""
    return asked(device, register, timeout=TIMEOUT)


@contextmanager
def gateway(url: str, sources: dict[str, dict], **keys) -> Iterator[tuple[DriverThread, FakePorts]]:
    """Where a source does not say otherwise it is waited for patiently, and the line rests as if it were not."""
    clock = SystemClock()
    store = FakePorts(clock)
    settings = connection(url, **keys)
    usual = {"connection": "main", "timeout": f"{PATIENCE:g}s"}
    read = {name: Source.model_validate(usual | keys) for name, keys in sources.items()}
    assert not check(settings, read)
    with DriverThread(build("main", settings, read, store.ports), clock) as running:
        yield running, store


def test_meters_on_a_serial_line_are_read_with_their_right_values():
    """Two families and a register of the operator's own, one of them with swapped words, on one line."""
    meters = {
        1: {72: 0x4640, 73: 0xE6B7},
        2: {52: 0xE240, 53: 0x0001},
        3: {1024: 0, 1025: 1234},
    }
    sources = {
        "sdm630": {"device": 1, "profile": "eastron-sdm630", "point": "energy_import_total"},
        "em340": {"device": 2, "profile": "carlo-gavazzi-em340", "point": "energy_import_total"},
        "heat": {"device": 3, "register": 1024, "type": "u32", "scale": "0.1", "unit": "kWh"},
        "dead": {"device": 9, "register": 0, "type": "u16", "unit": "kWh", "timeout": HASTY},
    }
    with serial_line(meters) as line, gateway(line.url, sources) as (running, store):
        running.until(lambda: len(store.of("heat")) >= 3)
    assert {reading.value for reading in store.of("sdm630")} == {Decimal("12345.679")}
    assert {reading.value for reading in store.of("em340")} == {Decimal("12345.6")}
    assert {reading.value for reading in store.of("heat")} == {Decimal("123.4")}
    assert [(item.source, item.reason) for item in store.rejected] == [("dead", "no answer")]


@pytest.mark.parametrize(
    ("baudrate", "gap"),
    [(2400, "0ms"), (9600, "0ms"), (19_200, "0ms"), (115_200, "0ms"), (9600, "20ms"), (9600, None)],
)
def test_the_line_is_silent_for_three_and_a_half_characters_before_each_request(baudrate, gap):
    """Measured at the meters' side, from the end of an answer to the next request; or for the gap where it is longer.

    A driver that loses its gap still works on the bench, and fails on the wall (home-assistant 153707, 19402).
    """
    meters = {device: {10: device, 100: device} for device in (1, 2, 3)}
    sources = {
        f"{device}/{register}": {"device": device, "register": register, "type": "u16", "unit": "kWh"}
        for device in meters
        for register in (10, 100)
    }
    keys = {} if gap is None else {"gap": gap}
    with serial_line(meters, baudrate) as line, gateway(line.url, sources, **keys) as (running, store):
        running.until(lambda: len(store.readings) >= 12)
        silences = line.silences()
    serial = address_of(line.url).serial
    assert serial is not None
    needed = max(serial.silence, {"0ms": 0.0, "20ms": 0.020, None: 0.060}[gap])
    assert len(silences) >= 11
    assert min(silences) >= needed
    assert not store.rejected


@pytest.mark.parametrize(("echo", "expected"), [(False, False), (True, True), (False, True)])
@pytest.mark.parametrize("device", [1, 3, 9])
def test_what_a_line_without_bias_says_before_an_answer_is_skipped(bus, device, echo, expected):
    """0x00 or 0xFF, when nobody drives it; with id 1 behind it pymodbus sees function 1. Alone it is a silence."""

    def live(timeout: float) -> None:
        with serial_line({device: {10: 7}}) as line, meeting(line, "unbiased"):
            line.echo = echo
            wire = bus(line.url, local_echo=expected)
            for _ in range(3):
                assert wire.read(asked(device)).words == (7,)
            with meeting(line, "unbiased", "silent"), pytest.raises(NoAnswer):
                wire.read(in_vain(device))
            with meeting(line, "corrupt"), pytest.raises(BadAnswer) as bad:
                wire.read(asked(device, timeout=timeout))
            assert "local_echo" not in str(bad.value) or not expected

    patiently(live, TIMEOUT)


class OtherMaster:
    """Gets its answer a tenth of a second after `expects`, if the machine lets it."""

    def __init__(self, line: SerialSimulator, answer: bytes) -> None:
        self.answered = 0.0  # when, on the axis of `monotonic`
        self._line, self._answer = line, answer
        self._timer = Timer(0.1, self._gets)

    def expects(self) -> None:
        self._timer.start()

    def had_it_by(self, end: float) -> bool:
        """Whether it came while it was waited for: what comes later than that may be taken for ours."""
        self._timer.join()
        return self.answered <= end

    def _gets(self) -> None:
        self._line.send(self._answer)
        self.answered = time.monotonic()


def words_of(wire: PymodbusBus, request: Request) -> tuple[int, ...]:
    """Of its answer; none of a bad one."""
    try:
        return wire.read(request).words
    except BadAnswer:
        return ()


@pytest.mark.parametrize("ascii_", [False, True])
def test_the_answer_to_another_masters_request_is_waited_for_and_never_ours(bus, ascii_):
    """R2: both ask the same device for as many registers, and theirs was first."""
    framing = Ascii() if ascii_ else Rtu()
    theirs = framing.wrap(0, 1, bytes([3, 0, 20, 0, 1]))

    def in_time() -> bool:
        with serial_line({1: {10: 1, 20: 2}}, ascii=ascii_) as line, meeting(line, "late", late=0.2):
            wire = bus(line.url)
            other = OtherMaster(line, framing.wrap(0, 1, bytes([3, 2, 0, 2])))
            asked_at = time.monotonic()
            line.send(theirs)
            other.expects()
            words = words_of(wire, asked(register=10))
            if not other.had_it_by(asked_at + DRAIN):
                return False
            assert words == (1,)
            return True

    until(in_time)


def test_another_masters_request_in_the_gap_behind_an_answer_is_seen_too(bus):
    """R2: the gap is kept before the answer is handed on, so the line is looked at then."""

    def in_time() -> bool:
        with serial_line({1: {10: 1, 20: 2}}) as line, meeting(line, "late", late=0.2):
            asked_at: list[float] = []

            def ask_too() -> None:
                until(lambda: len(wire._line.heard) == ANSWER)
                asked_at.append(time.monotonic())
                line.send(Rtu.wrap(0, 1, bytes([3, 0, 20, 0, 1])))

            wire = bus(line.url)
            other = OtherMaster(line, Rtu.wrap(0, 1, bytes([3, 2, 0, 2])))
            asks = Thread(target=ask_too)
            asks.start()
            assert wire.read(asked(register=10, gap=0.5)).words == (1,)
            seen = wire._quiet_until
            asks.join()
            other.expects()
            words = words_of(wire, asked(register=10, gap=0.5))
            if not other.had_it_by(max(seen, asked_at[0] + DRAIN)):
                return False
            assert words == (1,)
            return True

    until(in_time)


def test_the_gap_behind_an_answer_is_no_part_of_the_time_that_it_took(bus):
    """It is kept before the answer is believed, and told, so that the reading has the instant of its arrival."""
    with serial_line({1: {10: 7}}) as line:
        began = time.monotonic()
        answer = bus(line.url).read(asked(gap=0.2))
        over = time.monotonic()
    assert 0.2 <= answer.since <= over - began - answer.took


def test_another_device_is_asked_after_a_longer_rest(bus):
    """100 ms by default; the wire keeps what it is told."""
    with serial_line({1: {10: 1}, 2: {10: 2}}) as line:
        wire = bus(line.url)
        for device, gap in ((1, 0.0), (2, 0.1), (1, 0.1), (1, 0.06)):
            assert wire.read(asked(device, gap=gap)).words == (device,)
        first, second, third = line.silences()
    assert first >= 0.1
    assert second >= 0.1
    assert third >= 0.06


def test_a_late_answer_is_never_taken_for_the_next_one(bus):
    """RTU has no transaction id: after a silence the line is kept quiet, and what comes late is thrown away."""
    with serial_line({1: {10: 1, 20: 2}}) as line:
        wire = bus(line.url)
        for late in (TIMEOUT + 0.15, TIMEOUT + 0.3, TIMEOUT + DRAIN - 0.1):
            with meeting(line, "late", late=late):
                missed(lambda: wire.read(in_vain(register=10)), (1,))
            assert at_last(lambda: wire.read(asked(register=20))) == (2,)
            assert wire.is_open


def test_a_late_answer_of_a_meter_is_never_the_value_of_another_reading():
    """Through the driver: each value stays with its register."""
    keys = {"device": 1, "type": "u16", "unit": "kWh", "timeout": HASTY}
    sources = {str(at): keys | {"register": at} for at in (10, 50, 90)}
    with serial_line({1: {10: 10, 50: 50, 90: 90}}) as line, gateway(line.url, sources) as (running, store):
        for round_ in range(1, 4):
            with meeting(line, "late", late=TIMEOUT + 0.2):
                running.until(lambda so_far=round_: running.driver.health().counts["timeouts"] >= so_far)
        before = len(store.readings)
        running.until(lambda: len(store.readings) >= before + 6)
    assert all(reading.value == int(reading.source) for reading in store.readings)


def test_a_wrong_checksum_is_a_bad_answer_and_the_next_read_is_right(bus):
    """The line rests first: the rest of a broken frame must not become the beginning of the next."""

    def live(timeout: float) -> None:
        with serial_line({1: {10: 7}}) as line:
            wire = bus(line.url)
            with meeting(line, "corrupt"), pytest.raises(BadAnswer, match="7 bytes"):
                wire.read(asked(timeout=timeout))
            assert wire.read(asked()).words == (7,)
            assert line.silences()[0] >= DRAIN

    patiently(live, TIMEOUT)


def test_an_answer_that_comes_byte_by_byte_is_one_answer(bus):
    """USB adapters hand on what they have."""
    with serial_line({1: {10: 7}}) as line, meeting(line, "bytewise"):
        assert bus(line.url).read(asked()).words == (7,)


def test_an_exception_on_the_line_keeps_its_code(bus):
    """A hole in the meter's registers."""
    with serial_line({1: {10: 7}}) as line:
        wire = bus(line.url)
        with pytest.raises(ExceptionAnswer) as refused:
            wire.read(asked(register=11))
        assert refused.value.code == 0x02
        assert wire.read(asked()).words == (7,)


def hasty(url: str) -> PymodbusBus:
    """It rests for less than an answer can be late."""
    return PymodbusBus(connection(url), address_of(url), drain=0.05)


def test_a_late_refusal_is_never_the_next_requests(bus):
    """A value that the device has would not be asked for, and a request that it takes be made smaller for good."""
    with serial_line({1: {10: 7, 20: 1, 21: 2}}, 38400) as line:
        wire = bus(line.url)
        with meeting(line, "silent"):
            with pytest.raises(NoAnswer):
                wire.read(in_vain(register=11))
            until(lambda: line.line.heard == 1)  # else it would be refused after all
        two = Block("holding", 20, 2, (Place("holding", 20, 2),))
        with said_before_the_next(line, Rtu.wrap(0, 1, bytes([0x83, 2])), answer=9):
            assert wire.read(Request(1, two, PATIENCE, 0.0)).words == (1, 2)
        assert line.line.heard == 4, "the late refusal's request, this one, a question, this one again"
        assert wire.read(asked(register=10)).words == (7,)


@contextmanager
def said_before_the_next(line: SerialSimulator, late: bytes, answer: int) -> Iterator[None]:
    """The bytes come right before the next answer, which has `answer` bytes: late, and after the request, however long all takes."""
    say, both = line.send, bytearray(late)

    def once(data: bytes) -> None:
        both.extend(data)
        if len(both) == len(late) + answer:
            line.send = say
            say(bytes(both))

    line.send = once
    yield


def test_a_refusal_after_a_silence_is_believed_when_it_was_asked_for_again():
    """The request before it was lost; what is refused is refused."""
    with serial_line({1: {10: 7}}, 38400) as line, closing(hasty(line.url)) as wire:
        wire.open()
        with meeting(line, "silent"):
            with pytest.raises(NoAnswer):
                wire.read(in_vain(register=10))
            until(lambda: line.line.heard == 1)  # else it would be answered after all
        two = Block("holding", 20, 2, (Place("holding", 20, 2),))
        with pytest.raises(ExceptionAnswer) as refused:
            wire.read(Request(1, two, PATIENCE, 0.0))
        assert refused.value.code == 0x02
        assert line.line.heard == 4


def test_an_adapter_that_hears_its_own_requests_is_told_and_can_be_used(bus):
    """`local_echo` repairs it, and does no harm where there is no echo."""

    def live(timeout: float) -> None:
        with serial_line({1: {10: 7}}) as line:
            wire = bus(line.url)
            with meeting(line, "echo", "silent"), pytest.raises(BadAnswer, match="local_echo = true"):
                wire.read(asked(timeout=timeout))
            wire.close()
            wire = bus(line.url, local_echo=True)
            with meeting(line, "echo"):
                assert wire.read(asked()).words == (7,)
            with meeting(line, "echo", "silent"), pytest.raises(NoAnswer):
                wire.read(in_vain())
            assert wire.read(asked()).words == (7,)

    patiently(live, TIMEOUT)


def test_a_port_has_one_master(bus):
    """The second is told that another process uses it."""
    with serial_line({1: {10: 7}}) as line:
        bus(line.url)
        with pytest.raises(SetupError, match="another process uses the port"):
            bus(line.url)


@pytest.mark.parametrize("form", ["parity=E", "parity=O"])
def test_a_port_that_keeps_no_parity_is_not_taken_for_open(bus, form):
    """The system sets what it can and says that all is well: a scan would find meters at a setting that nobody can have."""
    with serial_line({1: {10: 7}}) as line:
        for _ in range(2):
            with pytest.raises(LineError, match=f"with these settings: it does not take 8{form[-1]}1"):
                bus(f"rtu://{line.port}?baudrate=19200&{form}")
        assert bus(line.url).read(asked()).words == (7,)


def test_a_closed_port_is_free_again(bus):
    """A restart finds it unlocked."""
    with serial_line({1: {10: 7}}) as line:
        bus(line.url).close()
        assert bus(line.url).read(asked()).words == (7,)


def test_a_port_that_is_not_there_is_told_with_what_to_look_for(bus):
    """The adapter is not plugged in."""
    with pytest.raises(SetupError, match="is the adapter plugged in"):
        bus("rtu:///dev/ttyNOWHERE0")


def test_an_adapter_that_is_pulled_out_is_a_lost_line(bus):
    """And nothing else comes out of the wire."""
    with serial_line({1: {10: 7}}) as line:
        wire = bus(line.url)
        assert wire.read(asked()).words == (7,)
    with pytest.raises((LineError, SetupError)):
        wire.read(asked())
    assert not wire.is_open


@contextmanager
def cable() -> Iterator[tuple[str, str]]:
    """Two ports whose bytes reach each other."""
    pairs = [pty.openpty(), pty.openpty()]
    ends = [end for pair in pairs for end in pair]
    for end in ends:
        tty.setraw(end)
    (one, _), (other, _) = pairs
    over = Event()

    def carry() -> None:
        while not over.is_set():
            for ready in select.select([one, other], [], [], 0.02)[0]:
                os.write(other if ready == one else one, os.read(ready, 1024))

    thread = Thread(target=carry, daemon=True)
    thread.start()
    yield os.ttyname(pairs[0][1]), os.ttyname(pairs[1][1])
    over.set()
    thread.join(PATIENCE)
    for end in ends:
        os.close(end)


@contextmanager
def pymodbus_serial_server(port: str, device: SimDevice) -> Iterator[None]:
    over, ready = Event(), Event()

    async def serve() -> None:
        server = ModbusSerialServer(device, framer=FramerType.RTU, port=port, baudrate=9600, parity="N")
        await server.serve_forever(background=True)
        ready.set()
        await asyncio.to_thread(over.wait)
        await server.shutdown()

    thread = Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(PATIENCE)
    yield
    over.set()
    thread.join(PATIENCE)


def test_the_driver_reads_pymodbus_own_serial_server():
    """Frames that are not ours on the other side."""
    meter = SimDevice(1, [SimData(0, values=[0] * 72 + [0x423C, 0x70A4], datatype=DataType.REGISTERS)])
    source = {"device": 1, "profile": "eastron-sdm630", "point": "energy_import_total"}
    with (
        cable() as (far, near),
        pymodbus_serial_server(far, meter),
        gateway(f"rtu://{near}?baudrate=9600&parity=N", {"main": source}) as (running, store),
    ):
        running.until(lambda: len(store.readings) >= 2)
    assert {reading.value for reading in store.readings} == {Decimal("47.11")}
