"""The search for the hour that EnerKey refuses, kept in the table `suspect`, so that a restart goes on with it (R23).

A refused message of several hours says only that one of them is bad. Halves of it are sent until that hour is alone:
it is held, with the server's words, and the search is over. `near` are the hours among which it must be; the other hours
of the refused message (`near` = 0) rest until it is found, because nobody knows whether they hold another one.

Every function works inside the caller's transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from buffer.store import Connection

_NEAR = (
    "SELECT suspect.hour FROM suspect JOIN hour ON hour.meter = suspect.meter AND hour.hour = suspect.hour"
    " WHERE suspect.meter = ? AND near AND (hour.state IN ('pending', 'claimed') OR (hour.state IN ('accepted', 'missing')"
    " AND EXISTS (SELECT 1 FROM adjustment WHERE adjustment.meter = suspect.meter AND adjustment.hour = suspect.hour"
    " AND posted <> amount))) ORDER BY suspect.hour"
)


def suspects(db: Connection, meter: int) -> list[int]:
    """The hours among which the refused one is, oldest first; empty when none is looked for."""
    return [row[0] for row in db.execute(_NEAR, (meter,))]


def involved(db: Connection, meter: int) -> set[int]:
    """All hours of the message in which one is looked for."""
    return {row[0] for row in db.execute("SELECT hour FROM suspect WHERE meter = ?", (meter,))}


def refused(db: Connection, meter: int, hours: Collection[int]) -> None:
    """EnerKey refused a message with these hours. One alone is found; among several the search begins, or goes on there."""
    before = set(suspects(db, meter))
    elsewhere = before and not before.issuperset(hours)  # one search after the other, or they would never end
    if len(hours) == 1:
        if not elsewhere:
            db.execute("DELETE FROM suspect WHERE meter = ?", (meter,))
        return
    if not elsewhere:
        db.execute("UPDATE suspect SET near = 0 WHERE meter = ?", (meter,))
    enter = "INSERT INTO suspect VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET near = excluded.near"
    db.executemany(enter, [(meter, hour, 0 if elsewhere else 1) for hour in hours])


def settled(db: Connection, meter: int, hours: Collection[int]) -> None:
    """These hours are accepted or held: none of them is looked for any more. When none is left, the search is over."""
    db.executemany("DELETE FROM suspect WHERE meter = ? AND hour = ?", [(meter, hour) for hour in hours])
    if not suspects(db, meter):
        db.execute("DELETE FROM suspect WHERE meter = ?", (meter,))
