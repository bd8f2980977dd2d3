"""From readings to hours: pure functions of readings and what is already frozen (DESIGN 5, reliability 3.2-3.4).

A *sample* is (milliseconds since the epoch, micro). Samples are sorted, one per instant, and later than `scan_after`
the frozen edge; the newest one at or before that edge is the `tail`. An *edge* is an hour number: the instant at which
that hour begins. Every value is an integer; each boundary and each hour of power is rounded exactly once.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, NamedTuple

from buffer.frozen import Frozen, Sample
from buffer.model import HOUR_MS, Kind, Quality, round_half_up, weakest

if TYPE_CHECKING:
    from collections.abc import Sequence

Span = tuple[int, int]  # ms, ms

MEASURED_WITHIN_MS = 2_000  # nearer to the edge than this is at the edge: polls and stamps jitter
SAME_PACE = Fraction(3, 2)  # neighbours up to 1.5 x the expected pace apart are no gap (DESIGN 5)
MISSING_BELOW = Fraction(1, 2)  # power: an hour covered less than this says too little (reliability 3.4)


@dataclass(frozen=True, slots=True)
class Rule:
    """How one meter's samples become hours.

    `expected_every_ms` is the source's pace. `max_gap_ms` bounds the silence that power is integrated over. `period_ms`
    and `stamp` describe an interval source's values.
    """

    kind: Kind
    expected_every_ms: int
    max_gap_ms: int = 60_000
    period_ms: int = 0
    stamp: Literal["start", "end"] = "end"


class ClosedHour(NamedTuple):
    """One hour [hour, hour + 1) of one meter; `boundary` is the value at its end. Never altered afterwards (R8)."""

    hour: int
    consumption: int
    boundary: int
    quality: Quality
    boundary_quality: Quality


def first_edge(first: Sample, rule: Rule) -> int:
    """The first edge that a meter's first sample can open: the hour it falls into is partial and never closed."""
    start = first[0]
    if rule.kind == "interval":
        start = _period(first, rule)[0]
    return -(-start // HOUR_MS)


def reach(sample: Sample, rule: Rule) -> int:
    """The newest edge that a sample passes: hours that end there or before need nothing later than it."""
    return (_period(sample, rule)[1] if rule.kind == "interval" else sample[0]) // HOUR_MS


def scan_after(edge: int, rule: Rule) -> int:
    """Samples at or before this instant (ms) cannot matter to an hour after the frozen edge; later ones can."""
    early = rule.period_ms if rule.kind == "interval" and rule.stamp == "start" else 0
    return edge * HOUR_MS - early


def open_meter(samples: Sequence[Sample], rule: Rule, limit: int, start_value: int) -> Frozen | None:
    """Freeze the first boundary of a meter from its very first samples; None while no sample has passed it.

    `limit` is the newest edge that may be frozen. Interval and power sources count their total from `start_value`.
    """
    if not samples:
        return None
    edge = first_edge(samples[0], rule)
    if edge > limit or reach(samples[-1], rule) < edge:
        return None
    if rule.kind != "counter":
        return Frozen(edge, start_value, "measured", _tail(edge, samples, None))
    return Frozen(edge, *_boundary(edge, samples, None, rule), _tail(edge, samples, None))


def close_hours(
    frozen: Frozen, samples: Sequence[Sample], rule: Rule, limit: int, doubtful: Sequence[Span] = ()
) -> tuple[list[ClosedHour], Frozen]:
    """Close every hour that ends at or before `limit` and that a sample has passed; the hours and the new frozen state.

    Without a sample at or after its end an hour stays open: it is never closed short (R6). An hour that lies in one of
    the `doubtful` spans, where energy may be missing that nobody can know, is `estimated` at best.
    """
    last = min(limit, reach(samples[-1], rule)) if samples else frozen.edge
    close = {"counter": _counter_hour, "interval": _interval_hour, "power": _power_hour}[rule.kind]
    hours = []
    boundary, quality = frozen.boundary, frozen.quality
    for hour in range(frozen.edge, last):
        closed = close(hour, boundary, quality, frozen, samples, rule)
        boundary, quality = closed.boundary, closed.boundary_quality
        if any(_overlaps(hour, span) for span in doubtful):
            closed = closed._replace(quality=weakest(closed.quality, "estimated"))
        hours.append(closed)
    if not hours:
        return [], frozen
    return hours, Frozen(last, boundary, quality, _tail(last, samples, frozen.tail), frozen.track)


def _overlaps(hour: int, span: Span) -> bool:
    return span[0] < (hour + 1) * HOUR_MS and span[1] > hour * HOUR_MS


def _tail(edge: int, samples: Sequence[Sample], before: Sample | None) -> Sample | None:
    """The newest sample at or before an edge."""
    end = bisect_right(samples, edge * HOUR_MS, key=_at)
    return samples[end - 1] if end else before


# --- counters --------------------------------------------------------------------------------------------------------


def _counter_hour(
    hour: int, boundary: int, quality: Quality, frozen: Frozen, samples: Sequence[Sample], rule: Rule
) -> ClosedHour:
    end, end_quality = _boundary(hour + 1, samples, frozen.tail, rule)
    return ClosedHour(hour, end - boundary, end, weakest(quality, end_quality), end_quality)


def _boundary(edge: int, samples: Sequence[Sample], tail: Sample | None, rule: Rule) -> tuple[int, Quality]:
    """A counter's value at an edge: the line between the neighbours, rounded once (reliability 2.7)."""
    at = edge * HOUR_MS
    index = bisect_left(samples, at, key=_at)
    right = samples[index]
    if right[0] == at:
        return right[1], "measured"
    left = samples[index - 1] if index else tail
    if left is None:
        raise AssertionError(f"edge {edge} has no sample before it")
    apart = right[0] - left[0]
    value = left[1] + round_half_up((right[1] - left[1]) * (at - left[0]), apart)
    if apart > SAME_PACE * rule.expected_every_ms:
        return value, "estimated"
    nearest = min(at - left[0], right[0] - at)
    return value, "measured" if nearest <= MEASURED_WITHIN_MS else "interpolated"


# --- interval sources ------------------------------------------------------------------------------------------------


def _interval_hour(
    hour: int, boundary: int, quality: Quality, frozen: Frozen, samples: Sequence[Sample], rule: Rule
) -> ClosedHour:
    del quality, frozen
    begin, end = hour * HOUR_MS, (hour + 1) * HOUR_MS
    energy, covered, split = 0, 0, False
    near = slice(
        bisect_left(samples, begin - rule.period_ms, key=_at), bisect_right(samples, end + rule.period_ms, key=_at)
    )
    for sample in samples[near]:
        start, stop = _period(sample, rule)
        lower, upper = max(start, begin), min(stop, end)
        if lower < upper:
            energy += _share(sample[1], upper - start, rule) - _share(sample[1], lower - start, rule)
            covered += upper - lower
            split = split or min(upper - lower, rule.period_ms - (upper - lower)) > MEASURED_WITHIN_MS
    graded = _grade(covered, split=split, enough=0)
    if rule.period_ms > HOUR_MS:
        graded = weakest(graded, "estimated")  # a day's energy says little of its hours
    return ClosedHour(hour, energy, boundary + energy, graded, "measured")


def _share(value: int, elapsed_ms: int, rule: Rule) -> int:
    """The energy of a period's first `elapsed_ms`: shares of neighbouring hours add up to the whole exactly."""
    return round_half_up(value * elapsed_ms, rule.period_ms)


def _period(sample: Sample, rule: Rule) -> tuple[int, int]:
    start = sample[0] if rule.stamp == "start" else sample[0] - rule.period_ms
    return start, start + rule.period_ms


# --- power -----------------------------------------------------------------------------------------------------------


def _power_hour(
    hour: int, boundary: int, quality: Quality, frozen: Frozen, samples: Sequence[Sample], rule: Rule
) -> ClosedHour:
    """Trapezoids between samples at most `max_gap_ms` apart, cut at the edges; a longer silence adds nothing (R11)."""
    del quality
    begin, end = hour * HOUR_MS, (hour + 1) * HOUR_MS
    energy, covered = Fraction(0), 0
    first = max(0, bisect_left(samples, begin, key=_at) - 1)
    left = samples[first - 1] if first else frozen.tail
    for right in samples[first : bisect_left(samples, end, key=_at) + 1]:
        if left is not None and right[0] - left[0] <= rule.max_gap_ms:
            lower, upper = max(left[0], begin), min(right[0], end)
            if lower < upper:
                energy += _trapezoid(left, right, lower, upper)
                covered += upper - lower
        left = right
    consumption = round_half_up(energy.numerator, energy.denominator)
    graded = _grade(covered, split=False, enough=MISSING_BELOW)
    if graded == "missing":
        consumption = 0
    return ClosedHour(hour, consumption, boundary + consumption, graded, "measured")


def _trapezoid(left: Sample, right: Sample, lower: int, upper: int) -> Fraction:
    """Energy in micro of the straight line between two samples of power (micro per hour), from `lower` to `upper`."""
    apart = right[0] - left[0]
    twice_mean = 2 * left[1] * apart + (right[1] - left[1]) * (lower + upper - 2 * left[0])
    return Fraction((upper - lower) * twice_mean, 2 * apart * HOUR_MS)


def _grade(covered_ms: int, *, split: bool, enough: Fraction | int) -> Quality:
    """How much to trust an hour of which so much is covered; `missing` when nothing is, or less than `enough` of it."""
    if covered_ms + MEASURED_WITHIN_MS >= HOUR_MS:
        return "interpolated" if split else "measured"
    return "missing" if covered_ms <= MEASURED_WITHIN_MS or covered_ms < enough * HOUR_MS else "estimated"


def _at(sample: Sample) -> int:
    return sample[0]
