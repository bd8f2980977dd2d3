"""A driver in a thread of its own, stepped as the service steps it, with bounded waits for what it brings about."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Event, Thread
from typing import Self

from drivers.base import Clock, Driver, Helper

WITHIN = 60.0  # s; every wait ends by itself long before
LONGEST_WAIT = 10.0  # s, as in gateway.service


class DriverThread:
    """`with DriverThread(driver, clock) as running: running.until(lambda: ...)`; leaving it stops and closes."""

    def __init__(self, driver: Driver, clock: Clock, helpers: Sequence[Helper] = ()) -> None:
        """`helpers`: what serves the driver besides, each in a thread of its own."""
        self.driver = driver
        self.died: BaseException | None = None
        self._clock = clock
        self._stopping = Event()
        self._workers = (driver, *helpers)
        self._threads = [Thread(target=self._live, args=(each,), name=each.name, daemon=True) for each in self._workers]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self.stop(WITHIN), "the driver does not stop"
        assert self.died is None, repr(self.died)

    def stop(self, within: float) -> bool:
        """Ask it to stop; whether its thread has ended, the wire released, within so many seconds."""
        self._stopping.set()
        for worker in self._workers:
            worker.wake.set()
        end = time.monotonic() + within
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def until(self, reached: Callable[[], bool], within: float = WITHIN) -> None:
        """Wait for a condition."""
        end = time.monotonic() + within
        while not reached():
            assert self.died is None, repr(self.died)
            assert time.monotonic() < end, f"never: {self.driver.health()}"
            time.sleep(0.005)

    def _live(self, worker: Driver | Helper) -> None:
        try:
            while True:
                worker.wake.clear()
                if self._stopping.is_set():
                    return
                due = worker.step(self._clock.now())
                longest = self._clock.now().boottime + LONGEST_WAIT
                self._clock.wait(worker.wake, None if due is None else min(due, longest))
        except BaseException as error:
            self.died = error
        finally:
            worker.close()
