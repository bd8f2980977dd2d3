"""What EnerKey's answers prove. Pure: a fate and the values that are seen afterwards, to a finding or to none.

`seen` maps an hour, counted from the one a value was stamped with, to what is there more than before (micro). `shift` is
where a value stamped with the beginning of an hour was seen: 0, or -1 where stamps are ends. What could also have another
cause is never concluded: a finding without a value was not found out.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from buffer.model import MICRO, Accepted, Refused, from_micro, round_half_up
from gateway.probing.plan import DIGITS, FIRST, LESS, LEVEL, SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buffer.model import Fate

    Seen = Mapping[int, int]

MOST_DECIMALS = 6


class Proof(NamedTuple):
    """One answer. `value` is None where it was not found out; `words` say what was seen."""

    step: str
    name: str
    value: str | None
    words: str


class Heard(NamedTuple):
    """What an answer told of the rate limit: what was asked, and the calls left (None: not told)."""

    what: str
    remaining: int | None
    limited: bool = False


def lag(seconds: float | None) -> Proof:
    """P2: how long it took until what was sent could be seen."""
    if seconds is None:
        return Proof("P2", "lag", None, "what was sent has not shown")
    return Proof("P2", "lag", f"{seconds:.1f}", f"what is sent shows after {seconds:.1f} s at the latest")


def hour_stamp(seen: Seen) -> Proof:
    """P2: which end of its hour a stamp on the full hour means."""
    value = {0: "start", -1: "end"}.get(next(iter(seen))) if len(seen) == 1 else None
    words = (
        f"a stamp is taken for the {value} of its hour" if value else f"found {_shown(seen)} around the hour stamped"
    )
    return Proof("P2", "hour_stamp", value, words)


def same_hour(fate: Fate, before: int, now: int) -> Proof:
    """P3: a second value of an hour; `before` and `now`: what its hour had before and has after it."""
    return Proof("P3", "same_hour", *_second(fate, now, before, before + SECOND, SECOND))


def same_message(fate: Fate, seen: Seen, shift: int) -> Proof:
    """P4: two values of one hour in one message."""
    if isinstance(fate, Refused):
        value = None if seen else "reject"
        return Proof("P4", "same_message", value, f"two values of one hour in one message: {_said(fate)}")
    now = seen.get(shift, 0)
    values = {FIRST + SECOND: "sum", SECOND: "replace", FIRST: "first-wins"}
    value = values.get(now) if len(seen) == 1 else None
    return Proof("P4", "same_message", value, f"3 and 5 for one hour in one message make {_number(now)}")


def negatives(fate: Fate, before: int, now: int) -> Proof:
    """P5: a negative value, to an hour that had `before`."""
    if isinstance(fate, Refused) and now == before:
        return Proof("P5", "negatives", "refused", f"a negative value: {_said(fate)}")
    if now in {before + LESS, LESS}:
        return Proof("P5", "negatives", "accepted", "negative values are taken")
    if isinstance(fate, Accepted) and now == before:
        return Proof("P5", "negatives", "ignored", "a negative value is answered as accepted and changes nothing")
    return Proof("P5", "negatives", None, f"{_number(before)} and -2 make {_number(now)}; {_said(fate)}")


def decimals(fate: Fate, seen: Seen, shift: int) -> Proof:
    """P6: how many decimals of a value are kept."""
    now = seen.get(shift)
    for kept in range(MOST_DECIMALS, -1, -1):
        step: int = 10 ** (6 - kept)
        if now is not None and now in {round_half_up(DIGITS, step) * step, DIGITS // step * step}:
            return Proof("P6", "decimals", str(kept), f"of 1.123456 is kept {_number(now)}")
    return Proof("P6", "decimals", None, f"1.123456 shows as {_number(now)}; {_said(fate)}")


def stamped(name: str, label: str, fate: Fate, seen: Seen) -> Proof:
    """P7: the hour in which a value lands whose stamp lies within an hour."""
    if isinstance(fate, Refused) and not seen:
        return Proof("P7", name, "refused", f"a stamp at {label}: {_said(fate)}")
    places = {(0, FIRST): "own", (1, FIRST): "next", (-1, FIRST): "previous"}
    value = places.get(next(iter(seen.items()))) if len(seen) == 1 else None
    where = f"lands in the {value} hour" if value else f"shows as {_shown(seen)}"
    return Proof("P7", name, value, f"a stamp at {label} {where}")


def offset(fate: Fate, seen: Seen, shift: int) -> Proof:
    """P7: whether a stamp with +02:00 is the same instant as in UTC."""
    if isinstance(fate, Refused) and not seen:
        return Proof("P7", "stamp_offset", "refused", f"a stamp with +02:00: {_said(fate)}")
    if seen == {shift: FIRST}:
        return Proof("P7", "stamp_offset", "understood", "a stamp with +02:00 is the same instant as in UTC")
    if seen == {shift + 2: FIRST}:
        return Proof("P7", "stamp_offset", "ignored", "of a stamp with +02:00 the offset is not heard")
    return Proof("P7", "stamp_offset", None, f"a stamp with +02:00 shows as {_shown(seen)}")


def repeated(fate: Fate, seen: Seen) -> Proof:
    """P8: the hours 0 and 1 have the same local name, and were sent 3 and 5."""
    if seen == {0: FIRST, 1: SECOND}:
        return Proof("P8", "repeated_hour", "apart", "the two hours of one local name in October stay apart")
    together = len(seen) == 1 and set(seen.values()) <= {FIRST + SECOND, SECOND, FIRST} and isinstance(fate, Accepted)
    words = "the two hours of one local name in October become one: in that night one hour is wrong"
    if together:
        return Proof("P8", "repeated_hour", "merged", words)
    return Proof("P8", "repeated_hour", None, f"the two hours of one local name show as {_shown(seen)}; {_said(fate)}")


def refusal(fate: Fate, kept: int, what: str, *, understood: bool = True) -> Proof:
    """P9: `kept` of the two valid items show after their message, which had `what` between them, was answered.

    Of what is not even `understood` the whole message may be unreadable: that proves nothing of other items.
    """
    if not (isinstance(fate, Refused) and fate.why == "data"):
        return Proof("P9", "refusal", None, f"a message with {what}: {_said(fate)}; {kept} of 2 valid items show")
    if kept:
        return Proof(
            "P9",
            "refusal",
            "partial",
            f"a message with {what} is refused, and {kept} of its 2 valid items are applied all the same",
        )
    whole = f"a message with {what} is refused as a whole"
    if not understood:
        return Proof("P9", "refusal", None, f"{whole}; whether that is so for values that are understood is open")
    return Proof("P9", "refusal", "whole", whole)


def readings(fates: Sequence[Fate], before: Seen, seen: Seen) -> list[Proof]:
    """P10: the register stood at 0, 3 after 1 h and 8 after 3 h (`before`); then came 3 again, 4 at 2 h, and -1 at 5 h."""
    again, older, lower = fates
    return [_again(again, seen), _older(older, before.get(2, 0), seen.get(2, 0)), _lower(lower, seen)]


def _again(fate: Fate, seen: Seen) -> Proof:
    now = seen.get(0, 0)
    if isinstance(fate, Refused) and now == FIRST:
        return Proof("P10", "reading_again", "refused", f"an identical reading: {_said(fate)}")
    if isinstance(fate, Accepted) and now == FIRST:
        return Proof("P10", "reading_again", "harmless", "an identical reading changes nothing")
    if now == FIRST + LEVEL + FIRST:
        return Proof(
            "P10", "reading_again", "adds", "an identical reading is added to the first: its hour is far too large"
        )
    return Proof(
        "P10", "reading_again", None, f"after an identical reading its hour shows {_number(now)}; {_said(fate)}"
    )


def _older(fate: Fate, before: int, now: int) -> Proof:
    if now == 4 * MICRO:  # from 4 to 8
        return Proof("P10", "reading_older", "placed", "a reading older than the newest takes its place")
    if isinstance(fate, Refused) and now == before:
        return Proof("P10", "reading_older", "refused", f"a reading older than the newest: {_said(fate)}")
    if isinstance(fate, Accepted) and now == before:
        return Proof("P10", "reading_older", "ignored", "a reading older than the newest changes nothing")
    return Proof("P10", "reading_older", None, f"after an older reading its hour shows {_number(now)}; {_said(fate)}")


def _lower(fate: Fate, seen: Seen) -> Proof:
    now = seen.get(3, 0) + seen.get(4, 0)
    if now == -9 * MICRO:  # from 8 to -1
        return Proof("P10", "reading_lower", "negative", "a reading lower than the last gives negative hours")
    if isinstance(fate, Refused) and not now:
        return Proof("P10", "reading_lower", "refused", f"a reading lower than the last: {_said(fate)}")
    if isinstance(fate, Accepted) and not now:
        return Proof("P10", "reading_lower", "nothing", "a reading lower than the last gives hours without energy")
    return Proof("P10", "reading_lower", None, f"after a lower reading its hours show {_number(now)}; {_said(fate)}")


def limits(heard: Sequence[Heard], burst: str) -> list[Proof]:
    """P11: what all answers together told of the rate limit."""
    told = [each for each in heard if each.remaining is not None]
    met = sum(each.limited for each in heard)
    words = f"{met} requests were answered 429" if met else f"no 429 within {burst}"
    pace = Proof("P11", "burst", "met" if met else "not met", words)
    if not told:
        return [Proof("P11", "rate_limit", "absent", "no answer had X-Rate-Limit"), pace]
    known = Proof("P11", "rate_limit", "present", f"X-Rate-Limit is told; {told[-1].remaining} were left at the end")
    return [known, _counted("push", heard), _counted("read", heard), pace]


def _counted(what: str, heard: Sequence[Heard]) -> Proof:
    """Whether requests of this sort count: somebody else with the same key makes the number fall as well, now and then."""
    falls = [
        before.remaining - after.remaining
        for before, after in pairwise(heard)
        if after.what == what and before.remaining is not None and after.remaining is not None
    ]
    none, some = sum(fall <= 0 for fall in falls), sum(fall > 0 for fall in falls)
    value = None if none == some else "counted" if some > none else "free"
    told = {"counted": "counts", "free": "does not count", None: "may count or not"}[value]
    return Proof("P11", f"limit_{what}", value, f"a {what} {told} for the limit ({some} of {none + some} made it fall)")


def largest(days: int | None, words: str) -> Proof:
    """P12: the days of hourly values that one message may hold."""
    return Proof("P12", "largest_message", None if days is None else str(days), words)


def taken(name: str, label: str, fate: Fate, seen: Seen) -> Proof:
    """P13: an hour in the future, or one that is too old."""
    if isinstance(fate, Refused) and not seen:
        return Proof("P13", name, "refused", f"{label}: {_said(fate)}")
    if seen:
        return Proof("P13", name, "accepted", f"{label} is taken")
    if isinstance(fate, Accepted):
        return Proof("P13", name, "ignored", f"{label} is answered as accepted and does not show")
    return Proof("P13", name, None, f"{label}: {_said(fate)}")


def unknown_meter(fate: Fate | None, words: str = "") -> Proof:
    """P13: how a meter that is not there is refused; None where it could not be asked safely."""
    if isinstance(fate, Refused):
        return Proof("P13", "unknown_meter", str(fate.status), f"a meter that is not there: {_said(fate)}")
    said = words or (f"a value for it: {_said(fate)}" if fate else "not asked")
    return Proof("P13", "unknown_meter", None, f"a meter that is not there: {said}")


def _second(fate: Fate, now: int, kept: int, added: int, replaced: int) -> tuple[str | None, str]:
    if isinstance(fate, Refused) and now == kept:
        return "reject", f"a second value of an hour: {_said(fate)}"
    if now == added:
        return "sum", "a second value of an hour is added to the first"
    if now == replaced:
        return "replace", "a second value of an hour takes the place of the first"
    if now == kept and isinstance(fate, Accepted):
        return "first-wins", "a second value of an hour is answered as accepted and changes nothing"
    return None, f"{_number(kept)} and then 5 make {_number(now)}; {_said(fate)}"


def _said(fate: Fate) -> str:
    match fate:
        case Accepted():
            return f"accepted (HTTP {fate.status})"
        case Refused():
            return f"refused (HTTP {fate.status}: {fate.text})" if fate.text else f"refused (HTTP {fate.status})"
        case _:
            return f"no certain answer ({fate.text})"


def _shown(seen: Seen) -> str:
    return ", ".join(f"{_number(micro)} at {hour:+d} h" for hour, micro in sorted(seen.items())) or "nothing"


def _number(micro: int | None) -> str:
    return "nothing" if micro is None else f"{from_micro(micro).normalize():f}"
