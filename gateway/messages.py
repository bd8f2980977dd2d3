"""The next message of a meter: which of its hours go, and in which order (DESIGN 6). Reads the buffer, changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from buffer import journal, poison
from gateway import composing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buffer.journal import PendingHour
    from buffer.store import Connection


@dataclass(frozen=True, slots=True)
class PushedMeter:
    """What delivery must know of one meter."""

    id: int
    name: str
    enerkey_id: int
    family: composing.Family
    offset: float  # s after the hour


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
    push_estimated: bool = True
    whole_refusals: bool = False  # it is known that a refused message is refused as a whole: nothing of it is applied

    @property
    def tolerance(self) -> int:
        """What rounding may change in a value, in micro: half a unit of the last digit sent."""
        step: int = 10 ** (6 - self.decimals)
        return max(1, step // 2)


def draft_of(db: Connection, meter: PushedMeter, rules: DeliveryRules, most_hours: int) -> composing.Draft | None:
    """The next message of a meter as it would be sent now; None when nothing may be sent."""
    hours = _next_hours(db, meter, rules, most_hours)
    if not hours:
        return None
    if meter.family == "consumption":
        return composing.consumption_items(hours, decimals=rules.decimals, stamp=rules.hour_stamp)
    if journal.held_before(db, meter.id, hours[-1].hour):
        # A boundary in doubt, or refused, is settled by a person before later ones follow: without it EnerKey would
        # derive one number for two hours, and put energy into the wrong one of them.
        return None
    accepted = journal.in_ledger(db, meter.id, [row.hour - 1 for row in hours])
    first = not journal.ever_accepted(db, meter.id)
    return composing.cumulative_items(hours, accepted, first=first, decimals=rules.decimals)


def _next_hours(db: Connection, meter: PushedMeter, rules: DeliveryRules, most: int) -> Sequence[PendingHour]:
    """The oldest pending hours; while one that EnerKey refuses is looked for, half of those that it must be among.

    Hours that were not in the refused message do not wait for that, except boundaries, which go in strict order: there
    the half is the older one, so that what lies before the refused boundary goes.
    """
    suspects = poison.suspects(db, meter.id)
    if not suspects:
        return journal.pending(db, meter.id, most, estimated=rules.push_estimated)
    if meter.family == "consumption":
        others = journal.pending(db, meter.id, most, estimated=rules.push_estimated, suspect=False)
        if others:
            return others
    half = suspects[: max(1, len(suspects) // 2)]
    return [row for row in journal.pending(db, meter.id, most, since=half[0]) if row.hour in set(half)]
