"""Which items a message carries: pure arithmetic from pending hours to stamped values (DESIGN 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from buffer.model import hour_start, round_half_up

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from buffer.journal import PendingHour

Family = Literal["consumption", "cumulative"]


class Draft(NamedTuple):
    """The items of one message (instant, micro) and the consumption that each of its hours gains when it is applied."""

    items: list[tuple[datetime, int]]
    values: dict[int, int]


def consumption_items(hours: Sequence[PendingHour], *, decimals: int, stamp: Literal["start", "end"]) -> Draft:
    """One item per hour: the difference of the rounded running totals, so that rounding loses nothing over time."""
    values = {
        row.hour: rounded(row.boundary, decimals) - rounded(row.boundary - row.consumption, decimals) for row in hours
    }
    shift = 0 if stamp == "start" else 1
    return Draft([(hour_start(hour + shift), value) for hour, value in values.items()], values)


def cumulative_items(hours: Sequence[PendingHour], accepted: Collection[int], *, first: bool, decimals: int) -> Draft:
    """The boundary at each hour's end; also the one at its beginning where no accepted hour has brought it yet.

    `accepted` holds the hours that EnerKey has accepted. A meter's `first` message is its opening and the first hour's
    end only: that derived hour proves both before the rest follows.
    """
    known = set(accepted)
    items: list[tuple[datetime, int]] = []
    values: dict[int, int] = {}
    for row in hours[:1] if first else hours:
        begin = rounded(row.boundary - row.consumption, decimals)
        end = rounded(row.boundary, decimals)
        if row.hour - 1 not in known:
            items.append((hour_start(row.hour), begin))
        items.append((hour_start(row.hour + 1), end))
        values[row.hour] = end - begin
        known.add(row.hour)
    return Draft(items, values)


def rounded(micro: int, decimals: int) -> int:
    """Micro rounded half up to so many decimals of the unit, still as micro."""
    step: int = 10 ** (6 - decimals)
    return round_half_up(micro, step) * step
