"""A clock that stands still until it is told to go on, and somebody to vouch for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Event

from drivers.base import Now
from gateway.clock import Trust

START = datetime(2026, 3, 2, 9, 55, tzinfo=UTC)


class FakeAuthority:
    """Vouches for the clock while `word` is set; `forgets` like a daemon's flag when the clock is doubted."""

    def __init__(self, word: str | None = None, *, forgets: bool = True) -> None:
        self.word = word
        self.forgets = forgets
        self.asked = 0
        self.doubts = 0

    def vouches(self) -> str | None:
        self.asked += 1
        return self.word

    def doubt(self) -> None:
        self.doubts += 1
        if self.forgets:
            self.word = None


class FakeClock:
    """Boottime starts at 1000 s; waiting jumps to the end of the wait, so nothing ever sleeps.

    `trusted` says whether it is trusted, unless a real `trust` decides.
    """

    def __init__(self, wall: datetime = START, *, trusted: bool = True, trust: Trust | None = None) -> None:
        self.wall = wall
        self.boottime = 1000.0
        self.trusted = trusted
        self.trust = trust or Trust("always")

    def now(self) -> Now:
        trusted = self.trust.look(self.boottime, self.wall)
        return Now(self.boottime, self.wall, trusted and self.trusted)

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
