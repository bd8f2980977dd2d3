"""What stays in memory of readings that cannot be stored."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from buffer.model import HOUR_MS
from buffer.ring import MOST, Ring

MINUTE = 60_000
instants = st.lists(st.integers(0, 5 * HOUR_MS), max_size=60)


def kept(ring: Ring[str]) -> list[tuple[int, int]]:
    """(meter, at), in order of time."""
    return [(meter, at) for at, meter, _ in ring.oldest(10**6)]


def test_of_each_hour_of_a_counter_the_first_and_the_last_reading_stay():
    """Those around each full hour, and so the newest one."""
    ring: Ring[str] = Ring()
    for at in range(30 * MINUTE, 3 * HOUR_MS - MINUTE, 7 * MINUTE):
        ring.keep(1, at, "x")
    minutes = [at // MINUTE for _, at in kept(ring)]
    assert minutes == [30, 58, 65, 114, 121, 177]
    assert len(ring) == 6


@given(instants)
def test_the_readings_next_to_every_edge_stay_in_whatever_order_they_come(ats: list[int]):
    """What is drawn between the neighbours of an edge is drawn as from all of them."""
    ring: Ring[str] = Ring()
    for at in ats:
        ring.keep(1, at, "x")
    stay = {at for _, at in kept(ring)}
    for edge in range(0, 6 * HOUR_MS, HOUR_MS):
        before = [at for at in ats if at < edge]
        after = [at for at in ats if at >= edge]
        assert not before or max(before) in stay
        assert not after or min(after) in stay
    assert len(ring) == len(stay)
    assert kept(ring) == sorted(kept(ring), key=lambda row: row[1])


def test_of_other_kinds_everything_stays_and_the_first_of_an_instant():
    """Each reading of an interval source is energy."""
    ring: Ring[str] = Ring()
    for at in range(0, HOUR_MS, MINUTE):
        ring.keep(1, at, "first", whole=True)
        ring.keep(1, at, "second", whole=True)
    assert len(ring) == 60
    assert {item for _, _, item in ring.oldest(100)} == {"first"}


def test_two_days_of_two_hundred_counters_fit():
    """What the documents promise."""
    ring: Ring[str] = Ring()
    for hour in range(48):
        for meter in range(200):
            for minute in (0, 30, 59):
                ring.keep(meter, hour * HOUR_MS + minute * MINUTE, "x")
    assert len(ring) == 48 * 400 <= MOST
    assert kept(ring)[0] == (0, 0)


def test_when_it_is_full_the_oldest_hour_is_thinned_and_then_forgotten():
    """And the newest readings of all always stay."""
    ring: Ring[str] = Ring(10)
    for at in range(0, 8 * MINUTE, MINUTE):
        ring.keep(1, at, "x", whole=True)
    for at in range(HOUR_MS, HOUR_MS + 4 * MINUTE, MINUTE):
        ring.keep(1, at, "x", whole=True)
    minutes = [at // MINUTE for _, at in kept(ring)]
    assert minutes == [0, 7, 60, 61, 62, 63]
    for hour in range(2, 9):
        ring.keep(1, hour * HOUR_MS, "x")
        ring.keep(1, hour * HOUR_MS + MINUTE, "x")
    assert len(ring) <= 10
    assert kept(ring)[-1] == (1, 8 * HOUR_MS + MINUTE)
    assert kept(ring)[0][1] >= HOUR_MS


@given(instants, st.integers(1, 7))
def test_it_never_holds_more_than_it_may(ats: list[int], most: int):
    """However they come."""
    ring: Ring[str] = Ring(most)
    for number, at in enumerate(ats):
        ring.keep(number % 3, at, "x", whole=number % 2 == 0)
        assert len(ring) == len(kept(ring)) <= most


def test_what_is_dropped_is_gone_and_dropping_it_again_changes_nothing():
    """It was stored meanwhile."""
    ring: Ring[str] = Ring()
    ring.keep(1, 5, "x")
    ring.keep(2, 5, "y")
    for _ in range(2):
        ring.drop(1, 5)
        assert kept(ring) == [(2, 5)]
    ring.drop(2, 5)
    assert not ring
    assert ring.oldest(5) == []
