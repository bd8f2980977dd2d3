"""A database of salvaged rows made whole: what is left is consistent, and nothing of it is sent before a look at EnerKey.

Rows of one page are lost together, so a message may have lost its hours, an hour its place in the ledger, a counter where
it stood. What that means is decided here for the whole file, once, on the new database before anybody uses it. Wherever
something may have been sent, that is how it is treated (R14, R19, R29).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from buffer import mending
from buffer.closing import freeze
from buffer.frozen import Frozen, Track
from buffer.mending import Edge
from buffer.model import HOUR_MS, round_half_up

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from buffer.mending import Redrawn
    from buffer.store import Connection

COARSEST = 1_000_000  # micro: what rounding to whole units may change in a value that was sent
UNTIDY = "the file was damaged, and nothing is left of the hours of this message"
NEVER = "salvaged"  # as the boot that wrote last: it is nobody's, so everything is looked at after `settle`

_APPLIED = "(message.state = 'accepted' OR message_hour.fate = 'accepted')"
_UNKNOWN = "SELECT id FROM message WHERE state IN ('open', 'unknown')"
_RELEASED = (
    "CASE WHEN EXISTS (SELECT 1 FROM ledger WHERE ledger.meter = hour.meter AND ledger.hour = hour.hour) THEN 'accepted'"
    " WHEN quality = 'missing' THEN 'missing' ELSE 'pending' END"
)


class Rebuilt(NamedTuple):
    """What had to be done, by meter's number: hours drawn anew, and meters whose register begins a new epoch."""

    redrawn: dict[int, int]
    restarted: list[int]
    nameless: list[int]


def rebuild(db: Connection, names: Mapping[int, str], now_ms: int) -> Rebuilt:
    """Make a database whole that holds whatever could be salvaged; `names` of meters from elsewhere than their rows.

    The caller's connection does not enforce foreign keys; after this none is violated.
    """
    nameless = _meters(db, names)
    _impossible(db)
    _messages(db, now_ms)
    redrawn = _hours(db, now_ms)
    _claims(db, now_ms)
    _ledger(db)
    restarted = _counters(db, now_ms)
    look_at_everything(db, NEVER)
    return Rebuilt(redrawn, restarted, nameless)


def look_at_everything(db: Connection, because: str) -> None:
    """Nothing of any meter is sent before EnerKey has been read, and that not before it shows all that was sent (R19)."""
    db.execute("UPDATE meter SET look_after = 0")
    db.execute("INSERT INTO meta VALUES ('running', ?) ON CONFLICT DO UPDATE SET value = excluded.value", (because,))


# --- meters and messages ----------------------------------------------------------------------------------------------


def _meters(db: Connection, names: Mapping[int, str]) -> list[int]:
    """Every meter of which something is left has a row; the numbers of those whose name is lost."""
    tables = ("hour", "ledger", "message", "adjustment", "parked", "epoch", "counter_state", "unplaced", "reading_hour")
    used = " UNION ".join(f"SELECT DISTINCT meter FROM {table}" for table in (*tables, "suspect", "doubt"))  # noqa: S608 - our own names
    missing = [row[0] for row in db.execute(f"SELECT meter FROM ({used}) WHERE meter NOT IN (SELECT id FROM meter)")]  # noqa: S608 - our own names
    for number in missing:
        db.execute(
            "INSERT INTO meter (id, name, unit, kind, push, source, configured, enerkey_id) VALUES (?, ?, '', '', 'off', '',"
            " 0, (SELECT enerkey_id FROM message WHERE meter = ?1 ORDER BY id DESC LIMIT 1))",
            (number, names.get(number, f"salvaged-{number}")),
        )
    return [number for number in missing if number not in names]


def _impossible(db: Connection) -> None:
    """Rows that nobody can have written: an hour is closed after its end, and not before the meter's first."""
    db.execute("DELETE FROM hour WHERE closed_at < (hour + 1) * ? OR hour < 0", (HOUR_MS,))
    qualities = "('measured', 'interpolated', 'estimated', 'missing')"
    db.execute(f"DELETE FROM hour WHERE quality NOT IN {qualities}")  # noqa: S608 - a constant text
    db.execute(f"DELETE FROM counter_state WHERE quality NOT IN {qualities}")  # noqa: S608 - a constant text
    db.execute(
        "DELETE FROM hour WHERE hour < (SELECT opening_hour FROM counter_state JOIN hour AS first ON first.meter ="
        " counter_state.meter AND first.hour = opening_hour WHERE counter_state.meter = hour.meter"
        " AND first.boundary - first.consumption = opening)"
    )


