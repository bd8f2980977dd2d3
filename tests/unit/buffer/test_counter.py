"""What a counter's readings mean: energy is counted once, never invented (R7, R9; DESIGN 5)."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from buffer.counter import BACKWARDS, HELD, TOO_FAST, CounterRule, Epoch, judge
from buffer.frozen import Frozen
from buffer.hours import Rule, close_hours, open_meter, scan_after
from buffer.model import HOUR_MS, MICRO, MINUTE_MS

FIRST = 480_000
START = FIRST * HOUR_MS
RULE = Rule("counter", 10 * MINUTE_MS)
KW60 = 60 * MICRO


def series(*values: float, every: int = 10 * MINUTE_MS, start: int = START):
    return [(start + number * every, round(value * MICRO)) for number, value in enumerate(values)]


def energy(judged) -> float:
    return (judged.good[-1][1] - judged.good[0][1]) / MICRO


def kinds(judged) -> list[str]:
    return [verdict.kind for verdict in judged.verdicts]


def close_out(samples, frozen=None, *, rule=CounterRule(), limit=FIRST + 10**6, epochs=()):  # noqa: B008
    """What the closer does with one meter: believe, open, close."""
    judged = judge(samples, frozen, rule, epochs)
    opened = frozen or open_meter(judged.good, RULE, limit, 0)
    if opened is None:
        return [], None
    later = [each for each in judged.good if each[0] > scan_after(opened.edge, RULE)]
    hours, after = close_hours(opened, later, RULE, limit, judged.doubtful)
    return hours, after._replace(track=judged.track_at(after.edge * HOUR_MS, opened.track))


# --- the series that every meter gateway meets ------------------------------------------------------------------------


class Case(NamedTuple):
    name: str
    samples: list
    rule: CounterRule
    energy: float  # kWh that the meter really counted, or what may be known of it
    verdicts: tuple[str, ...] = ()
    suspect: str = ""


PLAIN = CounterRule(KW60)
STEPS = CounterRule(9 * MICRO, 10 * MICRO)
TEN = (1000, 1004, 1010)
CASES = [
    Case("a register that rises", series(*TEN), PLAIN, 10),
    Case("one reading of 0", series(1000, 1004, 0, 1010), PLAIN, 10, ("glitch",)),
    Case("one torn reading of 600", series(1000, 1004, 600, 1010), PLAIN, 10, ("glitch",)),
    Case("a dip within the noise band", series(1000, 1004, 1003.5, 1010), CounterRule(KW60, MICRO // 4), 10),
    Case("one high glitch", series(1000, 1004, 6553.5, 1010), PLAIN, 10, ("glitch",)),
    Case("one high glitch, no max_rate", series(1000, 1004, 6553.5, 1006, 1010, 1010), CounterRule(), 10, ("glitch",)),
    Case("a reset to 0, then growth", series(1000, 1004, 0, 2, 5, 7), CounterRule(KW60, reset="zero"), 11, ("reset",)),
    Case(
        "a 10 kWh register polled every minute at 8 kWh/h",
        series(*(10 * (minute * 8 // 600) for minute in range(6 * 60)), every=MINUTE_MS), STEPS, 40,
    ),
    Case(
        "a module that refreshes every 15 min",
        series(*(14 * (minute // 15) for minute in range(120)), every=MINUTE_MS), PLAIN, 98,
    ),
    Case(
        "30 s of zeros at boot", series(1000, 1000.1, 0, 0, 0, 1000.2, 1000.3, every=10_000),
        CounterRule(KW60, reset="zero"), 0.3, ("glitch",),
    ),
    Case("a new meter at 37.2", series(1000, 1004, 37.2, 38, 39.2), PLAIN, 6, ("replaced",)),
    Case("a new meter at 5000", series(1000, 1004, 5000, 5003, 5006), PLAIN, 4, suspect=HELD),
    Case(
        "rollover at 10 000", series(9990, 9994, 2, 4, 6), CounterRule(KW60, rollover=10_000 * MICRO), 16, ("rollover",)
    ),
    Case(
        "rollover without max_rate", series(9990, 9994, 2, 4, 6), CounterRule(rollover=10_000 * MICRO), 14, ("rollover",)
    ),
    Case("four zeros in a row, one a minute", series(1000, 1000.5, 0, 0, 0, 0, 1001, every=MINUTE_MS), PLAIN, 1, ("glitch",)),
    Case("four zeros in a row, ten minutes apart", series(1000, 1000.5, 0, 0, 0, 0, 1010), PLAIN, 10, ("replaced", "returned")),
    Case("the same without max_rate", series(1000, 1000.5, 0, 0, 0, 0, 1010), CounterRule(), 10, ("replaced", "returned")),
    Case("a first reading of 0", series(0, 35_000, 35_001, 35_002, 35_003, start=START + 1), PLAIN, 3, ("glitch",)),
    Case(
        "float32 at 10^7: steps of 1, trembling",
        series(10_000_000, 10_000_001, 10_000_000, 10_000_002, 10_000_001, 10_000_003, every=MINUTE_MS),
        CounterRule(KW60, float32=True), 3,
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_messy_meter_is_counted_right(case: Case):
    """R9: what is not confirmed adds nothing, what is confirmed is counted once."""
    judged = judge(case.samples, None, case.rule)
    assert energy(judged) == pytest.approx(case.energy, abs=1e-6)
    assert kinds(judged) == list(case.verdicts)
    assert judged.objection == case.suspect


def test_two_readings_swapped_in_delivery_are_one_series():
    """Readings are judged in the order of their instants; how they came is nobody's business here."""
    samples = series(*TEN)
    assert judge(sorted([samples[1], samples[0], samples[2]]), None, PLAIN) == judge(samples, None, PLAIN)


