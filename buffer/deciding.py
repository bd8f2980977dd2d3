"""A person's decision about hours in doubt: what EnerKey shows is right, send again, post the difference, or never send.

After each decision the ledger says what EnerKey has. Of a consumption that is the hour with what has been posted of its
adjustments: where a person takes EnerKey's number for right, the difference becomes an adjustment that is there already.

Of a cumulative meter nothing is booked for that: its boundaries stand where the register is, so the one behind an hour that
is off evens it out, or the difference lies before them all and is EnerKey's own. Only behind the newest boundary it is
known how the next one will look (`correct`).

Every function works inside the caller's transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from buffer import doubts, journal, poison, postings
from buffer.corrections import CorrectionError, Done, Word
from buffer.model import HOUR_MS, from_micro, from_ms
from buffer.readings import note

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from buffer.doubts import Doubt
    from buffer.store import Connection

Decision = Literal["accept", "resend", "correct", "drop"]

FIRST, LAST = -(2**62), 2**62
SAID = {
    "accept": "EnerKey's number stands",
    "resend": "to be sent again",
    "correct": "the difference is posted",
    "drop": "never sent",
}


def decide(
    db: Connection, word: Word, decision: Decision, first: int = FIRST, last: int = LAST, settle_ms: int = 0
) -> Done:
    """Decide a meter's hours in doubt within [first, last]. Raises CorrectionError, with nothing written.

    A message whose fate is unknown is decided with its hours, as a whole. EnerKey shows what it has after `settle_ms`.
    """
    _settle_unknown(db, word, first, last)
    found = doubts.of_meter(db, word.meter, first, last)
    if decision == "resend" and (first, last) != (FIRST, LAST):
        found = sorted([*found, *_dropped(db, word, first, last)])
    if not found:
        raise CorrectionError(f"{word.name}: no hour of it is in doubt{_within(first, last)}")
    cumulative = _is_cumulative(db, word.meter)
    for doubt in found:
        _check(db, word, decision, doubt, cumulative=cumulative)
    for doubt in found:
        _DECISIONS[decision](db, word, doubt, cumulative)
    hours = [doubt.hour for doubt in found]
    doubts.over(db, word.meter, hours)
    poison.settled(db, word.meter, hours)
    if decision == "resend":
        unread = any(doubt.message is not None and doubt.seen_at is None for doubt in found)
        look_before_sending(db, word.meter, word.now_ms + settle_ms if unread else 0)
    return Done(_tell(db, word, decision, found), 0)


def look_before_sending(db: Connection, meter: int, readable_at: int) -> None:
    """Whatever a person believes: EnerKey is read before anything of the meter goes (R19), and not before this instant (ms)."""
    db.execute("UPDATE meter SET look_after = max(coalesce(look_after, 0), ?) WHERE id = ?", (readable_at, meter))


def _settle_unknown(db: Connection, word: Word, first: int, last: int) -> None:
    """A message that waits to be read back waits no longer: its hours are held, and decided with the others."""
    for message in journal.unknown_messages(db):
        inside = [hour for hour in message.values if first <= hour <= last]
        if message.meter != word.meter or not inside:
            continue
        if len(inside) < len(message.values):
            ends = f"{_hour(min(message.values))} to {_hour(max(message.values))}"
            words = f"a message of unknown fate is decided as a whole: --hour {_option(min(message.values), max(message.values))}"
            raise CorrectionError(f"{word.name}: the hours from {ends} were sent together, and {words}")
        fates: dict[int, journal.HourFate] = dict.fromkeys(message.values, "held")
        journal.settle_by_hour(db, message.id, fates, f"decided by {word.author}", word.now_ms)


def _dropped(db: Connection, word: Word, first: int, last: int) -> list[Doubt]:
    """Hours that were dropped, and shall be sent after all."""
    find = (
        "SELECT hour, consumption FROM hour WHERE meter = ?1 AND hour BETWEEN ?2 AND ?3 AND state = 'dropped'"
        " AND hour >= coalesce((SELECT taken_over FROM meter WHERE id = ?1), hour)"
    )
    rows = db.execute(find, (word.meter, first, last))
    return [doubts.Doubt(hour, "dropped", None, value, 0, None, None, None, "") for hour, value in rows]


# --- what may be decided ----------------------------------------------------------------------------------------------


def _check(db: Connection, word: Word, decision: Decision, doubt: Doubt, *, cumulative: bool) -> None:
    where = f"{word.name}, {_hour(doubt.hour)}"
    if decision == "correct" and doubt.seen_at is None:
        raise CorrectionError(
            f"{where}: nobody has read what EnerKey shows, so there is no difference to post; {_OTHER}"
        )
    if decision == "drop" and doubt.why == "audit":
        raise CorrectionError(f"{where}: EnerKey has accepted it; --accept leaves it as EnerKey shows it")
    if decision == "accept" and doubt.why == "sums":
        raise CorrectionError(f"{where}: it was never sent; --resend sends it as it is")
    if not cumulative:
        return
    if decision == "drop":
        raise CorrectionError(
            f"{where}: a cumulative meter leaves no single hour out, EnerKey derives it from the boundaries around it;"
            f" to begin anew: meter-gateway takeover {word.name} --at TIME"
        )
    if doubt.why == "foreign" and decision != "resend":
        raise CorrectionError(
            f"{where}: what EnerKey shows comes from another series of readings: meter-gateway takeover {word.name}"
        )
    later = "SELECT 1 FROM ledger WHERE meter = ? AND hour > ? LIMIT 1"
    if decision in {"resend", "correct"} and db.execute(later, (word.meter, doubt.hour)).fetchone():
        raise CorrectionError(
            f"{where}: EnerKey has later boundaries, none is sent behind them, and they even it out; --accept takes what it shows"
        )


_OTHER = "say --accept when EnerKey has it, --resend when it has not"


# --- the decisions ----------------------------------------------------------------------------------------------------


def _accept(db: Connection, word: Word, doubt: Doubt, cumulative: bool) -> None:  # noqa: FBT001 - one of a table's functions
    """EnerKey has the hour, with what it took along; the number that it shows is right."""
    off = _there(db, word, doubt, cumulative=cumulative)
    if off and not cumulative:
        _adjust(db, word, doubt.hour, off, "EnerKey's number stands", posted=off)


def _correct(db: Connection, word: Word, doubt: Doubt, cumulative: bool) -> None:  # noqa: FBT001
    """What EnerKey shows is one thing, what it should show another: the difference goes with the next message, once."""
    off = _there(db, word, doubt, cumulative=cumulative)
    if off:
        _adjust(db, word, doubt.hour, off, "what EnerKey shows beside the hour's own number", posted=off)
        _adjust(db, word, doubt.hour, -off, "posted to bring EnerKey to the hour's own number", posted=0)


def _there(db: Connection, word: Word, doubt: Doubt, *, cumulative: bool) -> int:
    """EnerKey has what it shows, and all that the message took along; how far that is from what it should have."""
    if doubt.message is not None:
        postings.post(db, doubt.message, [doubt.hour])
    else:
        postings.there(db, word.meter, {doubt.hour: doubt.adjusted} if doubt.adjusted else {}, own_hour=not cumulative)
    db.execute(
        "INSERT INTO ledger (meter, hour, accepted, message, at) VALUES (?, ?, ?, ?, ?) ON CONFLICT (meter, hour)"
        " DO UPDATE SET accepted = excluded.accepted, message = excluded.message, at = excluded.at",
        (word.meter, doubt.hour, doubt.at_enerkey, doubt.message, word.now_ms),
    )
    _move(db, word.meter, doubt.hour, "accepted")
    return doubt.at_enerkey - doubt.expected


def _resend(db: Connection, word: Word, doubt: Doubt, cumulative: bool) -> None:  # noqa: FBT001
    """EnerKey does not have it: it is again what it was before it was sent."""
    if doubt.why == "audit":
        db.execute("DELETE FROM ledger WHERE meter = ? AND hour = ?", (word.meter, doubt.hour))
        postings.undone(db, word.meter, doubt.hour, own_hour=not cumulative)
    db.execute(
        "UPDATE hour SET state = CASE"
        " WHEN EXISTS (SELECT 1 FROM ledger WHERE ledger.meter = hour.meter AND ledger.hour = hour.hour) THEN 'accepted'"
        " WHEN quality = 'missing' THEN 'missing' ELSE 'pending' END WHERE meter = ? AND hour = ?",
        (word.meter, doubt.hour),
    )


def _drop(db: Connection, word: Word, doubt: Doubt, cumulative: bool) -> None:  # noqa: FBT001, ARG001
    """Nothing more is sent of it (R24: only so). Of an hour that EnerKey has, that means what is still to be posted."""
    if doubt.accepted is None:
        _move(db, word.meter, doubt.hour, "dropped")
        return
    waits = postings.given_up(db, word.meter, doubt.hour)
    if waits:
        _adjust(db, word, doubt.hour, -waits, "not posted", posted=-waits)
    _move(db, word.meter, doubt.hour, "accepted")


_DECISIONS: dict[str, Callable[[Connection, Word, Doubt, bool], None]] = {
    "accept": _accept,
    "resend": _resend,
    "correct": _correct,
    "drop": _drop,
}


def _move(db: Connection, meter: int, hour: int, state: str) -> None:
    db.execute("UPDATE hour SET state = ? WHERE meter = ? AND hour = ?", (state, meter, hour))


def _adjust(db: Connection, word: Word, hour: int, amount: int, reason: str, *, posted: int) -> None:
    db.execute(
        "INSERT INTO adjustment (meter, hour, amount, reason, author, at, posted) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (word.meter, hour, amount, reason, word.author, word.now_ms, posted),
    )


def _is_cumulative(db: Connection, meter: int) -> bool:
    return bool(db.execute("SELECT push = 'cumulative' FROM meter WHERE id = ?", (meter,)).fetchone()[0])


# --- words ------------------------------------------------------------------------------------------------------------


def _tell(db: Connection, word: Word, decision: Decision, found: Sequence[Doubt]) -> str:
    """One event with the numbers of every hour, where they are few; else of the first."""
    hours = "1 h" if len(found) == 1 else f"{len(found)} h"
    said = f"{hours} from {_hour(found[0].hour)} to {_hour(found[-1].hour + 1)}: {SAID[decision]}"
    numbers = numbers_of(found[0])
    if numbers:
        said += f"; of the first, {numbers}" if len(found) > 1 else f"; {numbers}"
    note(db, word.now_ms, "info", word.name, f"{said} ({word.author})")
    return said


def numbers_of(doubt: Doubt) -> str:
    """Both numbers of a held hour, as far as they are known; "" where nothing was noted."""
    if doubt.why == "unnoted":
        return ""
    said = {
        "sent": f"sent was {shown(doubt.value)}",
        "before": f"to be sent was {shown(doubt.value)}",
        "foreign": f"to be sent was {shown(doubt.value)}",
        "audit": f"accepted was {shown(doubt.accepted or 0)}",
        "refused": f"EnerKey refused {shown(doubt.value)}{f' ({doubt.words})' if doubt.words else ''}",
        "sums": f"its own number is {shown(doubt.value)}",
    }.get(doubt.why, "")
    if doubt.accepted is not None and doubt.why != "audit":
        said += f" on top of {shown(doubt.accepted)}"
    if doubt.seen_at is None:
        return said
    return f"EnerKey shows {'nothing' if doubt.shown is None else shown(doubt.shown)}, {said}"


def shown(micro: int) -> str:
    """A value for people."""
    return f"{from_micro(micro).normalize():f}"


def _hour(hour: int) -> str:
    return f"{from_ms(hour * HOUR_MS):%Y-%m-%d %H:%M}Z"


def _option(first: int, last: int) -> str:
    return "..".join(f"{from_ms(hour * HOUR_MS):%Y-%m-%dT%H:%MZ}" for hour in (first, last))


def _within(first: int, last: int) -> str:
    return "" if (first, last) == (FIRST, LAST) else f" from {_hour(first)} to {_hour(last + 1)}"
