"""A driver in a thread of its own, stepped as the service steps it, with bounded waits for what it brings about."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Self

from drivers.base import Clock, Driver

WITHIN = 20.0  # s; every wait ends by itself long before
LONGEST_WAIT = 10.0  # s, as in gateway.service


class DriverThread:
    """`with DriverThread(driver, clock) as running: running.until(lambda: ...)`; leaving it stops and closes."""

    def __init__(self, driver: Driver, clock: Clock) -> None:
        self.driver = driver
        self.died: BaseException | None = None
        self._clock = clock
        self._stopping = Event()
        self._thread = Thread(target=self._live, name=driver.name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self.stop(WITHIN), "the driver does not stop"
        assert self.died is None, repr(self.died)

    def stop(self, within: float) -> bool:
        """Ask it to stop; whether its thread has ended, the wire released, within so many seconds."""
        self._stopping.set()
        self.driver.wake.set()
        self._thread.join(within)
        return not self._thread.is_alive()

    def until(self, reached: Callable[[], bool], within: float = WITHIN) -> None:
        """Wait for a condition."""
        end = time.monotonic() + within
        while not reached():
            assert self.died is None, repr(self.died)
            assert time.monotonic() < end, f"never: {self.driver.health()}"
            time.sleep(0.005)

    def _live(self) -> None:
        driver = self.driver
        try:
            while True:
                driver.wake.clear()
                if self._stopping.is_set():
                    return
                due = driver.step(self._clock.now())
                self._clock.wait(driver.wake, min(due, self._clock.now().boottime + LONGEST_WAIT))
        except BaseException as error:
            self.died = error
        finally:
            driver.close()
