"""The worker that keeps the buffer small."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from buffer import retention
from buffer.model import HOUR_MS, hour_of, to_ms
from buffer.readings import MeterRow, StoredReading, add, register_meters
from buffer.store import Store
from gateway.clock import Trust
from gateway.housekeeping import LOOK_EVERY, ROUND, Housekeeper, bytes_written
from tests.fakes.clock import FakeClock

NOW = datetime(2027, 3, 1, tzinfo=UTC)
H = hour_of(to_ms(NOW)) - 1000
DAY = 86_400.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A meter with a thousand closed hours, four readings in each."""
    store = Store(tmp_path, threaded=False)
    store.write(lambda db: register_meters(db, [MeterRow("a", 1, "kWh", "counter", "off", "bus")]))
    store.write(
        lambda db: add(
            db, [StoredReading(at, 1, at, at) for at in range(H * HOUR_MS, (H + 1000) * HOUR_MS, HOUR_MS // 4)]
        )
    )
    opening = "INSERT INTO counter_state (meter, opening_hour, opening, quality) VALUES (1, ?, 0, 'measured')"
    store.write(lambda db: db.execute(opening, (H + 999,)))
    yield store
    store.close()


def readings(store: Store) -> int:
    return int(store.read(lambda db: db.execute("SELECT count(*) FROM reading").fetchone()[0]))


def round_of(keeper: Housekeeper, clock: FakeClock) -> int:
    """Steps until the worker rests for a while; how many."""
    for steps in range(1, 5000):
        due = keeper.step(clock.now())
        if due - clock.boottime >= 60.0:
            return steps
        clock.advance(due - clock.boottime)
    raise AssertionError("it never rests")


def test_it_forgets_in_small_steps_and_looks_at_the_room_meanwhile(store: Store):
    """Ten days of readings stay of forty-one."""
    clock = FakeClock(NOW, trust=Trust("always"))
    keeper = Housekeeper(store, 10 * DAY, 90 * DAY, lambda: 0)
    assert round_of(keeper, clock) > 700
    assert readings(store) == 240 * 4
    assert keeper.step(clock.now()) == pytest.approx(clock.boottime + LOOK_EVERY)


def test_a_clock_that_is_not_trusted_ages_nothing(store: Store):
    """A box that wakes up in another year must not forget what it has just read (R5)."""
    clock = FakeClock(NOW, trust=Trust("auto", []))
    keeper = Housekeeper(store, 10 * DAY, 90 * DAY, lambda: 0)
    assert round_of(keeper, clock) == 1
    assert readings(store) == 4000


def test_it_notes_the_size_and_what_was_written_since_it_last_looked(store: Store):
    """Once a round; the process's own count begins at its start."""
    clock, written = FakeClock(NOW, trust=Trust("always")), iter((1000, 1500))
    keeper = Housekeeper(store, 100 * DAY, 100 * DAY, lambda: next(written))
    for _ in range(2):
        round_of(keeper, clock)
        clock.advance(ROUND)
    assert [each.written for each in store.read(retention.sizes)] == [1500]


def test_a_store_that_fails_is_tried_again(store: Store):
    """The worker goes on; whatever it believed of the file is read again (R26)."""
    clock = FakeClock(NOW, trust=Trust("always"))
    keeper = Housekeeper(store, 10 * DAY, 90 * DAY, lambda: 0)
    keeper.step(clock.now())
    store.close()
    assert keeper.step(clock.now()) == pytest.approx(clock.boottime + 60.0)


def test_the_system_tells_what_was_written():
    """Of this very process."""
    assert bytes_written() >= 0
