"""The next message of a meter: which of its hours go, and in which order (DESIGN 6). Reads the buffer, changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from buffer import doubts, journal, poison, postings
from buffer.journal import PendingHour
from buffer.model import hour_of
from gateway import composing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from buffer.store import Connection


@dataclass(frozen=True, slots=True)
class PushedMeter:
    """What delivery must know of one meter."""

    id: int
    name: str
    enerkey_id: int
    family: composing.Family
    offset: float  # s after the hour
    account: str = ""


@dataclass(frozen=True, slots=True)
class DeliveryRules:
    """The operator's settings for delivery, in seconds and counts."""

    settle: float
    on_unknown: Literal["verify", "hold"]
    same_hour: Literal["sum", "replace"]
    hour_stamp: Literal["start", "end"]
    decimals: int
    most_hours: int  # per message
    requests_per_day: int
    burst: tuple[int, float] = (20, 10.0)  # requests within seconds
    push_estimated: bool = True
    old_hours: int = 6  # an hour that waited longer is read before it is sent; never less than two cadences
    whole_refusals: bool = False  # it is known that a refused message is refused as a whole: nothing of it is applied
    kept_decimals: int = 6  # as many as EnerKey keeps of a value

    @property
    def tolerance(self) -> int:
        """What rounding may change in a value, in micro: half a unit of the last digit that is sent, or kept there."""
        step: int = 10 ** (6 - min(self.decimals, self.kept_decimals))
        return max(1, step // 2)


class Waiting(NamedTuple):
    """The oldest hour for which a meter has something to send, and the newest one of its next message."""

    oldest: int
    newest: int


def waiting(db: Connection, meters: Iterable[PushedMeter], rules: DeliveryRules) -> dict[int, Waiting]:
    """What waits of each meter; those with an open message, with nothing, or that somebody else fills are left out.

    An adjustment to an accepted hour counts as one of the hour in which it was made: a device that is always late costs one
    message an hour at most. Of a cumulative meter adjustments wait for the next boundary.
    """
    by_number = {meter.id: meter for meter in meters}
    free = sorted(journal.without_open_message(db, by_number) - doubts.blocked(db))
    ends = journal.all_pending_ends(db, free, estimated=rules.push_estimated)
    made = postings.oldest(db, free)
    found: dict[int, Waiting] = {}
    for number in free:
        hours = list(ends.get(number, ()))
        if by_number[number].family == "cumulative":
            hours = hours[:1]
        elif number in made:
            hours.append(hour_of(made[number]))
        if hours:
            found[number] = Waiting(min(hours), max(hours))
    return found


def everything(db: Connection, meter: PushedMeter, rules: DeliveryRules, most: int) -> composing.Draft:
    """What a meter would send if one message could hold it, for a look at EnerKey before that."""
    hours = _hours(db, meter, rules, most)
    return _composed(db, meter, rules, hours, first=False)


def draft_of(db: Connection, meter: PushedMeter, rules: DeliveryRules, most_hours: int) -> composing.Draft | None:
    """The next message of a meter as it would be sent now; None when nothing may be sent."""
    hours = _next_hours(db, meter, rules, most_hours)
    if not hours or meter.id in doubts.blocked(db):
        return None
    if meter.family == "cumulative" and journal.held_before(db, meter.id, hours[-1].hour):
        # A boundary in doubt, or refused, is settled by a person before later ones follow: without it EnerKey would
        # derive one number for two hours, and put energy into the wrong one of them.
        return None
    draft = _composed(db, meter, rules, hours, first=not journal.ever_accepted(db, meter.id))
    return draft if draft.items else None


def _composed(
    db: Connection, meter: PushedMeter, rules: DeliveryRules, hours: Sequence[PendingHour], *, first: bool
) -> composing.Draft:
    if meter.family == "consumption":
        replaces = rules.same_hour == "replace"
        return composing.consumption_items(hours, decimals=rules.decimals, stamp=rules.hour_stamp, replaces=replaces)
    return composing.cumulative_items(
        hours,
        journal.in_ledger(db, meter.id, [row.hour - 1 for row in hours]),
        first=first,
        decimals=rules.decimals,
        posted=postings.posted(db, meter.id),
        unposted=postings.unposted(db, meter.id),
    )


def _next_hours(db: Connection, meter: PushedMeter, rules: DeliveryRules, most: int) -> Sequence[PendingHour]:
    """The pending hours that go next; while one that EnerKey refuses is looked for, half of those that it must be among.

    Boundaries go in strict order of time. Consumptions go newest first: after an outage people see what is now, and the
    backlog fills up behind it.

    Hours that were not in the refused message do not wait for that, except boundaries: there
    the half is the older one, so that what lies before the refused boundary goes.
    """
    near = poison.suspects(db, meter.id)
    if not near:
        return _hours(db, meter, rules, most)
    if meter.family == "consumption":
        others = _hours(db, meter, rules, most, but=poison.involved(db, meter.id))
        if others:
            return others
    half = near[: max(1, len(near) // 2)]
    return _hours(db, meter, rules, most, since=half[0], only=set(half))


def _hours(  # noqa: PLR0913 - which of them
    db: Connection,
    meter: PushedMeter,
    rules: DeliveryRules,
    most: int,
    *,
    since: int = -(2**62),
    but: Collection[int] = (),
    only: Collection[int] | None = None,
) -> list[PendingHour]:
    """Hours with something to send, spanning at most `most`."""
    newest = meter.family == "consumption" and only is None
    pending = journal.pending(
        db, meter.id, most, estimated=rules.push_estimated, suspect=not but, since=since, newest=newest
    )
    corrected: list[PendingHour] = []
    if meter.family == "consumption":
        corrected = [
            PendingHour(hour, 0, 0, unposted, accepted)
            for hour, unposted, accepted in postings.correctable(db, meter.id)
            if hour >= since and hour not in but and composing.sendable(unposted, rules.decimals)
        ]
    rows = sorted(row for row in [*pending, *corrected] if only is None or row.hour in only)
    if newest:
        return [row for row in rows if row.hour > rows[-1].hour - most]
    return [row for row in rows if row.hour < rows[0].hour + most]
