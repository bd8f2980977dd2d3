"""What the simulated EnerKey has booked: values by meter and hour, the pushes behind them, requests by minute.

SQLite in memory or in a file, so that a restart forgets nothing. Values are micro, hours are hours since the epoch.
What a read shows may lag behind what is booked: it is a second pair of tables, to which the pushes come later.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, tzinfo
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from buffer.model import INT64, from_ms, hour_of, hour_start, to_ms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

Family = Literal["consumption", "cumulative"]
SameHour = Literal["sum", "replace", "first-wins", "reject"]
OlderReading = Literal["placed", "ignored", "refused"]
LowerReading = Literal["negative", "nothing", "refused"]
HourStamp = Literal["start", "end"]

MINUTE_MS = 60_000
DAY_MS = 86_400_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS consumption (meter INTEGER, hour INTEGER, micro INTEGER, PRIMARY KEY (meter, hour)) STRICT;
CREATE TABLE IF NOT EXISTS reading (meter INTEGER, hour INTEGER, micro INTEGER, PRIMARY KEY (meter, hour)) STRICT;
CREATE TABLE IF NOT EXISTS shown_consumption (meter INTEGER, hour INTEGER, micro INTEGER, PRIMARY KEY (meter, hour)) STRICT;
CREATE TABLE IF NOT EXISTS shown_reading (meter INTEGER, hour INTEGER, micro INTEGER, PRIMARY KEY (meter, hour)) STRICT;
CREATE TABLE IF NOT EXISTS shown (only INTEGER PRIMARY KEY CHECK (only = 1), push INTEGER) STRICT;
INSERT INTO shown VALUES (1, 0) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS push (id INTEGER PRIMARY KEY, at_ms INTEGER, meter INTEGER, family TEXT) STRICT;
CREATE TABLE IF NOT EXISTS item (push INTEGER, stamp_ms INTEGER, micro INTEGER) STRICT;
CREATE INDEX IF NOT EXISTS item_by_push ON item (push);
CREATE TABLE IF NOT EXISTS request (minute INTEGER PRIMARY KEY, requests INTEGER) STRICT;
"""


class Unusable(Exception):  # noqa: N818 - says what the file is
    """The file cannot hold the simulator's books."""


class Item(NamedTuple):
    """One accepted value, as it was pushed."""

    meter: int
    family: Family
    stamp: datetime
    value: int


class Push(NamedTuple):
    """One accepted message."""

    at: datetime
    meter: int
    family: Family
    items: tuple[Item, ...]


@dataclass(slots=True)
class Rules:
    """What becomes of values; may be changed between requests.

    `same_hour`: a second value of an hour; `same_reading`: a second reading of a boundary, None as with consumptions;
    `lower_reading`: one that is newer and lower than the last; `zone`: by whose local time hours are named, so that the two
    of one name are one.
    """

    same_hour: SameHour
    same_reading: SameHour | None = None
    lower_reading: LowerReading = "negative"
    zone: tzinfo | None = None