def test_a_verdict_says_its_numbers():
    """Every verdict can be told: what stood before, what was suspect, what decided."""
    samples = series(1000, 1004, 0, 600, 1010)
    (verdict,) = judge(samples, None, PLAIN).verdicts
    assert verdict == (samples[4][0], "glitch", samples[1], (samples[2], samples[3]))


def test_across_a_replacement_the_hour_is_estimated():
    """R11: what the old meter counted after its last reading is unknown."""
    hours, _ = close_out(series(*range(12), 500, 501, 502, *range(503, 513)), rule=CounterRule(KW60))
    assert [row.quality for row in hours] == ["measured"] * len(hours)
    samples = series(*range(512, 524), 1, 2, 3, *range(4, 14))
    hours, _ = close_out(samples, rule=CounterRule(KW60))
    assert [(row.consumption / MICRO, row.quality) for row in hours] == [
        (6, "measured"), (5, "estimated"), (6, "measured"), (6, "measured"),
    ]  # fmt: skip


# --- what a person knows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("new", [37.2, 5000.0, 1006.0])
def test_a_replacement_that_a_person_told_books_both_sides(new):
    """1004 -> 1006.5 on the old meter, new -> new + 3 on the new one, and nothing in between."""
    samples = series(1000, 1004, new + 1, new + 2, new + 3)
    told = Epoch(START + 15 * MINUTE_MS, round(1006.5 * MICRO), round(new * MICRO))
    judged = judge(samples, None, PLAIN, [told])
    assert energy(judged) == pytest.approx(4 + 2.5 + 3)
    assert kinds(judged) == []
    assert judged.good[2] == (told.at, round(1006.5 * MICRO))


def test_a_replacement_in_a_frozen_hour_moves_nothing():
    """R8: it becomes an adjustment, which is not decided here."""
    samples = series(*range(1000, 1014))
    _, frozen = close_out(samples, rule=PLAIN)
    later = [sample for sample in samples if sample[0] > frozen.edge * HOUR_MS]
    told = Epoch(frozen.edge * HOUR_MS - 1, 2000 * MICRO, 0)
    assert judge(later, frozen, PLAIN, [told]) == judge(later, frozen, PLAIN)


def test_several_epochs_in_one_hour_are_told_one_by_one():
    """A meter of the wrong size, changed twice in an afternoon."""
    told = [
        Epoch(START + 5 * MINUTE_MS, 12 * MICRO, 0),
        Epoch(START + 9 * MINUTE_MS, 4 * MICRO, 100 * MICRO),
    ]
    assert energy(judge(series(10, 101), None, PLAIN, told)) == 2 + 4 + 1


