"""Closes hours: decides when (`Watermarks`), reads the inputs, lets the pure functions of `buffer` decide what, and freezes it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from threading import Event, Lock

from buffer.closing import freeze, frozen_of
from buffer.counter import judge
from buffer.hours import Frozen, Rule, Sample, close_hours, open_meter, reach, scan_after
from buffer.model import HOUR_MS, from_ms, to_ms
from buffer.readings import StoredReading, add, newest_per_meter, note, samples_of, take_unplaced
from buffer.store import Connection, Store, StoreError
from drivers.base import Now

log = logging.getLogger(__name__)

NEVER = float("inf")
UNTRUSTED_LOOK = 1.0  # s between looks at a clock that is not trusted yet
AFTER_FAILURE = 5.0  # s before the store is tried again
EVERYTHING = -(2**62)  # an instant before every reading


@dataclass(frozen=True, slots=True)
class ClosingMeter:
    """What the closer must know of one meter."""

    id: int
    name: str
    connection: str
    rule: Rule
    max_rate: int | None  # micro per hour
    start_value: int = 0  # running totals of interval and power sources begin here


@dataclass(slots=True)
class _Mark:
    """When a meter's edges were passed. `passed`: edge -> boottime of the first arrival that reached it; None: before this start."""

    closed: int | None = None  # the newest frozen edge
    passed: dict[int, float | None] = field(default_factory=dict)
    stalled: bool = False  # the last look closed nothing: wait for something new


class Watermarks:
    """Which edge of each meter may be closed, and when the next one may.

    A reading that passes an edge rests for `grace`, so that neighbours which overtook each other have settled. It counts from its
    arrival; for what was stored before this start, from the moment its connection is ready again (its SUBACK or first
    poll), because the broker may still hold the reading before it.
    """

    def __init__(self, grace: float, ready_since: Callable[[int], float | None]) -> None:
        """`ready_since(meter)`: boottime at which the meter's connection became ready, None while it never was."""
        self._grace = grace
        self._ready_since = ready_since
        self._marks: dict[int, _Mark] = {}
        self._lock = Lock()

    def saw(self, meter: int, edge: int, boottime: float | None) -> bool:
        """A reading that reaches `edge` is stored; True when that edge was not passed before."""
        with self._lock:
            mark = self._marks.setdefault(meter, _Mark())
            mark.stalled = False
            newest = max(mark.passed, default=None)
            if (newest is not None and edge <= newest) or (mark.closed is not None and edge <= mark.closed):
                return False
            mark.passed[edge] = boottime
            return True

    def closed(self, meter: int, edge: int | None, *, progress: bool) -> None:
        """The meter is frozen up to `edge`."""
        with self._lock:
            mark = self._marks.setdefault(meter, _Mark())
            mark.closed = edge
            mark.stalled = not progress
            if edge is not None:
                mark.passed = {passed: at for passed, at in mark.passed.items() if passed > edge}

    def due(self, boottime: float, limit: int) -> tuple[dict[int, int], float, bool]:
        """The newest edge that each meter may freeze now; when (boottime) the next one may; whether edges wait for `limit` to move.

        `limit` is the newest edge that lies in the past: no hour that ends in the future is closed (R6).
        """
        ready: dict[int, int] = {}
        next_due, ahead = NEVER, False
        with self._lock:
            for meter, mark in self._marks.items():
                for edge, arrived in () if mark.stalled else mark.passed.items():
                    since = self._ready_since(meter) if arrived is None else arrived
                    reachable = min(edge, limit)
                    ahead = ahead or edge > limit
                    if since is None or (mark.closed is not None and reachable <= mark.closed):
                        continue
                    if since + self._grace <= boottime:
                        ready[meter] = max(reachable, ready.get(meter, reachable))
                    else:
                        next_due = min(next_due, since + self._grace)
        return ready, next_due, ahead


