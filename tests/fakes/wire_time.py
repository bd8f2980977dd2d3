"""The time of a Modbus wire, which stands still but where a test lets it pass: however slow the machine, nobody is late.

wire = wire_time(monkeypatch)
wire.elapse(1.0)                                # by any thread: whose deadline that was, has waited in vain
"""

from __future__ import annotations

import select
from types import SimpleNamespace

import pytest

from drivers.modbus import bus, line, loop, prompt

SLICE = 0.01  # s of real time after which who waits looks at the wire's time again
REAL = 0.1  # s; shorter waits are for what comes in one piece with the rest: they are real, and pass


class WireTime:
    """`monotonic` and the waits of `drivers.modbus.line`, for connections without TLS."""

    def __init__(self) -> None:
        self._now = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self._now

    def elapse(self, seconds: float) -> None:
        """Let so much time pass."""
        self._now += seconds

    def poll(self) -> _Poll:
        """Instead of `select.poll`."""
        return _Poll(self)


class _Poll:
    def __init__(self, wire: WireTime) -> None:
        self._wire = wire
        self._real = select.poll()
        self.register = self._real.register

    def poll(self, milliseconds: float) -> list[tuple[int, int]]:
        seconds = milliseconds / 1000
        if seconds <= REAL:
            found = self._real.poll(milliseconds)
            if not found:
                self._wire.elapse(seconds)
            return found
        end = self._wire.monotonic() + seconds
        while not (found := self._real.poll(1000 * SLICE)) and self._wire.monotonic() < end:
            pass
        return found


def wire_time(monkeypatch: pytest.MonkeyPatch) -> WireTime:
    """Until the end of the test, for every line and loop."""
    wire = WireTime()
    for module in (bus, line, loop, prompt):
        monkeypatch.setattr(module, "monotonic", wire.monotonic)
    waits = SimpleNamespace(poll=wire.poll, POLLIN=select.POLLIN, select=select.select)
    monkeypatch.setattr(line, "select", waits)
    return wire
