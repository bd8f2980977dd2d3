"""Between the gateway and EnerKey: the simulated server with the scenario's semantics, and all that a line can do."""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING

import httpx

from buffer.model import HOUR_MS, MINUTE_MS, hour_of, to_ms
from gateway.simulator.books import Item
from gateway.simulator.enerkey import FAULTS, EnerkeySimulator, Fault
from tests.fakes.enerkey_transport import transport
from tests.simulation.scenario import LONGEST_REVENANT, LONGEST_ZOMBIE, SETTLE, WIRE

if TYPE_CHECKING:
    from tests.simulation.world import World

DAY_MS = 24 * HOUR_MS
READ_TIMEOUT = 120.0


class Crash(BaseException):
    """The process is gone."""


class Wire:
    """Every request of the gateway comes through here."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.requests = 0  # that left for the server
        self.reads = 0
        self.most_in_a_day = 0
        self._sent: deque[int] = deque()  # when (ms) each request of the budget left
        self._no_line_until = 0
        self._fault: Fault | None = None
        scenario = world.scenario
        self.simulator = EnerkeySimulator(
            scenario.contract, now=lambda: world.clock.true, keys=["one", "two"], same_hour=scenario.same_hour
        )
        self.simulator.decimals, self.simulator.lag = scenario.decimals, scenario.lag
        self.simulator.hour_stamp, self.simulator.partial = scenario.stamp, scenario.partial
        self.simulator.burst, self.simulator.largest_body = scenario.burst, scenario.largest_body
        self.simulator.refuses = self._refused
        self.simulator.faults = lambda _: self._fault
        self._server = transport(self.simulator).handler

    def mend(self) -> None:
        """No fault any more."""
        self.simulator.expires = {}
        self.simulator.forbidden = set()
        self.simulator.meters = None
        self._no_line_until = 0

    # --- what EnerKey never takes -------------------------------------------------------------------------------------

    def _refused(self, item: Item) -> str | None:
        early = timedelta(hours=1 if self._world.scenario.stamp == "end" else 0)
        if item.family == "cumulative" or not self.poisoned(item.meter - 100, hour_of(to_ms(item.stamp - early))):
            return None
        self._world.faults["poison"] += 1
        return "this value is refused"

    def poisonous(self, number: int) -> bool:
        """Whether EnerKey may refuse hours of a meter."""
        return number % 2 == 0 and "poison" in self._world.scenario.rates

    def poisoned(self, number: int, hour: int) -> bool:
        """Whether EnerKey will never take an hour of a consumption meter."""
        rate = self._world.scenario.rates.get("poison", 0)
        return number % 2 == 0 and Random(f"{self._world.scenario.seed}/{number}/{hour}").random() < rate

    # --- happenings ---------------------------------------------------------------------------------------------------

    def outage(self, fault: str) -> None:
        self._world.faults[fault] += 1
        self._no_line_until = self._world.clock.true_ms + self._world.random.randrange(10 * MINUTE_MS, 5 * HOUR_MS)

    def expire(self, fault: str) -> None:
        """One key expires, or both; new ones are good after a while."""
        self._world.faults[fault] += 1
        keys = self._world.random.choice((["one"], ["two"], ["one", "two"]))
        self.simulator.expires |= dict.fromkeys(keys, self._world.clock.true)
        self._world.at(self._later(), self._renew, keys)

    def _renew(self, keys: list[str]) -> None:
        for key in keys:
            self.simulator.expires.pop(key, None)

    def forbid(self, fault: str) -> None:
        """One key, or both, may not do one thing for a while."""
        self._world.faults[fault] += 1
        keys = self._world.random.choice((["one"], ["two"], ["one", "two"]))
        family = self._world.random.choice(("consumption", "cumulative", "values"))
        pairs = {(key, family) for key in keys}
        self.simulator.forbidden |= pairs
        self._world.at(self._later(), self._allow, pairs)

    def _allow(self, pairs: set[tuple[str, str]]) -> None:
        self.simulator.forbidden -= pairs

    def lose_a_meter(self, fault: str) -> None:
        """EnerKey does not know a meter for a while."""
        self._world.faults[fault] += 1
        known = self.simulator.meters or {100 + meter.number for meter in self._world.building.meters}
        lost = self._world.random.choice(sorted(known))
        self.simulator.meters = known - {lost}
        self._world.at(self._later(), self._find_the_meter, lost)

    def _find_the_meter(self, lost: int) -> None:
        if self.simulator.meters is not None:
            self.simulator.meters.add(lost)

    def _later(self) -> int:
        return self._world.clock.true_ms + self._world.random.randrange(30 * MINUTE_MS, 5 * HOUR_MS)

    # --- the wire -----------------------------------------------------------------------------------------------------

    def request(self, request: httpx.Request) -> httpx.Response:
        self._world.may_crash("crash-before-request")
        body = request.read()
        self._world.trace.append(f"{self._world.clock.true_ms} {request.method} {request.url} {len(body)}")
        self._world.clock.advance(self._world.random.uniform(0.02, 0.5))
        if self._world.clock.true_ms < self._no_line_until:
            raise httpx.ConnectError("no network", request=request)
        fault = self._choose()
        if fault in {"refused", "connect-timeout"}:
            self._world.clock.advance(10 if fault == "connect-timeout" else 0)
            raise (httpx.ConnectTimeout if fault == "connect-timeout" else httpx.ConnectError)("", request=request)
        self._count(request, body)
        if fault == "timeout-before":
            self._world.clock.advance(READ_TIMEOUT)
            raise httpx.ReadTimeout("", request=request)
        behind = {"doubled": "duplicate", "revenant": "zombie"}.get(fault or "", fault)
        self._fault = next((each for each in FAULTS if each == behind), None)
        longest = (SETTLE, LONGEST_REVENANT) if fault == "revenant" else (1, LONGEST_ZOMBIE)
        self.simulator.zombie_after = self._world.random.uniform(*longest)
        response = self._server(request)
        self._world.may_crash("crash-after-request")
        if fault == "timeout-after":
            self._world.clock.advance(READ_TIMEOUT)
            raise httpx.ReadTimeout("", request=request)
        if fault == "cut-answer":
            raise httpx.RemoteProtocolError("peer closed connection", request=request)
        return response

    def _choose(self) -> str | None:
        if self._world.calm:
            return None
        point = self._world.random.random()
        for fault in (*WIRE, "doubled", "revenant"):
            point -= self._world.scenario.rates.get(fault, 0)
            if point < 0:
                self._world.faults[fault] += 1
                return fault
        return None

    def _count(self, request: httpx.Request, body: bytes) -> None:
        self.requests += 1
        if request.url.path == "/":
            return  # a look at the server's clock is not of the budget
        self.reads += request.method == "GET"
        now = self._world.clock.true_ms
        self._sent.append(now)
        while self._sent[0] <= now - DAY_MS:
            self._sent.popleft()
        self.most_in_a_day = max(self.most_in_a_day, len(self._sent))
        if request.method == "POST":
            find = "SELECT count(*) FROM message WHERE state = 'open' AND body = ?"
            durable = self._world.look(lambda db: db.execute(find, (body,)).fetchone()[0])
            if durable != 1:
                self._world.problems.append(f"R12: {request.url} left without its intent")
