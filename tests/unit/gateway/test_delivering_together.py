"""Several polled connections in one write: as if each had delivered by itself, but once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from threading import Event

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from buffer.closing import freeze
from buffer.frozen import Frozen
from buffer.hours import ClosedHour, Rule
from buffer.model import HOUR_MS, to_ms
from buffer.readings import MeterRow, register_meters
from buffer.room import RESERVE
from buffer.store import Store
from drivers.base import NotStored
from drivers.reading import Reading, Rejected
from gateway.clock import Trust
from gateway.collector import CollectedMeter, Collector
from tests.fakes.clock import START, FakeAuthority, FakeClock

QUARTER = 900_000
RULES = {
    "heat": Rule("counter", 60_000),
    "pump": Rule("power", 60_000, max_gap_ms=QUARTER),
    "water": Rule("counter", 60_000),
    "gas": Rule("interval", QUARTER, period_ms=QUARTER),
}
CONNECTION = {"heat": "east", "pump": "east", "water": "west", "gas": "west"}
UNKNOWN = "unknown"  # a source whose meter the database does not have: its write is refused by the table
Batches = Sequence[tuple[str, Sequence[Reading | Rejected]]]
TABLES = {
    "reading": "at, meter, value, received",
    "reading_hour": "hour, meter",
    "unplaced": "boot_id, boottime, meter, value, source_at, received",
    "rejected": "at, connection, source, reason, detail, payload",
    "rejected_count": "connection, source, reason, count, last_at",
    "adjustment": "meter, hour, amount, reason, author, at",
    "event": "at, level, subject, text",
}


class Site:
    """Two connections; `commit_within`: the store has its thread."""

    def __init__(self, directory: Path, commit_within: float | None = None) -> None:
        directory.mkdir(exist_ok=True)
        self.clock = FakeClock()
        self.store = Store(directory, threaded=commit_within is not None, commit_within=commit_within or 0.0)
        rows = [MeterRow(name, None, "kWh", rule.kind, "off", "bench") for name, rule in RULES.items()]
        self.numbers = self.store.write(lambda db: register_meters(db, rows))
        meters = {name: CollectedMeter(self.numbers[name], Fraction(1), rule) for name, rule in RULES.items()}
        meters[UNKNOWN] = CollectedMeter(99, Fraction(1), RULES["heat"])
        self.told: list[dict[int, int]] = []
        tell = lambda newest, _: self.told.append(dict(newest))
        self.collector = Collector(self.store, meters, self.clock, "boot", tell)
        self.deliver_for = {name: self.collector.deliver_for(name, polled=True) for name in ("east", "west")}
        self.commits: list[str] = []
        self.store._db.set_trace_callback(lambda done: self.commits.append(done) if done == "COMMIT" else None)

    def close_hours(self, until: int) -> None:
        """Every meter has an opening and a closed hour before the edge `until`."""

        def work(db) -> None:
            for meter in self.numbers.values():
                hours = [ClosedHour(until - n, 0, 0, "estimated", "measured") for n in (2, 1)]
                freeze(db, meter, hours, Frozen(until, 0, "measured", None), 0)

        self.store.write(work)

    def rows(self, table: str, columns: str = "") -> list[tuple]:
        columns = columns or TABLES[table]
        return self.store.read(lambda db: db.execute(f"SELECT {columns} FROM {table} ORDER BY {columns}").fetchall())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.store.close()


def said(source: str, value: str, at: datetime = START, *, stamped: bool = False) -> Reading:
    return Reading(source, at, Decimal(value), "kWh", stamped)


def both(heat: Reading | Rejected, water: Reading | Rejected) -> Batches:
    return [("east", [heat]), ("west", [water])]


def test_all_connections_are_one_commit_and_are_told_once(site: Site):
    site.collector.deliver_together(both(said("heat", "1"), said("water", "2")), 2)
    assert site.rows("reading", "meter, value") == [(1, 1_000_000), (3, 2_000_000)]
    assert site.told == [{1: to_ms(START), 3: to_ms(START)}]
    assert site.commits == ["COMMIT"]


def test_what_is_no_reading_is_recorded_under_its_own_connection(site: Site):
    """R1, R2: poison, an impossible value, and another value for an instant."""
    site.collector.deliver_together(both(said("heat", "1"), said("water", "2")), 2)
    later = START + timedelta(minutes=1)
    poison = Rejected(None, START, "no such register")
    batches = [
        ("east", [said("heat", "3"), said("pump", "-1", later), said("heat", "9", later)]),
        ("west", [said("water", "4"), poison]),
    ]
    site.collector.deliver_together(batches, 2)
    assert site.rows("rejected", "connection, source, reason, payload") == [
        ("east", "heat", "another value for the same instant", "3.000000"),
        ("east", "pump", "negative", "-1"),
        ("west", None, "no such register", ""),
        ("west", "water", "another value for the same instant", "4.000000"),
    ]
    assert len(site.rows("reading")) == 3


# --- who waits for whom -----------------------------------------------------------------------------------------------


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Site]:
    """Who is polled waits for others longer than any test."""
    site = Site(tmp_path, commit_within=60.0)
    yield site
    site.store.close()


def test_one_write_for_all_connections_waits_for_nobody(patient: Site):
    """Nobody else can come; also where one of them has nothing to store."""
    patient.collector.deliver_together(both(said("heat", "1"), said("water", "2")), 2)
    patient.collector.deliver_together([("east", [said("heat", "3", START + timedelta(seconds=1))])], 2)
    assert len(patient.rows("reading")) == 3
    assert patient.commits == ["COMMIT"] * 2


def test_a_write_for_some_connections_goes_with_the_last_one_that_comes_by_itself(patient: Site):
    south = patient.collector.deliver_for("south", polled=True)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(patient.collector.deliver_together, both(said("heat", "1"), said("water", "2")), 2)
        while not patient.store._gathering._waiting:
            Event().wait(0.001)
        south([said("pump", "3")])
        waiting.result(30)
    assert len(patient.rows("reading")) == 3
    assert patient.commits == ["COMMIT"]


# --- failures ---------------------------------------------------------------------------------------------------------


def full(site: Site) -> None:
    """No room is left but what is kept for hours."""
    site.store.room.most = RESERVE


def test_a_full_disk_keeps_every_connections_readings(site: Site):
    """R3, R27: nothing is acknowledged; with room again all is stored, each under its own connection."""
    full(site)
    again = START + timedelta(minutes=1)
    for batches in (
        both(said("heat", "1"), said("water", "2")),
        both(said("heat", "3", again), said("water", "4", again)),
    ):
        with pytest.raises(NotStored, match="kept for hours"):
            site.collector.deliver_together(batches, 2)
    assert (site.rows("reading"), site.told) == ([], [])
    site.store.room.most = None
    site.collector.deliver_together(both(said("heat", "5"), said("water", "6")), 2)
    assert site.rows("reading", "meter, value") == [(1, 1_000_000), (1, 3_000_000), (3, 2_000_000), (3, 4_000_000)]
    assert site.rows("rejected", "connection, source, payload") == [
        ("east", "heat", "5.000000"),
        ("west", "water", "6.000000"),
    ]
    assert site.collector.flush() == 0


@pytest.mark.parametrize("bad", [said(UNKNOWN, "1"), said("nobody", "1")])
def test_what_is_wrong_with_one_connections_batch_keeps_no_other_from_being_stored(site: Site, bad: Reading):
    """And it is told, as it would be to that connection alone: whether the table refuses it or nobody knows the source."""
    with pytest.raises(Exception, match=r"FOREIGN KEY|nobody"):
        site.collector.deliver_together(
            [("east", [said("heat", "1")]), ("south", [bad]), ("west", [said("water", "2")])], 3
        )
    assert site.rows("reading", "meter, value") == [(1, 1_000_000), (3, 2_000_000)]
    assert site.told == [{1: to_ms(START)}, {3: to_ms(START)}]


def test_a_batch_that_is_wrong_weighs_more_than_a_full_disk(site: Site):
    """Waiting mends the disk; the others' readings wait meanwhile."""
    full(site)
    with pytest.raises(KeyError, match="nobody"):
        site.collector.deliver_together([("east", [said("heat", "1")]), ("south", [said("nobody", "1")])], 2)
    assert site.collector.flush() == 1


