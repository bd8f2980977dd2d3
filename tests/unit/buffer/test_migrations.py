"""The schema is brought forward, a newer one is left alone (R30)."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlite_utils import Database, Migrations

from buffer import migrations
from buffer.closing import frozen_of
from buffer.frozen import Frozen, Track
from buffer.migrations import APPLICATION_ID, NewerDatabase, examine, migrate
from buffer.store import DATABASE, Store, StoreError

TABLES = {
    "meter", "reading", "reading_hour", "rejected", "rejected_count", "counter_state", "driver_state", "unplaced",
    "hour", "adjustment", "ledger", "message", "message_hour", "request_budget", "event", "meta", "epoch",
    "parked", "suspect", "message_adjustment", "key_use", "doubt", "size", "finding",
}  # fmt: skip


@pytest.fixture
def db():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield connection
    connection.close()


@pytest.fixture
def later(monkeypatch):
    """The steps of a later release, to be added to."""
    steps = Migrations("meter-gateway")
    steps(name="m001_initial")(migrations.m001_initial)
    steps(name="m002_tracks")(migrations.m002_tracks)
    steps(name="m003_parked")(migrations.m003_parked)
    steps(name="m004_suspects")(migrations.m004_suspects)
    steps(name="m005_postings")(migrations.m005_postings)
    steps(name="m006_looks")(migrations.m006_looks)
    steps(name="m007_accounts")(migrations.m007_accounts)
    steps(name="m008_findings")(migrations.m008_findings)
    steps(name="m009_doubts")(migrations.m009_doubts)
    steps(name="m010_sizes")(migrations.m010_sizes)
    steps(name="m011_dropped")(migrations.m011_dropped)
    monkeypatch.setattr(migrations, "steps", steps)
    return steps


def schema(db) -> list[tuple[str, str]]:
    return db.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()


def fingerprint(directory: Path) -> dict[str, str]:
    """Every file but the lock, which is not the database."""
    files = [path for path in directory.iterdir() if path.name.startswith(DATABASE)]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.suffix != ".db-shm"}


def test_a_new_database_has_every_table_and_says_whose_it_is(db):
    migrate(db)
    tables = db.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '%sqlite%'"
    ).fetchall()
    assert {name for name, _ in tables} == TABLES
    assert all(sql.strip().endswith(("STRICT", "STRICT, WITHOUT ROWID")) for _, sql in tables)
    assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


def test_what_is_precious_has_a_rowid_so_that_it_can_be_salvaged(db):
    """Reliability 2.6: readings come again, hours and the ledger do not."""
    migrate(db)
    for table in ["hour", "ledger", "message", "message_hour", "adjustment", "parked", "counter_state", "meter"]:
        db.execute(f"SELECT rowid FROM {table}")


def test_migrating_again_changes_nothing(db):
    migrate(db)
    before = schema(db), db.total_changes
    examine(db)
    migrate(db)
    assert (schema(db), db.total_changes) == before


def test_a_failing_step_leaves_the_file_as_it_was(db, later):
    """R30: everything that the step did is undone, and it stays pending."""
    migrate(db)
    db.execute("INSERT INTO meta VALUES ('kept', '1')")
    before = schema(db)

    @later()
    def m002_fails(database: Database) -> None:
        database.execute("ALTER TABLE hour ADD COLUMN crc INTEGER")
        database.execute("UPDATE meta SET value = '2'")
        database.execute("INSERT INTO nowhere VALUES (1)")

    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            migrate(db)
    assert schema(db) == before
    assert db.execute("SELECT * FROM meta").fetchall() == [("kept", "1")]
    assert not db.in_transaction


def test_a_failing_first_step_is_tried_again_by_the_next_start(db, later, monkeypatch):
    """Cut off before the first step was committed, the file is nobody else's."""
    monkeypatch.setattr(migrations, "SCHEMA_001", migrations.SCHEMA_001 + ";\nINSERT INTO nowhere VALUES (1)")
    with pytest.raises(sqlite3.OperationalError):
        migrate(db)
    monkeypatch.undo()
    examine(db)
    migrate(db)
    assert db.execute("SELECT count(*) FROM hour").fetchone() == (0,)


def test_a_database_of_an_earlier_release_is_brought_forward_with_all_it_holds(tmp_path, later):
    store = Store(tmp_path, threaded=False)
    store.write(lambda db: db.execute("INSERT INTO meta VALUES ('kept', '1')"))
    store.close()

    @later()
    def m002_adds(database: Database) -> None:
        database.execute("ALTER TABLE hour ADD COLUMN crc INTEGER")

    store = Store(tmp_path, threaded=False)
    assert store.read(lambda db: db.execute("SELECT * FROM meta").fetchall()) == [("kept", "1")]
    assert store.read(lambda db: db.execute("SELECT count(crc) FROM hour").fetchone()) == (0,)
    store.close()


