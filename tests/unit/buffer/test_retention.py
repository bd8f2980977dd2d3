"""What the buffer forgets, and what it never does (R24, R31)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from buffer import journal, retention
from buffer.journal import Intent
from buffer.model import HOUR_MS, Accepted
from buffer.readings import MeterRow, StoredReading, add, newest_samples, register_meters
from buffer.store import Connection, Store

H = 490_000
EVERY = 5 * 60_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Meters 1 and 2."""
    store = Store(tmp_path, threaded=False)
    store.write(lambda db: register_meters(db, [MeterRow(name, 1, "kWh", "counter", "off", "bus") for name in "ab"]))
    yield store
    store.close()


def collected(store: Store, meter: int, first: int, last: int) -> None:
    """Readings every five minutes in the hours [first, last)."""
    at = range(first * HOUR_MS, last * HOUR_MS, EVERY)
    store.write(lambda db: add(db, [StoredReading(ms, meter, ms, ms) for ms in at]))


def opened(store: Store, meter: int, first: int, closed: int) -> None:
    """Hours [first, closed) are closed."""
    state = "INSERT INTO counter_state (meter, opening_hour, opening, quality) VALUES (?, ?, 0, 'measured')"
    rows = [(meter, hour, 0, 0, "measured", 0) for hour in range(first, closed)]
    hours = "INSERT INTO hour (meter, hour, consumption, boundary, quality, closed_at) VALUES (?, ?, ?, ?, ?, ?)"
    store.write(lambda db: (db.execute(state, (meter, first)), db.executemany(hours, rows)))


def forget_all(store: Store, before: int) -> int:
    """Until nothing is left to go; the number of steps."""
    needed, steps = store.read(retention.needed_from), 0
    while store.write(lambda db: retention.forget_readings(db, before, needed)):
        steps += 1
    return steps


