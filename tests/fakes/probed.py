"""A probe against the simulated EnerKey in virtual time: `Probe(simulator_clock).run()`, then its findings and the books."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

import httpx

from gateway.enerkey.client import EnerkeyClient
from gateway.enerkey.contract import Contract
from gateway.enerkey.models import written_body
from gateway.keys import Key, KeyRing
from gateway.pacing import Burst
from gateway.probing import plan
from gateway.probing.commission import Commission, Meters, Result
from gateway.probing.wire import Wire
from gateway.simulator.enerkey import EnerkeySimulator
from tests.fakes.clock import FakeClock
from tests.fakes.enerkey_transport import URL, transport

METER, REGISTER_METER = 7, 8


class Probe:
    """One probe of meters 7 and 8; `before_request` hears the number of each request, from 1.

    `year` false: a message of a year is refused for its size, which is quick.
    """

    def __init__(
        self,
        *,
        cumulative: bool = True,
        longest_lag: float = 900.0,
        year: bool = True,
        most: int = plan.MOST_REQUESTS,
        **simulator,
    ) -> None:
        self.clock = FakeClock()
        self.simulator = EnerkeySimulator(now=lambda: self.clock.wall, meters={METER, REGISTER_METER}, **simulator)
        self.simulator.largest_body = None if year else 20_000
        self.stop = Event()
        self.told: list[str] = []
        self.before_request: Callable[[int], None] = lambda number: None
        self.requests = 0
        self._cumulative, self._longest_lag, self._most = cumulative, longest_lag, most

    def run(self) -> Result:
        direct = transport(self.simulator)

        def handle(request: httpx.Request) -> httpx.Response:
            self.requests += 1
            self.before_request(self.requests)
            return direct.handle_request(request)

        client = EnerkeyClient(URL, Contract(), transport=httpx.MockTransport(handle))
        burst = Burst(10, 10.0)
        self.wire = Wire(
            client, Contract(), KeyRing([Key("k", "env:K")]), self.clock, self.stop, burst, self._most, written_body
        )
        since, until = plan.window(self.clock.wall)
        values, _ = self.wire.read(METER, since, until)
        assert values is not None
        base = plan.quiet_run(values, since, until, plan.RUN)
        assert base is not None
        register = self._register_run(since) if self._cumulative else None
        self.hours = plan.hours(self.clock.wall, base, register)
        run = {hour: micro for hour, micro in values.items() if base <= hour < base + plan.RUN}
        meters = Meters(METER, REGISTER_METER if self._cumulative else None)
        commission = Commission(
            self.wire, meters, self.hours, run, self._longest_lag, "20 requests in 10 s", self.told.append
        )
        return commission.run()

    def _register_run(self, since: int) -> int:
        until = plan.window(self.clock.wall)[1] + plan.QUIET
        values, _ = self.wire.read(REGISTER_METER, since, until)
        assert values is not None
        first = plan.register_run(values, self.clock.wall)
        assert first is not None
        return first

    def books(self) -> dict[int, dict[int, int]]:
        """What is booked, by meter, hours of 0 left out."""
        self.clock.advance(86_400)
        return {
            meter: {hour: micro for hour, micro in self.simulator.hourly(meter).items() if micro}
            for meter in (METER, REGISTER_METER)
        }
