"""A driver's deliver(): from what sources said to durable readings in the meter's unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from buffer.hours import implausible
from buffer.late import add_and_book
from buffer.model import to_ms
from buffer.placing import unbelievable
from buffer.readings import Rejection, UnplacedReading, add_unplaced, differing, note, reject
from buffer.ring import Ring
from buffer.store import Full, StoreError
from drivers.base import NotStored
from drivers.reading import Reading, Rejected
from gateway.units import micro_by
from gateway.verdicts import late_told

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal
    from fractions import Fraction

    from buffer.hours import Rule
    from buffer.late import Late
    from buffer.readings import Row, StoredReading
    from buffer.store import Connection, Store
    from drivers.base import Deliver, Now
    from gateway.clock import GatewayClock

FLUSHED_AT_ONCE = 1_000  # readings of one commit
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
    micro: Callable[[Decimal], int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """The factor is the same for every reading."""
        object.__setattr__(self, "micro", micro_by(self.factor))


_Taken = tuple[Reading, int, int]  # the meter's number, micro


class _Batch(NamedTuple):
    """What one connection gave: readings in their meters' units, and what is none."""

    connection: str
    taken: Sequence[_Taken]
    rejections: Sequence[Rejection]


class _Held(NamedTuple):
    """What waits for the store."""

    connection: str
    taken: _Taken


