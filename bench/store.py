"""What the buffer costs: readings in, hours out, with a day and with years in the file. Prints one JSON document.

Rates are ratios to plain `sqlite3.executemany` into the same table (with its reference), at the same batch, with the same
pragmas, in turns within the same run: `rows_per_s_ratio` of the time until the rows are durable, `rows_per_cpu_s_ratio` of
the processor's, which a busy machine or a slow disk does not change. Closing is the closer's own step over the readings of
one hour, for all meters at once; the file with years holds their hours, ledger and messages, and readings of the last
`--days`, as retention leaves them. `start_s_*` is what `run` does with the file before it reads the first meter. `crowd_*`:
as many connections as meters, each with one reading within 100 ms, without and with `commit_within`. Medians.

    .venv/bin/python bench/store.py [--meters 200] [--years 3] [--dir DIR]
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from threading import Barrier, Thread
from typing import Any

from buffer.corrections import enter_meters
from buffer.hours import Rule
from buffer.model import HOUR_MS, hour_of, hour_start, to_ms
from buffer.overview import meters as overview
from buffer.readings import MeterRow, StoredReading, add
from buffer.store import PRAGMAS, Store, read_only
from gateway.clock import Trust
from gateway.closer import Closer, ClosingMeter
from gateway.watermarks import Watermarks
from tests.fakes.clock import FakeClock

START = datetime(2027, 1, 1, tzinfo=UTC)
BATCHES = 400  # commits of one side in one round
ROUNDS = 9
CLOSINGS = 25  # a day: one of them begins it, when more is checked
POLL_MS = 60_000
WAL_HEADER, FRAME = 32, 24  # bytes, sqlite.org/fileformat2.html#the_write_ahead_log
STEP = 500_000  # micro per hour
PLAIN = """
CREATE TABLE meter (id INTEGER PRIMARY KEY) STRICT;
CREATE TABLE reading (at INTEGER NOT NULL, meter INTEGER NOT NULL REFERENCES meter(id), value INTEGER NOT NULL,
    received INTEGER NOT NULL, PRIMARY KEY (at, meter)) STRICT, WITHOUT ROWID"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meters", type=int, default=200, help="in the database (default: %(default)s)")
    parser.add_argument("--years", type=float, default=3.0, help="of hours in it (default: %(default)s)")
    parser.add_argument(
        "--days", type=int, default=30, help="of readings in the file with years (default: %(default)s)"
    )
    parser.add_argument(
        "--dir", type=Path, help="where the files are made: on the disk in question (default: the system's)"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.dir) as name:
        directory = Path(name)
        figures = rates(directory, args.meters) | latencies(directory / "latency", args.meters)
        for within in (0.0, 0.2):
            figures |= crowd(directory / f"crowd-{within}", within, args.meters)
        for label, days, hours in (("1d", 1, 24), (f"{args.years:g}y", args.days, round(args.years * 365 * 24))):
            figures |= aged(directory / label, label, args.meters, days, hours)
    years = f"close_hour_ms_{args.years:g}y"
    figures["close_hour_ratio"] = figures[years] / figures["close_hour_ms_1d"]
    print(json.dumps({key: round(value, 3) for key, value in figures.items()} | {"meters": args.meters}, indent=2))


# --- readings in ------------------------------------------------------------------------------------------------------


def rates(directory: Path, meters: int) -> dict[str, float]:
    """Durable rows a second of both, in turns; and what a poll writes into the log."""
    store = opened(directory / "rate", meters)
    plain = plainly(directory / "plain.db", meters)

    def through_the_store(rows: list[StoredReading]) -> None:
        store.write(lambda db: add(db, rows))

    def directly(rows: list[tuple[int, ...]]) -> None:
        plain.execute("BEGIN IMMEDIATE")
        plain.executemany("INSERT INTO reading VALUES (?, ?, ?, ?)", rows)
        plain.execute("COMMIT")

    polls = PollsOf(meters)
    ratios, cpu_ratios, ours = [], [], []
    for _ in range(ROUNDS):
        batches = [polls.next() for _ in range(BATCHES)]
        tuples = [[tuple(row) for row in rows] for rows in batches]  # the quickest that it can be given
        floor, floor_cpu = seconds_and_cpu(directly, tuples)
        spent, cpu = seconds_and_cpu(through_the_store, batches)
        ours.append(BATCHES * meters / spent)
        ratios.append(floor / spent)
        cpu_ratios.append(floor_cpu / cpu)
    log_bytes = []
    for _ in range(50):
        store.write(lambda db: db.execute("SELECT 1"))
        checkpoint(store)
        through_the_store(polls.next())
        log_bytes.append(store.path.with_name("buffer.db-wal").stat().st_size / meters)
    store.close()
    plain.close()
    return {
        "rows_per_s_ratio": statistics.median(ratios),
        "rows_per_cpu_s_ratio": statistics.median(cpu_ratios),
        "rows_per_s": statistics.median(ours),
        "wal_bytes_per_reading": statistics.median(log_bytes),
        "wal_mb_per_day": statistics.median(log_bytes) * meters * 86_400_000 / POLL_MS / 1e6,
    }


