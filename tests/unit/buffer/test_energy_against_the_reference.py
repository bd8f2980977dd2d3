"""Interval and power sources against `reference_energy`: messy series, delivered in any order, closed at any time."""

from __future__ import annotations

import sqlite3
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer.closing import freeze, frozen_of
from buffer.hours import Rule, close_hours, open_meter, scan_after
from buffer.late import add_and_book
from buffer.migrations import migrate
from buffer.model import HOUR_MS, MINUTE_MS
from buffer.readings import MeterRow, StoredReading, register_meters, samples_of
from tests.unit.buffer import reference_energy as reference

SERIES = 2000  # of each kind
FIRST = 480_000
METER, OTHER = 1, 2
met: Counter[str] = Counter()


@pytest.fixture(scope="module")
def db():
    """One database; every series leaves it as it was."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    register_meters(connection, [MeterRow(name, 1, "kWh", "power", "off", "hall") for name in ("a", "b")])
    yield connection
    connection.close()


class Books:
    """One meter's life in the database: readings arrive, hours are closed."""

    def __init__(self, db: sqlite3.Connection, rule: Rule) -> None:
        self.db, self.rule = db, rule
        self.arrived: dict[int, int] = {}
        self.late = 0

    def arrive(self, samples: list[tuple[int, int]], now: int) -> None:
        rows = [StoredReading(at, METER, value, now) for at, value in samples]
        rows.append(StoredReading(samples[0][0], OTHER, 5, now))  # another meter's readings are none of our business
        late = add_and_book(self.db, rows, {METER: self.rule}, now)[1]
        self.late += len(late)
        for at, value in samples:
            self.arrived.setdefault(at, value)

    def close(self, limit: int):
        """As the closer does."""
        frozen = frozen_of(self.db, METER)
        since = scan_after(frozen.edge, self.rule) if frozen else -(2**62)
        samples = samples_of(self.db, {METER: since})[METER]
        opened = frozen or open_meter(samples, self.rule, limit, 0)
        if opened is None:
            return []
        later = [sample for sample in samples if sample[0] > scan_after(opened.edge, self.rule)]
        hours, after = close_hours(opened, later, self.rule, limit)
        if hours or frozen is None:
            freeze(self.db, METER, hours, after, 0)
        return hours

    def booked(self, table: str) -> Counter[int]:
        """Hour: amount."""
        found: Counter[int] = Counter()
        for hour, amount in self.db.execute(f"SELECT hour, amount FROM {table} WHERE meter = ?", (METER,)):
            found[hour] += amount
        return found


def through_time(db, chance: Random, rule: Rule, series: list[tuple[int, int]], check_closed) -> Books:
    """Deliver a series in any grouping, some of it late, twice or contradicted; close hours whenever."""
    books = Books(db, rule)
    late = [sample for sample in series if chance.random() < 0.15]
    waiting = [sample for sample in series if sample not in late]
    while waiting or late:
        some, waiting = waiting[: (size := chance.randrange(1, 20))], waiting[size:]
        held_up = chance.sample(late, chance.randrange(len(late) + 1)) if waiting else late
        late = [sample for sample in late if sample not in held_up]
        batch = [*some, *held_up]
        if not batch:
            continue
        again = chance.choices(series if chance.random() < 0.3 else batch, k=chance.randrange(3))
        again = [sample for sample in again if sample in batch or sample[0] in books.arrived]
        batch = chance.sample(batch, len(batch)) + [(at, value + chance.randrange(2)) for at, value in again]
        books.arrive(batch, FIRST * HOUR_MS + 3 * 24 * HOUR_MS)
        if chance.random() < 0.7:
            for hour in books.close(FIRST + chance.choice([2, 5, 10, 10**6])):
                check_closed(sorted(books.arrived.items()), hour)
                met[hour.quality] += 1
    met["late"] += books.late
    return books


