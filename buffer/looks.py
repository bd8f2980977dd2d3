"""What EnerKey has, held against what this database knows: before sending (R19), and daily afterwards (R18).

A database that is new, restored, or was cut off from its power may have forgotten what it sent: each of its meters is
read at EnerKey before anything of it is sent. `meter.look_after` is the instant (ms) from which such a look means
something; NULL when none is due.

Every function works inside the caller's transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from buffer import doubts, poison, postings
from buffer.model import HOUR_MS, hour_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from buffer.store import Connection

_MARKS = "key BETWEEN 'running' AND 'running!'"  # every account's: no name begins with a sign before "!"

AUDITED_MS = 48 * HOUR_MS  # hours accepted so long ago are compared


class Seen(NamedTuple):
    """What EnerKey showed of the hours that a meter was about to send.

    `found` are there already, with these values; `adjusted`: what a message would take along, by hour (`own_hour`: of
    that hour's own adjustments); `held` fit to nothing: `values` was to be sent, EnerKey has what is `shown`.
    """

    found: Mapping[int, int]
    adjusted: Mapping[int, int]
    held: Collection[int]
    own_hour: bool
    values: Mapping[int, int]
    shown: Mapping[int, int]


def run_begins(db: Connection, boot_id: str, readable_at: int, account: str = "") -> bool:
    """Mark that an account's delivery runs; True when one of the last ones ended with its machine and not by itself.

    Then what it had recorded last may be gone, though the disk promised to keep it, and EnerKey may not show it before
    `readable_at`: every meter is looked at from then on.
    """
    # Meters may have changed their account since: the first to begin speaks for all of them.
    forget = f"DELETE FROM meta WHERE {_MARKS} AND value <> ?"  # noqa: S608 - a constant text
    cut_off = db.execute(forget, (boot_id,)).rowcount > 0
    if cut_off:
        db.execute("UPDATE meter SET look_after = ?", (readable_at,))
    begin = "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
    db.execute(begin, (_mark(account), boot_id))
    return cut_off


def run_ends(db: Connection, account: str = "") -> None:
    """An account's delivery stops by itself: all that it did is recorded."""
    db.execute("DELETE FROM meta WHERE key = ?", (_mark(account),))


def _mark(account: str) -> str:
    return f"running {account}".rstrip()


def look_after(db: Connection, meter: int) -> int | None:
    """From when (ms) on a meter may be looked at, which it must be before it sends; None when it need not be."""
    row: tuple[int | None] | None = db.execute("SELECT look_after FROM meter WHERE id = ?", (meter,)).fetchone()
    return row[0] if row else None


class Series(NamedTuple):
    """What a meter's boundaries are: a `counter`'s own values, or a total that runs here; and whether any was sent from here."""

    counter: bool
    begun: bool


def series(db: Connection, meter: int) -> Series:
    """What is known of the series of boundaries that a meter sends."""
    kind = db.execute("SELECT kind FROM meter WHERE id = ?", (meter,)).fetchone()
    sent = db.execute("SELECT 1 FROM ledger WHERE meter = ? AND message IS NOT NULL LIMIT 1", (meter,)).fetchone()
    return Series(counter=kind is not None and kind[0] == "counter", begun=sent is not None)


def look_again(db: Connection, meter: int) -> None:
    """Before the next message of a meter EnerKey is read, whatever was found now."""
    db.execute("UPDATE meter SET look_after = 0 WHERE id = ?", (meter,))


def looked(db: Connection, meter: int, seen: Seen, now_ms: int) -> None:
    """Record what a look at a meter has found."""
    db.executemany(
        "INSERT INTO ledger (meter, hour, accepted, message, at) VALUES (?, ?, ?, NULL, ?) ON CONFLICT (meter, hour)"
        " DO UPDATE SET accepted = accepted + excluded.accepted, message = NULL, at = excluded.at",
        [(meter, hour, value, now_ms) for hour, value in seen.found.items()],
    )
    adjusted = {hour: amount for hour, amount in seen.adjusted.items() if hour in seen.found}
    postings.there(db, meter, adjusted, own_hour=seen.own_hour)
    move = "UPDATE hour SET state = ? WHERE meter = ? AND hour = ? AND state IN ('pending', 'accepted', 'missing')"
    db.executemany(move, [("accepted", meter, hour) for hour in seen.found])
    db.executemany(move, [("held", meter, hour) for hour in seen.held])
    doubts.hold_unsent(db, meter, seen.held, seen.values, seen.adjusted, seen.shown, now_ms)
    poison.settled(db, meter, [*seen.found, *seen.held])
    since = look_after(db, meter)
    if since is not None:
        # An hour that ended before the doubt began may be closed later than this, and may have been sent as well.
        due = since or now_ms
        seen_all = max(seen.values) >= hour_of(due) - 1
        db.execute("UPDATE meter SET look_after = ? WHERE id = ?", (None if seen_all else due, meter))


def audits(db: Connection, meters: Collection[int], now_ms: int) -> dict[int, int]:
    """When (ms) each of these meters was audited last; one that never was counts from now."""
    begin = "UPDATE meter SET audited_at = ? WHERE id = ? AND audited_at = 0"
    db.executemany(begin, [(now_ms, meter) for meter in meters])
    find = "SELECT audited_at FROM meter WHERE id = ?"
    return {meter: db.execute(find, (meter,)).fetchone()[0] for meter in meters}


def accepted_lately(db: Connection, meter: int, until: int, now_ms: int) -> dict[int, int]:
    """What EnerKey accepted in the last two days and up to an instant (ms) from which it is readable: micro by hour."""
    find = (
        "SELECT ledger.hour, accepted FROM ledger JOIN hour ON hour.meter = ledger.meter AND hour.hour = ledger.hour"
        " WHERE ledger.meter = ? AND at > ? AND at <= ? AND state = 'accepted' ORDER BY ledger.hour"
    )
    return dict(db.execute(find, (meter, now_ms - AUDITED_MS, until)).fetchall())


def strangers(db: Connection, meter: int, shown: Mapping[int, int], tolerance: int) -> dict[int, int]:
    """Of hours that wait to be sent: what each would be, where EnerKey shows something else for it already; by hour.

    Only of a consumption: between the boundaries of a cumulative meter EnerKey shows what it derives from them.
    """
    find = (
        "SELECT hour.hour, consumption + (SELECT coalesce(sum(amount - posted), 0) FROM adjustment"
        " WHERE adjustment.meter = hour.meter AND adjustment.hour = hour.hour) FROM hour"
        " LEFT JOIN ledger ON ledger.meter = hour.meter AND ledger.hour = hour.hour"
        " WHERE hour.meter = ? AND state = 'pending' AND hour.hour BETWEEN ? AND ? AND accepted IS NULL"
    )
    ours: dict[int, int] = dict(db.execute(find, (meter, min(shown), max(shown)))) if shown else {}
    return {
        hour: value
        for hour, value in ours.items()
        if hour in shown and abs(shown[hour]) > tolerance and abs(shown[hour] - value) > tolerance
    }


def found_strangers(db: Connection, meter: int, ours: Mapping[int, int], shown: Mapping[int, int], now_ms: int) -> None:
    """Hold hours that somebody else fills, and with them the meter."""
    hold = "UPDATE hour SET state = 'held' WHERE meter = ? AND hour = ? AND state = 'pending'"
    db.executemany(hold, [(meter, hour) for hour in ours])
    doubts.hold_unsent(db, meter, ours, ours, {}, shown, now_ms)


def audited(db: Connection, meter: int, differing: Collection[int], shown: Mapping[int, int], now_ms: int) -> None:
    """A meter was compared; what differs waits for a person, and is never sent again by itself."""
    hold = "UPDATE hour SET state = 'held' WHERE meter = ? AND hour = ? AND state = 'accepted'"
    db.executemany(hold, [(meter, hour) for hour in differing])
    doubts.hold_accepted(db, meter, differing, shown, now_ms)
    db.execute("UPDATE meter SET audited_at = ? WHERE id = ?", (now_ms, meter))
