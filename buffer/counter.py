"""Which readings of a counter may be believed: a pure judgement over readings in time order (R9, DESIGN 5).

A reading below the last good one, or above what `max_rate` allows since then, is a *suspect*: it adds nothing and closes nothing
until later readings make it good or show it for what it was. A suspect is cleared by any later reading that continues the old
track. What stays suspect is never booked; the operator is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from buffer.hours import Sample
from buffer.model import HOUR_MS

RESOLUTION_STEPS = 2  # allowed on top of the rate: a coarse register moves in steps (DESIGN 5, rate)


class Judged(NamedTuple):
    """The readings that may be used, in time order, and those that may not, each with the reason."""

    good: list[Sample]
    suspect: list[tuple[Sample, str]]


def judge(
    samples: Sequence[Sample], last_good: Sample | None, *, max_rate: int | None = None, resolution: int = 1
) -> Judged:
    """Split samples later than `last_good` into good ones and suspects.

    `max_rate` is micro per hour, None for no bound; it counts from the register's last change. `resolution` is the register's
    step in micro.
    """
    judged = Judged([], [])
    reference = changed = last_good
    for sample in samples:
        reason = _objection(sample, reference, changed, max_rate, resolution)
        if reason:
            judged.suspect.append((sample, reason))
            continue
        if reference is None or sample[1] != reference[1]:
            changed = sample
        reference = sample
        judged.good.append(sample)
    return judged


def _objection(
    sample: Sample, reference: Sample | None, changed: Sample | None, max_rate: int | None, resolution: int
) -> str:
    if reference is None or changed is None:
        return ""
    if sample[1] < reference[1]:
        return "counter went backwards"
    if max_rate is None:
        return ""
    allowed = max_rate * (sample[0] - changed[0]) // HOUR_MS + RESOLUTION_STEPS * resolution
    return "faster than max_rate" if sample[1] - reference[1] > allowed else ""
