"""Keeps the buffer small and knows its size: a worker that forgets what nobody needs any more, a little at a time."""

from __future__ import annotations

import logging
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from buffer import retention
from buffer.model import HOUR_MS, to_ms
from buffer.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from buffer.store import Store
    from drivers.base import Now

log = logging.getLogger(__name__)

OWN_IO = Path("/proc/self/io")
ROUND = 3600.0  # s between two rounds
BREATH = 0.2  # s between two steps of a round: whoever stores readings comes first
UNTRUSTED = 60.0  # s
AFTER_FAILURE = 60.0  # s


class Housekeeper:
    """One small step at a time; nothing while the clock is not trusted, for age is a matter of the clock."""

    def __init__(self, store: Store, keep_readings: float, keep_messages: float, written: Callable[[], int]) -> None:
        """Ages in seconds; `written` tells the bytes that this process has written since it started."""
        self.name = "housekeeper"
        self.wake = Event()
        self._store = store
        self._keep_readings = round(keep_readings * 1000)
        self._keep_messages = round(keep_messages * 1000)
        self._written = written
        self._counted = 0
        self._needed: dict[int, int] | None = None  # while a round is under way

    def step(self, now: Now) -> float:
        """Forget a few readings or messages; returns when to be called again (boottime)."""
        if not now.trusted:
            return now.boottime + UNTRUSTED
        try:
            return now.boottime + (BREATH if self._forget(to_ms(now.wall)) else ROUND)
        except StoreError as error:
            self._needed = None
            log.warning("nothing forgotten: %s", error)
            return now.boottime + AFTER_FAILURE

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


def bytes_written() -> int:
    """What this process has had written to a disk since it started; 0 where the system does not tell."""
    try:
        lines = OWN_IO.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("write_bytes:")), 0)
