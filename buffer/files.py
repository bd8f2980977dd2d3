"""A database file as a file: opened to be read, made durable, looked through for damage."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import quote

from buffer.model import from_ms

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

BUSY_TIMEOUT = 5.0  # s; only the writer and read-only connections exist, so nobody waits long
DAMAGED = ".damaged"  # after the database's name: a running gateway met damage, the next opening looks for it first

BESIDE = ("", "-wal", "-shm")  # what belongs to a database; a plain copy of the first alone is not one

_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def read_only(path: Path) -> sqlite3.Connection:
    """A connection that can write nothing; sqlite3.OperationalError when there is nothing to open."""
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)


def sync(path: Path) -> None:
    """Have a file, or the names in a directory, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def new_aside(path: Path, word: str) -> Path:
    """A new directory beside a database, named `<word>-<utc>-<n>` after when the database was written last."""
    stamp = f"{from_ms(path.stat().st_mtime_ns // 1_000_000):%Y%m%dT%H%M%SZ}"
    number = 1
    while (directory := path.parent / f"{word}-{stamp}-{number}").exists():
        number += 1
    directory.mkdir(mode=0o700)
    return directory


def move_together(path: Path, directory: Path) -> None:
    """Move a database with what belongs to it. It goes first: without it, the rest is not mistaken for a new one's."""
    for suffix in BESIDE:
        file = path.with_name(path.name + suffix)
        if file.exists() and not (directory / file.name).exists():
            file.rename(directory / file.name)
    sync(directory)
    sync(path.parent)


def unlink_together(path: Path) -> None:
    """Delete what is not needed: a database that was never finished."""
    for suffix in (*BESIDE, "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def is_damage(error: BaseException | None) -> bool:
    """Whether SQLite says that the file itself is broken, directly or as the cause of a failure."""
    while error is not None:
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
            return True
        error = error.__cause__
    return False


def is_whole(path: Path) -> bool:
    """SQLite's quick check, on a read-only connection: other connections may go on meanwhile. Takes seconds per 100 MB.

    sqlite3.Error where the file cannot be read for another reason than damage.
    """
    try:
        with closing(read_only(path)) as db:
            return bool(db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        return False


def mark_damaged(path: Path) -> None:
    """Have the next opening look for damage."""
    try:
        path.with_name(path.name + DAMAGED).touch()
    except OSError as error:
        log.warning("%s cannot be marked as damaged: %s", path, error)
