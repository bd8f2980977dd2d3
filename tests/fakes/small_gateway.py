"""The gateway without threads and sockets: collector, closer and uploader over one real store and a simulated EnerKey.

Time is a FakeClock, `run` calls the workers when they are due, a crash drops every object and opens the file again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import httpx

from buffer import outline, recovery
from buffer.corrections import enter_meters
from buffer.counter import CounterRule
from buffer.hours import Rule
from buffer.key_use import remembered
from buffer.model import EPOCH, hour_start, to_ms
from buffer.overview import HourView, hours
from buffer.readings import MeterRow
from buffer.room import Room
from buffer.store import Store
from drivers.reading import Reading, Rejected
from gateway.closer import Closer, ClosingMeter
from gateway.collector import CollectedMeter, Collector
from gateway.composing import Family
from gateway.enerkey.client import EnerkeyClient
from gateway.enerkey.contract import Contract
from gateway.housekeeping import Housekeeper
from gateway.keys import Key, KeyRing
from gateway.messages import DeliveryRules, PushedMeter
from gateway.simulator.enerkey import EnerkeySimulator
from gateway.uploader import Uploader
from gateway.watermarks import Watermarks
from tests.fakes.clock import FakeClock
from tests.fakes.enerkey_transport import URL, transport

BOOT = "boot-1"
GRACE = 120.0
DAY = 86_400.0  # s
NEVER_TOO_FAST = CounterRule(max_rate=10**15)
COUNTER = Rule("counter", expected_every_ms=600_000)
RULES: dict[str, Any] = {
    "settle": 600.0,
    "on_unknown": "verify",
    "same_hour": "sum",
    "hour_stamp": "start",
    "decimals": 6,
    "most_hours": 744,
    "requests_per_day": 40_000,
    "old_hours": 10**6,  # tests of looks before old hours say so
}


def hour_number(at: datetime) -> int:
    return (at - EPOCH) // timedelta(hours=1)


def reading(source: str, at: datetime, value: str | Decimal, *, stamped: bool = True) -> Reading:
    return Reading(source, at, Decimal(value), "kWh", stamped)


class SmallGateway:
    """Meters by name; "cumulative" in the name picks the endpoint, "off" means that a meter is not pushed.

    `rule_of`: the meters that are no counters, or counters of another pace.
    `expires`: the default account's keys do.
    `account_of`: the meters of other accounts than the default one, whose keys and servers are in `keys_of` and `handler_of`.
    `room`: bytes of the cap and of the ballast; then there is a housekeeper, too.
    `threaded_store`: as in the service, where the check after an unclean stop is another worker's.
    Unless `looked` is false, nothing is read before the first push, as in a database that has pushed before.
    """

    def __init__(
        self,
        directory: Path,
        clock: FakeClock,
        simulator: EnerkeySimulator,
        meters: Sequence[str] = ("a",),
        *,
        grace: float = GRACE,
        rule: Rule = COUNTER,
        counter: CounterRule = NEVER_TOO_FAST,
        keys: Sequence[str] = ("one", "two"),
        random: Random | None = None,
        handler: Callable[[httpx.Request], httpx.Response] | None = None,
        offsets: float = 0.0,
        rule_of: Mapping[str, Rule] | None = None,
        client: type[EnerkeyClient] = EnerkeyClient,
        looked: bool = True,
        account_of: Mapping[str, str] | None = None,
        keys_of: Mapping[str, Sequence[str]] | None = None,
        handler_of: Mapping[str, Callable[[httpx.Request], httpx.Response]] | None = None,
        expires: date | None = None,
        contract: Contract | None = None,
        threaded_store: bool = False,
        room: tuple[int | None, int] | None = None,
        **rules: Any,
    ) -> None:
        self.directory, self.clock, self.simulator, self.meters = directory, clock, simulator, meters
        self.ready: float | None = clock.boottime
        self.random = random or Random(1)
        self._grace, self._keys, self._offsets = grace, keys, offsets
        self._counter = counter
        self._rule_of = {name: (rule_of or {}).get(name, rule) for name in meters}
        self._client, self._expires = client, expires
        self.account_of, self._keys_of, self._handler_of = account_of or {}, keys_of or {}, handler_of or {}
        self._contract = contract or Contract()
        self._threaded_store = threaded_store
        self._room = room
        self.register = "holding 1024"
        self._rules = DeliveryRules(**RULES | rules)
        self._transport = httpx.MockTransport(handler) if handler else transport(simulator)
        self.witnessed: list[tuple[datetime, datetime]] = []
        self.boot = BOOT
        self.open()
        if looked:
            self.store.write(lambda db: db.execute("UPDATE meter SET look_after = NULL"))

    def open(self) -> None:
        room = Room(self.directory, *self._room) if self._room else None
        self.store = Store(self.directory, threaded=self._threaded_store, heal=recovery.opened, room=room)
        rows = [
            MeterRow(
                name,
                100 + n,
                "kWh",
                self._rule_of[name].kind,
                _push(name),
                "bench",
                self.register,
                self.account_of.get(name, ""),
            )
            for n, name in enumerate(self.meters)
        ]
        self.numbers = self.store.write(lambda db: enter_meters(db, rows, to_ms(self.clock.wall)))
        self.store.read(lambda db: outline.remember(self.store.path, db))
        accounts = dict.fromkeys(["", *(row.account for row in rows)])
        self.uploaders = {name: self._uploader(name, [row for row in rows if row.account == name]) for name in accounts}
        self.uploader = self.uploaders[""]
        closing = [
            ClosingMeter(self.numbers[name], name, self._rule_of[name], "bench", self._counter) for name in self.meters
        ]
        marks = Watermarks(self._grace, lambda _: self.ready)
        self.closer = Closer(self.store, closing, marks, self.boot, self.clock.trust, self.wake)
        collected = {
            name: CollectedMeter(number, Fraction(1), self._rule_of[name]) for name, number in self.numbers.items()
        }
        self.collector = Collector(self.store, collected, self.clock, self.boot, self.closer.saw)
        self.housekeeper = Housekeeper(self.store, 30 * DAY, 90 * DAY, lambda: 0, self.collector.flush)
        self._due = {self.closer: 0.0} | dict.fromkeys(self.uploaders.values(), 0.0)
        if room:
            self._due[self.housekeeper] = 0.0

    def _uploader(self, account: str, rows: Sequence[MeterRow]) -> Uploader:
        contract = self._contract
        pushed = [
            PushedMeter(self.numbers[row.name], row.name, row.enerkey_id or 0, _family(row.push), self._offsets)
            for row in rows
            if row.push != "off"
        ]
        secrets, expires = self._keys_of.get(account, self._keys), None if account else self._expires
        keys = [Key(secret, f"env:{secret.upper()}", expires) for secret in secrets]
        handler = self._handler_of.get(account)
        return Uploader(
            self.store,
            self._client(URL, contract, transport=httpx.MockTransport(handler) if handler else self._transport),
            contract,
            pushed,
            self._rules,
            KeyRing(keys, account, self.store.read(lambda db: remembered(db, account))),
            self.clock,
            self.random,
            self.boot,
            self._heard_the_time,
        )

    def wake(self) -> None:
        for uploader in self.uploaders.values():
            uploader.wake.set()

    def close(self) -> None:
        for uploader in self.uploaders.values():
            uploader.close()
        self.store.close()

    def crash(self) -> None:
        """As SIGKILL: nothing of the process is left but the file."""
        for uploader in self.uploaders.values():
            uploader.close(clean=False)
        self.store.close()
        self.open()

    def _heard_the_time(self, wall: datetime, date: datetime) -> None:
        self.witnessed.append((wall, date))
        self.clock.trust.witness(wall, date)

    def deliver(self, *batch: Reading | Rejected, polled: bool = False) -> None:
        self.collector.deliver_for("bench", polled=polled)(batch)

    def step(self) -> float:
        """Every worker that is due or woken, once; the boottime of the next one."""
        for worker in self._due:
            if worker.wake.is_set() or self._due[worker] <= self.clock.boottime:
                worker.wake.clear()
                self._due[worker] = worker.step(self.clock.now())
        return min(self._due.values())

    def run(self, seconds: float) -> None:
        """Let virtual time pass, with every worker called when it is due."""
        until = self.clock.boottime + seconds
        for _ in range(100_000):
            due = self.step()
            if any(worker.wake.is_set() for worker in self._due) or due <= self.clock.boottime:
                continue
            if due > until:
                self.clock.advance(max(0.0, until - self.clock.boottime))
                return
            self.clock.advance(due - self.clock.boottime)
        raise AssertionError("the workers never come to rest")

    def hours(self, meter: str = "a") -> list[HourView]:
        return self.store.read(lambda db: hours(db, self.numbers[meter], -(2**40), 2**40))

    def states(self, meter: str = "a") -> list[str]:
        return [view.state for view in self.hours(meter)]

    def events(self) -> list[tuple[str, str, str]]:
        rows = self.store.read(lambda db: db.execute("SELECT level, subject, text FROM event ORDER BY id").fetchall())
        return [tuple(row) for row in rows]

    def count(self, table: str) -> int:
        return self.store.read(lambda db: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def messages(self) -> list[tuple[str, int]]:
        """State and key slot of every message, oldest first."""
        rows = self.store.read(lambda db: db.execute("SELECT state, key_slot FROM message ORDER BY id").fetchall())
        return [tuple(row) for row in rows]


Answer = Callable[[httpx.Request], httpx.Response]
Make = Callable[..., SmallGateway]


@contextmanager
def small_gateways(directory: Path) -> Iterator[Make]:
    """Opens gateways over a directory, one after the other, each with a simulated EnerKey; all are closed in the end.

    `clock`: else a new one. `server`: what EnerKey is told. `answering`: makes of EnerKey what answers in its place. The rest is
    SmallGateway's. `gateway.asked` holds the method of every request.
    """
    made: list[SmallGateway] = []

    def make(
        *meters: str,
        clock: FakeClock | None = None,
        server: Mapping[str, Any] | None = None,
        answering: Callable[[EnerkeySimulator], Answer] | None = None,
        handler: Answer | None = None,
        **settings: Any,
    ) -> SmallGateway:
        clock = clock or FakeClock()
        simulator = EnerkeySimulator(**({"now": lambda: clock.wall, "keys": ["one", "two"]} | dict(server or {})))
        answer = handler or (answering(simulator) if answering else transport(simulator).handler)
        asked: list[str] = []

        def noted(request: httpx.Request) -> httpx.Response:
            asked.append(request.method)
            return answer(request)

        gateway = SmallGateway(directory, clock, simulator, meters or ("a",), handler=noted, **settings)
        gateway.asked = asked
        made.append(gateway)
        return gateway

    yield make
    for gateway in made:
        gateway.close()
        gateway.simulator.close()


def ramp(source: str, first: datetime, last: datetime, every: timedelta, per_hour: str = "6") -> list[Reading]:
    """A register that rises evenly, from 0 at `first`."""
    found = []
    at = first
    while at <= last:
        value = Decimal(per_hour) * Decimal((at - first) // timedelta(milliseconds=1)) / 3_600_000
        found.append(reading(source, at, value))
        at += every
    return found


def closed_hours(
    gateway: SmallGateway, hour: int, count: int, meters: Iterable[str] = ("a",), value: int = 500_000, before: int = 0
) -> None:
    """Hours that are closed already, without readings behind them; the register has risen for so many hours `before`."""
    for name in meters:
        number = gateway.numbers[name]
        rows = [(number, hour + n, value, (before + n + 1) * value + 10**9, "measured", 0) for n in range(count)]
        gateway.store.write(
            lambda db, rows=rows: db.executemany(
                "INSERT INTO hour (meter, hour, consumption, boundary, quality, closed_at) VALUES (?, ?, ?, ?, ?, ?)",
                rows,
            )
        )


def instants(hours: Iterable[int]) -> list[datetime]:
    return [hour_start(hour) for hour in hours]


def _push(name: str) -> str:
    return "off" if "off" in name else "cumulative" if "cumulative" in name else "consumption"


def _family(push: str) -> Family:
    return "cumulative" if push == "cumulative" else "consumption"
