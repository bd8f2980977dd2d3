"""When to try next and how much may be asked: pure functions of values, time and chance."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from buffer.model import NotSent, Unknown

if TYPE_CHECKING:
    from random import Random

    from buffer.model import Fate

FIRST_PAUSE = 1.0  # s
LONGEST_PAUSE = 15 * 60.0  # s; a recovered network is noticed within a quarter of an hour (DESIGN 6)
OUTAGE_AFTER = 3  # connect failures in a row
DOUBT_AFTER = 3  # unknown fates in a row: then it is the server and not one meter, and trying on only adds doubt
READ_BACK_RESERVE = 0.1  # share of the budget that pushes leave to read-backs (reliability 3.7)
LEFT_TO_OTHERS = 0.01  # share that the server must still have left for us to push
HEARSAY = 15 * 60.0  # s that the server's last word on what is left counts; later one request asks again


@dataclass(frozen=True, slots=True)
class Pause:
    """How long to leave something alone: failures in a row, and the boottime until which it rests."""

    failures: int = 0
    until: float = float("-inf")

    def failed(self, now: float, random: Random) -> Pause:
        """One more failure: 1 s doubling to 15 min, jittered so that a thousand gateways do not return together."""
        longest = min(FIRST_PAUSE * 2.0 ** min(self.failures, 20), LONGEST_PAUSE)
        return Pause(self.failures + 1, now + random.uniform(longest / 10, longest))

    def told(self, now: float, seconds: float, random: Random) -> Pause:
        """One more failure, with the time to wait told by the server (Retry-After), and a tenth more as jitter."""
        return Pause(self.failures + 1, now + max(seconds, FIRST_PAUSE) * random.uniform(1.0, 1.1))


@dataclass(frozen=True, slots=True)
class Manners:
    """How the server has to be left alone, from what became of our requests. Every answer ends an outage."""

    unreachable: Pause = field(default_factory=Pause)
    limited: Pause = field(default_factory=Pause)
    doubtful: Pause = field(default_factory=Pause)

    def after(self, fate: Fate, now: float, random: Random) -> Manners:
        """The manners after one more request."""
        if isinstance(fate, NotSent) and not fate.limited:
            return Manners(self.unreachable.failed(now, random), self.limited, self.doubtful)
        if isinstance(fate, NotSent):
            told, limited = fate.retry_after, self.limited
            pause = limited.failed(now, random) if told is None else limited.told(now, told, random)
            return Manners(limited=pause)
        if isinstance(fate, Unknown):
            # A single one is no reason to make other meters wait (R23): only its own message rests.
            doubtful = self.doubtful.failed(now, random)
            rests = doubtful if doubtful.failures >= DOUBT_AFTER else Pause(doubtful.failures)
            return Manners(limited=self.limited, doubtful=rests)
        return Manners()

    @property
    def until(self) -> float:
        """The boottime until which nothing is asked."""
        return max(self.unreachable.until, self.limited.until, self.doubtful.until)

    @property
    def outage(self) -> bool:
        """Whether the server cannot be reached, and not only once."""
        return self.unreachable.failures >= OUTAGE_AFTER


@dataclass(frozen=True, slots=True)
class Left:
    """What the server last said is left of the day's requests, and when (boottime)."""

    requests: int
    heard: float


def may_push(spent: int, share: int, left: Left | None, now: float) -> bool:
    """Whether one more push fits the rolling day's share and what the server last said is left (R22)."""
    return spent < share * (1 - READ_BACK_RESERVE) and _left(left, now) > share * LEFT_TO_OTHERS


def may_read(spent: int, share: int, left: Left | None, now: float) -> bool:
    """Whether one more read-back fits."""
    return spent < share and _left(left, now) > 0


def _left(left: Left | None, now: float) -> float:
    """What is left; without end where the server has not said it or said it too long ago to be true for ever."""
    return float("inf") if left is None or now - left.heard >= HEARSAY else left.requests


def push_offset(identity: str, meter: str, spread: float) -> float:
    """A meter's fixed offset (s) after the hour, within `spread`: a fleet does not push at the same second."""
    digest = hashlib.sha256(f"{identity}/{meter}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48 * spread