class Closer:
    """The worker that freezes hours."""

    def __init__(
        self, store: Store, meters: Iterable[ClosingMeter], watermarks: Watermarks, boot_id: str, on_closed: Callable[[], None]
    ) -> None:
        """`on_closed` is called after hours have been frozen."""
        self.name = "closer"
        self.wake = Event()
        self._store = store
        self._meters = {meter.id: meter for meter in meters}
        self._marks = watermarks
        self._boot_id = boot_id
        self._on_closed = on_closed
        self._suspected: dict[int, str] = {}
        self._placed = False
        self._stale = False
        store.read(self._restore)

    def saw(self, newest: Mapping[int, int], boottime: float) -> None:
        """The collector stored readings; `newest` is each meter's latest instant (ms). Called by any thread."""
        passed = [
            self._marks.saw(meter, reach((at, 0), self._meters[meter].rule), boottime) for meter, at in newest.items()
        ]
        if any(passed):
            self.wake.set()

    def step(self, now: Now) -> float:
        """Place what waited for the clock, then close what may be closed; nothing under an untrusted clock (R5)."""
        if not now.trusted:
            return now.boottime + UNTRUSTED_LOOK
        try:
            if self._stale:
                self._store.read(self._restore)
                self._stale = False
            if not self._placed:
                self._place(now)
            return self._close_due(now)
        except StoreError as error:
            self._stale = True  # R26: only the file knows what was frozen
            log.warning("hours not closed: %s", error)
            return now.boottime + AFTER_FAILURE

    def _close_due(self, now: Now) -> float:
        limit, into_hour = divmod(to_ms(now.wall), HOUR_MS)
        edges, _, _ = self._marks.due(now.boottime, limit)
        if edges and self._store.write(lambda db: self._close(db, edges, now)):
            self._on_closed()
        _, next_due, ahead = self._marks.due(now.boottime, limit)
        return min(next_due, now.boottime + (HOUR_MS - into_hour) / 1000) if ahead else next_due

    def _restore(self, db: Connection) -> None:
        for meter, at in newest_per_meter(db, self._meters).items():
            frozen = frozen_of(db, meter)
            self._marks.closed(meter, frozen.edge if frozen else None, progress=True)
            self._marks.saw(meter, reach((at, 0), self._meters[meter].rule), None)

    def _place(self, now: Now) -> None:
        offset = to_ms(now.wall) - round(now.boottime * 1000)
        newest = self._store.write(lambda db: _place(db, self._boot_id, offset, to_ms(now.wall)))
        self._placed = True
        self.saw({meter: at for meter, at in newest.items() if meter in self._meters}, now.boottime)

    def _close(self, db: Connection, edges: Mapping[int, int], now: Now) -> int:
        frozen = {meter: frozen_of(db, meter) for meter in edges}
        since = {
            meter: scan_after(state.edge, self._meters[meter].rule) if state else EVERYTHING
            for meter, state in frozen.items()
        }
        samples = samples_of(db, since)
        closed = 0
        for meter, edge in edges.items():
            before = frozen[meter]
            after = self._close_meter(db, self._meters[meter], before, samples[meter], edge, now)
            progress = after is not None and (before is None or after.edge > before.edge)
            self._marks.closed(meter, after.edge if after else None, progress=progress)
            closed += progress
        return closed

    def _close_meter(  # noqa: PLR0913, PLR0917 - one meter's whole case
        self, db: Connection, meter: ClosingMeter, frozen: Frozen | None, samples: list[Sample], limit: int, now: Now
    ) -> Frozen | None:
        good = self._believed(db, meter, frozen, samples, now)
        opened = frozen or open_meter(good, meter.rule, limit, meter.start_value)
        if opened is None:
            return None
        rest = [sample for sample in good if sample[0] > scan_after(opened.edge, meter.rule)]
        hours, after = close_hours(opened, rest, meter.rule, limit)
        if hours or frozen is None:
            freeze(db, meter.id, hours, after, to_ms(now.wall))
        return after

    def _believed(
        self, db: Connection, meter: ClosingMeter, frozen: Frozen | None, samples: list[Sample], now: Now
    ) -> list[Sample]:
        if meter.rule.kind != "counter":
            return samples
        judged = judge(samples, frozen.tail if frozen else None, max_rate=meter.max_rate)
        reason = judged.suspect[-1][1] if judged.suspect and judged.suspect[-1][0] == samples[-1] else ""
        if reason != self._suspected.get(meter.id, ""):
            self._suspected[meter.id] = reason
            note(db, to_ms(now.wall), "warning" if reason else "info", meter.name, _suspicion(reason, judged.suspect))
        return judged.good


def _suspicion(reason: str, suspects: list[tuple[Sample, str]]) -> str:
    if not reason:
        return "readings continue where they were; what was suspect added nothing"
    at, value = suspects[-1][0]
    return f"{reason}: {value / 1e6:g} at {from_ms(at):%Y-%m-%d %H:%M:%S}Z adds nothing until later readings confirm it"


def _place(db: Connection, boot_id: str, offset: int, now_ms: int) -> dict[int, int]:
    placed: list[StoredReading] = take_unplaced(db, boot_id, offset)
    add(db, placed)
    if placed:
        note(db, now_ms, "info", "clock", f"the clock is trusted now; {len(placed)} readings were placed in time")
    newest: dict[int, int] = {}
    for reading in placed:
        newest[reading.meter] = max(reading.at, newest.get(reading.meter, reading.at))
    return newest


