"""A gateway whose database is damaged goes on by itself, and nothing is doubled at EnerKey (R19, R29)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from buffer import recovery
from buffer.closing import imbalance
from buffer.files import mark_damaged
from buffer.hours import Rule
from buffer.store import DATABASE
from gateway.simulator.enerkey import EnerkeySimulator
from tests.fakes.clock import FakeClock
from tests.fakes.damage import damage, some_pages
from tests.fakes.enerkey_transport import transport
from tests.fakes.small_gateway import SmallGateway, reading

METERS = ("a", "b", "c cumulative")
DAYS = 2
EVERY = timedelta(minutes=20)


class Building:
    """Meters with an uneven load, a gateway that reads them, and what EnerKey has of it."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.random = Random(seed)
        self.clock = FakeClock()
        self.simulator = EnerkeySimulator(now=lambda: self.clock.wall, keys=["one", "two"])
        self.online = True
        self.registers = {name: Decimal(1000 * n + 17) for n, name in enumerate(METERS)}
        self.gateway = SmallGateway(
            directory,
            self.clock,
            self.simulator,
            METERS,
            handler=self._handle,
            old_hours=6,
            rule=Rule("counter", expected_every_ms=1_200_000),
        )
        self.path = directory / DATABASE

    def live(self, hours: float) -> None:
        """Read the meters while time passes."""
        until = self.clock.wall + timedelta(hours=hours)
        while self.clock.wall < until:
            for name in METERS:
                self.registers[name] += Decimal(self.random.randrange(1, 3000)) / 1000
            self.gateway.deliver(*(reading(name, self.clock.wall, value) for name, value in self.registers.items()))
            self.gateway.run(EVERY.total_seconds())

    def restart(self, hurt: Callable[[Path], None]) -> None:
        """The power goes, the card loses something, the power comes back."""
        self.gateway.uploader.close(clean=False)
        self.gateway.store.close()
        hurt(self.path)
        mark_damaged(self.path)
        self.gateway.ready = self.clock.boottime
        self.gateway.open()

    def at_enerkey(self) -> dict[str, dict[int, int]]:
        return {name: self.simulator.hourly(100 + n) for n, name in enumerate(METERS)}

    def close(self) -> None:
        self.gateway.close()
        self.simulator.close()

    def _handle(self, request):
        import httpx

        if not self.online:
            raise httpx.ConnectError("no network", request=request)
        return transport(self.simulator).handler(request)


@pytest.fixture
def building(tmp_path) -> Iterator[Callable[[int], Building]]:
    made = []

    def build(seed: int = 1) -> Building:
        made.append(Building(tmp_path, seed))
        return made[-1]

    yield build
    for each in made:
        each.close()


def problems(building: Building, before: dict[str, dict[int, int]]) -> list[str]:
    """What is wrong after damage, with what EnerKey had before it."""
    found = []
    gateway = building.gateway
    for name, server in building.at_enerkey().items():
        views = {view.hour: view for view in gateway.hours(name)}
        found += [
            f"{name} {hour}: {value} became {server.get(hour)}"
            for hour, value in before[name].items()
            if server.get(hour) != value
        ]
        for hour, value in server.items():
            view = views.get(hour)
            if (
                view is None
                or view.state not in {"accepted", "claimed", "held"}
                or (view.state == "accepted" and view.accepted != value)
            ):
                found.append(f"{name} {hour}: EnerKey has {value}, the buffer {view}")
        off = gateway.store.read(lambda db, name=name: imbalance(db, gateway.numbers[name]))
        found += [f"{name}: R7 is off by {off}"] if off != 0 else []
    return found


@pytest.mark.parametrize("seed", range(8))
def test_whatever_pages_are_lost_nothing_is_doubled_and_the_gateway_goes_on(building, seed):
    """R29, R19: every hour that EnerKey had stays as it was, every hour that comes after is there once."""
    site = building(seed)
    site.live(24 * DAYS)
    site.online = False
    site.live(7)
    before = site.at_enerkey()
    count = 1 + seed % 6
    site.restart(
        lambda path: damage(path, some_pages(path, count, site.random, but=()), site.random, zeros=seed % 3 == 0)
    )
    site.online = True
    site.live(30)
    assert problems(site, before) == []
    assert recovery.reports(site.path.parent)
    held = {name: [view for view in site.gateway.hours(name) if view.state == "held"] for name in METERS}
    for name, server in site.at_enerkey().items():
        hours = sum(view.consumption for view in site.gateway.hours(name) if view.state == "accepted")
        there = sum(value for hour, value in server.items() if hour not in {view.hour for view in held[name]})
        assert there == hours, name