def _messages(db: Connection, now_ms: int) -> None:
    """A message under way is one of unknown fate; parts of messages and adjustments that are gone are no use to anybody."""
    words = "the file was damaged before the answer was recorded"
    db.execute(
        "UPDATE message SET state = 'unknown', fate = ?, fate_at = ? WHERE state = 'open'",
        (words, now_ms),
    )
    db.execute("UPDATE message SET fate_at = ? WHERE state = 'unknown' AND fate_at IS NULL", (now_ms,))
    for table in ("message_hour", "message_adjustment"):
        orphans = [(row[1],) for row in db.execute(f"PRAGMA foreign_key_check({table})")]
        db.executemany(f"DELETE FROM {table} WHERE id = ?", orphans)  # noqa: S608 - our own names


def _claims(db: Connection, now_ms: int) -> None:
    """An hour is claimed when a message of unknown fate names it, and only then."""
    db.execute(
        f"DELETE FROM message_hour WHERE message IN ({_UNKNOWN}) AND NOT EXISTS"  # noqa: S608 - a constant text
        " (SELECT 1 FROM hour WHERE hour.meter = message_hour.meter AND hour.hour = message_hour.hour)"
    )
    named = f"SELECT meter, hour FROM message_hour WHERE message IN ({_UNKNOWN})"  # noqa: S608 - a constant text
    db.execute(f"UPDATE hour SET state = {_RELEASED} WHERE state = 'claimed' AND (meter, hour) NOT IN ({named})")  # noqa: S608 - constant texts
    db.execute(f"UPDATE hour SET state = 'claimed' WHERE (meter, hour) IN ({named})")  # noqa: S608 - constant texts
    db.execute(
        f"UPDATE message SET state = 'verified', fate = ?, fate_at = ? WHERE id IN ({_UNKNOWN})"  # noqa: S608 - a constant text
        " AND id NOT IN (SELECT message FROM message_hour)",
        (UNTIDY, now_ms),
    )


# --- hours ------------------------------------------------------------------------------------------------------------


def _hours(db: Connection, now_ms: int) -> dict[int, int]:
    """Draw anew what is lost between hours, before the first and after the newest; how many of each meter."""
    _drop_altered(db)
    known = _Known(db)
    counts: dict[int, int] = {}
    for meter, left, right in [*_gaps(db), *_before_the_first(db)]:
        lost = mending.between(left, right, known.of(meter, left.hour, right.hour))
        counts[meter] = counts.get(meter, 0) + _enter(db, meter, lost, now_ms)
    for meter, left in _ends(db):
        lost = mending.after(left, known.of(meter, left.hour, None))
        counts[meter] = counts.get(meter, 0) + _enter(db, meter, lost, now_ms)
    return {meter: count for meter, count in counts.items() if count}


_CHAIN = (
    "WITH chain AS (SELECT meter, hour, boundary - consumption AS began, quality, lag(hour) OVER w AS before,"
    " lag(boundary) OVER w AS stood, lag(quality) OVER w AS was"
    " FROM hour WINDOW w AS (PARTITION BY meter ORDER BY hour)) "
)


def _drop_altered(db: Connection) -> None:
    """Rows that are there but say something else than was written: SQLite has no checksum on them, the chain is one."""
    breaks: dict[int, list[int]] = {}
    find = f"{_CHAIN} SELECT meter, hour FROM chain WHERE hour = before + 1 AND began <> stood"  # noqa: S608 - a constant text
    for meter, hour in db.execute(find):
        breaks.setdefault(meter, []).append(hour)
    rows = [(meter, hour) for meter, hours in breaks.items() for hour in mending.altered(hours)]
    db.executemany("DELETE FROM hour WHERE meter = ? AND hour = ?", rows)


def _gaps(db: Connection) -> list[tuple[int, Edge, Edge]]:
    facts = "meter, before + 1, stood, was, hour, began, quality"
    find = f"{_CHAIN} SELECT {facts} FROM chain WHERE hour > before + 1"  # noqa: S608 - constant texts
    return [
        (meter, Edge(*left), Edge(*right))
        for meter, *both in db.execute(find)
        for left, right in [(both[:3], both[3:])]
    ]


def _before_the_first(db: Connection) -> list[tuple[int, Edge, Edge]]:
    """Meters whose oldest hours are lost; an opening that does not fit to the first hour gives way to it."""
    first = (
        "FROM hour WHERE hour.meter = counter_state.meter AND hour.hour ="
        " (SELECT min(hour) FROM hour WHERE hour.meter = counter_state.meter)"
    )
    db.execute(
        "UPDATE counter_state SET (opening_hour, opening) ="  # noqa: S608 - a constant text
        f" (SELECT hour, boundary - consumption {first}) WHERE EXISTS"
        f" (SELECT 1 {first} AND (hour < opening_hour OR (hour = opening_hour AND boundary - consumption <> opening)))"
    )
    rows = db.execute(
        "SELECT counter_state.meter, opening_hour, opening, counter_state.quality, hour, boundary - consumption, hour.quality"
        " FROM counter_state JOIN hour ON hour.meter = counter_state.meter AND hour.hour ="
        " (SELECT min(hour) FROM hour WHERE hour.meter = counter_state.meter) WHERE hour > opening_hour"
    )
    return [(meter, Edge(*both[:3]), Edge(*both[3:])) for meter, *both in rows.fetchall()]