def plainly(path: Path, meters: int) -> sqlite3.Connection:
    """The same table and pragmas, and nothing of ours."""
    plain = sqlite3.connect(path, isolation_level=None)
    for pragma in PRAGMAS:
        plain.execute(f"PRAGMA {pragma}")
    plain.executescript(PLAIN)
    plain.executemany("INSERT INTO meter VALUES (?)", [(n + 1,) for n in range(meters)])
    return plain


def latencies(directory: Path, meters: int) -> dict[str, float]:
    """How long one poll waits until it is durable; and while eight connections store at once."""
    store, polls = opened(directory, meters), PollsOf(meters)

    def stored(rows: list[StoredReading]) -> None:
        store.write(lambda db: add(db, rows))

    alone = [seconds(stored, [polls.next()]) * 1000 for _ in range(500)]
    together: list[float] = []
    gate = Barrier(8)

    def connection(batches: list[list[StoredReading]]) -> None:
        gate.wait()
        together.extend(seconds(stored, [rows]) * 1000 for rows in batches)

    threads = [Thread(target=connection, args=([polls.next()[n::8] for _ in range(100)],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    return {
        "commit_ms_p50": percentile(alone, 50),
        "commit_ms_p99": percentile(alone, 99),
        "commit_of_8_ms_p50": percentile(together, 50),
        "commit_of_8_ms_p99": percentile(together, 99),
    }


def crowd(directory: Path, within: float, connections: int) -> dict[str, float]:
    """As many connections as meters, each with one reading within 100 ms: what a round of them costs the disk."""
    store = opened(directory, connections, within)
    gate, chance, rounds = Barrier(connections), Random(1), []
    for _ in range(connections):
        store.expect_patience()

    def connection(row: StoredReading, delay: float) -> None:
        gate.wait()
        time.sleep(delay)
        store.write(lambda db: add(db, [row]), patients=1)

    polls = PollsOf(connections)
    for _ in range(6):
        store.write(lambda db: db.execute("SELECT 1"))
        checkpoint(store)
        threads = [Thread(target=connection, args=(row, chance.random() / 10)) for row in polls.next()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rounds.append(commits(store.path.with_name("buffer.db-wal").read_bytes()))
    store.close()
    syncs, written = (statistics.median(each) for each in zip(*rounds[1:], strict=True))  # the first begins the hour
    label = f"{round(within * 1000)}ms"
    return {f"crowd_commits_{label}": syncs, f"crowd_mb_per_day_{label}": written * 86_400_000 / POLL_MS / 1e6}


def commits(wal: bytes) -> tuple[int, int]:
    """Commits in a log that was empty before them, and its bytes."""
    size = FRAME + int.from_bytes(wal[8:12], "big")
    begins = range(WAL_HEADER, len(wal) - size + 1, size)
    frames = [wal[at : at + FRAME] for at in begins if wal[at + 8 : at + 16] == wal[16:24]]  # the salt of this log
    return sum(frame[4:8] != bytes(4) for frame in frames), len(frames) * size


class PollsOf:
    """Every meter once a minute, some milliseconds apart, as a bus answers."""

    def __init__(self, meters: int) -> None:
        self._meters, self._at, self._random = meters, to_ms(START), Random(1)

    def next(self) -> list[StoredReading]:
        self._at += POLL_MS
        return [StoredReading(self._at + 5 * n, n + 1, self._at // 100, self._at + 5 * n) for n in range(self._meters)]


# --- hours out --------------------------------------------------------------------------------------------------------


def aged(directory: Path, label: str, meters: int, days: int, hours: int) -> dict[str, float]:
    """A file in which so many hours are closed and accepted: closing the next ones, starting, and a look for `status`."""
    now = hour_start(hour_of(to_ms(START)) + hours)
    store = opened(directory, meters)
    fill(store, meters, days, hours)
    checkpoint(store)
    clock = FakeClock(now, trust=Trust("always"))
    closing = [ClosingMeter(n + 1, f"m{n}", Rule("counter", expected_every_ms=POLL_MS)) for n in range(meters)]

    def started() -> Closer:
        marks = Watermarks(0.0, lambda _: 0.0)
        return Closer(store, closing, marks, "boot", clock.trust, lambda: None)

    spent = closings(store, started(), clock, meters, hours)
    store.close()
    starts = []
    for _ in range(3):
        began = time.perf_counter()
        store = Store(directory)
        enter(store, meters, now)
        started().step(clock.now())
        starts.append(time.perf_counter() - began)
        store.close()
    size = (directory / "buffer.db").stat().st_size
    with read_only(directory / "buffer.db") as db:
        look = statistics.median(seconds(lambda _: overview(db), [None]) for _ in range(3))
    return {
        f"close_hour_ms_{label}": statistics.median(spent),
        f"close_hour_ms_max_{label}": max(spent),  # one of them is the first of a day
        f"start_s_{label}": statistics.median(starts),
        f"status_s_{label}": look,
        f"file_mb_{label}": size / 1e6,
    }


def closings(store: Store, closer: Closer, clock: FakeClock, meters: int, hours: int) -> list[float]:
    """The milliseconds of each closing of one hour of all meters."""
    closer.step(clock.now())
    begin, spent = to_ms(clock.wall), []
    for number in range(CLOSINGS):
        polls = range(begin + POLL_MS, begin + HOUR_MS + POLL_MS + 1, POLL_MS)
        rows = [
            StoredReading(at, n + 1, STEP * (at - to_ms(START)) // HOUR_MS, at) for at in polls for n in range(meters)
        ]
        store.write(lambda db, rows=rows: add(db, rows))
        clock.advance(3600.0 if number else 3660.0)
        closer.saw({n + 1: rows[-1].at for n in range(meters)}, clock.boottime)
        spent.append(seconds(lambda _: closer.step(clock.now()), [None]) * 1000)
        closed = store.read(lambda db: db.execute("SELECT count(*) FROM hour").fetchone()[0])
        if closed != meters * (hours + number + 1):
            raise SystemExit(f"{closed} hours are closed, {meters * (hours + number + 1)} should be")
        begin += HOUR_MS
    return spent


def fill(store: Store, meters: int, days: int, hours: int) -> None:
    """Closed and accepted hours, one message each, and the readings of the last days."""
    first, base = hour_of(to_ms(START)), to_ms(START)

    def openings(db: sqlite3.Connection) -> None:
        rows = [
            (n + 1, first, 0, "measured", base + hours * HOUR_MS, STEP * hours, STEP * hours, base, 0)
            for n in range(meters)
        ]
        db.executemany(
            "INSERT INTO counter_state (meter, opening_hour, opening, quality, tail_at, tail_total, raw, changed, offset)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )

    store.write(openings)
    columns = (
        "INSERT INTO hour (meter, hour, consumption, boundary, quality, closed_at, state)"
        " VALUES (?, ?, ?, ?, 'measured', ?, 'accepted')"
    )
    message = "INSERT INTO message VALUES (?, ?, 'consumption', 1, ?, ?, 0, 'boot', ?, 'accepted', ?, 'HTTP 200')"
    body, digest = b'[{"timestamp":"2027-01-01T00:00:00Z","value":0.5}]', "0" * 64
    for begin in range(0, hours, 24):
        keys = [(n + 1, hour) for hour in range(begin, min(begin + 24, hours)) for n in range(meters)]
        rows = [(meter, first + hour, STEP, STEP * (hour + 1), base) for meter, hour in keys]

        def work(db: sqlite3.Connection, rows: list = rows, keys: list = keys) -> None:
            number = keys[0][1] * meters
            db.executemany(columns, rows)
            db.executemany(
                "INSERT INTO ledger (meter, hour, accepted, message, at) VALUES (?, ?, ?, 1, 0)",
                [row[:3] for row in rows],
            )
            db.executemany(message, [(number + i + 1, row[0], body, digest, base, base) for i, row in enumerate(rows)])
            db.executemany(
                "INSERT INTO message_hour (message, meter, hour, value, fate) VALUES (?, ?, ?, ?, 'accepted')",
                [(number + i + 1, row[0], row[1], STEP) for i, row in enumerate(rows)],
            )

        store.write(work)
    newest = base + hours * HOUR_MS
    for at in range(newest - days * 24 * HOUR_MS, newest + 1, POLL_MS):
        rows = [StoredReading(at, n + 1, STEP * (at - base) // HOUR_MS, at) for n in range(meters)]
        store.write(lambda db, rows=rows: add(db, rows))


# --- what both need ---------------------------------------------------------------------------------------------------


def opened(directory: Path, meters: int, commit_within: float = 0.0) -> Store:
    directory.mkdir(parents=True)
    store = Store(directory, commit_within=commit_within)
    enter(store, meters, START)
    return store


def enter(store: Store, meters: int, now: datetime) -> None:
    rows = [MeterRow(f"m{n}", n + 1, "kWh", "counter", "consumption", "bench") for n in range(meters)]
    store.write(lambda db: enter_meters(db, rows, to_ms(now)))


def checkpoint(store: Store) -> None:
    db = sqlite3.connect(store.path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def seconds(work: Callable[[Any], object], items: Iterable[Any]) -> float:
    began = time.perf_counter()
    for item in items:
        work(item)
    return time.perf_counter() - began


def seconds_and_cpu(work: Callable[[Any], object], items: Iterable[Any]) -> tuple[float, float]:
    """The time it takes, and the processor's in all threads."""
    cpu = time.process_time()
    return seconds(work, items), time.process_time() - cpu


def percentile(values: list[float], share: int) -> float:
    return statistics.quantiles(values, n=100)[share - 1]


if __name__ == "__main__":
    main()
