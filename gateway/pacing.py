"""When to try next and how much may be asked: pure functions of values, time and chance."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from buffer.model import NotSent, Unknown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from buffer.model import Fate

FIRST_PAUSE = 1.0  # s
LONGEST_PAUSE = 15 * 60.0  # s; a recovered network is noticed within a quarter of an hour (DESIGN 6)
OUTAGE_AFTER = 3  # connect failures in a row
DOUBT_AFTER = 3  # unknown fates in a row: then it is the server and not one meter, and trying on only adds doubt
READ_BACK_RESERVE = 0.1  # share of the budget that pushes leave to read-backs (reliability 3.7)
LEFT_TO_OTHERS = 0.01  # share that the server must still have left for us to push
CADENCES = (1, 2, 3, 4, 6, 12, 24)  # h between the pushes of one meter
HOURLY_SHARE = 0.8  # of the day's budget that regular pushes may take; the rest is for what goes wrong
LIVE = 24  # h; younger hours are what people look at (reliability 3.7)
LIVE_IN_A_ROW = 3  # pushes with live hours before one of the backlog has its turn: the backlog never starves
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

    def less_one(self) -> Left:
        """After a request whose answer did not say."""
        return Left(max(self.requests - 1, 0), self.heard)


@dataclass(frozen=True, slots=True)
class Burst:
    """At most so many requests within so many seconds; `made`: when (boottime) the last of them were."""

    most: int
    within: float
    made: tuple[float, ...] = ()

    def after(self, now: float) -> Burst:
        """With one more request."""
        return Burst(self.most, self.within, (*self.made[-self.most + 1 :], now) if self.most > 1 else (now,))

    @property
    def until(self) -> float:
        """The boottime until which there is no room for another one."""
        return self.made[0] + self.within if len(self.made) >= self.most else float("-inf")


def may_push(spent: int, share: int, left: Left | None, now: float) -> bool:
    """Whether one more push fits the rolling day's share and what the server last said is left (R22)."""
    return spent < share * (1 - READ_BACK_RESERVE) and _left(left, now) > share * LEFT_TO_OTHERS


def may_read(spent: int, share: int, left: Left | None, now: float) -> bool:
    """Whether one more read-back fits."""
    return spent < share and _left(left, now) > 0


def _left(left: Left | None, now: float) -> float:
    """What is left; without end where the server has not said it or said it too long ago to be true for ever."""
    return float("inf") if left is None or now - left.heard >= HEARSAY else left.requests


def cadence(meters: int, share: int) -> int:
    """Hours between two pushes of a meter, so that all of them fit the day's share."""
    fitting = (hours for hours in CADENCES if meters * 24 / hours <= share * HOURLY_SHARE)
    return next(fitting, CADENCES[-1])


def slot(hour: int, every: int) -> int:
    """The hour at whose beginning this hour is due, when pushes come every so many hours.

    More than hourly apart, an hour that ends with the slot goes with the next one: it is closed a little after its end,
    and would cost a message of its own.
    """
    return hour + 1 if every == 1 else -(-(hour + 2) // every) * every


def turns(due: Mapping[int, bool], served: Mapping[int, float], live_in_a_row: int) -> list[int]:
    """The order in which meters that are due have their turn; `due` tells whose next message holds live hours.

    Live hours before the backlog, except every fourth time; among themselves the one that was served longest ago.
    """
    backlog_first = live_in_a_row >= LIVE_IN_A_ROW
    return sorted(due, key=lambda meter: (due[meter] is backlog_first, served.get(meter, 0.0)))


def push_offset(identity: str, meter: str, spread: float) -> float:
    """A meter's fixed offset (s) after the hour, within `spread`: a fleet does not push at the same second."""
    digest = hashlib.sha256(f"{identity}/{meter}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48 * spread
