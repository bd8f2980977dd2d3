"""The specification of interval and power sources, as slow and plain as can be: exact fractions over all that ever came.

Written from DESIGN 5 and reliability 3.2-3.4, not from the product. Each function looks at every sample for every hour.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from itertools import pairwise

HOUR = 3_600_000
JITTER = 2_000


def rounded(value: Fraction) -> int:
    """Half away from zero."""
    nearest = (abs(value) + Fraction(1, 2)).__floor__()
    return nearest if value >= 0 else -nearest


# --- interval sources ------------------------------------------------------------------------------------------------


@cache
def period_of(sample, period: int, stamp: str) -> tuple[int, int]:
    """When a sample's period began and ended; an end that jitters around an hour's edge is at the edge."""
    begin = sample[0] - (period if stamp == "end" else 0)
    return steady(begin, period), steady(begin + period, period)


def steady(at: int, period: int) -> int:
    edge = (Fraction(at, HOUR) + Fraction(1, 2)).__floor__() * HOUR
    return edge if abs(at - edge) <= min(JITTER, period // 10) else at


def period_energy(samples, hour: int, period: int, stamp: str) -> int:
    """What all periods together used in an hour; each spends its energy evenly, in whole micro."""
    energy = 0
    for sample in samples:
        begin, end = period_of(sample, period, stamp)
        if end <= hour * HOUR or begin >= (hour + 1) * HOUR:
            continue

        def used(until, begin=begin, end=end, value=sample[1]):
            return rounded(Fraction(value * (min(max(until, begin), end) - begin), end - begin))

        energy += used((hour + 1) * HOUR) - used(hour * HOUR)
    return energy


def period_quality(samples, hour: int, period: int, stamp: str) -> tuple[str, int]:
    """How much is known of an hour, and how well."""
    low, high = hour * HOUR, (hour + 1) * HOUR
    spans = [period_of(sample, period, stamp) for sample in samples]
    inside = [(min(end, high) - max(begin, low), end - begin) for begin, end in spans if begin < high and end > low]
    covered = min(HOUR, sum(part for part, _ in inside))
    if not inside:
        return "missing", 0
    if sum(part for part, _ in inside) < HOUR - JITTER or period > HOUR:
        return "estimated", covered
    if any(part > JITTER and whole - part > JITTER for part, whole in inside):
        return "interpolated", covered
    return "measured", covered


# --- power -----------------------------------------------------------------------------------------------------------


def power_energy(samples, hour: int, max_gap: int, hold: int) -> tuple[int, str, int]:
    """Energy, quality and covered milliseconds of an hour: the area under the line, or under the steps."""
    low, high = hour * HOUR, (hour + 1) * HOUR
    area, covered = Fraction(0), 0
    for (begin, left), (end, right) in pairwise(sorted(samples)):
        cut = [min(max(at, low), high) for at in (begin, end)]
        if cut[0] < cut[1] and end - begin <= (hold or max_gap):
            at_cut = [left + Fraction((right - left) * (at - begin), end - begin) for at in cut]
            mean = Fraction(left) if hold else (at_cut[0] + at_cut[1]) / 2
            area += mean * (cut[1] - cut[0])
            covered += cut[1] - cut[0]
    if covered < HOUR / 2:
        return 0, "missing", covered
    return rounded(area / HOUR), "measured" if covered == HOUR else "estimated", covered
