"""Keeps the buffer small and knows its size: a worker that forgets what nobody needs any more, a little at a time.

Where the room runs out it forgets what is not needed, however young, and watches what becomes of the disk: what is wrong
with it is an event when it begins and when it is over.
"""

from __future__ import annotations

import logging
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Protocol

from buffer import retention, room
from buffer.model import HOUR_MS, to_ms
from buffer.readings import note
from buffer.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from buffer.store import Connection, Store
    from drivers.base import Now

log = logging.getLogger(__name__)

OWN_IO = Path("/proc/self/io")
ROUND = 3600.0  # s between two rounds
LOOK_EVERY = 60.0  # s between looks at the room
LOOK_AGAIN = 10.0  # s, while there is little
BREATH = 0.2  # s between two steps of a round: whoever stores readings comes first
UNTRUSTED = 60.0  # s
AFTER_FAILURE = 60.0  # s
UNTOLD = 100  # events that wait for a disk that takes them
URGENT = {"full", "cap"}  # a disk that fails is tried by whoever stores something
LATELY = 86_400.0  # s for which it is told that something was forgotten before its age


class Flush(Protocol):
    """Stores what waits in memory for room, and tells how many readings still do."""

    def __call__(self, *, last: bool = False) -> int:
        """`last`: it is the last chance, and the room that readings do not get may be used."""
        ...


class Housekeeper:
    """One small step at a time. By age nothing is forgotten while the clock is not trusted, for room it is."""

    def __init__(
        self,
        store: Store,
        keep_readings: float,
        keep_messages: float,
        written: Callable[[], int],
        flush: Flush | None = None,
    ) -> None:
        """Ages in seconds; `written` tells the bytes that this process has written since it started.

        `flush` stores what waits in memory.
        """
        self.name = "housekeeper"
        self.wake = Event()
        self._store = store
        self._keep_readings = round(keep_readings * 1000)
        self._keep_messages = round(keep_messages * 1000)
        self._written = written
        self._flush = flush or _nothing_waits
        self._counted = 0
        self._needed: dict[int, int] | None = None  # while a round is under way
        self._pressed = False  # while room is made
        self._look_at = self._round_at = self._gave_up_at = float("-inf")
        self._problems: dict[str, str] = {}
        self._untold: list[tuple[str, str]] = []
        self._given_up = self._waiting = 0  # rows forgotten for room; readings in memory

    def step(self, now: Now) -> float:
        """Look at the room, make some, or forget what is old; returns when to be called again (boottime)."""
        if self._make_room(now.boottime):
            return now.boottime + BREATH
        try:
            if now.boottime >= self._look_at or self._untold:
                self._look(now)
                self._look_at = now.boottime + (LOOK_AGAIN if self._problems.keys() & URGENT else LOOK_EVERY)
            if not now.trusted:
                return min(now.boottime + UNTRUSTED, self._look_at)
            if now.boottime >= self._round_at:
                if self._forget(to_ms(now.wall)):
                    return now.boottime + BREATH
                self._round_at = now.boottime + ROUND
            return min(self._round_at, self._look_at)
        except StoreError as error:
            self._needed = None
            if not self._problems:
                log.warning("nothing forgotten: %s", error)
            return now.boottime + AFTER_FAILURE

    def close(self) -> None:
        """A last try to store what waits in memory."""
        if waiting := self._flush(last=True):
            log.error("%d readings that found no room are lost; counters bridge them", waiting)

    def snapshot(self) -> dict[str, object]:
        """For `status`; any thread may take it."""
        return {"problems": dict(self._problems), "waiting": self._waiting}

    # --- the room -----------------------------------------------------------------------------------------------------

    def _look(self, now: Now) -> None:
        """See what is wrong, try to get out of it, and tell what has changed. Raises StoreError."""
        self._find(now.boottime)
        self._store.regain()
        self._waiting = self._flush(last=False)
        if self._problems:
            self._find(now.boottime)
        if self._untold:
            self._store.write(lambda db: self._tell(db, to_ms(now.wall)))
            self._untold = []

    def _find(self, boottime: float) -> None:
        store = self._store
        where = store.room.directory
        try:
            left = store.read(store.room.left)
        except StoreError:
            left = None
        given_up = self._given_up if boottime - self._gave_up_at < LATELY else 0
        facts = room.Facts(
            str(where),
            room.disk_of(where),
            store.room.full,
            left,
            store.failing,
            room.log_size(store.path),
            given_up,
        )
        found = room.problems(facts)
        news = room.changes(self._problems, found)
        self._problems = found
        self._untold = [*self._untold, *news][-UNTOLD:]
        for level, text in news:
            log.log(logging.getLevelNamesMapping()[level.upper()], "%s", text)

    def _tell(self, db: Connection, now_ms: int) -> None:
        for level, text in self._untold:
            note(db, now_ms, level, "buffer", text)

    def _make_room(self, boottime: float) -> bool:
        """Where room runs out, one step; whether there is more to do. What fails here is seen by the look that follows."""
        try:
            forgotten = self._forget_for_room()
        except StoreError:
            forgotten = 0
        if not forgotten:
            self._pressed = False
            return False
        self._given_up += forgotten
        self._gave_up_at = boottime
        return True

    def _forget_for_room(self) -> int:
        store = self._store
        left = store.read(store.room.left)
        if left is None or left >= (room.RELIEVED if self._pressed else room.PRESSED):
            return 0
        self._pressed = True
        return store.write(retention.forget_oldest)

    # --- by age -------------------------------------------------------------------------------------------------------

    def _forget(self, now_ms: int) -> bool:
        """One step; whether there is more to do in this round."""
        if self._needed is None:
            self._weigh(now_ms)
            self._needed = self._store.read(retention.needed_from)
        needed, before = self._needed, (now_ms - self._keep_readings) // HOUR_MS
        if self._store.write(lambda db: retention.forget_readings(db, before, needed)):
            return True
        if self._store.write(lambda db: retention.forget_messages(db, now_ms - self._keep_messages)):
            return True
        self._needed = None
        return False

    def _weigh(self, now_ms: int) -> None:
        written = self._written()
        more = written - self._counted
        self._store.write(lambda db: retention.weigh(db, now_ms, more))
        self._counted = written


def _nothing_waits(*, last: bool = False) -> int:
    del last
    return 0


def bytes_written() -> int:
    """What this process has had written to a disk since it started; 0 where the system does not tell."""
    try:
        lines = OWN_IO.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("write_bytes:")), 0)
