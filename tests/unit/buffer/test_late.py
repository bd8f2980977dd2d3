"""Where late energy goes, and that it goes there once."""

from __future__ import annotations

import pytest

from buffer.closing import freeze
from buffer.frozen import Frozen
from buffer.hours import ClosedHour, Rule
from buffer.late import CORRECTED_MS, TOLD_EVERY_MS, Late, add_and_book
from buffer.model import HOUR_MS, MICRO, MINUTE_MS
from buffer.readings import StoredReading

FIRST = 480_000
NOW = (FIRST + 4) * HOUR_MS
QUARTER = 15 * MINUTE_MS
INTERVAL = Rule("interval", QUARTER, period_ms=QUARTER)
POWER = Rule("power", QUARTER, max_gap_ms=30 * MINUTE_MS)


def at(hours: float, value: float = 1) -> StoredReading:
    """A reading of meter 1 so many hours after FIRST."""
    return StoredReading(FIRST * HOUR_MS + round(hours * HOUR_MS), 1, round(value * MICRO), NOW)


def closed(store, count: int = 3) -> None:
    """Meter 1 has so many closed hours from FIRST on, and a reading that passed the last edge."""
    hours = [ClosedHour(FIRST + n, 0, 0, "estimated", "measured", 0) for n in range(count)]
    store.write(lambda db: freeze(db, 1, hours, Frozen(FIRST + count, 0, "measured", None), 0))
    store.write(lambda db: add_and_book(db, [at(count + 0.5)], {}, NOW))


def arrive(store, rule: Rule, *readings: StoredReading, now: int = NOW) -> list[Late]:
    return store.write(lambda db: add_and_book(db, readings, {1: rule}, now))[1]


def booked(store, table: str = "adjustment") -> list[tuple[int, float]]:
    """(hours after FIRST, amount) of each row."""
    rows = store.read(lambda db: db.execute(f"SELECT hour, amount FROM {table} ORDER BY id").fetchall())
    return [(hour - FIRST, amount / MICRO) for hour, amount in rows]


def test_a_late_period_is_booked_to_the_hours_it_belongs_to(store):
    """R8: signed, dated, with reason and author; a period across an edge is split as any other."""
    closed(store)
    assert arrive(store, INTERVAL, at(1), at(2.1, 10)) == [Late(1, FIRST, FIRST + 2, 11 * MICRO, 0, tell=True)]
    assert booked(store) == [(0, 1), (1, 6), (2, 4)]
    facts = store.read(lambda db: db.execute("SELECT meter, reason, author, at FROM adjustment").fetchone())
    assert facts == (1, "late: the period stamped 2024-10-04 01:00:00Z", "gateway", NOW)


def test_the_same_period_again_is_booked_no_second_time(store):
    """R4: in the same delivery, in the next, with another value, after a restart: what is stored was counted."""
    closed(store)
    arrive(store, INTERVAL, at(1), at(1), at(1, 5))
    for _ in range(2):
        assert arrive(store, INTERVAL, at(1), at(1, 7)) == []
    assert booked(store) == [(0, 1)]


def test_what_is_refused_with_its_delivery_is_booked_with_none(store):
    """R4: booking and storing are one transaction; a delivery that failed comes again and counts then."""

    def fails(db) -> None:
        add_and_book(db, [at(1)], {1: INTERVAL}, NOW)
        raise RuntimeError("the disk")

    closed(store)
    with pytest.raises(RuntimeError):
        store.write(fails)
    assert booked(store) == []
    arrive(store, INTERVAL, at(1))
    assert booked(store) == [(0, 1)]


def test_only_the_part_in_closed_hours_is_late(store):
    """What reaches into open hours is counted when they close."""
    closed(store)
    arrive(store, INTERVAL, at(3.05, 10), at(3.25, 10))
    assert booked(store) == [(2, 8)]


def test_before_its_first_hour_a_meter_owes_nothing(store):
    """Reliability 3.3: the partial first hour is not pushed, nor what comes late for it."""
    assert arrive(store, INTERVAL, at(-5)) == []
    closed(store)
    assert arrive(store, INTERVAL, at(0), at(-0.25)) == []
    assert arrive(store, INTERVAL, at(0.1, 10)) == [Late(1, FIRST, FIRST, 4 * MICRO, 0, tell=True)]


def test_late_energy_of_a_week_ago_is_parked_until_a_person_decides(store):
    """Reliability 3.2: the month may be invoiced; nothing is lost and nothing is booked silently."""
    closed(store)
    young = (FIRST + 2) * HOUR_MS + CORRECTED_MS - 1  # the second hour ended 7 days less a millisecond ago
    assert arrive(store, INTERVAL, at(1), at(2, 2), now=young) == [
        Late(1, FIRST, FIRST + 1, 2 * MICRO, MICRO, tell=True)
    ]
    assert (booked(store), booked(store, "parked")) == ([(1, 2)], [(0, 1)])
    arrive(store, INTERVAL, at(1.75, 3), now=young + 1)
    assert booked(store, "parked") == [(0, 1), (1, 3)]