def _ends(db: Connection) -> list[tuple[int, Edge]]:
    """Where each meter's hours end now; at its opening where none is left."""
    rows = db.execute(
        "SELECT meter.id, coalesce(last.hour + 1, opening_hour), coalesce(boundary, opening), coalesce(last.quality, state.quality)"
        " FROM meter LEFT JOIN hour AS last ON last.meter = meter.id AND last.hour ="
        " (SELECT max(hour) FROM hour WHERE hour.meter = meter.id)"
        " LEFT JOIN counter_state AS state ON state.meter = meter.id WHERE last.hour IS NOT NULL OR state.meter IS NOT NULL"
    )
    return [(meter, Edge(*edge)) for meter, *edge in rows.fetchall()]


class _Known:
    """What lost hours are known to have been: what EnerKey accepted, or a message of unknown fate carries, less adjustments."""

    def __init__(self, db: Connection) -> None:
        self._db = db
        taken = (
            "SELECT message.meter, message_adjustment.hour, sum(amount) FROM message_adjustment"
            " JOIN message ON message.id = message_adjustment.message"
            " JOIN message_hour ON message_hour.message = message.id AND message_hour.hour = message_adjustment.hour"
            " WHERE {} GROUP BY 1, 2"
        )
        self._applied = self._by_hour(taken.format(_APPLIED))
        self._under_way = self._by_hour(taken.format("message.state = 'unknown'"))
        self._claimed = self._by_hour(
            f"SELECT meter, hour, sum(value) FROM message_hour WHERE message IN ({_UNKNOWN}) GROUP BY 1, 2"  # noqa: S608 - a constant text
        )

    def of(self, meter: int, first: int, end: int | None) -> dict[int, int]:
        """Micro by hour, for hours from `first` on."""
        within = (meter, first, 2**40 if end is None else end)
        known = {
            hour: value - self._under_way.get((number, hour), 0)
            for (number, hour), value in self._claimed.items()
            if number == meter and first <= hour < within[2]
        }
        find = "SELECT hour, accepted FROM ledger WHERE meter = ? AND hour >= ? AND hour < ?"
        return known | {
            hour: accepted - self._applied.get((meter, hour), 0) for hour, accepted in self._db.execute(find, within)
        }

    def _by_hour(self, find: str) -> dict[tuple[int, int], int]:
        return {(meter, hour): amount for meter, hour, amount in self._db.execute(find)}


def _enter(db: Connection, meter: int, lost: Iterable[Redrawn], now_ms: int) -> int:
    rows = [(meter, *row, max(now_ms, (row.hour + 1) * HOUR_MS)) for row in lost]
    db.executemany(
        "INSERT INTO hour (meter, hour, consumption, boundary, quality, closed_at, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6,"
        " CASE WHEN EXISTS (SELECT 1 FROM ledger WHERE meter = ?1 AND hour = ?2) THEN 'accepted'"
        " WHEN ?5 = 'missing' THEN 'missing' ELSE 'pending' END)",
        rows,
    )
    return len(rows)


# --- ledger -----------------------------------------------------------------------------------------------------------


def _ledger(db: Connection) -> None:
    """Every accepted hour is in the ledger, and what is in the ledger is not sent as new.

    What was accepted is what the messages carried, where that fits to the hour; else what the hour says. That is not
    audited (`at` is 0): it is not known to the last decimal that was sent.
    """
    db.execute(
        "UPDATE hour SET state = 'accepted' WHERE state = 'pending' AND (meter, hour) IN (SELECT meter, hour FROM ledger)"
    )
    db.execute(
        "CREATE TEMP TABLE unwritten AS SELECT meter, hour, consumption + coalesce((SELECT sum(posted) FROM adjustment"
        " WHERE adjustment.meter = hour.meter AND adjustment.hour = hour.hour), 0) AS likely FROM hour"
        " WHERE state = 'accepted' AND NOT EXISTS"
        " (SELECT 1 FROM ledger WHERE ledger.meter = hour.meter AND ledger.hour = hour.hour)"
    )
    db.execute("CREATE UNIQUE INDEX temp.unwritten_hour ON unwritten (meter, hour)")
    sent = (
        "SELECT unwritten.meter, unwritten.hour, sum(value) AS carried, max(message) AS message, max(fate_at) AS at"  # noqa: S608 - constant texts
        " FROM message_hour JOIN message ON message.id = message JOIN unwritten ON unwritten.meter = message_hour.meter"
        f" AND unwritten.hour = message_hour.hour WHERE {_APPLIED} GROUP BY 1, 2"
    )
    fits = f"abs(carried - likely) < {COARSEST}"
    db.execute(
        f"INSERT INTO ledger (meter, hour, accepted, message, at) SELECT meter, hour, CASE WHEN {fits} THEN carried ELSE likely END,"  # noqa: S608 - constant texts
        f" CASE WHEN {fits} THEN message END, CASE WHEN {fits} THEN coalesce(at, 0) ELSE 0 END"
        f" FROM unwritten LEFT JOIN ({sent}) AS sent USING (meter, hour)"
    )
    db.execute("DROP TABLE temp.unwritten")


