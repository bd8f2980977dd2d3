"""The durable store: one writing connection in one thread, group commit at synchronous=FULL; every other only reads.

`write(fn)` runs `fn` on the writer and returns when the transaction that holds it is on the disk (R3, R12). Which writes
share a commit, `buffer.gathering` says.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from buffer import files
from buffer.files import BUSY_TIMEOUT, is_damage
from buffer.gathering import Gathering, Write
from buffer.lock import Lock
from buffer.migrations import examine, migrate
from buffer.room import Room

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

T = TypeVar("T")
Connection = sqlite3.Connection
Work = Callable[[Connection], Any]

DATABASE = "buffer.db"
LOCK = "buffer.lock"
BEFORE = "buffer-before-migration.db"  # as it was before the newest schema step
CHUNK = 1024 * 1024  # bytes

PRAGMAS = (  # reliability 3.6
    "journal_mode = WAL",
    "synchronous = FULL",  # NORMAL rolls acknowledged commits back at a power cut: a doubled hour (reliability 2.2)
    f"journal_size_limit = {16 * 1024 * 1024}",
    "wal_autocheckpoint = 1000",
    "foreign_keys = ON",
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "mmap_size = 0",
)

CALLERS_OWN = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_TOOBIG,
    }
)  # failures of what was asked; every other one is the disk's, and then nothing of the group can be believed


class StoreError(Exception):
    """The write is not durable (or not known to be); state must be read again before the next external effect (R26)."""


class Full(StoreError):  # noqa: N818 - says what was met
    """The write was refused: what room is left is kept for more important ones."""


class Unreadable(Exception):  # noqa: N818 - says what was found
    """The database file cannot be read (not there, not permitted, not a database)."""


class Store:
    """The database of one data directory, owned by this process.

    `threaded=False` runs every write inline in the caller's one thread, and keeps the connection that it reads by: for the
    simulation and for commands.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        threaded: bool = True,
        facts: dict[str, Any] | None = None,
        heal: Callable[[Path, Callable[[], Connection]], Connection] | None = None,
        room: Room | None = None,
        commit_within: float = 0.0,
    ) -> None:
        """Take the lock, open and migrate; raises LockHeld, NewerDatabase, or OSError / StoreError when it cannot.

        `heal` opens the file, damaged as it may be (`recovery.opened`); without it, a damaged one is a StoreError.
        `room`: how large it may get; as large as the disk without it. `commit_within`: seconds for which a patient write
        waits for others to share its commit.
        """
        self.path = data_dir / DATABASE
        self.room = room or Room(data_dir)
        self._lock = Lock(data_dir / LOCK, facts or {})
        self._db: Connection | None = None  # None after a failure, until the next write opens it again
        self._reader: Connection | None = None  # kept without threads
        self.damaged = False  # SQLite met damage: the next opening salvages what can be read
        self._log_in_doubt = True  # whether all that the log shows is on the disk
        try:
            unclean = _has_content(self.path.with_name(f"{DATABASE}-wal"))  # a close would have folded it in
            self.room.begin()
            self._db = self._opened(heal or (lambda _, opening: opening()))
            self.checked = not unclean  # nothing is sent from a file that may be damaged
            if unclean and not threaded:
                self.check()
        except BaseException:
            self._lock.release()
            raise
        self._gathering = Gathering(commit_within)
        self._gate = threading.Lock()  # so that nothing is queued behind the end
        self._closed = False
        self.failing = ""  # in words, while writes fail
        self._writing: int | None = None  # the thread inside a write
        self._thread = threading.Thread(target=self._run, name="store", daemon=True) if threaded else None
        if self._thread:
            self._thread.start()

    def write(self, work: Callable[[Connection], T], *, patients: int = 0) -> T:
        """Run `work` in a transaction; returns its result once that is durable.

        `patients`: for how many patient connections it speaks (`expect_patience`); unless it is 0 it may wait for the
        others as long as nobody else writes.

        What `work` itself raises undoes only its own changes and comes back as it is. StoreError when nothing of it is
        durable, or nobody knows: only the file does (R26).
        """
        if self._writing == threading.get_ident():
            raise RuntimeError("a write inside a write would wait for itself: use the connection at hand")
        future: Future[T] = Future()
        with self._gate:
            if self._closed:
                raise StoreError("not stored: the store is closed")
            if self._thread:
                self._gathering.put(Write(work, future, patients))
        if self._thread is None:
            self._commit([Write(work, future)])
        return future.result()

    def expect_patience(self) -> None:
        """There is one more connection that is written for patiently: with all of them waiting, nobody has to wait any more."""
        self._gathering.patients += 1

    def hurry(self) -> None:
        """From now on no write waits for others: the process is about to stop."""
        self._gathering.hurry()

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a read-only connection; StoreError when the file cannot be read.

        A short-lived one: it keeps no memory, and does not stand in the way when the writer closes. Opening it, and
        reading the schema by it, costs more than most looks; where there is one thread, it is kept.
        """
        try:
            with read_only(self.path) if self._thread else self._kept() as db:
                return work(db)
        except Unreadable as error:
            if is_damage(error):
                self._met_damage()
            raise StoreError(f"not read: {error}") from error

    def regain(self) -> None:
        """Where the disk was full: look whether there is room again, from any thread."""
        if self.room.full:
            self.write(self.room.regain)
        self._lock.tell()

    def check(self) -> None:
        """After an unclean stop: look through the file, from any thread. `checked` or `damaged` says the outcome."""
        try:
            whole = files.is_whole(self.path)
        except sqlite3.Error as error:
            log.warning("the database could not be checked: %s", error)
            return
        if whole:
            self.checked = True
        else:
            self._met_damage()

    def close(self) -> None:
        """Finish what is queued, close (which folds the log into the file), release the lock. Twice is once."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
            self._gathering.end()
        if self._thread:
            self._thread.join()
        self._drop_reader()
        if self._db:
            self._db.close()
        self._lock.release()

    @contextmanager
    def _kept(self) -> Iterator[Connection]:
        """The one thread's reader, opened anew after any failure."""
        try:
            if self._reader is None:
                self._reader = files.read_only(self.path)
            yield self._reader
        except BaseException as error:
            self._drop_reader()
            if isinstance(error, sqlite3.Error):
                raise Unreadable(str(error)) from error
            raise

    def _drop_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader:
            reader.close()

    def _opened(self, heal: Callable[[Path, Callable[[], Connection]], Connection]) -> Connection:
        """On a full disk, in the room of the ballast."""
        try:
            return heal(self.path, self._open)
        except StoreError:
            if not self.room.give_up():
                raise
        self._lock.tell()
        return heal(self.path, self._open)

    def _open(self) -> Connection:
        try:
            if self.path.exists():
                _examine(self.path)
                if self._log_in_doubt:
                    _sync_log(self.path.with_name(f"{DATABASE}-wal"))
            self._log_in_doubt = False
            db = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
            try:
                for pragma in PRAGMAS:
                    db.execute(f"PRAGMA {pragma}")
                migrate(db, self.path.with_name(BEFORE))
                # whatever may be undone: /var/tmp may be full. Not before, because the index of a migration may be long
                db.execute("PRAGMA temp_store = MEMORY")
                self.room.limit(db)
                _sync_names(self.path.parent)  # of the file and its log: SQLite does not mind when this fails
            except BaseException:
                db.close()
                raise
        except (sqlite3.Error, Unreadable, OSError) as error:
            raise StoreError(f"cannot open {self.path}: {error}") from error
        return db

    def _run(self) -> None:
        while group := self._gathering.group():
            self._commit(group)

    def _commit(self, group: list[Write]) -> None:
        self._writing = threading.get_ident()
        try:
            outcomes, changed = self._transaction([each.work for each in group])
        except Exception as error:  # noqa: BLE001 - whatever it was: nobody may wait for ever, and only the file knows
            self._drop(error)
            for each in group:
                each.future.set_exception(StoreError(f"not stored: {error}"))
            return
        finally:
            self._writing = None
        if self.failing and changed:  # what changes nothing writes nothing, and says nothing of the disk
            self.failing = ""
            log.info("the database takes writes again")
        for each, (result, problem) in zip(group, outcomes, strict=True):
            if problem is None:
                each.future.set_result(result)
            else:
                each.future.set_exception(problem)

    def _transaction(self, works: list[Work]) -> tuple[list[tuple[Any, BaseException | None]], bool]:
        """Each one's outcome, and whether anything was changed."""
        if self._db is None:
            self._db = self._open()
        before = self._db.total_changes
        self._db.execute("BEGIN IMMEDIATE")
        outcomes = [_attempt(self._db, work) for work in works]
        self._db.execute("COMMIT")
        return outcomes, self._db.total_changes > before

    def _drop(self, error: Exception) -> None:
        """After a failed commit only the file knows the truth: the next write opens it anew (R26)."""
        if not self.failing:
            log.error("a write failed; the database is opened again: %s", error)
        self.failing = str(error) or type(error).__name__
        self.room.give_up()  # before the closing, which folds the log in where it can
        if not _is_full(error):  # a disk may be full for days: what did not fit was no commit, and the rest is synced
            self._log_in_doubt = True
        self._drop_reader()
        if self._db:
            self._db.close()
        self._db = None
        if is_damage(error):
            self._met_damage()

    def _met_damage(self) -> None:
        """Go on as well as can be; what is damaged is left to the next opening."""
        if not self.damaged:
            log.critical("%s is damaged: the next start salvages what can be read", self.path)
            files.mark_damaged(self.path)
        self.damaged, self.checked = True, False  # nothing is sent any more (R27)


