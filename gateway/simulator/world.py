"""The truth that simulated meters measure: a load that is constant within each hour and known exactly at any instant.

Everything is an integer of micro (10⁻⁶ of the truth's unit), so a register at an instant and the consumption of an hour
are exact, and the same seed gives the same truth in every process.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import accumulate
from random import Random

from buffer.model import EPOCH

SINCE = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday; every simulated register began to count here
WEEK = 168  # h after which the loads repeat
BANDS = (
    (1000, 1100),
    (1400, 1550),
    (2000, 2200),
)  # ‰ of the base load, hour by hour: each step changes it by 27 % or more

HOUR = timedelta(hours=1)
_HOUR_US = 3_600_000_000
_MICROSECOND = timedelta(microseconds=1)


class Load:
    """One meter's load and its register. Pure and immutable, so any thread may ask it."""

    def __init__(self, seed: str, base: int, *, start: int = 0, since: datetime = SINCE) -> None:
        """`base`: micro per hour in a quiet hour; the others reach 2.2 times as much. `start`: the register at `since`.

        `since` is a full hour. The register stands still before it.
        """
        chance = Random(seed)
        self._week = tuple(base * chance.randint(*BANDS[hour % len(BANDS)]) // 1000 for hour in range(WEEK))
        self._passed = tuple(accumulate(self._week, initial=0))  # energy of the week's first hours
        self._start = start
        self._since = since

    def hourly(self, hour: int) -> int:
        """The consumption of an hour since the epoch, exactly."""
        number = hour - (self._since - EPOCH) // HOUR
        return self._week[number % WEEK] if number >= 0 else 0

    def rate(self, at: datetime) -> int:
        """The load at an instant, in micro per hour."""
        return self.hourly((at - EPOCH) // HOUR)

    def register(self, at: datetime) -> int:
        """What a counter of endless resolution shows at an instant, rounded down to micro."""
        hours, into_hour = divmod(max((at - self._since) // _MICROSECOND, 0), _HOUR_US)
        weeks, hour = divmod(hours, WEEK)
        full_hours = weeks * self._passed[-1] + self._passed[hour]
        return self._start + full_hours + self._week[hour] * into_hour // _HOUR_US


def digits(micro: int, places: int) -> str:
    """Micro as a decimal text with so many places, rounded down as a display does; micro >= 0."""
    whole, rest = divmod(micro, 1_000_000)
    return f"{whole}.{rest:06d}"[: -6 + places or None].rstrip(".")
