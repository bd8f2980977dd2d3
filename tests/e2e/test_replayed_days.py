"""Two days of six meters through mosquitto, a gateway that is killed three times, an EnerKey that sums what it gets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from buffer.model import MICRO, hour_of, to_ms
from gateway.simulator.enerkey import EnerkeySimulator
from gateway.simulator.http import serve
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.mosquitto import mosquitto

FIRST = datetime(2026, 11, 20, 0, 3, 17, tzinfo=UTC)
READINGS = 288  # two days, one every ten minutes
HELD_BACK = 1.0  # s; the configured grace is six, because a machine that does other things holds back, too
PUBLISH_EVERY = 0.012  # s: the two days pass in about 20 s, and every kill falls into them
KILLS = 3
ARRIVES_WITHIN = 90.0  # s, on a machine that does other things too
METERS = {f"consumption-{number}": 100 + number for number in range(3)} | {
    f"cumulative-{number}": 200 + number for number in range(3)
}

CONFIG = """
[gateway]
name = "replay"
data_dir = "{directory}/data"
[clock]
trust = "always"
[hours]
grace = "6s"
[enerkey]
url = "{enerkey}"
api_keys = ["a-key-that-is-good"]
settle = "1s"
push_spread = "0s"
[connections.hall]
driver = "mqtt"
url = "{broker}"
"""
METER = """
[[meters]]
name = "{name}"
enerkey_id = {id}
push = "{push}"
unit = "kWh"
max_rate = 1000
source = {{ connection = "hall", topic = "site/{name}", value = "total", time = "at", unit = "kWh" }}
"""


class Message(NamedTuple):
    """A message on its way to the broker, `after` so many seconds from the beginning."""

    after: float
    topic: str
    payload: str


class Reading(NamedTuple):
    at: datetime
    value: Decimal


def readings_of(meter: int, random: Random) -> list[Reading]:
    """A register that rises unevenly; stamps to the millisecond, none on the hour."""
    value = Decimal(meter * 1000)
    found = []
    for number in range(READINGS):
        at = FIRST + timedelta(minutes=10 * number, milliseconds=random.randrange(-90_000, 90_000))
        value += Decimal(random.randrange(1, 40_000)).scaleb(-4)
        found.append(Reading(at, value))
    return found


def schedule(meters: dict[str, list[Reading]], random: Random) -> list[Message]:
    """Every reading once, with 3 % twice, 3 % swapped with the next of the same meter, and 2 % held back a second."""
    messages = []
    slots = len(meters)
    for index, (name, readings) in enumerate(meters.items()):
        order = list(range(len(readings)))
        for place in range(len(order) - 1):
            if random.random() < 0.03:
                order[place], order[place + 1] = order[place + 1], order[place]
        for place, number in enumerate(order):
            at, value = readings[number]
            payload = json.dumps({"at": at.isoformat(timespec="milliseconds"), "total": str(value)})
            after = (place * slots + index) * PUBLISH_EVERY + (HELD_BACK if random.random() < 0.02 else 0.0)
            copies = 2 if random.random() < 0.03 else 1
            messages += [Message(after, f"site/{name}", payload)] * copies
    return sorted(messages, key=lambda message: message.after)


def true_hours(readings: list[Reading]) -> dict[int, Fraction]:
    """Exact rational interpolation at every edge that lies between two readings, in micro."""
    points = [(to_ms(reading.at), Fraction(reading.value) * MICRO) for reading in readings]
    edges: dict[int, Fraction] = {}
    for (left, low), (right, high) in pairwise(points):
        for edge in range(hour_of(left) + 1, hour_of(right) + 1):
            edges[edge] = low + (high - low) * Fraction(edge * 3_600_000 - left, right - left)
    return {edge: edges[edge + 1] - value for edge, value in edges.items() if edge + 1 in edges}


def publish(url: str, messages: list[Message], kill_at: Iterator[float], gateway: GatewayProcess) -> int:
    """Publish in time at QoS 1 and kill the gateway on the way; how often it was killed."""
    host, port = url.removeprefix("mqtt://").split(":")
    client = Client(CallbackAPIVersion.VERSION2, client_id="replay-publisher")
    client.max_inflight_messages_set(1000)
    client.connect(host, int(port))
    client.loop_start()
    began = time.monotonic()
    killed = 0
    next_kill = next(kill_at)
    sent = []
    for message in messages:
        time.sleep(max(0.0, began + message.after - time.monotonic()))
        sent.append(client.publish(message.topic, message.payload, qos=1))
        if message.after >= next_kill:
            gateway.kill()
            gateway.start()
            killed += 1
            next_kill = next(kill_at, float("inf"))
    for each in sent:
        each.wait_for_publish(ARRIVES_WITHIN)
    client.disconnect()
    client.loop_stop()
    return killed


def wait_for(simulator: EnerkeySimulator, wanted: dict[str, dict[int, Fraction]], within: float) -> None:
    """Until EnerKey knows every full hour of every meter, or the time is over."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        if all(simulator.hourly(METERS[name]).keys() >= hours.keys() for name, hours in wanted.items()):
            return
        time.sleep(0.1)


@pytest.mark.timeout(300)
def test_two_days_arrive_exactly_once_although_the_gateway_is_killed_three_times(tmp_path: Path) -> None:
    """R3, R12-R17, R25: nothing lost, nothing doubled, every hour equal to exact interpolation."""
    random = Random(20261120)
    meters = {name: readings_of(number, random) for name, number in METERS.items()}
    wanted = {name: true_hours(readings) for name, readings in meters.items()}
    simulator = EnerkeySimulator(now=lambda: datetime.now(UTC), keys=["a-key-that-is-good"])
    server = serve(simulator.handle)
    with mosquitto(tmp_path) as broker:
        config = tmp_path / "config.toml"
        text = CONFIG.format(directory=tmp_path, enerkey=server.url, broker=broker.url)
        text += "".join(METER.format(name=name, id=number, push=name.split("-")[0]) for name, number in METERS.items())
        config.write_text(text)
        with GatewayProcess(config, tmp_path / "gateway.log") as gateway:
            messages = schedule(meters, random)
            last = messages[-1].after
            kills = iter([last * random.uniform(low, low + 0.2) for low in (0.1, 0.4, 0.7)])
            assert publish(broker.url, messages, kills, gateway) == KILLS
            wait_for(simulator, wanted, ARRIVES_WITHIN)
            assert gateway.stop() == 0
    server.stop()
    for name, hours in wanted.items():
        assert len(hours) >= 46
        found = simulator.hourly(METERS[name])
        assert found.keys() == hours.keys(), name
        assert max(abs(found[hour] - value) for hour, value in hours.items()) <= 2, name
