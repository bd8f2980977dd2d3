"""Readings on their way in: stored once, never altered; what is none is kept with its reason, bounded (R1, R2)."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from buffer.model import HOUR_MS, from_micro, hour_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from buffer.frozen import Sample
    from buffer.store import Connection

REJECTED_KEPT = 10_000  # rows of `rejected`; the counts per reason go on for ever
ASKED_FIRST = 20  # readings in one batch, from which on it is asked first which of their hours and meters are known
AT_ONCE = 20  # readings in one statement, which costs half of a statement for each of them
PAYLOAD_KEPT = 500  # characters
EVENTS_KEPT = 20_000
ALIKE_MS = 6 * HOUR_MS  # meters this near to each other share one scan
A_DAY = 24  # hours
# Each hour that has readings, from the newest in [since, until) backwards: each is found from the one after it. Then each
# meter in each hour. An IN list, because a join with a table of meters would be scanned for each hour.
NEWEST_HOURS = """
WITH RECURSIVE past(hour) AS (
    SELECT max(hour) FROM reading_hour WHERE hour < :until
    UNION ALL SELECT (SELECT max(hour) FROM reading_hour WHERE hour < past.hour) FROM past WHERE past.hour >= :since
)
SELECT entered.meter, max(entered.hour) FROM past CROSS JOIN reading_hour AS entered
    WHERE past.hour >= :since AND entered.hour = past.hour AND entered.meter IN ({}) GROUP BY entered.meter
"""
INSERT_ONE = "INSERT INTO reading VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
INSERT_MANY = INSERT_ONE.replace("(?, ?, ?, ?)", ", ".join(["(?, ?, ?, ?)"] * AT_ONCE))


class MeterRow(NamedTuple):
    """What the table `meter` says of one meter of the configuration."""

    name: str
    enerkey_id: int | None
    unit: str
    kind: str
    push: str
    source: str  # where the values come from, for people
    register: str = ""  # what makes the source this register and no other
    account: str = ""  # of EnerKey; "" is the default one


class StoredReading(NamedTuple):
    """One row of `reading`: ms, meter's number, micro, ms."""

    at: int
    meter: int
    value: int
    received: int


Row = tuple[int, int, int, int]
"""A StoredReading, or as much without its names: where thousands are stored at once."""


class UnplacedReading(NamedTuple):
    """A reading under an untrusted clock, until `placing` has found its time (R5).

    `received`: what that clock called it, or for a source with its own time, when it came.
    """

    boot_id: str
    boottime: int
    meter: int
    value: int
    source_at: int | None
    received: int


class Rejection(NamedTuple):
    """One row of `rejected`."""

    at: int
    connection: str
    source: str | None
    reason: str
    detail: str
    payload: str


def register_meters(db: Connection, meters: Sequence[MeterRow]) -> dict[str, int]:
    """Enter the configured meters and return their numbers by name; meters that left keep all they have (R31).

    What another account shows of a meter nobody has seen: a meter that changed to it is looked at before it sends.
    """
    db.execute("UPDATE meter SET configured = 0")
    db.executemany(
        "INSERT INTO meter (name, enerkey_id, unit, kind, push, source, register, account, configured)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1)"
        " ON CONFLICT (name) DO UPDATE SET enerkey_id = excluded.enerkey_id, unit = excluded.unit,"
        " kind = excluded.kind, push = excluded.push, source = excluded.source, register = excluded.register,"
        " look_after = CASE WHEN account = excluded.account THEN look_after ELSE coalesce(look_after, 0) END,"
        " account = excluded.account, configured = 1",
        meters,
    )
    return dict(db.execute("SELECT name, id FROM meter WHERE configured"))


def add(db: Connection, readings: Sequence[Row]) -> list[tuple[StoredReading, int]]:
    """Store readings; returns those whose instant already holds another value, with that value: the first one stays.

    The same (meter, instant, value) again is a duplicate and changes nothing (R4).
    """
    _enter_hours(db, readings)
    before = db.total_changes
    whole = len(readings) - len(readings) % AT_ONCE
    parts = [tuple(chain.from_iterable(readings[n : n + AT_ONCE])) for n in range(0, whole, AT_ONCE)]
    db.executemany(INSERT_MANY, parts)
    db.executemany(INSERT_ONE, [tuple(row) for row in readings[whole:]])  # plain ones are bound faster
    if db.total_changes - before == len(readings):
        return []
    find = "SELECT value FROM reading WHERE at = ? AND meter = ?"
    told = map(StoredReading._make, readings)
    stored = ((reading, db.execute(find, (reading.at, reading.meter)).fetchone()[0]) for reading in told)
    return [(reading, value) for reading, value in stored if value != reading.value]


