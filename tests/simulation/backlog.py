"""A year of backlog: closed hours in the real file, a server that comes back, and live hours that keep coming.

Virtual time; the simulated EnerKey holds the gateway to the published limits. What the tests and scripts/backlog share.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx

from buffer.closing import freeze
from buffer.frozen import Frozen
from buffer.hours import ClosedHour
from buffer.model import HOUR_MS, from_ms, hour_of, to_ms
from gateway import pacing
from gateway.enerkey.contract import Contract
from gateway.simulator.enerkey import EnerkeySimulator
from tests.fakes.clock import START, FakeClock
from tests.fakes.enerkey_transport import transport
from tests.fakes.small_gateway import SmallGateway

YEAR = 8760
CLOSED_AFTER = 120  # s after its end an hour is closed
ANSWER = 0.15  # s that an answer takes
BURST = (20, 10.0)
LONGEST = 60 * 24  # h until everything must be there
USED = 1_250_000  # micro in every hour


@dataclass
class Drained:
    """What the backlog of one building cost."""

    meters: int
    hours: float = 0.0  # virtual, until the last hour of the backlog was accepted
    pushes: int = 0  # of the meter that needed most, for its backlog
    reads: int = 0  # ... in which it was named, until its backlog was there
    requests: int = 0  # all of them, live hours and audits included
    most_in_a_day: int = 0
    refused: int = 0  # 429: a limit was not kept
    latest: float = 0.0  # h from a live hour's end to its acceptance, of meters without a backlog before it
    cadence: int = 1
    wrong: int = 0
    fill_seconds: float = 0.0
    seconds: float = 0.0  # of CPU, for the drain

    def told(self) -> str:
        """For people."""
        return (
            f"{self.meters} meters: drained in {self.hours:.1f} h of virtual time, cadence {self.cadence} h;"
            f" at most {self.pushes} pushes and {self.reads} reads per meter; {self.requests} requests,"
            f" at most {self.most_in_a_day} in 24 h, {self.refused} refused; live hours at most {self.latest:.2f} h after"
            f" their end; {self.wrong} wrong hours; {self.fill_seconds:.0f} s of CPU to fill, {self.seconds:.0f} s to drain"
        )


class Backlog:
    """The gateway of a building whose EnerKey has not been there for `hours`; every second meter is cumulative."""

    def __init__(
        self, directory: Path, meters: int, *, share: int, hours: int = YEAR, contract: Contract | None = None
    ) -> None:
        """Fill the buffer, with what the closer writes."""
        begun = time.process_time()
        self.found = Drained(meters)
        self._hours, self._share = hours, share
        self._clock = FakeClock()
        self._simulator = EnerkeySimulator(contract, now=lambda: self._clock.wall, requests_per_day=share)
        self._simulator.burst = BURST
        self._serve = transport(self._simulator).handler
        names = [f"cumulative-{number}" if number % 2 else f"m{number}" for number in range(meters)]
        self._reads: Counter[int] = Counter()
        self._sent: list[float] = []
        self._gateway = SmallGateway(
            directory, self._clock, self._simulator, names, handler=self._request, contract=contract,
            requests_per_day=share, old_hours=6, burst=BURST,
        )  # fmt: skip
        self._now = hour_of(to_ms(START))  # the running hour
        self._first = self._now - hours
        for name in names:
            self._close(name, self._first, hours)
        self.found.fill_seconds = time.process_time() - begun

    def drain(self) -> Drained:
        """Until the backlog is there, and two days of live hours at least."""
        begun, found = time.process_time(), self.found
        found.cadence = pacing.cadence(found.meters, self._share)
        left = True
        while (left or self._now < self._first + self._hours + 24) and self._now < self._first + self._hours + LONGEST:
            self._one_hour()
            if left and not self._waits():
                left = False
                found.hours = (self._clock.wall - START).total_seconds() / 3600
                found.reads = max(self._reads.values(), default=0)
        self._judge()
        found.seconds = time.process_time() - begun
        return found

    def close(self) -> None:
        self._gateway.close()
        self._simulator.close()

    def _one_hour(self) -> None:
        """Until the running hour is over and closed."""
        end = from_ms((self._now + 1) * HOUR_MS)
        self._gateway.run((end - self._clock.wall).total_seconds() + CLOSED_AFTER)
        for name in self._gateway.meters:
            self._close(name, self._now, 1)
        self._now += 1
        self._gateway.uploader.wake.set()

    def _close(self, name: str, first: int, count: int) -> None:
        number, before = self._gateway.numbers[name], first - self._first
        rows = [ClosedHour(first + n, USED, (before + n + 1) * USED, "measured", "measured") for n in range(count)]
        last = rows[-1]
        frozen = Frozen(last.hour + 1, last.boundary, "measured", None)
        self._gateway.store.write(lambda db: freeze(db, number, rows, frozen, to_ms(self._clock.wall)))

    def _request(self, request: httpx.Request) -> httpx.Response:
        self._clock.advance(ANSWER)
        self._sent.append(self._clock.boottime)
        if request.method == "GET":
            meters = request.url.params.get("meterIds") or request.url.params["meterId"]
            self._reads.update(int(each) for each in meters.split(","))
        answer = self._serve(request)
        self.found.refused += answer.status_code == 429
        return answer

    def _waits(self) -> bool:
        find = "SELECT 1 FROM hour WHERE hour < ? AND state <> 'accepted' LIMIT 1"
        return self._gateway.store.read(
            lambda db: db.execute(find, (self._first + self._hours,)).fetchone() is not None
        )

    # --- looking back -------------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        found, backlog_ends = self.found, self._first + self._hours
        pushes: Counter[int] = Counter()
        late: dict[int, float] = {}
        done: dict[int, bool] = {}
        for push in self._simulator.pushes:
            early = 3_600_000 if push.family == "cumulative" else 0
            hours = [hour_of(to_ms(item.stamp) - early) for item in push.items]
            pushes[push.meter] += min(hours) < backlog_ends
            if push.family == "consumption" or done.get(push.meter):
                lateness = [(to_ms(push.at) / HOUR_MS) - hour - 1 for hour in hours if hour >= backlog_ends]
                late[push.meter] = max([late.get(push.meter, 0.0), *lateness])
            done[push.meter] = done.get(push.meter, False) or max(hours) >= backlog_ends - 1
        found.pushes, found.latest = max(pushes.values()), max(late.values(), default=0.0)
        found.requests = len(self._sent)
        first = 0
        for last, at in enumerate(self._sent):
            while self._sent[first] <= at - 86_400:
                first += 1
            found.most_in_a_day = max(found.most_in_a_day, last + 1 - first)
        accepted = self._now - found.cadence  # younger ones may wait for their slot
        for number in range(found.meters):
            there = self._simulator.hourly(100 + number)
            wanted = dict.fromkeys(range(self._first, accepted), USED)
            found.wrong += sum(there.get(hour) != value for hour, value in wanted.items())
            found.wrong += sum(value != USED for hour, value in there.items() if hour >= accepted)
