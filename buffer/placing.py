"""Readings that waited for a trusted clock: placed in time, or settled where nobody can know their time (R1, R5).

Boottime is the axis: what is placed gets its boot's offset added, and keeps beside it what the untrusted clock had said.
A boot whose clock was never set has no offset. It lies between the last reading before it and the next boot. A counter's
next reading carries its energy, so its readings are dropped; of other kinds every reading is energy: it goes into the
hour that holds the whole boot, or is parked until a person decides.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from buffer.closing import park
from buffer.hours import Rule
from buffer.late import Late, add_and_book
from buffer.model import HOUR_MS, MINUTE_MS, from_ms, hour_of, round_half_up
from buffer.readings import StoredReading, UnplacedReading

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from buffer.frozen import Sample
    from buffer.store import Connection

AT_ONCE = 20_000  # readings in one transaction: drivers wait for its end, and a watchdog waits for them
EARLIEST_STAMP_MS = 1_420_070_400_000  # 2015, DESIGN 5: an older stamp comes from a clock that was never set
AHEAD_MS = 5 * MINUTE_MS  # DESIGN 5: how far a source's clock may run ahead of ours
OFFSET_OF = "boot_offset:"  # in `meta`, with the boot's id: its wall clock minus boottime in ms, as it was trusted

OFFSETS = "key >= 'boot_offset:' AND key < 'boot_offset;'"


class Boot(NamedTuple):
    """The boot that this process lives in, while its clock is trusted. `offset` is wall minus boottime, in ms.

    `began_known`: its id is the kernel's, so whatever another boot left was there when this one began.
    """

    id: str
    offset: int
    now_ms: int
    began_known: bool


class Refused(NamedTuple):
    """A reading whose source gave a time that cannot be."""

    meter: int
    value: int
    reason: str
    detail: str


class Stranded(NamedTuple):
    """What a boot whose clock was never set left of one meter, and what became of it.

    `after` and `before` (ms) are what is known of its time; `amount` is its energy, None for counters. `hour` is where
    it was booked or, when `parked`, where it may belong.
    """

    meter: int
    name: str
    unit: str
    readings: int
    amount: int | None
    after: int | None
    before: int
    hour: int
    parked: bool


class Placed(NamedTuple):
    """What one call of `place` did; `more`: there is more to place before hours may be closed.

    `moved`: what the untrusted clock had called the first of them, and what it is (ms).
    """

    stored: list[StoredReading]
    moved: tuple[int, int] | None
    conflicts: list[tuple[StoredReading, int]]
    late: list[Late]
    refused: list[Refused]
    stranded: list[Stranded]
    more: bool


def unbelievable(at: int, now_ms: int) -> tuple[str, str] | None:
    """Why a source's own time is not believed, in short and in detail; None when it is (DESIGN 5)."""
    if at < EARLIEST_STAMP_MS:
        return "time before 2015", f"{_shown(at)}: the source's clock was not set"
    if at > now_ms + AHEAD_MS:
        return "time in the future", f"{_shown(at)} is {(at - now_ms) // 1000} s ahead of this gateway's clock"
    return None


def newest_edge(db: Connection) -> int | None:
    """The end of the newest closed hour of any meter: no right clock is before it."""
    find = "SELECT max((SELECT max(hour) FROM hour WHERE hour.meter = meter.id)) FROM meter"
    newest = db.execute(find).fetchone()[0]
    return None if newest is None else newest + 1


def place(db: Connection, boot: Boot, rules: Mapping[int, Rule]) -> Placed:
    """Place what waits, or a part of it, in the caller's transaction. Remembers the boot's offset for those after it."""
    remember = "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
    db.execute(remember, (OFFSET_OF + boot.id, str(boot.offset)))
    offsets = _offsets(db)
    settled = _settle_stranded(db, boot, rules)
    find = "SELECT id, boot_id, boottime, meter, value, source_at, received FROM unplaced ORDER BY id LIMIT ?"
    rows = db.execute(find, (AT_ONCE,)).fetchall()
    stored: list[StoredReading] = []
    refused: list[Refused] = []
    for _, *columns in rows:
        row = UnplacedReading(*columns)
        at = row.boottime + offsets[row.boot_id] if row.source_at is None else row.source_at
        why = None if row.source_at is None else unbelievable(at, boot.now_ms)
        if why:
            refused.append(Refused(row.meter, row.value, *why))
        else:
            stored.append(StoredReading(at, row.meter, row.value, row.received))
    conflicts, late = add_and_book(db, stored, rules, boot.now_ms)
    if rows:
        db.execute("DELETE FROM unplaced WHERE id <= ?", (rows[-1][0],))
    moved = next(((row[6], row[2] + offsets[row[1]]) for row in rows if row[5] is None), None)
    more = len(rows) == AT_ONCE
    if not more:
        db.execute(f"DELETE FROM meta WHERE {OFFSETS} AND key <> ?", (OFFSET_OF + boot.id,))  # noqa: S608 - constant
    conflicts, late = [*settled.conflicts, *conflicts], [*settled.late, *late]
    return Placed(stored, moved, conflicts, late, refused, settled.stranded, more)


def _offsets(db: Connection) -> dict[str, int]:
    rows = db.execute(f"SELECT key, value FROM meta WHERE {OFFSETS}")  # noqa: S608 - constant
    return {key.removeprefix(OFFSET_OF): int(value) for key, value in rows}