# --- counters ---------------------------------------------------------------------------------------------------------


def _counters(db: Connection, now_ms: int) -> list[int]:
    """What is frozen of each meter fits to the hours it has; the meters of which it is not known where their register was."""
    restarted = []
    kinds = dict(db.execute("SELECT id, kind FROM meter"))
    states = {
        meter: facts
        for meter, *facts in db.execute("SELECT meter, tail_at, raw, offset, opening_hour FROM counter_state")
    }
    has_hours = {row[0] for row in db.execute("SELECT DISTINCT meter FROM hour")}
    for meter, edge in _ends(db):
        tail_at, raw, offset, opening_hour = states.get(meter, (None, None, None, None))
        if meter in states and (tail_at is None or tail_at <= edge.hour * HOUR_MS):
            continue
        if meter not in has_hours and edge.hour == opening_hour:
            db.execute("DELETE FROM counter_state WHERE meter = ?", (meter,))  # it opens anew, like one that is new
            restarted.append(meter)
            continue
        counts = raw is not None or kinds[meter] in {"counter", ""}
        track = _went_on(db, meter, edge, raw, offset) or _stood(db, meter, edge) if counts else None
        if counts and track is None:
            restarted.append(meter)
            track = Track(0, edge.hour * HOUR_MS, edge.value, awaits=True)
        tail = (edge.hour * HOUR_MS, edge.value) if counts and kinds[meter] == "counter" else None
        _freeze(db, meter, Frozen(edge.hour, edge.value, edge.quality, tail, track), now_ms)
    return restarted


def _freeze(db: Connection, meter: int, frozen: Frozen, now_ms: int) -> None:
    first = db.execute(
        "SELECT hour, boundary - consumption FROM hour WHERE meter = ? ORDER BY hour LIMIT 1", (meter,)
    ).fetchone()
    freeze(db, meter, (), frozen, now_ms)
    # One that is written just now begins at the newest edge; the hours before it count, too.
    begin = "UPDATE counter_state SET opening_hour = ?1, opening = ?2 WHERE meter = ?3 AND opening_hour > ?1"
    db.execute(begin, (*first, meter))


def _went_on(db: Connection, meter: int, edge: Edge, raw: int | None, offset: int | None) -> Track | None:
    """The register at an edge that lies before the frozen one, where it is the same register with the same offset."""
    if raw is None or offset is None or not 0 <= edge.value - offset <= raw:
        return None
    changed = "SELECT 1 FROM epoch WHERE meter = ? AND at > ? LIMIT 1"
    if db.execute(changed, (meter, edge.hour * HOUR_MS)).fetchone():
        return None
    return Track(edge.value - offset, edge.hour * HOUR_MS, offset)


def _stood(db: Connection, meter: int, edge: Edge) -> Track | None:
    """The register at the newest edge, from the readings around it, where they give the hour before the same offset."""
    before = db.execute("SELECT boundary - consumption FROM hour WHERE meter = ? AND hour = ?", (meter, edge.hour - 1))
    row = before.fetchone()
    offsets = [
        _offset(db, meter, hour * HOUR_MS, value)
        for hour, value in ((edge.hour, edge.value), (edge.hour - 1, row and row[0]))
    ]
    if offsets[0] is None or offsets[0] != offsets[1]:
        return None
    return Track(edge.value - offsets[0], edge.hour * HOUR_MS, offsets[0])


def _offset(db: Connection, meter: int, at: int, boundary: int | None) -> int | None:
    find = "SELECT at, value FROM reading WHERE meter = ? AND at {} ORDER BY at {} LIMIT 1"
    left = db.execute(find.format("BETWEEN ? AND ?", "DESC"), (meter, at - HOUR_MS, at)).fetchone()
    right = db.execute(find.format("BETWEEN ? AND ?", "ASC"), (meter, at, at + HOUR_MS)).fetchone()
    if boundary is None or left is None or right is None or left[1] > right[1]:
        return None
    if left[0] == right[0]:
        return int(boundary - left[1])
    span = right[0] - left[0]
    return int(boundary - left[1] - round_half_up((right[1] - left[1]) * (at - left[0]), span))
