"""The housekeeper where room runs out, and where somebody lets the log grow."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from buffer.model import HOUR_MS, hour_of, to_ms
from buffer.readings import MeterRow, StoredReading, add, register_meters
from buffer.room import MIB, RELIEVED, Room, log_size
from buffer.store import DATABASE, Store
from gateway.clock import Trust
from gateway.housekeeping import LOOK_EVERY, Housekeeper
from gateway.simulator.enerkey import EnerkeySimulator
from tests.fakes.clock import START, FakeClock
from tests.fakes.small_gateway import DAY, SmallGateway, closed_hours, hour_number, ramp

NOW = datetime(2027, 3, 1, tzinfo=UTC)
H = hour_of(to_ms(NOW))
CAP = 9 * MIB
STUCK = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN")
print(db.execute("SELECT count(*) FROM meta").fetchone(), flush=True)
sys.stdin.read()
"""


def store_with(directory: Path, days: int, *, opened: int, every: int = 60_000) -> Store:
    """A counter and an interval source with a reading every so many ms for so many days, closed up to the hour `opened`."""
    store = Store(directory, threaded=False, room=Room(directory, CAP))
    rows = [MeterRow(kind, n, "kWh", kind, "off", "bus") for n, kind in enumerate(("counter", "interval"))]
    store.write(lambda db: register_meters(db, rows))
    opening = "INSERT INTO counter_state (meter, opening_hour, opening, quality) VALUES (?, ?, 0, 'measured')"
    store.write(lambda db: db.executemany(opening, [(1, opened), (2, opened)]))
    for hour in range(H - days * 24, H):
        batch = [
            StoredReading(at, meter, at, at)
            for at in range(hour * HOUR_MS, (hour + 1) * HOUR_MS, every)
            for meter in (1, 2)
        ]
        store.write(lambda db, batch=batch: add(db, batch))
    return store


def fill(store: Store) -> None:
    """Until readings are refused."""
    while store.read(store.room.for_readings):
        store.write(lambda db: db.execute("INSERT INTO meta VALUES (hex(randomblob(8)), printf('%.*c', 50000, 'x'))"))


def hours_of(store: Store) -> dict[int, list[int]]:
    """Of each meter the hours with readings."""
    rows = store.read(lambda db: db.execute("SELECT meter, hour FROM reading_hour ORDER BY hour").fetchall())
    return {meter: [hour for each, hour in rows if each == meter] for meter in (1, 2)}


def work(keeper: Housekeeper, clock: FakeClock, seconds: float = 600.0) -> None:
    until = clock.boottime + seconds
    while clock.boottime < until:
        clock.advance(max(0.01, keeper.step(clock.now()) - clock.boottime))


def told(store: Store) -> list[tuple[str, str]]:
    find = "SELECT level, text FROM event WHERE subject = 'buffer' ORDER BY id"
    return [tuple(row) for row in store.read(lambda db: db.execute(find).fetchall())]


def keeper_of(store: Store) -> Housekeeper:
    return Housekeeper(store, 30 * DAY, 90 * DAY, lambda: 0)


@pytest.mark.parametrize("trust", ["always", "auto"])
def test_where_room_runs_out_the_oldest_readings_go_before_their_age(tmp_path: Path, trust: str):
    """R27: until there is some room again, whatever the clock says; it is told once, and by `status`."""
    store = store_with(tmp_path, 20, opened=H, every=20_000)
    fill(store)
    clock, keeper = FakeClock(NOW, trust=Trust(trust, [])), keeper_of(store)
    work(keeper, clock)
    left = store.read(store.room.left) or 0
    oldest = hours_of(store)
    assert left >= RELIEVED - 100_000, "but for what was written since"
    assert H - 20 * 24 < oldest[1][0] < H - 24
    assert oldest[1] == list(range(oldest[1][0], H)), "not the oldest first"
    assert [level for level, text in told(store) if "room runs out" in text] == ["warning"]
    assert list(keeper.snapshot()["problems"]) == ["short"]  # type: ignore[call-overload]
    store.close()


def test_what_open_hours_need_stays_and_so_does_a_week_of_other_kinds_than_counters(tmp_path: Path):
    """R4, R27: a late period that comes again would be booked twice; then what is left is for hours and messages."""
    store = store_with(tmp_path, 20, opened=H - 24)
    fill(store)
    keeper, clock = keeper_of(store), FakeClock(NOW, trust=Trust("always"))
    for _ in range(3):
        work(keeper, clock)
        fill(store)
    work(keeper, clock)
    kept = hours_of(store)
    assert kept[1][0] == H - 24 - 48
    assert kept[2][0] == H - 1 - 8 * 24
    fill(store)
    work(keeper, clock)
    assert "cap" in keeper.snapshot()["problems"]  # type: ignore[operator]
    assert [level for level, text in told(store) if "as large as it may be" in text] == ["error"]
    store.close()


