"""Which readings of a counter are believed (R9)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer.counter import judge
from buffer.hours import Frozen, Rule, close_hours, open_meter, scan_after
from buffer.model import HOUR_MS, MICRO

FIRST = 480_000
MINUTE = 60_000
START = FIRST * HOUR_MS
RULE = Rule("counter", 10 * MINUTE)
BACKWARDS = "counter went backwards"
TOO_FAST = "faster than max_rate"


def series(*values: float, every: int = 10 * MINUTE, start: int = START):
    return [(start + number * every, round(value * MICRO)) for number, value in enumerate(values)]


def verdicts(judged) -> list[str]:
    return [reason for _, reason in judged.suspect]


def close_out(samples, frozen=None, *, max_rate=None, limit=FIRST + 10**6):
    """What the closer does with one meter: believe, open, close."""
    good = judge(samples, frozen, max_rate=max_rate).good
    frozen = frozen or open_meter(good, RULE, limit, 0)
    if frozen is None:
        return [], None
    return close_hours(frozen, [each for each in good if each[0] > scan_after(frozen.edge, RULE)], RULE, limit)


def test_a_rising_register_is_believed():
    samples = series(1000, 1004, 1004, 1010)
    assert judge(samples, None) == (samples, [])


@pytest.mark.parametrize("glitch", [0, 600, 1003.999999])
def test_a_single_reading_below_the_track_adds_nothing(glitch):
    """R9: one stray zero must not book a lifetime's total."""
    samples = series(1000, 1004, glitch, 1006, 1008, 1010, 1012)
    judged = judge(samples, None)
    assert verdicts(judged) == [BACKWARDS]
    hours, _ = close_out(samples)
    assert [row.consumption for row in hours] == [12 * MICRO]


def test_a_reading_above_max_rate_adds_nothing():
    samples = series(1000, 1004, 6553.5, 1006, 1008, 1010, 1012)
    assert verdicts(judge(samples, None, max_rate=60 * MICRO)) == [TOO_FAST]
    hours, _ = close_out(samples, max_rate=60 * MICRO)
    assert [row.consumption for row in hours] == [12 * MICRO]


def test_a_suspect_closes_nothing():
    """R6 with R9: the only reading past the edge is not believed, so the hour stays open."""
    samples = series(1000, 1004, 1006, 1008, 1010, 1012, 0)
    assert close_out(samples)[0] == []


def test_a_high_glitch_without_max_rate_holds_the_hours_open_and_books_nothing_negative():
    samples = series(1000, 1004, 6553.5, 1006, 1008, 1010, 1012, 1014)
    hours, _ = close_out(samples)
    assert hours == []
    assert verdicts(judge(samples, None)) == [BACKWARDS] * 5


def test_the_rate_counts_from_the_last_change_of_the_register():
    """A register of 10 kWh steps at 8 kWh/h moves every 75 minutes: no jump, before and after a frozen edge."""
    samples = series(*(10 * (minute * 8 // 600) for minute in range(6 * 60)), every=MINUTE)
    assert judge(samples, None, max_rate=9 * MICRO).suspect == []
    frozen, closed = None, []
    for upto in range(len(samples)):
        hours, after = close_out(
            [s for s in samples[:upto] if frozen is None or s[0] > frozen.edge * HOUR_MS], frozen, max_rate=9 * MICRO
        )
        frozen = after or frozen
        closed += hours
    assert frozen.edge == FIRST + 5
    assert sum(row.consumption for row in closed) == frozen.boundary == 40 * MICRO


def test_two_resolution_steps_are_allowed_on_top_of_the_rate():
    samples = series(0, 2, every=1000)
    assert verdicts(judge(samples, None, max_rate=MICRO)) == [TOO_FAST]
    assert verdicts(judge(samples, None, max_rate=MICRO, resolution=MICRO)) == []


def test_a_jump_becomes_good_once_the_rate_allows_it():
    """What was suspect stays out; a later reading of the same track carries its energy."""
    samples = series(0, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20)
    judged = judge(samples, None, max_rate=10 * MICRO)
    assert verdicts(judged) == [TOO_FAST] * 11
    assert judged.good == [samples[0], *samples[12:]]


def test_a_late_reading_that_lowers_the_track_takes_nothing_back():
    """A frozen boundary stays (R8); what reads below it is suspect until the register has passed it."""
    rate = 11 * MICRO
    before = [*series(0, 0, start=START - 10 * MINUTE), (START + HOUR_MS - MINUTE // 2, 10 * MICRO)]
    _, frozen = close_out(
        [before[0], before[1], (START + HOUR_MS + MINUTE, 11 * MICRO)], max_rate=rate, limit=FIRST + 1
    )
    assert frozen.boundary > 10 * MICRO
    late = [
        (START + HOUR_MS + MINUTE // 2, MICRO),
        (START + HOUR_MS + MINUTE, 11 * MICRO),
        (START + 2 * HOUR_MS, 2 * MICRO),
    ]
    hours, _ = close_out(late, frozen, max_rate=rate, limit=FIRST + 2)
    assert all(row.consumption >= 0 for row in hours)
    assert BACKWARDS in verdicts(judge(late, frozen, max_rate=rate))


values = st.lists(st.integers(0, 100) | st.sampled_from([0, 10**6, -1, 65535]), min_size=1, max_size=30)


@settings(deadline=None, max_examples=200)
@given(
    values, st.none() | st.integers(0, 100), st.lists(st.integers(0, 30), max_size=5), st.randoms(use_true_random=False)
)
def test_whatever_arrives_in_any_order_nothing_negative_is_booked_and_hours_telescope(values, max_rate, cuts, random):
    """R7, R9: glitches, resets and late readings, closed at any moments."""
    samples = [(START + number * 17 * MINUTE, value) for number, value in enumerate(values)]
    arriving = sorted(samples, key=lambda sample: sample[0] + random.randrange(60) * MINUTE)
    frozen: Frozen | None = None
    closed = []
    opening = None
    for cut in [*sorted(cuts), len(samples)]:
        seen = sorted(each for each in arriving[:cut] if frozen is None or each[0] > scan_after(frozen.edge, RULE))
        hours, after = close_out(seen, frozen, max_rate=max_rate)
        if after and opening is None:
            opening = hours[0].boundary - hours[0].consumption if hours else after.boundary
        frozen = after or frozen
        closed += hours
    assert all(row.consumption >= 0 for row in closed)
    assert [row.hour for row in closed] == list(range(closed[0].hour, frozen.edge)) if closed else True
    assert not closed or sum(row.consumption for row in closed) == frozen.boundary - opening


@settings(deadline=None, max_examples=200)
@given(values, st.none() | st.integers(0, 100), st.lists(st.integers(0, 30), max_size=5))
def test_in_order_the_judgement_does_not_depend_on_when_hours_are_closed(values, max_rate, cuts):
    """The frozen state carries all that the judgement needs of the past."""
    samples = [(START + number * 17 * MINUTE, value) for number, value in enumerate(values)]
    frozen, closed = None, []
    for cut in [*sorted(cuts), len(samples)]:
        seen = [each for each in samples[:cut] if frozen is None or each[0] > scan_after(frozen.edge, RULE)]
        hours, after = close_out(seen, frozen, max_rate=max_rate)
        frozen, closed = after or frozen, [*closed, *hours]
    assert (closed, frozen) == close_out(samples, max_rate=max_rate)
