"""A gateway at work under strace: two days of six meters through mosquitto, hours that go to a simulated EnerKey.

It starts with nothing, is killed, starts again, stops in order, starts once more: the birth of the database, the recovery
of its log, its checkpoints and its end are all in the recording.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import NamedTuple

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from buffer.model import HOUR_MS, hour_of, to_micro, to_ms
from gateway.simulator.enerkey import EnerkeySimulator
from gateway.simulator.http import Request, serve
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.mosquitto import Mosquitto, mosquitto
from tests.fakes.strace import tracing, wait_for_end
from tests.waiting import until

KEY = "a-key-that-is-good"
METERS = {f"consumption-{number}": 100 + number for number in range(4)} | {
    f"cumulative-{number}": 200 + number for number in range(2)
}
EVERY = timedelta(minutes=10)
POISON = 0.03  # of all messages
PUSHED = 4  # meters of which EnerKey has something before a life ends: after twenty requests the gateway rests
PUBLISH_EVERY = 0.004  # s
AHEAD = 8  # messages that the gateway has not acknowledged: it commits no more at once, however slow the machine
ALL_WITHIN = 150.0  # s, on a machine that does other things too, for what was published to be at EnerKey
ROUNDING = 2  # micro: an hour is the difference of two boundaries, each rounded once
SAVED = "recording.json"
ACKNOWLEDGED = "Received PUBACK"  # as the broker says it: of the gateway, nobody else subscribes

CONFIG = """
[gateway]
name = "recorded"
data_dir = "{data}"
[clock]
trust = "always"
[hours]
grace = "500ms"
[enerkey]
url = "{enerkey}"
api_keys = ["{key}"]
settle = "1s"
push_spread = "0s"
[connections.hall]
driver = "mqtt"
url = "{broker}"
flush = "20ms"
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


class Row(NamedTuple):
    """A reading as the table `reading` must hold it."""

    meter: str
    at: int
    value: int


class Message(NamedTuple):
    """What is published; `row` None: it is no reading, and must be kept in the table `rejected`."""

    topic: str
    payload: bytes
    row: Row | None


class Recording(NamedTuple):
    """What was recorded, and what is needed to judge it."""

    data: Path
    logs: Sequence[Path]
    broker: int
    enerkey: int
    rows: dict[tuple[str, bytes], Row | None]
    wrong: Sequence[str]  # how what EnerKey has in the end differs from the truth

    def save(self) -> None:
        """Beside the data, so that it can be replayed again."""
        rows = [[topic, payload.decode(), row] for (topic, payload), row in self.rows.items()]
        facts = [str(self.data), [str(log) for log in self.logs], self.broker, self.enerkey, rows, self.wrong]
        (self.data.parent / SAVED).write_text(json.dumps(facts))

    @classmethod
    def saved(cls, directory: Path) -> Recording:
        """The one that was saved in this directory."""
        data, logs, broker, enerkey, rows, wrong = json.loads((directory / SAVED).read_text())
        known = {(topic, payload.encode()): row and Row(*row) for topic, payload, row in rows}
        return cls(Path(data), [Path(log) for log in logs], broker, enerkey, known, wrong)


def messages(per_meter: int, random: Random) -> list[Message]:
    """Registers that rise unevenly, all meters in turn, ending now; some messages come twice, some are no readings."""
    first = datetime.now(UTC) - EVERY * per_meter
    found = []
    values = {name: Decimal(1000 * number) for name, number in METERS.items()}
    for number in range(per_meter):
        for name in METERS:
            at = first + EVERY * number + timedelta(milliseconds=random.randrange(240_000))
            values[name] += Decimal(random.randrange(1, 40_000)).scaleb(-4)
            said = {"at": at.isoformat(timespec="milliseconds"), "total": str(values[name])}
            row = Row(name, to_ms(datetime.fromisoformat(said["at"])), to_micro(values[name]))
            message = Message(f"site/{name}", json.dumps(said).encode(), row)
            found += [message] * (2 if random.random() < 0.05 else 1)
            if random.random() < POISON:
                found.append(Message(f"site/{name}", f'{{"total": "broken {number}"}}'.encode(), None))
    return found


@contextmanager
def site(tmp_path: Path, *, faulty: bool = True) -> Iterator[tuple[Path, Mosquitto, EnerkeySimulator, int]]:
    """A configuration, its broker, its EnerKey (a few requests go wrong where `faulty`) and that one's port."""
    simulator = EnerkeySimulator(now=lambda: datetime.now(UTC), keys=[KEY])
    if faulty:
        simulator.faults = _some_lost(Random(5))
    server = serve(simulator.handle)
    config = tmp_path / "config.toml"
    (tmp_path / "data").mkdir()
    try:
        with mosquitto(tmp_path) as broker:
            text = CONFIG.format(data=tmp_path / "data", enerkey=server.url, key=KEY, broker=broker.url)
            text += "".join(
                METER.format(name=name, id=number, push=name.split("-")[0]) for name, number in METERS.items()
            )
            config.write_text(text)
            yield config, broker, simulator, server.port
    finally:
        server.stop()


