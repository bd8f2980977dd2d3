"""Stores what the loop reads, in a thread of its own: a slow disk must not delay the polls."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import suppress
from threading import Event, Lock
from typing import TYPE_CHECKING, NamedTuple, Protocol

from drivers.base import NotStored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.base import DeliverTogether, Now
    from drivers.reading import Reading, Rejected

KEPT = 5000  # readings of a connection kept while the store takes none; then the oldest go, the newest counter value covers them
ALL_KEPT = 200_000  # of all connections together, 40 MB: none of many may keep so much
TRY_AGAIN = 10.0  # s


class Told(Protocol):
    """Whose readings they are."""

    name: str

    def told(self, not_stored: str) -> None:
        """What became of them: "" when they are stored, else why they are not."""


class Batch(NamedTuple):
    """What one connection has read."""

    driver: Told
    readings: Sequence[Reading | Rejected]


class Storing:
    """Takes batches of many connections and makes all that have come durable at once. See `drivers.base.Helper`."""

    name = "modbus tcp, storing"

    def __init__(self, deliver: DeliverTogether) -> None:
        """`deliver` may block."""
        self.wake = Event()
        self._deliver = deliver
        self._putting = Lock()  # of the next four
        self._waiting: dict[str, Batch] = {}  # by connection
        self._under_way: frozenset[str] = frozenset()  # connections whose readings are being stored
        self._connections = 0
        self._new: Counter[str] = Counter()  # readings of each that were never offered
        self._storing = Lock()
        self._closed = False
        self._refused_until = -math.inf  # boottime

    def put(self, batches: Sequence[Batch], connections: int) -> None:
        """Store these soon; after `close` at once. `connections`: for how many nobody else delivers. Any thread."""
        with self._putting:
            for batch in batches:
                self._wait(batch)
                self._new[batch.driver.name] += len(batch.readings)
            self._connections = connections
        self.wake.set()
        if self._closed:
            self.close()

    def take(self, name: str) -> Sequence[Reading | Rejected]:
        """What waits of a connection, for whoever delivers for it from here on: what it reads next is newer. Any thread.

        What is being stored is waited for: it may come back.
        """
        with self._putting:
            if name not in self._under_way:
                return self._taken(name)
        with self._storing, self._putting:
            return self._taken(name)

    def step(self, now: Now) -> float | None:
        """Store what has come; what could not be stored, with all that has come since, some time later.

        Going through all that waits at each poll would cost more than the polls; but whatever is read is offered once
        before it may have to go.
        """
        with self._putting:
            urgent = max(self._new.values(), default=0) >= self._most()
        if now.boottime < self._refused_until and not urgent:
            return self._refused_until
        if self._store():
            return None
        self._refused_until = now.boottime + TRY_AGAIN
        return self._refused_until

    def close(self) -> None:
        """A last attempt."""
        self._closed = True
        with suppress(Exception):  # it may be what ends the process
            self._store()

    def _most(self) -> int:
        """So many readings of one connection are kept."""
        return min(KEPT, ALL_KEPT // max(1, len(self._waiting)))

    def _wait(self, batch: Batch) -> None:
        """Behind what waits already, whose oldest readings may have to go."""
        name = batch.driver.name
        if name in self._waiting:
            batch = Batch(batch.driver, [*self._waiting[name].readings[-self._most() :], *batch.readings])
        self._waiting[name] = batch

    def _taken(self, name: str) -> Sequence[Reading | Rejected]:
        self._new.pop(name, None)
        return self._waiting.pop(name).readings if name in self._waiting else ()

    def _store(self) -> bool:
        """Whether nothing was refused. Raises what is wrong with a batch; it is not offered again."""
        with self._storing:
            with self._putting:
                batches, self._waiting = list(self._waiting.values()), {}
                self._under_way = frozenset(batch.driver.name for batch in batches)
                connections, self._connections = self._connections, 0
                self._new.clear()
            if not batches:
                return True
            refused = ""
            try:
                self._deliver([(driver.name, readings) for driver, readings in batches], connections)
            except NotStored as error:
                refused = str(error)
                self._take_back(batches)
            for driver, _ in batches:
                driver.told(refused)
            with self._putting:
                self._under_way = frozenset()
            return not refused

    def _take_back(self, batches: Sequence[Batch]) -> None:
        """They wait again, before what has come meanwhile."""
        with self._putting:
            since = self._waiting
            self._waiting = {batch.driver.name: batch for batch in batches}
            most = self._most()
            self._waiting = {
                name: Batch(driver, readings[-most:]) for name, (driver, readings) in self._waiting.items()
            }
            for batch in since.values():
                self._wait(batch)
