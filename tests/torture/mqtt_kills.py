"""Many messages of QoS 1 through a gateway that is killed again and again, and a broker that restarts.

outcome = run(directory, messages=5000)      # raises AssertionError where a wait ends without what it waited for
outcome.faults                               # [] when every message is stored once and none acknowledged before it
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.mosquitto import HOST, Mosquitto, mosquitto
from tests.torture.ack_proxy import AckProxy

METERS = 20
KILLS = 5
RESTART_AFTER = 3  # kills until the broker restarts
TOGETHER = 200  # messages that the publisher sends before it waits for the broker
AHEAD = 10_000  # messages that the publisher may be ahead of the store
TAKEN_WITHIN = 30.0  # s until the broker has what was sent together; where it goes away that shows at once
WITHIN = 120.0  # s without anything new
CONFIG = """
[gateway]
name = "kills"
data_dir = "{directory}/data"
[clock]
trust = "always"
[connections.hall]
driver = "mqtt"
url = "mqtt://127.0.0.1:{port}"
"""
METER = """
[[meters]]
name = "m{number}"
push = "off"
unit = "kWh"
max_rate = 1000
source = {{ connection = "hall", topic = "site/m{number}/energy", value = "v", time = "t", unit = "kWh" }}
"""


class Outcome(NamedTuple):
    """What became of it."""

    messages: int
    stored: int
    again: int  # messages that the broker sent again after a kill
    lost: int
    wrong: int  # with another value, or under another meter
    rejected: int
    too_early: int  # acknowledged before they were durable

    @property
    def faults(self) -> list[str]:
        """What must not be."""
        found = [
            f"{getattr(self, key)} {key}" for key in ("lost", "wrong", "rejected", "too_early") if getattr(self, key)
        ]
        return found + ([f"{self.stored} rows"] if self.stored != self.messages else [])


class Database:
    """What of the messages is in the file, looked at from outside."""

    def __init__(self, directory: Path, since: int) -> None:
        """`since`: the instant of message 0 in ms; a meter's messages are a second apart."""
        self._path = directory / "data" / "buffer.db"
        self._since = since

    def at(self, number: int) -> int:
        """The message's own time. Each one's is another, so that a row says which message it came from."""
        return self._since + number // METERS * 1000 + number % METERS

    def numbers(self, wanted: set[int]) -> set[int]:
        """Which of them are durable."""
        rows = self._ask("SELECT at FROM reading WHERE at BETWEEN ? AND ?", self.at(min(wanted)), self.at(max(wanted)))
        found = {at for (at,) in rows}
        return {number for number in wanted if self.at(number) in found}

    def count(self, table: str = "reading") -> int:
        return int(self._ask(f"SELECT count(*) FROM {table}")[0][0])

    def rows(self) -> dict[int, tuple[str, int]]:
        """Meter and value by the time."""
        return {
            at: (name, value)
            for at, name, value in self._ask(
                "SELECT at, name, value FROM reading JOIN meter ON meter.id = reading.meter"
            )
        }

    def _ask(self, sql: str, *values: int) -> list[tuple]:
        try:
            with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=WITHIN)) as db:
                return db.execute(sql, values).fetchall()
        except sqlite3.OperationalError:  # before the first start
            return [(0,)] if "count" in sql else []


def run(directory: Path, messages: int) -> Outcome:
    """From the first message to the last acknowledgement."""
    database = Database(directory, (round(time.time()) - 7200 - messages // METERS) * 1000)
    with mosquitto(directory, persistence=True, extra_lines=["autosave_on_changes false"]) as broker:
        proxy = AckProxy(broker.port, database.numbers)
        config = directory / "config.toml"
        meters = "".join(METER.format(number=number) for number in range(METERS))
        config.write_text(CONFIG.format(directory=directory, port=proxy.port) + meters)
        with contextlib.closing(proxy), GatewayProcess(config, directory / "gateway.log") as gateway:
            eventually(lambda: "SUBACK" in broker.log, lambda: 0)
            publisher = Thread(target=publish, args=(broker, database, messages), daemon=True)
            publisher.start()
            for kill in range(1, KILLS + 1):
                enough = messages * kill // (KILLS + 1)
                eventually(lambda enough=enough: database.count() >= enough, database.count)
                gateway.kill()
                if kill == RESTART_AFTER:
                    broker.stop()
                    broker.start()
                gateway.start()
            eventually(lambda: len(proxy.acknowledged) == messages, lambda: len(proxy.acknowledged))
            gateway.stop()
        return judged(database, proxy, messages)


def judged(database: Database, proxy: AckProxy, messages: int) -> Outcome:
    rows = database.rows()
    meant = {database.at(number): (f"m{number % METERS}", number * 1000) for number in range(messages)}
    wrong = sum(rows[at] != what for at, what in meant.items() if at in rows)
    lost = len(meant.keys() - rows.keys())
    return Outcome(
        messages, database.count(), proxy.again, lost, wrong, database.count("rejected"), len(proxy.too_early)
    )


def publish(broker: Mosquitto, database: Database, messages: int) -> None:
    """In order, each until the broker has it: after a restart some are sent a second time."""
    for first in range(0, messages, TOGETHER):
        numbers = range(first, min(messages, first + TOGETHER))
        eventually(lambda first=first: database.count() > first - AHEAD, database.count)
        while not sent(broker, [(f"site/m{number % METERS}/energy", payload(database, number)) for number in numbers]):
            time.sleep(0.1)


def payload(database: Database, number: int) -> bytes:
    return json.dumps({"n": number, "v": number / 1000, "t": database.at(number)}).encode()


def sent(broker: Mosquitto, what: Sequence[tuple[str, bytes]]) -> bool:
    """Whether the broker acknowledged all of it."""
    client = Client(CallbackAPIVersion.VERSION2, client_id="devices", reconnect_on_failure=False)
    client.max_inflight_messages_set(0)
    gone = Event()
    client.on_disconnect = lambda *_: gone.set()
    try:
        client.connect(HOST, broker.port)
    except OSError:
        return False
    client.loop_start()
    given = [client.publish(topic, data, qos=1) for topic, data in what]
    until = time.monotonic() + TAKEN_WITHIN
    while not (taken := all(map(acknowledged, given))) and not gone.is_set() and time.monotonic() < until:
        time.sleep(0.002)
    client.disconnect()
    client.loop_stop()
    return taken


def acknowledged(given: MQTTMessageInfo) -> bool:
    """By the broker. One that was given to a broken connection raises where it is asked."""
    return given.rc == MQTT_ERR_SUCCESS and given.is_published()


def eventually(true: Callable[[], bool], progress: Callable[[], int]) -> None:
    """Wait; ends with an error when nothing moves for a long time."""
    last, until = progress(), time.monotonic() + WITHIN
    while not true():
        if (now := progress()) != last:
            last, until = now, time.monotonic() + WITHIN
        assert time.monotonic() < until, f"it stands at {last}"
        time.sleep(0.02)
