"""The MQTT driver against real brokers: what is acknowledged when, what survives what, and what the operator reads."""

from __future__ import annotations

import base64
import gc
import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from drivers.base import Deliver, Now
from drivers.mqtt import backlog, driver, inbox, session
from drivers.mqtt.config import Connection, Source
from drivers.mqtt.driver import WINDOW, YOUNG, MqttDriver, build
from drivers.mqtt.port import Message
from drivers.mqtt.staleness import LOOK_EVERY
from drivers.mqtt.supervisor import FLAPPING, LONGEST_PAUSE, STABLE
from tests.fakes.driver_ports import FakePorts
from tests.fakes.mosquitto import HOST, Mosquitto, mosquitto
from tests.fakes.old_broker import Manner, old_broker
from tests.fakes.ports import lasting_port

WITHIN = 60.0  # s; every wait ends by itself long before
SILENCE = 3.0  # s without an answer until another version is tried, where none comes
US = "gateway-test"  # the client id of FakePorts
ROOT = Path(__file__).parents[2]
PASSWORD = "hunter2-is-secret"


class SkippingClock:
    """Real time, with leaps: pauses between attempts need not be waited out."""

    def __init__(self) -> None:
        self.leapt = 0.0  # s

    def now(self) -> Now:
        wall = datetime.now(UTC) + timedelta(seconds=self.leapt)
        return Now(time.monotonic() + self.leapt, wall, trusted=True)

    def skip(self, seconds: float) -> None:
        self.leapt += seconds

    def wait(self, wake: Event, until: float | None) -> bool:
        return wake.wait(None if until is None else max(0.0, until - self.now().boottime))


class Gateway:
    """A driver with a real session, stepped by the test."""

    def __init__(
        self,
        url: str,
        *,
        memory: dict[str, str] | None = None,
        deliver: Deliver | None = None,
        sources: dict[str, Source] | None = None,
        **settings,
    ) -> None:
        self.clock = SkippingClock()
        self.store = FakePorts(self.clock, memory)
        connection = Connection(driver="mqtt", url=url, **{"flush": "20ms"} | settings)
        ports = replace(self.store.ports, deliver=deliver) if deliver else self.store.ports
        driver = build("hall", connection, sources or {"heat": stamped()}, ports)
        assert isinstance(driver, MqttDriver)
        self.driver = driver

    def run_until(self, reached: Callable[[], bool], *, skip: bool = False) -> None:
        """Step like the service does; with `skip`, pauses between attempts are leapt over."""
        until = time.monotonic() + WITHIN
        while not reached():
            assert time.monotonic() < until, f"never: {self.driver.health()}, {self.store.notes}"
            self.driver.wake.clear()
            due = self.driver.step(self.clock.now())
            ahead = due - self.clock.now().boottime
            if skip and 0.5 < ahead < float("inf") and not self.driver._supervisor.connected:
                self.clock.skip(ahead)
            self.driver.wake.wait(min(0.05, max(0.0, ahead)))

    def ready(self) -> bool:
        return self.driver.health().state == "ok"

    def ready_but_for_the_words(self) -> bool:
        return self.driver._supervisor.listening_since is not None

    def connect(self) -> None:
        self.run_until(self.ready)

    def values(self, name: str = "heat") -> list[Decimal]:
        return [reading.value for reading in self.store.of(name)]

    def reconnects(self) -> int:
        return self.driver.health().counts["reconnects"]

    def acknowledged(self) -> int:
        return self.driver.health().counts["acknowledged"]


def stamped(topic: str = "hall/heat") -> Source:
    return Source(connection="hall", topic=topic, unit="kWh", value="v", time="t")


def bare(topic: str = "hall/heat") -> Source:
    return Source(connection="hall", topic=topic, unit="kWh")


def payload(value: int) -> bytes:
    """Each value has its own instant."""
    at = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(minutes=value)
    return json.dumps({"v": value, "t": at.isoformat()}).encode()


def publish(broker: Mosquitto, *messages: tuple[str, bytes], retain: bool = False, **connecting) -> None:
    """As a device, at QoS 1; returns when the broker has everything."""
    client = Client(CallbackAPIVersion.VERSION2, client_id="device")
    if connecting:
        client.username_pw_set(**connecting)
    client.max_inflight_messages_set(0)
    client.connect(HOST, broker.port)
    client.loop_start()
    sent = [client.publish(topic, data, qos=1, retain=retain) for topic, data in messages]
    for each in sent:
        each.wait_for_publish(WITHIN)
    client.disconnect()
    client.loop_stop()
    assert all(each.is_published() for each in sent)


def heat(*values: int) -> list[tuple[str, bytes]]:
    return [("hall/heat", payload(value)) for value in values]


def eventually(true: Callable[[], bool]) -> None:
    until = time.monotonic() + WITHIN
    while not true():
        assert time.monotonic() < until, "it never came to be"
        time.sleep(0.01)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path, persistence=True) as running:
        yield running


@pytest.fixture
def volatile(tmp_path: Path) -> Iterator[Mosquitto]:
    """One that does not save at each message, and is fast."""
    with mosquitto(tmp_path) as running:
        yield running


