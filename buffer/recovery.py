"""A damaged database: moved aside whole, what can be read of it put into a new one, and the gateway goes on (R29).

    buffer.db, -wal, -shm ─▶ corrupt-<utc>-<n>/     moved, together; never altered, never deleted while it may be needed
    corrupt-<utc>-<n>/    ─▶ buffer.db.new          what can be read, made whole (`salvage`, `rebuilding`)
    buffer.db.new         ─▶ buffer.db              renamed when it is on the disk: this decides; then a report is written

A power cut at any point is gone on from at the next opening. `<utc>` is when the damaged file was written last.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from buffer import migrations, outline
from buffer.files import DAMAGED, is_damage, is_whole, move_together, new_aside, read_only, sync, unlink_together
from buffer.readings import note
from buffer.rebuilding import rebuild
from buffer.salvage import copy_all, tolerant
from buffer.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from buffer.rebuilding import Rebuilt
    from buffer.salvage import Salvaged
    from buffer.store import Connection

log = logging.getLogger(__name__)

ASIDE = "corrupt"
REPORT = "report.json"  # in the directory of the damaged files, once there is a database again
NEW = ".new"
COPY = ".mended"  # a copy of the damaged file, where it has to be changed to be read
KEPT = 2
CACHE_KIB = 32_768
PRECIOUS = ("hour", "ledger", "message", "message_hour", "adjustment", "parked")


def opened(path: Path, open_database: Callable[[], Connection]) -> Connection:
    """Open a database; one that turns out to be damaged is first replaced by what can be salvaged of it.

    Raises what `open_database` raises for other reasons, and OSError or StoreError where a new one cannot be made.
    """
    try:
        _prepare(path)
        try:
            return _remembered(path, open_database())
        except Exception as error:
            if not is_damage(error) or not _is_ours(path):
                raise
            log.error("%s is damaged (%s): salvaging what can be read", path, error)  # noqa: TRY400 - the traceback says no more
        _recover(path)
    except sqlite3.Error as error:
        raise StoreError(f"cannot salvage {path}: {error}") from error
    return _remembered(path, open_database())


def _remembered(path: Path, db: Connection) -> Connection:
    outline.remember(path, db)
    return db


def _prepare(path: Path) -> None:
    _go_on(path)
    mark = path.with_name(path.name + DAMAGED)
    if mark.exists():
        if path.exists() and _is_ours(path) and not is_whole(path):
            log.error("%s is damaged: salvaging what can be read", path)
            _recover(path)
        mark.unlink(missing_ok=True)


def reports(data_dir: Path) -> list[dict[str, Any]]:
    """What was found and saved each time, oldest first, while the damaged files are still there."""
    found = []
    for directory in _aside(data_dir):
        try:
            found.append(json.loads((directory / REPORT).read_text()) | {"directory": str(directory)})
        except (OSError, ValueError):
            continue
    return found


# --- steps ------------------------------------------------------------------------------------------------------------


def _is_ours(path: Path) -> bool:
    """Not another program's database, and not a newer release's (R30), as far as one can see."""
    try:
        with closing(read_only(path)) as db:
            mark = db.execute("PRAGMA application_id").fetchone()[0]
            tolerant(db)
            return mark in {0, migrations.APPLICATION_ID} and not migrations.unknown_steps(db)
    except sqlite3.Error as error:
        return is_damage(error) and outline.was_ours(path)


def _recover(path: Path) -> None:
    directory = new_aside(path, ASIDE)
    move_together(path, directory)
    _rebuild(path, directory)


def _go_on(path: Path) -> None:
    """Finish a recovery that was cut off."""
    for directory in _aside(path.parent):
        if (directory / REPORT).exists():
            continue
        if not (directory / path.name).exists():
            if not any(directory.iterdir()):
                directory.rmdir()  # cut off before anything was moved
        elif path.exists():
            _finish(path, directory)
        else:
            move_together(path, directory)
            _rebuild(path, directory)


def _rebuild(path: Path, directory: Path) -> None:
    damaged = directory / path.name
    now_ms = damaged.stat().st_mtime_ns // 1_000_000
    new, copy = path.with_name(path.name + NEW), path.with_name(path.name + COPY)
    unlink_together(new)
    with closing(sqlite3.connect(new, isolation_level=None)) as db:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIB}", "foreign_keys = OFF"):
            db.execute(f"PRAGMA {pragma}")
        names = outline.names_of_meters(path)
        _fill(db, outline.readable(damaged, path, copy), names, directory.name, now_ms)
    unlink_together(copy)
    sync(new)
    new.rename(path)
    sync(path.parent)
    _finish(path, directory)


def _fill(db: Connection, damaged: Path, names: dict[int, str], directory: str, now_ms: int) -> None:
    saved: dict[str, Salvaged] = {}
    try:
        with closing(read_only(damaged)) as old:
            tolerant(old)
            migrations.as_far_as(db, old)
            saved = copy_all(old, db, damaged)
            names |= _names(old)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        log.error("nothing can be read of %s: %s", damaged, error)  # noqa: TRY400
    migrations.migrate(db)
    db.execute("BEGIN")
    rebuilt = rebuild(db, names, now_ms)
    report = _report(saved, rebuilt, directory, now_ms)
    note(db, now_ms, "error", "buffer", report["text"])
    _tell_meters(db, rebuilt, now_ms)
    db.execute(
        "INSERT INTO meta VALUES ('salvage_report', ?) ON CONFLICT DO UPDATE SET value = excluded.value",
        (json.dumps(report),),
    )
    db.execute("COMMIT")


def _names(old: Connection) -> dict[int, str]:
    """Meters' names from the index, which lies on pages of its own."""
    try:
        return dict(old.execute("SELECT id, name FROM meter INDEXED BY sqlite_autoindex_meter_1"))
    except sqlite3.Error:
        return {}


