"""Databases as earlier releases left them (tests/databases, written by scripts/old-databases) up to today (R30, R31)."""

from __future__ import annotations

import gzip
import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database, Migrations

from buffer import journal, migrations
from buffer.checking import check
from buffer.closing import frozen_of
from buffer.store import BEFORE, DATABASE, Store, StoreError, read_only

FOLDER = Path(__file__).parents[2] / "databases"
STORED = sorted(path.name.partition(".")[0] for path in FOLDER.glob("m*.db.gz"))
NAMES = [step.name for step in migrations.steps.pending(Database(memory=True))]
LEVELS = {name.partition("_")[0]: number for number, name in enumerate(NAMES, 1)}
every_level = pytest.mark.parametrize("level", STORED)


def unpacked(level: str, directory: Path) -> Path:
    path = directory / DATABASE
    path.write_bytes(gzip.decompress((FOLDER / f"{level}.db.gz").read_bytes()))
    return path


def content(path: Path) -> dict[str, list[tuple]]:
    """Every row of every table that the file has."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        tables = [
            name
            for (name,) in db.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '%sqlite%'"
            )
        ]
        return {table: db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables}


def fingerprint(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_schema_step_has_a_database_of_its_time():
    """A step without one: run scripts/old-databases and add the file."""
    assert list(LEVELS) == STORED


@every_level
def test_an_old_database_is_brought_to_today_with_every_row(level, tmp_path):
    """R30: what was there is there, as many columns as it had; what is new is right for it."""
    path = unpacked(level, tmp_path)
    before = content(path)
    Store(tmp_path, threaded=False).close()
    after = content(path)
    for table, rows in before.items():
        now = after[table]
        if table == "request_budget" and LEVELS[level] < LEVELS["m007"]:
            rows = [("", *row) for row in rows]  # noqa: PLW2901 - the account that there was
        assert [row[: len(old)] for row, old in zip(now, rows, strict=True)] == rows or table == "counter_state", table
    with read_only(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        assert check(db).findings == []


@every_level
def test_an_old_database_goes_on_where_it_stood(level, tmp_path):
    """Frozen boundaries, pending hours, messages of unknown fate and the ledger mean today what they meant then."""
    unpacked(level, tmp_path)
    store = Store(tmp_path, threaded=False)
    counter, power = (store.read(lambda db, meter=meter: frozen_of(db, meter)) for meter in (1, 3))
    assert counter.track.total == counter.boundary == counter.tail[1]
    assert power.track is None
    assert [message.meter for message in store.read(journal.unknown_messages)] == [1, 2]
    assert [row.hour for row in store.read(lambda db: journal.pending(db, 1, 744))] == list(range(492_342, 492_348))
    assert store.read(lambda db: journal.ever_accepted(db, 2))
    store.close()


@every_level
def test_what_it_was_before_is_kept_in_a_copy(level, tmp_path):
    """The copy is of before the first step, and none is made where there is nothing to do."""
    path = unpacked(level, tmp_path)
    before = content(path)
    Store(tmp_path, threaded=False).close()
    copy = tmp_path / BEFORE
    if LEVELS[level] == len(LEVELS):
        assert not copy.exists()
        return
    assert content(copy) == before
    stood = fingerprint(copy)
    Store(tmp_path, threaded=False).close()
    assert fingerprint(copy) == stood


def test_a_copy_that_cannot_be_made_keeps_nobody_from_going_on(tmp_path, caplog):
    """A full disk at the first start after an update must not stop the meters from being read (R27)."""
    unpacked("m003", tmp_path)
    (tmp_path / BEFORE).mkdir()
    (tmp_path / BEFORE / "in-the-way").touch()
    Store(tmp_path, threaded=False).close()
    assert "no copy of the database before its migration" in caplog.text
    with read_only(tmp_path / DATABASE) as db:
        assert db.execute("SELECT count(look_after) FROM meter").fetchone() == (3,)


@pytest.mark.parametrize("failing", [name for name in NAMES if name != NAMES[0]])
def test_a_step_that_fails_half_way_leaves_the_level_before_it(failing, tmp_path, monkeypatch):
    """R30: the steps before it stay, nothing of it does, and the next start with a mended program goes on."""
    path = unpacked("m001", tmp_path)
    broken = Migrations("meter-gateway")
    for name in NAMES:
        step = getattr(migrations, name)

        def fails(database: Database, step=step) -> None:
            step(database)
            database.execute("DELETE FROM hour")
            database.execute("INSERT INTO nowhere VALUES (1)")

        broken(name=name)(fails if name == failing else step)
    monkeypatch.setattr(migrations, "steps", broken)
    for _ in range(2):
        with pytest.raises(StoreError, match="nowhere"):
            Store(tmp_path, threaded=False)
    expected = gzip.decompress((FOLDER / f"{NAMES[NAMES.index(failing) - 1].partition('_')[0]}.db.gz").read_bytes())
    (tmp_path / "expected.db").write_bytes(expected)
    assert schema(path) == schema(tmp_path / "expected.db")
    assert len(content(path)["hour"]) == 3 * 48
    monkeypatch.undo()
    Store(tmp_path, threaded=False).close()
    assert len(content(path)["hour"]) == 3 * 48


def schema(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()


@every_level
def test_a_program_of_that_time_refuses_todays_file_without_touching_it(level, tmp_path, monkeypatch):
    """R30: every byte is as it was, of what is beside it, too."""
    path = unpacked(STORED[-1], tmp_path)
    known = Migrations("meter-gateway")
    for name in NAMES[: LEVELS[level]]:
        known(name=name)(getattr(migrations, name))
    monkeypatch.setattr(migrations, "steps", known)
    if LEVELS[level] == len(LEVELS):
        Store(tmp_path, threaded=False).close()
        return
    before = fingerprint(path)
    for _ in range(2):
        with pytest.raises(migrations.NewerDatabase, match="written by a newer release"):
            Store(tmp_path, threaded=False)
    assert fingerprint(path) == before
    assert sorted(each.name for each in tmp_path.iterdir()) == [DATABASE, "buffer.lock"]