@contextmanager
def read_only(path: Path) -> Iterator[Connection]:
    """A read-only connection for one short look; Unreadable when there is nothing to be read."""
    try:
        db = files.read_only(path)
    except sqlite3.Error as error:
        raise Unreadable(str(error)) from None
    try:
        yield db
    except sqlite3.Error as error:
        raise Unreadable(str(error)) from error
    finally:
        db.close()


def _examine(path: Path) -> None:
    """Refuse a file of somebody else's before anything is written.

    A power cut at the birth of a database leaves a rollback journal, which only a writer can undo.
    """
    try:
        with read_only(path) as look:
            examine(look)
    except Unreadable as error:
        if getattr(error.__cause__, "sqlite_errorcode", None) != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)) as look:
            examine(look)


def _sync_log(path: Path) -> None:
    """Bring to the disk what is in the log that was left there: whoever opens it believes it, and builds upon it.

    A process that was killed has not synced its last commit. One whose sync failed has, in the kernel's eyes: those pages
    count as written, and no later sync writes them (reliability 3.6). So they are written again, as they are. Without
    this, a reading that is delivered again changes nothing, syncs nothing, and is acknowledged all the same (R3).
    """
    if not path.exists():
        return
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        written = 0
        while some := os.pread(fd, CHUNK, written):
            written += os.pwrite(fd, some, written)
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_names(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _attempt(db: Connection, work: Work) -> tuple[Any, BaseException | None]:
    """One write of a group: its result, or its own failure with its changes undone. Raises when the disk failed."""
    db.execute("SAVEPOINT one")
    try:
        result, problem = work(db), None
    except BaseException as error:  # the caller's own failure travels back to the caller, whatever it is
        if isinstance(error, sqlite3.Error) and not _callers_own(error):
            raise
        result, problem = None, error
        db.execute("ROLLBACK TO one")
    db.execute("RELEASE one")
    return result, problem


def _has_content(file: Path) -> bool:
    """A reader leaves an empty log behind where none was."""
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:
        return False


def _is_full(error: Exception) -> bool:
    cause = error.__cause__ if isinstance(error, StoreError) else error  # what kept it from opening
    return getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _callers_own(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF in CALLERS_OWN
