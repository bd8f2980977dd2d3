"""Meters on a serial line of the simulator, filled word by word, and faults for a while.

with serial_line({1: {10: 7}}) as line:         # device -> register -> word; others are silent
    line.url                                    # "rtu:///dev/pts/N?baudrate=9600&parity=N"
    line.silences()                             # s from the end of each answer to the next request
    with meeting(line, "late", late=0.4):       # every answer to a request of this time
        ...
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.clock import SystemClock
from gateway.simulator.faults import Fault
from gateway.simulator.meters import WordMeter
from gateway.simulator.modbus import SerialSimulator


@contextmanager
def serial_line(
    words: dict[int, dict[int, int]],
    baudrate: int = 9600,
    *,
    ascii: bool = False,  # noqa: A002 - its name
) -> Iterator[SerialSimulator]:
    """A running line."""
    meters = [WordMeter(device, held) for device, held in words.items()]
    line = SerialSimulator(meters, SystemClock(), baudrate, ascii=ascii)
    try:
        yield line
    finally:
        line.stop()


@contextmanager
def meeting(line: SerialSimulator, *kinds: str, late: float = 0.0) -> Iterator[None]:
    """`late`: seconds."""
    line.line.late = (late, late)
    line.faults = [Fault(kind, every=1) for kind in kinds]
    yield
    line.faults = ()
