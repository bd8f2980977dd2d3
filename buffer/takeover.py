"""From an instant on a meter's hours are this gateway's; those before are left to whoever fills them at EnerKey.

The column `meter.taken_over` holds that hour; hours before it that EnerKey did not accept from here are `dropped`, also
those that are closed later. Every function works inside the caller's transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from buffer import doubts, poison
from buffer.corrections import CorrectionError, Done, Word
from buffer.deciding import look_before_sending, shown
from buffer.model import HOUR_MS, from_ms, hour_of
from buffer.readings import note

if TYPE_CHECKING:
    from buffer.doubts import Doubt
    from buffer.store import Connection

FURTHEST_MS = 31 * 24 * HOUR_MS  # so far ahead a takeover may be said
UNSENT = "state IN ('pending', 'held')"
_LEFT = (
    "meter = ? AND hour < ? AND state IN ('pending', 'held', 'missing') AND NOT EXISTS"
    " (SELECT 1 FROM ledger WHERE ledger.meter = hour.meter AND ledger.hour = hour.hour)"
)


class Standing(NamedTuple):
    """What is there before a takeover. Hours since the epoch.

    `taken_over`: from which hour on the meter is this gateway's, None where nobody said. `foreign`: the hours that somebody
    else fills. `unsent`: how many hours wait, or are held, and the first and last of them. `suggested`: from which hour on
    the meter can be taken over.
    """

    taken_over: int | None
    foreign: list[Doubt]
    unsent: int
    first: int | None
    last: int | None
    suggested: int | None


def standing(db: Connection, meter: int) -> Standing:
    """How a meter stands; changes nothing."""
    facts = "SELECT taken_over, push = 'cumulative' FROM meter WHERE id = ?"
    taken_over, cumulative = db.execute(facts, (meter,)).fetchone()
    foreign = [doubt for doubt in doubts.of_meter(db, meter) if doubt.why == "foreign"]
    count, first, last = db.execute(
        f"SELECT count(*), min(hour), max(hour) FROM hour WHERE meter = ? AND {UNSENT}",  # noqa: S608 - a constant text
        (meter,),
    ).fetchone()
    there = [doubt.hour for doubt in foreign if _is_there(doubt)]
    suggested = there[-1] + (2 if cumulative else 1) if there else None
    return Standing(taken_over, foreign, count, first, last, suggested)


def would_drop(db: Connection, meter: int, before: int) -> int:
    """How many closed hours would never be sent."""
    find = f"SELECT count(*) FROM hour WHERE {_LEFT}"  # noqa: S608 - a constant text
    return int(db.execute(find, (meter, before)).fetchone()[0])


def take_over(db: Connection, word: Word, at: int) -> Done:
    """From `at` (ms, a full hour) on, the meter's hours are sent; those before never. Raises CorrectionError."""
    hour = _checked(word, at)
    _check_free(db, word, hour)
    _check_foreign(db, word, hour)
    rows = db.execute(f"SELECT hour FROM hour WHERE {_LEFT}", (word.meter, hour)).fetchall()  # noqa: S608 - a constant text
    left = [row[0] for row in rows]
    db.execute(f"UPDATE hour SET state = 'dropped' WHERE {_LEFT}", (word.meter, hour))  # noqa: S608 - a constant text
    db.execute("UPDATE meter SET taken_over = ? WHERE id = ?", (hour, word.meter))
    doubts.over(db, word.meter, left)
    poison.settled(db, word.meter, left)
    look_before_sending(db, word.meter, 0)  # the other feed may have gone on since it was found
    counted = {0: "no closed hour", 1: "1 closed hour"}.get(len(left), f"{len(left)} closed hours")
    said = f"taken over: hours from {_hour(hour)} on are sent, those before never ({counted} left to the other feed)"
    note(db, word.now_ms, "info", word.name, f"{said} ({word.author})")
    return Done(said, 0)


def _checked(word: Word, at: int) -> int:
    if at % HOUR_MS:
        near = f"{_option(hour_of(at))} or {_option(hour_of(at) + 1)}"
        raise CorrectionError(f"{word.name}: a takeover begins with a full hour: --at {near}")
    if at > word.now_ms + FURTHEST_MS:
        raise CorrectionError(f"{word.name}: {_hour(hour_of(at))} is more than 31 days ahead: is the year right?")
    return hour_of(at)


def _check_free(db: Connection, word: Word, hour: int) -> None:
    """A message under way, or of unknown fate, may bring hours that would be left to the other feed."""
    find = "SELECT min(hour) FROM hour WHERE meter = ? AND state = 'claimed'"
    first = db.execute(find, (word.meter,)).fetchone()[0]
    if first is not None and first < hour:
        raise CorrectionError(
            f"{word.name}: a message with hours from {_hour(first)} on is not settled yet; try again when it is"
            f" (meter-gateway status), or decide it: meter-gateway resolve {word.name}"
        )


def _check_foreign(db: Connection, word: Word, hour: int) -> None:
    after = [doubt for doubt in doubts.of_meter(db, word.meter, hour) if doubt.why == "foreign" and _is_there(doubt)]
    if after:
        last = after[-1]
        raise CorrectionError(
            f"{word.name}: EnerKey shows {shown(last.shown or 0)} for {_hour(last.hour)}, which is later: take the meter over"
            f" from {_hour(last.hour + 1)} on at the earliest, or decide those hours: meter-gateway resolve {word.name}"
        )
    cumulative = db.execute("SELECT push = 'cumulative' FROM meter WHERE id = ?", (word.meter,)).fetchone()[0]
    before = [doubt for doubt in doubts.of_meter(db, word.meter, hour - 1, hour - 1) if _is_there(doubt)]
    if cumulative and before:
        raise CorrectionError(
            f"{word.name}: the hour before {_hour(hour)} is in doubt, so EnerKey may have a reading at that instant already,"
            f" and there must never be two: --at {_option(hour + 1)}"
        )


def _is_there(doubt: doubts.Doubt) -> bool:
    """Whether EnerKey may have the hour. One that only begins with somebody else's boundary is held, and not there."""
    return doubt.why != "foreign" or doubt.shown is not None


def _hour(hour: int) -> str:
    return f"{from_ms(hour * HOUR_MS):%Y-%m-%d %H:%M}Z"


def _option(hour: int) -> str:
    return f"{from_ms(hour * HOUR_MS):%Y-%m-%dT%H:%MZ}"
