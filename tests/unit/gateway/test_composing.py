"""Which items a message carries (DESIGN 6)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer.journal import PendingHour
from buffer.model import EPOCH
from gateway.composing import consumption_items, cumulative_items, rounded, sendable

TEN = datetime(2026, 3, 2, 10, tzinfo=UTC)
H = (TEN - EPOCH).days * 24 + 10


def at(hour: int) -> datetime:
    return TEN.replace(hour=hour)


def hours(*consumptions: int, start: int = 1_000_000, first: int = H) -> list[PendingHour]:
    rows, register = [], start
    for number, consumption in enumerate(consumptions):
        register += consumption
        rows.append(PendingHour(first + number, consumption, register))
    return rows


def test_a_consumption_is_stamped_with_the_start_of_its_hour():
    draft = consumption_items(hours(500, 700), decimals=6, stamp="start")
    assert draft.items == [(at(10), 500), (at(11), 700)]
    assert draft.values == {H: 500, H + 1: 700}


def test_or_with_its_end_where_the_operator_says_so():
    draft = consumption_items(hours(500), decimals=6, stamp="end")
    assert draft.items == [(at(11), 500)]
    assert draft.values == {H: 500}


def test_the_first_cumulative_message_is_the_opening_and_the_first_hours_end():
    draft = cumulative_items(hours(500, 700, 900), (), first=True, decimals=6)
    assert draft.items == [(at(10), 1_000_000), (at(11), 1_000_500)]
    assert draft.values == {H: 500}


def test_later_ones_carry_each_boundary_once():
    draft = cumulative_items(hours(500, 700), {H - 1: 300}, first=False, decimals=6)
    assert draft.items == [(at(11), 1_000_500), (at(12), 1_001_200)]
    assert draft.values == {H: 500, H + 1: 700}


def test_after_an_hour_that_was_never_sent_the_boundary_at_the_beginning_comes_too():
    rows = [hours(500)[0], PendingHour(H + 3, 200, 2_000_000)]
    draft = cumulative_items(rows, {H - 1: 300}, first=False, decimals=6)
    assert draft.items == [(at(11), 1_000_500), (at(13), 1_999_800), (at(14), 2_000_000)]
    assert draft.values == {H: 500, H + 3: 200}


@pytest.mark.parametrize(
    ("micro", "decimals", "expected"), [(1_499_999, 0, 1_000_000), (1_500_000, 0, 2_000_000), (1_234_567, 3, 1_235_000)]
)
def test_rounding_is_half_up_in_the_last_decimal_sent(micro: int, decimals: int, expected: int):
    assert rounded(micro, decimals) == expected


@settings(max_examples=150, deadline=None)
@given(
    consumptions=st.lists(st.integers(0, 10**9), min_size=1, max_size=50),
    start=st.integers(0, 10**15),
    decimals=st.integers(0, 6),
)
def test_rounding_loses_nothing_over_time(consumptions: list[int], start: int, decimals: int):
    """R7: the sent hours add up to the register's way within one rounding."""
    rows = hours(*consumptions, start=start)
    sent = consumption_items(rows, decimals=decimals, stamp="start").values
    read = cumulative_items(rows, {H - 1: 0}, first=False, decimals=decimals).values
    assert sent == read
    assert sum(sent.values()) == rounded(rows[-1].boundary, decimals) - rounded(start, decimals)


@pytest.mark.parametrize("decimals", range(7))
def test_what_is_sent_of_an_adjustment_leaves_a_rest_that_is_never_sent_back(decimals: int):
    """Exactly half a step rounded away from zero would go to and fro between EnerKey and us for ever."""
    step = 10 ** (6 - decimals)
    for unposted in (
        0,
        1,
        -1,
        50,
        -50,
        127_450,
        -127_450,
        step // 2,
        -(step // 2),
        step // 2 + 1,
        3 * step + step // 2,
        5 * step,
    ):
        rest = unposted - sendable(unposted, decimals)
        assert 2 * abs(rest) <= step
        assert sendable(rest, decimals) == 0
