"""What a read costs on a serial line, against the tables of the facts page and frames that were really built."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer import FramerAscii, FramerRTU
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadHoldingRegistersResponse

from drivers.modbus.address import address_of
from drivers.modbus.wiretime import ASCII, RTU, Frames, Wire, assumed_wire, wire_of


def wire(url: str) -> Wire:
    found = wire_of(address_of(url))
    assert found is not None
    return found


@given(st.integers(1, 125))
@pytest.mark.parametrize(("frames", "framer"), [(RTU, FramerRTU), (ASCII, FramerAscii)])
def test_frames_have_as_many_characters_as_those_that_are_sent(frames: Frames, framer, registers):
    """Counted in pymodbus' own frames."""
    build = framer(DecodePDU(False)).buildFrame
    assert frames.request == len(build(ReadHoldingRegistersRequest(address=0, count=registers, dev_id=1)))
    assert frames.answer_of(registers) == len(build(ReadHoldingRegistersResponse(registers=[0] * registers, dev_id=1)))


@pytest.mark.parametrize(
    ("settings", "registers", "milliseconds"),
    [
        ("baudrate=2400&parity=N", 2, 100.0),
        ("baudrate=2400&parity=E", 125, 1237.5),
        ("baudrate=9600&parity=N", 2, 25.0),
        ("baudrate=9600&parity=E", 80, 206.2),
        ("baudrate=19200&parity=N", 40, 52.1),
        ("baudrate=38400&parity=E", 10, 13.0),
        ("baudrate=115200&parity=N", 125, 26.3),
    ],
)
def test_a_cycle_takes_what_the_standard_says(settings, registers, milliseconds):
    """Two silences of 3.5 characters and the frames: no gap, a device that answers at once."""
    cycle = wire(f"rtu:///dev/ttyUSB0?{settings}").cycle(registers, gap=0, thinking=0)
    assert cycle * 1000 == pytest.approx(milliseconds, abs=0.06)


def test_thirty_meters_at_9600_baud_take_a_round_of_nearly_four_seconds():
    """The facts page's example, 30 x (25 + 40 + 60) ms, without the silences that gap and thinking contain."""
    line = wire("rtu:///dev/ttyUSB0?baudrate=9600")
    assert 30 * line.cycle(2, gap=0.060) == pytest.approx(30 * (17 * 10 / 9600 + 0.100))


@pytest.mark.parametrize(("baudrate", "floor"), [(9600, 0.5 + 173 / 960), (2400, 0.5 + 173 / 240)])
def test_no_timeout_should_be_shorter_than_the_frames_and_the_slowest_device(baudrate, floor):
    """80 registers: 0.69 s at 9600, 1.2 s at 2400."""
    assert wire(f"rtu:///dev/ttyUSB0?baudrate={baudrate}").floor(80) == pytest.approx(floor, abs=0.02)


def test_ascii_takes_twice_the_characters_and_no_silence():
    """Seven bits, even parity, one stop bit are ten bits for half a byte."""
    line = wire("ascii:///dev/ttyUSB0?baudrate=9600")
    assert line.silence == 0
    assert line.exchange(10) == pytest.approx((17 + 11 + 40) * 10 / 9600)
    assert line.cycle(10, gap=0.06, thinking=0.04) == pytest.approx(line.exchange(10) + 0.1)


@pytest.mark.parametrize("url", ["tcp://192.0.2.10", "rtu+tcp://192.0.2.10", "ascii+tcp://192.0.2.10", "tls://meter"])
def test_behind_a_network_nobody_tells_the_speed(url):
    """What is assumed there has a name."""
    assert wire_of(address_of(url)) is None
    usual = wire("rtu:///dev/ttyUSB0?baudrate=9600&parity=N")
    assert assumed_wire(address_of("rtu+tcp://192.0.2.10")) == usual
    assert assumed_wire(address_of("ascii+tcp://192.0.2.10")).frames == ASCII