@pytest.fixture
def gateway_at(request: pytest.FixtureRequest) -> Callable[..., Gateway]:
    """Makes gateways that are closed at the end of the test."""

    def make(url: str, **settings) -> Gateway:
        gateway = Gateway(url, **settings)
        request.addfinalizer(gateway.driver.close)
        return gateway

    return make


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker on a busy machine, or one that saves, answers late: it is no broker that does not answer."""
    for limit in ("CONNECT_WITHIN", "ANSWER_WITHIN", "ANSWER_WITHIN_AT_LAST"):
        monkeypatch.setattr(session, limit, WITHIN)


VERSIONS = pytest.mark.parametrize("protocol", ["5", "3.1.1"])


# --- R3: stored, then acknowledged ------------------------------------------------------------------------------------


@VERSIONS
def test_no_acknowledgement_reaches_the_broker_before_deliver_has_returned(broker: Mosquitto, gateway_at, protocol):
    """R3: while the store is at it, the broker sees no PUBACK; afterwards it sees one for each message."""
    entered, released = Event(), Event()

    def deliver(_) -> None:
        entered.set()
        assert released.wait(WITHIN)

    gateway = gateway_at(broker.url, deliver=deliver, protocol=protocol)
    gateway.connect()
    worker = Thread(target=gateway.run_until, args=(lambda: gateway.acknowledged() == 2,), daemon=True)
    worker.start()
    try:
        publish(broker, *heat(1))
        assert entered.wait(WITHIN)
        publish(broker, *heat(2))
        eventually(lambda: broker.log.count(f"Sending PUBLISH to {US}") == 2)  # the network thread is alive meanwhile
        assert f"Received PUBACK from {US}" not in broker.log
    finally:
        released.set()
        worker.join(WITHIN)
    eventually(lambda: broker.log.count(f"Received PUBACK from {US}") == 2)


@VERSIONS
def test_a_message_whose_delivery_failed_comes_again_in_the_next_session(broker: Mosquitto, gateway_at, protocol):
    """R3: an error in the store ends the worker; the message is not acknowledged and not lost."""

    def broken(_) -> None:
        raise RuntimeError("a bug")

    first = gateway_at(broker.url, deliver=broken, protocol=protocol)
    first.connect()
    publish(broker, *heat(1, 2))
    with pytest.raises(RuntimeError):
        first.run_until(lambda: False)
    first.driver.close()
    second = gateway_at(broker.url, memory=first.store.memory, protocol=protocol)
    second.run_until(lambda: second.acknowledged() == 2)
    assert second.values() == [1, 2]
    second.driver.close()
    third = gateway_at(broker.url, memory=first.store.memory, protocol=protocol)
    third.connect()
    publish(broker, *heat(3))
    third.run_until(lambda: bool(third.values()))
    assert third.values() == [3]  # what was acknowledged does not come again


DIES_IN_DELIVER = """
import os, signal, sys
from tests.e2e.test_mqtt_broker import Gateway
def deliver(batch):
    os.kill(os.getpid(), signal.SIGKILL)
gateway = Gateway(sys.argv[1], deliver=deliver, protocol=sys.argv[2])
gateway.connect()
print("ready", flush=True)
gateway.run_until(lambda: False)
"""


@VERSIONS
def test_a_message_that_was_in_a_killed_process_comes_again(broker: Mosquitto, gateway_at, protocol):
    """R3 under kill -9 in the middle of the store's commit."""
    command = [sys.executable, "-c", DIES_IN_DELIVER, broker.url, protocol]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "ready\n"
        publish(broker, *heat(1, 2, 3))
        assert victim.wait(WITHIN) == -signal.SIGKILL
    heir = gateway_at(broker.url, memory={"filters": '["hall/heat"]'}, protocol=protocol)
    heir.run_until(lambda: heir.acknowledged() == 3)
    assert heir.values() == [1, 2, 3]
    assert heir.store.notes == []  # the session was kept


def test_a_store_that_is_full_for_a_while_costs_no_message(broker: Mosquitto, gateway_at):
    """NotStored keeps the batch and its messages, until there is room."""
    gateway = gateway_at(broker.url)
    gateway.connect()
    gateway.store.full = True
    publish(broker, *heat(1))
    gateway.run_until(lambda: gateway.store.refused == 2)
    assert f"Received PUBACK from {US}" not in broker.log
    gateway.store.full = False
    publish(broker, *heat(2))
    gateway.run_until(lambda: gateway.acknowledged() == 2)
    assert gateway.values() == [1, 2]


def test_an_acknowledgement_reaches_only_the_connection_of_its_message(broker: Mosquitto, gateway_at):
    """Packet ids begin anew with a session: a late acknowledgement could confirm another message."""
    gateway = gateway_at(broker.url)
    gateway.connect()
    session = gateway.driver._session
    publish(broker, *heat(1))
    late: list[Message] = []
    eventually(lambda: bool(late.extend(session.take(1)) or late))
    session.open("5", ["hall/heat"], [])
    again: list[Message] = []
    eventually(lambda: bool(again.extend(session.take(1)) or again))
    assert again[0].payload == late[0].payload
    assert session.acknowledge(late) == 0
    assert session.acknowledge(again) == 1


# --- the session at the broker ----------------------------------------------------------------------------------------


