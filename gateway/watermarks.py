"""Which edge of each meter may be closed, and when: bookkeeping over edges and boottimes, without clock or store.

A reading that passes an edge rests for `grace`, so that neighbours which overtook each other have settled. It counts
from its own commit; for what was stored before this start it counts from the moment its connection is ready again (its
SUBACK or first poll round), because the broker may still hold the reading before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

NEVER = math.inf
SLOTS = 16  # arrivals are told apart to a sixteenth of `grace`: a year of edges in one second is one entry, not 8760
FIRST_LOOK_AGAIN = (
    60.0  # s until a look that closed nothing is repeated; doubles, because each look reads all open hours
)
LONGEST_LOOK_AGAIN = 3600.0
READY_LOOK = 1.0  # s between looks at a connection that is not ready yet


class Due(NamedTuple):
    """The newest edge that each meter may freeze now, and when (boottime) there may be more."""

    edges: dict[int, int]
    again: float
    ahead: bool  # an edge that was passed lies in the future: there will be more when the wall clock gets there


@dataclass(slots=True)
class _Mark:
    """One meter. `passed`: (boottime from which the edge rests, edge), both rising."""

    closed: int | None = None  # the newest frozen edge
    before_start: int | None = None  # the newest edge passed by what was stored before this start
    passed: list[tuple[float, int]] = field(default_factory=list)
    fruitless: int = 0  # looks in a row that closed nothing
    not_before: float = -NEVER

    def newest(self) -> int | None:
        known = [self.closed, self.before_start, self.passed[-1][1] if self.passed else None]
        return max((edge for edge in known if edge is not None), default=None)

    def is_passed(self, edge: int) -> bool:
        """Whether it is `newest` or before."""
        newest = self.newest()
        return newest is not None and edge <= newest


class Watermarks:
    """The marks of all meters. Thread-safe: the drivers' threads tell, the closer asks."""

    def __init__(
        self, grace: float, ready_since: Callable[[int], float | None], lateness: Mapping[int, float] | None = None
    ) -> None:
        """`ready_since(meter)`: boottime at which the meter's connection became ready, None while it never was.

        `lateness`: the rest (s) of those meters whose sources need another one than `grace`.
        """
        self._grace = grace
        self._lateness = lateness or {}
        self._ready_since = ready_since
        self._marks: dict[int, _Mark] = {}
        self._lock = Lock()

    def restored(self, meter: int, closed: int | None, passed: int | None) -> None:
        """What the file says at start, and again after a failure: frozen up to `closed`, readings up to `passed`."""
        with self._lock:
            mark = self._marks.setdefault(meter, _Mark())
            mark.closed = closed
            mark.fruitless, mark.not_before = 0, -NEVER
            newest = mark.newest()
            if passed is not None and (newest is None or passed > newest):
                mark.before_start = passed

    def saw(self, meter: int, edge: int, boottime: float) -> bool:
        """A reading that reaches `edge` was stored at `boottime`; True when that edge was not passed before."""
        return self.saw_all([(meter, edge)], boottime)

    def saw_all(self, reached: Iterable[tuple[int, int]], boottime: float) -> bool:
        """The same for several meters and the edges that they reach; True when one of them was not passed before."""
        passed = False
        with self._lock:
            for meter, edge in reached:
                mark = self._marks.get(meter)
                if mark is None or not mark.is_passed(edge):
                    self._pass(meter, edge, boottime)
                    passed = True
        return passed

    def _pass(self, meter: int, edge: int, boottime: float) -> None:
        mark = self._marks.setdefault(meter, _Mark())
        slot = self._rest(meter) / SLOTS
        since = math.ceil(boottime / slot) * slot if slot else boottime
        if mark.passed and mark.passed[-1][0] >= since:
            mark.passed[-1] = (mark.passed[-1][0], edge)
        else:
            mark.passed.append((since, edge))
        mark.fruitless, mark.not_before = 0, -NEVER

    def closed(self, meter: int, edge: int | None, *, progress: bool, boottime: float) -> None:
        """The meter is frozen up to `edge` by the look at `boottime`; without progress the next one is after a growing while.

        At the latest when a newer edge has rested, be it one that was passed during that very look.
        """
        with self._lock:
            mark = self._marks.setdefault(meter, _Mark())
            mark.closed = edge
            if edge is not None:
                mark.passed = [(slot, passed) for slot, passed in mark.passed if passed > edge]
                if mark.before_start is not None and mark.before_start <= edge:
                    mark.before_start = None
            if progress:
                mark.fruitless, mark.not_before = 0, -NEVER
            else:
                rest = self._rest(meter)
                pause = max(rest, FIRST_LOOK_AGAIN) * 2.0 ** min(mark.fruitless, 10)
                mark.fruitless += 1
                rested_at = [since + rest for since, _ in mark.passed if since + rest > boottime]
                mark.not_before = min([boottime + min(pause, LONGEST_LOOK_AGAIN), *rested_at])

    def due(self, boottime: float, limit: int) -> Due:
        """What may be closed now. `limit` is the newest edge in the past: hours that end later stay open (R6)."""
        edges: dict[int, int] = {}
        again, ahead = NEVER, False
        with self._lock:
            for meter, mark in self._marks.items():
                rested, then, later = self._rested(meter, mark, boottime, limit)
                ahead = ahead or later
                again = min(again, then)
                if rested is None or (mark.closed is not None and rested <= mark.closed):
                    continue
                if boottime >= mark.not_before:
                    edges[meter] = rested
                else:
                    again = min(again, mark.not_before)
        return Due(edges, again, ahead)

    def _rested(self, meter: int, mark: _Mark, boottime: float, limit: int) -> tuple[int | None, float, bool]:
        """The newest rested edge, when the next rest is over, and whether a rested edge lies in the future."""
        passed, again = mark.passed, NEVER
        if mark.before_start is not None:
            since = self._ready_since(meter)
            if since is None:
                again = boottime + READY_LOOK
            else:
                passed = [(since, mark.before_start), *passed]
        rest = self._rest(meter)
        rested = [edge for since, edge in passed if since + rest <= boottime]
        again = min([again, *(since + rest for since, _ in passed if since + rest > boottime)])
        newest = max(rested, default=None)
        if newest is None:
            return None, again, False
        return min(newest, limit), again, newest > limit

    def _rest(self, meter: int) -> float:
        return self._lateness.get(meter, self._grace)
