"""Room for the database: its own cap, a ballast file for when the disk is full, and what is told of both (R27, R28).

A full disk takes no DELETE and no checkpoint either (reliability 2.4). So a file of some MiB lies beside the database that
is given up first. While it is gone the database may hardly grow: what is written goes into pages that were freed, and the
ballast's room is the log's. The last pages are no reading's: hours, ledger and intents go on for as long as can be.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from errno import EDQUOT, ENOSPC
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

MIB = 2**20
BALLAST_NAME = "buffer.ballast"
BALLAST = 8 * MIB  # the log of a checkpoint's length, twice
RESERVE = MIB  # of the file, for hours, ledger and messages: readings stop before it
PRESSED = 2 * RESERVE  # with less than this left, readings are forgotten before their age ...
RELIEVED = 4 * RESERVE  # ... until this much is
SPENT = MIB  # a failed write on a disk with less than this free has failed for that
SPARE = 4 * MIB  # that the disk must have besides the ballast before the ballast is made again: the log's usual length
UNLIMITED = 2**30  # pages, where SQLite itself begins
NO_ROOM = (ENOSPC, EDQUOT)
NEARLY = 64 * MIB  # of the disk; a person should hear of it
LONG_LOG = 32 * MIB  # the log is folded in at 4 MiB: only somebody who keeps reading lets it get this long (R28)


LEVELS = {"nearly": "warning", "log": "warning", "short": "warning"}  # of `problems`; an error where nothing is said
GRAVITY = ("read-only", "full", "cap", "failing", "nearly")  # of these the first one is told
OVER = {
    "read-only": "the disk is writable again",
    "full": "the disk has room again",
    "cap": "the database has room again",
    "failing": "the database can be written again",
    "nearly": "the disk is no longer nearly full",
    "log": "the database's log is short again",
    "short": "for a day nothing was forgotten before its age",
}


class Disk(NamedTuple):
    """Where the database lies: bytes that are free for us, and whether it takes any."""

    free: int
    read_only: bool


class Facts(NamedTuple):
    """What there is to say of the room. Sizes in bytes; `left` as `Room.left`, None where nobody could look."""

    directory: str
    disk: Disk
    full: bool = False
    left: int | None = None
    failing: str = ""  # why the last write failed
    log: int = 0
    given_up: int = 0  # rows that were forgotten lately for want of room


class Room:
    """How large the database of one directory may be; with a size of 0 there is no ballast."""

    def __init__(self, directory: Path, most: int | None = None, ballast: int = 0) -> None:
        """`most`: bytes of the database without its log; None: no cap."""
        self.directory = directory
        self.most = most
        self.full = False  # the disk is: the ballast is given up
        self._ceiling: int | None = None  # pages; how far the file may grow meanwhile
        self._file = directory / BALLAST_NAME
        self._size = ballast

    def begin(self) -> None:
        """Have a ballast, or see that the disk is full already."""
        if self._size and not self._is_there():
            self.full = not self._make()

    def give_up(self) -> bool:
        """After a failed write: delete the ballast where the disk is full; whether that made room."""
        disk = disk_of(self.directory)
        if not self._size or self.full or disk.read_only or (disk.free >= SPENT and not self._over_quota()):
            return False
        self.full = True
        try:
            self._file.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s cannot be given up: %s", self._file, error)
            return False
        log.error("the disk of %s is full: %s is given up, so that the database can be cleared", *self._places())
        return True

    def regain(self, db: sqlite3.Connection) -> None:
        """Make the ballast again where the disk has room for it; then the database may grow as before."""
        if self.full and self._make():
            self.full = False
            if self.most is None:
                db.execute(f"PRAGMA max_page_count = {UNLIMITED}")
            self.limit(db)
            log.info("the disk of %s has room again, also for %s", *self._places())

    def limit(self, db: sqlite3.Connection) -> None:
        """Tell a writing connection how large the file may be: SQLite takes what it is, where that is more."""
        pages, size = _pragma(db, "page_count"), _pragma(db, "page_size")
        most = None if self.most is None else self.most // size
        if not self.full:
            self._ceiling = None
        elif self._ceiling is None:
            ceiling = pages + RESERVE // size
            self._ceiling = ceiling if most is None else min(ceiling, most)
        allowed = self._ceiling or most
        if allowed is not None:
            db.execute(f"PRAGMA max_page_count = {allowed:d}")

    def left(self, db: sqlite3.Connection) -> int | None:
        """Bytes that the database may still take in; None: as many as there are."""
        pages, free, size = (_pragma(db, name) for name in ("page_count", "freelist_count", "page_size"))
        allowed = self._ceiling or (None if self.most is None else self.most // size)
        return None if allowed is None else (max(0, allowed - pages) + free) * size

    def for_readings(self, db: sqlite3.Connection) -> bool:
        """Whether there is room for readings: the rest is for what nobody could give again."""
        left = self.left(db)
        return left is None or left >= RESERVE

    def _over_quota(self) -> bool:
        """Whether a quota keeps from us what the disk has: SQLite calls it an I/O error, so only trying tells."""
        try:
            with TemporaryFile(dir=self.directory) as trial:
                os.posix_fallocate(trial.fileno(), 0, SPENT)
        except OSError as error:
            return error.errno in NO_ROOM
        return False

    def _is_there(self) -> bool:
        try:
            return self._file.stat().st_size >= self._size
        except OSError:
            return False

    def _make(self) -> bool:
        """Really allocated, or not at all."""
        try:
            if disk_of(self.directory).free < self._size + SPARE:
                return False
            _allocate(self._file, self._size, SPARE)
        except OSError as error:
            if error.errno not in NO_ROOM:
                log.warning("%s cannot be made: %s", self._file, error)
            with suppress(OSError):
                self._file.unlink(missing_ok=True)
            return False
        return True

    def _places(self) -> tuple[Path, str]:
        return self.directory, self._file.name


def _allocate(file: Path, size: int, spare: int = 0) -> None:
    """A file of this size, really allocated, where there is room for so much more besides; OSError otherwise."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size + spare)
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_of(directory: Path) -> Disk:
    """A look at the disk. One that cannot be looked at has no room."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return Disk(0, read_only=False)
    nameless = found.f_files > 0 and found.f_favail == 0  # room, but none for a file's name
    return Disk(0 if nameless else found.f_bavail * found.f_frsize, bool(found.f_flag & os.ST_RDONLY))


def log_size(database: Path) -> int:
    """Bytes of the database's log."""
    try:
        return database.with_name(f"{database.name}-wal").stat().st_size
    except OSError:
        return 0


