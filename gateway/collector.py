"""A driver's deliver(): from what sources said to durable readings in the meter's unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from buffer.model import from_micro, to_ms
from buffer.readings import Rejection, StoredReading, UnplacedReading, add, add_unplaced, reject
from buffer.store import Connection, Store, StoreError
from drivers.base import Clock, Deliver, NotStored, Now
from drivers.reading import Reading, Rejected
from gateway.units import to_micro

OnStored = Callable[[Mapping[int, int], float], None]
"""`on_stored({meter: its newest instant in ms}, boottime)`, after the commit."""


@dataclass(frozen=True, slots=True)
class CollectedMeter:
    """What the collector must know of one meter. `factor` turns the source's unit into the meter's."""

    id: int
    factor: Fraction


class Collector:
    """Turns readings into rows and hands them to the store; one for the whole gateway, called by every driver's thread."""

    def __init__(
        self, store: Store, meters: Mapping[str, CollectedMeter], clock: Clock, boot_id: str, on_stored: OnStored
    ) -> None:
        """`meters` by source id."""
        self._store = store
        self._meters = meters
        self._clock = clock
        self._boot_id = boot_id
        self._on_stored = on_stored

    def deliver_for(self, connection: str) -> Deliver:
        """The `deliver` of one connection's driver."""
        return lambda batch: self._deliver(connection, batch)

    def _deliver(self, connection: str, batch: Sequence[Reading | Rejected]) -> None:
        """Make the whole batch durable, poison included; raises NotStored when none of it is."""
        now = self._clock.now()
        rejections: list[Rejection] = []
        rows: list[StoredReading] = []
        unplaced: list[UnplacedReading] = []
        for item in batch:
            if isinstance(item, Rejected):
                rejections.append(_rejection(connection, item))
                continue
            meter = self._meters[item.source]
            try:
                value = to_micro(item.value, meter.factor)
            except OverflowError:
                rejections.append(_too_large(connection, item))
                continue
            if now.trusted:
                rows.append(StoredReading(to_ms(item.at), meter.id, value, to_ms(now.wall)))
            else:
                unplaced.append(self._unplaced(item, meter.id, value, now))
        self._store_all(connection, rows, unplaced, rejections)
        if rows:
            self._on_stored(_newest(rows), now.boottime)

    def _unplaced(self, item: Reading, meter: int, value: int, now: Now) -> UnplacedReading:
        at = to_ms(item.at)
        boottime = round(now.boottime * 1000) - (0 if item.stamped else to_ms(now.wall) - at)
        return UnplacedReading(self._boot_id, boottime, meter, value, at if item.stamped else None, to_ms(now.wall))

    def _store_all(
        self,
        connection: str,
        rows: Sequence[StoredReading],
        unplaced: Sequence[UnplacedReading],
        rejections: Sequence[Rejection],
    ) -> None:
        def work(db: Connection) -> None:
            conflicts = add(db, rows)
            if unplaced:
                add_unplaced(db, unplaced)
            if rejections or conflicts:
                reject(db, [*rejections, *(self._conflict(connection, row, first) for row, first in conflicts)])

        try:
            self._store.write(work)
        except StoreError as error:
            raise NotStored(str(error)) from error

    def _conflict(self, connection: str, row: StoredReading, first: int) -> Rejection:
        source = next((name for name, meter in self._meters.items() if meter.id == row.meter), None)
        detail = f"{from_micro(first)} came first and stays"
        return Rejection(
            row.received, connection, source, "another value for the same instant", detail, str(from_micro(row.value))
        )


def _newest(rows: Sequence[StoredReading]) -> dict[int, int]:
    newest: dict[int, int] = {}
    for row in rows:
        newest[row.meter] = max(row.at, newest.get(row.meter, row.at))
    return newest


def _rejection(connection: str, item: Rejected) -> Rejection:
    return Rejection(to_ms(item.at), connection, item.source, item.reason, item.detail, item.payload)


def _too_large(connection: str, item: Reading) -> Rejection:
    return Rejection(to_ms(item.at), connection, item.source, "beyond what a counter can hold", "", str(item.value)[:200])
