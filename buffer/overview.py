"""Read-only looks at the whole buffer, for `status` and `hours`. Every function takes a read-only connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from buffer import doubts, identity
from buffer.journal import UNSETTLED
from buffer.readings import newest_samples

if TYPE_CHECKING:
    from buffer.frozen import Sample
    from buffer.store import Connection


class MeterOverview(NamedTuple):
    """One configured meter as the buffer sees it. Times in ms, hours since the epoch, values in micro."""

    name: str
    unit: str
    push: str
    kind: str
    source: str
    last_at: int | None
    last_value: int | None
    last_hour: int | None  # newest closed hour
    last_accepted: int | None
    pending: int
    held: int
    unknown: int
    parked: int  # micro that are in no hour until a person has decided
    unknown_since: int | None  # ms; of the oldest message of unknown fate
    dropped: int
    foreign: list[doubts.Doubt]  # hours that somebody else fills: nothing of the meter is sent while there are any
    doubt: doubts.Doubt | None  # of the first held hour
    taken_over: int | None
    account: str = ""  # "" is the default one


class HourView(NamedTuple):
    """One closed hour and what became of it."""

    hour: int
    consumption: int
    boundary: int
    quality: str
    state: str
    accepted: int | None  # what the ledger says EnerKey has
    adjusted: int
    unposted: int = 0  # how much of that EnerKey does not have yet
    doubt: doubts.Doubt | None = None


class EventView(NamedTuple):
    """One row of `event`."""

    at: int
    level: str
    subject: str
    text: str


class RejectedView(NamedTuple):
    """How often something was refused as a reading, and when last."""

    connection: str
    source: str
    reason: str
    count: int  # type: ignore[assignment] # tuple has a method of that name; the word is what `status` shows
    last_at: int


def meters(db: Connection) -> list[MeterOverview]:
    """Every configured meter, by name."""
    rows = db.execute(
        "SELECT id, name, unit, push, kind, source, account FROM meter WHERE configured ORDER BY name"
    ).fetchall()
    newest = newest_samples(db, [number for number, *_ in rows])
    return [_meter(db, number, facts, newest.get(number)) for number, *facts in rows]


def _meter(db: Connection, number: int, facts: list[str], newest: Sample | None) -> MeterOverview:
    def one(query: str) -> int | None:
        found: int | None = db.execute(query, (number,)).fetchone()[0]
        return found

    name, unit, push, kind, source, account = facts
    held = doubts.of_meter(db, number)
    last_at, last_value = newest or (None, None)
    return MeterOverview(
        name, unit, push, kind, source, last_at, last_value,
        one("SELECT max(hour) FROM hour WHERE meter = ?"),
        one("SELECT max(hour) FROM ledger WHERE meter = ?"),
        one("SELECT count(*) FROM hour WHERE meter = ? AND state = 'pending'") or 0,
        len(held),
        one(f"SELECT count(*) FROM message WHERE meter = ? AND {UNSETTLED} AND state = 'unknown'") or 0,  # noqa: S608 - a constant text
        one("SELECT sum(amount) FROM parked WHERE meter = ?") or 0,
        one(f"SELECT min(fate_at) FROM message WHERE meter = ? AND {UNSETTLED} AND state = 'unknown'"),  # noqa: S608
        one("SELECT count(*) FROM hour WHERE meter = ? AND state = 'dropped'") or 0,
        [doubt for doubt in held if doubt.why == "foreign"],
        held[0] if held else None,
        one("SELECT taken_over FROM meter WHERE id = ?"),
        account,
    )  # fmt: skip


def meter_named(db: Connection, name: str) -> tuple[int, str, str] | None:
    """A meter's number, unit and push mode; None when the buffer does not know it."""
    row: tuple[int, str, str] | None = db.execute("SELECT id, unit, push FROM meter WHERE name = ?", (name,)).fetchone()
    return row


def hours(db: Connection, meter: int, since: int, until: int) -> list[HourView]:
    """A meter's closed hours in [since, until)."""
    rows = db.execute(
        "SELECT hour.hour, consumption, boundary, quality, state, ledger.accepted,"
        " coalesce((SELECT sum(amount) FROM adjustment WHERE meter = hour.meter AND hour = hour.hour), 0),"
        " coalesce((SELECT sum(amount - posted) FROM adjustment WHERE meter = hour.meter AND hour = hour.hour), 0)"
        " FROM hour LEFT JOIN ledger ON ledger.meter = hour.meter AND ledger.hour = hour.hour"
        " WHERE hour.meter = ? AND hour.hour >= ? AND hour.hour < ? ORDER BY hour.hour",
        (meter, since, until),
    )
    held = {doubt.hour: doubt for doubt in doubts.of_meter(db, meter, since, until - 1)}
    return [HourView._make([*row, held.get(row[0])]) for row in rows]


def open_hour(db: Connection, meter: int) -> int | None:
    """The oldest hour of a meter that is not closed yet; None while it has no hour to go on from."""
    find = "SELECT coalesce((SELECT max(hour) + 1 FROM hour WHERE meter = ?1), (SELECT opening_hour FROM counter_state WHERE meter = ?1))"
    hour: int | None = db.execute(find, (meter,)).fetchone()[0]
    return hour


def rejected(db: Connection) -> list[RejectedView]:
    """Counts per connection, source and reason, most frequent first."""
    rows = db.execute("SELECT connection, source, reason, count, last_at FROM rejected_count ORDER BY count DESC")
    return [RejectedView(*row) for row in rows]


def events(db: Connection, most: int) -> list[EventView]:
    """The newest events, newest first."""
    find = "SELECT at, level, subject, text FROM event ORDER BY id DESC LIMIT ?"
    return [EventView(*row) for row in db.execute(find, (most,))]


def stranger(db: Connection) -> str | None:
    """Why nothing is sent from this machine; None when the database belongs here."""
    return identity.stranger(db)


def unplaced(db: Connection) -> int:
    """Readings that wait for a trusted clock."""
    return int(db.execute("SELECT count(*) FROM unplaced").fetchone()[0])


def numbers(db: Connection) -> dict[str, int]:
    """The configured meters' numbers by name."""
    return dict(db.execute("SELECT name, id FROM meter WHERE configured"))
