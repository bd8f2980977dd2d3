"""The simulated truth: exact at every instant, the same everywhere."""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from buffer.model import EPOCH
from gateway.simulator.world import HOUR, SINCE, WEEK, Load, digits

FIRST = (SINCE - EPOCH) // HOUR
START = 12_345_678_901


def load(seed: str = "main") -> Load:
    return Load(seed, 60_000_000, start=START)


def hour_at(hour: int) -> datetime:
    return EPOCH + hour * HOUR


@given(st.text(min_size=1, max_size=5), st.integers(10_000, 10**12))
@settings(deadline=None, max_examples=100)
def test_the_load_changes_by_a_fifth_or_more_from_hour_to_hour(seed: str, base: int):
    rates = [Load(seed, base).hourly(FIRST + hour) for hour in range(WEEK + 1)]
    assert all(5 * abs(after - before) >= before for before, after in pairwise(rates))


@given(st.integers(0, 3 * WEEK), st.integers(1, 2 * WEEK))
@settings(deadline=None, max_examples=100)
def test_the_register_moves_by_exactly_the_sum_of_the_hours(first: int, count: int):
    begin, end = FIRST + first, FIRST + first + count
    moved = load().register(hour_at(end)) - load().register(hour_at(begin))
    assert moved == sum(load().hourly(hour) for hour in range(begin, end))


@given(st.integers(0, 10_000_000_000))
@settings(deadline=None, max_examples=100)
def test_within_an_hour_the_register_is_a_straight_line(microseconds: int):
    at = SINCE + timedelta(microseconds=microseconds)
    hour = (at - EPOCH) // HOUR
    share = Fraction((at - hour_at(hour)) // timedelta(microseconds=1), 3_600_000_000)
    assert load().register(at) == load().register(hour_at(hour)) + int(load().hourly(hour) * share)
    assert load().rate(at) == load().hourly(hour)


def test_two_meters_differ_and_one_is_the_same_everywhere():
    assert load().register(SINCE + 50 * HOUR) == load().register(SINCE + 50 * HOUR)
    assert load().hourly(FIRST + 1) == 89_580_000  # whatever the process, the day or the machine
    assert load("main").hourly(FIRST + 1) != load("heat").hourly(FIRST + 1)


def test_before_its_first_hour_the_register_stands_still():
    assert load().register(SINCE - 5 * HOUR) == START
    assert load().hourly(FIRST - 1) == 0


def test_digits_are_cut_as_a_display_cuts_them():
    assert [digits(1_999_999, places) for places in (0, 1, 3, 6)] == ["1", "1.9", "1.999", "1.999999"]
