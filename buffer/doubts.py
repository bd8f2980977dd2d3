"""Why hours are held, with the numbers that a person decides by: the table `doubt`, one row for each of them.

| why | what happened |
|---|---|
| sent | a message's fate was unknown, and what EnerKey shows fits to neither outcome, or may not be read |
| before | EnerKey was read before the hour was sent, and shows what neither was accepted nor was to be sent |
| foreign | the same where nothing of the hour had been accepted: somebody else fills this meter, and all of it rests |
| audit | EnerKey had accepted the hour, and shows another number since |
| refused | EnerKey refused the hour, alone in its message |
| sums | the meter's hours do not add up to its boundaries |

Every function works inside the caller's transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from buffer.store import Connection

Why = Literal["sent", "before", "foreign", "audit", "refused", "sums"]


class Doubt(NamedTuple):
    """One held hour. Values in micro.

    `accepted`: what the ledger says, None for nothing. `value`: what a message added to that, or would have added;
    `adjusted` as much of it is adjustments. `shown`: what EnerKey showed at `seen_at` (ms), None for nothing; `seen_at` is
    None when it was not read. `words`: EnerKey's, or the network's, on the `message`.
    """

    hour: int
    why: str
    accepted: int | None
    value: int
    adjusted: int
    shown: int | None
    seen_at: int | None
    message: int | None
    words: str

    @property
    def expected(self) -> int:
        """What EnerKey has of the hour when all of it has arrived."""
        return (self.accepted or 0) + self.value

    @property
    def at_enerkey(self) -> int:
        """What EnerKey shows; what it should have where nobody has read it."""
        return self.expected if self.seen_at is None else self.shown or 0


def hold_message(
    db: Connection, message: int, hours: Iterable[int], why: Why, shown: Mapping[int, int] | None, now_ms: int
) -> None:
    """Note why these hours of a message are held. `shown`: what EnerKey shows by hour, None when it was not read."""
    take = (
        "INSERT OR REPLACE INTO doubt (meter, hour, why, value, adjusted, shown, seen_at, message)"
        " SELECT meter, hour, ?3, value, coalesce((SELECT sum(amount) FROM message_adjustment AS taken"
        " WHERE taken.message = ?1 AND taken.hour = ?2), 0), ?4, ?5, ?1 FROM message_hour WHERE message = ?1 AND hour = ?2"
    )
    seen = None if shown is None else now_ms
    db.executemany(take, [(message, hour, why, (shown or {}).get(hour), seen) for hour in hours])


def hold_unsent(  # noqa: PLR0913, PLR0917 - the numbers of the look, by name
    db: Connection,
    meter: int,
    hours: Iterable[int],
    values: Mapping[int, int],
    adjusted: Mapping[int, int],
    shown: Mapping[int, int],
    now_ms: int,
) -> None:
    """Note what EnerKey shows for hours that were to be sent; where nothing of them was accepted, it is somebody else's."""
    note = (
        "INSERT OR REPLACE INTO doubt (meter, hour, why, value, adjusted, shown, seen_at) SELECT meter, hour,"
        " CASE WHEN EXISTS (SELECT 1 FROM ledger WHERE ledger.meter = ?1 AND ledger.hour = ?2) THEN 'before' ELSE 'foreign' END,"
        " ?3, ?4, ?5, ?6 FROM hour WHERE meter = ?1 AND hour = ?2 AND state = 'held'"
    )
    rows = [(meter, hour, values[hour], adjusted.get(hour, 0), shown.get(hour), now_ms) for hour in hours]
    db.executemany(note, rows)


def hold_accepted(db: Connection, meter: int, hours: Iterable[int], shown: Mapping[int, int], now_ms: int) -> None:
    """Note what EnerKey shows for hours that it had accepted otherwise."""
    note = (
        "INSERT OR REPLACE INTO doubt (meter, hour, why, value, adjusted, shown, seen_at) SELECT meter, hour, 'audit', 0, 0, ?3, ?4"
        " FROM hour WHERE meter = ?1 AND hour = ?2 AND state = 'held'"
    )
    db.executemany(note, [(meter, hour, shown.get(hour), now_ms) for hour in hours])


def hold_pending(db: Connection, meter: int) -> None:
    """Hold all that waits of a meter whose hours do not add up to its boundaries."""
    note = (
        "INSERT OR REPLACE INTO doubt (meter, hour, why, value, adjusted) SELECT meter, hour, 'sums', consumption, 0"
        " FROM hour WHERE meter = ? AND state = 'pending'"
    )
    db.execute(note, (meter,))
    db.execute("UPDATE hour SET state = 'held' WHERE meter = ? AND state = 'pending'", (meter,))


def unbalanced(db: Connection, meter: int) -> bool:
    """Whether hours of a meter are held because they do not add up, and nobody has decided about them yet."""
    find = "SELECT 1 FROM doubt WHERE meter = ? AND why = 'sums' LIMIT 1"
    return db.execute(find, (meter,)).fetchone() is not None


def blocked(db: Connection) -> set[int]:
    """The meters of which nothing is sent, because somebody else fills them."""
    return {row[0] for row in db.execute("SELECT DISTINCT meter FROM doubt WHERE why = 'foreign'")}


def of_meter(db: Connection, meter: int, first: int = -(2**62), last: int = 2**62) -> list[Doubt]:
    """A meter's held hours in [first, last], in order of time; one of which nothing was noted is as its ledger says."""
    find = (
        "SELECT hour.hour, coalesce(why, 'unnoted'), accepted, coalesce(doubt.value, CASE WHEN accepted IS NULL THEN consumption"
        " ELSE 0 END), coalesce(adjusted, 0), shown, seen_at, doubt.message, coalesce(fate, '') FROM hour"
        " LEFT JOIN doubt ON doubt.meter = hour.meter AND doubt.hour = hour.hour"
        " LEFT JOIN ledger ON ledger.meter = hour.meter AND ledger.hour = hour.hour"
        " LEFT JOIN message ON message.id = doubt.message"
        " WHERE hour.meter = ? AND hour.state = 'held' AND hour.hour >= ? AND hour.hour <= ? ORDER BY hour.hour"
    )
    return [Doubt(*row) for row in db.execute(find, (meter, first, last))]


def over(db: Connection, meter: int, hours: Iterable[int]) -> None:
    """A person has decided these hours."""
    db.executemany("DELETE FROM doubt WHERE meter = ? AND hour = ?", [(meter, hour) for hour in hours])
