"""When EnerKey last took which API key for which endpoint family: what outlives a restart. Keys are known by name only.

Every function works inside the caller's transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buffer.store import Connection


class KeyUse(NamedTuple):
    """EnerKey took a key, named as the configuration does it, for a family of endpoints at an instant (ms)."""

    family: str
    reference: str
    accepted_at: int


def remember(db: Connection, account: str, uses: Iterable[KeyUse]) -> None:
    """Write down an account's newest uses."""
    upsert = "INSERT INTO key_use VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET accepted_at = excluded.accepted_at"
    db.executemany(upsert, [(account, *use) for use in uses])


def remembered(db: Connection, account: str) -> list[KeyUse]:
    """An account's uses, the oldest first: the last one of a family is the key in use."""
    find = "SELECT family, reference, accepted_at FROM key_use WHERE account = ? ORDER BY accepted_at"
    return [KeyUse(*row) for row in db.execute(find, (account,))]


def accounts(db: Connection) -> list[str]:
    """The accounts of which a key was ever taken."""
    return [row[0] for row in db.execute("SELECT DISTINCT account FROM key_use ORDER BY account")]
