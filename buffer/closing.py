"""What is frozen, read and written: the tables `hour` and `counter_state` (R8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buffer.hours import ClosedHour, Frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buffer.store import Connection


def frozen_of(db: Connection, meter: int) -> Frozen | None:
    """A meter's newest frozen boundary; None before its opening."""
    find = "SELECT opening_hour, opening, quality, tail_at, tail_value, changed_at FROM counter_state WHERE meter = ?"
    state = db.execute(find, (meter,)).fetchone()
    if state is None:
        return None
    edge, boundary, quality, tail_at, tail_value, changed_at = state
    last = db.execute("SELECT hour, boundary FROM hour WHERE meter = ? ORDER BY hour DESC LIMIT 1", (meter,)).fetchone()
    if last:
        edge, boundary = last[0] + 1, last[1]
    return Frozen(edge, boundary, quality, None if tail_at is None else (tail_at, tail_value), changed_at)


def freeze(db: Connection, meter: int, hours: Sequence[ClosedHour], frozen: Frozen, now_ms: int) -> None:
    """Write closed hours and the new frozen state; opens the meter when it has none.

    sqlite3.IntegrityError when one of the hours is closed already (R8).
    """
    tail_at, tail_value = frozen.tail or (None, None)
    opening = (frozen.edge, frozen.boundary) if not hours else (hours[0].hour, hours[0].boundary - hours[0].consumption)
    db.execute(
        "INSERT INTO counter_state VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (meter) DO UPDATE SET"
        " quality = excluded.quality, tail_at = excluded.tail_at, tail_value = excluded.tail_value,"
        " changed_at = excluded.changed_at",
        (meter, *opening, frozen.quality, tail_at, tail_value, frozen.changed),
    )
    db.executemany(
        "INSERT INTO hour (meter, hour, consumption, boundary, quality, closed_at, state) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (meter, row.hour, row.consumption, row.boundary, row.quality, now_ms, _state(row))
            for row in hours
        ],
    )  # fmt: skip


def _state(row: ClosedHour) -> str:
    return "missing" if row.quality == "missing" else "pending"  # missing is never sent, not even as 0 (DESIGN 5)
