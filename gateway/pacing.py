"""When to try next and how much may be asked: pure functions of values, time and chance."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field, replace
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
FIRST_GAP = 30.0  # s between the first two requests after an outage; each answer halves it
LAST_GAP = 1.0  # s; below it the ramp is over, and the burst limit is all that holds requests apart
SMALLEST_PART = 1 / 8  # of a limit that is used at least, however often the server says that it is too much
GROWN_BACK = (
    86_400.0  # s in which the whole of a limit would grow back: after one 429 it is in use again half a day later
)
DAY = 86_400.0  # s
BIN = 300.0  # s
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
class Ramp:
    """After an outage: one request to see (the canary), then with every answer twice as many as before.

    `gap`: s from one request to the next, 0 when nothing is held back; `until`: when (boottime) the next one may go.
    """

    gap: float = 0.0
    until: float = float("-inf")

    def begun(self, now: float) -> Ramp:
        """At the beginning (again): the last request was the canary, or went wrong."""
        return Ramp(FIRST_GAP, now + FIRST_GAP)

    def answered(self, now: float) -> Ramp:
        """One more answer."""
        gap = self.gap / 2
        return Ramp(gap, now + gap) if gap >= LAST_GAP else Ramp()


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a limit that is used for now: halved when the server says that it is too much, and grown back slowly.

    Only ever less than what the operator allows, so that to forget it (a restart) keeps R22.
    """

    left: float = 1.0
    since: float = 0.0  # boottime

    def halved(self, now: float) -> Part:
        """The server said so."""
        return Part(max(self.at(now) / 2, SMALLEST_PART), now)

    def at(self, now: float) -> float:
        """Between `SMALLEST_PART` and 1."""
        return min(1.0, self.left + (now - self.since) / GROWN_BACK)

    def of(self, whole: int, now: float) -> int:
        """So many of a whole; at least one."""
        return max(1, int(whole * self.at(now)))


@dataclass(frozen=True, slots=True)
class Manners:
    """How the server has to be left alone, from what became of our requests. Every answer ends an outage.

    `day` and `rate`: the parts in use of the day's share and of the burst.
    """

    unreachable: Pause = field(default_factory=Pause)
    limited: Pause = field(default_factory=Pause)
    doubtful: Pause = field(default_factory=Pause)
    ramp: Ramp = field(default_factory=Ramp)
    day: Part = field(default_factory=Part)
    rate: Part = field(default_factory=Part)

    def after(self, fate: Fate, now: float, random: Random, *, left: int | None = None) -> Manners:
        """The manners after one more request; `left`: what the answer told is left of the day's requests."""
        if isinstance(fate, NotSent) and not fate.limited:
            ramp = self.ramp.begun(now) if self.ramp.gap else self.ramp
            return replace(self, unreachable=self.unreachable.failed(now, random), ramp=ramp)
        if isinstance(fate, Unknown):
            # A single one is no reason to make other meters wait (R23): only its own message rests.
            doubtful = self.doubtful.failed(now, random)
            rests = doubtful if doubtful.failures >= DOUBT_AFTER else Pause(doubtful.failures)
            ramp = self.ramp.begun(now) if self._half_open else self.ramp
            return replace(self, unreachable=Pause(), doubtful=rests, ramp=ramp)
        ramp = self.ramp.answered(now) if self.ramp.gap or not self._half_open else self.ramp.begun(now)
        answered = replace(self, unreachable=Pause(), doubtful=Pause(), ramp=ramp)
        if not isinstance(fate, NotSent):
            return replace(answered, limited=Pause())
        told, limited = fate.retry_after, self.limited
        pause = limited.failed(now, random) if told is None else limited.told(now, told, random)
        if limited.failures:  # the same episode: what was halved has had no time to show
            return replace(answered, limited=pause)
        if left:  # of the day there is enough: it came too fast
            return replace(answered, limited=pause, rate=self.rate.halved(now))
        return replace(answered, limited=pause, day=self.day.halved(now))

    @property
    def until(self) -> float:
        """The boottime until which nothing is asked."""
        return max(self.unreachable.until, self.limited.until, self.doubtful.until, self.ramp.until)

    @property
    def outage(self) -> bool:
        """Whether the server cannot be reached, and not only once."""
        return self.unreachable.failures >= OUTAGE_AFTER

    @property
    def _half_open(self) -> bool:
        """Whether the next request only shows whether the server is well again."""
        return self.outage or self.doubtful.failures >= DOUBT_AFTER or self.ramp.gap > 0


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

    def until(self, most: int) -> float:
        """The boottime until which there is no room for another one, with at most so many for now."""
        return self.made[-most] + self.within if len(self.made) >= most else float("-inf")


class Pushes:
    """The pushes of the last 24 h, in bins of boottime: never fewer than were made, and those of the backlog among them."""

    def __init__(self) -> None:
        """None yet."""
        self._bins: deque[list[int]] = deque()  # [bin, all, of the backlog]
        self._made = self._backlog = 0

    def add(self, at: float, *, backlog: bool) -> None:
        """One more, at a boottime that is not before that of the last one."""
        number = int(at // BIN)
        if not self._bins or self._bins[-1][0] != number:
            self._bins.append([number, 0, 0])
        self._bins[-1][1] += 1
        self._bins[-1][2] += backlog
        self._made += 1
        self._backlog += backlog

    def made(self, now: float) -> tuple[int, int]:
        """How many, and how many of them for the backlog."""
        while self._bins and self._bins[0][0] < (now - DAY) // BIN:
            _, made, backlog = self._bins.popleft()
            self._made -= made
            self._backlog -= backlog
        return self._made, self._backlog


def may_push(spent: int, made: int, share: int, left: Left | None, now: float) -> bool:
    """Whether one more push fits the rolling day's share and what the server last said is left (R22).

    `spent`: requests of the day; `made`: the pushes among them, which leave the reads their part however many those were.
    """
    return spent < share and made < share - reserved(share) and _left(left, now) > share * LEFT_TO_OTHERS


def room_for_backlog(share: int, regular: float, live: int, reads: int) -> int:
    """Pushes of the backlog in a day: what a day of live hours and reads leaves of the share, so that those never wait for it.

    `regular`: what the cadence makes of live pushes in a day; `live`: how many the last day had, which may be more. The
    backlog has a twentieth all the same: it never starves. Where the longest cadence does not fit, turns alone decide.
    """
    if regular > share * HOURLY_SHARE:
        return share
    return max(int(share - max(reserved(share), reads) - max(regular, live)), share // 20, 1)


def reserved(share: int) -> int:
    """Requests of a day that pushes leave to reads; where the share is tiny, none."""
    return int(share * READ_BACK_RESERVE)


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
