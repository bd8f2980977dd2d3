"""A change of the configuration never deletes readings, hours, intents or ledger (R31)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from gateway.simulator.enerkey import EnerkeySimulator
from tests.fakes.clock import START, FakeClock
from tests.fakes.enerkey_transport import transport
from tests.fakes.small_gateway import SmallGateway, hour_number, ramp, reading

KEPT = ("reading", "reading_hour", "hour", "message", "message_hour", "ledger", "adjustment", "counter_state")
HOURS = [hour_number(START) + n for n in (1, 2, 3)]


class Site:
    """One data directory under one configuration after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = FakeClock()
        self.simulator = EnerkeySimulator(now=lambda: self.clock.wall, keys=["one", "two"])
        self.online = True
        self.gateway: SmallGateway | None = None

    def configured(self, *meters: str, register: str = "holding 1024") -> SmallGateway:
        """The gateway stops, and starts with these meters."""
        if self.gateway:
            self.gateway.close()
        self.gateway = SmallGateway(
            self.directory, self.clock, self.simulator, meters, handler=self._handle, looked=False
        )
        if register != self.gateway.register:
            self.gateway.register = register
            self.gateway.crash()
        return self.gateway

    def rows(self) -> dict[str, list[tuple]]:
        """Everything that must not go away."""
        assert self.gateway is not None
        store = self.gateway.store
        return {
            table: store.read(lambda db, t=table: db.execute(f"SELECT * FROM {t} ORDER BY 1, 2").fetchall())
            for table in KEPT
        }

    def close(self) -> None:
        if self.gateway:
            self.gateway.close()
        self.simulator.close()

    def _handle(self, request: httpx.Request) -> httpx.Response:
        if not self.online:
            raise httpx.ReadTimeout("no answer", request=request)
        return transport(self.simulator).handler(request)


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    """With accepted hours of meters a and b."""
    made = Site(tmp_path)
    gateway = made.configured("a", "b")
    gateway.run(700)
    for name in ("a", "b"):
        gateway.deliver(*ramp(name, START, START + timedelta(hours=2, minutes=10), timedelta(minutes=10)))
    gateway.run(3 * 3600)
    yield made
    made.close()


def gone_through(site: Site, *meters: str, register: str = "holding 1024") -> None:
    """Run a while with another configuration: every row that was there is there, as it was."""
    before = site.rows()
    site.configured(*meters, register=register)
    site.gateway.run(3600)
    after = site.rows()
    for table, rows in before.items():
        assert set(rows) <= set(after[table]), table


CHANGES: dict[str, Callable[[Site], None]] = {
    "removed": lambda site: gone_through(site, "x off", "b"),
    "renamed": lambda site: gone_through(site, "a2 off", "b"),
    "no longer pushed": lambda site: gone_through(site, "x off", "y off"),
    "another register": lambda site: gone_through(site, "a", "b", register="holding 2048"),
    "no meter left": lambda site: gone_through(site, "x off"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_changed_every_row_stays_as_it_was(site, change):
    """R31, R8."""
    assert site.gateway.states("a") == ["accepted", "accepted"]
    CHANGES[change](site)


def test_a_meter_that_comes_back_brings_its_unsent_hours_once(site):
    """R31, R24: the backlog of a removed meter waits for it, however long."""
    site.online = False
    site.gateway.deliver(*(reading(name, START + timedelta(hours=4), "30") for name in ("a", "b")))
    site.gateway.run(1800)
    assert set(site.gateway.states("a")[2:]) <= {"pending", "claimed"}
    gone_through(site, "x off", "b")
    gone_through(site, "x off", "b")
    site.online = True
    site.configured("a", "b")
    site.gateway.run(4 * 3600)
    assert set(site.gateway.states("a")) == {"accepted"}
    server = site.simulator.hourly(100)
    assert server == {view.hour: view.consumption for view in site.gateway.hours("a")}


def test_a_message_of_unknown_fate_of_a_meter_that_left_is_settled_when_it_is_back(site):
    """R14: an intent is not forgotten with its meter."""
    site.online = False
    site.gateway.deliver(reading("a", START + timedelta(hours=4), "30"))
    site.gateway.run(1800)
    assert "claimed" in site.gateway.states("a")
    gone_through(site, "x off", "b")
    assert site.gateway.count("message") >= 1
    site.online = True
    site.configured("a", "b")
    site.gateway.run(4 * 3600)
    assert "claimed" not in site.gateway.states("a")
    assert site.simulator.hourly(100) == {view.hour: view.consumption for view in site.gateway.hours("a")}