# --- boots whose clock was never set ----------------------------------------------------------------------------------


class _Group(NamedTuple):
    boot_id: str
    meter: int
    readings: int
    first: int
    last: int


class _Settled(NamedTuple):
    stranded: list[Stranded]
    conflicts: list[tuple[StoredReading, int]]
    late: list[Late]


def _settle_stranded(db: Connection, boot: Boot, rules: Mapping[int, Rule]) -> _Settled:
    """Take out what no offset will ever place: unstamped readings of boots that are over, the oldest boot first."""
    waiting = "unplaced WHERE source_at IS NULL AND ? || boot_id NOT IN (SELECT key FROM meta)"
    find = f"SELECT boot_id, meter, count(*), min(boottime), max(boottime) FROM {waiting} GROUP BY boot_id, meter ORDER BY min(id)"  # noqa: S608 - constant texts
    settled = _Settled([], [], [])
    for row in db.execute(find, (OFFSET_OF,)).fetchall():
        stranded, found = _settle(db, _Group(*row), boot, rules)
        conflicts, late = add_and_book(db, found, rules, boot.now_ms)  # at once: the next boot comes after them
        settled.stranded.append(stranded)
        settled.conflicts.extend(conflicts)
        settled.late.extend(late)
    db.execute(f"DELETE FROM {waiting}", (OFFSET_OF,))  # noqa: S608 - constant texts
    return settled


def _settle(
    db: Connection, group: _Group, boot: Boot, rules: Mapping[int, Rule]
) -> tuple[Stranded, Sequence[StoredReading]]:
    """Decide what becomes of a meter's readings of one boot: what it was, and those that have a time after all."""
    name, unit, kind = db.execute("SELECT name, unit, kind FROM meter WHERE id = ?", (group.meter,)).fetchone()
    rule = rules.get(group.meter) or Rule(kind, MINUTE_MS)
    before = boot.offset if boot.began_known else boot.now_ms
    after = _newest_until(db, group.meter, before)
    hour = hour_of(before if after is None else after)
    amount, parked = None, False
    moved: Sequence[StoredReading] = ()
    if rule.kind != "counter":
        amount = _energy(_samples(db, group), rule)
        origin = None if after is None else _origin(group, after, before, rule)
        if origin is not None:
            moved = _moved(db, group, origin)
        elif amount:
            parked = True
            park(db, group.meter, [(hour, amount, "clock")], boot.now_ms)
    return Stranded(group.meter, name, unit, group.readings, amount, after, before, hour, parked), moved


def _newest_until(db: Connection, meter: int, limit: int) -> int | None:
    find = "SELECT max(at) FROM reading WHERE at >= ? AND at < ? AND meter = ?"
    hours = "SELECT hour FROM reading_hour WHERE meter = ? AND hour <= ? ORDER BY hour DESC"
    for (hour,) in db.execute(hours, (meter, hour_of(limit))):
        newest: int | None = db.execute(find, (hour * HOUR_MS, min((hour + 1) * HOUR_MS, limit), meter)).fetchone()[0]
        if newest is not None:
            return newest
    return None


def _origin(group: _Group, after: int, before: int, rule: Rule) -> int | None:
    """A wall time of this boot's boottime 0 that leaves all of it within one hour; None when the hour is not known.

    The earliest one: another boot may lie between it and the next.
    """
    if hour_of(after) != hour_of(before - 1):
        return None
    origin = after + 1
    end = group.last
    if rule.kind == "interval":  # whole periods behind the one that is known, in front of what comes
        origin = max(origin, after + rule.period_ms - group.first)
        end += rule.period_ms if rule.stamp == "start" else 0
    return origin if origin + end <= before else None


def _moved(db: Connection, group: _Group, origin: int) -> list[StoredReading]:
    find = "SELECT boottime, value, received FROM unplaced WHERE source_at IS NULL AND boot_id = ? AND meter = ?"
    rows = db.execute(find, (group.boot_id, group.meter))
    return [StoredReading(origin + boottime, group.meter, value, received) for boottime, value, received in rows]


def _samples(db: Connection, group: _Group) -> Iterable[Sample]:
    find = (
        "SELECT boottime, value, min(id) FROM unplaced WHERE source_at IS NULL AND boot_id = ? AND meter = ?"
        " GROUP BY boottime ORDER BY boottime"  # the first one of an instant, as in `add`
    )
    return ((boottime, value) for boottime, value, _ in db.execute(find, (group.boot_id, group.meter)))


def _energy(samples: Iterable[Sample], rule: Rule) -> int:
    """The energy in samples whose time is only known among themselves, in micro, rounded once."""
    if rule.kind == "interval":
        return sum(value for _, value in samples)
    longest, doubled = rule.hold_ms or rule.max_gap_ms, 0
    for (start, left), (end, right) in pairwise(samples):
        if end - start <= longest:
            doubled += (2 * left if rule.hold_ms else left + right) * (end - start)
    return round_half_up(doubled, 2 * HOUR_MS)


def _shown(ms: int) -> str:
    return f"{from_ms(ms):%Y-%m-%d %H:%M:%S}Z" if abs(ms) < 2**47 else f"{ms} ms"
