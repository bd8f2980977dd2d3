"""The clock of a simulated box, beside the world's own time."""

from __future__ import annotations

from datetime import datetime, timedelta

from buffer.model import to_ms
from drivers.base import Now
from gateway.clock import Trust
from tests.fakes.clock import FakeClock


class SimClock(FakeClock):
    """Counts whole milliseconds. `true` is the world's time, which no setting of the wall clock changes."""

    def __init__(self, true: datetime) -> None:
        super().__init__(true, trust=Trust("always"))
        self._true = true
        self._ms = 1_000_000

    @property
    def true(self) -> datetime:
        return self._true

    @property
    def true_ms(self) -> int:
        return to_ms(self._true)

    def advance(self, seconds: float) -> Now:
        ms = -int(-seconds * 1000 // 1) if seconds > 0 else 0
        self._ms += ms
        self.boottime = self._ms / 1000
        self.wall += timedelta(milliseconds=ms)
        self._true += timedelta(milliseconds=ms)
        return self.now()

    def boot(self, wall: datetime) -> None:
        self._ms = 20_000
        self.boottime = 20.0
        self.wall = wall
