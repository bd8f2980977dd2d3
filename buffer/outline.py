"""Where each table of a database begins, and whose each number is, kept beside it: one lost page would take everything.

The first page of a file and the few that belong to it name every table with its first page. They never change but with a
schema step, so what they say is written down once, and a copy of a damaged file can be given a new first page from it.
"""

from __future__ import annotations

import json
import logging
import mmap
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from buffer.files import read_only, sync, unlink_together
from buffer.migrations import APPLICATION_ID
from buffer.salvage import tolerant

if TYPE_CHECKING:
    from pathlib import Path

    from buffer.store import Connection

log = logging.getLogger(__name__)

OUTLINE = ".outline"  # after the database's name
PAGE = 4096
HEADER = 100  # bytes of the first page before its content (SQLite's file format, 1.3)
INTERIOR, CHILDREN = 5, 12  # a page of a table that names others; its header's length

_ALL = "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema ORDER BY rowid"


def remember(path: Path, db: Connection) -> None:
    """Write down what the schema says and how meters are named, where that is new; a disk that takes nothing keeps nobody from going on."""
    file = path.with_name(path.name + OUTLINE)
    try:
        meters = db.execute("SELECT id, name FROM meter ORDER BY id").fetchall()
        text = json.dumps({"schema": db.execute(_ALL).fetchall(), "meters": meters})
        if file.exists() and file.read_text() == text:
            return
        part = file.with_name(f"{file.name}.part")
        part.write_text(text)
        sync(part)
        part.replace(file)
    except (OSError, sqlite3.Error) as error:
        log.warning("%s cannot be written: %s", file, error)


def names_of_meters(path: Path) -> dict[int, str]:
    """The meters' names by number, as they were written down last."""
    return {int(number): str(name) for number, name in _outline(path).get("meters", [])}


def _outline(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    try:
        found = json.loads(path.with_name(path.name + OUTLINE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def was_ours(path: Path) -> bool:
    """Whether a file that is no database any more was one of a gateway: by its outline, by what is left, or nothing is."""
    if path.with_name(path.name + OUTLINE).exists():
        return True
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"CREATE TABLE counter_state") >= 0 or not any(content[:PAGE])


def readable(damaged: Path, path: Path, copy: Path) -> Path:
    """The damaged file where its schema can be read, else a copy of it with a new one, as far as `path` has an outline."""
    rows = _outline(path).get("schema", [])
    if _names(damaged) >= {row[1] for row in rows if row[0] == "table"}:
        return damaged
    log.error("%s does not say any more where its tables are: taken from what was written down", damaged)
    unlink_together(copy)
    shutil.copy(damaged, copy)
    log_file = damaged.with_name(f"{damaged.name}-wal")
    if log_file.exists():
        _give_schema(copy, rows)  # so that it can be opened
        shutil.copy(log_file, copy.with_name(f"{copy.name}-wal"))
        with closing(sqlite3.connect(copy, isolation_level=None)) as db:
            db.execute("PRAGMA writable_schema = ON")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    _give_schema(copy, rows)
    return copy


def _names(path: Path) -> set[str]:
    try:
        with closing(read_only(path)) as db:
            tolerant(db)
            return {row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    except sqlite3.DatabaseError:
        return set()


def _give_schema(file: Path, rows: list[tuple[Any, ...]]) -> None:
    """A new first page; the others that belong to it go to the end of the file."""
    content = _schema_of(rows)
    pages = [bytearray(content[at : at + PAGE]) for at in range(0, len(content), PAGE)]
    end = -(-file.stat().st_size // PAGE)
    first = pages[0]
    _renumber(first, HEADER, end - 1)
    wal = file.with_name(f"{file.name}-wal").exists()
    first[18:20] = b"\x02\x02" if wal else b"\x01\x01"
    first[28:32] = (end + len(pages) - 1).to_bytes(4)
    first[68:72] = APPLICATION_ID.to_bytes(4)
    with file.open("r+b") as opened:
        opened.write(first)
        opened.seek(end * PAGE)
        for page in pages[1:]:
            _renumber(page, 0, end - 1)
            opened.write(page)


def _schema_of(rows: list[tuple[Any, ...]]) -> bytes:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.execute(f"PRAGMA page_size = {PAGE}")
        db.execute("PRAGMA writable_schema = ON")
        db.executemany("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", rows)
        return db.serialize()


def _renumber(page: bytearray, start: int, by: int) -> None:
    """Pages that a page of the schema names are further back now."""
    if page[start] != INTERIOR:
        return
    cells = int.from_bytes(page[start + 3 : start + 5])
    places = [start + 8]
    for number in range(cells):
        at = start + CHILDREN + 2 * number
        places.append(int.from_bytes(page[at : at + 2]))
    for place in places:
        child = int.from_bytes(page[place : place + 4])
        page[place : place + 4] = (child + by).to_bytes(4)
