"""A box in a building: its clock is wrong after a boot, is set, is stepped; its power fails. The world's time goes on.

box = Box(directory, rule)
box.live([(0, boot(DECADES)), (600, sync()), (1300, step(3600)), (1500, sync())], until=4 * 3600)
box.gateway.hours("off")

A scenario is a list of (second of the world, what happens). A poll is taken every minute while there is power, with
the box's own wall clock as its time, and is delivered a moment later: what happens may fall between the two.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx

from buffer.hours import Rule
from drivers.reading import Reading
from gateway.clock import Trust
from gateway.simulator.enerkey import EnerkeySimulator
from tests.fakes.clock import FakeAuthority, FakeClock
from tests.fakes.small_gateway import SmallGateway, hour_number

FIRST = datetime(2027, 1, 15, 8, 50, tzinfo=UTC)  # second 0 of the world
DECADES = (datetime(1970, 1, 1, tzinfo=UTC) - FIRST).total_seconds()  # how wrong a clock is that begins at 1970
YESTERDAY = -86_400.0
POLL = 60
POLLED_AT = 7  # s of every minute
ON_ITS_WAY = 4  # s from the poll to its delivery
METER = "off"

Happening = Callable[["Box"], None]
Scenario = list[tuple[int, Happening]]


class Box:
    """One meter, one gateway, one clock for each boot. `right`: the same life with a right clock from the start."""

    def __init__(
        self, directory: Path, rule: Rule, *, right: bool = False, mode: str = "auto", meter: Callable[[float], str]
    ) -> None:
        """`meter(second of the world)` is what the meter says."""
        self._directory, self._rule, self._meter = directory, rule, meter
        self.right, self._mode = right, mode
        self.second = 0
        self.boots = 0
        self.on = False
        self.authority = FakeAuthority()
        self.simulator = EnerkeySimulator(now=lambda: FIRST)
        self.gateway: SmallGateway | None = None
        self.hours_closed_unvouched = 0

    @property
    def truth(self) -> datetime:
        return FIRST + timedelta(seconds=self.second)

    @property
    def clock(self) -> FakeClock:
        return self.opened.clock

    @property
    def opened(self) -> SmallGateway:
        if self.gateway is None:
            raise AssertionError("never booted")
        return self.gateway

    def live(self, scenario: Scenario, until: int) -> None:
        """Up to the second `until`; what the scenario has for later does not happen."""
        due = sorted(scenario, key=lambda each: each[0])
        on_its_way: Reading | None = None
        while self.second < until:
            while due and due[0][0] <= self.second:
                due.pop(0)[1](self)
            into_minute = self.second % POLL
            if self.on and into_minute == POLLED_AT:
                on_its_way = Reading(METER, self.clock.now().wall, Decimal(self._meter(self.second)), "kWh")
            if self.on and into_minute == POLLED_AT + ON_ITS_WAY and on_its_way:
                self.opened.deliver(on_its_way)
            if not self.on or into_minute >= POLLED_AT + ON_ITS_WAY:
                on_its_way = None
            marks = (POLLED_AT, POLLED_AT + ON_ITS_WAY)
            following = [self.second - into_minute + mark + turn for mark in marks for turn in (0, POLL)]
            later = [second for second in [*following, until, *(each[0] for each in due[:1])] if second > self.second]
            self._pass(min(later) - self.second)

    def switch_on(self, wrong_by: float) -> None:
        self.authority.word = "NTP" if self.right else None
        wall = self.truth + timedelta(seconds=0 if self.right else wrong_by)
        clock = FakeClock(wall, trust=self._trust())
        clock.boottime = 20.0
        self.boots += 1
        self.on = True
        if self.gateway is None:
            self.gateway = SmallGateway(
                self._directory, clock, self.simulator, (METER,), rule=self._rule, handler=_no_network
            )
        self.gateway.clock, self.gateway.boot = clock, f"boot-{self.boots}"
        self.gateway.ready = clock.boottime
        self.gateway.crash()

    def restart(self) -> None:
        """Only the process dies: the boot and its clock go on."""
        self.clock.trust = self._trust()
        self.opened.ready = self.clock.boottime
        self.opened.crash()

    def close(self) -> None:
        self.opened.close()
        self.simulator.close()

    def hours(self) -> dict[str, int]:
        """What was closed: energy in micro by hour."""
        return {f"{view.hour - hour_number(FIRST):+d} h": view.consumption for view in self.opened.hours(METER)}

    def _trust(self) -> Trust:
        return Trust(self._mode, [self.authority])

    def _pass(self, seconds: int) -> None:
        if self.on:
            before = None if self.clock.now().trusted else self.opened.count("hour")
            self.opened.run(seconds)
            if before is not None and not self.clock.now().trusted:
                self.hours_closed_unvouched += self.opened.count("hour") - before
        self.second += seconds


def boot(wrong_by: float = 0.0) -> Happening:
    return lambda box: box.switch_on(wrong_by)


def power_cut() -> Happening:
    def happens(box: Box) -> None:
        box.on = False

    return happens


def sync() -> Happening:
    """NTP sets the clock, and vouches for it anew."""

    def happens(box: Box) -> None:
        box.clock.wall = box.truth
        box.clock.now()
        box.authority.word = "NTP"

    return happens


def step(seconds: float) -> Happening:
    """Somebody sets the clock, and nobody vouches for it."""

    def happens(box: Box) -> None:
        if not box.right:
            box.clock.step_wall(seconds)

    return happens


def restart() -> Happening:
    return lambda box: box.restart()


def _no_network(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no network", request=request)
