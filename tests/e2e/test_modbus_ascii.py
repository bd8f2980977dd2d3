"""The real Modbus driver with ASCII frames: on a serial line (a pair of pseudo-terminals) and through a serial server."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager

import pytest
from pymodbus.framer import FramerType

from drivers.modbus.bus import PAUSE
from drivers.modbus.config import Connection, Source, check
from drivers.modbus.driver import build
from drivers.modbus.plan import Block, Place
from drivers.modbus.wire import BadAnswer, ExceptionAnswer, NoAnswer, Request
from gateway.clock import SystemClock
from gateway.simulator.modbus import SerialSimulator
from tests.fakes.driver_ports import FakePorts
from tests.fakes.driver_thread import DriverThread
from tests.fakes.modbus_server import modbus_server
from tests.fakes.patience import PATIENCE, at_last, missed, patiently
from tests.fakes.serial_line import meeting, serial_line
from tests.waiting import until

TIMEOUT = 0.2  # s, where it is to pass


def connection(url: str, **keys) -> Connection:
    return Connection.model_validate({"driver": "modbus", "url": url, "poll": "1s", "timeout": "200ms"} | keys)


def asked(device: int = 1, register: int = 10, timeout: float = PATIENCE) -> Request:
    """A u16."""
    return Request(device, Block("holding", register, 1, (Place("holding", register, 1),)), timeout, 0.0)


def in_vain(device: int = 1, register: int = 10) -> Request:
    """The same, where no answer is to be waited for."""
    return asked(device, register, TIMEOUT)


def ascii_line(words: dict[int, dict[int, int]]) -> AbstractContextManager[SerialSimulator]:
    return serial_line(words, ascii=True)


def test_meters_on_an_ascii_line_are_read_with_their_right_values():
    """Two meters through the whole driver; a third one does not answer."""
    keys = {"connection": "main", "register": 10, "type": "u32", "unit": "kWh"}
    sources = {
        name: Source.model_validate(keys | {"device": at, "timeout": f"{timeout:g}s"})
        for name, at, timeout in (("one", 1, PATIENCE), ("two", 2, PATIENCE), ("dead", 9, TIMEOUT))
    }
    clock = SystemClock()
    store = FakePorts(clock)
    with ascii_line({1: {10: 1, 11: 2}, 2: {10: 0, 11: 0xFFFF}}) as line:
        settings = connection(line.url, gap="0ms")
        assert not check(settings, sources)
        with DriverThread(build("main", settings, sources, store.ports), clock) as running:
            running.until(lambda: bool(store.of("one") and store.of("two") and store.rejected))
    assert {reading.value for reading in store.of("one")} == {65_538}
    assert {reading.value for reading in store.of("two")} == {65_535}
    assert {(item.source, item.reason) for item in store.rejected} == {("dead", "no answer")}


def test_a_wrong_lrc_is_a_bad_answer_and_the_next_read_is_right(bus):
    """The frame is shown as it came."""

    def live(timeout: float) -> None:
        with ascii_line({1: {10: 7}}) as line:
            wire = bus(line.url)
            with meeting(line, "corrupt"), pytest.raises(BadAnswer, match="15 bytes that are no answer"):
                wire.read(asked(timeout=timeout))
            assert wire.read(asked()).words == (7,)
            assert line.silences()[0] >= PAUSE

    patiently(live, TIMEOUT)


def test_a_late_answer_is_never_taken_for_the_next_one(bus):
    """ASCII has no transaction id either: the line rests for the second that a frame may pause, and what comes is thrown away."""
    with ascii_line({1: {10: 1, 20: 2}}) as line:
        wire = bus(line.url)
        with meeting(line, "late", late=TIMEOUT + PAUSE - 0.2):
            missed(lambda: wire.read(in_vain(register=10)), (1,))
        assert at_last(lambda: wire.read(asked(register=20))) == (2,)
        assert wire.is_open


def test_an_ascii_answer_may_pause_in_the_middle(bus):
    """Longer than the timeout, which is for its beginning; the standard allows a second between two characters."""

    def came() -> bool:
        """Not where the machine stands still: then it begins too late, or pauses for too long."""
        with ascii_line({1: {10: 7}}) as line, meeting(line, "pause", late=2 * TIMEOUT + 0.1):
            try:
                answer = bus(line.url).read(asked(timeout=2 * TIMEOUT))
            except (NoAnswer, BadAnswer):
                return False
            assert answer.words == (7,)
            return True

    until(came)


def test_an_exception_on_an_ascii_line_keeps_its_code(bus):
    """A hole in the meter's registers."""
    with ascii_line({1: {10: 7}}) as line, pytest.raises(ExceptionAnswer) as refused:
        bus(line.url).read(asked(register=11))
    assert refused.value.code == 0x02


def test_an_adapter_that_hears_its_own_ascii_requests_is_told_and_can_be_used(bus):
    """As on RTU; without an echo the key does no harm."""

    def live(timeout: float) -> None:
        with ascii_line({1: {10: 7}}) as line:
            line.echo = True
            wire = bus(line.url)
            with pytest.raises(BadAnswer, match="local_echo = true"):
                wire.read(asked(device=5, timeout=timeout))
            wire.close()
            wire = bus(line.url, local_echo=True)
            assert wire.read(asked()).words == (7,)
            line.echo = False
            assert wire.read(asked()).words == (7,)

    patiently(live, TIMEOUT)


@pytest.mark.parametrize("ascii_", [False, True])
@pytest.mark.parametrize("high", [2, 3, 4])
def test_an_echo_that_looks_like_an_answer_is_never_a_value(bus, ascii_, high):
    """R2: the request's own address may be taken for the number of bytes in an answer; its checksum is right."""
    register = high << 8 | 5

    def live(timeout: float) -> None:
        with serial_line({1: {register: 7}}, ascii=ascii_) as line:
            line.echo = True
            with pytest.raises(BadAnswer, match="local_echo = true"):
                bus(line.url).read(asked(device=9, register=register, timeout=timeout))

    patiently(live, TIMEOUT)


@pytest.mark.parametrize("ascii_", [False, True])
def test_an_echo_that_begins_like_the_answer_is_no_second_answer(bus, ascii_):
    """One register at 0x0205: the request says 2 where the answer has its number of bytes."""
    with serial_line({1: {0x0205: 7}}, ascii=ascii_) as line:
        line.echo = True
        wire = bus(line.url, local_echo=True)
        assert wire.read(asked(register=0x0205)).words == (7,)


def test_every_frame_is_in_the_log_of_who_asks_for_it(bus, caplog):
    """With `--verbose`, as it went over the wire."""
    caplog.set_level(logging.DEBUG, "drivers.modbus.bus")
    with ascii_line({1: {10: 7}}) as line:
        bus(line.url).read(asked())
        (record,) = caplog.records
        sent, heard = b":0103000A0001F1\r\n".hex(" "), b":0103020007F3\r\n".hex(" ")
        assert record.getMessage() == f"{line.port}: sent {sent}, heard {heard}"


def test_ascii_frames_travel_through_a_serial_server_too(bus):
    """The server is pymodbus' own on the other side; a connection that was silent is opened anew."""
    with modbus_server({1: {10: 7}}, framer=FramerType.ASCII) as server:
        wire = bus(server.url)
        assert wire.read(asked()).words == (7,)
        server.mute.add(1)
        with pytest.raises(NoAnswer):
            wire.read(in_vain())
        assert not wire.is_open
