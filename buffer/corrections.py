"""What a person knows better: replaced, retired and estimated meters. Dated, with an author, never altering what is closed.

Where the hour is still open, the person's word becomes an epoch, which `counter.judge` follows. Where it is closed already (R8),
the energy that was not booked becomes an adjustment. Values are micro, instants ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from buffer.closing import freeze, frozen_of
from buffer.counter import Epoch
from buffer.frozen import Track
from buffer.model import HOUR_MS, from_micro, from_ms, hour_of
from buffer.readings import MeterRow, newest_per_meter, note, register_meters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buffer.counter import Verdict
    from buffer.frozen import Sample
    from buffer.store import Connection

GATEWAY = "gateway"  # the author of what the judgement found by itself
FOUND_WITHIN_MS = 7 * 24 * HOUR_MS  # a replacement is looked for so long after the instant that a person gives


class CorrectionError(Exception):
    """What was said does not fit to what the meter said; the sentence names both."""


class Word(NamedTuple):
    """Who says something about a meter, and when."""

    meter: int
    name: str
    author: str
    now_ms: int


class Done(NamedTuple):
    """What became of a correction: a sentence, and the instant up to which the meter may be closed now."""

    text: str
    reaches: int


def replaced(db: Connection, word: Word, at: int, old_final: int, new_initial: int) -> Done:
    """At this instant the register, which stood at `old_final`, gave way to one at `new_initial`: both sides are booked."""
    _check_register(db, word, at, old_final, new_initial)
    said = f"meter replaced at {_time(at)}: the old one stood at {_value(old_final)}, the new one began at {_value(new_initial)}"
    frozen = frozen_of(db, word.meter)
    if frozen is None or at > frozen.edge * HOUR_MS:
        _enter(db, word, Epoch(at, old_final, new_initial), said)
        return Done(said, _newest(db, word.meter) or at)
    found = db.execute(
        "SELECT id, old_final, new_initial FROM epoch WHERE meter = ? AND at >= ? AND at < ? AND old_final IS NOT NULL"
        " AND new_initial IS NOT NULL ORDER BY at LIMIT 1",
        (word.meter, at, at + FOUND_WITHIN_MS),
    ).fetchone()
    if found is None:
        raise CorrectionError(
            f"{word.name}: that hour is closed, and no replacement was noticed there or in the week after"
        )
    epoch, before, after = found
    amount = (old_final - before) + (after - new_initial)
    db.execute(
        "UPDATE epoch SET old_final = ?, new_initial = ?, author = ?, recorded_at = ?, reason = ? WHERE id = ?",
        (old_final, new_initial, word.author, word.now_ms, said, epoch),
    )
    return Done(_adjust(db, word, hour_of(at), amount, said), 0)


def retired(db: Connection, word: Word, at: int, final: int | None) -> Done:
    """The meter is gone since this instant; its last value closes what is left open, until the end of that hour."""
    last = _last(db, word, at)
    value = last[1] if final is None else final
    if value < last[1]:
        raise CorrectionError(f"{word.name}: it said {_shown(last)} already, more than {_value(value)}")
    end = -(-at // HOUR_MS) * HOUR_MS
    said = f"meter retired at {_time(at)} with {_value(value)}"
    _enter(db, word, Epoch(at, value, value, final=True), said)
    if end > at:
        _enter(db, word, Epoch(end, value, final=True), said)
    return Done(said, end)


def estimated(db: Connection, word: Word, since: int, until: int, total: int) -> Done:
    """A dead meter's energy between two full hours, as a person estimates it."""
    if since % HOUR_MS or until % HOUR_MS or until <= since:
        raise CorrectionError(f"{word.name}: from and to must be full hours, one after the other")
    if total < 0:
        raise CorrectionError(f"{word.name}: an estimate is not negative")
    value = _last(db, word, since)[1]
    said = f"estimated {_value(total)} from {_time(since)} to {_time(until)}"
    _enter(db, word, Epoch(since, value, value, final=True), said)
    _enter(db, word, Epoch(until, value + total, final=True), said)
    return Done(said, until)


