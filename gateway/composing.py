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
    """The items of one message (instant, micro); what each of its hours gains by it, and how much of that is adjustments."""

    items: list[tuple[datetime, int]]
    values: dict[int, int]
    adjusted: dict[int, int]


def consumption_items(
    hours: Sequence[PendingHour], *, decimals: int, stamp: Literal["start", "end"], replaces: bool = False
) -> Draft:
    """One item per hour: the difference of the rounded running totals, so that rounding loses nothing over time.

    An hour that is sent for the first time is one number with its adjustments; to one that EnerKey has, they are posted
    as a signed difference or, where a second value `replaces` the first, as the value that it shall have.
    """
    shift = 0 if stamp == "start" else 1
    items: list[tuple[datetime, int]] = []
    values: dict[int, int] = {}
    adjusted: dict[int, int] = {}
    for row in hours:
        adjustment = sendable(row.unposted, decimals)
        value = adjustment
        if row.accepted is None:
            value += rounded(row.boundary, decimals) - rounded(row.boundary - row.consumption, decimals)
        elif not adjustment:
            continue  # less than the last decimal that is sent: it waits for more
        items.append((hour_start(row.hour + shift), value + (row.accepted or 0 if replaces else 0)))
        values[row.hour] = value
        if adjustment:
            adjusted[row.hour] = adjustment
    return Draft(items, values, adjusted)


def cumulative_items(
    hours: Sequence[PendingHour],
    accepted: Collection[int],
    *,
    first: bool,
    decimals: int,
    posted: int = 0,
    unposted: Sequence[tuple[int, int]] = (),
) -> Draft:
    """The boundary at each hour's end; also the one at its beginning where no accepted hour has brought it yet.

    `accepted` holds the hours that EnerKey has accepted. A meter's `first` message is its opening and the first hour's
    end only: that derived hour proves both before the rest follows. Adjustments enter the next boundary: the series that
    is sent stands above the boundaries by what was `posted`. `unposted` is what waits, as (hour, micro) by hour. The
    series never falls, which EnerKey would take for another register: of a negative adjustment each boundary takes as much
    as its hour has.
    """
    known = set(accepted)
    items: list[tuple[datetime, int]] = []
    values: dict[int, int] = {}
    adjusted: dict[int, int] = {}
    above = posted
    for row in hours[:1] if first else hours:
        begin = rounded(row.boundary - row.consumption + above, decimals)
        waits = sum(amount for hour, amount in unposted if hour <= row.hour) - (above - posted)
        enters = waits if waits >= 0 else max(waits, min(0, -row.consumption))
        above += enters
        end = rounded(row.boundary + above, decimals)
        if row.hour - 1 not in known:
            items.append((hour_start(row.hour), begin))
        items.append((hour_start(row.hour + 1), end))
        values[row.hour] = end - begin
        if enters:
            adjusted[row.hour] = enters
        known.add(row.hour)
    return Draft(items, values, adjusted)


def rounded(micro: int, decimals: int) -> int:
    """Micro rounded half up to so many decimals of the unit, still as micro."""
    step: int = 10 ** (6 - decimals)
    return round_half_up(micro, step) * step


def sendable(unposted: int, decimals: int) -> int:
    """What of an unposted adjustment can be sent with so many decimals: rounded, and exactly half a step toward zero.

    Away from zero, half a step too little would become half a step too much, which would be posted back, for ever.
    """
    step: int = 10 ** (6 - decimals)
    steps, rest = divmod(abs(unposted), step)
    return (steps + (2 * rest > step)) * step * (-1 if unposted < 0 else 1)