@VERSIONS
def test_messages_published_while_the_gateway_is_away_arrive_after_it_is_back(broker: Mosquitto, gateway_at, protocol):
    """A persistent session under a stable client id, subscribed at QoS 1."""
    first = gateway_at(broker.url, protocol=protocol)
    first.connect()
    first.driver.close()
    publish(broker, *heat(1, 2, 3))
    second = gateway_at(broker.url, memory=first.store.memory, protocol=protocol)
    second.run_until(lambda: second.acknowledged() == 3)
    assert second.values() == [1, 2, 3]
    assert second.store.notes == []
    assert broker.log.count(f"as {US} (p{5 if protocol == '5' else 2}, c0, k30)") == 2  # c0: the session is kept
    assert "hall/heat (QoS 1)" in broker.log


def test_a_session_that_is_not_wanted_ends_with_the_connection(broker: Mosquitto, gateway_at):
    """`session_expiry = "0s"`: a look at a meter leaves nothing behind at the broker."""
    for protocol in ("5", "3.1.1"):
        first = gateway_at(broker.url, protocol=protocol, session_expiry="0s")
        first.connect()
        first.driver.close()
        publish(broker, *heat(1))
        second = gateway_at(broker.url, protocol=protocol, session_expiry="0s", memory=first.store.memory)
        second.connect()
        publish(broker, *heat(2))
        second.run_until(lambda gateway=second: bool(gateway.values()))
        assert second.values() == [2]
        assert second.store.notes == []
        second.driver.close()


def test_a_filter_that_left_the_configuration_leaves_the_session(broker: Mosquitto, gateway_at):
    """Else its messages would come for ever, and wait at the broker while nobody wants them."""
    first = gateway_at(broker.url, sources={"old": stamped("hall/old")})
    first.connect()
    first.driver.close()
    second = gateway_at(broker.url, memory=first.store.memory)
    second.connect()
    publish(broker, ("hall/old", payload(1)), *heat(2))
    second.run_until(lambda: bool(second.values()))
    assert second.driver.health().counts["messages"] == 1


@VERSIONS
def test_of_numbers_without_a_time_that_waited_only_the_newest_counts(
    broker: Mosquitto, gateway_at, protocol, monkeypatch
):
    """The others would be booked at a moment that is not theirs; all are acknowledged."""
    monkeypatch.setattr(backlog, "QUIET", 30.0)
    sources = {"heat": bare(), "cold": bare("hall/cold")}
    for held_for in (3.0, 30.0):  # a broker on a busy machine is no quiet one
        for module in (backlog, driver):
            monkeypatch.setattr(module, "HELD_FOR", held_for)
        first = gateway_at(broker.url, sources=sources, protocol=protocol)
        first.connect()
        first.driver.close()
        publish(broker, *[("hall/heat", str(number).encode()) for number in range(1, 51)], ("hall/cold", b"7"))
        second = gateway_at(broker.url, sources=sources, memory=first.store.memory, protocol=protocol)
        second.run_until(lambda gateway=second: gateway.acknowledged() == 51)
        second.driver.close()
        found = (second.values("heat"), second.values("cold"))
        if found == ([50], [7]):
            break
    assert found == ([50], [7])


def test_a_retained_number_counts_only_with_a_time_of_its_own(broker: Mosquitto, gateway_at):
    """A retained message has no age."""
    publish(broker, ("hall/heat", payload(1)), ("hall/cold", b"7"), retain=True)
    gateway = gateway_at(broker.url, sources={"heat": stamped(), "cold": bare("hall/cold")})
    gateway.run_until(lambda: gateway.driver.health().counts["acknowledged"] == 2)
    assert (gateway.values("heat"), gateway.values("cold")) == ([1], [])
    assert [item.reason for item in gateway.store.rejected] == ["retained without a time"]
    publish(broker, ("hall/cold", b"8"), retain=True)  # published now: it is news, and is retained besides
    gateway.run_until(lambda: gateway.acknowledged() == 3)
    assert gateway.values("cold") == [8]


def test_a_retained_message_is_not_sent_again_at_each_reconnection(broker: Mosquitto, gateway_at):
    """MQTT 5's retain handling: only for a new subscription."""
    publish(broker, *heat(1), retain=True)
    first = gateway_at(broker.url)
    first.run_until(lambda: first.values() == [1])
    first.driver.close()
    second = gateway_at(broker.url, memory=first.store.memory)
    second.connect()
    publish(broker, *heat(2))
    second.run_until(lambda: bool(second.values()))
    assert second.values() == [2]


# --- poison and floods ------------------------------------------------------------------------------------------------


