"""Rows decoded from bare pages are what SQLite says they are; noise gives none."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer import pages
from buffer.pages import PAGE, Column, orphans
from tests.fakes.damage import damage, leaves_of

NUMBER, INTEGER, TEXT, BLOB = (
    Column("INTEGER", needed=False, number=True),
    Column("INTEGER", needed=True, number=False),
    Column("TEXT", needed=False, number=False),
    Column("BLOB", needed=False, number=False),
)
TABLES = {"t": [NUMBER, INTEGER, TEXT, BLOB], "other": [NUMBER, TEXT, INTEGER]}
values = st.tuples(
    st.integers(-(2**63), 2**63 - 1), st.none() | st.text(max_size=60), st.none() | st.binary(max_size=60)
)  # fmt: skip


def written(path: Path, rows: list[tuple]) -> list[tuple]:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, number INTEGER NOT NULL, words TEXT, bytes BLOB) STRICT")
        db.execute("CREATE TABLE other (id INTEGER PRIMARY KEY, words TEXT, number INTEGER NOT NULL) STRICT")
        db.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", rows)
        db.executemany("INSERT INTO other VALUES (?, ?, ?)", [(n, "x" * 50, n) for n in range(200)])
        db.commit()
        return db.execute("SELECT * FROM t ORDER BY id").fetchall()


def found(path: Path) -> list[tuple]:
    """Rows of t, when nothing is said to lead to any page."""
    return sorted(row for name, row in orphans(path, [1], TABLES) if name == "t")


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.integers(-(2**63), 2**63 - 1), values, min_size=1, max_size=60))
def test_every_row_that_sqlite_writes_is_read(tmp_path_factory, rows):
    """Whatever its number, however long its values, on one page or many."""
    path = tmp_path_factory.mktemp("pages") / "x.db"
    stored = written(path, [(number, *row) for number, row in rows.items()])
    assert found(path) == stored


def test_a_row_that_runs_over_its_page_is_left_out_and_the_others_are_not(tmp_path):
    path = tmp_path / "x.db"
    written(path, [(1, 7, "short", None), (2, 7, None, b"x" * 5000), (3, 7, "short", None)])
    assert found(path) == [(1, 7, "short", None), (3, 7, "short", None)]


def test_what_can_be_reached_is_not_told_again(tmp_path):
    path = tmp_path / "x.db"
    written(path, [(number, 1, "x" * 80, None) for number in range(200)])
    with closing(sqlite3.connect(path)) as db:
        roots = [1, *(row[0] for row in db.execute("SELECT rootpage FROM sqlite_schema"))]
    assert list(orphans(path, roots, TABLES)) == []


def test_pages_that_the_file_has_given_up_stay_given_up(tmp_path):
    """What was deleted does not come back."""
    path = tmp_path / "x.db"
    written(path, [(number, 1, "x" * 80, None) for number in range(200)])
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA secure_delete = OFF")
        db.execute("DROP TABLE t")
        assert db.execute("PRAGMA freelist_count").fetchone()[0] > 3
    assert found(path) == []


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_no_row(tmp_path, seed):
    path = tmp_path / "x.db"
    stored = written(path, [(number, 1, "x" * 80, None) for number in range(400)])
    random = Random(seed)
    leaves = leaves_of(path, "t")
    damage(path, random.sample(leaves, 3), random)
    with path.open("r+b") as file:  # and one that looks like a page of rows
        file.seek((leaves[0] - 1) * PAGE + 8)
        file.write(random.randbytes(PAGE - 8))
    assert set(found(path)) < set(stored)


def test_a_row_from_before_a_column_was_added_has_as_many_values_as_it_had(tmp_path):
    path = tmp_path / "x.db"
    written(path, [(1, 5, "a", None)])
    tables = {"t": [*TABLES["t"], Column("INTEGER", needed=False, number=False)]}
    assert [row for _, row in orphans(path, [1], tables)] == [(1, 5, "a", None)]
    tables = {"t": [*TABLES["t"], Column("INTEGER", needed=True, number=False)]}
    assert list(orphans(path, [1], tables)) == []


def test_a_page_that_fits_two_tables_belongs_to_neither(tmp_path):
    path = tmp_path / "x.db"
    written(path, [(1, 5, "a", None)])
    assert list(orphans(path, [1], {"t": TABLES["t"], "twin": TABLES["t"]})) == []


def test_numbers_of_every_length_are_read():
    """1 to 9 bytes, section 1.6 of the file format."""
    for value in (0, 127, 128, 2**14, 2**21, 2**28, 2**35, 2**42, 2**49, 2**56 - 1, 2**62, -1, -(2**63)):
        assert pages._varint(varint(value) + b"\xff", 0) == (value, len(varint(value)))


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    if value >= 2**56:
        high = [(value >> 8 >> 7 * n & 0x7F) | 0x80 for n in reversed(range(8))]
        return bytes([*high, value & 0xFF])
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | 0x80)
    return bytes(reversed(groups))