# --- the same as one after the other ----------------------------------------------------------------------------------

moments = st.sampled_from([-3000, -1500, 0, 1, 400, 900, 3599, 3600, 4000])  # s after START, 5 min before an hour
poison = st.integers(0, 7).map(lambda of_eight: of_eight == 7)
items = st.tuples(st.sampled_from(sorted(CONNECTION)), moments, st.integers(-1, 3), st.booleans(), poison)
changes = st.sampled_from(["", "step", "doubt", "vouch"])
rounds = st.lists(st.tuples(st.lists(items, max_size=8), changes), max_size=4)


def batches_of(found: Sequence[tuple[str, int, int, bool, bool]], begin: datetime) -> Batches:
    batches: dict[str, list[Reading | Rejected]] = {"east": [], "west": []}
    for source, after, value, stamped, is_poison in found:
        at = begin + timedelta(seconds=after)
        item = Rejected(source, at, "not a number") if is_poison else said(source, str(value), at, stamped=stamped)
        batches[CONNECTION[source]].append(item)
    return list(batches.items())


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Site, Site]]:
    """Two sites with the same past."""
    sites = Site(tmp_path / "together"), Site(tmp_path / "apart")
    for site in sites:
        site.store._db.set_trace_callback(None)
    yield sites
    for site in sites:
        site.store.close()


