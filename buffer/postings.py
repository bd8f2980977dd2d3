"""How much of each adjustment EnerKey has: what is still to be posted, and with which message it went.

A message takes adjustments along with its items: of a consumption the item of their own hour, of a cumulative meter the
next boundary. What it takes is written down with the intent, and counts as posted when that item is accepted.

Every function works inside the caller's transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from buffer.store import Connection

Amount = tuple[int, int]  # hour, micro

_TO_POST = (
    "meter = ? AND posted <> amount AND NOT EXISTS (SELECT 1 FROM hour"
    " WHERE hour.meter = adjustment.meter AND hour.hour = adjustment.hour AND state = 'dropped')"
)


def unposted(db: Connection, meter: int) -> list[Amount]:
    """What is still to be posted of a meter's adjustments, by the hour that they belong to, oldest first.

    Nothing of an hour that is never sent.
    """
    find = f"SELECT hour, sum(amount - posted) FROM adjustment WHERE {_TO_POST} GROUP BY hour ORDER BY hour"  # noqa: S608 - constant texts
    return db.execute(find, (meter,)).fetchall()


def posted(db: Connection, meter: int) -> int:
    """The sum of what has been posted of a meter's adjustments."""
    total: int = db.execute("SELECT coalesce(sum(posted), 0) FROM adjustment WHERE meter = ?", (meter,)).fetchone()[0]
    return total


def correctable(db: Connection, meter: int) -> list[tuple[int, int, int]]:
    """Hours that are over for the journal and have something to post: (hour, to post, what EnerKey has), oldest first.

    Those are the accepted ones, and the missing ones, of which nothing was known before. An hour that is still to be
    sent takes its adjustments along; one that is held waits with them for a person.
    """
    find = (
        "SELECT adjustment.hour, sum(amount - posted), coalesce(ledger.accepted, 0) FROM adjustment"
        " JOIN hour ON hour.meter = adjustment.meter AND hour.hour = adjustment.hour"
        " LEFT JOIN ledger ON ledger.meter = adjustment.meter AND ledger.hour = adjustment.hour"
        " WHERE adjustment.meter = ? AND posted <> amount AND state IN ('accepted', 'missing')"
        " GROUP BY adjustment.hour ORDER BY adjustment.hour"
    )
    return db.execute(find, (meter,)).fetchall()


def oldest(db: Connection, meters: Sequence[int]) -> dict[int, int]:
    """When (ms) the oldest adjustment was made that is to be posted by itself, by meter; those without one are left out."""
    find = (
        "SELECT adjustment.meter, min(adjustment.at) FROM adjustment"  # noqa: S608 - only question marks
        " JOIN hour ON hour.meter = adjustment.meter AND hour.hour = adjustment.hour"
        f" WHERE adjustment.meter IN ({', '.join('?' * len(meters))}) AND posted <> amount"
        " AND state IN ('accepted', 'missing') GROUP BY adjustment.meter"
    )
    return dict(db.execute(find, meters).fetchall())


def take(db: Connection, message: int, meter: int, takes: Mapping[int, int], *, own_hour: bool) -> None:
    """Write down what a message takes along, by the hour of its item: of that hour's own adjustments, or of all up to it."""
    rows = [(message, *part) for part in _parts(db, meter, takes, own_hour=own_hour)]
    db.executemany("INSERT INTO message_adjustment (message, adjustment, hour, amount) VALUES (?, ?, ?, ?)", rows)


def there(db: Connection, meter: int, takes: Mapping[int, int], *, own_hour: bool) -> None:
    """EnerKey turned out to have these hours with what they would have taken along."""
    rows = [(amount, number) for number, _, amount in _parts(db, meter, takes, own_hour=own_hour)]
    db.executemany("UPDATE adjustment SET posted = posted + ? WHERE id = ?", rows)


def post(db: Connection, message: int, items: Collection[int]) -> None:
    """These items of a message are accepted, with what they took along."""
    taken: Sequence[tuple[int, int, int]] = db.execute(
        "SELECT adjustment, hour, amount FROM message_adjustment WHERE message = ?", (message,)
    ).fetchall()
    rows = [(amount, number) for number, hour, amount in taken if hour in items]
    db.executemany("UPDATE adjustment SET posted = posted + ? WHERE id = ?", rows)


def undone(db: Connection, meter: int, hour: int, *, own_hour: bool) -> None:
    """EnerKey does not have an hour any more, nor what it took along: that is to be posted again."""
    if own_hour:
        db.execute("UPDATE adjustment SET posted = 0 WHERE meter = ? AND hour = ?", (meter, hour))
        return
    taken = (
        "SELECT adjustment, sum(amount) FROM message_adjustment JOIN message ON message.id = message_adjustment.message"
        " LEFT JOIN message_hour ON message_hour.message = message.id AND message_hour.hour = message_adjustment.hour"
        " WHERE message.meter = ? AND message_adjustment.hour = ? AND (message.state = 'accepted'"
        " OR message_hour.fate = 'accepted') GROUP BY adjustment"
    )
    rows = [(amount, number) for number, amount in db.execute(taken, (meter, hour)).fetchall()]
    db.executemany("UPDATE adjustment SET posted = posted - ? WHERE id = ?", rows)


def given_up(db: Connection, meter: int, hour: int) -> int:
    """What waits of an hour's adjustments is not posted any more, and counts as if it were; how much that is."""
    waits: int = db.execute(
        "SELECT coalesce(sum(amount - posted), 0) FROM adjustment WHERE meter = ? AND hour = ?", (meter, hour)
    ).fetchone()[0]
    db.execute("UPDATE adjustment SET posted = amount WHERE meter = ? AND hour = ?", (meter, hour))
    return waits


def _parts(db: Connection, meter: int, takes: Mapping[int, int], *, own_hour: bool) -> list[tuple[int, int, int]]:
    """Which adjustment gives how much to which item: (adjustment, hour of the item, micro)."""
    waiting = f"SELECT id, hour, amount - posted FROM adjustment WHERE {_TO_POST} ORDER BY hour, id"  # noqa: S608 - constant texts
    left = {number: (hour, amount) for number, hour, amount in db.execute(waiting, (meter,))} if takes else {}
    found = []
    for item, amount in sorted(takes.items()):
        fitting = {
            number: rest for number, (hour, rest) in left.items() if hour == item or (hour < item and not own_hour)
        }
        for number, part in _divided(amount, fitting).items():
            found.append((number, item, part))
            left[number] = (left[number][0], left[number][1] - part)
    return found


def _divided(amount: int, fitting: Mapping[int, int]) -> dict[int, int]:
    """An amount over the adjustments that it is taken from: all of them, or the oldest first where it is a part."""
    if amount == sum(fitting.values()):
        return dict(fitting)
    parts: dict[int, int] = {}
    for number, rest in fitting.items():
        within = abs(rest) <= abs(amount) or (rest < 0) != (amount < 0)
        parts[number] = rest if within else amount
        amount -= parts[number]
    if fitting:
        parts[max(parts)] += amount  # what rounding adds
    return {number: part for number, part in parts.items() if part}