class Collector:
    """Turns readings into rows and hands them to the store; one for all drivers, called by any thread.

    What cannot be stored is nobody's but the driver's (R3). Of what was polled the readings that hours need stay in memory
    besides, for longer than a driver keeps everything, and are stored as soon as the store takes them (R27).
    """

    def __init__(
        self, store: Store, meters: Mapping[str, CollectedMeter], clock: GatewayClock, boot_id: str, on_stored: OnStored
    ) -> None:
        """`meters` by source id."""
        self._store = store
        self._meters = meters
        self._names = {meter.id: name for name, meter in meters.items()}
        self._rules = {
            meter.id: meter.rule for meter in meters.values() if meter.rule and meter.rule.kind != "counter"
        }  # of those whose every reading is energy
        self._clock = clock
        self._boot_id = boot_id
        self._on_stored = on_stored
        self._ring: Ring[_Held] = Ring()
        self._flushing = Lock()

    def deliver_for(self, connection: str, *, polled: bool = False) -> Deliver:
        """The `deliver` of one connection's driver. `polled`: nobody else keeps what is not acknowledged.

        Connections are polled at the same second, and share a commit. Messages were gathered before they came.
        """
        if polled:
            self._store.expect_patience()
        patients = 1 if polled else 0
        return lambda batch: self._deliver([(connection, batch)], patients)

    def deliver_together(self, batches: Sequence[tuple[str, Sequence[Reading | Rejected]]], connections: int) -> None:
        """The batches of several polled connections, (connection, batch), in one write.

        `connections`: so many, each made known by `deliver_for`, cannot come by themselves while this one waits. Raises
        NotStored when nothing is stored. What is wrong with one batch keeps no other from being stored, and is raised.
        """
        try:
            self._deliver(batches, connections)
        except NotStored:
            raise
        except Exception:  # a batch's own: nothing is stored, and the disk has not failed
            if len(batches) == 1:
                raise
            self._deliver_each(batches, connections)

    def flush(self, *, last: bool = False) -> int:
        """Store what waits in memory, as far as the store takes it; how many readings still wait.

        `last`: it is the last chance, and may take the room that is kept for hours.
        """
        with self._flushing:
            with suppress(StoreError):
                self._flush(last=last)
            return len(self._ring)

    def _deliver_each(self, batches: Sequence[tuple[str, Sequence[Reading | Rejected]]], connections: int) -> None:
        """The same in a write for each; raises the failure that weighs most: a store that fails may mend."""
        failures: list[Exception] = []
        for each in batches:
            try:
                self._deliver([each], connections)
            except Exception as error:  # noqa: BLE001 - raised when the others are stored
                failures.append(error)
        if failures:
            raise min(failures, key=lambda error: isinstance(error, NotStored))

    def _deliver(self, batches: Sequence[tuple[str, Sequence[Reading | Rejected]]], patients: int) -> None:
        """Make all batches durable, poison included; raises NotStored when none of it is.

        `patients`: of how many polled connections they are, see `Store.write`.
        """
        taken = [self._take(connection, batch) for connection, batch in batches]
        try:
            if self._ring:
                with self._flushing:
                    self._flush()  # first what is older
            newest = self._store.write(lambda db: self._put(db, taken), patients=patients)
        except StoreError as error:
            if patients:
                self._keep(taken)
            raise NotStored(str(error)) from error
        if newest:
            self._on_stored(newest, self._clock.now().boottime)  # from here on the readings rest (grace)

    def _keep(self, batches: Sequence[_Batch]) -> None:
        with self._flushing:
            for connection, taken, _ in batches:
                for each in taken:
                    reading, meter, _ = each
                    self._ring.keep(meter, to_ms(reading.at), _Held(connection, each), whole=meter in self._rules)

    def _flush(self, *, last: bool = False) -> None:
        while held := self._ring.oldest(FLUSHED_AT_ONCE):
            newest = self._store.write(partial(self._put_held, held=held, last=last))
            for at, meter, _ in held:
                self._ring.drop(meter, at)
            if newest:
                self._on_stored(newest, self._clock.now().boottime)

    def _put_held(self, db: Connection, *, held: Sequence[tuple[int, int, _Held]], last: bool) -> dict[int, int]:
        by_connection: dict[str, list[_Taken]] = {}
        for _, _, each in held:
            by_connection.setdefault(each.connection, []).append(each.taken)
        return self._put(db, [_Batch(connection, taken, ()) for connection, taken in by_connection.items()], last=last)

    def _take(self, connection: str, batch: Sequence[Reading | Rejected]) -> _Batch:
        """Readings in the meter's unit, and why others can be none (R2)."""
        taken: list[_Taken] = []
        rejections: list[Rejection] = []
        for item in batch:
            if isinstance(item, Rejected):
                rejections.append(_rejection(connection, item))
                continue
            meter = self._meters[item.source]
            try:
                value = meter.micro(item.value)
            except OverflowError:
                rejections.append(_refused(connection, item, "beyond what a counter can hold"))
                continue
            if meter.rule and (reason := implausible(value, meter.rule)):
                rejections.append(_refused(connection, item, reason))
            else:
                taken.append((item, meter.id, value))
        return _Batch(connection, taken, rejections)

    def _put(self, db: Connection, batches: Sequence[_Batch], *, last: bool = False) -> dict[int, int]:
        """Store what connections gave; returns each meter's newest placed instant.

        The clock is looked at inside the transaction: whatever is not placed here is there when the closer, which
        writes through the same writer, places what waited for the clock.
        """
        if not last and not self._store.room.for_readings(db):
            raise Full("the room that is left is kept for hours and messages")
        now = self._clock.now()
        if not now.trusted:
            add_unplaced(db, [self._unplaced(each, now) for batch in batches for each in batch.taken])
            reject(db, [each for batch in batches for each in batch.rejections])
            return {}
        received = to_ms(now.wall)
        if self._clock.trust.changed_lately(now.boottime):  # drivers compare stamps with a trusted clock only
            batches = [_believed(batch, received) for batch in batches]
        placed = self._placed([each for batch in batches for each in batch.taken], now, received)
        conflicts, late = add_and_book(db, placed, self._rules, received)
        self._tell(db, late, received)
        rejections = [each for batch in batches for each in batch.rejections]
        reject(db, [*rejections, *self._differing(batches, conflicts)])
        newest: dict[int, int] = {}
        for at, meter, _, _ in placed:
            if meter not in newest or at > newest[meter]:
                newest[meter] = at
        return newest

    def _placed(self, taken: Sequence[_Taken], now: Now, received: int) -> list[Row]:
        placed: list[Row] = []
        first, last = self._clock.trust.steady(now)
        said, at, noted = None, 0, 0
        for reading, meter, value in taken:
            if reading.stamped:
                placed.append((to_ms(reading.at), meter, value, received))
                continue
            if reading.at is not said:  # the values of one answer share theirs
                said = reading.at
                at, noted = (to_ms(said), received) if first <= said <= last else self._moment(said, now, received)
            placed.append((at, meter, value, noted))
        return placed

    def _moment(self, wall: datetime, now: Now, received: int) -> tuple[int, int]:
        """A time that we gave, or what it became if the clock was set since; and what is noted as received (R1)."""
        at = to_ms(wall)
        moved = _ms(now.boottime - self._clock.trust.boottime_of(wall, now)) - (received - at)
        return (at - moved, at) if abs(moved) > SET_MS else (at, received)

    def _unplaced(self, taken: _Taken, now: Now) -> UnplacedReading:
        reading, meter, value = taken
        at, wall = to_ms(reading.at), to_ms(now.wall)
        if reading.stamped:
            return UnplacedReading(self._boot_id, _ms(now.boottime), meter, value, at, wall)
        boottime = _ms(self._clock.trust.boottime_of(reading.at, now))
        return UnplacedReading(self._boot_id, boottime, meter, value, None, at)

    def _tell(self, db: Connection, late: Sequence[Late], now_ms: int) -> None:
        for each in late:
            if each.tell:
                name = self._names[each.meter]
                told = late_told(each)
                note(db, now_ms, told.level, name, told.text)

    def _differing(
        self, batches: Sequence[_Batch], conflicts: Sequence[tuple[StoredReading, int]]
    ) -> Sequence[Rejection]:
        if not conflicts:
            return ()
        connections = {meter: batch.connection for batch in batches for _, meter, _ in batch.taken}  # a meter has one
        return [differing(row, first, connections[row.meter], self._names.get(row.meter)) for row, first in conflicts]


def _believed(batch: _Batch, received: int) -> _Batch:
    """Without what a source stamped with a time that cannot be."""
    found: list[_Taken] = []
    rejections = list(batch.rejections)
    for each in batch.taken:
        reading = each[0]
        why = unbelievable(to_ms(reading.at), received) if reading.stamped else None
        if why:
            rejections.append(_rejected(batch.connection, reading, received, *why))
        else:
            found.append(each)
    return _Batch(batch.connection, found, rejections)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _rejected(connection: str, item: Reading, at: int, reason: str, detail: str) -> Rejection:
    return Rejection(at, connection, item.source, reason, detail, str(item.value)[:200])


def _rejection(connection: str, item: Rejected) -> Rejection:
    return Rejection(to_ms(item.at), connection, item.source, item.reason, item.detail, item.payload)


def _refused(connection: str, item: Reading, reason: str) -> Rejection:
    return Rejection(to_ms(item.at), connection, item.source, reason, "", str(item.value)[:200])
