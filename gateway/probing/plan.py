"""What a probe does, before it does anything: which hours it takes, in how many requests, for how long. Pure.

Values are whole numbers, which every stored precision keeps; only the question for the precision has decimals.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from buffer.model import MICRO, hour_of, hour_start, to_ms
from gateway.enerkey.models import number, stamp

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST, SECOND, LESS = 3 * MICRO, 5 * MICRO, -2 * MICRO  # no two sums of them are alike
DIGITS = 1_123_456
STRIDE = 4  # h from one question's hour to the next: a value that lands in a neighbouring hour is still told apart
QUESTIONS = ("first", "again", "message", "digits", "half", "last", "offset", "negative", "good", "fine")
RUN = STRIDE * len(QUESTIONS)
WINDOW = 31 * 24  # h back in which the hours are looked for
QUIET = 24  # h; what is younger may be somebody's live view
AHEAD = 48  # h of the hour in the future
OLD = 400 * 24  # h back of the hour that is older than a year
YEAR = 365 * 24
LEVEL = 1000 * MICRO  # where the register of a cumulative probe stands
REGISTER = 8  # h that a cumulative probe takes
UNKNOWN_METER = 2**31 - 1
MOST_REQUESTS = 150  # of a whole probe, its waiting and its retries
LOOK_REQUESTS = 8  # of the look before it
RESERVE = 40  # of them are kept for the way back

Row = tuple[str, str]  # an item as it is written: time and JSON value


class Step(NamedTuple):
    """One line of the plan."""

    name: str
    words: str
    pushes: int
    reads: int


class Hours(NamedTuple):
    """The hours that a probe takes. `base`: the first of its run; `register`: of the cumulative meter's, None without one."""

    base: int
    october: int
    future: int
    old: int
    register: int | None
    this: int

    def of(self, question: str) -> int:
        """The hour with whose beginning a question's value is stamped."""
        return self.base + STRIDE * QUESTIONS.index(question) + 1


def hours(now: datetime, base: int, register: int | None) -> Hours:
    """All hours of a probe that begins now."""
    this = hour_of(to_ms(now))
    return Hours(base, october(now), this + AHEAD, this - OLD, register, this)


def window(now: datetime) -> tuple[int, int]:
    """The hours [from, to) among which a quiet run is looked for."""
    this = hour_of(to_ms(now))
    return this - WINDOW, this - QUIET


def quiet_run(values: Mapping[int, int], since: int, until: int, length: int) -> int | None:
    """The first hour of the latest run without any value; else of one where every value is 0; None without either."""
    for taken in (set(values), {hour for hour, micro in values.items() if micro}):
        free = 0
        for hour in range(until - 1, since - 1, -1):
            free = 0 if hour in taken else free + 1
            if free == length:
                return hour
    return None


def register_run(values: Mapping[int, int], now: datetime) -> int | None:
    """The first hour for a register's questions: behind every value there is, since order matters to readings.

    None where there is no room any more, or where the meter has values that are not 0.
    """
    this = hour_of(to_ms(now))
    first = max(this - QUIET - REGISTER, max(values, default=0) + 2)
    return first if first + REGISTER <= this and not any(values.values()) else None


def october(now: datetime) -> int:
    """The first of the two hours of one local name, of the last change from summer time: 00:00Z and 01:00Z in all of the EU."""
    year = now.year
    while True:
        last = datetime(year, 10, 31, tzinfo=UTC)
        sunday = last - timedelta(days=(last.weekday() + 1) % 7)
        if sunday + timedelta(days=2) <= now:
            return hour_of(to_ms(sunday))
        year -= 1


def item(hour: int, micro: int, *, past: timedelta = timedelta()) -> Row:
    """One item, stamped so long past the beginning of its hour."""
    return stamp(hour_start(hour) + past), number(micro)


def abroad(hour: int, micro: int) -> Row:
    """The same instant as `item`, written two hours east of Greenwich."""
    return stamp(hour_start(hour + 2)).replace("Z", "+02:00"), number(micro)


def steps(*, cumulative: bool) -> list[Step]:
    """The plan, in the order in which it is asked and with the names that the findings have."""
    found = [
        Step("P1", "see that the hours are empty", 0, 4),
        Step("P2", "send 3 and wait until it shows: delay, hour stamp", 1, 12),
        Step("P3", "send 5 to the same hour: sum, replace, keep or refuse", 1, 1),
        Step("P4", "3 and 5 for one hour in one message", 1, 0),
        Step("P5", "send -2: are negative values taken", 1, 0),
        Step("P6", "send 1.123456: how many decimals are kept", 1, 0),
        Step("P7", "stamps at half past, at the last second, with +02:00", 3, 0),
        Step("P8", "the two hours of one local name in October", 1, 2),
        Step("P9", "an invalid item between valid ones: all or nothing", 1, 1),
    ]
    if cumulative:
        found.append(Step("P10", "readings: the same again, an older one, a lower one", 4, 4))
    return [
        *found,
        Step("P11", "what the answers so far told of the rate limit", 0, 0),
        Step("P12", "zeros for all empty hours of a year, then of a month: largest message", 2, 1),
        Step("P13", f"a meter that is not there ({UNKNOWN_METER}), a future hour, an hour 400 days old", 3, 3),
        Step("back", "take away what was sent, and look that it is gone", 6, 6),
    ]


def duration(lag: float, waits: int = 6) -> float:
    """Roughly how long it all takes (s) where EnerKey shows a value so long after it was sent."""
    return lag + waits * patience(lag) + 30.0


def patience(lag: float) -> float:
    """How long (s) to wait before what does not show counts as not there."""
    return 2 * lag + 5.0
