"""Looks at the whole buffer, cheap however much it holds."""

from __future__ import annotations

import pytest

from buffer import journal, overview, poison, postings
from buffer.closing import freeze, frozen_of
from buffer.doubts import Doubt
from buffer.frozen import Frozen
from buffer.hours import ClosedHour
from buffer.journal import Intent
from buffer.model import HOUR_MS, Accepted, Unknown
from buffer.readings import (
    Rejection,
    StoredReading,
    UnplacedReading,
    add,
    add_unplaced,
    note,
    register_meters,
    reject,
    samples_of,
)

FIRST = 480_000
HELD = Doubt(FIRST + 1, "sent", None, 10, 0, None, None, 2, "")
ADJUST = "INSERT INTO adjustment (meter, hour, amount, reason, author, at) VALUES"


def close(db, meter: int, first: int, count: int) -> None:
    hours = [ClosedHour(first + n, 10, 10 * (n + 1), "measured", "measured") for n in range(count)]
    freeze(db, meter, hours, Frozen(first + count, 10 * count, "measured", None), 7)


@pytest.fixture
def filled(store):
    """Meter a: four hours, of which one is accepted, one held, one of unknown fate; b: a reading; c: nothing."""

    def work(db):
        at = FIRST * HOUR_MS
        add(db, [StoredReading(at, 1, 5, at), StoredReading(at + 1, 1, 6, at), StoredReading(at - 9, 2, 7, at)])
        close(db, 1, FIRST, 4)
        first = journal.begin(db, Intent(1, "consumption", 100, b"[]", {FIRST: 10}, 0), "boot", at)
        journal.settle(db, first, Accepted(200), at)
        for hour, fate in [(FIRST + 1, "held"), (FIRST + 2, None)]:
            message = journal.begin(db, Intent(1, "consumption", 100, b"[]", {hour: 10}, 0), "boot", at)
            journal.settle(db, message, Unknown("lost"), at)
            if fate:
                journal.settle_by_hour(db, message, {hour: fate}, "", at)
        db.execute(f"{ADJUST} (1, ?, -3, 'late', 'me', 0)", (FIRST,))
        db.execute(f"{ADJUST} (1, ?, 5, 'late', 'me', 0)", (FIRST,))
        db.execute(f"{ADJUST} (2, ?, 99, 'late', 'me', 0)", (FIRST,))

    store.write(work)
    return store


def test_every_configured_meter_is_shown_with_what_it_has(filled):
    a, b, c = filled.read(overview.meters)
    at = FIRST * HOUR_MS
    assert a == overview.MeterOverview(
        "a",
        "kWh",
        "consumption",
        "counter",
        "hall",
        at + 1,
        6,
        FIRST + 3,
        FIRST,
        pending=1,
        held=1,
        unknown=1,
        parked=0,
        unknown_since=at,
        dropped=0,
        foreign=[],
        doubt=HELD,
        taken_over=None,
    )
    assert (b.name, b.last_at, b.last_value, b.last_hour, b.last_accepted, b.pending) == ("b", at - 9, 7, None, None, 0)
    assert (c.name, c.last_at, c.last_value, c.held, c.unknown) == ("c", None, None, 0, 0)


def test_a_meter_that_left_the_configuration_is_not_shown_but_still_known(filled):
    """R31."""
    filled.write(lambda db: register_meters(db, []))
    assert filled.read(overview.meters) == []
    assert filled.read(overview.numbers) == {}
    assert filled.read(lambda db: overview.meter_named(db, "a")) == (1, "kWh", "consumption")
    assert filled.read(lambda db: overview.meter_named(db, "z")) is None


def test_hours_show_what_became_of_them(filled):
    assert filled.read(overview.numbers) == {"a": 1, "b": 2, "c": 3}
    assert filled.read(lambda db: overview.hours(db, 1, FIRST, FIRST + 3)) == [
        overview.HourView(FIRST, 10, 10, "measured", "accepted", 10, 2, 2),
        overview.HourView(FIRST + 1, 10, 20, "measured", "held", None, 0, doubt=HELD),
        overview.HourView(FIRST + 2, 10, 30, "measured", "claimed", None, 0),
    ]


def test_rejections_events_and_unplaced_readings_are_shown(store):
    def work(db):
        reject(db, [Rejection(number, "hall", "a", f"reason {number // 2}", "", "") for number in range(1, 4)])
        for number in range(3):
            note(db, number, "info", "a", str(number))
        add_unplaced(db, [UnplacedReading("boot", 1, 1, 1, None, 1)])

    store.write(work)
    assert [(row.reason, row.count, row.last_at) for row in store.read(overview.rejected)] == [
        ("reason 1", 2, 3),
        ("reason 0", 1, 1),
    ]
    assert [event.text for event in store.read(lambda db: overview.events(db, 2))] == ["2", "1"]
    assert store.read(overview.unplaced) == 1


def plan(db, query: str) -> str:
    return " / ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", [1] * query.count("?")))


LOOKS = {
    "meters": overview.meters,
    "numbers": overview.numbers,
    "unplaced": overview.unplaced,
    "rejected": overview.rejected,
    "hours": lambda db: overview.hours(db, 1, FIRST, FIRST + 3),
    "events": lambda db: overview.events(db, 20),
    "unknown_messages": journal.unknown_messages,
    "pending_ends": lambda db: journal.pending_ends(db, 1),
    "newest pending": lambda db: journal.pending(db, 1, 744, newest=True, suspect=False),
    "without_open_message": lambda db: journal.without_open_message(db, [1, 2]),
    "suspects": lambda db: poison.suspects(db, 1),
    "unposted": lambda db: postings.unposted(db, 1),
    "posted": lambda db: postings.posted(db, 1),
    "correctable": lambda db: postings.correctable(db, 1),
    "oldest unposted": lambda db: postings.oldest(db, [1, 2]),
    "all_pending_ends": lambda db: journal.all_pending_ends(db, [1, 2]),
    "made_since": lambda db: journal.made_since(db, 0),
    "pending": lambda db: journal.pending(db, 1, 744),
    "in_ledger": lambda db: journal.in_ledger(db, 1, [FIRST]),
    "ever_accepted": lambda db: journal.ever_accepted(db, 1),
    "held_before": lambda db: journal.held_before(db, 1, FIRST),
    "spent": lambda db: journal.spent(db, 0),
    "samples_of": lambda db: samples_of(db, {1: 0, 2: 0}),
    "frozen_of": lambda db: frozen_of(db, 1),
}
SMALL = {
    "meter",
    "unplaced",
    "rejected_count",
    "past",
}  # what may be read whole, `past` being rows found so; `event` by its id


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_no_look_reads_a_growing_table_from_end_to_end(filled, look):
    """Years of hours and messages must not make a look slow: every query finds its rows by an index."""

    def work(db):
        asked: list[str] = []
        db.set_trace_callback(asked.append)
        look(db)
        db.set_trace_callback(None)
        return [(query, plan(db, query)) for query in asked if query.lstrip().startswith(("SELECT", "WITH"))]

    plans = filled.read(work)
    assert plans
    for query, steps in plans:
        for step in steps.split(" / "):
            if step.startswith("SCAN") and "ORDER BY id DESC LIMIT" not in query:
                assert step.split()[1] in SMALL or "message_one_open" in step, (query, steps)
