"""A gateway's configuration and real database in a directory, with no wire behind it: what commands look at.

with served_enerkey(10001, 10002) as enerkey: ...   # for `Site(tmp_path, enerkey=enerkey.url)`
site = Site(tmp_path)
site.make()                                  # as after the first `run`: the database knows the meters
site.read("chiller", "12.5", at)             # a stored reading
site.close_hours("chiller", hour, 3)         # three closed hours
with site.running() as gateway: ...          # somebody holds the database and answers, as `run` does
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import TypeVar

from buffer import overview, readings
from buffer.model import EPOCH, to_micro, to_ms
from buffer.readings import StoredReading
from buffer.store import Connection, Store
from gateway.clock import SystemClock, Trust
from gateway.config import load
from gateway.control import ControlServer
from gateway.runtime import answer, service_of
from gateway.simulator.enerkey import EnerkeySimulator
from gateway.simulator.http import serve
from gateway.systemd import Notifier
from gateway.wiring import Gateway, build, open_store, socket_path
from tests.fakes.gateway_process import MACHINE

T = TypeVar("T")

KEY, PASSWORD = "canary-key-5a17", "canary-password-9c3e"

CONFIG = """
[gateway]
name = "site-042"
data_dir = "{data}"
[clock]
trust = "always"
[enerkey]
url = "{enerkey}"
api_keys = ["{key}"]
settle = "1s"
push_spread = "0s"
[connections.main]
driver = "modbus"
url = "{bus}"
timeout = "30s"
[connections.hall]
driver = "mqtt"
url = "{broker}"
username = "gateway"
password = "{password}"
[[meters]]
name = "main-electricity"
enerkey_id = 10001
push = "cumulative"
unit = "kWh"
max_rate = 1800
source = {{ connection = "main", device = 1, profile = "eastron-sdm630", point = "energy_import_total" }}
[[meters]]
name = "chiller"
enerkey_id = 10002
push = "consumption"
unit = "kWh"
max_rate = 900
source = {{ connection = "main", device = 2, profile = "carlo-gavazzi-em340", point = "energy_import_total" }}
[[meters]]
name = "cold-water"
push = "off"
unit = "m3"
max_rate = 10
source = {{ connection = "hall", topic = "site/water", value = "total", unit = "m3" }}
"""
REFUSED = "127.0.0.1:1"  # nobody listens there


class Site:
    """Three meters: two that are pushed on a Modbus line, one that is not at a broker."""

    def __init__(
        self,
        directory: Path,
        *,
        enerkey: str = f"http://{REFUSED}",
        bus: str = f"tcp://{REFUSED}",
        broker: str = f"mqtt://{REFUSED}",
    ) -> None:
        self.config = directory / "config.toml"
        self.data = directory / "data"
        self.config.write_text(
            CONFIG.format(data=self.data, enerkey=enerkey, bus=bus, broker=broker, key=KEY, password=PASSWORD)
        )

    def make(self) -> None:
        """The database as the first start leaves it."""
        with self._built():
            pass

    def write(self, work: Callable[[Connection], T]) -> T:
        """Change the database while nobody runs."""
        store = Store(self.data, threaded=False)
        try:
            return store.write(work)
        finally:
            store.close()

    def read(self, meter: str, value: str, at: datetime) -> None:
        """Store a reading."""
        row = StoredReading(to_ms(at), self.number(meter), to_micro(Decimal(value)), to_ms(at))
        self.write(lambda db: readings.add(db, [row]))

    def number(self, meter: str) -> int:
        """The meter's number in the database."""
        return self.write(overview.numbers)[meter]

    def close_hours(self, meter: str, first: datetime, count: int, **columns: str) -> None:
        """Hours of 0.5 each from a register that stood at 1000; `columns` such as state="held"."""
        facts = {"quality": "measured", "state": "pending"} | columns
        hour, number = (first - EPOCH) // timedelta(hours=1), self.number(meter)
        rows = [
            (number, hour + n, 500_000, 10**9 + (n + 1) * 500_000, facts["quality"], 0, facts["state"])
            for n in range(count)
        ]
        insert = "INSERT INTO hour (meter, hour, consumption, boundary, quality, closed_at, state) VALUES (?, ?, ?, ?, ?, ?, ?)"
        self.write(lambda db: db.executemany(insert, rows))

    @contextmanager
    def running(self) -> Iterator[Gateway]:
        """Hold the database and answer requests, as `run` does, without a worker at work."""
        with self._built() as gateway:
            service = service_of(gateway, Notifier({}))
            control = ControlServer(socket_path(gateway.config), lambda asked: answer(gateway, service, asked))
            try:
                yield gateway
            finally:
                control.close()

    @contextmanager
    def _built(self) -> Iterator[Gateway]:
        config = load(self.config)
        store = open_store(config, command="run")
        try:
            yield build(config, store, SystemClock(Trust("always")), Random(1), MACHINE)
        finally:
            store.close()


@contextmanager
def served_enerkey(*meters: int, **server) -> Iterator[EnerkeySimulator]:
    """A simulated EnerKey on loopback that takes a site's key and knows these meters; the rest is EnerkeySimulator's."""
    simulator = EnerkeySimulator(now=lambda: SystemClock().now().wall, keys=[KEY], meters=meters, **server)
    listening = serve(simulator.handle)
    simulator.url = listening.url
    try:
        yield simulator
    finally:
        listening.stop()
        simulator.close()
