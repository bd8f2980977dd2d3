"""A driver's deliver(): from what sources said to durable readings in the meter's unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from buffer.late import add_and_book
from buffer.model import to_ms
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
    from drivers.base import Clock, Deliver, Now

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
        self, store: Store, meters: Mapping[str, CollectedMeter], clock: Clock, boot_id: str, on_stored: OnStored
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
            meter = self._meters[item.source]
            try:
                taken.append(_Taken(item, meter.id, to_micro(item.value, meter.factor)))
            except OverflowError:
                rejections.append(_too_large(connection, item))
        try:
            newest = self._store.write(lambda db: self._put(db, connection, taken, rejections))
        except StoreError as error:
            raise NotStored(str(error)) from error
        if newest:
            self._on_stored(newest, self._clock.now().boottime)  # from here on the readings rest (grace)

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
        rows = [StoredReading(to_ms(each.reading.at), each.meter, each.value, received) for each in taken]
        conflicts, late = add_and_book(db, rows, self._rules, received)
        self._tell(db, late, received)
        reject(db, [*rejections, *(self._conflict(connection, row, first) for row, first in conflicts)])
        newest: dict[int, int] = {}
        for each in taken:
            at = to_ms(each.reading.at)
            newest[each.meter] = max(at, newest.get(each.meter, at))
        return newest

    def _unplaced(self, taken: _Taken, now: Now) -> UnplacedReading:
        at, wall = to_ms(taken.reading.at), to_ms(now.wall)
        if taken.reading.stamped:
            return UnplacedReading(self._boot_id, round(now.boottime * 1000), taken.meter, taken.value, at, wall)
        boottime = round(now.boottime * 1000) - (wall - at)
        return UnplacedReading(self._boot_id, boottime, taken.meter, taken.value, None, wall)

    def _tell(self, db: Connection, late: Sequence[Late], now_ms: int) -> None:
        for each in late:
            if each.tell:
                told = late_told(each)
                note(db, now_ms, told.level, self._names[each.meter], told.text)

    def _conflict(self, connection: str, row: StoredReading, first: int) -> Rejection:
        return differing(row, first, connection, self._names.get(row.meter))


def _rejection(connection: str, item: Rejected) -> Rejection:
    return Rejection(to_ms(item.at), connection, item.source, item.reason, item.detail, item.payload)


def _too_large(connection: str, item: Reading) -> Rejection:
    return Rejection(
        to_ms(item.at), connection, item.source, "beyond what a counter can hold", "", str(item.value)[:200]
    )
