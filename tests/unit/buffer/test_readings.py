"""Readings on their way in, and found again."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buffer import readings
from buffer.model import HOUR_MS
from buffer.readings import (
    MeterRow,
    Rejection,
    StoredReading,
    add,
    newest_hours,
    newest_per_meter,
    newest_samples,
    note,
    register_meters,
    reject,
    samples_of,
)

HOUR = 480_000
START = HOUR * HOUR_MS


def reading(at: int, meter: int = 1, value: int = 0) -> StoredReading:
    return StoredReading(START + at, meter, value, START + at + 5)


def stored(store):
    find = "SELECT at, meter, value, received FROM reading ORDER BY at, meter"
    return [StoredReading(*row) for row in store.read(lambda db: db.execute(find).fetchall())]


# --- meters -----------------------------------------------------------------------------------------------------------


def test_a_meter_keeps_its_number_whatever_changes_and_whoever_leaves(store):
    """R31: configuration changes delete nothing."""
    store.write(lambda db: add(db, [reading(0, 2)]))
    changed = [MeterRow("c", None, "MWh", "power", "off", "x"), MeterRow("d", 9, "m3", "counter", "off", "x")]
    assert store.write(lambda db: register_meters(db, changed)) == {"c": 3, "d": 4}
    configured = store.read(lambda db: db.execute("SELECT name, unit, configured FROM meter ORDER BY id").fetchall())
    assert configured == [("a", "kWh", 0), ("b", "kWh", 0), ("c", "MWh", 1), ("d", "m3", 1)]
    assert stored(store) == [reading(0, 2)]


# --- in ---------------------------------------------------------------------------------------------------------------


def test_the_same_reading_again_changes_nothing(store):
    """R4."""
    batch = [reading(0, 1, 5), reading(0, 2, 6), reading(9, 1, 7)]
    assert store.write(lambda db: add(db, batch)) == []
    again = [each._replace(received=START + 99) for each in batch]
    assert store.write(lambda db: add(db, [*again, reading(9, 2, 8), reading(9, 2, 8)])) == []
    assert stored(store) == [*batch, reading(9, 2, 8)]
    assert store.write(lambda db: add(db, [])) == []


def test_another_value_for_the_same_instant_is_refused_and_the_first_one_stays(store):
    """R1: across batches and within one."""
    store.write(lambda db: add(db, [reading(0, 1, 5)]))
    batch = [reading(0, 1, 6), reading(1, 1, 7), reading(1, 1, 8), reading(0, 2, 6)]
    assert store.write(lambda db: add(db, batch)) == [(reading(0, 1, 6), 5), (reading(1, 1, 8), 7)]
    assert stored(store) == [reading(0, 1, 5), reading(0, 2, 6), reading(1, 1, 7)]


@pytest.mark.parametrize("count", [readings.ASKED_FIRST - 1, readings.ASKED_FIRST, 3 * readings.ASKED_FIRST])
def test_every_reading_is_found_by_its_hour_however_many_come_together(store, count: int):
    """Also of a meter that joins an hour which others have, and of a poll that passes the hour."""
    rows = [MeterRow(f"m{n}", None, "kWh", "counter", "off", "x") for n in range(count)]
    numbers = sorted(store.write(lambda db: register_meters(db, rows)).values())
    for first, at in ((count // 2, 0), (0, 1), (0, HOUR_MS - 3)):
        batch = [reading(at + n, meter) for n, meter in enumerate(numbers[first:])]
        store.write(lambda db, batch=batch: add(db, batch))
    hours = store.read(lambda db: db.execute("SELECT hour, meter FROM reading_hour ORDER BY hour, meter").fetchall())
    assert hours == sorted({(each.at // HOUR_MS, each.meter) for each in stored(store)})
    assert len(hours) == count + count - 3


POLLED = 70
polls = st.lists(  # of some meters, at the same few instants: a poll again, in part, with another value, across an hour
    st.tuples(
        st.sets(st.integers(1, POLLED)) | st.just(set(range(1, POLLED + 1))),
        st.sampled_from([0, 1, HOUR_MS - 40, HOUR_MS]),
        st.integers(0, 1),
        st.booleans(),
    ),
    max_size=4,
)


@pytest.fixture
def polled(store):
    """A store of as many meters as one statement takes several times over."""
    rows = [MeterRow(f"m{n}", None, "kWh", "counter", "off", "x") for n in range(POLLED - 3)]
    store.write(lambda db: register_meters(db, rows))
    return store


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(polls)
def test_of_each_instant_of_a_meter_the_first_value_stays_and_every_other_is_told(polled, polls):
    """R1, R4, however many come in one batch, whichever of them are there already: as a plain dictionary says."""
    first: dict[tuple[int, int], StoredReading] = {}

    def work(db):
        db.execute("SAVEPOINT example")
        for meters, at, value, twice in polls:
            batch = [reading(at + meter, meter, value) for meter in meters]
            batch += [each._replace(value=value + 1) for each in batch[::2]] if twice else []
            for each in batch:
                first.setdefault((each.at, each.meter), each)
            other = [(each, first[each.at, each.meter].value) for each in batch]
            assert add(db, batch) == [(each, value) for each, value in other if each.value != value]
        kept = db.execute("SELECT at, meter, value, received FROM reading ORDER BY at, meter").fetchall()
        hours = db.execute("SELECT hour, meter FROM reading_hour ORDER BY hour, meter").fetchall()
        db.execute("ROLLBACK TO example")
        return kept, hours

    kept, hours = polled.write(work)
    assert kept == [tuple(first[key]) for key in sorted(first)]
    assert hours == sorted({(at // HOUR_MS, meter) for at, meter in first})


@pytest.mark.parametrize("known", [1, 2 * readings.AT_ONCE])
def test_a_reading_of_an_unknown_meter_fails_the_whole_batch(store, known: int):
    """Wherever in the batch it is: nothing of it is stored."""
    with pytest.raises(sqlite3.IntegrityError):
        store.write(lambda db: add(db, [*(reading(n, 1) for n in range(known)), reading(0, 99)]))
    assert stored(store) == []


def test_the_largest_and_smallest_values_are_kept_exactly(store):
    batch = [reading(0, 1, 2**63 - 1), reading(1, 1, -(2**63))]
    store.write(lambda db: add(db, batch))
    assert stored(store) == batch


# --- rejected and events ----------------------------------------------------------------------------------------------


def rejection(number: int, reason: str = "not a number", source: str | None = "a") -> Rejection:
    return Rejection(number, "hall", source, reason, f"case {number}", "nan")


def test_what_is_no_reading_is_kept_with_its_reason_and_counted(store):
    """R2."""
    store.write(lambda db: reject(db, [rejection(1), rejection(2), rejection(3, "unknown topic", None)]))
    store.write(lambda db: reject(db, [rejection(4)]))
    kept = store.read(lambda db: db.execute("SELECT at, source, reason, payload FROM rejected ORDER BY id").fetchall())
    assert kept[2] == (3, None, "unknown topic", "nan")
    assert len(kept) == 4
    counts = store.read(lambda db: db.execute("SELECT * FROM rejected_count ORDER BY source").fetchall())
    assert counts == [("hall", "", "unknown topic", 1, 3), ("hall", "a", "not a number", 3, 4)]
    store.write(lambda db: reject(db, []))


def test_rejections_are_bounded_but_their_counts_go_on(store, monkeypatch):
    monkeypatch.setattr(readings, "REJECTED_KEPT", 10)
    for number in range(7):
        batch = [rejection(3 * number + each)._replace(payload="x" * 9_000, detail="y" * 9_000) for each in range(3)]
        store.write(lambda db, batch=batch: reject(db, batch))
    kept = store.read(lambda db: db.execute("SELECT at, length(payload), length(detail) FROM rejected").fetchall())
    assert kept == [(at, 500, 500) for at in range(11, 21)]
    assert store.read(lambda db: db.execute("SELECT count FROM rejected_count").fetchone()) == (21,)


def test_events_are_bounded(store, monkeypatch):
    monkeypatch.setattr(readings, "EVENTS_KEPT", 3)
    for number in range(5):
        store.write(lambda db, number=number: note(db, number, "info", "a", "text"))
    assert store.read(lambda db: db.execute("SELECT at FROM event ORDER BY id").fetchall()) == [(2,), (3,), (4,)]


# --- out --------------------------------------------------------------------------------------------------------------

instants = st.integers(-40 * HOUR_MS, 40 * HOUR_MS) | st.integers(-40, 40).map(lambda hour: hour * HOUR_MS)
batches = st.lists(st.builds(reading, instants, st.integers(1, 3), st.integers(0, 9)), max_size=60)
anywhere = st.integers(-45 * HOUR_MS, 45 * HOUR_MS).map(lambda ms: START + ms) | st.just(-(2**62))


def test_a_reading_at_the_very_instant_asked_for_is_not_later(store):
    store.write(lambda db: add(db, [reading(0), reading(1), reading(2)]))
    assert store.read(lambda db: samples_of(db, {1: START + 1})) == {1: [(START + 2, 0)]}


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches, st.dictionaries(st.integers(1, 4), anywhere))
def test_samples_are_those_later_than_asked_for_each_meter_in_order(store, batch, since):
    """However the meters are grouped into scans, and wherever their readings lie."""
    found, kept, newest = store.write(lambda db: _look(db, batch, since))
    assert found == {
        meter: [(row.at, row.value) for row in kept if row.meter == meter and row.at > after]
        for meter, after in since.items()
    }
    assert newest == {row.meter: (row.at, row.value) for row in kept}


def _look(db, batch, since):
    """Inside one transaction that is undone: the file is the same for every example."""
    db.execute("SAVEPOINT example")
    add(db, batch)
    kept = [StoredReading(*row) for row in db.execute("SELECT * FROM reading ORDER BY at, meter")]
    found = samples_of(db, since), kept, newest_samples(db)
    db.execute("ROLLBACK TO example")
    return found


def test_the_newest_reading_of_a_meter_is_found_however_long_ago_it_was(store):
    month = 30 * 24 * HOUR_MS
    alive = [reading(number * HOUR_MS, 1, number) for number in range(30 * 24 + 1)]
    store.write(lambda db: add(db, [reading(5, 2, 7), reading(6, 2, 8), *alive]))
    assert store.read(newest_samples) == {1: (START + month, 720), 2: (START + 6, 8)}
    assert store.read(lambda db: newest_per_meter(db, {2, 3})) == {2: START + 6}


entered = st.sets(
    st.tuples(st.integers(0, 30_000) | st.integers(0, 200) | st.integers(23, 73), st.integers(1, 3)), max_size=40
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entered, st.none() | st.sets(st.integers(1, 4)))
def test_the_newest_hours_are_the_greatest_in_the_whole_table(store, rows, asked):
    """Wherever they lie in three years, whoever has none, and whoever is asked for."""

    def look(db):
        db.execute("SAVEPOINT example")
        db.executemany("INSERT INTO reading_hour VALUES (?, ?)", sorted(rows))
        whole = dict(db.execute("SELECT meter, max(hour) FROM reading_hour GROUP BY meter"))
        found = newest_hours(db, asked)
        db.execute("ROLLBACK TO example")
        return whole, found

    whole, found = store.write(look)
    assert found == {meter: hour for meter, hour in whole.items() if asked is None or meter in asked}


def test_a_meter_that_was_dead_for_a_month_does_not_cost_everybodys_month(store):
    """Counted in the readings that SQLite steps over: its own hours, not the 100 000 rows between."""
    month = 30 * 24
    with_others = [reading(minute * 60_000, 1, minute) for minute in range(month * 60)]
    dead = [reading(30 * 60_000, 2, 1), reading(month * HOUR_MS - 1, 2, 2)]
    store.write(lambda db: add(db, [*with_others, *dead]))

    def steps(db, work):
        counted = [0]

        def count():
            counted[0] += 100

        db.set_progress_handler(count, 100)
        work(db)
        db.set_progress_handler(None, 0)
        return counted[0]

    full = store.read(
        lambda db: steps(db, lambda db: db.execute("SELECT count(*) FROM reading WHERE meter = 2").fetchone())
    )
    asked = store.read(lambda db: steps(db, lambda db: samples_of(db, {1: START + (month - 1) * HOUR_MS, 2: START})))
    newest = store.read(lambda db: steps(db, lambda db: newest_samples(db, [1, 2])))
    never = store.read(lambda db: steps(db, lambda db: newest_samples(db, [3])))
    assert asked < full / 10
    assert newest < full / 10
    assert never < full / 3, "a meter that never had one is looked up in each hour"
    assert len(store.read(lambda db: samples_of(db, {2: START}))[2]) == 2
