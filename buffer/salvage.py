"""Rows out of a damaged database: everything on a page that can be read, table by table (R29, reliability 2.6).

A table is read in the order of its key until a page fails; then the key jumps on, by 1, 2, 4 ... until something can be
read again, and from there back to where that fails. What lies on readable pages between is had that way, whatever
`SELECT *` or the `.recover` of the sqlite3 shell (which not every system's library can do) make of the file.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple

from buffer.pages import Column, orphans

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from buffer.store import Connection

Row = tuple[Any, ...]

ORDER = (  # what nobody can give us again comes first
    "meter", "ledger", "message", "message_hour", "hour", "adjustment", "message_adjustment", "doubt", "parked", "epoch",
    "counter_state", "suspect", "request_budget", "event", "meta", "driver_state", "unplaced", "rejected",
    "rejected_count", "reading", "reading_hour",
)  # fmt: skip
LASTING = ("hour", "ledger", "adjustment")  # of the others a page without a place may hold what was forgotten
AT_ONCE = 2000  # rows per insert
FURTHEST = 2**44  # no key is beyond: ms since the epoch until the year 2527


class Salvaged(NamedTuple):
    """Of one table: rows that were saved, keys between them that were not, and whether its end could be read.

    `missed` counts keys: of the tables that are numbered without gaps these are rows.
    """

    rows: int
    missed: int
    whole_end: bool


def tolerant(db: Connection) -> None:
    """Prepare a read-only connection to a damaged file: a broken schema gives what is left of it."""
    for pragma in ("cell_size_check = ON", "trusted_schema = OFF", "mmap_size = 0", "writable_schema = ON"):
        db.execute(f"PRAGMA {pragma}")
    for _ in range(2):  # the first statement fails on a broken schema, the next ones get what could be read of it
        try:
            db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.DatabaseError:
            continue


def copy_all(old: Connection, new: Connection, file: Path) -> dict[str, Salvaged]:
    """Copy every table that both know; `new` has the same schema, is empty, and does not enforce foreign keys.

    `file` is what `old` reads.
    """
    find = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '%sqlite%'"
    there = [name for (name,) in new.execute(find).fetchall()]
    in_order = [*(table for table in ORDER if table in there), *(table for table in there if table not in ORDER)]
    saved = {table: _copy(old, new, table) for table in in_order}
    for table, rows in _copy_orphans(old, new, file).items():
        missed = new.execute(f"SELECT coalesce(max(id), 0) - count(*) FROM {table}").fetchone()[0]  # noqa: S608 - our own names
        before = saved[table]
        saved[table] = Salvaged(before.rows + rows, missed, before.whole_end or rows > 0)
    return saved


def _copy_orphans(old: Connection, new: Connection, file: Path) -> dict[str, int]:
    """Rows whose page cannot be reached any more, of the tables from which nothing is ever deleted; how many of each."""
    tables = {}
    for name in LASTING:
        facts = new.execute(f"PRAGMA table_info({name})").fetchall()
        if facts:
            names = [row[1] for row in facts]
            tables[name] = [Column(row[2], bool(row[3]) and row[4] is None, bool(row[5])) for row in facts], names
    try:
        roots = [1, *(row[0] for row in old.execute("SELECT rootpage FROM sqlite_schema WHERE rootpage > 0"))]
    except sqlite3.DatabaseError:
        return {}
    counts = dict.fromkeys(tables, 0)
    new.execute("BEGIN")
    for name, row in orphans(file, roots, {name: columns for name, (columns, _) in tables.items()}):
        columns = ", ".join(tables[name][1][: len(row)])
        before = new.total_changes
        insert = f"INSERT OR IGNORE INTO {name} ({columns}) VALUES ({', '.join('?' * len(row))})"  # noqa: S608 - our own names
        _insert(new, insert, [row])
        counts[name] += new.total_changes - before
    new.execute("COMMIT")
    return counts


class _Table(NamedTuple):
    """How one table is read: its key is a whole number, or it is small."""

    name: str
    columns: str
    key: str
    numbered: bool


class _Reading:
    """One table while it is read; `rows` gives its rows, some perhaps twice."""

    def __init__(self, db: Connection, table: _Table) -> None:
        self._db = db
        self._table = table
        self.missed = 0
        self.whole_end = True

    def rows(self) -> Generator[Row, None, None]:
        """Every row that can be read."""
        if not self._table.numbered:
            for order in ("ASC", "DESC"):  # from both ends to the first page that fails
                if (yield from self._read(f"ORDER BY {self._table.key} {order}", ())) is None:
                    return
            self.missed += 1
            return
        key = self._table.key
        last = yield from self._read(f"ORDER BY {key}", ())
        unread = [] if last is None else [((yield from self._one_more(last, ">")), FURTHEST)]
        while unread:
            last, end = unread.pop()
            found = self._between(last, end)
            if found is None:
                self.missed += 0 if end == FURTHEST else max(0, end - 1 - max(last, 0))
                self.whole_end &= end != FURTHEST
                continue
            back = f"WHERE {key} > ? AND {key} < ? ORDER BY {key} DESC"
            lowest = yield from self._read(back, (last, found), start=found)
            highest = yield from self._read(
                f"WHERE {key} >= ? AND {key} < ? ORDER BY {key}", (found, end), start=found - 1
            )
            unread += [(last, (yield from self._one_more(lowest, "<")))] if lowest is not None else []
            unread += [((yield from self._one_more(highest, ">")), end)] if highest is not None else []

    def _read(self, how: str, values: tuple[int, ...], start: int | None = None) -> Generator[Row, None, int | None]:
        """Rows until a page fails: returns the key of the last one (`start` before any); None where none failed."""
        last = -FURTHEST - 1 if start is None else start
        try:
            for key, *row in self._db.execute(
                f"SELECT {self._table.key}, {self._table.columns} FROM {self._table.name} {how}",  # noqa: S608 - our own names
                values,
            ):
                if self._table.numbered:
                    last = key
                yield tuple(row)
        except (sqlite3.DatabaseError, OverflowError, UnicodeDecodeError):
            return last
        return None

    def _one_more(self, last: int, side: str) -> Generator[Row, None, int]:
        """The row next to the last one: sqlite3 looks for the one after it before it gives it away. Returns its key."""
        order = f"ORDER BY {self._table.key} {'DESC' if side == '<' else 'ASC'} LIMIT 1"
        newest = last
        try:
            for key, *row in self._db.execute(
                f"SELECT {self._table.key}, {self._table.columns} FROM {self._table.name} WHERE {self._table.key} {side} ? {order}",  # noqa: S608 - our own names
                (last,),
            ):
                newest = key
                yield tuple(row)
        except (sqlite3.DatabaseError, OverflowError, UnicodeDecodeError):
            return last
        return newest

    def _between(self, last: int, end: int) -> int | None:
        """A key between these two whose page can be read, near the lower one; None where a search finds none."""
        base, jump = max(last, -1), 1
        while base + jump < end:
            found = self._probe(base + jump, end)
            if found is not None:
                return found if found > last else self._bisected(base + jump // 2, base + jump, end)
            jump *= 2
        return None if end == FURTHEST else self._below(last, end)

    def _below(self, last: int, end: int) -> int | None:
        """The same from the upper one downward: a jump may have gone over pages that can be read."""
        jump = 1
        while end - jump > last:
            found = self._probe(end - jump, end)
            if found is not None and found > last:
                return found
            jump *= 2
        return None

    def _bisected(self, low: int, high: int, end: int) -> int | None:
        """The same, where the page of `low` fails and nothing lies from `high` on: a jump went too far."""
        while high - low > 1:
            middle = (low + high) // 2
            found = self._probe(middle, end)
            if found is None:
                low = middle
            elif found < middle:
                high = middle
            else:
                return found
        return None

    def _probe(self, key: int, end: int) -> int | None:
        """The first key from here on; one far below where there is none before `end`; None where the page fails."""
        find = f"SELECT {self._table.key} FROM {self._table.name} WHERE {self._table.key} >= ? ORDER BY {self._table.key} LIMIT 1"  # noqa: S608 - our own names
        try:
            row = self._db.execute(find, (key,)).fetchone()
        except sqlite3.DatabaseError:
            return None
        return row[0] if row and isinstance(row[0], int) and key <= row[0] < end else -FURTHEST - 1


def _copy(old: Connection, new: Connection, name: str) -> Salvaged:
    table = _table(old, new, name)
    if table is None:
        return Salvaged(0, 0, whole_end=False)
    reading = _Reading(old, table)
    marks = ", ".join("?" * (table.columns.count(",") + 1))
    insert = f"INSERT OR IGNORE INTO {name} ({table.columns}) VALUES ({marks})"  # noqa: S608 - our own names
    new.execute("BEGIN")
    before = new.total_changes
    batch: list[Row] = []
    for row in reading.rows():
        batch.append(row)
        if len(batch) == AT_ONCE:
            _insert(new, insert, batch)
            batch = []
    _insert(new, insert, batch)
    new.execute("COMMIT")
    return Salvaged(new.total_changes - before, reading.missed, reading.whole_end)


def _table(old: Connection, new: Connection, name: str) -> _Table | None:
    facts = new.execute(f"PRAGMA table_info({name})").fetchall()
    try:
        known = {row[1] for row in old.execute(f"PRAGMA table_info({name})")}
    except sqlite3.DatabaseError:
        known = set()
    columns = [row[1] for row in facts if row[1] in known]
    keys = [row for row in facts if row[5] == 1]
    if not keys or keys[0][1] not in known:
        return None
    return _Table(name, ", ".join(columns), keys[0][1], keys[0][2] == "INTEGER")


def _insert(new: Connection, insert: str, rows: list[Row]) -> None:
    """All of them at once; where one is no row of this table (a value of another type), the others one by one."""
    new.execute("SAVEPOINT batch")
    try:
        new.executemany(insert, rows)
    except (sqlite3.Error, OverflowError):
        new.execute("ROLLBACK TO batch")
        for row in rows:
            try:
                new.execute(insert, row)
            except (sqlite3.Error, OverflowError):
                continue
    new.execute("RELEASE batch")
