"""Meters whose registers tell whose they are and which request they answer, and a store that believes nothing else.

    meters = [TellingMeter(device) for device in (1, 2, 3)]
    store = Judge(clock, meters)
    ...                                             # a driver delivers into store.ports
    assert not store.wrong                          # readings that are not what the newest request to that register got

A value is made of the device's id, the register and a number that counts the requests to the device: an answer that
belongs to another device, another register or an earlier request shows.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from threading import Event, Lock

from buffer.model import MICRO, to_micro, to_ms
from drivers.base import Clock
from drivers.modbus.address import address_of
from drivers.modbus.bus import PymodbusBus
from drivers.modbus.config import Connection, Source, check
from drivers.modbus.driver import ModbusDriver, share
from drivers.modbus.prompt import PromptBus
from drivers.reading import Reading, Rejected
from gateway.clock import SystemClock
from gateway.simulator import building
from gateway.simulator.meters import Meter, ModbusMeter, Register, cut_out
from gateway.simulator.modbus import ModbusSimulator, SerialSimulator
from tests.fakes.clock import FakeClock
from tests.fakes.driver_ports import FakePorts
from tests.waiting import SOON

PLACES = {0: 2, 2: 2, 40: 2, 80: 2, 120: 4}  # register -> words; 0 and 2 come in one request, as long as that of 120
COUNTER = 40  # the one that faults of values change
MOST_REGISTERS = 10  # in one request, so that the others come in requests of their own
BAUDRATE = 230_400
TIMEOUT, DRAIN, LATEST = 0.06, 0.06, 2.0  # s
LONGEST_PAUSE = 120  # polls, within which everything that rests is asked for again
RECOVERY = 2 * LATEST / LONGEST_PAUSE  # s
LONGEST_WAIT = 10.0  # s, as in gateway.service
TRANSPORTS = ("tcp", "shared tcp", "rtu+tcp", "rtu")
SHARED = "shared "  # the loop that serves many connections serves this one


class TellingMeter:
    """See the module."""

    def __init__(self, device: int) -> None:
        self.device = device
        self.counters = (Register(COUNTER, "u32", MICRO),)
        self.told: dict[int, int] = {}  # register -> what the newest request got from it
        self.history: dict[int, list[tuple[datetime, int]]] = {
            register: [] for register in PLACES
        }  # and all, with their times
        self._number = 0

    def words(self, function: int, first: int, count: int, at: datetime) -> Sequence[int]:
        self._number += 1
        held: dict[int, int] = {}
        for nth, (register, width) in enumerate(PLACES.items()):
            value = self.device << 24 | nth << 20 | self._number
            raw = value.to_bytes(2 * width, "big")
            held |= {register + nr: int.from_bytes(raw[2 * nr : 2 * nr + 2], "big") for nr in range(width)}
            if first <= register and register + width <= first + count:
                self.told[register] = value
                self.history[register].append((at, value))
        return cut_out(held, first, count)


class Judge(FakePorts):
    """A store that compares what it gets with what the meters told last."""

    def __init__(self, clock: Clock, meters: Sequence[TellingMeter]) -> None:
        super().__init__(clock)
        self.wrong: list[str] = []
        self.stored: Counter[int] = Counter()  # readings per device
        self._meters = {meter.device: meter for meter in meters}

    def deliver(self, batch: Sequence[Reading | Rejected]) -> None:
        for item in batch:
            if isinstance(item, Reading):
                device, register = map(int, item.source.split("/"))
                told = self.told(self._meters[device], register, item.at)
                self.stored[device] += 1
                if item.value != told:
                    self.wrong.append(f"{item.source}: {int(item.value):#x} is stored, {told:#x} was told")

    def told(self, meter: TellingMeter, register: int, at: datetime) -> int:
        """What a reading of `at` must say."""
        del at
        return meter.told[register]


class LaterJudge(Judge):
    """One to whom readings come later, from several threads; the meters and the driver have one clock.

    A register is asked again when its answer has come, and not before: a reading of `at` says what was told last before
    `at`. It is slow, `full` or hangs until it is `let_go` when the test says so; no reading comes twice.
    """

    def __init__(self, clock: Clock, meters: Sequence[TellingMeter]) -> None:
        super().__init__(clock, meters)
        self.slow = 0.0  # s for each delivery
        self.let_go = Event()
        self.let_go.set()
        self._one_by_one = Lock()
        self._seen: set[tuple[str, datetime]] = set()

    def deliver(self, batch: Sequence[Reading | Rejected]) -> None:
        time.sleep(self.slow)
        self.let_go.wait()
        with self._one_by_one:
            FakePorts.deliver(self, batch)
            Judge.deliver(self, batch)
            for item in batch:
                if isinstance(item, Reading):
                    if (item.source, item.at) in self._seen:
                        self.wrong.append(f"{item.source} of {item.at} is stored twice")
                    self._seen.add((item.source, item.at))

    def told(self, meter: TellingMeter, register: int, at: datetime) -> int:
        return next((value for told, value in reversed(meter.history[register]) if told <= at), 0)


class HastyBus(PymodbusBus):
    """The real bus, with little patience for devices that ask for some: a second becomes ten milliseconds."""

    def pause(self, seconds: float) -> None:
        super().pause(seconds / 100)


class HastyPromptBus(PromptBus, HastyBus):
    """The same for Modbus TCP."""


def hasty(settings: Connection) -> HastyBus:
    address = address_of(settings.url)
    return (HastyPromptBus if address.scheme == "tcp" else HastyBus)(settings, address, drain=DRAIN, latest=LATEST)


class Workers:
    """A driver, and for a shared line what serves it; one after the other, as the service steps them side by side."""

    def __init__(self, transport: str, driver: ModbusDriver, store: FakePorts, clock: Clock) -> None:
        self.driver = driver
        self._clock = clock
        self._helpers = share([driver], clock, store.deliver_together, LONGEST_WAIT) if SHARED in transport else ()
        assert len(self._helpers) == 2 * transport.startswith(SHARED)

    def step(self) -> float:
        """When there is more to do."""
        now = self._clock.now()
        self.driver.wake.clear()
        dues = [worker.step(now) for worker in (self.driver, *self._helpers)]
        due = min(due for due in dues if due is not None)
        return now.boottime if self.driver.wake.is_set() else due

    def close(self) -> None:
        for worker in (self.driver, *self._helpers):
            worker.close()


class TellingLine:
    """Telling meters, a simulated line, and the real driver on it: the wire's time is real, that of polls is not."""

    def __init__(self, transport: str, devices: int = 2, rest: float = 0.0, **keys) -> None:
        """`rest`: real seconds between two polls; `keys`: of the connection."""
        self._rest = rest
        self.clock = FakeClock()
        self.meters = [TellingMeter(device) for device in range(1, devices + 1)]
        self.store = Judge(self.clock, self.meters)
        self.simulator = simulator_of(transport, self.meters, SystemClock())
        url = self.simulator.url
        gap = "0ms" if wire_of(transport) == "tcp" else "4ms"
        usual = {"driver": "modbus", "url": url, "poll": "10s", "timeout": f"{TIMEOUT * 1000:g}ms", "gap": gap}
        self.settings = Connection.model_validate(usual | keys)
        sources = sources_of(self.meters)
        assert not check(self.settings, sources)
        self.driver = ModbusDriver("main", self.settings, sources, self.store.ports, hasty(self.settings))
        self.workers = Workers(transport, self.driver, self.store, self.clock)

    def run(self, seconds: float) -> None:
        """Step as the service does, until so much time has passed on the clock of the polls."""
        end = self.clock.boottime + seconds
        while True:
            due = min(self.workers.step(), self.clock.boottime + LONGEST_WAIT)
            if due > self.clock.boottime:
                time.sleep(self._rest)
            self.clock.wait(Event(), min(due, end))
            if due > end:
                return

    def reads_all(self, poll: float) -> bool:
        """Go on for one poll; whether each value of each device came."""
        before = self.store.stored.copy()
        self.run(poll)
        return all(self.store.stored[meter.device] - before[meter.device] == len(PLACES) for meter in self.meters)

    def recovers(self, poll: float) -> bool:
        """Whether each value of each device comes in one poll at last. What is late is so in real time: that passes, too.

        So does the time for which the machine lets no meter answer: the polls have a clock of their own.
        """
        end = time.monotonic() + SOON
        for polls in count(1):
            if self.reads_all(poll):
                return True
            if polls >= LONGEST_PAUSE and time.monotonic() > end:
                break
            time.sleep(RECOVERY)
        return False

    def stop(self) -> None:
        self.workers.close()
        self.simulator.stop()