def record(
    tmp_path: Path,
    *,
    per_meter: int = 120,
    module: str = "gateway",
    seed: int = 1,
    lives: int = 3,
    faults: Sequence[str] = (),
    faulty_life: int = 0,
    ahead: int = AHEAD,
) -> Recording:
    """Record the lives of a gateway; the last one ends when EnerKey has all that it can have.

    `module`: what is run instead of the gateway. `faults`: what goes wrong with the calls of one life, as
    `strace -e inject` has it; they are counted for each thread; a life that is not the last one dies of it. `ahead`: as
    `AHEAD`.
    """
    random = Random(seed)
    batch = messages(per_meter, random)
    logs = [tmp_path / f"strace-{life}" for life in range(lives)]
    with site(tmp_path) as (config, broker, simulator, port):
        gateway = GatewayProcess(config, tmp_path / "gateway.log", module=(module, "run"))
        for life, log in enumerate(logs):
            gateway.under = tracing(log, *(faults if life == faulty_life else ()))
            with gateway:
                wait_until_subscribed(broker)
                publish(broker, gateway, batch[life * len(batch) // lives : (life + 1) * len(batch) // lives], ahead)
                if life == lives - 1:
                    wait_for_all(simulator, batch)
                elif not faults:
                    until(lambda: sum(bool(simulator.hourly(number)) for number in METERS.values()) >= PUSHED)
                elif life == faulty_life:
                    until(lambda: gateway.ended() is not None)
                if life == lives - 1 or (life and not faults):
                    assert gateway.stop() == 0
                else:
                    gateway.kill()
            wait_for_end(log)
        wrong = [words for name in METERS for words in _wrong_hours(name, batch, simulator.hourly(METERS[name]))]
    rows = {(message.topic, message.payload): message.row for message in batch}
    recording = Recording(tmp_path / "data", logs, broker.port, port, rows, wrong)
    recording.save()
    return recording


def wait_until_subscribed(broker: Mosquitto) -> None:
    """What is published before the gateway's first subscription is for nobody."""
    until(lambda: "Sending SUBACK" in broker.log, lambda: broker.log[-2000:])


def publish(broker: Mosquitto, gateway: GatewayProcess, batch: Sequence[Message], ahead: int) -> None:
    """At QoS 1, evenly, and no more than `ahead` of a gateway that lives; returns when the broker has them all."""
    client = Client(CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(1000)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    before = broker.log.count(ACKNOWLEDGED)
    began = time.monotonic()
    sent = []
    for number, message in enumerate(batch):
        time.sleep(max(0.0, began + number * PUBLISH_EVERY - time.monotonic()))
        acknowledged = before + number - ahead
        until(lambda so_many=acknowledged: broker.log.count(ACKNOWLEDGED) > so_many or gateway.ended() is not None)
        sent.append(client.publish(message.topic, message.payload, qos=1))
    for each in sent:
        each.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


def true_hours(points: Iterable[tuple[int, int | Fraction]]) -> dict[int, Fraction]:
    """Every full hour's energy in micro, by exact interpolation between a counter's (ms, micro)."""
    edges: dict[int, Fraction] = {}
    for (left, low), (right, high) in pairwise(sorted(set(points))):
        for edge in range(hour_of(left - 1) + 1, hour_of(right) + 1):
            edges[edge] = low + (high - low) * Fraction(edge * HOUR_MS - left, right - left)
    return {hour: edges[hour + 1] - edges[hour] for hour in edges if hour + 1 in edges}


def wrong_hours(name: str, points: Iterable[tuple[int, int | Fraction]], there: Mapping[int, int]) -> list[str]:
    """How what EnerKey has of a meter differs from the truth."""
    wanted = true_hours(points)
    wrong = [f"{name}: hour {hour} is missing or was never" for hour in sorted(wanted.keys() ^ there.keys())]
    return wrong + [
        f"{name}: hour {hour} is {there[hour]}, should be {float(value)}"
        for hour, value in wanted.items()
        if hour in there and abs(there[hour] - value) > ROUNDING
    ]


def _points(name: str, batch: Sequence[Message]) -> list[tuple[int, int]]:
    return [(message.row.at, message.row.value) for message in batch if message.row and message.row.meter == name]


def _wrong_hours(name: str, batch: Sequence[Message], there: Mapping[int, int]) -> list[str]:
    return wrong_hours(name, _points(name, batch), there)


def wait_for_all(simulator: EnerkeySimulator, batch: Sequence[Message], within: float = ALL_WITHIN) -> None:
    """Until EnerKey has every full hour."""
    wanted = {name: true_hours(_points(name, batch)).keys() for name in METERS}
    end = time.monotonic() + within
    while time.monotonic() < end:
        if all(simulator.hourly(METERS[name]).keys() >= hours for name, hours in wanted.items()):
            return
        time.sleep(0.05)
    missing = {name: len(hours - simulator.hourly(METERS[name]).keys()) for name, hours in wanted.items()}
    raise AssertionError(f"hours that did not arrive: {missing}")


def _some_lost(random: Random):
    def fault(request: Request):
        return random.choice(["lost-answer", "500-after", "503"]) if random.random() < 0.1 else None

    return fault
