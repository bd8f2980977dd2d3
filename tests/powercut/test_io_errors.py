"""The n-th write, sync or truncate fails, once or from then on, and again while it recovers (reliability 2.5, 5.5; R26, R27).

Here every so-many-th operation of a morning; `scripts/powercut --errors` takes each one.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing

import pytest

from buffer.store import Store, StoreError
from drivers.base import NotStored
from gateway.simulator.enerkey import EnerkeySimulator
from tests.fakes.clock import FakeClock
from tests.fakes.failing_disk import EIO, FromTheSyncOn, failing_disk
from tests.fakes.small_gateway import SmallGateway, closed_hours, hour_number, reading
from tests.powercut.sweep import KINDS, POLLS, live, swept

pytestmark = pytest.mark.timeout(300)  # a machine that does other things too
EVERY = 31  # operations from one that fails to the next; a prime, because they come in pairs


@pytest.fixture
def disk(tmp_path):
    with failing_disk(tmp_path) as made:
        yield made


# --- a whole morning --------------------------------------------------------------------------------------------------


def test_a_morning_on_a_disk_that_works_is_right(tmp_path, disk):
    """The scenario says something: commits, syncs, messages, and nothing wrong."""
    lived = live(tmp_path, disk, (), EIO)
    assert lived.wrong == []
    assert lived.failed == []
    assert lived.operations > 10 * POLLS


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_operation_fails_nothing_is_lost_or_doubled_and_it_goes_on_by_itself(tmp_path, kind):
    """R12, R16, R26, R27: what was acknowledged is there, EnerKey has every hour exactly once, without an operator."""
    logging.disable(logging.CRITICAL)  # thousands of lines, as it should be
    try:
        found = swept(tmp_path, KINDS[kind], first=1 + list(KINDS).index(kind), step=EVERY)
    finally:
        logging.disable(logging.NOTSET)
    assert found.wrong == []
    assert found.runs > 5
    assert found.failures >= found.runs - 1, "the last one runs clean"


# --- a disk beside it -------------------------------------------------------------------------------------------------


def test_a_write_needs_no_other_place_than_the_database_and_its_log(tmp_path, disk):
    """R27: closing the hour of many meters changes many pages, and must not fail because /var/tmp is full."""
    with closing(Store(tmp_path, threaded=False)) as store:
        store.write(
            lambda db: db.executemany("INSERT INTO event VALUES (?, 0, '', '', ?)", enumerate(["x" * 999] * 400))
        )

        def work(db):
            db.execute("UPDATE event SET text = 'y' || text")
            raise ValueError("undo it")

        with pytest.raises(ValueError, match="undo it"):
            store.write(work)
        assert store.read(lambda db: db.execute("SELECT count(*) FROM event WHERE text LIKE 'y%'").fetchone()) == (0,)
        assert disk.nameless == 0


# --- a commit that fails although it is there -------------------------------------------------------------------------


@pytest.fixture
def gateway(tmp_path, disk):
    clock = FakeClock()
    simulator = EnerkeySimulator(now=lambda: clock.wall, keys=["one", "two"])
    made = SmallGateway(tmp_path, clock, simulator, settle=60.0)
    made.run(1)  # what is written once, at the start
    yield made
    disk.heal()
    made.close()
    simulator.close()


def test_a_commit_that_fails_may_be_there_and_the_store_says_what_the_file_says(tmp_path, disk):
    """R26: the write is not believed, and the next one sees it."""
    with closing(Store(tmp_path, threaded=False)) as store:
        store.write(lambda db: db.execute("INSERT INTO meta VALUES ('log', 'begun')"))
        disk.fail(FromTheSyncOn(disk), EIO)
        with pytest.raises(StoreError):
            store.write(lambda db: db.execute("INSERT INTO meta VALUES ('a', '')"))
        assert disk.failed[0][1] == "sync"
        disk.heal()
        with pytest.raises(sqlite3.IntegrityError):
            store.write(lambda db: db.execute("INSERT INTO meta VALUES ('a', '')"))


def test_a_reading_whose_commit_failed_is_delivered_again_and_is_one_reading(gateway, disk):
    """R4: a reading that is there already is a duplicate, not a conflict; it is acknowledged now."""
    disk.fail(FromTheSyncOn(disk), EIO)
    said = reading("a", gateway.clock.wall, "1.5")
    with pytest.raises(NotStored):
        gateway.deliver(said)
    disk.heal()
    assert gateway.count("reading") == 1, "the commit was there all the same"
    gateway.deliver(said)
    assert (gateway.count("reading"), gateway.count("rejected")) == (1, 0)


def test_an_intent_whose_commit_failed_is_not_sent_before_it_was_read_back(gateway, disk):
    """R12, R14: it is open in the file, so its fate is unknown; the hour goes once, after EnerKey was asked."""
    hour = hour_number(gateway.clock.wall) - 1
    closed_hours(gateway, hour, 1)
    disk.fail(FromTheSyncOn(disk), EIO)
    gateway.uploader.step(gateway.clock.now())
    assert disk.failed[0][1] == "sync"
    disk.heal()
    assert gateway.simulator.pushes == []
    assert gateway.messages() == [("open", 0)], "the commit was there all the same"
    gateway.run(300)
    assert [state for state, _ in gateway.messages()] == ["verified", "accepted"]
    assert gateway.simulator.hourly(100) == {hour: 500_000}


def test_an_answer_whose_commit_failed_is_taken_from_the_file(gateway, disk):
    """R15: accepted is what the journal says after opening again; the hour is not sent a second time."""
    hour = hour_number(gateway.clock.wall) - 1
    closed_hours(gateway, hour, 1)
    gateway.simulator.on_push = lambda _: disk.fail(FromTheSyncOn(disk), EIO)
    gateway.uploader.step(gateway.clock.now())
    assert disk.failed[0][1] == "sync"
    disk.heal()
    gateway.run(300)
    assert gateway.messages() == [("accepted", 0)]
    assert gateway.states() == ["accepted"]
    assert gateway.simulator.hourly(100) == {hour: 500_000}


def test_hours_whose_commit_failed_are_closed_once(gateway, disk):
    """R7, R8: the closer looks into the file for what it has frozen."""
    start = gateway.clock.wall
    for value in range(8):
        gateway.deliver(reading("a", gateway.clock.wall, str(value)))
        gateway.clock.advance(600)
    disk.fail(FromTheSyncOn(disk), EIO)
    gateway.closer.step(gateway.clock.now())
    assert disk.failed[0][1] == "sync"
    disk.heal()
    assert len(gateway.hours()) == 1, "the commit was there all the same"
    gateway.run(300)
    assert [view.hour for view in gateway.hours()] == [hour_number(start) + 1]
    assert len(gateway.simulator.hourly(100)) == 1