def test_a_changed_source_begins_at_its_first_reading():
    """Another register behind the same name: nothing is booked across, and the hour says so."""
    samples = series(1000, 1004, 37, 38, 39, 40, 41, 42)
    judged = judge(samples, None, PLAIN, [Epoch(START + 15 * MINUTE_MS)])
    assert energy(judged) == 4 + 5
    assert judged.doubtful == [
        (START + 10 * MINUTE_MS, START + 15 * MINUTE_MS),
        (START + 15 * MINUTE_MS, START + 20 * MINUTE_MS),
    ]
    assert kinds(judged) == []


def test_a_retired_meter_ends_with_its_last_value():
    """No reading will come: the final value closes what is left, and a meter that speaks after all goes on from there."""
    samples = series(1000, 1004)
    end = START + 2 * HOUR_MS
    told = [Epoch(START + 50 * MINUTE_MS, 1020 * MICRO, None), Epoch(end, 1020 * MICRO, None, final=True)]
    hours, frozen = close_out(samples, rule=PLAIN, epochs=told)
    assert [row.consumption for row in hours] == [20 * MICRO, 0]
    again = [(end + HOUR_MS // 2, 5 * MICRO), (end + HOUR_MS, 6 * MICRO)]
    hours, _ = close_out(again, frozen, rule=PLAIN, epochs=told)
    assert [row.consumption for row in hours] == [1 * MICRO]


# --- rates, steps and doubt -------------------------------------------------------------------------------------------


def test_a_suspect_closes_nothing():
    """R6 with R9: the only reading past the edge is not believed, so the hour stays open."""
    samples = series(1000, 1004, 1006, 1008, 1010, 1012, 0)
    assert close_out(samples, rule=PLAIN)[0] == []
    assert judge(samples, None, PLAIN).objection == BACKWARDS


def test_the_rate_counts_from_the_last_change_of_the_register_across_a_frozen_edge():
    """A register of 10 kWh steps at 8 kWh/h moves every 75 minutes: no jump, before and after a frozen edge."""
    samples = series(*(10 * (minute * 8 // 600) for minute in range(6 * 60)), every=MINUTE_MS)
    rule = CounterRule(9 * MICRO)
    frozen, closed = None, []
    for upto in range(len(samples)):
        seen = [each for each in samples[:upto] if frozen is None or each[0] > frozen.edge * HOUR_MS]
        hours, after = close_out(seen, frozen, rule=rule)
        frozen = after or frozen
        closed += hours
    assert frozen.edge == FIRST + 5
    assert sum(row.consumption for row in closed) == frozen.boundary == 40 * MICRO


def test_two_resolution_steps_are_allowed_on_top_of_the_rate():
    """A coarse register that steps early is no jump."""
    samples = series(0, 2, every=1000)
    assert judge(samples, None, CounterRule(MICRO)).objection == TOO_FAST
    assert judge(samples, None, CounterRule(MICRO, MICRO)).objection == ""


def test_more_than_max_rate_for_a_while_is_counted_once_the_rate_allows_it():
    """A max_rate that is a little low delays energy, and loses none."""
    samples = series(0, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, every=9 * MINUTE_MS)
    judged = judge(samples, None, CounterRule(12 * MICRO, 50_000))
    assert energy(judged) == 20


def test_raising_max_rate_releases_what_was_held():
    """The readings are kept, so the judgement can be repeated with what the operator knows better."""
    samples = series(0, 1, 2, 3, 4, 5, 106, 107, 108, 109, 110, 111, 112)
    assert close_out(samples, rule=CounterRule(60 * MICRO))[0] == []
    assert judge(samples, None, CounterRule(60 * MICRO)).objection == HELD
    hours, _ = close_out(samples, rule=CounterRule(700 * MICRO))
    assert [row.consumption for row in hours] == [106 * MICRO, 6 * MICRO]


def test_a_late_reading_below_a_frozen_boundary_takes_nothing_back():
    """R8: the boundary was drawn too steep; the total waits there until the register has passed it."""
    before = [*series(0, 0, start=START - 10 * MINUTE_MS), (START + HOUR_MS - MINUTE_MS // 2, 10 * MICRO)]
    rule = CounterRule(13 * MICRO)
    _, frozen = close_out([*before[:2], (START + HOUR_MS + MINUTE_MS, 11 * MICRO)], rule=rule, limit=FIRST + 1)
    assert frozen.boundary > 10 * MICRO
    late = [
        (START + HOUR_MS + MINUTE_MS // 2, MICRO),
        (START + HOUR_MS + MINUTE_MS, 11 * MICRO),
        (START + 2 * HOUR_MS, 12 * MICRO),
    ]
    hours, _ = close_out(late, frozen, rule=rule, limit=FIRST + 2)
    assert [row.boundary for row in hours] == [12 * MICRO]


# --- anything at all --------------------------------------------------------------------------------------------------

values = st.lists(st.integers(0, 100) | st.sampled_from([0, 10**6, 65535]), min_size=1, max_size=40)
rules = st.builds(
    CounterRule,
    max_rate=st.none() | st.integers(0, 300),
    resolution=st.integers(0, 3),
    rollover=st.none() | st.integers(90, 120),
    reset=st.sampled_from(["never", "zero"]),
)
unsure = st.none() | st.integers(0, 100)
paces = st.sampled_from([4, 11, 17, 61])


@settings(deadline=None, max_examples=300)
@given(values, paces, rules, st.lists(st.integers(0, 40), max_size=5), st.randoms(use_true_random=False))
def test_whatever_arrives_in_any_order_nothing_negative_is_booked_and_hours_telescope(values, pace, rule, cuts, random):
    """R7, R9: glitches, resets and late readings, closed at any moments."""
    samples = [(START + number * pace * MINUTE_MS, value) for number, value in enumerate(values)]
    arriving = sorted(samples, key=lambda sample: sample[0] + random.randrange(60) * MINUTE_MS)
    frozen: Frozen | None = None
    closed = []
    opening = None
    for cut in [*sorted(cuts), len(samples)]:
        seen = sorted(each for each in arriving[:cut] if frozen is None or each[0] > scan_after(frozen.edge, RULE))
        hours, after = close_out(seen, frozen, rule=rule)
        if after and opening is None:
            opening = hours[0].boundary - hours[0].consumption if hours else after.boundary
        frozen = after or frozen
        closed += hours
    assert all(row.consumption >= 0 for row in closed)
    assert [row.hour for row in closed] == list(range(closed[0].hour, frozen.edge)) if closed else True
    assert not closed or sum(row.consumption for row in closed) == frozen.boundary - opening


@settings(deadline=None, max_examples=500)
@example([1_000_000, 0, 0, 17, 0], 61, CounterRule(resolution=0), [4], [])
@example([0] * 11 + [2, 2, 0, 0, 1, 1_000_000, 0, 0, 0], 61, CounterRule(resolution=0), [3], [])
@example([10, 5, 1, 0, 1], 61, CounterRule(resolution=2), [4], [])
@given(
    values,
    paces,
    rules,
    st.lists(st.integers(0, 40), max_size=8),
    st.lists(st.tuples(st.integers(0, 100), unsure, unsure), max_size=2),
)
def test_the_judgement_does_not_depend_on_when_hours_are_closed(values, pace, rule, cuts, told):
    """The frozen state carries all that the judgement needs of the past: any grouping gives the same hours."""
    samples = [(START + number * pace * MINUTE_MS, value) for number, value in enumerate(values)]
    epochs = [Epoch(START + at * MINUTE_MS * 7 + 1, old, new) for at, old, new in told]
    frozen, closed = None, []
    for cut in [*sorted(cuts), len(samples)]:
        seen = [each for each in samples[:cut] if frozen is None or each[0] > scan_after(frozen.edge, RULE)]
        hours, after = close_out(seen, frozen, rule=rule, epochs=epochs)
        frozen, closed = after or frozen, [*closed, *hours]
    assert (closed, frozen) == close_out(samples, rule=rule, epochs=epochs)