def a_pace(chance: Random, count: int, every: int, jitter: int) -> list[int]:
    start = FIRST * HOUR_MS + chance.choice([0, 1, 7 * MINUTE_MS, chance.randrange(HOUR_MS)])
    instants = [start + number * every + chance.randint(-jitter, jitter) for number in range(count)]
    hole = chance.randrange(count + 1)
    width = chance.choice([0, 0, 1, count // 3])
    kept = [at for number, at in enumerate(instants) if not hole <= number < hole + width and chance.random() > 0.05]
    return sorted(set(kept)) or [start]


@settings(max_examples=SERIES, deadline=None)
@given(seed=st.integers(0, 2**48))
def test_interval_hours_and_what_was_late_are_the_reference_to_the_last_micro(db, seed: int):
    """R4, R7, R8: no hour changes, and hours + adjustments + parked + what is open = all distinct periods."""
    chance = Random(seed)
    period = chance.choice([MINUTE_MS, 5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS, 150 * MINUTE_MS, 24 * HOUR_MS])
    rule = Rule(
        "interval", period, period_ms=period, stamp=chance.choice(["start", "end"]),
        late=chance.choice(["delta", "next_hour", "alarm"]),
    )  # fmt: skip
    jitter = chance.choice([0, 0, 700, 1900])
    instants = a_pace(chance, chance.randrange(1, 90 if period <= HOUR_MS else 8), period, min(jitter, period // 3))
    series = [(at, chance.choice([0, 1, 333_333, chance.randrange(-5, 10**7)])) for at in instants]

    def check(arrived, hour):
        assert hour.consumption == reference.period_energy(arrived, hour.hour, period, rule.stamp)
        assert (hour.quality, hour.covered_ms) == reference.period_quality(arrived, hour.hour, period, rule.stamp)

    db.execute("BEGIN")
    try:
        books = through_time(db, chance, rule, series, check)
        consumed = books_of_hours(db)
        adjusted, parked = books.booked("adjustment"), books.booked("parked")
        everything = sorted(books.arrived.items())
        expected = {hour: reference.period_energy(everything, hour, period, rule.stamp) for hour in consumed}
        if rule.late == "next_hour":
            assert sum(consumed.values()) + adjusted.total() == sum(expected.values())
        else:
            assert {hour: consumed[hour] + adjusted[hour] + parked[hour] for hour in consumed} == expected
        assert not (parked if rule.late != "alarm" else adjusted)
        spans = [reference.period_of(sample, period, rule.stamp) for sample in everything]
        touched = {hour for begin, end in spans for hour in range(begin // HOUR_MS, end // HOUR_MS + 1)}
        outside = touched - set(consumed)  # before the opening, or open
        remainder = sum(reference.period_energy(everything, hour, period, rule.stamp) for hour in outside)
        booked = sum(consumed.values()) + adjusted.total() + parked.total()
        assert booked + remainder == sum(value for _, value in everything)
    finally:
        db.execute("ROLLBACK")


@settings(max_examples=SERIES, deadline=None)
@given(seed=st.integers(0, 2**48))
def test_power_hours_and_what_was_late_are_the_reference_to_the_last_micro(db, seed: int):
    """R8, R11: a closed hour and its adjustments are what the hour would be, had every sample come in time."""
    chance = Random(seed)
    every = chance.choice([MINUTE_MS, 5 * MINUTE_MS, 10 * MINUTE_MS])
    rule = Rule(
        "power", every, max_gap_ms=3 * every, hold_ms=chance.choice([0, 0, 2 * every, HOUR_MS]),
        late=chance.choice(["delta", "next_hour", "alarm"]),
    )  # fmt: skip
    instants = a_pace(chance, chance.randrange(1, 90), every, chance.choice([0, every // 3]))
    series = [(at, chance.choice([0, 10**6, chance.randrange(-(10**6), 10**8)])) for at in instants]

    def check(arrived, hour):
        energy, quality, covered = reference.power_energy(arrived, hour.hour, rule.max_gap_ms, rule.hold_ms)
        assert (hour.consumption, hour.quality, hour.covered_ms) == (energy, quality, covered)

    db.execute("BEGIN")
    try:
        books = through_time(db, chance, rule, series, check)
        consumed = books_of_hours(db)
        adjusted, parked = books.booked("adjustment"), books.booked("parked")
        everything = list(books.arrived.items())
        expected = {
            hour: reference.power_energy(everything, hour, rule.max_gap_ms, rule.hold_ms)[0] for hour in consumed
        }
        if rule.late == "next_hour":
            assert sum(consumed.values()) + adjusted.total() == sum(expected.values())
        else:
            assert {hour: consumed[hour] + adjusted[hour] + parked[hour] for hour in consumed} == expected
    finally:
        db.execute("ROLLBACK")


def test_the_series_above_were_messy():
    """A differential test over tame series would prove nothing."""
    assert min(met[what] for what in ("measured", "interpolated", "estimated", "missing", "late")) >= SERIES / 5


def books_of_hours(db) -> dict[int, int]:
    """Hour: consumption, as stored."""
    return dict(db.execute("SELECT hour, consumption FROM hour WHERE meter = ?", (METER,)))
