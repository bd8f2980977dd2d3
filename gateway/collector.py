"""A driver's deliver(): from what sources said to durable readings in the meter's unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from buffer.hours import implausible
from buffer.late import add_and_book
from buffer.model import to_ms
from buffer.placing import unbelievable
from buffer.readings import Rejection, StoredReading, UnplacedReading, add_unplaced, differing, note, reject
from buffer.store import StoreError
from drivers.base import NotStored
from drivers.reading import Reading, Rejected
from gateway.units import to_micro
from gateway.verdicts import late_told

if TYPE_CHECKING:
    from fractions import Fraction

    from buffer.hours import Rule
    from buffer.late import Late
    from buffer.store import Connection, Store
    from drivers.base import Deliver, Now
    from gateway.clock import GatewayClock

SET_MS = 1_000  # a reading's time and its boottime are further apart: the clock was set while it was on its way
OnStored = Callable[[Mapping[int, int], float], None]
"""`on_stored({meter: its newest instant in ms}, boottime)`, after the commit."""


@dataclass(frozen=True, slots=True)
class CollectedMeter:
    """What the collector must know of one meter. `factor` turns the source's unit into the meter's.

    `rule`: how its readings become hours, for what comes after its hour was closed; a counter needs none.
    """

    id: int
    factor: Fraction
    rule: Rule | None = None


class _Taken(NamedTuple):
    reading: Reading
    meter: int
    value: int


class Collector:
    """Turns readings into rows and hands them to the store; one for all drivers, called by each one's thread."""

    def __init__(
        self, store: Store, meters: Mapping[str, CollectedMeter], clock: GatewayClock, boot_id: str, on_stored: OnStored
    ) -> None:
        """`meters` by source id."""
        self._store = store
        self._meters = meters
        self._names = {meter.id: name for name, meter in meters.items()}
        self._rules = {meter.id: meter.rule for meter in meters.values() if meter.rule}
        self._clock = clock
        self._boot_id = boot_id
        self._on_stored = on_stored

    def deliver_for(self, connection: str) -> Deliver:
        """The `deliver` of one connection's driver."""
        return lambda batch: self._deliver(connection, batch)

    def _deliver(self, connection: str, batch: Sequence[Reading | Rejected]) -> None:
        """Make the whole batch durable, poison included; raises NotStored when none of it is."""
        taken: list[_Taken] = []
        rejections: list[Rejection] = []
        for item in batch:
            if isinstance(item, Rejected):
                rejections.append(_rejection(connection, item))
                continue
            found = self._taken(item)
            if isinstance(found, _Taken):
                taken.append(found)
            else:
                rejections.append(_refused(connection, item, found))
        try:
            newest = self._store.write(lambda db: self._put(db, connection, taken, rejections))
        except StoreError as error:
            raise NotStored(str(error)) from error
        if newest:
            self._on_stored(newest, self._clock.now().boottime)  # from here on the readings rest (grace)

    def _taken(self, item: Reading) -> _Taken | str:
        """A reading in the meter's unit, or why it can be none (R2)."""
        meter = self._meters[item.source]
        try:
            value = to_micro(item.value, meter.factor)
        except OverflowError:
            return "beyond what a counter can hold"
        reason = implausible(value, meter.rule) if meter.rule else ""
        return reason or _Taken(item, meter.id, value)

    def _put(
        self, db: Connection, connection: str, taken: Sequence[_Taken], rejections: Sequence[Rejection]
    ) -> dict[int, int]:
        """Store a batch; returns each meter's newest placed instant.

        The clock is looked at inside the transaction: whatever is not placed here is there when the closer, which
        writes through the same writer, places what waited for the clock.
        """
        now = self._clock.now()
        if not now.trusted:
            add_unplaced(db, [self._unplaced(each, now) for each in taken])
            reject(db, rejections)
            return {}
        received = to_ms(now.wall)
        placed: list[StoredReading] = []
        unchecked = self._clock.trust.changed_lately(now.boottime)  # drivers compare stamps with a trusted clock only
        for each in taken:
            why = unbelievable(to_ms(each.reading.at), received) if unchecked and each.reading.stamped else None
            if why:
                rejections = [*rejections, _rejected(connection, each, received, *why)]
            else:
                placed.append(self._placed(each, now))
        conflicts, late = add_and_book(db, placed, self._rules, received)
        self._tell(db, late, received)
        reject(db, [*rejections, *(self._conflict(connection, row, first) for row, first in conflicts)])
        newest: dict[int, int] = {}
        for row in placed:
            newest[row.meter] = max(row.at, newest.get(row.meter, row.at))
        return newest

    def _placed(self, taken: _Taken, now: Now) -> StoredReading:
        """At the source's time; at the time we gave it, or what that became if the clock was set since (R1)."""
        at, received = to_ms(taken.reading.at), to_ms(now.wall)
        boottime = None if taken.reading.stamped else self._clock.trust.boottime_of(taken.reading.at, now)
        if boottime is not None and abs(moved := _ms(now.boottime - boottime) - (received - at)) > SET_MS:
            return StoredReading(at - moved, taken.meter, taken.value, at)
        return StoredReading(at, taken.meter, taken.value, received)

    def _unplaced(self, taken: _Taken, now: Now) -> UnplacedReading:
        at, wall = to_ms(taken.reading.at), to_ms(now.wall)
        if taken.reading.stamped:
            return UnplacedReading(self._boot_id, _ms(now.boottime), taken.meter, taken.value, at, wall)
        boottime = _ms(self._clock.trust.boottime_of(taken.reading.at, now))
        return UnplacedReading(self._boot_id, boottime, taken.meter, taken.value, None, at)

    def _tell(self, db: Connection, late: Sequence[Late], now_ms: int) -> None:
        for each in late:
            if each.tell:
                name = self._names[each.meter]
                told = late_told(each)
                note(db, now_ms, told.level, name, told.text)

    def _conflict(self, connection: str, row: StoredReading, first: int) -> Rejection:
        return differing(row, first, connection, self._names.get(row.meter))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _rejected(connection: str, taken: _Taken, at: int, reason: str, detail: str) -> Rejection:
    return Rejection(at, connection, taken.reading.source, reason, detail, str(taken.reading.value)[:200])


def _rejection(connection: str, item: Rejected) -> Rejection:
    return Rejection(to_ms(item.at), connection, item.source, item.reason, item.detail, item.payload)


def _refused(connection: str, item: Reading, reason: str) -> Rejection:
    return Rejection(to_ms(item.at), connection, item.source, reason, "", str(item.value)[:200])
