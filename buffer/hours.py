"""From readings to hours: pure functions of readings and what is already frozen (DESIGN 5, reliability 3.2-3.4).

A *sample* is (milliseconds since the epoch, micro). Samples are sorted, one per instant, and later than `scan_after`
the frozen edge; the newest one at or before that edge is the `tail`. An *edge* is an hour number: the instant at which
that hour begins. Every value is an integer; each boundary and each hour of power is rounded exactly once.

What a counter used in a gap is known, only its shape is not. `gap` says where it goes: along the line (`spread`), into
the hour of `arrival`, or out of the hours that lie wholly in the gap (`hole`): they are missing, and what the line gives
them is *parked*. What is parked has left the total: the boundaries go on without it, until a person books it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from buffer.frozen import Frozen, Sample
from buffer.model import HOUR_MS, Kind, Quality, round_half_up, weakest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

Span = tuple[int, int]  # ms, ms

MEASURED_WITHIN_MS = 2_000  # nearer to the edge than this is at the edge: polls and stamps jitter
JITTER_SHARE = 10  # ... but never more than a tenth of an interval source's period
SAME_PACE = Fraction(3, 2)  # neighbours up to 1.5 x the expected pace apart are no gap (DESIGN 5)
ASKED_AFTER_MS = 31 * 24 * HOUR_MS  # a longer gap is for a person to decide (reliability 3.3)


@dataclass(frozen=True, slots=True)
class Rule:
    """How one meter's samples become hours. Times in ms.

    `expected_every_ms` is the source's pace. `max_gap_ms` bounds the silence that power is integrated over. `period_ms`
    and `stamp` describe an interval source's values. `gap`: what becomes of a counter's gap; None spreads it, and asks a
    person when it is longer than 31 days. `hold_ms`: the source reports when its value changes, and at the latest after
    this long: up to there its value holds. `late`: what becomes of energy that comes after its hour was closed.
    `max_rate` (micro per hour) and `net`, which allows negative values, say what an interval or power source may say;
    of a counter `CounterRule` knows.
    """

    kind: Kind
    expected_every_ms: int
    max_gap_ms: int = 60_000
    period_ms: int = 0
    stamp: Literal["start", "end"] = "end"
    gap: Literal["spread", "arrival", "hole"] | None = None
    hold_ms: int = 0
    late: Literal["delta", "next_hour", "alarm"] = "delta"
    max_rate: int | None = None
    net: bool = False


class ClosedHour(NamedTuple):
    """One hour [hour, hour + 1) of one meter; `boundary` is the value at its end. Never altered afterwards (R8).

    `covered_ms`: how much of it the samples tell, None for counters. `parked`: what was used in a hole.
    """

    hour: int
    consumption: int
    boundary: int
    quality: Quality
    boundary_quality: Quality
    covered_ms: int | None = None
    parked: int = 0


class _Before(NamedTuple):
    """What an hour goes on from. `parked`: what left the total since the frozen edge, where the samples still have it."""

    boundary: int
    quality: Quality
    tail: Sample | None
    parked: int


def implausible(value: int, rule: Rule) -> str:
    """Why a value cannot be what a source said; "" when it can (R9). How fast a counter rises only its next reading tells.

    -1 is what many a counter says that has nothing to say.
    """
    if value < 0 and (rule.kind == "counter" or not rule.net):
        return "negative"
    if rule.kind == "counter":
        return ""
    hours_ms = rule.period_ms if rule.kind == "interval" else HOUR_MS
    if rule.max_rate is not None and abs(value) * HOUR_MS > rule.max_rate * hours_ms:
        return "more than max_rate allows"
    return ""


def first_edge(first: Sample, rule: Rule) -> int:
    """The first edge that a meter's first sample can open: the hour it falls into is partial and never closed."""
    start = _period(first, rule)[0] if rule.kind == "interval" else first[0]
    return -(-start // HOUR_MS)


def reach(sample: Sample, rule: Rule) -> int:
    """The newest edge that a sample passes: hours that end there or before need nothing later than it."""
    late = rule.period_ms if rule.kind == "interval" and rule.stamp == "start" else 0
    return (sample[0] + late) // HOUR_MS


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
        return Frozen(edge, start_value, "measured", _tail(edge, samples, None, rule))
    left, right = _around(edge * HOUR_MS, samples, None)
    return Frozen(edge, *_value_at(edge * HOUR_MS, left, right, rule), _tail(edge, samples, None, rule))


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
    before = _Before(frozen.boundary, frozen.quality, frozen.tail, 0)
    for hour in range(frozen.edge, last):
        closed = close(hour, before, samples, rule)
        before = _Before(closed.boundary, closed.boundary_quality, frozen.tail, before.parked + closed.parked)
        if any(_overlaps(hour, span) for span in doubtful):
            closed = closed._replace(quality=weakest(closed.quality, "estimated"))
        hours.append(closed)
    if not hours:
        return [], frozen
    tail = _tail(last, samples, frozen.tail, rule)
    if tail and before.parked:
        tail = (tail[0], tail[1] - before.parked)
    track = frozen.track.without(before.parked) if frozen.track else None
    return hours, Frozen(last, before.boundary, before.quality, tail, track)


def _overlaps(hour: int, span: Span) -> bool:
    return span[0] < (hour + 1) * HOUR_MS and span[1] > hour * HOUR_MS


def _tail(edge: int, samples: Sequence[Sample], before: Sample | None, rule: Rule) -> Sample | None:
    """The newest sample at or before an edge; a period has no neighbour that its hour would need."""
    if rule.kind == "interval":
        return None
    end = bisect_right(samples, edge * HOUR_MS, key=_at)
    return samples[end - 1] if end else before


# --- counters --------------------------------------------------------------------------------------------------------


def gaps(tail: Sample | None, samples: Sequence[Sample], rule: Rule) -> Iterator[tuple[Sample, Sample]]:
    """The gaps of a counter that have an edge in them: the samples before and after each."""
    if rule.kind != "counter":
        return
    longest = _longest(rule)
    for left, right in pairwise([tail, *samples] if tail else samples):
        if right[0] - left[0] > longest and (left[0] // HOUR_MS + 1) * HOUR_MS < right[0]:
            yield left, right


def question(
    tail: Sample | None, samples: Sequence[Sample], rule: Rule, answered: Collection[int] = ()
) -> tuple[Sample, Sample] | None:
    """The first gap that only a person can decide about: no edge in it may be frozen. Where nothing was used, none.

    `answered`: the instants (ms) at which a person said what the register was; a gap that begins or ends there is decided.
    """
    if rule.gap is not None:
        return None
    for left, right in gaps(tail, samples, rule):
        long = right[0] - left[0] > ASKED_AFTER_MS and right[1] != left[1]
        if long and left[0] not in answered and right[0] not in answered:
            return left, right
    return None


def _counter_hour(hour: int, before: _Before, samples: Sequence[Sample], rule: Rule) -> ClosedHour:
    begin, end = hour * HOUR_MS, (hour + 1) * HOUR_MS
    left, right = _around(end, samples, before.tail)
    value, quality = _value_at(end, left, right, rule)
    value = max(value - before.parked, before.boundary)  # a frozen boundary is never taken back (R8)
    if rule.gap == "hole" and left and _is_gap(left, right, rule) and _within(begin, end, left, right):
        return ClosedHour(hour, 0, before.boundary, "missing", quality, parked=value - before.boundary)
    return ClosedHour(hour, value - before.boundary, value, weakest(before.quality, quality), quality)


def _around(at: int, samples: Sequence[Sample], tail: Sample | None) -> tuple[Sample | None, Sample]:
    """The samples before an instant, and at or after it."""
    index = bisect_left(samples, at, key=_at)
    return samples[index - 1] if index else tail, samples[index]


def _value_at(at: int, left: Sample | None, right: Sample, rule: Rule) -> tuple[int, Quality]:
    """A counter's value at an edge: the line between the neighbours, rounded once (reliability 2.7)."""
    if right[0] == at:
        return right[1], "measured"
    if left is None:
        raise AssertionError(f"the edge at {at} ms has no sample before it")
    if right[0] - left[0] <= rule.hold_ms:
        return left[1], "measured"  # a change would have been reported
    gap = _is_gap(left, right, rule)
    if gap and rule.gap == "arrival":
        return left[1], "estimated"
    value = left[1] + round_half_up((right[1] - left[1]) * (at - left[0]), right[0] - left[0])
    if gap:
        return value, "estimated"
    nearest = min(at - left[0], right[0] - at)
    return value, "measured" if nearest <= MEASURED_WITHIN_MS else "interpolated"


def _is_gap(left: Sample, right: Sample, rule: Rule) -> bool:
    """Whether a source was silent for longer than it should have been."""
    return right[0] - left[0] > _longest(rule)


def _longest(rule: Rule) -> int:
    """How far apart (ms) two samples may be that have no gap between them."""
    return max(rule.hold_ms, int(SAME_PACE * rule.expected_every_ms))


def _within(begin: int, end: int, left: Sample, right: Sample) -> bool:
    """Whether an hour lies wholly in a gap; where both its boundaries are known, its energy is."""
    return left[0] <= begin and end <= right[0] and (left[0], right[0]) != (begin, end)


# --- interval sources ------------------------------------------------------------------------------------------------


def shares(sample: Sample, rule: Rule, first: int, last: int) -> list[tuple[int, int]]:
    """What a period gives to each of the hours in [first, last) that it touches."""
    start, stop = _period(sample, rule)
    touched = range(max(first, start // HOUR_MS), min(last, -(-stop // HOUR_MS)))
    return [(hour, _share(sample, hour, rule)) for hour in touched]


def _interval_hour(hour: int, before: _Before, samples: Sequence[Sample], rule: Rule) -> ClosedHour:
    begin, end = hour * HOUR_MS, (hour + 1) * HOUR_MS
    energy, covered, split = 0, 0, False
    most = rule.period_ms + MEASURED_WITHIN_MS
    for sample in samples[bisect_left(samples, begin - most, key=_at) : bisect_right(samples, end + most, key=_at)]:
        start, stop = _period(sample, rule)
        inside = min(stop, end) - max(start, begin)
        if inside > 0:
            energy += _share(sample, hour, rule)
            covered += inside
            split = split or min(inside, stop - start - inside) > MEASURED_WITHIN_MS
    quality: Quality = "interpolated" if split else "measured"
    if covered + MEASURED_WITHIN_MS < HOUR_MS:
        quality = "estimated" if covered else "missing"
    elif rule.period_ms > HOUR_MS:
        quality = "estimated"  # a day's energy says little of its hours
    return ClosedHour(hour, energy, before.boundary + energy, quality, "measured", min(covered, HOUR_MS))


def _share(sample: Sample, hour: int, rule: Rule) -> int:
    """A period's part in an hour, by time: the shares of neighbouring hours add up to the whole exactly."""
    start, stop = _period(sample, rule)

    def until(at: int) -> int:
        return round_half_up(sample[1] * (min(max(at, start), stop) - start), stop - start)

    return until((hour + 1) * HOUR_MS) - until(hour * HOUR_MS)


def _period(sample: Sample, rule: Rule) -> Span:
    """The period of a sample. An end that jitters around an edge is at the edge: no hour gets a second of it."""
    start = sample[0] if rule.stamp == "start" else sample[0] - rule.period_ms
    return _steadied(start, rule), _steadied(start + rule.period_ms, rule)


def _steadied(at: int, rule: Rule) -> int:
    edge = (at + HOUR_MS // 2) // HOUR_MS * HOUR_MS
    return edge if abs(at - edge) <= min(MEASURED_WITHIN_MS, rule.period_ms // JITTER_SHARE) else at


# --- power -----------------------------------------------------------------------------------------------------------


def power_of(hour: int, before: Sample | None, samples: Sequence[Sample], rule: Rule) -> tuple[int, int, Quality]:
    """An hour's energy (micro), the milliseconds it is known of, and how well. `before`: the sample before the first.

    Trapezoids between samples at most `max_gap_ms` apart, cut at the edges; where `hold_ms` is set, each value holds to
    the next one at most that far away. A longer silence adds nothing (R11): when in it the source died, nobody knows.
    """
    begin, end = hour * HOUR_MS, (hour + 1) * HOUR_MS
    longest = rule.hold_ms or rule.max_gap_ms
    doubled, cut, covered = 0, Fraction(0), 0  # energy in micro x ms, twice: only what an edge cuts needs a division
    first = max(0, bisect_left(samples, begin, key=_at) - 1)
    left = samples[first - 1] if first else before
    for right in samples[first : bisect_left(samples, end, key=_at) + 1]:
        if left is not None and right[0] - left[0] <= longest:
            lower, upper = max(left[0], begin), min(right[0], end)
            if lower < upper:
                covered += upper - lower
                if rule.hold_ms:
                    doubled += 2 * left[1] * (upper - lower)
                elif (lower, upper) == (left[0], right[0]):
                    doubled += (left[1] + right[1]) * (upper - lower)
                else:
                    cut += _doubled(left, right, lower, upper)
        left = right
    if 2 * covered < HOUR_MS:
        return 0, covered, "missing"
    energy = (doubled + cut) / (2 * HOUR_MS)
    quality: Quality = "measured" if covered == HOUR_MS else "estimated"
    return round_half_up(energy.numerator, energy.denominator), covered, quality


def _power_hour(hour: int, before: _Before, samples: Sequence[Sample], rule: Rule) -> ClosedHour:
    consumption, covered, quality = power_of(hour, before.tail, samples, rule)
    return ClosedHour(hour, consumption, before.boundary + consumption, quality, "measured", covered)


def _doubled(left: Sample, right: Sample, lower: int, upper: int) -> Fraction:
    """Twice the area (micro x ms) under the straight line between two samples of power, from `lower` to `upper`."""
    apart = right[0] - left[0]
    twice_mean = 2 * left[1] * apart + (right[1] - left[1]) * (lower + upper - 2 * left[0])
    return Fraction((upper - lower) * twice_mean, apart)


def _at(sample: Sample) -> int:
    return sample[0]