def _enter_hours(db: Connection, readings: Sequence[Row]) -> None:
    """Enter in `reading_hour` what these readings are the first of, at the least cost for a poll of many meters."""
    if len(readings) >= ASKED_FIRST and _all_entered(db, readings):
        return
    keys = {(at // HOUR_MS, meter) for at, meter, _, _ in readings}
    if len(keys) >= ASKED_FIRST:  # to ask what is there is cheaper than to be told of each one
        for hour in {hour for hour, _ in keys}:
            keys.difference_update(db.execute("SELECT hour, meter FROM reading_hour WHERE hour = ?", (hour,)))
    db.executemany("INSERT INTO reading_hour VALUES (?, ?) ON CONFLICT DO NOTHING", sorted(keys))


def _all_entered(db: Connection, readings: Sequence[Row]) -> bool:
    """Whether they are of one hour in which every number from their least to their greatest meter has readings.

    So it is with the second and each later poll of an hour, unless a number between them is no meter of the poll.
    """
    instants, meters, _, _ = zip(*readings, strict=True)
    hour, first, last = hour_of(min(instants)), min(meters), max(meters)
    if hour != hour_of(max(instants)):
        return False
    find = "SELECT count(*) FROM reading_hour WHERE hour = ? AND meter BETWEEN ? AND ?"
    return bool(db.execute(find, (hour, first, last)).fetchone()[0] == last - first + 1)


def differing(row: StoredReading, first: int, connection: str, source: str | None) -> Rejection:
    """What is recorded of a reading whose instant already held another value."""
    detail = f"{from_micro(first)} came first and stays"
    reason = "another value for the same instant"
    return Rejection(row.received, connection, source, reason, detail, str(from_micro(row.value)))


def add_unplaced(db: Connection, readings: Sequence[UnplacedReading]) -> None:
    """Keep readings whose time is not trusted yet."""
    insert = "INSERT INTO unplaced (boot_id, boottime, meter, value, source_at, received) VALUES (?, ?, ?, ?, ?, ?)"
    db.executemany(insert, readings)


def reject(db: Connection, rejections: Sequence[Rejection]) -> None:
    """Count every rejection for ever and keep the newest ones whole."""
    if not rejections:
        return
    rows = [row._replace(detail=row.detail[:PAYLOAD_KEPT], payload=row.payload[:PAYLOAD_KEPT]) for row in rejections]
    db.executemany(
        "INSERT INTO rejected (at, connection, source, reason, detail, payload) VALUES (?, ?, ?, ?, ?, ?)", rows
    )
    db.executemany(
        "INSERT INTO rejected_count VALUES (?, ?, ?, 1, ?)"
        " ON CONFLICT DO UPDATE SET count = count + 1, last_at = excluded.last_at",
        [(row.connection, row.source or "", row.reason, row.at) for row in rows],
    )
    db.execute("DELETE FROM rejected WHERE id <= (SELECT max(id) FROM rejected) - ?", (REJECTED_KEPT,))


def unsuspect(db: Connection, source: str, instants: Collection[int], reasons: Sequence[str]) -> None:
    """What became of readings that were suspect for one of these reasons is known now: they are that no more."""
    if not instants:
        return
    find = f"SELECT id, at FROM rejected WHERE source = ? AND reason IN ({', '.join('?' * len(reasons))})"  # noqa: S608 - placeholders
    decided = set(instants)
    rows = [(number,) for number, at in db.execute(find, (source, *reasons)).fetchall() if at in decided]
    db.executemany("DELETE FROM rejected WHERE id = ?", rows)


def note(db: Connection, at: int, level: str, subject: str, text: str) -> None:
    """Record an event; the journal of a Raspberry Pi forgets at reboot, this table does not."""
    db.execute("INSERT INTO event (at, level, subject, text) VALUES (?, ?, ?, ?)", (at, level, subject, text))
    db.execute("DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - ?", (EVENTS_KEPT,))


def note_once(db: Connection, at: int, level: str, subject: str, text: str) -> bool:
    """Record an event unless the same words stand there already, also from before a restart; whether it was news."""
    find = "SELECT 1 FROM event WHERE subject = ? AND text = ? LIMIT 1"
    if db.execute(find, (subject, text)).fetchone() is not None:
        return False
    note(db, at, level, subject, text)
    return True


def samples_of(db: Connection, since: Mapping[int, int]) -> dict[int, list[Sample]]:
    """Every meter's samples later than its instant in `since` (ms), sorted.

    The table is ordered by time, so meters that wait for about the same hour share one scan, and only the hours in
    which one of them has readings are scanned: one that was dead for a month does not cost everybody's month.
    """
    found: dict[int, list[Sample]] = {meter: [] for meter in since}
    for group in _alike(since):
        meters = _listed(group)
        find = f"SELECT meter, at, value FROM reading WHERE at >= ? AND at < ? AND meter IN ({meters}) ORDER BY at"  # noqa: S608 - integers
        for hour in _hours_with_readings(db, meters, hour_of(since[group[0]])):
            for meter, at, value in db.execute(find, (hour * HOUR_MS, (hour + 1) * HOUR_MS)):
                if at > since[meter]:
                    found[meter].append((at, value))
    return found


def newest_samples(db: Connection, meters: Iterable[int] | None = None) -> dict[int, Sample]:
    """The newest reading of each of these meters, or of all, that has one, however long ago."""
    find = "SELECT at, value FROM reading WHERE at >= ? AND at < ? AND meter = ? ORDER BY at DESC LIMIT 1"
    newest = newest_hours(db, meters).items()
    rows = ((meter, db.execute(find, (hour * HOUR_MS, (hour + 1) * HOUR_MS, meter))) for meter, hour in newest)
    return {meter: found for meter, cursor in rows for found in cursor}


def newest_per_meter(db: Connection, meters: Collection[int]) -> dict[int, int]:
    """The newest reading's instant (ms) of each of these meters that has one."""
    return {meter: at for meter, (at, _) in newest_samples(db, meters).items()}


def newest_hours(db: Connection, meters: Iterable[int] | None = None) -> dict[int, int]:
    """The newest hour with readings of each of these meters, or of all, that has one.

    `reading_hour` begins with the hour, so years of other meters lie before a meter's own rows. Hence backwards, in
    steps that grow: most meters are found in the newest day, and who is left is looked up in each hour, not searched.
    """
    oldest, newest = (db.execute(f"SELECT {end}(hour) FROM reading_hour").fetchone()[0] for end in ("min", "max"))  # noqa: S608 - two words
    found: dict[int, int] = {}
    left = {meter for (meter,) in db.execute("SELECT id FROM meter")} if meters is None else set(meters)
    until, step = (newest or 0) + 1, A_DAY
    while left and oldest is not None and until > oldest:
        since = until - step
        hours = dict(db.execute(NEWEST_HOURS.format(_listed(left)), {"since": since, "until": until}).fetchall())
        found |= hours
        left -= hours.keys()
        until, step = since, 2 * step
    return found


def _hours_with_readings(db: Connection, meters: str, first: int) -> list[int]:
    find = f"SELECT DISTINCT hour FROM reading_hour WHERE hour >= ? AND meter IN ({meters}) ORDER BY hour"  # noqa: S608 - integers
    return [hour for (hour,) in db.execute(find, (first,))]


def _listed(meters: Iterable[int]) -> str:
    return ", ".join(f"{meter:d}" for meter in meters)


def _alike(since: Mapping[int, int]) -> list[list[int]]:
    """The meters grouped by where their scans begin, in rising order."""
    groups: list[list[int]] = []
    for meter in sorted(since, key=lambda meter: since[meter]):
        if groups and since[meter] - since[groups[-1][0]] <= ALIKE_MS:
            groups[-1].append(meter)
        else:
            groups.append([meter])
    return groups
