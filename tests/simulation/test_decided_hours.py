"""Days in which somebody else changes hours at EnerKey, messages go astray, and a person decides whatever is held, by chance.

The person is sometimes wrong: sends again what is there, takes what is odd for right. Whatever they say, in the end the
ledger is what EnerKey has, every hour that is not dropped is there with all that was ever booked beside it, and nothing is
in doubt (R14-R17).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import httpx
import pytest

from buffer.corrections import CorrectionError
from buffer.doubts import Doubt, of_meter
from buffer.model import EPOCH, HOUR_MS, hour_start, to_ms
from gateway.correcting import correct
from gateway.simulator.enerkey import EnerkeySimulator, random_faults
from tests.fakes.clock import START, FakeClock
from tests.fakes.enerkey_transport import transport
from tests.fakes.small_gateway import SmallGateway

FIRST = int((START - EPOCH).total_seconds()) // 3600 - 1
HOURS = 60
METERS = ("a", "cumulative")
DECISIONS = ("accept", "resend", "correct", "drop")
INSERT_HOUR = (
    "INSERT INTO hour (meter, hour, consumption, boundary, quality, closed_at) VALUES (?, ?, ?, ?, 'measured', 0)"
)
INSERT_ADJUSTMENT = (
    "INSERT INTO adjustment (meter, hour, amount, reason, author, at) VALUES (?, ?, ?, 'late', 'gateway', ?)"
)


class World:
    """Everything follows from the seed."""

    def __init__(self, seed: int, directory: Path) -> None:
        self.random = Random(seed)
        self.clock = FakeClock()
        same_hour = self.random.choice(["sum", "replace"])
        self.simulator = EnerkeySimulator(now=lambda: self.clock.wall, same_hour=same_hour)
        rates = {"lost-answer": 0.1, "lost-request": 0.05, "500-after": 0.05, "duplicate": 0.1}
        self.simulator.faults = random_faults(rates, self.random)
        self.gateway = SmallGateway(directory, self.clock, self.simulator, METERS, same_hour=same_hour, old_hours=6)
        self.boundary = 10**9
        self.done: Counter[str] = Counter()

    def live(self) -> None:
        for hour in range(FIRST, FIRST + HOURS):
            self.close(hour)
            if self.random.random() < 0.15:
                self.write(INSERT_ADJUSTMENT, self.random.randrange(FIRST, hour + 1), self.random.randrange(1, 90_000))
            if self.random.random() < 0.1:
                self.by_hand(self.random.randrange(max(FIRST, hour - 6), hour + 1))
            if self.random.random() < 0.1:  # its machine went down, too: each meter is read before it sends
                self.gateway.boot = f"boot-{hour}"
                self.gateway.crash()
            if self.random.random() < 0.4:
                self.decide_something()
            self.gateway.run((hour_start(hour + 2) - self.clock.wall).total_seconds())
        self.simulator.faults = None
        for hour in range(FIRST + HOURS, FIRST + HOURS + 6):
            self.gateway.run(20 * 3600)
            for meter in METERS:
                for doubt in self.held(meter):
                    self.decide(meter, doubt.hour, doubt.hour, ("correct", "accept"))
            self.close(hour)
            self.gateway.run(3 * 3600)
        self.gateway.run(86_400)

    def close(self, hour: int) -> None:
        value = self.random.randrange(100_000, 900_000)
        self.boundary += value
        for number in self.gateway.numbers.values():
            row = (number, hour, value, self.boundary)
            self.gateway.store.write(lambda db, row=row: db.execute(INSERT_HOUR, row))

    def write(self, statement: str, hour: int, amount: int) -> None:
        rows = [(number, hour, amount, to_ms(self.clock.wall)) for number in self.gateway.numbers.values()]
        self.gateway.store.write(lambda db: db.executemany(statement, rows))

    def by_hand(self, hour: int) -> None:
        """Somebody changes an hour of the one meter, and a reading that is there of the other."""
        amount = self.random.randrange(1_000, 400_000) / 10**6
        self.post(100, hour, amount, "PushConsumptionsForMeter")
        stamps = {item.stamp for item in self.simulator.items if item.meter == 101}
        if hour_start(hour) in stamps:
            self.post(101, hour, amount, "PushCumulativeReadingsForMeter")

    def post(self, meter: int, hour: int, value: float, endpoint: str) -> None:
        faults, self.simulator.faults = self.simulator.faults, None
        rules = self.simulator.rules
        same_hour, rules.same_hour = rules.same_hour, "sum"
        body = f'[{{"timestamp":"{hour_start(hour):%Y-%m-%dT%H:%M:%SZ}","value":{value:.6f}}}]'
        headers = {"Authorization": "one", "Content-Type": "application/json"}
        url = f"http://localhost/api/v2/Values/{endpoint}?meterId={meter}"
        answer = transport(self.simulator).handler(httpx.Request("POST", url, headers=headers, content=body))
        assert answer.status_code == 200
        self.simulator.faults, rules.same_hour = faults, same_hour

    def decide_something(self) -> None:
        meter = self.random.choice(METERS)
        held = self.held(meter)
        if held and any(doubt.why == "foreign" for doubt in held) and self.random.random() < 0.3:
            self.say({"what": "takeover", "meter": meter, "at": (held[-1].hour + 2) * HOUR_MS})
        elif held:
            doubt = self.random.choice(held)
            self.decide(meter, doubt.hour, doubt.hour, self.random.sample(DECISIONS, 4))

    def decide(self, meter: str, first: int, last: int, decisions: tuple[str, ...] | list[str]) -> None:
        """The first of the decisions that is taken."""
        for decision in decisions:
            asked = {"what": "resolve", "meter": meter, "decision": decision, "first": first, "last": last}
            if self.say(asked):
                return

    def say(self, asked: dict) -> bool:
        now_ms = to_ms(self.clock.wall)
        try:
            self.gateway.store.write(lambda db: correct(db, asked | {"author": "ada"}, now_ms))
        except CorrectionError:
            return False
        self.done[asked.get("decision", "takeover")] += 1
        return True

    def held(self, meter: str) -> list[Doubt]:
        return self.gateway.store.read(lambda db: of_meter(db, self.gateway.numbers[meter]))

    def look(self, query: str, *values: int) -> list[tuple]:
        return self.gateway.store.read(lambda db: db.execute(query, values).fetchall())


@pytest.fixture(scope="module", params=range(4))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world in which everything has happened."""
    world = World(request.param, tmp_path_factory.mktemp("world"))
    world.live()
    yield world
    world.gateway.close()
    world.simulator.close()


