"""The simulated devices: what they say of an instant, and that it arrives through a real broker."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from queue import Queue
from random import Random
from typing import TYPE_CHECKING

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from gateway.clock import ScaledClock
from gateway.simulator.broker import HOST, start_broker
from gateway.simulator.mqtt import MqttDevice, MqttDevices
from gateway.simulator.world import Load
from tests.fakes.ports import lasting_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.simulator.broker import Broker

TEN = datetime(2026, 3, 2, 10, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
LOAD = Load("bakery", 30_000_000, start=5_000_123_456, since=TEN - timedelta(hours=1))


def device(voice: str, every: timedelta = QUARTER, after: timedelta = timedelta(0)) -> MqttDevice:
    return MqttDevice(f"building/{voice}", voice, LOAD, every, after)


def test_a_counter_tells_its_register_and_the_time_of_it():
    said = json.loads(device("counter").payload(TEN, TEN + QUARTER))
    assert said == {"total": int(LOAD.register(TEN) / 1000) / 1000, "time": "2026-03-02T10:00:00.000Z"}


def test_a_device_without_a_clock_tells_the_register_of_the_moment():
    said = float(device("number").payload(TEN, TEN + QUARTER))
    assert said == int(LOAD.register(TEN + QUARTER) / 1000) / 1000


def test_periods_that_follow_each_other_lose_nothing():
    periods = [TEN + number * QUARTER for number in range(1, 9)]
    said = [json.loads(device("interval").payload(at, at)) for at in periods]
    exact = LOAD.register(periods[-1]) // 1000 - LOAD.register(TEN) // 1000
    assert sum(each["energy_wh"] for each in said) == exact
    assert said[0]["until"] == "2026-03-02T10:15:00.000Z"


def test_power_is_the_load_of_the_instant_in_watts():
    said = json.loads(device("power").payload(TEN, TEN))
    assert said["power_w"] == pytest.approx(LOAD.rate(TEN) / 1000, abs=0.1)
    assert said["ts"] == TEN.timestamp() * 1000


def test_devices_speak_at_even_times_or_so_long_after_them():
    assert device("counter").next_after(TEN) == TEN + QUARTER
    assert device("counter").next_after(TEN + timedelta(seconds=1)) == TEN + QUARTER
    late = device("power", timedelta(seconds=20), timedelta(seconds=10))
    assert late.next_after(TEN) == TEN + timedelta(seconds=10)
    assert late.next_after(TEN + timedelta(seconds=10)) == TEN + timedelta(seconds=30)


@pytest.fixture
def broker(tmp_path) -> Iterator[Broker]:
    broker = start_broker("auto", tmp_path)
    yield broker
    broker.stop()


@pytest.fixture
def heard(broker: Broker) -> Iterator[Queue[tuple[str, str]]]:
    queue: Queue[tuple[str, str]] = Queue()
    ready: Queue[bool] = Queue()
    client = Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda *_: client.subscribe("building/#", qos=1)
    client.on_subscribe = lambda *_: ready.put(True)
    client.on_message = lambda _, __, message: queue.put((message.topic, message.payload.decode()))
    client.connect(HOST, broker.port)
    client.loop_start()
    ready.get(timeout=60)
    yield queue
    client.disconnect()
    client.loop_stop()


def test_what_they_say_arrives_in_order_and_every_instant_once(broker: Broker, heard: Queue[tuple[str, str]]):
    clock = ScaledClock(TEN - timedelta(seconds=30), 3600)
    devices = MqttDevices([device("counter"), device("number"), device("interval")], clock, HOST, broker.port)
    arrived = [heard.get(timeout=60) for _ in range(9)]
    devices.stop()
    by_topic = {topic: [payload for each, payload in arrived if each == topic] for topic, _ in arrived}
    times = [datetime.fromisoformat(json.loads(payload)["time"]) for payload in by_topic["building/counter"]]
    assert {(at.minute % 15, at.second, at.microsecond) for at in times} == {(0, 0, 0)}
    assert {later - earlier for earlier, later in pairwise(times)} == {QUARTER}
    numbers = [float(payload) for payload in by_topic["building/number"]]
    assert numbers == sorted(numbers)
    assert devices.published >= 9


def test_a_share_of_those_with_a_time_comes_twice(broker: Broker, heard: Queue[tuple[str, str]]):
    clock = ScaledClock(TEN - timedelta(seconds=30), 3600)
    devices = MqttDevices([device("counter"), device("number")], clock, HOST, broker.port, twice=(1.0, Random(1)))
    arrived = [heard.get(timeout=60) for _ in range(3)]
    devices.stop()
    assert sum("counter" in topic for topic, _ in arrived) == 2
    assert sum("number" in topic for topic, _ in arrived) == 1


def test_a_message_does_not_wait_for_the_one_before_it_to_be_acknowledged(broker: Broker):
    # 40 ms are 24 s of a demo at 600 x: a bare number was heard that late, and an hour whose load halves was off by 1.3 %
    devices = MqttDevices([device("number")], ScaledClock(TEN, 1), HOST, broker.port)
    try:
        assert devices._client.socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    finally:
        devices.stop()


def test_without_a_broker_they_say_so_at_once():
    with pytest.raises(OSError, match="refused"):
        MqttDevices([device("counter")], ScaledClock(TEN, 1), HOST, lasting_port())