def _finish(path: Path, directory: Path) -> None:
    with closing(read_only(path)) as db:
        row = db.execute("SELECT value FROM meta WHERE key = 'salvage_report'").fetchone()
    report = json.loads(row[0]) if row else {"text": "the database was damaged", "missed": {}}
    (directory / REPORT).write_text(json.dumps(report, indent=1))
    sync(directory / REPORT)
    sync(directory)
    log.error("%s", report["text"])
    for each in superfluous([(each.name, _read(each)) for each in _aside(path.parent)]):
        _delete(path.parent / each)


def superfluous(kept: list[tuple[str, dict[str, Any] | None]]) -> list[str]:
    """Which directories of damaged files, oldest first with their reports, may go: all but the newest ones.

    Not one of which something precious was not saved: it is the only copy.
    """
    return [
        name
        for name, report in kept[:-KEPT]
        if report is not None and not any(report.get("missed", {}).get(table, 1) for table in PRECIOUS)
    ]


def _aside(data_dir: Path) -> list[Path]:
    return sorted((each for each in data_dir.glob(f"{ASIDE}-*") if each.is_dir()), key=lambda each: each.name)


def _read(directory: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((directory / REPORT).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _delete(directory: Path) -> None:
    for file in directory.iterdir():
        file.unlink()
    directory.rmdir()


# --- what is told -----------------------------------------------------------------------------------------------------


def _report(saved: dict[str, Salvaged], rebuilt: Rebuilt, directory: str, now_ms: int) -> dict[str, Any]:
    rows = {table: each.rows for table, each in saved.items()}
    missed = {table: each.missed or int(not each.whole_end) for table, each in saved.items()}
    redrawn = sum(rebuilt.redrawn.values())
    hours, lost = rows.get("hour", 0), missed.get("hour", 0)
    text = (
        f"the database was damaged and is in {directory}; {hours} h, {rows.get('ledger', 0)} accepted ones and"
        f" {rows.get('reading', 0)} readings were saved into a new one"
        + (f"; {lost} or more h could not be read" if lost else "")
        + (f"; {redrawn} h were drawn anew between their neighbours" if redrawn else "")
        + (f"; {_counted(rebuilt.restarted)} no longer known where the register was" if rebuilt.restarted else "")
        + ("; nothing of it could be read" if not any(rows.values()) else "")
        + ". Every meter is read at EnerKey before anything of it is sent"
    )
    facts = {"redrawn": redrawn, "restarted": len(rebuilt.restarted), "nameless": len(rebuilt.nameless)}
    return {"at": now_ms, "text": text, "rows": rows, "missed": missed, **facts}


def _counted(meters: list[int]) -> str:
    return "of 1 meter it is" if len(meters) == 1 else f"of {len(meters)} meters it is"


def _tell_meters(db: Connection, rebuilt: Rebuilt, now_ms: int) -> None:
    names = dict(db.execute("SELECT id, name FROM meter"))
    for meter, count in rebuilt.redrawn.items():
        words = f"{count} h were lost with the damaged database and are drawn anew: estimated, their sum is exact"
        note(db, now_ms, "warning", names[meter], words)
    for meter in rebuilt.restarted:
        words = (
            "where its register stood was lost with the damaged database: nothing is booked up to its next reading. When you"
            f" know both readings: meter-gateway meter replaced {names[meter]} --at TIME --old-final VALUE --new-initial VALUE"
        )
        note(db, now_ms, "error", names[meter], words)
