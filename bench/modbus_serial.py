"""What a round costs on a Modbus serial line, and what dead devices cost the others. Prints one JSON document.

`rtu_*`: `meter-gateway run` itself, without EnerKey, reads 8 meters with ten values each over a pseudo-terminal that gives
every byte the time of its line (eleven bits a character; answers begin after 5 ms). The gap is set to the shortest that
is allowed, 3.5 characters (`gap = "0ms"`): by default it is 60 ms, 100 ms when the device changes. A cycle is the time from
the first byte of a round to the end of its last answer and the silence behind it; `rtu_*_cycle_ratio` is the median cycle
over the time that the best plan's requests and answers take on that line. `rtu_early_requests` are those whose first byte came
before 3.5 characters had passed since the end of the answer before: a ratio below 1 would be a broken rule. Meters and gateway go
before other programs on the processor where that is permitted (as root): on a busy machine others' work is measured else.

`dead_*`: the driver's own decisions over hours, in virtual time on a line that only counts: 32 meters at 19 200 baud, polled
every 10 s with all defaults, 1 or 5 of them silent for ever. The slowdown is the share of the line's time that asking
them takes (timeout, and the quiet behind it in which a late answer would be thrown away) in the steady state, after two hours.

    .venv/bin/python bench/modbus_serial.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from drivers.base import Ports
from drivers.modbus.address import address_of
from drivers.modbus.bus import DRAIN
from drivers.modbus.connection import Connection
from drivers.modbus.driver import ModbusDriver
from drivers.modbus.source import Source
from drivers.modbus.wire import Answer, NoAnswer, Request
from drivers.modbus.wiretime import RTU, Wire, wire_of
from gateway.clock import SystemClock
from gateway.simulator.meters import WordMeter
from gateway.simulator.modbus import SerialSimulator
from gateway.wiring import Forgetful
from tests.fakes.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parent.parent
METERS = 8
GROUPS = (range(0x48, 0x50, 2), range(0x400, 0x406, 2), range(0xC00, 0xC06, 2))  # further apart than a request reaches
REGISTERS = [register for group in GROUPS for register in group]
BEST = METERS * len(GROUPS)  # requests
TURNAROUND = 0.005  # s; longer than the silence that ends the request
BITS = 11  # of a character: a start bit, eight of data, two of the end
REQUEST, ANSWER = 8, 5  # characters, the answer's without its registers
BAUDRATES = (9600, 19_200)
POLL = 2.0  # s; a round at 9600 baud takes about 0.95 s
APART = 0.3  # s of silence between two rounds; within one it is some milliseconds
CONFIG = """
[gateway]
name = "bench"
data_dir = "{directory}/data"
[clock]
trust = "always"
[connections.line]
driver = "modbus"
url = "{url}"
poll = "{poll:g}s"
gap = "0ms"
"""
VALUE = """[[meters]]
name = "{name}"
push = "off"
unit = "kWh"
max_rate = 1000
source = {{ connection = "line", device = {device}, register = {register}, type = "f32", unit = "kWh" }}
"""
SITE = 32  # meters on the line with dead ones
WARM, STEADY = 2 * 3600.0, 4 * 3600.0  # s of virtual time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="of each speed (default: %(default)s)")
    args = parser.parse_args()
    print(json.dumps(measure(args.rounds), indent=2))


def measure(rounds: int = 15) -> dict[str, float]:
    """All figures of the serial half."""
    found: dict[str, float] = {}
    lines = [on_the_wire(baudrate, rounds) for baudrate in BAUDRATES]
    for baudrate, line in zip(BAUDRATES, lines, strict=True):
        found |= {f"rtu_{baudrate}_{key}": round(value, 4) for key, value in line.figures.items()}
    found["rtu_early_requests"] = sum(line.early for line in lines)
    found["requests_per_cycle"] = max(line.requests for line in lines)
    found["best_plan_requests_per_cycle"] = BEST
    for dead in (1, 5):
        found |= {f"dead_{dead}_of_{SITE}_{key}": round(value, 4) for key, value in with_dead(dead).items()}
    return found


# --- a line of bytes --------------------------------------------------------------------------------------------------


class Measured(NamedTuple):
    figures: dict[str, float]
    early: int
    requests: float


def on_the_wire(baudrate: int, rounds: int) -> Measured:
    meters = [WordMeter(device, words_of(device)) for device in range(1, METERS + 1)]
    with first_in_line():
        simulator = SerialSimulator(meters, SystemClock(), baudrate, "E", turnaround=TURNAROUND)
    try:
        # eleven bits on both sides: a pseudo-terminal takes a second stop bit, and no parity
        url = f"{simulator.url.partition('?')[0]}?baudrate={baudrate}&parity=N&stopbits=2"
        with tempfile.TemporaryDirectory() as name:
            run_gateway(url, Path(name), POLL * (rounds + 2), simulator)
    finally:
        simulator.stop()
    character = BITS / baudrate
    silence = 3.5 * character
    asked = [REQUEST + ANSWER + 2 * (2 * len(group)) for group in GROUPS]  # characters; two registers a value
    ideal = METERS * sum(silence + characters * character + TURNAROUND for characters in asked)
    cycles = list(cycles_of(list(simulator.began), list(simulator.ended), silence))[1:-1]  # whole ones
    seconds = [cycle.seconds for cycle in cycles]
    figures = {
        "cycle_ratio": statistics.median(seconds) / ideal,
        "cycle_ratio_worst": max(seconds) / ideal,
        "cycle_s": statistics.median(seconds),
        "cycle_s_best_plan": ideal,
        "silence_ms_p50": statistics.median(rest for cycle in cycles for rest in cycle.rests) * 1000,
        "silence_ms_needed": silence * 1000,
    }
    return Measured(figures, simulator.early, statistics.mean(cycle.requests for cycle in cycles))


@contextmanager
def first_in_line() -> Iterator[None]:
    """Threads and processes that are started here go before others on the processor, where that is permitted.

    As a real-time class, since "nice" counts only within a session.
    """
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    yield
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


class Cycle(NamedTuple):
    requests: int
    seconds: float
    rests: list[float]  # between an answer and the next request


def cycles_of(began: list[float], ended: list[float], silence: float) -> Iterator[Cycle]:
    """Rounds, by the long rest between them; every request has been answered."""
    pairs = list(zip(began, ended, strict=False))
    first = 0
    for at, ((_, over), (begin, _)) in enumerate(pairwise(pairs), 1):
        if begin - over > APART:
            seconds = pairs[at - 1][1] - pairs[first][0] + silence
            rests = [later[0] - earlier[1] for earlier, later in pairwise(pairs[first:at])]
            yield Cycle(at - first, seconds, rests)
            first = at


def words_of(device: int) -> dict[int, int]:
    return {register + at: 0x4200 + device for register in REGISTERS for at in range(2)}


def run_gateway(url: str, directory: Path, seconds: float, simulator: SerialSimulator) -> None:
    """The real process until so many seconds after its first request."""
    config = directory / "config.toml"
    values = [
        VALUE.format(name=f"m{device}-{register:04x}", device=device, register=register)
        for device in range(1, METERS + 1)
        for register in REGISTERS
    ]
    config.write_text(CONFIG.format(directory=directory, url=url, poll=POLL) + "".join(values))
    command = [sys.executable, "-m", "gateway", "run", "-c", str(config)]
    with first_in_line():
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        began = time.monotonic()
        while not simulator.ended:
            if process.poll() is not None or time.monotonic() - began > 60:
                raise SystemExit("the gateway asked nothing within 60 s")
            time.sleep(0.05)
        time.sleep(seconds)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


# --- a line that only counts ------------------------------------------------------------------------------------------


class CountingBus:
    """A serial line in virtual time, with what the real one rests: the gap, and the quiet after a silence."""

    def __init__(self, clock: FakeClock, wire: Wire, dead: set[int]) -> None:
        self.opened = 0
        self.is_open = False
        self.lost = 0.0  # s of the line that dead devices took
        self.asked_dead = 0
        self._clock = clock
        self._wire = wire
        self._dead = dead
        self._free = 0.0  # boottime at which the line has been silent since the last byte
        self._quiet_until = 0.0

    def open(self) -> None:
        self.opened += 1
        self.is_open = True

    def read(self, request: Request) -> Answer:
        rest = max(self._free + max(request.gap, self._wire.silence), self._quiet_until) - self._clock.boottime
        self.pause(max(rest, 0.0))
        if request.device in self._dead:
            took = RTU.request * self._wire.character + request.timeout
            self._clock.advance(took)
            self.asked_dead += 1
            self.lost += took + DRAIN
            self._free = self._clock.boottime
            self._quiet_until = self._free + DRAIN
            raise NoAnswer(f"no answer within {request.timeout:g} s")
        took = self._wire.cycle(request.block.count, 0.0) - self._wire.silence
        self._clock.advance(took)
        self._free = self._clock.boottime
        return Answer((0x4200,) * request.block.count, took)

    def pause(self, seconds: float) -> None:
        self._clock.advance(seconds)

    def close(self) -> None:
        self.is_open = False


def with_dead(number: int) -> dict[str, float]:
    """The steady state of a line of which so many devices never answer."""
    url = "rtu:///dev/ttyS0?baudrate=19200&parity=E"
    wire = wire_of(address_of(url))
    assert wire
    clock = FakeClock()
    bus = CountingBus(clock, wire, set(range(1, number + 1)))
    store: list[tuple[str, float]] = []
    ports = Ports(
        clock,
        lambda batch: store.extend((each.source, clock.boottime) for each in batch if hasattr(each, "value")),
        Forgetful(),
        lambda *_: None,
        Random(1),
        "bench",
    )
    connection = Connection(driver="modbus", url=url, poll="10s")
    driver = ModbusDriver("line", connection, sources_of(SITE), ports, bus)
    run(driver, clock, WARM)
    bus.lost, bus.asked_dead = 0.0, 0
    store.clear()
    took = run(driver, clock, STEADY)
    polls = (SITE - number) * took / connection.poll
    return {
        "slowdown": bus.lost / took,
        "probes_per_hour_each": bus.asked_dead / number * 3600 / took,
        "missed_polls": max(0.0, round(polls) - len(store)),
    }


def sources_of(devices: int) -> Mapping[str, Source]:
    return {
        f"m{device}": Source(connection="line", device=device, register=72, type="f32", unit="kWh")
        for device in range(1, devices + 1)
    }


def run(driver: ModbusDriver, clock: FakeClock, seconds: float) -> float:
    """Step as the service does; the virtual seconds that it took."""
    began = clock.boottime
    while clock.boottime < began + seconds:
        clock.wait(driver.wake, driver.step(clock.now()))
    return clock.boottime - began


if __name__ == "__main__":
    main()