def test_settled_messages_go_next_and_nothing_that_is_unsent(tmp_path: Path):
    """R27: hours, ledger, and messages of this week or without a known fate stay."""
    store = store_with(tmp_path, 1, opened=H)
    message = (
        "INSERT INTO message (meter, family, enerkey_id, body, sha256, key_slot, boot_id, created_at, state, fate_at)"
        " VALUES (?, 'consumption', 1, x'00', 'x', 0, 'b', 0, ?, ?)"
    )
    aged = {age: to_ms(NOW - timedelta(days=age)) for age in (60, 20, 7, 0)}
    rows = [(2, "unknown", aged[60]), *((1, "accepted", at) for at in aged.values())]
    store.write(lambda db: db.executemany(message, rows))
    fill(store)
    work(keeper_of(store), FakeClock(NOW, trust=Trust("always")))
    find = "SELECT state, fate_at FROM message ORDER BY fate_at, state"
    kept = [
        (state, round((to_ms(NOW) - at) / 86_400_000))
        for state, at in store.read(lambda db: db.execute(find).fetchall())
    ]
    assert kept == [("unknown", 60), ("accepted", 7), ("accepted", 0)]
    store.close()


def test_with_room_nothing_is_forgotten_before_its_age(tmp_path: Path):
    """Nor told."""
    store = store_with(tmp_path, 20, opened=H)
    assert (store.read(store.room.left) or 0) > RELIEVED
    work(keeper_of(store), FakeClock(NOW, trust=Trust("always")))
    assert hours_of(store)[1][0] == H - 20 * 24
    assert [text for _, text in told(store) if "room" in text] == []
    store.close()


# --- a reader that does not end ---------------------------------------------------------------------------------------


@contextmanager
def stuck_reader(database: Path) -> Iterator[None]:
    """An operator's shell in a read transaction, in a process of its own."""
    command = [sys.executable, "-c", STUCK, str(database)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    try:
        assert process.stdout.readline()
        yield
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(30)


def status(directory: Path) -> str:
    """What `status` sees, in a process of its own as always: who closes a file, gives up its process's locks on it."""
    text = (
        "import sys, pathlib; from gateway.report import gather; print(gather(pathlib.Path(sys.argv[1]))['problems'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", text, str(directory)], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def churn(store: Store, size: int) -> None:
    """Write so many bytes to the log, in commits of a megabyte, without growing the database."""
    text = "INSERT INTO meta VALUES ('churn', hex(randomblob(?))) ON CONFLICT DO UPDATE SET value = excluded.value"
    for _ in range(size // MIB):
        store.write(lambda db: db.execute(text, (MIB // 2,)))


def test_a_log_that_a_stuck_reader_lets_grow_is_an_alarm_and_shrinks_when_the_reader_is_gone(tmp_path, caplog):
    """R28: above 32 MiB; the line says what to do, and it is over by itself."""
    caplog.set_level(logging.INFO, "gateway.housekeeping")
    store = Store(tmp_path)
    clock, keeper = FakeClock(NOW, trust=Trust("always")), keeper_of(store)
    with stuck_reader(tmp_path / DATABASE):
        churn(store, 20 * MIB)
        work(keeper, clock, LOOK_EVERY)
        assert "log" not in keeper.snapshot()["problems"]  # type: ignore[operator]
        churn(store, 20 * MIB)
        work(keeper, clock, 2 * LOOK_EVERY)
        assert log_size(tmp_path / DATABASE) > 32 * MIB
        assert "somebody keeps the database open for reading: end that program (sudo fuser -v" in status(tmp_path)
    churn(store, 8 * MIB)
    assert log_size(tmp_path / DATABASE) <= 16 * MIB
    work(keeper, clock, 2 * LOOK_EVERY)
    assert [level for level, text in told(store) if "log" in text] == ["warning", "info"]
    assert [record.levelname for record in caplog.records if "log" in record.message] == ["WARNING", "INFO"]
    store.close()


def test_without_a_reader_the_log_stays_short(tmp_path: Path):
    """R28: whatever is written, a checkpoint brings it in."""
    store = Store(tmp_path)
    churn(store, 40 * MIB)
    assert log_size(tmp_path / DATABASE) <= 16 * MIB
    store.close()


def test_the_gateway_itself_keeps_no_read_open(tmp_path: Path):
    """R28: after each step of each worker the whole log can be folded in and cut."""
    clock = FakeClock()
    simulator = EnerkeySimulator(now=lambda: clock.wall, keys=["one", "two"])
    gateway = SmallGateway(tmp_path, clock, simulator, ("a", "cumulative-b"), room=(None, 0))
    closed_hours(gateway, hour_number(START) - 5, 3, ("a",))
    with closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None, timeout=0)) as other:
        for each in ramp("a", START, START + timedelta(hours=3), timedelta(minutes=10)):
            gateway.deliver(each)
            clock.advance(600.0)
            for _ in range(20):
                gateway.step()
                assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
                clock.advance(1.0)
    assert gateway.count("ledger")
    gateway.close()
    simulator.close()
