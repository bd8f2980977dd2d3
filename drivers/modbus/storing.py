"""Stores what the loop reads, in a thread of its own: a slow disk must not delay the polls."""

from __future__ import annotations

from collections import deque
from threading import Event, Lock
from typing import TYPE_CHECKING, NamedTuple, Protocol

from drivers.base import NotStored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.base import DeliverTogether, Now
    from drivers.reading import Reading, Rejected

KEPT = 5000  # readings of a connection kept while the store takes none; then the oldest go, the newest counter value covers them
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
        self._come: deque[tuple[list[Batch], int]] = deque()
        self._kept: dict[str, Batch] = {}  # what could not be stored, by connection
        self._storing = Lock()
        self._closed = False

    def put(self, batches: list[Batch], connections: int) -> None:
        """Store these soon; after `close` at once. `connections`: for how many nobody else delivers. Any thread."""
        self._come.append((batches, connections))
        self.wake.set()
        if self._closed:
            self._store()

    def step(self, now: Now) -> float | None:
        """Store what has come, and what could not be stored before."""
        self._store()
        return now.boottime + TRY_AGAIN if self._kept else None

    def close(self) -> None:
        """A last attempt."""
        self._closed = True
        self._store()

    def _store(self) -> None:
        with self._storing:
            connections = 0
            while self._come:
                batches, connections = self._come.popleft()
                for driver, readings in batches:
                    before = self._kept[driver.name].readings if driver.name in self._kept else ()
                    self._kept[driver.name] = Batch(driver, [*before, *readings][-KEPT:])
            if not self._kept:
                return
            batches, refused = list(self._kept.values()), ""
            try:
                self._deliver([(driver.name, readings) for driver, readings in batches], connections)
            except NotStored as error:
                refused = str(error)
            else:
                self._kept.clear()
            for driver, _ in batches:
                driver.told(refused)