def booked(db: Connection, word: Word, into: int | None) -> Done:
    """What is parked becomes an adjustment to its own hours, or all of it to the hour of one instant."""
    rows = _take_parked(db, word)
    total = sum(amount for _, amount, _ in rows)
    db.executemany(
        "INSERT INTO adjustment (meter, hour, amount, reason, author, at) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                word.meter,
                hour if into is None else hour_of(into),
                amount,
                f"was parked: {reason}",
                word.author,
                word.now_ms,
            )
            for hour, amount, reason in rows
        ],
    )
    where = (
        f"its hours from {_hour(rows[0][0])} to {_hour(rows[-1][0])}" if into is None else f"the hour of {_time(into)}"
    )
    said = f"{_value(total)} that were parked are booked to {where}"
    note(db, word.now_ms, "info", word.name, f"{said} ({word.author})")
    return Done(said, 0)


def dropped(db: Connection, word: Word) -> Done:
    """What is parked was no energy: it is taken out, and the event keeps the amounts."""
    rows = _take_parked(db, word)
    total = sum(amount for _, amount, _ in rows)
    said = f"{_value(total)} that were parked from {_hour(rows[0][0])} to {_hour(rows[-1][0])} are dropped"
    note(db, word.now_ms, "info", word.name, f"{said} ({word.author})")
    return Done(said, 0)


def _take_parked(db: Connection, word: Word) -> list[tuple[int, int, str]]:
    find = "DELETE FROM parked WHERE meter = ? RETURNING hour, amount, reason"
    rows = sorted(db.execute(find, (word.meter,)).fetchall())
    if not rows:
        raise CorrectionError(f"{word.name}: nothing of it is parked")
    return rows


def enter_meters(db: Connection, rows: Sequence[MeterRow], now_ms: int) -> dict[str, int]:
    """Enter the configured meters; one whose source is another register now begins a new epoch. Numbers by name.

    No energy is booked from the last reading of the old register to the first of the new one. A meter that the
    database knew before registers were noted is taken as it is.
    """
    find = "SELECT name, kind, register FROM meter WHERE register <> ''"
    before = {name: (kind, register) for name, kind, register in db.execute(find)}
    numbers = register_meters(db, rows)
    for row in rows:
        kind, register = before.get(row.name, (row.kind, row.register))
        last = _newest(db, numbers[row.name])
        if last is None or (kind, register) == (row.kind, row.register):
            continue
        word = Word(numbers[row.name], row.name, "configuration", now_ms)
        reason = (
            f"the source changed from {kind}, {register} to {row.kind}, {row.register}: nothing is booked in between"
        )
        _enter(db, word, Epoch(last + 1), reason)
        if kind != row.kind:
            _change_kind(db, word.meter, row.kind, last)
    return numbers


def _change_kind(db: Connection, meter: int, kind: str, last: int) -> None:
    """The readings so far are of another kind: they are no inputs any more, and the total goes on from the frozen boundary."""
    db.execute("UPDATE meter SET since = ? WHERE id = ?", (last, meter))
    frozen = frozen_of(db, meter)
    if frozen is None:
        return
    edge = frozen.edge * HOUR_MS
    counter = frozen._replace(tail=(edge, frozen.boundary), track=Track(0, edge, frozen.boundary, awaits=True))
    freeze(db, meter, (), counter if kind == "counter" else frozen._replace(tail=None, track=None), 0)


def noticed(db: Connection, word: Word, verdict: Verdict) -> None:
    """The judgement found a new register by itself; a person may still say what it could not know."""
    if verdict.kind not in {"replaced", "reset"}:
        return
    at, value = verdict.samples[0]
    _insert(db, word, Epoch(at, verdict.before[1], value if verdict.kind == "replaced" else 0), verdict.kind)


