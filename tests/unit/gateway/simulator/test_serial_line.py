"""The simulated serial line on a real pair of pseudo-terminals: its bytes take their time."""

from __future__ import annotations

import os
import select
import struct
import termios
import time
from collections.abc import Callable, Iterator

import pytest

from gateway.clock import SystemClock
from gateway.simulator import modbus
from gateway.simulator.faults import Fault
from gateway.simulator.frames import Rtu
from gateway.simulator.meters import WordMeter
from gateway.simulator.modbus import SerialSimulator

BAUDRATE, REGISTERS = 4800, 20
CHARACTER = 11 / BAUDRATE  # s; 8E1
ANSWER = 5 + 2 * REGISTERS  # bytes
ASKED = Rtu.wrap(0, 1, struct.pack(">BHH", 3, 0, REGISTERS))
PATIENCE = 60.0  # s, on a machine that does other things too; every wait ends by itself long before


@pytest.fixture
def line() -> Iterator[SerialSimulator]:
    made = SerialSimulator([WordMeter(1, dict(enumerate(range(100))))], SystemClock(), BAUDRATE, "E")
    yield made
    made.stop()


@pytest.fixture
def port(line: SerialSimulator) -> Iterator[int]:
    opened = os.open(line.port, os.O_RDWR | os.O_NOCTTY)
    set_speed(opened, termios.B4800)
    yield opened
    os.close(opened)


def set_speed(port: int, speed: int) -> None:
    """In both directions."""
    settings = termios.tcgetattr(port)
    settings[4:6] = [speed, speed]
    termios.tcsetattr(port, termios.TCSANOW, settings)


def hear(port: int, size: int) -> tuple[bytes, list[float]]:
    """So many bytes, and when they came."""
    data, times, end = b"", [], time.monotonic() + PATIENCE
    while len(data) < size and time.monotonic() < end:
        if select.select([port], [], [], 0.1)[0]:
            part = os.read(port, 1000)
            data += part
            times += [time.monotonic()] * len(part)
    return data, times


def eventually(reached: Callable[[], object]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.001)


def test_no_byte_can_be_read_before_its_wire_time(line, port):
    """The request's eight characters, 3.5 of silence, then the answer's: measured from the request's first byte."""
    began = time.monotonic()
    os.write(port, ASKED)
    data, times = hear(port, ANSWER)
    assert len(data) == ANSWER
    for number, came in enumerate(times):
        assert came - began >= (8 + 3.5 + number + 1) * CHARACTER


def test_a_request_that_comes_slowly_is_answered_after_its_last_byte(line, port, monkeypatch):
    """USB adapters hand on what they have."""
    monkeypatch.setattr(modbus, "STALE", PATIENCE)  # a busy machine is no meter that has forgotten the beginning
    os.write(port, ASKED[:5])
    time.sleep(0.06)
    began = time.monotonic()
    os.write(port, ASKED[5:])
    _, times = hear(port, ANSWER)
    assert times[-1] - began >= (3.5 + ANSWER) * CHARACTER


def test_requests_that_do_not_keep_the_silence_are_counted(line, port, monkeypatch):
    """As a real meter would miss them. The silence is a long one here, so that a busy machine can break it."""
    monkeypatch.setattr(modbus, "STALE", PATIENCE)
    usual = line.line.speed
    os.write(port, ASKED)
    hear(port, ANSWER)
    line.line.speed = usual._replace(silence=PATIENCE)
    os.write(port, ASKED[:3])
    eventually(lambda: line.early)
    line.line.speed = usual
    os.write(port, ASKED[3:])
    hear(port, ANSWER)
    assert line.early == 1
    time.sleep(usual.silence)
    os.write(port, ASKED)
    hear(port, ANSWER)
    assert line.early == 1
    assert line.line.heard == 3


def test_silences_are_told_while_the_line_goes_on(line):
    """Its thread may hear and answer in the middle of the reckoning."""

    class Meanwhile(float):
        """A request that is looked at while the next answer ends."""

        def __gt__(self, end: float) -> bool:
            line.ended.append(3.5)
            return float(self) > end

    line.ended += [1.0, 2.0]
    line.began.append(Meanwhile(2.25))
    assert line.silences() == [1.25, 0.25]


def test_the_beginning_of_a_request_does_not_spoil_the_next_one(line, port):
    """A meter drops it after a silence."""
    os.write(port, ASKED[:3])
    eventually(lambda: line._partial.newest)
    time.sleep(0.15)
    os.write(port, ASKED)
    assert len(hear(port, ANSWER)[0]) == ANSWER


def test_a_late_answer_comes_after_the_next_request_has_gone_out(line, port):
    """And the next one's answer behind it."""
    line.line.late = (0.4, 0.4)
    line.faults = [Fault("late", every=1)]
    os.write(port, ASKED)
    eventually(lambda: line.line.spoilt)
    line.faults = []
    os.write(port, Rtu.wrap(0, 1, struct.pack(">BHH", 3, 50, REGISTERS)))
    data, _ = hear(port, 2 * ANSWER)
    assert data[4] == 0
    assert data[ANSWER + 4] == 50


def test_a_request_at_another_speed_is_not_understood(line, port):
    """As on a real line; at the line's own speed the same request is answered."""
    settings = termios.tcgetattr(port)
    own = list(settings)
    settings[4] = settings[5] = termios.B19200
    termios.tcsetattr(port, termios.TCSANOW, settings)
    os.write(port, ASKED)
    eventually(lambda: line.unheard)
    assert not select.select([port], [], [], 0.15)[0]
    termios.tcsetattr(port, termios.TCSANOW, own)
    os.write(port, ASKED)
    assert len(hear(port, ANSWER)[0]) == ANSWER
    assert line.line.heard == 1


def test_stopped_twice_it_is_stopped(line, port):
    """And its port is gone, for whoever has it open: somebody else's may have its name already."""
    os.write(port, ASKED)
    line.stop()
    line.stop()
    with pytest.raises(OSError, match="Input/output error"):
        os.write(port, ASKED)


def test_a_meter_hears_nothing_at_another_speed(line, port):
    """And is not mute afterwards."""
    set_speed(port, termios.B9600)
    os.write(port, ASKED)
    eventually(lambda: line.unheard)
    assert not select.select([port], [], [], 2 * ANSWER * CHARACTER)[0]
    set_speed(port, termios.B4800)
    os.write(port, ASKED)
    assert len(hear(port, ANSWER)[0]) == ANSWER


def test_an_adapter_that_hears_itself_brings_each_request_back_whoever_is_there(line, port):
    """At the line's speed, before any answer."""
    line.echo = True
    began = time.monotonic()
    nobody = Rtu.wrap(0, 9, struct.pack(">BHH", 3, 0, 1))
    os.write(port, nobody)
    data, times = hear(port, len(nobody))
    assert data == nobody
    assert times[-1] - began >= len(nobody) * CHARACTER
