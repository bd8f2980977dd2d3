"""Energy that comes after its hour was closed: the hour stays as it is, what it lacks is booked beside it (R4, R8).

Of a counter nothing is late: the next boundary has it. A period of an interval source gives its shares to the hours that
it touches; those of closed hours are late. A sample of power gives nothing by itself, it bends the line between its
neighbours: what is late is each closed hour's energy with it, less its energy without it. These differences, taken one
after the other as samples come, add up to the energy with all of them less the energy at the close, to the last micro
and whatever the order. So for both kinds a closed hour and what was booked to it are together what the hour would have
been, had everything come in time; what reaches into open hours is counted there.

Booking and storing are one transaction, and only a reading that is not stored yet is booked: a second delivery, before
or after a restart, finds it there and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from buffer.closing import inputs_after, park
from buffer.hours import Rule, power_of, shares
from buffer.model import HOUR_MS, from_ms
from buffer.readings import add

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from buffer.frozen import Sample
    from buffer.readings import Row, StoredReading
    from buffer.store import Connection

AUTHOR = "gateway"
CORRECTED_MS = 7 * 24 * HOUR_MS  # `delta` corrects younger hours only (reliability 3.2)
TOLD_EVERY_MS = HOUR_MS  # a device that is always late is one event per hour: all of it is in the tables
Amount = tuple[int, int, str]  # hour, micro, reason


class Late(NamedTuple):
    """What was late of one meter in one delivery: the hours [first, last] and what was booked where, in micro.

    `tell`: nothing was late of this meter for a while.
    """

    meter: int
    first: int
    last: int
    adjusted: int
    parked: int
    tell: bool


class _Closed(NamedTuple):
    """A meter's closed hours of this kind: [first, edge). Samples up to `since` (ms) are of another one."""

    first: int
    edge: int
    since: int | None


def add_and_book(
    db: Connection, readings: Sequence[Row], rules: Mapping[int, Rule], now_ms: int
) -> tuple[list[tuple[StoredReading, int]], list[Late]]:
    """Store readings as `add` does, and book what is late of them; `rules` of the meters by number."""
    found = []
    for meter, samples in _by_meter(readings, rules).items():
        closed = _closed_hours(db, meter)
        if closed is None:
            continue
        rule = rules[meter]
        inputs = {at: value for at, value in samples.items() if closed.since is None or at > closed.since}
        book = _late_periods if rule.kind == "interval" else _late_power
        amounts = book(db, meter, inputs, rule, closed)
        late = _book(db, meter, rule, [amount for amount in amounts if amount[1]], closed.edge, now_ms)
        found += [late] if late else []
    return add(db, readings), found


def _by_meter(readings: Sequence[Row], rules: Mapping[int, Rule]) -> dict[int, dict[int, int]]:
    """The samples of meters whose every reading is energy; of one instant the first."""
    found: dict[int, dict[int, int]] = {}
    for at, meter, value, _ in readings if rules else ():
        if meter in rules and rules[meter].kind != "counter":
            found.setdefault(meter, {}).setdefault(at, value)
    return found