def test_nothing_is_left_in_doubt(world: World):
    """R13, R17: every hour is accepted, or dropped by a person; no message is open."""
    assert sum(world.done.values()) > 3
    assert world.look("SELECT DISTINCT meter, hour, state FROM hour WHERE state NOT IN ('accepted', 'dropped')") == []
    assert world.look("SELECT count(*) FROM message WHERE state IN ('open', 'unknown')") == [(0,)]
    assert world.look("SELECT count(*) FROM doubt") == [(0,)]


@pytest.mark.parametrize("meter", METERS)
def test_the_ledger_is_what_enerkey_has(world: World, meter: str):
    """Of every hour that was not dropped (R16)."""
    number = world.gateway.numbers[meter]
    ledger = dict(world.look("SELECT hour, accepted FROM ledger WHERE meter = ?", number))
    there = world.simulator.hourly(99 + number)
    assert {hour: there.get(hour, 0) for hour in ledger} == ledger


def test_every_hour_is_there_with_all_that_was_booked_beside_it(world: World):
    """To the last micro, and nothing waits to be posted."""
    find = (
        "SELECT hour, consumption + (SELECT coalesce(sum(amount), 0) FROM adjustment WHERE adjustment.meter = hour.meter"
        " AND adjustment.hour = hour.hour) FROM hour WHERE meter = 1 AND state = 'accepted'"
    )
    there = world.simulator.hourly(100)
    wanted = dict(world.look(find))
    assert {hour: there.get(hour, 0) for hour in wanted} == wanted


def test_a_cumulative_meters_series_stands_where_its_register_is(world: World):
    """With what was posted; no boundary of ours is sent twice."""
    find = (
        "SELECT boundary + (SELECT coalesce(sum(posted), 0) FROM adjustment WHERE meter = 2) FROM hour"
        " WHERE meter = 2 AND state = 'accepted' ORDER BY hour DESC LIMIT 1"
    )
    last = [item for item in world.simulator.items if item.meter == 101][-1]
    assert world.look(find) == [(last.value,)]
