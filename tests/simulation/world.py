"""One run: the whole gateway on its real file, in virtual time, with everything that can go wrong around it.

The gateway is collector, closer and uploader as they are; its clock, its wire and its disk belong to the world. A crash
is raised at a call of a port; whatever the process held is dropped, and the next one starts on a copy of the files as
SIGKILL would have left them.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from fractions import Fraction
from heapq import heappop, heappush
from pathlib import Path
from random import Random
from typing import Any

from buffer.model import HOUR_MS, MINUTE_MS, from_ms
from buffer.store import Store, StoreError
from drivers.base import NotStored
from drivers.reading import Reading
from gateway.clock import Trust
from tests.fakes.small_gateway import SmallGateway
from tests.simulation.box import Box
from tests.simulation.clock import SimClock
from tests.simulation.doubles import Doubles
from tests.simulation.memory import Memory, PowerCut
from tests.simulation.plant import Plant
from tests.simulation.registers import Registers
from tests.simulation.scenario import SETTLE, WAITS_BEHIND, Scenario
from tests.simulation.sources import Arrival, Building, decimal, exact_edges
from tests.simulation.wire import Crash, Wire

GRACE = 120.0
DAY_MS = 24 * HOUR_MS
TOGETHER_MS = 500  # messages that the broker brings in one batch
LONGEST_REST = 36  # h until everything is done; a meter that EnerKey did not know is tried once a day
STUCK = 400_000  # turns of a run


class World:
    """Everything follows from the scenario's seed; `plant` is a bug put in by a test."""

    def __init__(self, scenario: Scenario, directory: Path, plant: Plant | None = None) -> None:
        self.scenario, self.plant = scenario, plant or Plant()
        self.random = Random(f"{scenario.seed}/world")
        self.calm = False
        self.faults: Counter[str] = Counter()
        self.crashes = 0
        self.problems: list[str] = []
        self.trace: list[str] = []
        self.frozen: dict[tuple[int, int], tuple[int, int]] = {}
        self.clock = SimClock(scenario.start)
        self.synchronised = True
        self.silent_until = 0
        first = self.clock.true_ms
        self.building = Building(scenario.seed, scenario.meters, first, scenario.hours, scenario.rates)
        self.known: list[dict[int, int]] = [{} for _ in self.building.meters]
        self.settled: list[dict[int, Fraction]] = [{} for _ in self.building.meters]
        self.arrived: list[Arrival] = []
        self.box = Box(self)
        self.memory = Memory(self)
        self.doubles = Doubles(self)
        self.registers = Registers(self)
        self.origin: dict[str, int] = {}  # boot -> true ms of its boottime 0
        self._directories = (directory / f"{n}" for n in range(10**9))
        self.saying: list[tuple[int, int, int]] = []  # is being stored at this moment
        # what the last poll read, while it waits in memory (R27)
        self._kept: tuple[list[Reading], list[tuple[int, int, int]]] = ([], [])
        self._durable = self._gone = False
        self.wire = Wire(self)
        self._queue: list[tuple[int, int, Callable[[Any], None], Any]] = []
        self._plan()
        self.clock.trust = self._trust()
        self.clock.now()  # as the gateway does before it asks who vouches
        self.gateway = SmallGateway(
            self.new_directory(),
            self.clock,
            self.wire.simulator,
            [meter.name for meter in self.building.meters],
            grace=GRACE,
            counter=self.registers.rule,
            rule_of={meter.name: meter.rule for meter in self.building.meters},
            random=Random(f"{scenario.seed}/gateway"),
            handler=self.wire.request,
            offsets=scenario.offset,
            client=self.plant.client,
            looked=False,
            contract=scenario.contract,
            **{
                "settle": SETTLE,
                "old_hours": 6,
                "hour_stamp": scenario.stamp,
                "same_hour": scenario.believed,
                "decimals": scenario.decimals,
                "requests_per_day": scenario.share,
            }
            | self.plant.rules,
        )
        self._started()

    # --- what is there ------------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        for at in self.building.polls():
            self.at(at, self._poll, None)
        for arrival in self.building.arrivals():
            self.at(arrival.due, self._arrive, arrival)
        happenings = {
            "reboot": self.box.reboot,
            "unset-boot": self.box.reboot_unset,
            "clock-step": self.box.step_clock,
            "outage": self.wire.outage,
            "key-expiry": self.wire.expire,
            "forbidden": self.wire.forbid,
            "unknown-meter": self.wire.lose_a_meter,
            "silence": self._silence,
            "lying-disk": self.memory.lying_disk,
            "old-image": self.memory.old_image,
            "empty-database": self.memory.empty_database,
            "restart": self.memory.restart,
            "long-lag": self.doubles.lag,
            "replaced": self.registers.replace,
        }
        span = self.scenario.hours * HOUR_MS
        for fault, happens in happenings.items():
            mean = self.scenario.rates.get(fault, 0) * span / DAY_MS
            for _ in range(int(mean) + (self.random.random() < mean % 1)):
                self.at(self.building.first + HOUR_MS + self.random.randrange(span - HOUR_MS), happens, fault)

    def at(self, ms: int, do: Callable[[Any], None], what: object) -> None:
        heappush(self._queue, (ms, self._order(), do, what))

    def _order(self) -> int:
        self._counted = getattr(self, "_counted", 0) + 1
        return self._counted

    # --- a process ----------------------------------------------------------------------------------------------------

    def _trust(self) -> Trust:
        return Trust("auto", [self.box])

    def _started(self) -> None:
        self.origin.setdefault(self.gateway.boot, self.clock.true_ms - round(self.clock.boottime * 1000))
        self.gateway.ready = self.clock.boottime
        store = self.gateway.store
        store.write = self._broken(Store.write.__get__(store))  # type: ignore[method-assign]
        # As the store's own, but the connection stays: opening one for every look is two thirds of a run's time.
        self.reader = sqlite3.connect(f"file:{store.path}?mode=ro", uri=True, isolation_level=None)

        def looked(work: Callable[[Any], Any]) -> Any:
            self.may_crash("crash-at-read")
            return work(self.reader)

        store.read = looked  # type: ignore[method-assign]
        self._deliver = self.plant.deliver(self)
        self.plant.started(self)

    def _broken(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def call(work: Callable[[Any], Any], *, patients: int = 0) -> Any:
            self.may_crash("crash-before-commit")
            if self.happens("disk-error"):
                raise StoreError("not stored: the disk failed")
            result = write(work, patients=patients)
            self._durable = True
            if not self.calm and not self._gone:
                self.memory.committed()
            self.may_crash("crash-after-commit")
            if self.happens("disk-error-after-commit"):
                raise StoreError("not stored, or so it seems: the disk failed")
            return result

        return call

    def happens(self, fault: str) -> bool:
        rate = self.scenario.rates.get(fault, 0)
        if not rate or self.calm or self._gone or self.random.random() >= rate:
            return False
        self.faults[fault] += 1
        return True

    def may_crash(self, fault: str) -> None:
        if self.happens(fault):
            raise Crash

    def new_directory(self) -> Path:
        there = next(self._directories)
        there.mkdir(parents=True)
        return there

    def image(self) -> Path:
        """A copy of the files as they are at this moment."""
        there = self.new_directory()
        for name in ("buffer.db", "buffer.db-wal"):
            if (self.gateway.directory / name).exists():
                shutil.copyfile(self.gateway.directory / name, there / name)
        return there

    def start_again(
        self,
        *,
        after: float | None = None,
        wall: datetime | None = None,
        files: Path | None = None,
        clean: bool = False,
    ) -> None:
        """The process died; with `wall`, the box did, and comes up with that time; with `files`, with those.

        `clean`: it stopped by itself.
        """
        if clean:
            self.gateway.uploader.close()
        there = files or self.plant.files(self)
        self._kept = ([], [])
        self._gone = True  # what its objects still do when they are closed, they do to files that nobody sees again
        gateway = self.gateway
        self.reader.close()
        gateway.uploader.close(clean=False)  # whoever is killed leaves no mark
        gateway.store.close()
        shutil.rmtree(gateway.directory)
        gateway.directory = there
        self.clock.advance(self.random.uniform(1, 60) if after is None else after)
        if wall is not None:
            self.clock.boot(wall)
            gateway.boot = f"boot-{self._order()}"
        self.clock.trust = self._trust()
        self.clock.now()  # as the gateway does before it asks who vouches
        gateway.open()
        self._gone = False
        self._started()
        self._remember_frozen()

    # --- time ---------------------------------------------------------------------------------------------------------

    def live(self) -> None:
        """Until every reading has been said, and then, without faults, until nothing more is to be done."""
        self._run(lambda: not self._queue)
        self.registers.count()
        self.calm = True
        self.plant.at_rest(self)
        self.wire.mend()
        self._handed_over(*self._kept)  # no later poll brings it
        self.box.synchronise(None)
        end = self.clock.true_ms + (96 if self.scenario.share < 1000 else LONGEST_REST) * HOUR_MS
        while self.clock.true_ms < end:
            until = self.clock.true_ms + HOUR_MS
            self._run(lambda until=until: self.clock.true_ms >= until)
            if not self._unfinished():
                break
        quiet = self.clock.true_ms + 2 * HOUR_MS + self.doubles.rest_ms  # what should not come has time to come
        self._run(lambda: self.clock.true_ms >= quiet)
        self._remember_frozen()

    def _unfinished(self) -> bool:
        find = f"SELECT count(*) FROM hour WHERE state IN ('pending', 'claimed') AND NOT ({WAITS_BEHIND})"
        return bool(self.gateway.store.read(lambda db: db.execute(find).fetchone()[0]))

    def _run(self, over: Callable[[], bool]) -> None:
        for _ in range(STUCK):
            if over():
                return
            try:
                self._turn()
            except PowerCut:
                self.crashes += 1
                self.memory.power_cut()
            except Crash:
                self.crashes += 1
                self.start_again()
        raise AssertionError("the workers never come to rest")

    def _turn(self) -> None:
        self.doubles.watch()
        if self._queue and self._queue[0][0] <= self.clock.true_ms:
            entry = heappop(self._queue)
            try:
                entry[2](entry[3])
            except Crash:
                if entry[2] in {self._arrive, self.memory.tell_again, self.registers.say}:
                    heappush(self._queue, entry)  # not acknowledged: it comes again
                raise
            return
        due = self.gateway.step()
        now = self.clock.boottime
        if due <= now or self.gateway.closer.wake.is_set() or self.gateway.uploader.wake.is_set():
            return
        wait = due - now
        if self._queue:
            wait = min(wait, (self._queue[0][0] - self.clock.true_ms) / 1000)
        self.clock.advance(max(wait, 0.001))

    # --- sources ------------------------------------------------------------------------------------------------------

    def _poll(self, _: None) -> None:
        now = self.clock.true_ms
        if now < self.silent_until:
            return
        wall, batch, said = self.clock.now().wall, [], []
        for meter in self.building.meters:
            if not meter.bus or now in self.known[meter.number]:
                continue
            value = self.building.loads[meter.number].at(now)
            early = now < self.building.first + 2 * HOUR_MS
            steady = self.registers.steady(meter.number, now)
            glitch = not early and steady and self._lately_good(meter.number) and self.happens("glitch")
            shown = 0 if glitch else self.registers.shown(meter.number, now, value)
            batch.append(Reading(meter.name, wall, decimal(shown), "kWh"))
            if not glitch:
                said.append((meter.number, now, value))
        if self._handed_over(batch, said):  # or the next poll covers it
            self._kept = ([], [])
            for number, at, value in said:
                self.registers.read(number, at, value)
        else:
            self._kept = (batch, said)

    def _lately_good(self, number: int) -> bool:
        """Two glitches in a row would be a new level after the third."""
        good = [self.clock.true_ms - at < 40 * MINUTE_MS for at in list(self.known[number])[-2:]]
        return len(good) == 2 and all(good)

    def _arrive(self, first: Arrival) -> None:
        """Everything that has arrived by now is one batch."""
        now = self.clock.true_ms + TOGETHER_MS
        batch = [first]
        rest = [entry for entry in self._queue[:8] if entry[0] <= now and entry[2] == self._arrive]
        batch += [entry[3] for entry in sorted(rest)]
        readings, said = [], []
        for each in batch:
            meter = self.building.meters[each.meter]
            shown = self.registers.shown(each.meter, each.at, each.value)
            readings.append(Reading(meter.name, from_ms(each.at), decimal(shown), "kWh", stamped=True))
            if not each.late or self._still_counts(each):
                said.append((each.meter, each.at, each.value))
        self.told(readings, said)
        self.arrived += batch
        for entry in rest:
            self._queue.remove(entry)
        if rest:
            self._queue.sort()

    def told(self, readings: list[Reading], said: list[tuple[int, int, int]]) -> None:
        """As often as it takes: what is not acknowledged comes again."""
        while not self._handed_over(readings, said):
            self.clock.advance(5)

    def _still_counts(self, late: Arrival) -> bool:
        """A boundary that is frozen stays what it is, whatever comes later (R8); what lies before it says nothing more.

        Of other sources than counters everything is energy.
        """
        if self.building.meters[late.meter].rule.kind != "counter":
            self.faults["late-energy"] += 1
            return True
        self.faults["late"] += 1
        find = (
            "SELECT coalesce((SELECT max(hour) + 1 FROM hour WHERE hour.meter = ?1), opening_hour, -1000000)"
            " FROM (SELECT 1) LEFT JOIN counter_state ON meter = ?1"
        )
        meter = self.gateway.numbers[self.building.meters[late.meter].name]
        frozen = self.look(lambda db: db.execute(find, (meter,)).fetchone()[0])
        settled, edges = self.settled[late.meter], exact_edges(self.known[late.meter])
        settled.update({edge: value for edge, value in edges.items() if edge <= frozen and edge not in settled})
        return bool(late.at > frozen * HOUR_MS)

    def _handed_over(self, readings: list[Reading], said: list[tuple[int, int, int]]) -> bool:
        """Whether `deliver` came back as it should; what is durable, or was acknowledged, is known from then on."""
        self._durable = False
        self.saying = said
        try:
            if readings:
                self._deliver(*readings)
            self._durable = True
        except NotStored:
            return False
        finally:
            self.saying = []
            if self._durable:
                for number, at, value in said:
                    self.known[number][at] = value
        return True

    def _silence(self, fault: str) -> None:
        self.faults[fault] += 1
        self.silent_until = self.clock.true_ms + self.random.randrange(10 * MINUTE_MS, 5 * HOUR_MS)

    def look(self, work: Callable[[Any], Any]) -> Any:
        """A look of the world's own, which nothing disturbs."""
        return work(self.reader)

    # --- looking back -------------------------------------------------------------------------------------------------

    def _remember_frozen(self) -> None:
        """R8: what is closed once is found the same ever after."""
        find = "SELECT meter, hour, consumption, boundary FROM hour"
        rows = self.look(lambda db: db.execute(find).fetchall())
        now = {(meter, hour): (consumption, boundary) for meter, hour, consumption, boundary in rows}
        changed = [key for key, value in self.frozen.items() if now.get(key) != value]
        if changed:
            self.problems.append(f"R8: {len(changed)} closed hours changed, such as {changed[0]}")
        self.frozen = now

    def close(self) -> None:
        self._gone = True
        self.reader.close()
        self.gateway.close()
        self.wire.simulator.close()