class Books:
    """The database. Not thread-safe: the simulator holds its lock around every call."""

    def __init__(self, path: Path | str | None, same_hour: SameHour) -> None:
        """Open or create the file; None keeps everything in memory. Raises Unusable."""
        self.rules = Rules(same_hour)
        self.hour_stamp: HourStamp = "start"
        try:
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise Unusable(f"{path}: {error}") from None
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            self._db.close()
            raise Unusable(f"{path}: {error}") from None

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing of it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def apply(self, push: Push) -> None:
        """Book a message. OverflowError, with nothing booked, when a sum leaves int64."""
        self._add("", push)
        insert = "INSERT INTO push (at_ms, meter, family) VALUES (?, ?, ?)"
        number = self._db.execute(insert, (to_ms(push.at), push.meter, push.family)).lastrowid
        rows = [(number, to_ms(item.stamp), item.value) for item in push.items]
        self._db.executemany("INSERT INTO item VALUES (?, ?, ?)", rows)

    def show(self, until_ms: int) -> None:
        """Let reads that lag see what was booked up to this instant; what has been shown stays shown."""
        (last,) = self._db.execute("SELECT push FROM shown").fetchone()
        find = "SELECT id, at_ms, meter, family FROM push WHERE id > ? AND at_ms <= ? ORDER BY id"
        for push in self._found(find, last, until_ms):
            self._add("shown_", push)
        newest = "SELECT coalesce(max(id), 0) FROM push WHERE at_ms <= ?"
        self._db.execute(f"UPDATE shown SET push = max(push, ({newest}))", (until_ms,))  # noqa: S608 - a constant text

    def _add(self, tables: str, push: Push) -> None:
        table = f"{tables}{'consumption' if push.family == 'consumption' else 'reading'}"
        totals = self._totals(table, push)
        self._db.executemany(
            f"INSERT INTO {table} VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET micro = excluded.micro",  # noqa: S608
            [(push.meter, hour, micro) for hour, micro in totals.items()],
        )

    def _totals(self, table: str, push: Push) -> dict[int, int]:
        hours = [self.hour(item) for item in push.items]
        find = f"SELECT hour, micro FROM {table} WHERE meter = ? AND hour BETWEEN ? AND ?"  # noqa: S608
        booked: dict[int, int] = dict(self._db.execute(find, (push.meter, min(hours), max(hours))).fetchall())
        totals: dict[int, int] = {}
        for hour, item in zip(hours, push.items, strict=True):
            totals[hour] = self._joined(push.family, totals.get(hour, booked.get(hour)), item.value)
        if any(abs(total) > INT64 for total in totals.values()):
            raise OverflowError("the sum of one hour is too large")
        return totals

    def hour(self, item: Item) -> int:
        """The hour in which an item is booked: where hours have local names, two of one name are one."""
        early = (
            1 if self.hour_stamp == "end" and item.family == "consumption" else 0
        )  # ms: an end is of the hour before
        hour = hour_of(to_ms(item.stamp) - early)
        if self.rules.zone is None or item.family == "cumulative":
            return hour
        local = hour_start(hour).astimezone(self.rules.zone)
        return hour_of(to_ms(local.replace(fold=0).astimezone(UTC)))

    def rule(self, family: Family) -> SameHour:
        """What becomes of a second value of one hour."""
        return (self.rules.same_reading if family == "cumulative" else None) or self.rules.same_hour

    def _joined(self, family: Family, there: int | None, value: int) -> int:
        """What an hour holds after one more value."""
        rule = self.rule(family)
        if there is None or rule == "replace":
            return value
        return there + value if rule == "sum" else there

    def there(self, item: Item) -> bool:
        """Whether the item's hour, or its boundary, has a value already."""
        table = "consumption" if item.family == "consumption" else "reading"
        find = f"SELECT 1 FROM {table} WHERE meter = ? AND hour = ?"  # noqa: S608 - one of two constants
        return self._db.execute(find, (item.meter, self.hour(item))).fetchone() is not None

    def newest_reading(self, meter: int) -> tuple[int, int] | None:
        """The hour and value of a meter's newest reading."""
        find = "SELECT hour, micro FROM reading WHERE meter = ? ORDER BY hour DESC LIMIT 1"
        found: tuple[int, int] | None = self._db.execute(find, (meter,)).fetchone()
        return found

    def hourly(self, meter: int, from_hour: int, to_hour: int, *, shown: bool = False) -> dict[int, int]:
        """Micro by hour, for the hours of [from, to) that have a value; readings give what lies between them.

        `shown`: as far as `show` has let it be seen.
        """
        tables = "shown_" if shown else ""
        find = f"SELECT hour, micro FROM {tables}consumption WHERE meter = ? AND hour >= ? AND hour < ?"  # noqa: S608
        hours = dict(self._db.execute(find, (meter, from_hour, to_hour)).fetchall())
        falls = self.rules.lower_reading == "negative"
        for hour, micro in between(self._readings(f"{tables}reading", meter, from_hour, to_hour)):
            if from_hour <= hour < to_hour and (micro >= 0 or falls):
                hours[hour] = hours.get(hour, 0) + micro
        return dict(sorted(hours.items()))

    def _readings(self, table: str, meter: int, from_hour: int, to_hour: int) -> list[tuple[int, int]]:
        """The readings inside a range and the nearest one on either side, in order of time."""
        find = (
            f"SELECT hour, micro FROM {table} WHERE meter = :meter"  # noqa: S608 - one of two constants
            f" AND hour >= coalesce((SELECT max(hour) FROM {table} WHERE meter = :meter AND hour <= :from), :from)"
            f" AND hour <= coalesce((SELECT min(hour) FROM {table} WHERE meter = :meter AND hour >= :to), :to)"
            " ORDER BY hour"
        )
        return self._db.execute(find, {"meter": meter, "from": from_hour, "to": to_hour}).fetchall()

    def hours_known(self, meter: int) -> tuple[int, int]:
        """A range [from, to) that holds every value of a meter; empty when it has none."""
        find = "SELECT min(hour), max(hour) FROM {} WHERE meter = ?"
        ends = [self._db.execute(find.format(table), (meter,)).fetchone() for table in ("consumption", "reading")]
        known: list[int] = [hour for end in ends for hour in end if hour is not None]
        return (min(known), max(known) + 1) if known else (0, 0)

    def pushes(self) -> list[Push]:
        """Every accepted message, oldest first."""
        return self._found("SELECT id, at_ms, meter, family FROM push ORDER BY id")

    def _found(self, heads: str, *values: int) -> list[Push]:
        return [
            Push(from_ms(at), meter, family, self._items(number, meter, family))
            for number, at, meter, family in self._db.execute(heads, values).fetchall()
        ]

    def _items(self, push: int, meter: int, family: Family) -> tuple[Item, ...]:
        rows = self._db.execute("SELECT stamp_ms, micro FROM item WHERE push = ? ORDER BY rowid", (push,))
        return tuple(Item(meter, family, from_ms(stamp), micro) for stamp, micro in rows)

    def count_request(self, now_ms: int) -> None:
        """Count one request in the rolling day."""
        upsert = "INSERT INTO request VALUES (?, 1) ON CONFLICT DO UPDATE SET requests = requests + 1"
        self._db.execute(upsert, (now_ms // MINUTE_MS,))

    def requests(self, now_ms: int) -> tuple[int, float]:
        """Requests in the last 24 h, and seconds until the oldest of them are more than a day old."""
        self._db.execute("DELETE FROM request WHERE minute <= ?", ((now_ms - DAY_MS) // MINUTE_MS,))
        spent, oldest = self._db.execute("SELECT coalesce(sum(requests), 0), min(minute) FROM request").fetchone()
        wait_ms = 0 if oldest is None else (oldest * MINUTE_MS + DAY_MS + MINUTE_MS) - now_ms
        return spent, wait_ms / 1000


def between(readings: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The consumption of each hour between consecutive boundaries: spread evenly, what does not divide in the last."""
    for (begin, low), (end, high) in pairwise(readings):
        total, hours = high - low, end - begin
        each = abs(total) // hours * (1 if total >= 0 else -1)
        for hour in range(begin, end - 1):
            yield hour, each
        yield end - 1, total - each * (hours - 1)
