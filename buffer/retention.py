"""What may be forgotten: readings by age, and messages whose fate is known; hours, ledger and what is unsent never are.

However old, a reading stays while an hour that is still open may need it, and the newest hour with readings of each meter
stays whole: what a meter showed last is shown for as long as it is silent. Each step is small, so that no reading that
comes in waits for it.

Where the room runs out, age does not count: the oldest goes first, down to what open hours need (`needed_under_pressure`).

Every function works inside the caller's transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from buffer.model import HOUR_MS
from buffer.readings import newest_hours

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buffer.store import Connection

READINGS_AT_ONCE = 5_000  # some milliseconds of the writer's time
MESSAGES_AT_ONCE = 500
SHORTEST_DAYS = 8  # readings tell a repeated late period for a week (`late`)
MARGIN = 48  # h before a meter's open hour at which its closing may look: neighbours, and periods that began before

DAY_MS = 24 * HOUR_MS
SIZES_KEPT = 90  # days


class Size(NamedTuple):
    """What the file held at the end of a day, and what had been written on it; days since the epoch, bytes."""

    day: int
    used: int
    written: int


def needed_from(db: Connection) -> dict[int, int]:
    """The first hour of each meter whose readings must stay, by meter. It only ever moves on."""
    edge = "SELECT coalesce((SELECT max(hour) + 1 FROM hour WHERE hour.meter = ?1), opening_hour) FROM counter_state WHERE meter = ?1"
    needed = {}
    for meter, hour in newest_hours(db).items():
        open_hour = db.execute(edge, (meter,)).fetchone()
        needed[meter] = -(2**62) if open_hour is None else min(hour, open_hour[0] - MARGIN)
    return needed


def needed_under_pressure(db: Connection) -> dict[int, int]:
    """`needed_from` for when the room runs out.

    Of other kinds than counters readings tell a repeated late period, which would be booked twice: they keep their week.
    """
    newest = db.execute("SELECT max(hour) FROM reading_hour").fetchone()[0] or 0
    counters = {meter for (meter,) in db.execute("SELECT id FROM meter WHERE kind = 'counter'")}
    week = newest - SHORTEST_DAYS * 24
    return {meter: hour if meter in counters else min(hour, week) for meter, hour in needed_from(db).items()}


def forget_oldest(db: Connection) -> int:
    """Delete some of the oldest readings however young, else some settled messages, for room; how many, 0 when none may go.

    What is needed is looked up anew each time: a meter may just have begun, with readings as old as these. Messages keep
    the days that nobody can configure away.
    """
    needed = needed_under_pressure(db)
    forgotten = forget_readings(db, max(needed.values(), default=0), needed)
    if forgotten:
        return forgotten
    newest = db.execute("SELECT max(fate_at) FROM message").fetchone()[0]
    return 0 if newest is None else forget_messages(db, newest - SHORTEST_DAYS * DAY_MS)


def forget_readings(db: Connection, before: int, needed: Mapping[int, int]) -> int:
    """Delete some readings of the oldest hour before the hour `before` that has any to go; how many, 0 when none has.

    `needed` as `needed_from` told, lately.
    """
    late = {meter: hour for meter, hour in needed.items() if hour < before}
    kept = "".join(f" WHEN {meter:d} THEN {hour:d}" for meter, hour in late.items())
    limit = f"CASE meter{kept} ELSE {before:d} END" if kept else f"{before:d}"
    spent = f"hour < {before:d} AND hour < {limit}"
    oldest = db.execute(f"SELECT hour FROM reading_hour WHERE {spent} ORDER BY hour LIMIT 1").fetchone()  # noqa: S608 - integers
    if oldest is None:
        return 0
    hour = oldest[0]
    meters = f"SELECT meter FROM reading_hour WHERE hour = {hour:d} AND {spent}"  # noqa: S608 - integers
    begin, end = hour * HOUR_MS, (hour + 1) * HOUR_MS
    which = f"at >= ? AND at < ? AND meter IN ({meters})"
    rest = f"SELECT at FROM reading WHERE {which} ORDER BY at LIMIT 1 OFFSET ?"  # noqa: S608 - integers
    last = db.execute(rest, (begin, end, READINGS_AT_ONCE - 1)).fetchone()
    until = last[0] + 1 if last else end  # all of one instant together: a step always gets on
    deleted = db.execute(f"DELETE FROM reading WHERE {which}", (begin, until)).rowcount  # noqa: S608 - integers
    if last is None:
        db.execute(f"DELETE FROM reading_hour WHERE hour = {hour:d} AND {spent}")  # noqa: S608 - integers
    return max(deleted, 1)


def forget_messages(db: Connection, before_ms: int) -> int:
    """Delete some of the oldest messages that were settled before an instant (ms); how many.

    Those with an hour that waits for a person stay: what was sent is what that person has to know.
    """
    find = (
        "SELECT id FROM (SELECT id, fate_at, state FROM message ORDER BY id LIMIT ?) AS oldest"
        " WHERE fate_at < ? AND state NOT IN ('open', 'unknown') AND NOT EXISTS (SELECT 1 FROM message_hour"
        " JOIN hour ON hour.meter = message_hour.meter AND hour.hour = message_hour.hour"
        " WHERE message_hour.message = oldest.id AND hour.state = 'held')"
    )
    gone = db.execute(find, (MESSAGES_AT_ONCE, before_ms)).fetchall()
    for table, key in (("message_adjustment", "message"), ("message_hour", "message"), ("message", "id")):
        db.executemany(f"DELETE FROM {table} WHERE {key} = ?", gone)  # noqa: S608 - constant names
    return len(gone)


def used_bytes(db: Connection) -> int:
    """What the file holds, without the pages that are free for what comes next."""
    pages, free, size = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def weigh(db: Connection, now_ms: int, written: int) -> None:
    """Note what the file holds today, and so many bytes more that were written today."""
    db.execute(
        "INSERT INTO size VALUES (?, ?, ?) ON CONFLICT (day) DO UPDATE SET used = excluded.used, written = written + excluded.written",
        (now_ms // DAY_MS, used_bytes(db), written),
    )
    db.execute("DELETE FROM size WHERE day <= (SELECT max(day) FROM size) - ?", (SIZES_KEPT,))


def sizes(db: Connection) -> list[Size]:
    """Each day's size, oldest first."""
    return [Size(*row) for row in db.execute("SELECT day, used, written FROM size ORDER BY day")]


def days_left(history: list[Size], most: int) -> int | None:
    """In how many days the file has reached `most` bytes at the pace of its last days; None when it does not grow.

    The pace is that of the newer half of the history: a new gateway's first weeks, in which nothing is old enough to be
    forgotten, say nothing of the years after them.
    """
    newer = history[len(history) // 2 :] if len(history) > 2 else history
    if len(newer) < 2:
        return None
    grown, days = newer[-1].used - newer[0].used, newer[-1].day - newer[0].day
    return max(0, (most - newer[-1].used) * days // grown) if grown > 0 else None
