"""Hours that a lost page has taken, drawn anew between their neighbours: no energy is invented, none is lost (R7)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from buffer.mending import Edge, Redrawn, after, altered, between

LEFT = Edge(100, 5_000, "measured")


def test_one_lost_hour_has_what_lies_between_its_neighbours():
    right = Edge(101, 5_070, "measured")
    assert between(LEFT, right, {}) == [Redrawn(100, 70, 5_070, "estimated")]


def test_what_enerkey_accepted_of_a_lost_hour_stays_its_own_and_the_rest_is_spread():
    right = Edge(104, 5_100, "interpolated")
    assert between(LEFT, right, {101: 40}) == [
        Redrawn(100, 20, 5_020, "estimated"),
        Redrawn(101, 40, 5_060, "estimated"),
        Redrawn(102, 20, 5_080, "estimated"),
        Redrawn(103, 20, 5_100, "estimated"),
    ]


def test_what_rounding_left_over_goes_to_the_last_hour_when_all_are_known():
    right = Edge(102, 5_101, "measured")
    assert [row.consumption for row in between(LEFT, right, {100: 50, 101: 50})] == [50, 51]


def test_known_hours_that_need_more_energy_than_there_is_give_way():
    """No hour of a counter falls because another one was said to be more than all of them."""
    right = Edge(102, 5_010, "measured")
    assert [row.consumption for row in between(LEFT, right, {101: 50})] == [5, 5]


def test_hours_between_missing_ones_without_energy_are_missing_and_not_a_zero():
    """R2, R11: 0 would be sent."""
    right = Edge(102, 5_000, "missing")
    assert [row.quality for row in between(LEFT, right, {})] == ["missing", "missing"]
    assert [row.quality for row in between(LEFT, right, {100: 0})] == ["estimated", "missing"]


def test_behind_the_newest_hour_what_is_known_without_a_gap_follows():
    assert after(LEFT, {100: 7, 101: 8, 103: 9}) == [
        Redrawn(100, 7, 5_007, "estimated"),
        Redrawn(101, 8, 5_015, "estimated"),
    ]
    assert after(LEFT, {101: 8}) == []


def test_a_changed_number_is_found_where_it_breaks_the_chain():
    """A consumption breaks it once, a boundary at its own hour and the next."""
    assert altered([7]) == [7]
    assert altered([8, 7]) == [7]
    assert altered([7, 8, 20, 30, 31, 32]) == [7, 20, 30, 31]


@given(
    st.integers(-(10**12), 10**12), st.integers(-(10**9), 10**12), st.integers(1, 40),
    st.dictionaries(st.integers(100, 140), st.integers(-(10**9), 10**9)),
)  # fmt: skip
def test_lost_hours_add_up_to_what_lies_between_whatever_is_known(start, energy, count, known):
    """R7: exactly, in integers; and the boundaries are the running sum."""
    left, right = Edge(100, start, "measured"), Edge(100 + count, start + energy, "measured")
    redrawn = between(left, right, known)
    assert [row.hour for row in redrawn] == list(range(100, 100 + count))
    assert sum(row.consumption for row in redrawn) == energy
    total = start
    for row in redrawn:
        total += row.consumption
        assert row.boundary == total
