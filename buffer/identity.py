"""Which machine a database belongs to: a copy on another one collects, and sends nothing until a person adopts it (R20).

`meta` holds `machine`, the hash of the machine's id to which the database is bound, and `stranger` while it is opened on a
machine to which it is not. Every function works inside the caller's transaction.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

from buffer.readings import note

if TYPE_CHECKING:
    from buffer.store import Connection

Stranger = Literal["other", "none"]


def opened(db: Connection, machine_id: str) -> Stranger | None:
    """Hold the database against this machine; None when it belongs here. A database that belongs nowhere yet now does.

    "other": it belongs to another machine. "none": this machine has no id (""), so nobody can tell it from another one, and
    nobody has adopted the database here.
    """
    bound = _meta(db, "machine")
    if bound is None and machine_id:
        _put(db, "machine", _hash(machine_id))
    stranger: Stranger | None = None
    if bound is None and not machine_id:
        stranger = "none"
    elif bound is not None and bound != _hash(machine_id):
        stranger = "other" if machine_id else "none"
    if stranger:
        _put(db, "stranger", stranger)
    else:
        db.execute("DELETE FROM meta WHERE key = 'stranger'")
    return stranger


def stranger(db: Connection) -> str | None:
    """Why nothing is sent from this machine, as `opened` has found it; None when the database belongs here."""
    return _meta(db, "stranger")


def adopt(db: Connection, machine_id: str, author: str, readable_at: int, now_ms: int) -> bool:
    """Bind the database to this machine; False when it belongs here already, and nothing was changed.

    What the other machine sent since the copy was made is at EnerKey, and shown from `readable_at` on.
    """
    if opened(db, machine_id) is None:
        return False
    _put(db, "machine", _hash(machine_id))
    db.execute("DELETE FROM meta WHERE key = 'stranger'")
    restored(db, readable_at)
    note(db, now_ms, "info", "database", f"adopted by this machine ({author})")
    return True


def restored(db: Connection, readable_at: int) -> None:
    """The database is of another time or place than its machine believes: every meter is read before it sends (R19).

    EnerKey shows what was sent last from `readable_at` (ms) on.
    """
    db.execute("UPDATE meter SET look_after = max(coalesce(look_after, 0), ?)", (readable_at,))


def _hash(machine_id: str) -> str:
    """The id itself is nobody's business: machine-id(5) asks not to expose it."""
    return hashlib.sha256(f"meter-gateway/{machine_id}".encode()).hexdigest()


def _meta(db: Connection, key: str) -> str | None:
    row: tuple[str] | None = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return row[0] if row else None


def _put(db: Connection, key: str, value: str) -> None:
    db.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, value))