def problems(facts: Facts) -> dict[str, str]:
    """What a person should know, by kind, with the next step. Pure."""
    where = facts.directory
    found = dict([trouble] if (trouble := _trouble(facts)) else [])
    if facts.log > LONG_LOG:
        found["log"] = (
            f"the database's log has grown to {facts.log / 1e6:.0f} MB, because somebody keeps the database open for"
            f" reading: end that program (sudo fuser -v {where}/buffer.db names it)"
        )
    if facts.given_up:
        found["short"] = (
            f"room runs out: {facts.given_up} readings and messages that no open hour needs were forgotten before their"
            " age, the oldest first: make room on the disk, or raise [buffer] max_size and restart"
        )
    return found


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[tuple[str, str]]:
    """What to tell, (level, text), where these problems were and those are. Nothing is over that became worse."""
    news = [(LEVELS.get(kind, "error"), text) for kind, text in after.items() if kind not in before]
    worst = min((GRAVITY.index(kind) for kind in after if kind in GRAVITY), default=len(GRAVITY))
    over = [kind for kind in before if kind not in after]
    better = [kind for kind in over if kind not in GRAVITY or GRAVITY.index(kind) < worst]
    return [*(("info", OVER[kind]) for kind in better), *news]


def _trouble(facts: Facts) -> tuple[str, str] | None:
    """The one that the others follow from."""
    where, free = facts.directory, facts.disk.free
    waits = (
        "; what finds no room waits (polled meters in memory, around each full hour; messages at their broker), and goes on"
        " by itself"
    )
    short = facts.left is not None and facts.left < RESERVE
    full = facts.full or (free < SPENT and bool(facts.failing))
    goes_on = "; the database goes on in its own free pages" if not short and not facts.failing else waits
    known = (
        (facts.disk.read_only, "read-only", f"the disk of {where} is read-only{waits}: see dmesg, mount it writable"),
        (
            full,
            "full",
            f"the disk of {where} is full{goes_on}: make room there (df -h {where}; quota -s where there is a quota)",
        ),
        (short, "cap", f"the database is as large as it may be{waits}: raise [buffer] max_size and restart"),
        (
            bool(facts.failing),
            "failing",
            f"the database cannot be written ({facts.failing}){waits}: see dmesg, and look at {where}",
        ),
        (
            free < NEARLY,
            "nearly",
            f"the disk of {where} is nearly full, {free / 1e6:.0f} MB are free: make room there (df -h {where})",
        ),
    )
    return next(((kind, words) for met, kind, words in known if met), None)


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])