@VERSIONS
def test_ten_thousand_bad_messages_do_not_stop_the_good_ones(volatile: Mosquitto, gateway_at, protocol, monkeypatch):
    """R3: poison is recorded, acknowledged and gone; more of it than any window, in bounded memory."""
    monkeypatch.setattr(
        inbox, "HELD_UP_FOR", 15.0
    )  # an owner that the machine stops gets one message in so long, not more
    broker = volatile
    gateway = gateway_at(broker.url, protocol=protocol, receive_maximum=100)
    gateway.connect()
    bad = [b"\xff\xfe", b"{", b'{"v": true, "t": 1}', b"[" * 2000, b'{"v": NaN, "t": "x"}']
    messages = []
    for number in range(10_000):
        messages.append(("hall/heat", bad[number % len(bad)]))
        if number % 1000 == 999:
            messages += heat(number // 1000)
    worker = Thread(target=publish, args=(broker, *messages), daemon=True)
    worker.start()
    most = 0

    def done() -> bool:
        nonlocal most
        most = max(most, len(gateway.driver._session._inbox._waiting))
        return gateway.acknowledged() == 10_010

    gateway.run_until(done)
    worker.join(WITHIN)
    assert gateway.values() == list(range(10))
    assert len(gateway.store.rejected) == 10_000
    assert most <= 1200  # twice the window and a margin: what there is no room for waits at the broker
    assert all(len(item.payload) <= 500 for item in gateway.store.rejected)


def test_a_message_larger_than_any_meters_is_refused_and_acknowledged(broker: Mosquitto, gateway_at):
    """A quarter of a mebibyte is read, more is only looked at; the connection goes on."""
    gateway = gateway_at(broker.url)
    gateway.connect()
    publish(broker, ("hall/heat", b"1" * 300_000), *heat(1))
    gateway.run_until(lambda: gateway.acknowledged() == 2)
    assert [item.reason for item in gateway.store.rejected] == ["payload too large"]
    assert gateway.values() == [1]


def test_a_topic_that_is_no_text_is_poison_and_nothing_more(gateway_at):
    """No broker should send it; it is recorded and acknowledged, and the network thread lives on."""
    with old_broker("refuses") as broker:
        gateway = gateway_at(broker.url)
        gateway.connect()
        broker.publish(b"hall/\xff", b"1")
        broker.publish("hall/heat", payload(1))
        gateway.run_until(lambda: gateway.acknowledged() == 2)
        assert [item.reason for item in gateway.store.rejected] == ["topic is not text"]
        assert gateway.values() == [1]


# --- a broker that goes and comes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_broker_that_restarts_is_found_again_with_its_session(broker: Mosquitto, gateway_at, how: str):
    """The operator reads of the outage once and of its end once."""
    gateway = gateway_at(broker.url)
    gateway.connect()
    getattr(broker, how)()
    gateway.run_until(lambda: gateway.driver.health().state == "trouble")
    broker.start()
    publish(broker, *heat(1))
    gateway.run_until(lambda: gateway.values() == [1] and gateway.ready(), skip=True)
    assert [level for level, _, _ in gateway.store.notes] == ["warning", "info"]
    assert gateway.store.notes[-1][2] == "connected again"
    assert gateway.reconnects() == 1


def test_a_broker_that_hangs_is_noticed_and_found_again(broker: Mosquitto, gateway_at):
    """The connection stays open but nothing comes: the keepalive ends it, and the session goes on afterwards."""
    gateway = gateway_at(broker.url, keepalive="5s")
    gateway.connect()
    assert broker._process is not None
    os.kill(broker._process.pid, signal.SIGSTOP)
    try:
        gateway.run_until(lambda: gateway.driver.health().state == "trouble")
        assert gateway.driver.health().detail == "nothing was heard from the broker for more than 5 s"
    finally:
        os.kill(broker._process.pid, signal.SIGCONT)
    publish(broker, *heat(1))
    gateway.run_until(lambda: gateway.values() == [1], skip=True)


@VERSIONS
def test_a_broker_that_forgot_everything_is_subscribed_to_again(volatile: Mosquitto, gateway_at, protocol):
    """Without persistence a restart loses the subscription; the operator learns once that messages may be lost."""
    gateway = gateway_at(volatile.url, protocol=protocol)
    gateway.connect()
    volatile.stop()
    volatile.start()
    gateway.run_until(lambda: gateway.reconnects() == 1 and gateway.ready(), skip=True)
    publish(volatile, *heat(1))
    gateway.run_until(lambda: gateway.values() == [1])
    assert [level for level, _, _ in gateway.store.notes] == ["warning", "warning", "info"]
    assert "had not kept the session" in gateway.store.notes[1][2]
    assert (gateway.store.notes[2][2], gateway.driver.health().detail) == ("connected again", "")


def test_two_gateways_with_one_identity_are_told(broker: Mosquitto, gateway_at):
    """Each throws the other out; neither hurries, and the operator is asked about it."""
    ours, other = gateway_at(broker.url), gateway_at(broker.url)
    for _ in range(3):
        for each in (ours, other):
            before = each.driver._supervisor.connects
            each.run_until(lambda each=each, before=before: each.driver._supervisor.connects > before, skip=True)
        ours.run_until(lambda: not ours.driver._supervisor.connected)
    assert "does another client use this gateway's client id?" in ours.driver.health().detail


@VERSIONS
def test_of_two_gateways_with_one_identity_the_one_that_is_left_recovers(broker: Mosquitto, gateway_at, protocol):
    """The operator reads once that the id may be in use, and once that it is over: when a connection has lasted.

    mosquitto 2.0.11, Debian 12's, only closes the connection of the other one, whatever the version.
    """
    ours, other = (gateway_at(broker.url, protocol=protocol) for _ in range(2))
    for _ in range(FLAPPING + 2):
        for each in (ours, other):
            before = each.driver._supervisor.connects
            each.run_until(lambda each=each, before=before: each.driver._supervisor.connects > before, skip=True)
        ours.run_until(lambda: not ours.driver._supervisor.connected)
    other.driver.close()
    ours.run_until(lambda: ours.driver._supervisor.connected, skip=True)
    ours.clock.skip(STABLE)
    ours.run_until(lambda: ours.ready() and ours.store.notes[-1][2] == "connected again")
    assert sum("client id" in text for _, _, text in ours.store.notes) == 1
    publish(broker, *heat(1))
    ours.run_until(lambda: ours.values() == [1])


def test_a_stranger_with_our_identity_is_told_once_and_so_are_the_sessions_that_it_costs(broker: Mosquitto, gateway_at):
    """One that keeps no session: each of its connections ends ours, and the broker forgets ours with it."""
    gateway = gateway_at(broker.url)
    for number in range(1, FLAPPING + 3):
        gateway.run_until(lambda number=number: gateway.driver._supervisor.connects == number, skip=True)
        gateway.run_until(gateway.ready_but_for_the_words)
        other = Client(CallbackAPIVersion.VERSION2, client_id=US)
        other.connect(HOST, broker.port)
        other.loop_start()
        gateway.run_until(lambda: not gateway.driver._supervisor.connected)
        other.disconnect()
        other.loop_stop()
    gateway.run_until(lambda: gateway.driver._supervisor.connected, skip=True)
    gateway.clock.skip(STABLE)
    gateway.run_until(lambda: gateway.store.notes[-1][2] == "connected again")
    texts = [text for _, _, text in gateway.store.notes]
    assert sum("had not kept the session" in text for text in texts) == 1
    assert sum("does another client use" in text for text in texts) == 1


def test_a_broker_that_is_gone_for_an_hour_is_one_line_and_found_within_a_minute(broker: Mosquitto, gateway_at):
    """The pauses grow to a minute and no further; what waited at the broker comes."""
    gateway = gateway_at(broker.url)
    gateway.connect()
    broker.stop()
    gone = gateway.clock.now().boottime
    gateway.run_until(lambda: gateway.clock.now().boottime > gone + 3600, skip=True)
    assert gateway.driver._supervisor._failures > 3600 / LONGEST_PAUSE
    broker.start()
    leapt = gateway.clock.leapt
    publish(broker, *heat(1))
    gateway.run_until(lambda: gateway.values() == [1] and gateway.ready(), skip=True)
    assert gateway.clock.leapt - leapt <= LONGEST_PAUSE
    assert [level for level, _, _ in gateway.store.notes] == ["warning", "info"]


@VERSIONS
def test_a_forbidden_topic_is_told_once_and_heard_when_it_is_allowed(tmp_path: Path, gateway_at, protocol):
    """The broker grants the subscription and sends nothing: silence, while the other meter is heard, is all there is."""
    rights = tmp_path / "rights"
    rights.write_text("topic write hall/#\ntopic read hall/cold\n")
    rights.chmod(0o600)
    sources = {
        "heat": stamped().model_copy(update={"expected_every": 60.0}),
        "cold": bare("hall/cold").model_copy(update={"expected_every": 60.0}),
    }
    with mosquitto(tmp_path, persistence=True, extra_lines=[f"acl_file {rights}"]) as broker:
        gateway = gateway_at(broker.url, sources=sources, protocol=protocol)
        gateway.connect()
        for number in range(5):
            publish(broker, *heat(number), ("hall/cold", str(number).encode()))
            gateway.run_until(lambda number=number: len(gateway.values("cold")) > number)
            gateway.clock.skip(60)
        [(level, meter, text)] = gateway.store.notes
        assert (level, meter) == ("warning", "heat")
        assert 'nothing heard on "hall/heat"' in text
        assert "may this user read it? A broker does not say that reading is forbidden" in text
        assert text in gateway.driver.health().devices["heat"]
        assert gateway.driver.health().devices["cold"] == "ok"
        rights.write_text("topic readwrite hall/#\n")
        broker.reload()
        publish(broker, *heat(9))
        gateway.run_until(lambda: bool(gateway.values()))
        gateway.clock.skip(LOOK_EVERY)
        gateway.run_until(lambda: len(gateway.store.notes) == 2)
        assert gateway.store.notes[1][2].startswith("heard again, after ")
        assert gateway.driver.health().devices["heat"] == "ok"


# --- versions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manner", ["refuses", "refuses in its own words", "closes", "silent"])
def test_a_broker_of_mqtt_3_1_1_is_spoken_to_in_its_version(manner: Manner, gateway_at, monkeypatch):
    """Whether it says so, hangs up or says nothing at MQTT 5; and it is asked only once."""
    with old_broker(manner) as broker, monkeypatch.context() as silence:
        if manner == "silent":
            silence.setattr(session, "ANSWER_WITHIN", SILENCE)
        gateway = gateway_at(broker.url)
        gateway.run_until(lambda: bool(broker.greetings))
        silence.undo()  # what it answers may take its time
        gateway.connect()
        broker.publish("hall/heat", payload(1))
        gateway.run_until(lambda: gateway.acknowledged() == 1)
        eventually(lambda: broker.acknowledged == [1])
        assert gateway.values() == [1]
        assert broker.greetings == [5, 4]
        assert gateway.store.notes == []


def test_a_version_that_the_operator_chose_is_the_only_one_tried(gateway_at):
    """`protocol = "5"` at a broker of 3.1.1: trouble, with the reason."""
    with old_broker("refuses") as broker:
        gateway = gateway_at(broker.url, protocol="5")
        gateway.run_until(lambda: len(broker.greetings) == 3, skip=True)
        assert set(broker.greetings) == {5}
        assert gateway.driver.health().detail == "the broker does not speak this version of MQTT"


def test_a_port_that_never_answers_is_tried_in_both_versions_and_told(gateway_at, monkeypatch):
    """Something listens, but it is no broker."""
    monkeypatch.setattr(session, "ANSWER_WITHIN", SILENCE)
    with old_broker("accepts nothing") as broker:
        gateway = gateway_at(broker.url)
        gateway.run_until(lambda: gateway.driver.health().state == "trouble")
        eventually(lambda: broker.greetings == [5, 4])
        assert gateway.driver.health().detail == (
            "the broker took the connection but did not answer within 3 s: does it speak MQTT 3.1.1 on this port?"
        )


def test_a_port_where_nobody_listens_is_told(gateway_at):
    """The sentence names the address and what to check; nothing is raised."""
    url = f"mqtt://{HOST}:{lasting_port()}"
    gateway = gateway_at(url)
    gateway.run_until(lambda: gateway.driver.health().state == "trouble")
    address = url.removeprefix("mqtt://")
    assert gateway.driver.health().detail == (
        f"{address}: the connection was refused: is the broker running, and is the port right?"
    )


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_attempts_in_vain_leave_no_sockets_to_the_garbage_collector(gateway_at):
    """At a broker that is away for long it may not come by for hours."""
    url = f"mqtt://{HOST}:{lasting_port()}"
    gateway = gateway_at(url)
    gateway.run_until(lambda: gateway.driver._supervisor._failures == 1, skip=True)
    gc.disable()
    try:
        before = open_files()
        gateway.run_until(lambda: gateway.driver._supervisor._failures == 5, skip=True)
        eventually(lambda: open_files() <= before)
    finally:
        gc.enable()


@pytest.mark.parametrize(("lines", "ahead"), [([], False), (["max_inflight_messages 1000"], True)])
def test_a_broker_of_3_1_1_is_taken_at_its_own_window(tmp_path: Path, gateway_at, lines: list[str], ahead: bool):
    """20 messages are a commit where it sends no more ahead, all that come together where it does; each is acknowledged."""
    with mosquitto(tmp_path, extra_lines=lines) as broker:
        gateway = gateway_at(broker.url, protocol="3.1.1", flush="5s")
        gateway.connect()
        gateway.clock.skip(YOUNG)
        publish(broker, *heat(*range(60)))
        gateway.run_until(lambda: gateway.acknowledged() == 60)
        assert gateway.values() == list(range(60))
        sizes = [len(batch) for batch in gateway.store.batches]
        assert ((max(sizes) if ahead else sizes[0]) > WINDOW) == ahead


# --- passwords --------------------------------------------------------------------------------------------------------


def hashed(password: str) -> str:
    """As mosquitto_passwd(1) writes it: PBKDF2 with SHA-512."""
    salt = os.urandom(12)
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
    return f"$7$101${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that knows one user."""
    users = tmp_path / "users"
    users.write_text(f"gateway:{hashed(PASSWORD)}\n")
    users.chmod(0o600)
    with mosquitto(tmp_path, extra_lines=["allow_anonymous false", f"password_file {users}"]) as broker:
        yield broker


@VERSIONS
def test_the_right_password_opens(guarded: Mosquitto, gateway_at, protocol, caplog):
    """And is in no log, note or state."""
    caplog.set_level(logging.DEBUG)
    gateway = gateway_at(guarded.url, username="gateway", password=PASSWORD, protocol=protocol)
    gateway.connect()
    publish(guarded, *heat(1), username="gateway", password=PASSWORD)
    gateway.run_until(lambda: gateway.values() == [1])
    assert PASSWORD not in caplog.text + repr(gateway.store.notes) + repr(gateway.driver.health())


@VERSIONS
def test_a_wrong_password_is_told_once_and_not_tried_in_a_hurry(guarded: Mosquitto, gateway_at, protocol, caplog):
    """A clear state, long pauses, and the password nowhere: not in a log, a note, the state or memory."""
    caplog.set_level(logging.DEBUG)
    gateway = gateway_at(guarded.url, username="gateway", password=PASSWORD[::-1], protocol=protocol)
    failed_at: list[float] = []

    def three_times() -> bool:
        if gateway.driver._supervisor._failures > len(failed_at):
            failed_at.append(gateway.clock.now().boottime)
        return len(failed_at) == 3

    gateway.run_until(three_times, skip=True)
    assert all(later - earlier >= 40 for earlier, later in pairwise(failed_at))
    assert "check username" in gateway.driver.health().detail
    assert [level for level, _, _ in gateway.store.notes] == ["error"]
    said = caplog.text + repr(gateway.store.notes) + repr(gateway.driver.health()) + repr(gateway.store.memory)
    assert PASSWORD[::-1] not in said


def test_a_password_that_is_put_right_at_the_broker_opens_by_itself(guarded: Mosquitto, gateway_at, tmp_path: Path):
    """One line for any number of attempts, and one that it is over."""
    gateway = gateway_at(guarded.url, username="gateway", password="the-new-one")
    gateway.run_until(lambda: gateway.driver._supervisor._failures == 3, skip=True)
    (tmp_path / "users").write_text(f"gateway:{hashed('the-new-one')}\n")
    guarded.reload()
    gateway.run_until(gateway.ready, skip=True)
    assert [level for level, _, _ in gateway.store.notes] == ["error", "info"]


# --- TLS --------------------------------------------------------------------------------------------------------------


def openssl(directory: Path, *arguments: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not on the PATH: apt install openssl")
    subprocess.run([program, *arguments], cwd=directory, check=True, capture_output=True, timeout=WITHIN)


def authority(directory: Path, name: str) -> Path:
    """A certificate authority of the test's own."""
    openssl(
        directory, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem",
    )  # fmt: skip
    return directory / f"{name}.pem"


def signed(directory: Path, ca: str, name: str, subject: str, days: str, *extra: str) -> None:
    """A key and a certificate of it, as NAME.key and NAME.pem."""
    openssl(
        directory, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-subj", f"/CN={subject}", "-keyout", f"{name}.key", "-out", f"{name}.csr",
    )  # fmt: skip
    openssl(
        directory, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial",
        "-days", days, *extra, "-out", f"{name}.pem",
    )  # fmt: skip


def certified(directory: Path, ca: str, names: str, days: str = "2") -> Sequence[str]:
    """A broker's certificate for `names`, as lines of its configuration."""
    (directory / "names").write_text(f"subjectAltName={names}\n")
    signed(directory, ca, "broker", "broker", days, "-extfile", "names")
    return [f"certfile {directory / 'broker.pem'}", f"keyfile {directory / 'broker.key'}"]


def client_certificate(directory: Path, ca: str, days: str = "2") -> dict[str, str]:
    """Ours, as keys of the connection."""
    signed(directory, ca, "client", "box-7", days)
    return {"cert_file": str(directory / "client.pem"), "key_file": str(directory / "client.key")}


def secure(broker: Mosquitto) -> str:
    return broker.url.replace("mqtt://", "mqtts://")


def test_a_broker_with_a_certificate_of_a_known_authority_is_spoken_to(tmp_path: Path, gateway_at):
    """`mqtts://` with `ca_file`."""
    ca = authority(tmp_path, "ours")
    with mosquitto(tmp_path, extra_lines=certified(tmp_path, "ours", "IP:127.0.0.1")) as broker:
        gateway = gateway_at(secure(broker), ca_file=str(ca))
        gateway.connect()
        assert "New connection from 127.0.0.1" in broker.log


@pytest.mark.parametrize(
    ("ca", "names", "why"),
    [
        ("other", "IP:127.0.0.1", "unable to get local issuer certificate"),
        (None, "IP:127.0.0.1", "unable to get local issuer certificate"),
        ("ours", "IP:192.0.2.1", "IP address mismatch"),
        ("ours", "DNS:localhost", "IP address mismatch"),
    ],
    ids=["another authority", "only the system's", "another address", "a name"],
)
def test_a_broker_whose_certificate_proves_nothing_is_refused(tmp_path: Path, gateway_at, ca, names, why):
    """Nothing is sent to whom the authority does not know, and a person is asked to mend it."""
    for name in ("ours", "other"):
        authority(tmp_path, name)
    with mosquitto(tmp_path, extra_lines=certified(tmp_path, "ours", names)) as broker:
        settings = {"ca_file": str(tmp_path / f"{ca}.pem")} if ca else {}
        gateway = gateway_at(secure(broker), username="u", password=PASSWORD, **settings)
        gateway.run_until(lambda: gateway.driver.health().state == "trouble")
        detail = gateway.driver.health().detail
        assert "the broker's certificate is not accepted: " in detail
        assert why in detail
        assert [level for level, _, _ in gateway.store.notes] == ["error"]
        assert f"as {US}" not in broker.log


def test_a_ca_file_without_a_certificate_is_told(tmp_path: Path, gateway_at):
    """Said as the operator's mistake; nothing is connected to."""
    empty = tmp_path / "empty.pem"
    empty.write_text("not a certificate")
    gateway = gateway_at("mqtts://127.0.0.1:1", ca_file=str(empty))
    gateway.run_until(lambda: gateway.driver.health().state == "trouble")
    assert gateway.driver.health().detail == (
        f"the broker's certificate cannot be checked with ca_file {empty}: it holds no certificate in PEM form"
    )


def test_tls_at_a_port_without_it_is_told(broker: Mosquitto, gateway_at):
    """The usual mix-up of 1883 and 8883."""
    gateway = gateway_at(secure(broker))
    gateway.run_until(lambda: gateway.driver.health().state == "trouble", skip=True)
    assert f"{HOST}:{broker.port}: " in gateway.driver.health().detail
    assert "TLS" in gateway.driver.health().detail


def test_no_tls_at_a_port_with_it_is_told(tmp_path: Path, gateway_at):
    """The other way round: the broker hangs up."""
    authority(tmp_path, "ours")
    with mosquitto(tmp_path, extra_lines=certified(tmp_path, "ours", "IP:127.0.0.1")) as broker:
        gateway = gateway_at(broker.url)
        gateway.run_until(lambda: gateway.driver.health().state == "trouble")
        assert "without TLS?" in gateway.driver.health().detail


def test_a_device_that_speaks_only_when_poked_is_read(tmp_path: Path):
    """Victron: the poke goes out over the real connection, and the subscription is there before the answer."""
    with mosquitto(tmp_path) as broker:
        device = Client(CallbackAPIVersion.VERSION2)
        pokes: list[str] = []

        def answer(client: Client, _: object, message: MQTTMessage) -> None:
            pokes.append(message.topic)
            client.publish(message.topic.replace("R/", "N/", 1), '{"value": 12.5}')

        listens = Event()
        device.on_message = answer
        device.on_subscribe = lambda *_: listens.set()
        device.connect(HOST, broker.port)
        device.subscribe("R/0123/#")
        device.loop_start()
        try:
            assert listens.wait(WITHIN)
            source = Source.model_validate({"connection": "hall", "preset": "victron", "device": "0123", "channel": 20})
            gateway = Gateway(broker.url, sources={"heat": source})
            gateway.run_until(lambda: bool(gateway.values()))
            gateway.driver.close()
        finally:
            device.loop_stop()
            device.disconnect()
        assert gateway.values()[0] == Decimal("12.5")
        assert set(pokes) == {"R/0123/grid/20/Ac/Energy/Forward"}


def test_a_broker_that_asks_for_a_certificate_is_shown_ours(tmp_path: Path, gateway_at):
    """`cert_file` and `key_file`; the broker takes its user from it."""
    ca = authority(tmp_path, "ours")
    lines = [*certified(tmp_path, "ours", "IP:127.0.0.1"), f"cafile {ca}", "require_certificate true"]
    ours = client_certificate(tmp_path, "ours")
    with mosquitto(tmp_path, extra_lines=[*lines, "use_identity_as_username true"]) as broker:
        gateway = gateway_at(secure(broker), ca_file=str(ca), **ours)
        gateway.connect()
        assert "u'box-7'" in broker.log


@pytest.mark.parametrize("whose", [None, "other", "expired"])
def test_a_broker_that_refuses_our_certificate_is_told_once(tmp_path: Path, gateway_at, whose: str | None):
    """None where one is asked for, one of another authority, one that is too old; with the right one all is well."""
    ca = authority(tmp_path, "ours")
    authority(tmp_path, "other")
    lines = [*certified(tmp_path, "ours", "IP:127.0.0.1"), f"cafile {ca}", "require_certificate true"]
    shown = client_certificate(tmp_path, "other" if whose == "other" else "ours", "-1" if whose == "expired" else "2")
    with mosquitto(tmp_path, extra_lines=lines) as broker:
        gateway = gateway_at(secure(broker), ca_file=str(ca), **(shown if whose else {}))
        gateway.run_until(lambda: gateway.driver._supervisor._failures == 2, skip=True)
        assert "the broker refuses this gateway's certificate" in gateway.driver.health().detail
        assert [level for level, _, _ in gateway.store.notes] == ["error"]
        mended = gateway_at(secure(broker), ca_file=str(ca), **client_certificate(tmp_path, "ours"))
        mended.connect()


@pytest.mark.parametrize(
    ("names", "days", "why"),
    [
        ("IP:127.0.0.1", "-1", "certificate has expired; it must be renewed at the broker"),
        ("DNS:elsewhere.example", "2", "url must have a name or address that it was made for"),
    ],
    ids=["expired", "wrong host name"],
)
def test_a_certificate_that_is_renewed_needs_nobody_at_the_gateway(tmp_path: Path, gateway_at, names, days, why):
    """One line for any number of attempts, and one that it is over."""
    ca = authority(tmp_path, "ours")
    lines = certified(tmp_path, "ours", names, days)
    with mosquitto(tmp_path, persistence=True, extra_lines=lines) as broker:
        gateway = gateway_at(secure(broker), ca_file=str(ca))
        gateway.run_until(lambda: gateway.driver._supervisor._failures == 3, skip=True)
        assert why in gateway.driver.health().detail
        certified(tmp_path, "ours", "IP:127.0.0.1")
        broker.stop()
        broker.start()
        gateway.run_until(gateway.ready, skip=True)
        assert [level for level, _, _ in gateway.store.notes] == ["error", "info"]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_tls_broker_that_restarts_is_trouble_with_the_line_and_found_again(tmp_path: Path, gateway_at, how: str):
    """A connection that ends in the middle says nothing of certificates: no person is asked for."""
    ca = authority(tmp_path, "ours")
    lines = certified(tmp_path, "ours", "IP:127.0.0.1")
    with mosquitto(tmp_path, persistence=True, extra_lines=lines) as broker:
        gateway = gateway_at(secure(broker), ca_file=str(ca))
        gateway.connect()
        getattr(broker, how)()
        gateway.run_until(lambda: gateway.driver._supervisor._failures == 2, skip=True)
        broker.start()
        gateway.run_until(gateway.ready, skip=True)
        assert [level for level, _, _ in gateway.store.notes] == ["warning", "info"]


def test_a_key_that_does_not_fit_is_told_and_asks_nobody_for_a_passphrase(tmp_path: Path, gateway_at):
    """OpenSSL would ask at the terminal, and the service would stand still."""
    authority(tmp_path, "ours")
    ours = client_certificate(tmp_path, "ours")
    openssl(
        tmp_path, "pkey", "-in", ours["key_file"], "-aes128", "-passout", "pass:x", "-out", "locked.key"
    )  # fmt: skip
    gateway = gateway_at("mqtts://127.0.0.1:1", cert_file=ours["cert_file"], key_file=str(tmp_path / "locked.key"))
    gateway.run_until(lambda: gateway.driver.health().state == "trouble")
    assert "the key has a passphrase" in gateway.driver.health().detail