def hours_with_readings(store: Store, meter: int) -> list[int]:
    rows = store.read(lambda db: db.execute("SELECT at FROM reading WHERE meter = ?", (meter,)).fetchall())
    listed = store.read(lambda db: db.execute("SELECT hour FROM reading_hour WHERE meter = ?", (meter,)).fetchall())
    assert {at // HOUR_MS for (at,) in rows} == {hour for (hour,) in listed}
    return sorted(hour for (hour,) in listed)


def test_readings_of_closed_hours_go_by_age(store: Store):
    """Those that are older than the limit, to the hour, and no others."""
    collected(store, 1, H, H + 300)
    opened(store, 1, H, H + 300)
    forget_all(store, H + 100)
    assert hours_with_readings(store, 1) == list(range(H + 100, H + 300))


def test_what_an_open_hour_may_need_stays_however_old(store: Store):
    """A meter that waits for a person's word keeps its readings from two days before its open hour on."""
    for meter in (1, 2):
        collected(store, meter, H, H + 300)
    opened(store, 1, H, H + 60)
    opened(store, 2, H, H + 300)
    forget_all(store, H + 200)
    assert hours_with_readings(store, 1) == list(range(H + 60 - retention.MARGIN, H + 300))
    assert hours_with_readings(store, 2) == list(range(H + 200, H + 300))


def test_a_meter_that_has_no_opening_keeps_everything(store: Store):
    """Nothing of it has become an hour yet."""
    collected(store, 1, H, H + 100)
    assert forget_all(store, H + 90) == 0
    assert len(hours_with_readings(store, 1)) == 100


def test_the_last_reading_of_a_silent_meter_stays(store: Store):
    """`status` shows it, and after a restart its hours go on from there."""
    collected(store, 1, H, H + 100)
    opened(store, 1, H, H + 100)
    forget_all(store, H + 9000)
    assert store.read(newest_samples) == {1: ((H + 100) * HOUR_MS - EVERY,) * 2}


def test_one_step_is_small(store: Store, monkeypatch: pytest.MonkeyPatch):
    """However many readings an hour has: a reading that comes in does not wait for all of them."""
    monkeypatch.setattr(retention, "READINGS_AT_ONCE", 5)
    collected(store, 1, H, H + 2)
    opened(store, 1, H, H + 100)
    needed = {1: H + 1}
    deleted = []
    while count := store.write(lambda db: retention.forget_readings(db, H + 50, needed)):
        deleted.append(count)
    assert deleted == [5, 5, 2]
    assert hours_with_readings(store, 1) == [H + 1]


def test_many_readings_of_one_instant_go_together(store: Store, monkeypatch: pytest.MonkeyPatch):
    """Else a step that may take fewer than there are would never get past them."""
    monkeypatch.setattr(retention, "READINGS_AT_ONCE", 1)
    for meter in (1, 2):
        collected(store, meter, H, H + 1)
        collected(store, meter, H + 90, H + 91)
        opened(store, meter, H, H + 91)
    forget_all(store, H + 50)
    assert hours_with_readings(store, 1) == hours_with_readings(store, 2) == [H + 90]


# --- messages ---------------------------------------------------------------------------------------------------------


def sent(db: Connection, hour: int, at: int) -> int:
    """A message with one hour that is closed."""
    insert = (
        "INSERT INTO hour (meter, hour, consumption, boundary, quality, closed_at) VALUES (1, ?, 5, 5, 'measured', 0)"
    )
    db.execute(insert, (hour,))
    return journal.begin(db, Intent(1, "consumption", 7, b"[]", {hour: 5}, 0), "boot", at)


def test_settled_messages_go_by_age_and_the_ledger_stays(store: Store):
    """What EnerKey has accepted is never forgotten."""
    for n in range(4):
        message = store.write(lambda db, n=n: sent(db, H + n, n * 1000))
        store.write(lambda db, message=message, n=n: journal.settle(db, message, Accepted(200), n * 1000))
    assert store.write(lambda db: retention.forget_messages(db, 2000)) == 2
    left = store.read(lambda db: db.execute("SELECT id FROM message").fetchall())
    hours = store.read(lambda db: db.execute("SELECT message FROM message_hour").fetchall())
    assert left == hours == [(3,), (4,)]
    assert store.read(lambda db: journal.in_ledger(db, 1, [H, H + 3])) == {H + n: 5 for n in range(4)}


def test_a_message_that_is_open_or_waits_for_a_person_stays(store: Store):
    """What was sent is what decides about it."""
    refused = store.write(lambda db: sent(db, H, 0))
    store.write(lambda db: journal.settle(db, refused, journal.Refused("data", 400, "no"), 0))
    store.write(lambda db: sent(db, H + 1, 0))
    store.write(lambda db: journal.orphaned_intents(db, 0))
    assert store.write(lambda db: retention.forget_messages(db, 10**15)) == 0
    assert store.read(lambda db: db.execute("SELECT state FROM hour ORDER BY hour").fetchall()) == [
        ("held",),
        ("claimed",),
    ]


# --- size -------------------------------------------------------------------------------------------------------------


def test_what_is_written_adds_up_over_a_day_and_its_restarts(store: Store):
    """Each process counts from zero."""
    day = 20_000 * retention.DAY_MS
    for at, written in ((day, 100), (day + HOUR_MS, 50), (day + retention.DAY_MS, 7)):
        store.write(lambda db, at=at, written=written: retention.weigh(db, at, written))
    found = store.read(retention.sizes)
    assert [(each.day, each.written) for each in found] == [(20_000, 150), (20_001, 7)]
    assert all(each.used > 4096 for each in found)


def test_the_days_left_follow_the_pace_of_the_newer_half():
    """In its first weeks a file grows by readings that later go as fast as they come."""
    steep = [retention.Size(day, 1000 * day, 0) for day in range(30)]
    flat = [retention.Size(30 + day, 30_000 + 10 * day, 0) for day in range(31)]
    assert retention.days_left([*steep, *flat], 30_300 + 500) == 50
    assert retention.days_left(flat, 0) == 0


@pytest.mark.parametrize("history", [[], [retention.Size(1, 5, 0)], [retention.Size(1, 5, 0), retention.Size(2, 5, 0)]])
def test_a_file_that_does_not_grow_is_never_full(history: list[retention.Size]):
    assert retention.days_left(history, 100) is None