def newest_ends(db: Connection) -> dict[int, int]:
    """Up to which instant a person's word closes each meter that has one."""
    return dict(db.execute("SELECT meter, max(at) FROM epoch WHERE final GROUP BY meter"))


# --- what the meter said ----------------------------------------------------------------------------------------------


def _check_register(db: Connection, word: Word, at: int, old_final: int, new_initial: int) -> None:
    near = "SELECT at, value FROM reading WHERE meter = ? AND at {} ? AND at > ? AND at < ? ORDER BY at {} LIMIT 1"
    window = (at - FOUND_WITHIN_MS, at + FOUND_WITHIN_MS)
    before = db.execute(near.format("<=", "DESC"), (word.meter, at, *window)).fetchone()
    after = db.execute(near.format(">", "ASC"), (word.meter, at, *window)).fetchone()
    if before and before[1] > old_final:
        raise CorrectionError(
            f"{word.name}: at {_time(at)} the last reading was {_shown(before)}, more than the final {_value(old_final)}"
        )
    if after and after[1] < new_initial:
        raise CorrectionError(
            f"{word.name}: after {_time(at)} the first reading was {_shown(after)}, less than the initial {_value(new_initial)}"
        )


def _last(db: Connection, word: Word, at: int) -> Sample:
    """The newest reading, which must not be later than the instant, with its hours still open."""
    find = "SELECT at, value FROM reading WHERE meter = ? AND at = ?"
    newest = _newest(db, word.meter)
    found: Sample | None = db.execute(find, (word.meter, newest)).fetchone() if newest is not None else None
    if found is None:
        raise CorrectionError(f"{word.name}: it never had a reading")
    if found[0] > at:
        raise CorrectionError(f"{word.name}: it still had a reading later than that: {_shown(found)}")
    frozen = frozen_of(db, word.meter)
    if frozen is None or frozen.track is None:
        raise CorrectionError(f"{word.name}: only a counter that has an hour to go on from can be ended so")
    return found


def _newest(db: Connection, meter: int) -> int | None:
    return newest_per_meter(db, [meter]).get(meter)


# --- what is written --------------------------------------------------------------------------------------------------


def _enter(db: Connection, word: Word, epoch: Epoch, reason: str) -> None:
    _insert(db, word, epoch, reason)
    note(db, word.now_ms, "info", word.name, f"{reason} ({word.author})")


def _insert(db: Connection, word: Word, epoch: Epoch, reason: str) -> None:
    """A later word for the same instant takes the place of an earlier one; the judgement never overrules a person."""
    db.execute(
        "INSERT INTO epoch (meter, at, old_final, new_initial, final, reason, author, recorded_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (meter, at) DO UPDATE SET old_final = excluded.old_final,"
        " new_initial = excluded.new_initial, final = excluded.final, reason = excluded.reason, author = excluded.author,"
        " recorded_at = excluded.recorded_at WHERE excluded.author <> ?",
        (word.meter, *epoch, reason, word.author, word.now_ms, GATEWAY),
    )


def _adjust(db: Connection, word: Word, hour: int, amount: int, reason: str) -> str:
    db.execute(
        "INSERT INTO adjustment (meter, hour, amount, reason, author, at) VALUES (?, ?, ?, ?, ?, ?)",
        (word.meter, hour, amount, reason, word.author, word.now_ms),
    )
    said = f"{reason}; the hour is closed, so {_value(amount)} is an adjustment to it"
    note(db, word.now_ms, "info", word.name, f"{said} ({word.author})")
    return said


def _value(micro: int) -> str:
    return f"{from_micro(micro).normalize():f}"


def _time(ms: int) -> str:
    return f"{from_ms(ms):%Y-%m-%d %H:%M:%S}Z"


def _hour(hour: int) -> str:
    return f"{from_ms(hour * HOUR_MS):%Y-%m-%d %H:%M}Z"


def _shown(sample: Sample) -> str:
    return f"{_value(sample[1])} ({_time(sample[0])})"
