"""Days of a gateway over real sockets: a bad line, a server that fails after it has stored, and SIGKILL all the time."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from threading import Event, Lock
from typing import Any

from buffer.model import hour_of, hour_start, to_ms
from gateway.clock import ScaledClock
from gateway.simulator import building
from gateway.simulator.broker import HOST, start_broker
from gateway.simulator.enerkey import EnerkeySimulator, random_faults
from gateway.simulator.http import serve
from gateway.simulator.modbus import ModbusSimulator
from tests.fakes.gateway_process import TAIL, GatewayProcess
from tests.torture import site
from tests.torture.wire import LOST, Moment, Wire

STORED_AND_500 = 0.10  # probability per request
START = datetime(2026, 11, 30, tzinfo=UTC)
SPEAKS_WITHIN = 60.0  # s, real: until every meter has been heard
KILL_EVERY = (2.0, 6.0)  # s, real
LOOK_EVERY = 0.25  # s, real
CHECK_EVERY = 4  # kills between two looks at what a kill leaves on the disk
SETTLES_WITHIN = timedelta(hours=60)  # of the gateway's time, once nothing fails any more; three real minutes
NEVER_SETTLES = timedelta(hours=8)  # the same with a bug put in: then it may never be at rest
LEAST_KILLS = 2  # however long a start takes
LEAST_PUSHES = 40  # until a bug meets what it does wrong, almost certainly: one of four answers to a push is lost
MET_WITHIN = 120.0  # s, real: for every kind of fault and an unknown fate that was cleared up
ARMED_FOR = 3.0  # s, real, that a kill waits for a push

SETTLED = (
    "SELECT (SELECT count(*) FROM hour WHERE hour BETWEEN ?1 AND ?2 AND state = 'accepted'),"
    " (SELECT count(*) FROM message WHERE state IN ('open', 'unknown')),"
    " (SELECT count(*) FROM adjustment WHERE posted <> amount)"
)
VERIFIED = "SELECT count(*) FROM message WHERE state = 'verified'"


@dataclass
class Figures:
    """What a life came to."""

    hours: int = 0  # meter-hours that must be there
    wrong: list[str] = field(default_factory=list)  # one a meter-hour
    problems: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)  # by method
    messages: Counter[str] = field(default_factory=Counter)  # by what became of them
    applied: int = 0  # messages whose fate was unknown, and of which something turned out to be there
    unknown: Counter[str] = field(
        default_factory=Counter
    )  # hours of messages whose fate was unknown, by how they ended
    checks: int = 0  # of the file after a kill
    intents: int = 0  # of pushes, looked for in the file while they were on the wire
    adjustments: int = 0
    polled_off: float = 0.0  # the largest deviation of a polled hour from its load
    seconds: float = 0.0  # real

    @property
    def good(self) -> bool:
        return not self.wrong and not self.problems

    @property
    def count_wrong(self) -> int:
        """Meter-hours; a problem without a wrong hour counts as one."""
        return len(self.wrong) or int(bool(self.problems))


class Life:
    """One gateway from its first start to its last stop."""

    def __init__(
        self,
        directory: Path,
        *,
        hours: int,
        scale: float,
        seed: int,
        plant: str = "none",
        kill_every: tuple[float, float] = KILL_EVERY,
    ) -> None:
        self.figures = Figures()
        self.directory = directory
        self._random = Random(seed)
        self._scale, self._plant = scale, plant
        self._hours, self._kill_every = hours, kill_every
        self.first = self.last = 0  # hours since the epoch that must be there in the end
        self.meters = site.meters(START - timedelta(days=1))
        self.enerkey: EnerkeySimulator
        self._armed: Moment | None = None
        self._arming = Lock()
        self._struck = Event()

    @property
    def database(self) -> Path:
        return self.directory / "data" / "buffer.db"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def live(self) -> None:
        """From the first start to the last stop."""
        began = time.monotonic()
        with ExitStack() as stack:
            self._set_up(stack)
            self._wait_for_every_meter()
            try:
                self._suffer()
                self._recover()
                if (code := self._gateway.stop()) != 0:
                    self.figures.problems.append(f"the last stop ended with exit code {code}")
            except AssertionError as error:  # it did not start any more
                self.figures.problems.append(str(error))
        if (crashes := self.log.read_text().count("Traceback")) > 0:
            self.figures.problems.append(f"{crashes} tracebacks in the log")
        self.figures.requests = self._wire.requests
        self.figures.faults += self._wire.faults
        self.figures.faults["late energy"] = self._devices.came_late
        self.figures.seconds = time.monotonic() - began

    def _set_up(self, stack: ExitStack) -> None:
        broker = start_broker("mosquitto", self.directory)
        stack.callback(broker.stop)
        self._clock = ScaledClock(START, self._scale)
        bus = ModbusSimulator(building.devices_on_the_bus(self.meters), self._clock)
        stack.callback(bus.stop)
        ids = [meter.enerkey_id for meter in self.meters]
        self.enerkey = EnerkeySimulator(now=lambda: self._clock.now().wall, keys=[site.KEY], meters=ids)
        chosen = random_faults({"500-after": STORED_AND_500}, Random(self._random.random()))
        self.enerkey.faults = lambda request: self._counted(chosen(request))
        server = serve(self.enerkey.handle)
        stack.callback(server.stop)
        self._wire = Wire(server.port, self._at_push, Random(self._random.random()))
        stack.callback(self._wire.stop)
        broker_url = f"mqtt://{HOST}:{broker.port}"
        config = site.configuration(self.directory, self._wire.url, bus.url, broker_url, self.meters)
        words = {
            "--start": START.isoformat(),
            "--origin": self._clock._origin,
            "--scale": self._scale,
            "--plant": self._plant,
        }
        options = [str(word) for pair in words.items() for word in pair]
        self._gateway = GatewayProcess(config, self.log, *options, module=["tests.torture.process"])
        stack.enter_context(self._gateway)
        self._devices = site.Dawdlers(
            building.devices_in_the_hall(self.meters), self._clock, HOST, broker.port,
            twice=(site.TWICE, Random(self._random.random())), random=Random(self._random.random()),
        )  # fmt: skip
        stack.callback(self._devices.stop)

    def _counted(self, fault: Any) -> Any:
        if fault:
            self.figures.faults["500 after storing"] += 1
        return fault

    # --- what it has to bear ------------------------------------------------------------------------------------------

    def _wait_for_every_meter(self) -> None:
        """From here on the broker keeps what is said while the gateway is away."""
        until = time.monotonic() + SPEAKS_WITHIN
        while self.look("SELECT count(DISTINCT meter) FROM reading")[0][0] < len(self.meters):
            if time.monotonic() > until:
                raise AssertionError(f"not every meter is heard:\n{self.log.read_text()[-TAIL:]}")
            time.sleep(LOOK_EVERY)
        self.first = hour_of(to_ms(self._clock.now().wall)) + 1
        self.last = self.first + self._hours - 1

    def _suffer(self) -> None:
        end = hour_start(self.last + 1)
        self._spared_until = time.monotonic() + MET_WITHIN
        while self._clock.now().wall < end or self.figures.kills.total() < LEAST_KILLS or self._is_spared():
            self._kill()
            if self.figures.kills.total() % CHECK_EVERY == 1:
                self._check_file()
            if self._random.random() < 0.15:
                self._gateway.start(patiently=False)
                time.sleep(self._random.uniform(0.05, 0.6))
                self._strike("while it started")
            self._gateway.start()
            time.sleep(self._random.uniform(*self._kill_every))

    def _is_spared(self) -> bool:
        """Whether something was not met yet, because the machine let little happen; not for ever."""
        met = self._wire.faults.keys() >= LOST.keys() and self.figures.faults["500 after storing"]
        shown = self.look(VERIFIED)[0][0] if self._plant == "none" else self._wire.requests["POST"] >= LEAST_PUSHES
        return not (met and shown) and time.monotonic() < self._spared_until

    def _kill(self) -> None:
        """At any moment, or in the middle of a push."""
        moment = self._random.choice((None, None, "asked", "answered"))
        if moment:
            self._struck.clear()
            with self._arming:
                self._armed = moment
            if self._struck.wait(ARMED_FOR):
                return
        with self._arming:
            if self._armed or not moment:
                self._armed = None
                self._strike("at any moment")

    def _at_push(self, moment: Moment, data: bytes) -> bool:
        if moment == "asked":
            self._check_intent(data.partition(b"\r\n\r\n")[2])
        return self._struck_if_armed(moment)

    def _check_intent(self, body: bytes) -> None:
        """R12: while a push is on the wire, its exact body is in the file for everybody to see.

        Whatever its state: where the machine lets us look late, the gateway that sent it was killed, and the next one has
        settled it. The server has not heard of it yet.
        """
        rows = self.look("SELECT body FROM message")
        self.figures.intents += 1
        if (body,) not in rows:
            self.figures.problems.append(f"R12: {body[:80]!r} was on the wire, and the file knew nothing of it")

    def _struck_if_armed(self, moment: Moment) -> bool:
        with self._arming:
            if self._armed != moment:
                return False
            self._armed = None
            self._strike("while it sent" if moment == "asked" else "before it had the answer")
        self._struck.set()
        return True

    def _strike(self, when: str) -> None:
        if (code := self._gateway.ended()) is not None:
            self.figures.problems.append(f"the gateway had ended by itself with exit code {code}")
        self._gateway.kill()
        self.figures.kills[when] += 1

    def _check_file(self) -> None:
        """R25: what a kill leaves behind opens and is whole. Looked at in a copy: the gateway is to find it as it was left."""
        copy = self.directory / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for name in ("buffer.db", "buffer.db-wal"):
            if (file := self.database.with_name(name)).exists():
                shutil.copy(file, copy)
        with closing(sqlite3.connect(copy / "buffer.db")) as db:
            if (said := db.execute("PRAGMA quick_check").fetchall()) != [("ok",)]:
                self.figures.problems.append(f"R25: after a kill the file is damaged: {said[0][0]}")
        self.figures.checks += 1

    # --- and then ----------------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Nothing fails any more; within a bounded time every hour is there."""
        self._wire.rates, self.enerkey.faults, self._devices.share = {}, None, 0.0
        until = self._clock.now().wall + (SETTLES_WITHIN if self._plant == "none" else NEVER_SETTLES)
        wanted = (len(self.meters) * (self.last - self.first + 1), 0, 0)
        while (found := self.look(SETTLED, self.first, self.last)[0]) != wanted and self._clock.now().wall < until:
            time.sleep(LOOK_EVERY)
        if found != wanted:
            accepted, open_messages, unposted = found
            self.figures.problems.append(
                f"R17: it does not settle: {accepted} of {wanted[0]} hours accepted, {open_messages} messages and {unposted}"
                " adjustments wait"
            )

    def look(self, ask: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of the gateway's database."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=SPEAKS_WITHIN)) as db:
            return db.execute(ask, values).fetchall()
