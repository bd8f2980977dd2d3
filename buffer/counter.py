"""Which readings of a counter may be believed: a pure judgement over readings in time order (R9, DESIGN 5).

A reading below the last good one, or above what `max_rate` allows since then, is a *suspect*: it adds nothing and
closes nothing until later readings make it good or show it for what it was. A suspect is cleared by any later reading
that continues the old track. What stays suspect is never booked; the operator is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from buffer.model import HOUR_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buffer.hours import Frozen, Sample

RESOLUTION_STEPS = 2  # allowed on top of the rate: a coarse register moves in steps (DESIGN 5, rate)


class Judged(NamedTuple):
    """The readings that may be used, in time order, and those that may not, each with the reason."""

    good: list[Sample]
    suspect: list[tuple[Sample, str]]


def judge(
    samples: Sequence[Sample], frozen: Frozen | None, *, max_rate: int | None = None, resolution: int = 1
) -> Judged:
    """Split samples later than the frozen edge into good ones and suspects; None: the meter has no opening yet.

    `max_rate` is micro per hour, None for no bound; it counts from the register's last change. `resolution` is the
    register's step in micro.
    """
    judged = Judged([], [])
    last = frozen.tail if frozen else None
    changed_at = frozen.changed if frozen else None
    # A frozen boundary stays, also where a late reading shows that the line to it was too steep: nothing is taken back.
    floor = frozen.boundary if frozen else None
    for sample in samples:
        reason = _objection(sample, last, floor, _allowed(sample, changed_at, max_rate, resolution))
        if reason:
            judged.suspect.append((sample, reason))
            continue
        if last is None or sample[1] != last[1]:
            changed_at = sample[0]
        last = sample
        judged.good.append(sample)
    return judged


def _allowed(sample: Sample, changed_at: int | None, max_rate: int | None, resolution: int) -> int | None:
    """By how much the register may have risen since it last moved; None without a bound."""
    if max_rate is None or changed_at is None:
        return None
    return max_rate * (sample[0] - changed_at) // HOUR_MS + RESOLUTION_STEPS * resolution


def _objection(sample: Sample, last: Sample | None, floor: int | None, allowed: int | None) -> str:
    if (last and sample[1] < last[1]) or (floor is not None and sample[1] < floor):
        return "counter went backwards"
    if last and allowed is not None and sample[1] - last[1] > allowed:
        return "faster than max_rate"
    return ""
