"""The Modbus driver on a fake line, and the loop that its thread runs, in virtual time."""

from __future__ import annotations

from threading import Event

from drivers.modbus.config import Connection, Source, check
from drivers.modbus.driver import ModbusDriver
from tests.fakes.clock import START, FakeClock
from tests.fakes.driver_ports import FakePorts
from tests.fakes.modbus_bus import FakeBus

HOUR_EDGE = START.replace(hour=10, minute=0)
LONGEST_WAIT = 10.0  # s; the service calls every worker at least this often
MOST_STEPS = 20_000  # a driver that wants to be called again at once, for ever, is a busy loop


def connection(**keys) -> Connection:
    return Connection.model_validate({"driver": "modbus", "url": "tcp://192.0.2.10:502"} | keys)


def source(device: int = 1, register: int | None = 10, type: str | None = "u32", **keys) -> Source:  # noqa: A002 - as written
    return Source.model_validate({"connection": "main", "device": device, "register": register, "type": type} | keys)


class Line:
    """A driver named "main" with everything around it."""

    def __init__(self, sources: dict[str, Source], memory: dict[str, str] | None = None, **keys) -> None:
        self.clock = FakeClock()
        self.bus = FakeBus(self.clock)
        self.store = FakePorts(self.clock, memory)
        settings = connection(**keys)
        assert not check(settings, sources)
        self.driver = ModbusDriver("main", settings, sources, self.store.ports, self.bus)

    def run(self, seconds: float) -> None:
        """Step as the service does, until so much time has passed."""
        end = self.clock.boottime + seconds
        for _ in range(MOST_STEPS):
            due = self.driver.step(self.clock.now())
            until = min(due, self.clock.boottime + LONGEST_WAIT)
            if until > end:
                self.clock.wait(Event(), end)
                return
            self.clock.wait(Event(), until)
        raise AssertionError("the driver never rests")

    def step(self) -> float:
        """One step now."""
        return self.driver.step(self.clock.now())

    def problem(self, source: str) -> str:
        """What `read` and `status` say of a source."""
        return self.driver.last_reads()[source].problem


def four(**keys) -> Line:
    """Four meters a, b, c, d with the ids 1 to 4, each counting its own id."""
    line = Line({name: source(device=at) for at, name in enumerate("abcd", 1)}, **keys)
    for device in range(1, 5):
        line.bus.put(device, 10, 0, device)
    return line


def one(**keys) -> Line:
    """Meter a with the id 1, which has counted 7."""
    line = Line({"a": source()}, **keys)
    line.bus.put(1, 10, 0, 7)
    return line
