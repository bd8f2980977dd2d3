"""Writes on their way to the writer, and which of them share a commit.

What came while a commit was under way is the next group. A patient write besides leaves others the time to join it: many
connections that are polled at the same second are then one sync and some pages instead of as many each. One write may
speak for several of them. Nobody else waits: a write that is not patient takes along at once all that have gathered.
"""

from __future__ import annotations

from queue import Empty, SimpleQueue
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from concurrent.futures import Future

GROUP_MOST = 500  # writes in one commit: bounds what one failing disk throws back at once


class Write(NamedTuple):
    """What is to be done, whom to tell of it, and for how many patient connections it speaks: 0 waits for nobody."""

    work: Callable[[sqlite3.Connection], Any]
    future: Future[Any]
    patients: int = 0


class Gathering:
    """In the order in which they came; any thread puts, one takes."""

    def __init__(self, within: float = 0.0) -> None:
        """`within`: seconds for which a patient write waits at most."""
        self.patients = 0  # connections that are written for patiently: when all of them wait, nobody else can come
        self._within = within
        self._queue: SimpleQueue[Write | None] = SimpleQueue()
        self._hurry = Event()
        self._counting = Lock()
        self._waiting = 0

    def __len__(self) -> int:
        """Writes that nobody has taken yet."""
        return self._queue.qsize()

    def put(self, write: Write) -> None:
        """Queue up."""
        self._queue.put(write)
        if write.patients:
            with self._counting:
                self._waiting += write.patients
                if self._waiting < self.patients:
                    return
        self._hurry.set()

    def hurry(self) -> None:
        """From now on nobody waits."""
        self._within = 0.0
        self._hurry.set()

    def end(self) -> None:
        """Nothing is put after this."""
        self._queue.put(None)
        self._hurry.set()

    def group(self) -> list[Write]:
        """The next write, as soon as there is one, with all that share its commit; nothing at the end."""
        write = self._queue.get()
        if write and write.patients:
            self._hurry.wait(self._within)
        self._hurry.clear()
        group: list[Write] = []
        while write:
            group.append(write)
            if len(group) == GROUP_MOST:
                self._hurry.set()  # those that are left have waited
                break
            try:
                write = self._queue.get_nowait()
            except Empty:
                break
        else:
            self._queue.put(None)  # the end comes again, after this group
        with self._counting:
            self._waiting -= sum(each.patients for each in group)
        return group
