"""Workers in threads, watched: a worker that dies takes the process down, a worker that stalls starves the watchdog."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from drivers.base import Clock, Now
    from gateway.systemd import Notifier

log = logging.getLogger(__name__)

LONGEST_WAIT = 10.0  # s; every worker ticks at least this often, whatever time it asked for
STOP_WITHIN = 10.0  # s; a request still open then is left as unknown (DESIGN 3)
LOOK_EVERY = 1.0  # s between the supervisor's looks


class Worker(Protocol):
    """Decides and acts once per call, and says when it wants to be called again."""

    name: str
    wake: Event

    def step(self, now: Now) -> float | None:
        """Returns the next due boottime, or None where there is nothing to do until somebody wakes it."""
        ...


@dataclass(slots=True)
class _Watched:
    worker: Worker
    limit: float  # s between two ticks before the watchdog is no longer fed
    ticked: float
    close: Callable[[], None] | None
    at_work: bool = False
    asleep: bool = False  # until somebody wakes it: no tick is due


class Service:
    """Runs workers until told to stop or until one of them dies."""

    def __init__(self, clock: Clock, notifier: Notifier, longest_wait: float = LONGEST_WAIT) -> None:
        """Nothing runs before `start`. `longest_wait` is in the clock's seconds."""
        self._longest_wait = longest_wait
        self._clock = clock
        self._notifier = notifier
        self._watched: list[_Watched] = []
        self._running = 0
        self._counting = Lock()
        self._all_ended = Event()
        self._all_ended.set()
        self._said_late: list[str] = []
        self.stopping = Event()
        self.failed = False

    def add(self, worker: Worker, *, limit: float, close: Callable[[], None] | None = None) -> None:
        """`limit`: seconds within which the worker must tick. `close` is called by its own thread at the end."""
        self._watched.append(_Watched(worker, limit, self._clock.now().boottime, close))

    def start(self) -> None:
        """Start every worker's thread and say READY."""
        self._running = len(self._watched)
        if self._watched:
            self._all_ended.clear()
        for watched in self._watched:
            watched.ticked = self._clock.now().boottime
            watched.at_work = True
            Thread(target=self._live, args=(watched,), name=watched.worker.name, daemon=True).start()
        self._notifier.send("READY=1")

    def supervise(self) -> None:
        """Wait for the end in the main thread, feeding the watchdog only while every worker ticks."""
        while not self.stopping.wait(LOOK_EVERY):
            late = self.late()
            if not late:
                self._notifier.send("WATCHDOG=1")
            if late != self._said_late:
                self._said_late = late
                _tell_late(late)

    def stop(self, within: float = STOP_WITHIN) -> bool:
        """Wake everybody and wait a bounded real time; False when somebody is still at work and was left behind."""
        self.stopping.set()
        self._notifier.send("STOPPING=1")
        for watched in self._watched:
            watched.worker.wake.set()
        return self._all_ended.wait(within)

    def at_work(self) -> list[str]:
        """Workers whose thread has not ended."""
        return [each.worker.name for each in self._watched if each.at_work]

    def late(self) -> list[str]:
        """Workers that have not ticked within their limit, and are not asleep."""
        now = self._clock.now().boottime
        return [each.worker.name for each in self._watched if not each.asleep and now - each.ticked > each.limit]

    def ticks(self) -> dict[str, float | None]:
        """Seconds since each worker's last tick; None for those that are asleep until there is something to do."""
        now = self._clock.now().boottime
        return {each.worker.name: None if each.asleep else round(now - each.ticked, 3) for each in self._watched}

    def _live(self, watched: _Watched) -> None:
        """One worker's thread, from its first step to its last."""
        try:
            self._work(watched)
        except Exception:  # the thread's top: a dead worker must end the process, loudly
            log.critical("worker %s died", watched.worker.name, exc_info=True)
            self.failed = True
            self.stopping.set()
        finally:
            if watched.close:
                watched.close()
            watched.at_work = False
            with self._counting:
                self._running -= 1
                if not self._running:
                    self._all_ended.set()

    def _work(self, watched: _Watched) -> None:
        worker = watched.worker
        while True:
            worker.wake.clear()
            if self.stopping.is_set():  # looked at after the clear: `stop` sets it before it wakes anybody
                return
            now = self._clock.now()
            watched.ticked, watched.asleep = now.boottime, False
            due = worker.step(now)
            if due is None:
                watched.asleep = True
                self._clock.wait(worker.wake, None)
            elif due > now.boottime:
                self._clock.wait(worker.wake, min(due, self._clock.now().boottime + self._longest_wait))


def _tell_late(late: Sequence[str]) -> None:
    if late:
        log.error("no tick from %s: the watchdog is not fed", ", ".join(late))
    else:
        log.warning("every worker ticks again")
