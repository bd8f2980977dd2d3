"""Telling meters on several Modbus TCP connections, and the real drivers with all their threads, as the service runs them.

with SharedService(connections=4) as site:
    site.until(lambda: ...)
    site.lines[0].suffer(Fault("late", 1))
    site.lines[1].restart()
    assert site.stop(5.0)
    site.check()                                # nothing wrong, nothing lost, nothing twice
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

from drivers.modbus.config import Connection, check
from drivers.modbus.driver import ModbusDriver, share
from gateway.clock import ScaledClock
from gateway.service import Service
from gateway.simulator.faults import Fault
from gateway.simulator.modbus import ModbusSimulator
from gateway.systemd import Notifier
from tests.fakes.clock import START
from tests.fakes.ports import lasting_port
from tests.fakes.telling_meters import LONGEST_WAIT, PLACES, LaterJudge, TellingMeter, hasty, sources_of

WITHIN = 60.0  # s; every wait ends by itself long before
LATE = (0.07, 0.25)  # s, more than `timeout`


class Limits(NamedTuple):
    """`wait`: longest wait of a worker; `tick`: longest time without a tick."""

    wait: float
    tick: float


LIMITS = Limits(LONGEST_WAIT, 60.0)


class TellingEnd:
    """The far end of one connection; it may be gone for a while."""

    def __init__(self, meters: Sequence[TellingMeter], clock: ScaledClock) -> None:
        self.meters = meters
        self._clock = clock
        self._simulator = self._started(lasting_port())
        self.url = self._simulator.url
        self.gone = False

    def calm(self) -> None:
        """Be there, and answer."""
        if self.gone:
            self.restart()
        self.suffer()
        self._simulator.line.mute.clear()

    def suffer(self, *faults: Fault) -> None:
        """These, and no others."""
        self._simulator.faults = faults

    def late(self, least: float, most: float) -> None:
        """How much later late answers come."""
        self._simulator.line.late = (least, most)

    def mute(self, *devices: int) -> None:
        """These answer no more."""
        self._simulator.line.mute.update(devices)

    def hang_up(self) -> None:
        """End the connection; the next one is taken."""
        for client in self._simulator._clients:
            client.hang_up("half")

    def vanish(self) -> None:
        """Nobody listens any more."""
        self._simulator.stop()
        self.gone = True

    def restart(self) -> None:
        """On the same port."""
        self._simulator.stop()
        self._simulator = self._started(self._simulator.port)
        self.gone = False

    def stop(self) -> None:
        self._simulator.stop()

    def _started(self, port: int) -> ModbusSimulator:
        simulator = ModbusSimulator(self.meters, self._clock, port=port)
        simulator.line.late = LATE
        return simulator


class SharedService:
    """See the module."""

    def __init__(
        self,
        connections: int,
        scale: float,
        poll: str,
        timeout: str = "10s",
        devices: int = 2,
        limits: Limits = LIMITS,
        hasty: str | None = None,
    ) -> None:
        """`scale`: so many times as fast as real time; `devices`: on each connection; the service's `limits` in real seconds.

        `hasty`: the first connection's timeout, where it is another one.
        """
        self.clock = ScaledClock(START, scale)
        numbers = [range(n * devices + 1, (n + 1) * devices + 1) for n in range(connections)]
        self.lines = [TellingEnd([TellingMeter(number) for number in each], self.clock) for each in numbers]
        self.meters = [meter for line in self.lines for meter in line.meters]
        self.store = LaterJudge(self.clock, self.meters)
        timeouts = [hasty or timeout, *[timeout] * (connections - 1)]
        self.drivers = [self._driver(n, poll, timeouts[n]) for n in range(connections)]
        self.loop, self.storing = share(self.drivers, self.clock, self.store.deliver_together, limits.wait * scale)
        self.service = Service(self.clock, Notifier({}), limits.wait * scale)
        for worker in (*self.drivers, self.loop, self.storing):
            self.service.add(worker, limit=limits.tick * scale, close=worker.close)

    def _driver(self, number: int, poll: str, timeout: str) -> ModbusDriver:
        keys = {"driver": "modbus", "url": self.lines[number].url, "poll": poll, "timeout": timeout}
        settings, sources = Connection.model_validate(keys), sources_of(self.lines[number].meters)
        assert not check(settings, sources)
        return ModbusDriver(f"line{number}", settings, sources, self.store.ports, hasty(settings))

    def __enter__(self) -> Self:
        self.service.start()
        return self

    def __exit__(self, *_: object) -> None:
        stopped = self.stop(WITHIN)
        for line in self.lines:
            line.stop()
        assert stopped, self.service.at_work()

    def stop(self, within: float) -> bool:
        """Whether every thread has ended within so many seconds."""
        return self.service.stop(within)

    def until(self, reached: Callable[[], bool], within: float = WITHIN) -> None:
        """Wait for a condition."""
        end = time.monotonic() + within
        while not reached():
            assert not self.service.failed
            assert time.monotonic() < end, [(driver.name, driver.health()) for driver in self.drivers]
            time.sleep(0.01)

    def polled(self, line: int) -> int:
        """How often every register of a connection is stored."""
        return min(self.store.stored[meter.device] for meter in self.lines[line].meters) // len(PLACES)

    def all_lent(self) -> bool:
        """The newest delivery was for all connections, and each is well."""
        well = all(driver.health().state == "ok" for driver in self.drivers)
        return well and self.store.spoken_for[-1:] == [len(self.drivers)]

    def check(self) -> None:
        """After the end, or while nothing is under way: what was read is stored once, and is what the meters told."""
        assert not self.service.failed
        assert not self.store.wrong
        assert self.store.stored.total() == sum(driver.health().counts["readings"] for driver in self.drivers)