@contextmanager
def telling_line(transport: str, **keys) -> Iterator[TellingLine]:
    """A running line."""
    line = TellingLine(transport, **keys)
    try:
        yield line
    finally:
        line.stop()


class LoneMeter:
    """A meter of a family whose truth is known, with the real driver on its line; the meter's clock is that of the polls."""

    def __init__(self, transport: str) -> None:
        self.clock = FakeClock()
        simulated = building.bus(2, push="off")[1]
        assert isinstance(simulated.source, ModbusMeter)
        self.meter = simulated.source
        self.simulator = simulator_of(transport, [self.meter], self.clock)
        self.store = FakePorts(self.clock)
        model = self.meter.model
        keys = {"connection": "main", "device": self.meter.device, "profile": model.profile, "point": model.point}
        settings = Connection.model_validate(
            {
                "driver": "modbus",
                "url": self.simulator.url,
                "poll": "20s",
                "gap": "0ms" if wire_of(transport) == "tcp" else "4ms",
            }
        )
        sources = {"meter": Source.model_validate(keys)}
        assert not check(settings, sources)
        self.driver = ModbusDriver("main", settings, sources, self.store.ports, hasty(settings))
        self.workers = Workers(transport, self.driver, self.store, self.clock)

    def read(self, polls: int) -> list[tuple[int, int]]:
        """So many readings: milliseconds and micro."""
        before = len(self.store.readings)
        while len(self.store.readings) < before + polls:
            self.clock.wait(Event(), min(self.workers.step(), self.clock.boottime + LONGEST_WAIT))
        return [(to_ms(reading.at), to_micro(reading.value)) for reading in self.store.readings[before:]]

    def stop(self) -> None:
        self.workers.close()
        self.simulator.stop()


@contextmanager
def lone_meter(transport: str) -> Iterator[LoneMeter]:
    """A running line with one meter."""
    line = LoneMeter(transport)
    try:
        yield line
    finally:
        line.stop()


def simulator_of(transport: str, meters: Sequence[Meter], clock: Clock) -> ModbusSimulator | SerialSimulator:
    """Their line."""
    if transport == "rtu":
        return SerialSimulator(meters, clock, BAUDRATE)
    return ModbusSimulator(meters, clock, rtu=transport == "rtu+tcp")


def wire_of(transport: str) -> str:
    """What the meters see of it."""
    return transport.removeprefix(SHARED)


def sources_of(meters: Sequence[TellingMeter]) -> dict[str, Source]:
    """Every register, named by its device and its number."""
    return {f"{meter.device}/{at}": _source(meter.device, at) for meter in meters for at in PLACES}


def _source(device: int, register: int) -> Source:
    kind = {2: "u32", 4: "u64"}[PLACES[register]]
    keys = {"connection": "main", "device": device, "register": register, "type": kind, "unit": "kWh"}
    absent = {"na": ["0xFFFFFFFF"]} if register == COUNTER else {}
    return Source.model_validate(keys | absent | {"max_registers": MOST_REGISTERS})
