"""From readings to hours: exact against a slow reference, the same in one go and step by step, never short."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer.frozen import Frozen, Sample
from buffer.hours import ClosedHour, Rule, close_hours, first_edge, gaps, open_meter, question, reach, scan_after
from buffer.model import HOUR_MS, MICRO, round_half_up

FIRST = 480_000  # the hour in which the tests take place
MINUTE = 60_000
FAR = FIRST + 10**6
COUNTER = Rule("counter", MINUTE)
QUARTERS = Rule("interval", 15 * MINUTE, period_ms=15 * MINUTE)
POWER = Rule("power", MINUTE, max_gap_ms=5 * MINUTE)


def at(hours: float, value: float) -> Sample:
    """A sample so many hours after FIRST, its value in whole units."""
    return FIRST * HOUR_MS + round(hours * HOUR_MS), round(value * MICRO)


def close_out(samples: list[Sample], rule: Rule, *, cuts=(), limit: int = FAR, start_value: int = 0):
    """What the closer does, each time the first `cut` samples have arrived, and once more with all of them."""
    hours: list[ClosedHour] = []
    frozen: Frozen | None = None
    for cut in [*sorted(cuts), len(samples)]:
        frozen = frozen or open_meter(samples[:cut], rule, limit, start_value)
        if frozen:
            later = [sample for sample in samples[:cut] if sample[0] > scan_after(frozen.edge, rule)]
            new, frozen = close_hours(frozen, later, rule, limit)
            hours += new
    return hours, frozen


# --- the slow reference: the whole history in memory, exact fractions -------------------------------------------------


def true_register(samples: list[Sample], edge: int) -> Fraction:
    """The value at an edge on the line through all samples."""
    instant = edge * HOUR_MS
    for left, right in pairwise(samples):
        if left[0] <= instant <= right[0]:
            return left[1] + Fraction((right[1] - left[1]) * (instant - left[0]), right[0] - left[0])
    assert samples[0][0] == instant
    return Fraction(samples[0][1])


def true_energy(samples: list[Sample], hour: int, max_gap: int) -> tuple[Fraction, int]:
    """The integral of power over an hour and the milliseconds that it covers."""
    energy, covered = Fraction(0), 0
    for (t0, p0), (t1, p1) in pairwise(samples):
        lower, upper = max(t0, hour * HOUR_MS), min(t1, (hour + 1) * HOUR_MS)
        if lower < upper and t1 - t0 <= max_gap:
            slope = Fraction(p1 - p0, t1 - t0)
            middle = p0 + slope * (Fraction(lower + upper, 2) - t0)
            energy += middle * (upper - lower) / HOUR_MS
            covered += upper - lower
    return energy, covered


instants = st.lists(st.integers(0, 5 * HOUR_MS), min_size=1, max_size=40, unique=True).map(sorted)
cuts = st.lists(st.integers(0, 40), max_size=6)


@st.composite
def registers(draw):
    """An ever-rising register read at any instants, some of them exactly on an edge."""
    times = draw(instants)
    if draw(st.booleans()):
        times = sorted({*times, draw(st.integers(0, 5)) * HOUR_MS})
    value = draw(st.integers(0, 10**15))
    samples = []
    for time in times:
        value += draw(st.integers(0, 10**10) | st.integers(0, 3))
        samples.append((FIRST * HOUR_MS + time, value))
    return samples


@st.composite
def powers(draw):
    return [(FIRST * HOUR_MS + time, draw(st.integers(-(10**10), 10**10))) for time in draw(instants)]


@st.composite
def periods(draw):
    """Energies of an interval source, with holes, some off the hour, some longer than an hour."""
    rule = Rule("interval", MINUTE, period_ms=draw(st.sampled_from([5, 15, 50, 60, 150])) * MINUTE)
    rule = Rule(
        rule.kind, rule.expected_every_ms, period_ms=rule.period_ms, stamp=draw(st.sampled_from(["start", "end"]))
    )
    offset = draw(st.sampled_from([0, 7 * MINUTE, 1]))
    numbers = draw(st.lists(st.integers(0, 24), min_size=1, max_size=24, unique=True).map(sorted))
    samples = [
        (FIRST * HOUR_MS + offset + number * rule.period_ms, draw(st.integers(-100, 10**12))) for number in numbers
    ]
    return rule, samples


@settings(deadline=None, max_examples=200)
@given(registers())
def test_counter_hours_equal_exact_interpolation_rounded_once_and_telescope(samples):
    """R7: the boundaries are the reference's, so every sum of hours is a difference of two boundaries."""
    hours, frozen = close_out(samples, COUNTER)
    opening, last = -(-samples[0][0] // HOUR_MS), samples[-1][0] // HOUR_MS
    if last < opening:
        assert (hours, frozen) == ([], None)
        return
    edges = {edge: true_register(samples, edge) for edge in range(opening, last + 1)}
    rounded = {edge: round_half_up(value.numerator, value.denominator) for edge, value in edges.items()}
    assert [row.hour for row in hours] == list(range(opening, last))
    assert all(row.boundary == rounded[row.hour + 1] for row in hours)
    assert all(row.consumption == rounded[row.hour + 1] - rounded[row.hour] >= 0 for row in hours)
    assert sum(row.consumption for row in hours) == frozen.boundary - rounded[opening]


@settings(deadline=None, max_examples=200)
@given(powers())
def test_power_hours_equal_the_exact_integral_rounded_once(samples):
    """R11: nothing is added across a silence, and an hour known less than half is missing."""
    hours, frozen = close_out(samples, POWER, start_value=5)
    total = 5
    for row in hours:
        energy, covered = true_energy(samples, row.hour, POWER.max_gap_ms)
        missing = covered * 2 < HOUR_MS
        assert row.consumption == (0 if missing else round_half_up(energy.numerator, energy.denominator))
        assert (row.quality == "missing") == missing
        total += row.consumption
        assert row.boundary == total
    assert frozen is None or frozen.boundary == total


@settings(deadline=None, max_examples=200)
@given(periods())
def test_the_shares_of_every_period_add_up_to_the_period_exactly(case):
    """R7 for interval sources: what lies wholly within closed hours is in their sum, to the last micro."""
    rule, samples = case
    hours, frozen = close_out(samples, rule)
    if not hours:
        return
    begin, end = hours[0].hour * HOUR_MS, frozen.edge * HOUR_MS
    early = 0 if rule.stamp == "start" else rule.period_ms

    def steady(instant: int) -> int:
        """Two seconds around an edge are the edge."""
        edge = round(Fraction(instant, HOUR_MS)) * HOUR_MS
        return edge if abs(instant - edge) <= 2000 else instant

    spans = [(steady(time - early), steady(time - early + rule.period_ms), value) for time, value in samples]

    def until(instant: int) -> int:
        """The energy up to an instant: whole periods whole, the one under way by time and rounded."""
        shares = [(min(max(instant - start, 0), stop - start), stop - start, value) for start, stop, value in spans]
        return sum(round_half_up(value * part, length) for part, length, value in shares)

    assert sum(row.consumption for row in hours) == until(end) - until(begin)
    assert [row.hour for row in hours] == list(range(hours[0].hour, frozen.edge))


@settings(deadline=None, max_examples=200)
@given(registers() | powers().map(tuple) | periods(), cuts)
def test_step_by_step_gives_the_same_hours_as_in_one_go(case, cuts):
    """R8: when the closer happens to run changes nothing."""
    rule, samples = case if isinstance(case, tuple) and isinstance(case[0], Rule) else (None, list(case))
    for each in [rule] if rule else [COUNTER, POWER]:
        if each is COUNTER and any(right[1] < left[1] for left, right in pairwise(samples)):
            continue
        assert close_out(samples, each, cuts=cuts) == close_out(samples, each)


@settings(deadline=None, max_examples=100)
@given(registers(), st.integers(FIRST - 1, FIRST + 7))
def test_no_hour_closes_before_a_sample_reaches_its_end_or_beyond_the_limit(samples, limit):
    """R6: an hour stays open rather than being closed short."""
    hours, frozen = close_out(samples, COUNTER, limit=limit)
    assert all((row.hour + 1) * HOUR_MS <= samples[-1][0] for row in hours)
    assert all(row.hour + 1 <= limit for row in hours)
    assert frozen is None or frozen.edge <= limit


@pytest.mark.parametrize(("kind", "value", "hourly"), [("counter", 1, 4), ("interval", 0, 4), ("power", 0, 1)])
def test_three_years_of_backlog_close_in_one_pass(kind, value, hourly):
    """26 280 hours; anything quadratic takes many minutes and meets the timeout."""
    rule = Rule(kind, 15 * MINUTE, max_gap_ms=15 * MINUTE, period_ms=15 * MINUTE)
    samples = [at(number / 4, number * value or 1) for number in range(3 * 8760 * 4 + 1)]
    hours, frozen = close_out([at(0, 0), *samples[1:]] if value else samples, rule)
    assert frozen.edge == FIRST + 3 * 8760
    assert [row.consumption for row in hours] == [hourly * MICRO] * (3 * 8760)


# --- particular cases -------------------------------------------------------------------------------------------------


def test_the_first_hour_is_partial_and_never_closed():
    assert first_edge(at(0.25, 1), COUNTER) == FIRST + 1
    assert first_edge(at(0, 1), COUNTER) == FIRST
    assert open_meter([], COUNTER, FAR, 0) is None
    assert open_meter([at(0.25, 1), at(0.75, 2)], COUNTER, FAR, 0) is None
    assert open_meter([at(0.25, 1), at(1.75, 2)], COUNTER, FIRST, 0) is None


def test_an_open_meter_without_news_stays_as_it_is():
    frozen = Frozen(FIRST, 7, "measured", at(0, 7))
    assert close_hours(frozen, [], COUNTER, FAR) == ([], frozen)


def test_an_hour_takes_the_weakest_of_its_two_boundaries():
    """R11: near the edge is measured, between neighbours at the usual pace interpolated, across a gap estimated."""
    samples = [at(0, 0), at(0.99, 1), at(1.0005, 2), at(1.99, 3), at(2.001, 4), at(4.5, 5)]
    hours, _ = close_out(samples, COUNTER)
    assert [row.quality for row in hours] == ["measured", "interpolated", "estimated", "estimated"]
    assert [row.boundary_quality for row in hours] == ["measured", "interpolated", "estimated", "estimated"]


def test_a_gap_over_edges_is_spread_in_time_and_loses_nothing():
    hours, _ = close_out([at(0, 0), at(0.5, 1), at(3.5, 7), at(4, 7)], COUNTER)
    assert [row.consumption for row in hours] == [2 * MICRO, 2 * MICRO, 2 * MICRO, 1 * MICRO]
    assert [row.quality for row in hours] == ["estimated", "estimated", "estimated", "estimated"]


def test_the_pace_of_the_source_says_what_a_gap_is():
    """A source that reports every three hours has no gaps, and its hours are not estimates."""
    hours, _ = close_out([at(0, 0), at(3.1, 3), at(6, 6)], Rule("counter", 3 * HOUR_MS))
    assert {row.quality for row in hours[1:-1]} == {"interpolated"}


def test_a_late_sample_before_the_frozen_edge_changes_nothing():
    """R8: what was frozen stays; the late reading is no input of any later hour."""
    hours, frozen = close_out([at(0, 0), at(0.9, 9), at(1.1, 11)], COUNTER)
    late = [at(0.95, 9.2), at(1.1, 11), at(2, 20)]
    inputs = [sample for sample in late if sample[0] > scan_after(frozen.edge, COUNTER)]
    more, _ = close_hours(frozen, inputs, COUNTER, FAR)
    assert sum(row.consumption for row in [*hours, *more]) == 20 * MICRO


def test_the_tail_is_the_newest_sample_up_to_the_frozen_edge():
    _, frozen = close_out([at(0, 1), at(0.2, 5), at(1.5, 5), at(2.5, 5), at(2.6, 6)], COUNTER)
    assert frozen.tail == at(1.5, 5)


def test_an_hour_in_doubt_is_estimated_at_best():
    """R11: where energy may be missing that nobody can know, no hour is called measured."""
    samples = [at(0, 0), at(1, 1), at(2, 2), at(3, 3), at(4, 4)]
    frozen = open_meter(samples, COUNTER, FAR, 0)
    hours, _ = close_hours(frozen, samples[1:], COUNTER, FAR, [(at(1.2, 0)[0], at(2.1, 0)[0])])
    assert [row.quality for row in hours] == ["measured", "estimated", "estimated", "measured"]
    hours, _ = close_hours(frozen, samples[1:], COUNTER, FAR, [(at(1, 0)[0], at(2, 0)[0])])
    assert [row.quality for row in hours] == ["measured", "estimated", "measured", "measured"]


def test_interval_hours_without_data_are_missing_and_partly_covered_ones_estimated():
    """An hour in which nothing was said is not an hour in which nothing was used."""
    samples = [at(0.25 * quarter, 1) for quarter in [1, 2, 3, 4, 5, 6, 17, 18, 19, 20]]
    hours, _ = close_out(samples, QUARTERS)
    assert [row.quality for row in hours] == ["measured", "estimated", "missing", "missing", "measured"]
    assert [row.consumption // MICRO for row in hours] == [4, 2, 0, 0, 4]


def test_a_period_across_an_edge_is_split_by_time():
    hours, _ = close_out([at(0.1 + 0.25 * number, 1) for number in range(1, 12)], QUARTERS)
    assert {row.consumption for row in hours} == {4 * MICRO}
    assert {row.quality for row in hours} == {"interpolated"}


def test_jitter_of_a_second_is_no_split_and_no_hole():
    jitter = [0.4, -0.6, 0.2, 0.9, -0.3, 0.7, -0.8, 0.1]
    samples = [at(0.25 * (n + 1) + jitter[n % 8] / 3600, 1) for n in range(-1, 9)]
    hours, _ = close_out(samples, QUARTERS)
    assert [row.quality for row in hours] == ["measured", "measured"]


def test_a_second_of_jitter_into_a_silent_hour_does_not_make_it_known():
    hours, _ = close_out([*(at(0.25 * n + 1 / 3600, 1) for n in range(5)), at(4, 1)], QUARTERS)
    assert [row.quality for row in hours] == ["measured", "missing", "missing", "estimated"]


def test_an_hour_that_begins_with_a_second_of_jitter_is_a_whole_one():
    hours, _ = close_out([at(0.25 * n + 1 / 3600, 1) for n in range(1, 6)], QUARTERS)
    assert [(row.hour, row.consumption, row.quality) for row in hours] == [(FIRST, 4 * MICRO, "measured")]


def test_one_period_across_an_edge_is_enough_to_be_no_measurement():
    """R11: the weakest part counts, also where a source has found back to the full hour."""
    hours, _ = close_out([at(hour, 1) for hour in (0.75, 1.1, 1.35, 1.6, 1.85, 2)], QUARTERS)
    assert hours[-1].quality == "interpolated"


def test_a_day_in_one_value_is_an_estimate_of_its_hours():
    hours, _ = close_out([at(24, 24), at(48, 48)], Rule("interval", 24 * HOUR_MS, period_ms=24 * HOUR_MS))
    assert [row.consumption for row in hours] == [MICRO] * 24 + [2 * MICRO] * 24
    assert {row.quality for row in hours} == {"estimated"}


@pytest.mark.parametrize(("stamp", "last"), [("start", 1.75), ("end", 2.0)])
def test_a_period_closes_the_hour_that_it_ends_in(stamp, last):
    rule = Rule("interval", 15 * MINUTE, period_ms=15 * MINUTE, stamp=stamp)
    early = 0.25 if stamp == "start" else 0
    samples = [at(0.25 * n - early, 1) for n in range(5, 9)]
    assert samples[-1] == at(last, 1)
    assert reach(samples[-1], rule) == FIRST + 2
    hours, _ = close_out(samples, rule)
    assert [(row.hour, row.consumption, row.quality) for row in hours] == [(FIRST + 1, 4 * MICRO, "measured")]


def test_a_period_that_began_before_the_frozen_edge_still_counts_after_it():
    rule = Rule("interval", 15 * MINUTE, period_ms=15 * MINUTE, stamp="start")
    samples = [at(0.1 + 0.25 * number, 1) for number in range(12)]
    for cut in range(1, 12):
        assert close_out(samples, rule, cuts=[cut]) == close_out(samples, rule)


def test_power_adds_nothing_across_a_silence():
    """R11: forty covered minutes are an estimate of the hour, twenty are not."""
    busy = [at(minute / 60, 6) for minute in range(121)]
    hours, _ = close_out([s for s in busy if not at(40 / 60, 0)[0] < s[0] < at(1, 0)[0]], POWER)
    assert [(row.consumption, row.quality) for row in hours] == [(4 * MICRO, "estimated"), (6 * MICRO, "measured")]
    hours, _ = close_out([s for s in busy if not at(20 / 60, 0)[0] < s[0] < at(1, 0)[0]], POWER)
    assert [(row.consumption, row.quality) for row in hours] == [(0, "missing"), (6 * MICRO, "measured")]


# --- gaps -------------------------------------------------------------------------------------------------------------

GAP = [at(0, 0), at(0.3, 3), at(3.25, 9), at(3.5, 10), at(4.5, 14)]


@pytest.mark.parametrize(
    ("gap", "hours", "qualities"),
    [
        ("spread", [4.423729, 2.033898, 2.033898, 3.508475], ["estimated"] * 4),
        ("arrival", [3, 0, 0, 9], ["estimated"] * 4),
        ("hole", [4.423729, 0, 0, 3.508475], ["estimated", "missing", "missing", "estimated"]),
    ],
)
def test_a_gap_goes_where_the_operator_wants_it(gap, hours, qualities):
    """Reliability 3.3: along the line, all into the hour of its end, or into no hour: then it is parked, to the micro."""
    closed, frozen = close_out(GAP, Rule("counter", 40 * MINUTE, gap=gap))
    assert [row.consumption / MICRO for row in closed] == hours
    assert [row.quality for row in closed] == qualities
    parked = sum(row.parked for row in closed)
    assert parked == (4_067_796 if gap == "hole" else 0)
    assert sum(row.consumption for row in closed) + parked == 12 * MICRO
    assert frozen.boundary == sum(row.consumption for row in closed)


def test_an_hour_whose_two_boundaries_are_known_is_no_hole():
    """Its energy is known, whatever happened within it; and a hole of whole hours ends where they end."""
    samples = [at(0, 0), at(1, 2), at(3, 6), at(4, 7)]
    hours, _ = close_out(samples, Rule("counter", 10 * MINUTE, gap="hole"))
    assert [(row.consumption // MICRO, row.quality) for row in hours] == [
        (2, "measured"), (0, "missing"), (0, "missing"), (1, "measured"),
    ]  # fmt: skip
    assert sum(row.parked for row in hours) == 4 * MICRO


def test_another_word_about_gaps_takes_no_frozen_boundary_back():
    """R8: half of a gap was spread and frozen, then the operator wanted all of it at its end."""
    spread, arrival = Rule("counter", 40 * MINUTE, gap="spread"), Rule("counter", 40 * MINUTE, gap="arrival")
    frozen = open_meter(GAP, spread, FIRST + 2, 0)
    first, frozen = close_hours(frozen, GAP[1:], spread, FIRST + 2)
    then, _ = close_hours(frozen, GAP[2:], arrival, FAR)
    assert [row.consumption >= 0 for row in [*first, *then]] == [True] * 4
    assert sum(row.consumption for row in [*first, *then]) == 12 * MICRO


def test_a_source_that_reports_changes_stands_still_between_them():
    """DESIGN 5: held up to its keep-alive; at the very instant of a change it has changed."""
    rule = Rule("counter", 10 * MINUTE, hold_ms=75 * MINUTE)
    hours, _ = close_out([at(0, 1), at(0.5, 2), at(1.75, 5), at(2, 6), at(3.2, 6), at(4.5, 19)], rule)
    assert [row.boundary / MICRO for row in hours] == [2, 6, 6, 14]
    assert [row.quality for row in hours] == ["measured", "measured", "measured", "estimated"]


def test_only_a_long_gap_of_a_counter_is_a_question():
    """Reliability 3.3: more than 31 days; what the operator has decided, or a person has said, is none."""
    days = 24.0
    samples = [at(0, 0), at(1, 1), at(31 * days + 1, 2), at(63 * days, 3), at(95.5 * days, 4), at(130 * days, 4)]
    asked = question(None, samples, COUNTER)
    assert asked == (samples[2], samples[3])
    assert question(samples[2], samples[3:], COUNTER) == asked
    assert question(None, samples, COUNTER, {samples[2][0]}) == (samples[3], samples[4])
    assert question(None, samples, COUNTER, {samples[3][0]}) is None
    assert question(None, samples, Rule("counter", MINUTE, gap="spread")) is None
    assert question(None, samples, Rule("counter", 30 * 24 * 60 * MINUTE)) is None
    assert question(None, samples, POWER) is None


def test_gaps_within_an_hour_are_of_no_interest():
    """What was used in them is known to lie in it."""
    rule = Rule("counter", 10 * MINUTE)
    samples = [at(0, 0), at(0.9, 1), at(1, 1), at(1.9, 2), at(2.1, 3), at(3.01, 4)]
    assert list(gaps(None, samples, rule)) == [(samples[4], samples[5])]
    assert list(gaps(at(-0.5, 0), samples[:1], rule)) == []
    assert list(gaps(at(-0.5, 0), samples[1:2], rule)) == [(at(-0.5, 0), samples[1])]
