"""A clock that stands still until it is told to go on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Event

from drivers.base import Now

START = datetime(2026, 3, 2, 9, 55, tzinfo=UTC)


class FakeClock:
    """Boottime starts at 1000 s; waiting jumps to the end of the wait, so nothing ever sleeps."""

    def __init__(self, wall: datetime = START, *, trusted: bool = True) -> None:
        self.wall = wall
        self.boottime = 1000.0
        self.trusted = trusted

    def now(self) -> Now:
        return Now(self.boottime, self.wall, self.trusted)

    def advance(self, seconds: float) -> Now:
        self.boottime += seconds
        self.wall += timedelta(seconds=seconds)
        return self.now()

    def step_wall(self, seconds: float) -> None:
        """Step the wall clock alone, as NTP does."""
        self.wall += timedelta(seconds=seconds)

    def wait(self, wake: Event, until: float | None) -> bool:
        if not wake.is_set() and until is not None and until > self.boottime:
            self.advance(until - self.boottime)
        return wake.is_set()