def test_a_store_that_cannot_migrate_gives_everything_back(tmp_path, later):
    Store(tmp_path, threaded=False).close()

    @later()
    def m002_fails(database: Database) -> None:
        database.execute("INSERT INTO nowhere VALUES (1)")

    before = fingerprint(tmp_path)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"cannot open .*: no such table: nowhere"):
            Store(tmp_path)
    assert fingerprint(tmp_path) == before


NEWER = """
import os, signal, sys
from pathlib import Path
from buffer import migrations
from buffer.closing import frozen_of
from buffer.frozen import Frozen, Track
from buffer.store import Store
migrations.steps(name="m999_from_the_future")(lambda database: database.execute("CREATE TABLE future (id INTEGER)"))
store = Store(Path(sys.argv[1]), threaded=False)
store.write(lambda db: db.execute("INSERT INTO meta VALUES ('kept', '1')"))
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
store.close()
"""


@pytest.mark.parametrize("ended", ["closed", "killed"])
def test_a_newer_database_is_refused_untouched_and_the_lock_is_free(tmp_path, ended):
    """R30: also with a write-ahead log left behind, which opening for writing would have folded in."""
    subprocess.run([sys.executable, "-c", NEWER, str(tmp_path), ended], check=ended == "closed", timeout=60)
    before = fingerprint(tmp_path)
    assert (f"{DATABASE}-wal" in before) == (ended == "killed")
    for _ in range(2):
        with pytest.raises(NewerDatabase, match="written by a newer release: unknown schema step m999_from_the_future"):
            Store(tmp_path)
    after = fingerprint(tmp_path)
    assert {name: after[name] for name in before} == before


def test_somebody_elses_database_is_refused_untouched(tmp_path):
    other = sqlite3.connect(tmp_path / DATABASE)
    other.execute("CREATE TABLE photo (id INTEGER)")
    other.close()
    before = fingerprint(tmp_path)
    with pytest.raises(StoreError, match="not one of this gateway's"):
        Store(tmp_path)
    assert fingerprint(tmp_path) == before


def test_a_database_with_somebody_elses_mark_is_refused(db):
    migrate(db)
    db.execute("PRAGMA application_id = 1")
    with pytest.raises(sqlite3.DatabaseError, match="not one of this gateway's"):
        examine(db)


def test_an_empty_file_becomes_a_database(tmp_path):
    (tmp_path / DATABASE).touch()
    Store(tmp_path, threaded=False).close()


def test_a_database_of_the_first_schema_goes_on_where_its_counters_stood(db):
    """What was frozen before tracks were kept is the register itself, with no offset; power has no track."""
    first = Migrations("meter-gateway")
    first(name="m001_initial")(migrations.m001_initial)
    first.apply(Database(db))
    meters = "INSERT INTO meter (id, name, unit, kind, push, source, configured) VALUES (?, ?, 'kWh', ?, 'off', '', 1)"
    db.executemany(meters, [(1, "a", "counter"), (2, "b", "power")])
    states = "INSERT INTO counter_state VALUES (?, 100, 5000, 'measured', 360000000, 4990, 359000000)"
    db.executemany(states, [(1,), (2,)])
    migrate(db)
    assert frozen_of(db, 1) == Frozen(100, 5000, "measured", (360_000_000, 4990), Track(4990, 359_000_000))
    assert frozen_of(db, 2) == Frozen(100, 5000, "measured", (360_000_000, 4990))


def test_a_database_before_accounts_goes_on_with_what_its_one_account_has_spent(db):
    """R22: an update of the program is no new day."""
    former = Migrations("meter-gateway")
    for step in ("m001_initial", "m002_tracks", "m003_parked", "m004_suspects", "m005_postings", "m006_looks"):
        former(name=step)(getattr(migrations, step))
    former.apply(Database(db))
    meter = (
        "INSERT INTO meter (name, unit, kind, push, source, configured) VALUES ('a', 'kWh', 'counter', 'off', '', 1)"
    )
    db.execute(meter)
    db.executemany("INSERT INTO request_budget VALUES (?, ?)", [(7, 3), (8, 4)])
    migrate(db)
    assert db.execute("SELECT * FROM request_budget ORDER BY bin").fetchall() == [("", 7, 3), ("", 8, 4)]
    assert db.execute("SELECT account FROM meter").fetchall() == [("",)]
