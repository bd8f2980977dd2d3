"""From what sources said to durable rows."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from threading import Event

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buffer.hours import Rule
from buffer.model import to_ms
from buffer.readings import MeterRow, register_meters
from buffer.room import RESERVE
from buffer.store import Store, StoreError
from drivers.base import Deliver, NotStored
from drivers.reading import Reading, Rejected
from gateway.clock import EARLIEST, LATELY, Trust
from gateway.collector import CollectedMeter, Collector
from tests.fakes.clock import START, FakeAuthority, FakeClock

BOOT = "boot-1"
COUNTER = Rule("counter", 60_000)


class Site:
    def __init__(self, directory: Path, commit_within: float | None = None) -> None:
        """`commit_within`: the store has its thread."""
        self.clock = FakeClock()
        self.store = Store(directory, threaded=commit_within is not None, commit_within=commit_within or 0.0)
        names = ("heat", "water")
        rows = [MeterRow(name, None, "kWh", "counter", "off", "bench") for name in names]
        self.numbers = self.store.write(lambda db: register_meters(db, rows))
        self.stored: list[tuple[dict[int, int], float]] = []
        meters = {
            "heat": CollectedMeter(self.numbers["heat"], Fraction(1, 1000), COUNTER),
            "water": CollectedMeter(self.numbers["water"], Fraction(1), COUNTER),
        }
        on_stored = lambda newest, boottime: self.stored.append((dict(newest), boottime))
        self.collector = Collector(self.store, meters, self.clock, BOOT, on_stored)
        self.deliver = self.collector.deliver_for("hall")
        self.deliver_polled = self.collector.deliver_for("bus", polled=True)

    def rows(self, query: str) -> list[tuple]:
        return self.store.read(lambda db: db.execute(query).fetchall())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.store.close()


def said(source: str, value: str, at: datetime = START, *, stamped: bool = False) -> Reading:
    return Reading(source, at, Decimal(value), "Wh", stamped)


def test_a_reading_becomes_micro_of_the_meters_unit(site: Site):
    site.deliver([said("heat", "1234567.8915")])
    received = to_ms(START)
    assert site.rows("SELECT at, meter, value, received FROM reading") == [
        (to_ms(START), site.numbers["heat"], 1_234_567_892, received)
    ]


def test_what_was_stored_is_told_with_each_meters_newest_instant(site: Site):
    later = START + timedelta(seconds=10)
    site.deliver([said("heat", "2", later), said("heat", "1"), said("water", "7")])
    assert site.stored == [({site.numbers["heat"]: to_ms(later), site.numbers["water"]: to_ms(START)}, 1000.0)]


def test_poison_is_kept_with_its_reason_in_the_same_commit(site: Site):
    site.deliver([Rejected("heat", START, "not a number", "x", "abc"), said("heat", "1")])
    assert site.rows("SELECT connection, source, reason, payload FROM rejected") == [
        ("hall", "heat", "not a number", "abc")
    ]
    assert site.rows("SELECT count FROM rejected_count") == [(1,)]


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Site]:
    """Who is polled waits for others longer than any test, and a first one does already: `site.waiting`."""
    site = Site(tmp_path, commit_within=60.0)
    site.others = site.collector.deliver_for("another bus", polled=True)
    site.commits = []
    site.store._db.set_trace_callback(lambda done: site.commits.append(done) if done == "COMMIT" else None)
    with ThreadPoolExecutor(1) as pool:
        site.waiting = pool.submit(site.deliver_polled, [said("heat", "1")])
        while not site.store._gathering._waiting:
            Event().wait(0.001)
        yield site
        site.store.close()


def test_connections_that_are_polled_at_the_same_time_share_a_commit(patient: Site):
    """The last one that can come ends the waiting."""
    patient.others([said("water", "2")])
    patient.waiting.result(30)
    assert (len(patient.rows("SELECT * FROM reading")), patient.commits) == (2, ["COMMIT"])


def test_messages_of_a_broker_do_not_wait_for_polls(patient: Site):
    """R3: they have been gathered before; a poll that waits goes with them."""
    patient.deliver([said("water", "2")])
    patient.waiting.result(30)
    assert (len(patient.rows("SELECT * FROM reading")), patient.commits) == (2, ["COMMIT"])


def test_a_stop_does_not_wait_for_polls(patient: Site):
    """Neither does it lose what waits."""
    patient.store.hurry()
    patient.waiting.result(30)
    assert len(patient.rows("SELECT * FROM reading")) == 1


def test_a_batch_of_poison_alone_is_kept_and_tells_nobody(site: Site):
    site.deliver([Rejected(None, START, "no source")])
    assert site.stored == []
    assert len(site.rows("SELECT * FROM rejected")) == 1


def test_a_negative_counter_is_no_reading(site: Site):
    """R2: -1 is how many meters say that there is no value; taken for a fall, it would become another meter."""
    site.deliver([said("water", "-1"), said("heat", "-0.0000001")])
    assert site.rows("SELECT source, reason, payload FROM rejected") == [("water", "negative", "-1")]


def test_a_value_that_no_counter_can_hold_is_rejected_and_never_0(site: Site):
    """R2."""
    site.deliver([said("water", "1e30"), said("heat", "1")])
    assert site.rows("SELECT reason, payload FROM rejected") == [("beyond what a counter can hold", "1E+30")]
    assert len(site.rows("SELECT * FROM reading")) == 1


def test_the_same_reading_again_changes_nothing(site: Site):
    """R4."""
    for _ in range(3):
        site.deliver([said("heat", "1")])
    assert len(site.rows("SELECT * FROM reading")) == 1
    assert site.rows("SELECT * FROM rejected") == []


def test_another_value_for_the_same_instant_is_rejected_and_the_first_stays(site: Site):
    site.deliver([said("water", "1")])
    site.deliver([said("water", "2")])
    assert site.rows("SELECT value FROM reading") == [(1_000_000,)]
    assert site.rows("SELECT source, reason, detail, payload FROM rejected") == [
        ("water", "another value for the same instant", "1.000000 came first and stays", "2.000000")
    ]


def test_under_an_untrusted_clock_nothing_is_placed_in_time(site: Site):
    """R5."""
    site.clock.trusted = False
    seen = site.clock.wall - timedelta(seconds=3)
    own = datetime(2026, 3, 2, 8, tzinfo=UTC)
    site.deliver([said("heat", "1000", seen), said("water", "7", own, stamped=True)])
    assert site.rows("SELECT * FROM reading") == []
    assert site.stored == []
    assert site.rows("SELECT boot_id, boottime, meter, value, source_at, received FROM unplaced ORDER BY id") == [
        (BOOT, 997_000, site.numbers["heat"], 1_000_000, None, to_ms(seen)),
        (BOOT, 1_000_000, site.numbers["water"], 7_000_000, to_ms(own), to_ms(site.clock.wall)),
    ]


@pytest.mark.parametrize("by", [86_400 * 365 * 50, 3600, 5, -5, -3600])
def test_a_reading_taken_before_the_clock_was_set_gets_the_new_clocks_time(site: Site, by: float):
    """R1, R5: the poll was under way; what the old clock had called it stands beside."""
    taken = site.clock.now().wall
    site.clock.advance(2)
    site.clock.step_wall(by)
    site.clock.advance(1)
    site.deliver([said("heat", "1000", taken), said("water", "7", taken, stamped=True)])
    assert site.rows("SELECT at, received FROM reading WHERE meter = 1") == [
        (to_ms(taken) + round(by * 1000), to_ms(taken))
    ]
    assert site.rows("SELECT at FROM reading WHERE meter = 2") == [(to_ms(taken),)]
    assert site.stored[0][0][site.numbers["heat"]] == to_ms(taken) + round(by * 1000)


def test_a_reading_taken_before_an_untrusted_clock_was_set_waits_where_it_was_taken(site: Site):
    site.clock.trusted = False
    taken = site.clock.now().wall
    site.clock.advance(2)
    site.clock.step_wall(86_400 * 365 * 50)
    site.deliver([said("heat", "1000", taken)])
    assert site.rows("SELECT boottime, received FROM unplaced") == [(1_000_000, to_ms(taken))]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 999_999), st.integers(0, 2_000_000))
def test_a_reading_keeps_its_time_to_the_millisecond_while_nobody_sets_the_clock(site: Site, micro: int, later: int):
    """Whatever is lost between boottime in seconds and time in milliseconds."""
    site.clock.advance(3 + micro / 10**6)
    taken = site.clock.now().wall
    site.clock.advance(later / 10**6)
    site.deliver([said("heat", "1000", taken)])
    assert site.rows("SELECT max(at), max(received) FROM reading") == [(to_ms(taken), to_ms(site.clock.wall))]


def test_a_clock_that_is_only_slewed_moves_no_reading(site: Site):
    taken = site.clock.now().wall
    site.clock.advance(1)
    site.clock.step_wall(0.4)
    site.deliver([said("heat", "1000", taken)])
    assert site.rows("SELECT at, received FROM reading") == [(to_ms(taken), to_ms(site.clock.wall))]


def test_a_stamp_that_no_driver_could_check_is_checked_when_the_clock_has_become_trusted(site: Site):
    """DESIGN 5: the driver looked while the clock was not trusted, the collector when it was. R2: poison stays beside them."""
    authority = FakeAuthority()
    site.clock.trust = Trust("auto", [authority])
    site.clock.wall = EARLIEST
    site.clock.now()
    authority.word = "NTP"
    site.clock.trust.ask(site.clock.boottime)
    ahead = timedelta(minutes=5)
    stamps = [EARLIEST + ahead, EARLIEST + ahead + timedelta(seconds=1), datetime(2014, 12, 31, tzinfo=UTC)]
    poison = Rejected("water", EARLIEST, "not a number", "", "x")
    site.deliver([poison, *(said("water", str(n), at, stamped=True) for n, at in enumerate(stamps))])
    assert site.rows("SELECT value FROM reading") == [(0,)]
    assert site.rows("SELECT connection, source, reason, payload FROM rejected") == [
        ("hall", "water", "not a number", "x"),
        ("hall", "water", "time in the future", "1"),
        ("hall", "water", "time before 2015", "2"),
    ]
    assert site.stored == [({site.numbers["water"]: to_ms(stamps[0])}, 1000.0)]
    site.clock.advance(LATELY)
    site.deliver([said("water", "3", datetime(2014, 12, 31, tzinfo=UTC), stamped=True)])
    assert len(site.rows("SELECT * FROM rejected")) == 3  # from here on the drivers check


def test_a_failing_store_is_told_to_the_driver_and_nothing_of_the_batch_stays(site: Site, monkeypatch):
    def fail(work: object, *, patients: int) -> None:
        raise StoreError("disk full")

    monkeypatch.setattr(site.store, "write", fail)
    with pytest.raises(NotStored, match="disk full"):
        site.deliver([said("heat", "1")])
    assert site.stored == []


# --- room that runs out -----------------------------------------------------------------------------------------------


def poll(site: Site, *, minutes: int, deliver: Deliver) -> None:
    """A reading of "water" each minute, which its driver forgets when it is not stored."""
    for _ in range(minutes):
        value = f"{site.clock.boottime:.0f}"
        with suppress(NotStored):
            deliver([said("water", value, site.clock.wall)])
        site.clock.advance(60.0)


def full(site: Site) -> None:
    """No room is left but what is kept for hours."""
    site.store.room.most = RESERVE


def roomy(site: Site) -> None:
    """There is again."""
    site.store.room.most = None


def test_without_room_nothing_is_acknowledged_and_what_was_polled_stays_around_full_hours(site: Site):
    """R3, R27: from 09:55 to 11:55; when there is room it is stored before what is newer, and told."""
    full(site)
    with pytest.raises(NotStored, match="kept for hours"):
        site.deliver_polled([said("water", "1")])
    poll(site, minutes=120, deliver=site.deliver_polled)
    assert site.rows("SELECT * FROM reading") == []
    assert site.collector.flush() == 6
    roomy(site)
    site.deliver_polled([said("heat", "1", site.clock.wall)])
    minutes = [
        (at - to_ms(START)) // 60_000 for (at,) in site.rows("SELECT at FROM reading WHERE meter = 2 ORDER BY at")
    ]
    assert minutes == [0, 4, 5, 64, 65, 119]
    assert [sorted(newest) for newest, _ in site.stored] == [[site.numbers["water"]], [site.numbers["heat"]]]
    assert site.collector.flush() == 0


def test_what_a_broker_keeps_is_kept_nowhere_else(site: Site):
    """R3: it comes again, perhaps with another time, and must not be there twice."""
    full(site)
    poll(site, minutes=5, deliver=site.deliver)
    assert site.collector.flush() == 0
    roomy(site)
    site.deliver([said("heat", "1")])
    assert site.rows("SELECT count(*) FROM reading") == [(1,)]


def test_at_the_end_what_waits_takes_the_room_that_is_kept_for_hours(site: Site):
    """A restart on a full disk costs no boundary."""
    full(site)
    poll(site, minutes=120, deliver=site.deliver_polled)
    assert site.collector.flush() == 6
    assert site.collector.flush(last=True) == 0
    assert site.rows("SELECT count(*) FROM reading") == [(6,)]


def test_what_waited_in_memory_is_placed_by_the_clock_that_was_set_meanwhile(site: Site):
    """R1, R5: read while the clock was an hour slow, stored after it was set."""
    full(site)
    with pytest.raises(NotStored):
        site.deliver_polled([said("water", "1")])
    site.clock.now()
    site.clock.step_wall(3600.0)
    site.clock.now()
    roomy(site)
    assert site.collector.flush() == 0
    assert site.rows("SELECT at FROM reading") == [(to_ms(START + timedelta(hours=1)),)]


def test_a_store_that_fails_keeps_what_waits_and_a_second_delivery_of_it_changes_nothing(site: Site):
    """R4, R26: the driver offers its last readings again, which the memory has as well."""
    full(site)
    batch = [said("water", str(n), START + timedelta(minutes=n)) for n in range(10)]
    for _ in range(3):
        with pytest.raises(NotStored):
            site.deliver_polled(batch)
    roomy(site)
    site.deliver_polled(batch)
    assert site.rows("SELECT count(*) FROM reading") == [(10,)]
    assert site.rows("SELECT count(*) FROM rejected") == [(0,)]