def test_late_energy_may_go_into_the_oldest_open_hour(store):
    closed(store)
    arrive(store, Rule("interval", QUARTER, period_ms=QUARTER, late="next_hour"), at(1), at(2.1, 10))
    assert {hour for hour, _ in booked(store)} == {3}
    assert sum(amount for _, amount in booked(store)) == 11
    assert booked(store, "parked") == []


def test_late_energy_may_wait_for_a_person(store):
    closed(store)
    arrive(store, Rule("interval", QUARTER, period_ms=QUARTER, late="alarm"), at(1), at(2.1, 10))
    assert booked(store) == []
    assert booked(store, "parked") == [(0, 1), (1, 6), (2, 4)]


def test_a_device_that_is_always_late_is_told_once_an_hour(store):
    """Events are bounded: a backlog of a week must not push every other one out."""
    closed(store)
    times = [NOW, NOW + 1, NOW + TOLD_EVERY_MS - 1, NOW + 2 * TOLD_EVERY_MS]
    told = [arrive(store, INTERVAL, at(1 + n / 4), now=now)[0].tell for n, now in enumerate(times)]
    assert told == [True, False, False, True]
    parking = Rule("interval", QUARTER, period_ms=QUARTER, late="alarm")
    later = NOW + 4 * TOLD_EVERY_MS
    assert [arrive(store, parking, at(2 + n / 4), now=later)[0].tell for n in (1, 2)] == [True, False]


def test_a_late_sample_of_power_books_what_it_changes_up_or_down(store):
    """Reliability 3.4: it has no energy of its own, it bends the line between its neighbours."""
    closed(store, 1)
    arrive(store, POWER, *[at(n / 4, 4) for n in (0, 1, 3, 4)])
    before = booked(store)
    assert sum(amount for _, amount in before) == 4  # the hour was closed without any of them
    arrive(store, POWER, at(0.5, 0))
    assert booked(store)[len(before) :] == [(0, -1)]
    arrive(store, POWER, at(0.375, 4), at(0.625, 4))
    assert booked(store)[len(before) + 1 :] == [(0, 0.5)]


def test_late_power_is_booked_also_where_nothing_newer_is_kept(store):
    """What had closed the hour may have been deleted since; what comes now still counts once."""
    hours = [ClosedHour(FIRST, 0, 0, "missing", "measured", 0)]
    store.write(lambda db: freeze(db, 1, hours, Frozen(FIRST + 1, 0, "measured", None), 0))
    arrive(store, POWER, *[at(n / 4, 4) for n in range(5)])
    assert booked(store) == [(0, 4)]
    assert (
        store.read(lambda db: db.execute("SELECT tail_at, tail_total FROM counter_state").fetchone()) == at(1, 4)[::2]
    )


def test_a_late_sample_that_makes_a_silent_hour_known_brings_all_of_its_energy(store):
    """R11: below half of an hour its energy is not believed; with the sample that passes half of it, it is."""
    closed(store, 1)
    assert arrive(store, POWER, at(0, 4), at(0.25, 4)) == []
    arrive(store, POWER, at(0.5, 4))
    assert booked(store) == [(0, 2)]


@pytest.mark.parametrize(("rule", "late"), [(INTERVAL, [(1, 2)] * 4), (POWER, [(1, 1.18)])])
def test_hours_of_a_former_source_are_owed_nothing(store, rule, late):
    """R8: until 1:24 the meter was a counter; the hours it closed are complete, and its readings are no power."""
    closed(store)
    store.write(lambda db: add_and_book(db, [at(0.25, 100), at(1.2, 100), at(1.4, 100)], {}, NOW))
    store.write(lambda db: db.execute("UPDATE meter SET since = ? WHERE id = 1", (at(1.4).at,)))
    arrive(store, rule, at(0.75, 7), at(1.1, 7), at(1.3, 7))
    assert booked(store) == []
    arrive(store, rule, at(1.41, 2), at(1.66, 2), at(1.91, 2), at(2, 2))
    assert booked(store) == late


def test_a_period_that_begins_before_the_source_was_changed_is_late_only_after_it(store):
    """The former source's closed hours have all of their energy."""
    closed(store)
    store.write(lambda db: db.execute("UPDATE meter SET since = ? WHERE id = 1", (at(1.05).at,)))
    arrive(store, INTERVAL, at(1.1, 10))
    assert booked(store) == [(1, 4)]


def test_a_counter_is_never_late(store):
    """R7: its next boundary has all of it."""
    closed(store)
    assert arrive(store, Rule("counter", QUARTER), at(1), at(2)) == []
    assert booked(store) == []