def _closed_hours(db: Connection, meter: int) -> _Closed | None:
    find = "SELECT opening_hour, (SELECT max(hour) FROM hour WHERE hour.meter = ?1) FROM counter_state WHERE meter = ?1"
    row = db.execute(find, (meter,)).fetchone()
    if row is None:
        return None
    first, newest = row
    edge = first if newest is None else newest + 1
    since = inputs_after(db, meter)
    return _Closed(first if since is None else max(first, since // HOUR_MS), edge, since)


def _is_new(db: Connection, meter: int, at: int) -> bool:
    return db.execute("SELECT 1 FROM reading WHERE at = ? AND meter = ?", (at, meter)).fetchone() is None


# --- interval sources ------------------------------------------------------------------------------------------------


def _late_periods(
    db: Connection, meter: int, samples: Mapping[int, int], rule: Rule, closed: _Closed
) -> Iterable[Amount]:
    for sample in samples.items():
        late = shares(sample, rule, closed.first, closed.edge)
        if late and _is_new(db, meter, sample[0]):
            for hour, amount in late:
                yield hour, amount, f"late: the period stamped {_shown(sample[0])}"


# --- power -----------------------------------------------------------------------------------------------------------


def _late_power(
    db: Connection, meter: int, samples: Mapping[int, int], rule: Rule, closed: _Closed
) -> Iterable[Amount]:
    """Closed hours with the new samples less without them; then open hours go on from the newest sample before them."""
    edge = closed.edge * HOUR_MS
    passed = _first_from(db, meter, closed.edge)
    new = sorted(
        sample for sample in samples.items() if (not passed or sample[0] < passed) and _is_new(db, meter, sample[0])
    )
    if not new:
        return
    _go_on_from(db, meter, [sample for sample in new if sample[0] <= edge])
    longest = rule.hold_ms or rule.max_gap_ms
    touched = {
        hour
        for at, _ in new
        for hour in range((at - longest) // HOUR_MS, (at + longest) // HOUR_MS + 1)
        if closed.first <= hour < closed.edge
    }
    for hour in sorted(touched):
        begin, end = hour * HOUR_MS - longest, (hour + 1) * HOUR_MS + longest
        without = _stored(db, meter, begin if closed.since is None else max(begin, closed.since + 1), end)
        inside = [sample for sample in new if begin <= sample[0] <= end]
        amount = power_of(hour, None, sorted([*without, *inside]), rule)[0] - power_of(hour, None, without, rule)[0]
        yield hour, amount, f"late: power from {_shown(inside[0][0])} to {_shown(inside[-1][0])}"


def _first_from(db: Connection, meter: int, edge: int) -> int | None:
    """The instant of a meter's first sample from an edge on; many days of other meters' readings may lie in between."""
    find = "SELECT min(hour) FROM reading_hour WHERE hour >= ? AND meter = ?"
    hour = db.execute(find, (edge, meter)).fetchone()[0]
    if hour is None:
        return None
    find = "SELECT min(at) FROM reading WHERE at >= ? AND at < ? AND meter = ?"
    at: int = db.execute(find, (hour * HOUR_MS, (hour + 1) * HOUR_MS, meter)).fetchone()[0]
    return at


def _stored(db: Connection, meter: int, begin: int, end: int) -> list[Sample]:
    find = "SELECT at, value FROM reading WHERE at >= ? AND at <= ? AND meter = ? ORDER BY at"
    return db.execute(find, (begin, end, meter)).fetchall()


def _go_on_from(db: Connection, meter: int, before: Sequence[Sample]) -> None:
    if before:
        move = "UPDATE counter_state SET tail_at = ?1, tail_total = ?2 WHERE meter = ?3 AND coalesce(tail_at < ?1, 1)"
        db.execute(move, (*before[-1], meter))


# --- booking ---------------------------------------------------------------------------------------------------------


def _book(db: Connection, meter: int, rule: Rule, amounts: Sequence[Amount], edge: int, now_ms: int) -> Late | None:
    """Where late energy goes, as `late` says. What is too old to be corrected without a person is parked."""
    if not amounts:
        return None
    tell = not _told_lately(db, meter, now_ms)
    adjusting, parking = list(amounts), []
    if rule.late == "next_hour":
        adjusting = [(edge, amount, reason) for _, amount, reason in amounts]
    else:
        parking = [each for each in amounts if rule.late == "alarm" or _age(each[0], now_ms) >= CORRECTED_MS]
        adjusting = [each for each in amounts if each not in parking]
    db.executemany(
        "INSERT INTO adjustment (meter, hour, amount, reason, author, at) VALUES (?, ?, ?, ?, ?, ?)",
        [(meter, hour, amount, reason, AUTHOR, now_ms) for hour, amount, reason in adjusting],
    )
    park(db, meter, parking, now_ms)
    hours = [hour for hour, _, _ in amounts]
    adjusted, parked = (sum(amount for _, amount, _ in each) for each in (adjusting, parking))
    return Late(meter, min(hours), max(hours), adjusted, parked, tell)


def _age(hour: int, now_ms: int) -> int:
    return now_ms - (hour + 1) * HOUR_MS


def _told_lately(db: Connection, meter: int, now_ms: int) -> bool:
    find = " UNION ALL ".join(
        f"SELECT 1 FROM {table} WHERE meter = ?1 AND at > ?2 AND at <= ?3 AND reason LIKE 'late:%'"  # noqa: S608 - constant names
        for table in ("adjustment", "parked")
    )
    return db.execute(f"{find} LIMIT 1", (meter, now_ms - TOLD_EVERY_MS, now_ms)).fetchone() is not None


def _shown(ms: int) -> str:
    return f"{from_ms(ms):%Y-%m-%d %H:%M:%S}Z"
