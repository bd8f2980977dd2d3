"""A copy of the whole database while it is in use, and a copy put in its place.

`VACUUM INTO` reads one consistent state, the write-ahead log with it; a plain copy of the file would not (reliability 2.9).
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from buffer import migrations
from buffer.files import is_damage, move_together, new_aside, read_only, sync, unlink_together
from buffer.lock import Lock
from buffer.outline import OUTLINE
from buffer.rebuilding import look_at_everything
from buffer.store import DATABASE, LOCK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PART = ".part"  # what is not whole yet
RESTORED = "restored"  # as the boot that wrote last: see `looks.run_begins`
STEPS = 10_000  # of SQLite's virtual machine between two looks at `stop`: milliseconds


class CopyError(Exception):
    """No whole backup of ours: the sentence says of which file, and why."""


class NotCopied(Exception):  # noqa: N818 - says what happened
    """SQLite could not read or write it; the cause says why."""


def back_up(source: Path, target: Path, *, force: bool = False, stop: Callable[[], bool] = lambda: False) -> int:
    """Copy a database to `target`, in use or not; returns the bytes. The target is whole, or as it was.

    `stop()` ends it half way. FileExistsError when it is there, unless `force`; NotCopied or OSError when it cannot be made.
    """
    if target.exists() and not force:
        raise FileExistsError(target)
    part = target.with_name(f".{target.name}{PART}")
    unlink_together(part)
    try:
        with closing(read_only(source)) as db:
            db.set_progress_handler(stop, STEPS)
            db.execute("VACUUM INTO ?", (str(part),))
        sync(part)
        size = part.stat().st_size
        part.chmod(0o600)
        part.replace(target)
        sync(target.parent)
    except sqlite3.Error as error:
        raise NotCopied(str(error)) from error
    else:
        return size
    finally:
        unlink_together(part)


def restore(backup: Path, data_dir: Path, facts: dict[str, str]) -> Path | None:
    """Put a backup in the place of the database; returns where the present one was moved, None where there was none.

    The present one is never deleted. Every meter is looked at before anything of it is sent (R19). Raises CopyError when
    the file is no whole backup of ours, NewerDatabase (R30), LockHeld while a gateway runs, NotCopied or OSError.
    """
    try:
        check(backup)  # before anything is made there
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = Lock(data_dir / LOCK, facts)
        try:
            _give(data_dir / LOCK, data_dir)
            return _put(backup, data_dir)
        finally:
            lock.release()
    except sqlite3.Error as error:
        raise NotCopied(str(error)) from error


def _put(backup: Path, data_dir: Path) -> Path | None:
    path = data_dir / DATABASE
    part = path.with_name(f"{DATABASE}{PART}")
    unlink_together(part)
    try:
        with closing(read_only(backup)) as db:
            db.execute("VACUUM INTO ?", (str(part),))
        _mark(part)
        sync(part)
        _give(part, data_dir)
        aside = new_aside(path, "replaced") if path.exists() else None
        if aside:
            move_together(path, aside)
        path.with_name(path.name + OUTLINE).unlink(missing_ok=True)  # of the one before
        part.rename(path)
        sync(data_dir)
    finally:
        unlink_together(part)
    return aside


def check(backup: Path) -> None:
    """Raise CopyError when a file is no whole backup of a gateway's database, NewerDatabase when this release is too old."""
    if not backup.is_file():
        raise CopyError(f"{backup}: there is no such file")
    try:
        with closing(read_only(backup)) as db:
            if db.execute("PRAGMA application_id").fetchone()[0] != migrations.APPLICATION_ID:
                raise CopyError(f"{backup}: not a database of a gateway")
            migrations.examine(db)
            problem = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        problem = str(error)
    if problem != "ok":
        raise CopyError(f"{backup}: damaged ({problem}); nothing was changed")


def _mark(part: Path) -> None:
    with closing(sqlite3.connect(part, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = FULL")
        migrations.migrate(db)
        db.execute("BEGIN IMMEDIATE")
        look_at_everything(db, RESTORED)
        db.execute("COMMIT")


def _give(path: Path, owner: Path) -> None:
    """Put back by root, it is still the service's."""
    path.chmod(0o600)
    if os.geteuid() == 0:
        facts = owner.stat()
        os.chown(path, facts.st_uid, facts.st_gid)
