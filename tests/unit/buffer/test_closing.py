"""What is frozen stays frozen, and is found again."""

from __future__ import annotations

import sqlite3

import pytest

from buffer.closing import freeze, frozen_of, tell_until, told_until
from buffer.frozen import Former, Frozen, Track
from buffer.hours import ClosedHour

OPENING = Frozen(100, 5_000, "measured", (99, 4_990), Track(4_990, 98))
HOURS = [
    ClosedHour(100, 10, 5_010, "measured", "measured"),
    ClosedHour(101, 0, 5_010, "missing", "measured"),
    ClosedHour(102, 30, 5_040, "estimated", "estimated"),
]
AFTER = Frozen(103, 5_040, "estimated", (102_999, 5_039), Track(39, 102_000, 5_000, Former(5_000, 97, 0, 12)))


def rows(store):
    return store.read(
        lambda db: db.execute("SELECT hour, consumption, boundary, state FROM hour ORDER BY hour").fetchall()
    )


def test_an_unopened_meter_has_nothing_frozen(store):
    assert store.read(lambda db: frozen_of(db, 1)) is None


def test_an_opening_without_hours_is_found_again(store):
    store.write(lambda db: freeze(db, 1, [], OPENING, 7))
    assert store.read(lambda db: frozen_of(db, 1)) == OPENING
    assert store.read(lambda db: frozen_of(db, 2)) is None


def test_hours_go_on_from_the_opening(store):
    store.write(lambda db: freeze(db, 1, [], OPENING, 7))
    store.write(lambda db: freeze(db, 1, HOURS, AFTER, 8))
    assert store.read(lambda db: frozen_of(db, 1)) == AFTER
    opening = store.read(lambda db: db.execute("SELECT opening_hour, opening FROM counter_state").fetchall())
    assert opening == [(100, 5_000)]


def test_an_hour_that_is_closed_anew_and_was_accepted_before_is_not_sent_again(store):
    """R14: a damaged file gave the ledger back, but not the hour."""
    store.write(lambda db: db.execute("INSERT INTO ledger (meter, hour, accepted, at) VALUES (1, 100, 10, 0)"))
    store.write(lambda db: freeze(db, 1, HOURS, AFTER, 8))
    assert [row[3] for row in rows(store)] == ["accepted", "missing", "pending"]


def test_opening_and_first_hours_may_come_at_once(store):
    store.write(lambda db: freeze(db, 1, HOURS, AFTER, 8))
    assert store.read(lambda db: frozen_of(db, 1)) == AFTER
    opening = store.read(lambda db: db.execute("SELECT opening_hour, opening FROM counter_state").fetchall())
    assert opening == [(100, 5_000)]


def test_a_meter_without_a_sample_before_its_edge_has_no_tail(store):
    state = Frozen(100, 0, "measured", None)
    store.write(lambda db: freeze(db, 1, [], state, 7))
    assert store.read(lambda db: frozen_of(db, 1)) == state


def test_a_missing_hour_is_never_pending(store):
    """DESIGN 5: not even as 0."""
    store.write(lambda db: freeze(db, 1, HOURS, AFTER, 8))
    assert rows(store) == [(100, 10, 5_010, "pending"), (101, 0, 5_010, "missing"), (102, 30, 5_040, "pending")]


def test_a_closed_hour_is_never_closed_again(store):
    """R8: the second attempt fails whole and changes nothing."""
    store.write(lambda db: freeze(db, 1, HOURS[:2], Frozen(102, 5_010, "measured", (1, 2)), 8))
    before = store.read(lambda db: frozen_of(db, 1)), rows(store)
    with pytest.raises(sqlite3.IntegrityError):
        store.write(lambda db: freeze(db, 1, [HOURS[2], HOURS[1]._replace(consumption=99)], AFTER, 9))
    assert (store.read(lambda db: frozen_of(db, 1)), rows(store)) == before


def test_what_was_told_of_a_meter_is_remembered(store):
    """A verdict is an event once, also after a restart."""
    assert store.read(lambda db: told_until(db, 1)) == 0
    store.write(lambda db: freeze(db, 1, [], OPENING, 7))
    store.write(lambda db: tell_until(db, 1, 4711))
    store.write(lambda db: freeze(db, 1, HOURS, AFTER, 8))
    assert store.read(lambda db: told_until(db, 1)) == 4711


def test_what_a_hole_parks_is_kept_with_its_hour_in_the_same_commit(store):
    """Reliability 3.3: the energy of a hole is in no hour, and not lost."""
    hole = [HOURS[0], ClosedHour(101, 0, 5_010, "missing", "estimated", parked=77), HOURS[2]]
    store.write(lambda db: freeze(db, 1, hole, AFTER, 8))
    parked = store.read(lambda db: db.execute("SELECT meter, hour, amount, reason, at FROM parked").fetchall())
    assert parked == [(1, 101, 77, "gap", 8)]


def test_how_much_of_an_hour_is_known_is_stored_in_whole_seconds(store):
    """Reliability 3.4: rounded down, and nothing where the question makes no sense."""
    known = [HOURS[0]._replace(covered_ms=3_599_999), HOURS[1]._replace(covered_ms=0), HOURS[2]]
    store.write(lambda db: freeze(db, 1, known, AFTER, 8))
    find = "SELECT covered_seconds FROM hour ORDER BY hour"
    assert store.read(lambda db: db.execute(find).fetchall()) == [(3599,), (0,), (None,)]