def clear(site: Site, begin: datetime) -> None:
    """An empty file, but for hours that were closed before `begin`."""
    site.clock.wall, site.clock.trust = begin, Trust("auto", [FakeAuthority("NTP")])
    site.clock.trust.ask(site.clock.boottime)
    site.clock.advance(0)
    site.told.clear()
    tables = [*TABLES, "hour", "counter_state", "parked"]
    site.store.write(lambda db: [db.execute(f"DELETE FROM {table}") for table in tables])
    site.close_hours(to_ms(begin) // HOUR_MS)


def lives(site: Site, what: str) -> None:
    """What happens to the clock before the next poll."""
    site.clock.advance(250)
    if what == "step":
        site.clock.step_wall(30)
    elif what == "doubt":
        site.clock.step_wall(-70)
        site.clock.now()
    elif what == "vouch":
        site.clock.trust._authorities[0].word = "NTP"
        site.clock.trust.ask(site.clock.boottime)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds)
@example([([], "doubt"), ([], "vouch"), ([("heat", 0, 1, True, False), ("water", 4000, 1, True, False)], "")])
def test_together_leaves_the_same_rows_as_one_after_the_other(pair: tuple[Site, Site], rounds: list):
    """R1, R2, R4, R5: readings, poison, conflicts, late energy, times from before a clock was set, untrusted ones."""
    together, apart = pair
    begin = datetime(2026, 12, 1, 9, 55, tzinfo=START.tzinfo)
    for site in pair:
        clear(site, begin)
    for found, what in rounds:
        batches = batches_of(found, begin)
        together.collector.deliver_together(batches, 2)
        for connection, batch in batches:
            apart.deliver_for[connection](batch)
        for site in pair:
            lives(site, what)
    for table in TABLES:
        assert together.rows(table) == apart.rows(table)
    newest = lambda site: {meter: max(told.get(meter, 0) for told in site.told) for told in site.told for meter in told}
    assert newest(together) == newest(apart)
