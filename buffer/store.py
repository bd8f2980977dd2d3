"""The durable store: one writing connection in one thread, group commit at synchronous=FULL, read-only connections elsewhere.

`write(fn)` runs `fn` on the writer and returns when the transaction that holds it is on the disk (R3, R12). While one commit is
under way the next group gathers, so a busy store pays one sync for many writers.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import quote

from buffer.lock import Lock
from buffer.migrations import migrate

log = logging.getLogger(__name__)

T = TypeVar("T")
Connection = sqlite3.Connection
Work = Callable[[Connection], Any]

DATABASE = "buffer.db"
LOCK = "buffer.lock"
APPLICATION_ID = 0x4D47_5731  # "MGW1"
BUSY_TIMEOUT = 5.0  # s; only the writer and read-only connections exist, so nobody waits long
GROUP_MOST = 500  # writes in one commit: bounds what one failing disk throws back at once

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


class StoreError(Exception):
    """The write is not durable (or not known to be); state must be read again before the next external effect (R26)."""


class Unreadable(Exception):  # noqa: N818 - says what was found
    """The database file cannot be read (not there, not permitted, not a database)."""


class Store:
    """The database of one data directory, owned by this process.

    `threaded=False` runs every write inline in the caller's thread: for the single-threaded simulation and for commands.
    """

    def __init__(self, data_dir: Path, *, threaded: bool = True, facts: dict[str, Any] | None = None) -> None:
        """Take the lock, open and migrate; raises LockHeld, NewerDatabase, or OSError / StoreError when it cannot be opened."""
        self.path = data_dir / DATABASE
        self._lock = Lock(data_dir / LOCK, facts or {})
        try:
            self._db = self._open()
        except BaseException:
            self._lock.release()
            raise
        self._queue: SimpleQueue[tuple[Work, Future[Any]] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="store", daemon=True) if threaded else None
        if self._thread:
            self._thread.start()

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction; returns its result once that is durable.

        What `work` itself raises undoes only its own changes and comes back as it is. StoreError when nothing of it is durable.
        """
        future: Future[T] = Future()
        if self._thread is None:
            self._commit([(work, future)])
        else:
            self._queue.put((work, future))
        return future.result()

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a short-lived read-only connection; StoreError when the file cannot be read."""
        try:
            with read_only(self.path) as db:
                return work(db)
        except Unreadable as error:
            raise StoreError(f"not read: {error}") from error

    def close(self) -> None:
        """Finish what is queued, checkpoint, and release the lock."""
        if self._thread:
            self._queue.put(None)
            self._thread.join()
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            log.warning("checkpoint at stop failed: %s", error)
        self._db.close()
        self._lock.release()

    def _open(self) -> Connection:
        try:
            db = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
            for pragma in PRAGMAS:
                db.execute(f"PRAGMA {pragma}")
            migrate(db)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        except sqlite3.Error as error:
            raise StoreError(f"cannot open {self.path}: {error}") from error
        return db

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            group = [first]
            while len(group) < GROUP_MOST and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    self._commit(group)
                    return
                group.append(following)
            self._commit(group)

    def _commit(self, group: list[tuple[Work, Future[Any]]]) -> None:
        results: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for work, future in group:
                results.append((future, *self._one(work)))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._start_over(error)
            for _, future in group:
                future.set_exception(StoreError(f"not stored: {error}"))
            return
        for future, result, problem in results:
            if problem is None:
                future.set_result(result)
            else:
                future.set_exception(problem)

    def _one(self, work: Work) -> tuple[Any, BaseException | None]:
        self._db.execute("SAVEPOINT one")
        try:
            result = work(self._db)
        except (sqlite3.OperationalError, sqlite3.DatabaseError) as error:
            if not isinstance(error, sqlite3.IntegrityError):
                raise  # disk full, I/O error: nothing of this group can be believed
            self._db.execute("ROLLBACK TO one")
            return None, error
        except Exception as error:  # noqa: BLE001 - the caller's own failure travels back to the caller
            self._db.execute("ROLLBACK TO one")
            return None, error
        self._db.execute("RELEASE one")
        return result, None

    def _start_over(self, error: sqlite3.Error) -> None:
        """After any failed commit only the file knows the truth: drop the connection and open again (R26)."""
        log.error("write failed, opening the database again: %s", error)
        try:
            self._db.close()
            self._db = self._open()
        except (sqlite3.Error, StoreError) as again:
            log.error("the database cannot be opened: %s", again)  # noqa: TRY400 - one line, the next write tries again


@contextmanager
def read_only(path: Path) -> Iterator[Connection]:
    """A read-only connection for one short look; Unreadable when there is nothing to be read."""
    try:
        db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)
    except sqlite3.Error as error:
        raise Unreadable(str(error)) from None
    try:
        yield db
    except sqlite3.Error as error:
        raise Unreadable(str(error)) from error
    finally:
        db.close()
