"""What is frozen, read and written: the tables `hour`, `counter_state` and `parked` (R8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buffer import doubts
from buffer.counter import Epoch
from buffer.frozen import Former, Frozen, Track
from buffer.hours import ClosedHour

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buffer.store import Connection

_TRACK = ("raw", "changed", "offset", "awaits", "former_raw", "former_changed", "former_offset", "former_level")


def frozen_of(db: Connection, meter: int) -> Frozen | None:
    """A meter's newest frozen boundary; None before its opening."""
    find = f"SELECT opening_hour, opening, quality, tail_at, tail_total, {', '.join(_TRACK)} FROM counter_state WHERE meter = ?"  # noqa: S608 - constant names
    state = db.execute(find, (meter,)).fetchone()
    if state is None:
        return None
    edge, boundary, quality, tail_at, tail_total, *track = state
    last = db.execute("SELECT hour, boundary FROM hour WHERE meter = ? ORDER BY hour DESC LIMIT 1", (meter,)).fetchone()
    if last:
        edge, boundary = last[0] + 1, last[1]
    tail = None if tail_at is None else (tail_at, tail_total)
    return Frozen(edge, boundary, quality, tail, _track_of(*track))


def freeze(db: Connection, meter: int, hours: Sequence[ClosedHour], frozen: Frozen, now_ms: int) -> None:
    """Write closed hours and the new frozen state; opens the meter when it has none.

    sqlite3.IntegrityError when one of the hours is closed already (R8). An hour that EnerKey has accepted already was
    closed before, in a file that was damaged since: it is accepted, not sent again.
    """
    opening = (frozen.edge, frozen.boundary) if not hours else (hours[0].hour, hours[0].boundary - hours[0].consumption)
    row = (meter, *opening, frozen.quality, *(frozen.tail or (None, None)), *_columns(frozen.track))
    moving = ("quality", "tail_at", "tail_total", *_TRACK)
    ours = _taken_over(db, meter)
    db.execute(
        f"INSERT INTO counter_state (meter, opening_hour, opening, {', '.join(moving)}) VALUES ({', '.join('?' * len(row))})"  # noqa: S608 - constant names
        f" ON CONFLICT (meter) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in moving)}",
        row,
    )
    db.executemany(
        "INSERT INTO hour (meter, hour, consumption, boundary, quality, closed_at, state, covered_seconds)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, CASE WHEN EXISTS (SELECT 1 FROM ledger WHERE meter = ?1 AND hour = ?2)"
        " THEN 'accepted' ELSE ?7 END, ?8)",
        [
            (meter, row.hour, row.consumption, row.boundary, row.quality, now_ms, _state(row, ours), _seconds(row))
            for row in hours
        ],
    )  # fmt: skip
    park(db, meter, [(row.hour, row.parked, "gap") for row in hours if row.parked], now_ms)


def park(db: Connection, meter: int, amounts: Sequence[tuple[int, int, str]], now_ms: int) -> None:
    """Keep energy, as (hour, amount, reason), that is in no hour until a person books it."""
    rows = [(meter, hour, amount, reason, now_ms) for hour, amount, reason in amounts]
    db.executemany("INSERT INTO parked (meter, hour, amount, reason, at) VALUES (?, ?, ?, ?, ?)", rows)


def imbalance(db: Connection, meter: int, since: int | None = None) -> int | None:
    """By how much a meter's hours from `since` (default: its opening) do not add up to its boundaries: 0 when all is well (R7).

    None when an hour or the boundary before `since` is not there at all.
    """
    opening_hour, opening = db.execute(
        "SELECT opening_hour, opening FROM counter_state WHERE meter = ?", (meter,)
    ).fetchone()
    if since is None or since <= opening_hour:
        since, start = opening_hour, opening
    else:
        before = db.execute("SELECT boundary FROM hour WHERE meter = ? AND hour = ?", (meter, since - 1)).fetchone()
        start = before[0] if before else None
    count, total, last = db.execute(
        "SELECT count(*), coalesce(sum(consumption), 0), max(hour) FROM hour WHERE meter = ? AND hour >= ?",
        (meter, since),
    ).fetchone()
    if last is None:
        return 0
    end = db.execute("SELECT boundary FROM hour WHERE meter = ? AND hour = ?", (meter, last)).fetchone()[0]
    if start is None or count != last + 1 - since:
        return None
    return int(total - (end - start))


def hold(db: Connection, meter: int) -> None:
    """Nothing more of this meter is sent until a person has decided."""
    doubts.hold_pending(db, meter)


def inputs_after(db: Connection, meter: int) -> int | None:
    """The instant (ms) up to which a meter's readings are of another kind and no inputs; None where all are."""
    row: tuple[int | None] | None = db.execute("SELECT since FROM meter WHERE id = ?", (meter,)).fetchone()
    return row[0] if row else None


def told_until(db: Connection, meter: int) -> int:
    """Up to which instant (ms) the verdicts on a meter's readings have been told."""
    row = db.execute("SELECT told_until FROM counter_state WHERE meter = ?", (meter,)).fetchone()
    return int(row[0]) if row else 0


def tell_until(db: Connection, meter: int, at: int) -> None:
    """The verdicts up to this instant have been told; only a meter that has an opening remembers it."""
    db.execute("UPDATE counter_state SET told_until = ? WHERE meter = ?", (at, meter))


def epochs_of(db: Connection, meter: int) -> list[Epoch]:
    """What persons and the configuration said of a meter's register, by time; not what the judgement found by itself."""
    find = "SELECT at, old_final, new_initial, final FROM epoch WHERE meter = ? AND author <> 'gateway' ORDER BY at"
    return [Epoch(at, old, new, bool(final)) for at, old, new, final in db.execute(find, (meter,))]


def said_so_far(db: Connection) -> tuple[int, int]:
    """Changes with every word that persons or the configuration say of a register."""
    row: tuple[int, int] = db.execute("SELECT count(*), coalesce(max(recorded_at), 0) FROM epoch").fetchone()
    return row


def _track_of(
    raw: int | None, changed: int | None, offset: int | None, awaits: int | None, *former: int | None
) -> Track | None:
    if raw is None or changed is None or offset is None:
        return None
    left = [value for value in former if value is not None]
    return Track(raw, changed, offset, Former(*left) if left else None, bool(awaits))


def _columns(track: Track | None) -> tuple[int | None, ...]:
    if track is None:
        return (None,) * len(_TRACK)
    return (track.raw, track.changed, track.offset, track.awaits, *(track.former or (None,) * 4))


def _taken_over(db: Connection, meter: int) -> int:
    """From which hour on a meter's hours are this gateway's to send."""
    row = db.execute("SELECT taken_over FROM meter WHERE id = ?", (meter,)).fetchone()
    return row[0] if row and row[0] is not None else -(2**62)


def _state(row: ClosedHour, ours: int) -> str:
    if row.hour < ours:
        return "dropped"
    return "missing" if row.quality == "missing" else "pending"  # missing is never sent, not even as 0 (DESIGN 5)


def _seconds(row: ClosedHour) -> int | None:
    return None if row.covered_ms is None else row.covered_ms // 1000
