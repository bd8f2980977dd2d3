"""One conformance suite for the `Driver` protocol of drivers.base, run on every driver against a real other side.

A new driver is added to `FIELDS`: a small class that builds it and plays the meters.
"""

from __future__ import annotations

import inspect
import json
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Event, Thread

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import BaseModel

from drivers import registry
from drivers.base import Driver, Ports
from drivers.reading import Reading, Rejected
from gateway.clock import SystemClock
from tests.fakes.driver_ports import FakePorts
from tests.fakes.driver_thread import DriverThread
from tests.fakes.modbus_server import HOST, ModbusServer
from tests.fakes.mosquitto import mosquitto

PATIENCE = 60.0  # s, on a machine that does other things too; every wait ends by itself long before
STOP_WITHIN = 10.0  # s; the service leaves behind who takes longer
HASTY = {"modbus": {"timeout": "2s"}}  # keys of a connection whose other side is there and silent
SOURCES = ("good", "poison")


class Field(ABC):
    """Two sources behind one connection: "good" counts on at every `speak`, "poison" never says a number."""

    kind: str
    others: str  # a URL of this kind's scheme, without host and port

    def __init__(self) -> None:
        self.said: list[int] = []
        self.over = Event()  # nobody listens to what is said any more
        config = registry.config_of(self.kind)
        self.sources: dict[str, BaseModel] = {name: config.Source.model_validate(self.source(name)) for name in SOURCES}

    @property
    @abstractmethod
    def url(self) -> str:
        """Of the running other side."""

    @abstractmethod
    def source(self, name: str) -> dict[str, object]:
        """The keys of one source."""

    @abstractmethod
    def settings(self) -> dict[str, object]:
        """Further keys of the connection."""

    @abstractmethod
    def speak(self) -> None:
        """The good source says its next number, which `said` then holds; the poison one says what is none."""

    @abstractmethod
    def down(self) -> None:
        """The other side goes away."""

    @abstractmethod
    def up(self) -> None:
        """And comes back at the same place."""

    def build(self, ports: Ports, silent: str | None = None) -> Driver:
        """The driver, on this field or on the URL of something that accepts connections and is `silent`."""
        keys = {"driver": self.kind, "url": silent or self.url} | self.settings()
        keys |= HASTY.get(self.kind, {}) if silent else {}
        connection = registry.config_of(self.kind).Connection.model_validate(keys)
        assert not registry.config_of(self.kind).check(connection, self.sources)
        return registry.driver_of(self.kind).build("field", connection, self.sources, ports)


class ModbusField(Field):
    """A pymodbus server with one meter: a u32 counter, and an f32 that is NaN."""

    kind = "modbus"
    others = "tcp"

    def __init__(self) -> None:
        super().__init__()
        self._server = ModbusServer({1: {10: 0, 11: 0, 20: 0x7FC0, 21: 0}})
        self._server.start()

    @property
    def url(self) -> str:
        return self._server.url

    def source(self, name: str) -> dict[str, object]:
        at: dict[str, object] = {"register": 10, "type": "u32"} if name == "good" else {"register": 20, "type": "f32"}
        return {"connection": "field", "device": 1, "unit": "kWh"} | at

    def settings(self) -> dict[str, object]:
        return {"poll": "1s", "timeout": "30s"}  # a busy machine is no silent meter

    def speak(self) -> None:
        """The registers are polled: whoever wants to have said something waits for the poll."""
        self.said.append(len(self.said) + 1)
        self._server.words[1] = self._server.words[1] | {11: self.said[-1]}
        before = self._server.reads[1]
        end = time.monotonic() + PATIENCE
        while self._server.reads[1] < before + 2 and not self.over.is_set() and time.monotonic() < end:
            time.sleep(0.01)

    def down(self) -> None:
        self._server.stop()

    def up(self) -> None:
        self._server.start()


class MqttField(Field):
    """A mosquitto, and a device that publishes a JSON counter with its time, and a word."""

    kind = "mqtt"
    others = "mqtt"

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._context = mosquitto(directory, persistence=True)
        self._broker = self._context.__enter__()

    @property
    def url(self) -> str:
        return self._broker.url

    def source(self, name: str) -> dict[str, object]:
        keys: dict[str, object] = {"connection": "field", "topic": f"field/{name}", "unit": "kWh"}
        return keys | ({"value": "v", "time": "t"} if name == "good" else {})

    def settings(self) -> dict[str, object]:
        return {"keepalive": "60s"}  # a busy machine is no dead line

    def speak(self) -> None:
        self.said.append(len(self.said) + 1)
        at = datetime.now(UTC) - timedelta(hours=1) + timedelta(seconds=self.said[-1])
        client = Client(CallbackAPIVersion.VERSION2)
        client.connect(HOST, self._broker.port)
        client.loop_start()
        good = json.dumps({"v": self.said[-1], "t": at.isoformat()})
        both = (("field/good", good), ("field/poison", "out of order"))  # before the test may go on and end the broker
        for sent in [client.publish(topic, payload, qos=1) for topic, payload in both]:
            sent.wait_for_publish(PATIENCE)
        client.disconnect()
        client.loop_stop()

    def down(self) -> None:
        self._broker.stop()

    def up(self) -> None:
        self._broker.start()


@pytest.fixture(params=["modbus", "mqtt"])
def field(request, tmp_path) -> Iterator[Field]:
    playing: Field = ModbusField() if request.param == "modbus" else MqttField(tmp_path)
    yield playing
    playing.down()


@pytest.fixture
def clock() -> SystemClock:
    return SystemClock()


@pytest.fixture
def store(clock) -> FakePorts:
    return FakePorts(clock)


@pytest.fixture
def running(field, store, clock) -> Iterator[DriverThread]:
    """The driver in its thread, connected."""
    with DriverThread(field.build(store.ports), clock) as thread:
        thread.until(lambda: thread.driver.health().ready_since is not None)
        yield thread


def values(store: FakePorts) -> list[int]:
    """The good source's numbers without repetitions that follow each other, as a counter is looked at."""
    read = [int(reading.value) for reading in store.of("good") if reading.value]
    return [value for at, value in enumerate(read) if at == 0 or value != read[at - 1]]


# --- shape ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", registry.names())
def test_every_driver_of_the_registry_offers_what_the_protocols_say(kind):
    """Config, driver module and driver; with these names and parameters."""
    config, module = registry.config_of(kind), registry.driver_of(kind)
    for offered, protocol in ((config, registry.ConfigModule), (module, registry.DriverModule)):
        for name, wanted in inspect.getmembers(protocol, inspect.isfunction):
            if not name.startswith("_"):
                parameters = list(inspect.signature(wanted).parameters)[1:]
                assert list(inspect.signature(getattr(offered, name)).parameters) == parameters
    assert issubclass(config.Connection, BaseModel)
    assert issubclass(config.Source, BaseModel)


def test_a_driver_has_the_members_of_the_protocol(field, store):
    """Its name is the connection's."""
    driver = field.build(store.ports)
    for name, wanted in inspect.getmembers(Driver, inspect.isfunction):
        if not name.startswith("_"):
            assert (
                list(inspect.signature(getattr(driver, name)).parameters)
                == list(inspect.signature(wanted).parameters)[1:]
            )
    assert driver.name == "field"
    assert isinstance(driver.wake, Event)
    driver.close()


def test_a_driver_is_built_without_touching_the_wire(field, store):
    """The first step opens it; and a driver that was never stepped can be closed, twice."""
    with socket.create_server((HOST, 0)) as listener:
        listener.settimeout(0.2)
        driver = field.build(store.ports, f"{field.others}://{HOST}:{listener.getsockname()[1]}")
        with pytest.raises(TimeoutError):
            listener.accept()
    health = driver.health()
    assert (health.state, health.ready_since) == ("starting", None)
    assert driver.last_reads() == {}
    assert not store.batches
    driver.close()
    driver.close()


# --- what it delivers -------------------------------------------------------------------------------------------------


def test_a_driver_delivers_batches_of_readings_and_rejections(field, running, store):
    """Poison commits with the rest; a reading is finite, has its source, its unit and an aware instant in UTC."""
    field.speak()
    field.speak()
    running.until(lambda: values(store) == field.said)
    running.until(lambda: bool(store.rejected))
    assert all(store.batches)
    assert {type(item) for batch in store.batches for item in batch} == {Reading, Rejected}
    for reading in store.readings:
        assert reading.source == "good"
        assert isinstance(reading.value, Decimal)
        assert reading.value.is_finite()
        assert reading.unit == "kWh"
        assert reading.at.utcoffset() == timedelta(0)
    for rejected in store.rejected:
        assert rejected.source == "poison"
        assert rejected.reason
        assert rejected.payload
        assert len(rejected.payload) <= 500
        assert rejected.at.utcoffset() == timedelta(0)


def test_a_look_at_every_source_delivers_like_a_step(field, store, clock):
    """`poll`, which `read` calls; a broker's devices speak when they like, so it may take several."""
    driver = field.build(store.ports)
    speaker = Thread(target=field.speak, daemon=True)
    end = time.monotonic() + PATIENCE
    try:
        while driver.health().ready_since is None and time.monotonic() < end:
            driver.poll(clock.now())
            clock.wait(driver.wake, clock.now().boottime + 0.05)
            driver.wake.clear()
        speaker.start()
        while (not values(store) or "good" not in driver.last_reads()) and time.monotonic() < end:
            driver.poll(clock.now())
            clock.wait(driver.wake, clock.now().boottime + 0.05)
            driver.wake.clear()
        field.over.set()
        speaker.join(PATIENCE)
    finally:
        driver.close()
    assert values(store)


def test_a_delivery_that_fails_loses_nothing(field, running, store):
    """R3: what `deliver` refused is offered again, whole, in order and once; the health says why it waits."""
    field.speak()
    running.until(lambda: values(store) == field.said)
    store.full = True
    field.speak()
    running.until(lambda: store.refused > 0)
    running.until(lambda: running.driver.health().state == "trouble")
    assert "disk full" in running.driver.health().detail
    field.speak()
    stored = len(store.readings)
    store.full = False
    field.speak()
    running.until(lambda: values(store) == field.said)
    assert len(store.readings) > stored
    running.until(lambda: running.driver.health().state == "ok")
    instants = [reading.at for reading in store.of("good")]
    assert instants == sorted(set(instants))
    assert running.stop(STOP_WITHIN)
    assert running.driver.health().counts["readings"] == len(store.readings)


def test_what_could_not_be_stored_when_the_driver_stopped_is_not_said_to_be(field, store, clock):
    """A driver that is asked to stop while the store takes nothing ends; the next one brings the newest value."""
    field_driver = field.build(store.ports)
    with DriverThread(field_driver, clock) as first:
        first.until(lambda: first.driver.health().ready_since is not None)
        store.full = True
        field.speak()
        first.until(lambda: store.refused > 0)
    stored = list(store.batches)
    store.full = False
    with DriverThread(field.build(store.ports), clock) as second:
        second.until(lambda: field.said[-1] in values(store))
    assert store.batches[: len(stored)] == stored


# --- how it is --------------------------------------------------------------------------------------------------------


def test_health_goes_from_starting_to_ok_to_trouble_and_back(field, store, clock):
    """`ready_since` is the moment of the first readiness and stays; the detail is empty when there is nothing to say."""
    began = clock.now().boottime
    driver = field.build(store.ports)
    assert driver.health().state == "starting"
    with DriverThread(driver, clock) as running:
        running.until(lambda: driver.health().state == "ok")
        ready = driver.health().ready_since
        assert ready is not None
        assert began <= ready <= clock.now().boottime
        assert not driver.health().detail
        field.down()
        running.until(lambda: driver.health().state == "trouble")
        assert driver.health().detail
        assert "\n" not in driver.health().detail
        field.up()
        running.until(lambda: driver.health().state == "ok")
        running.until(lambda: "info" in [level for level, _, _ in store.notes])
        assert not driver.health().detail
        assert driver.health().counts["reconnects"] >= 1
    levels = [level for level, _, _ in store.notes]
    assert levels.count("info") == 1
    assert levels[0] in {"warning", "error"}


def test_readings_go_on_after_the_other_side_was_away(field, running, store):
    """Without anybody's help."""
    field.speak()
    running.until(lambda: values(store) == field.said)
    field.down()
    running.until(lambda: running.driver.health().state == "trouble")
    field.up()
    running.until(lambda: running.driver.health().state == "ok")
    field.speak()
    running.until(lambda: values(store) == field.said)


def test_counts_and_devices_tell_what_has_happened(field, running, store):
    """For `status`: how many, and each device's word."""
    assert running.driver.health().devices
    field.speak()
    running.until(lambda: bool(values(store)))
    running.until(lambda: bool(store.rejected))
    counts = running.driver.health().counts
    assert counts["readings"] >= 1
    assert counts["rejected"] >= 1
    assert all(isinstance(count, int) and count >= 0 for count in counts.values())
    assert all(running.driver.health().devices.values())


def test_the_newest_look_at_each_source_is_kept_good_or_not(field, running, store):
    """For `read` and `status`."""
    field.speak()
    running.until(lambda: bool(values(store)))
    running.until(lambda: set(running.driver.last_reads()) == set(SOURCES))
    running.until(lambda: running.driver.last_reads()["good"].value == field.said[-1])
    good, poison = (running.driver.last_reads()[name] for name in SOURCES)
    assert (good.unit, good.problem) == ("kWh", "")
    assert good.raw
    assert good.where
    assert poison.value is None
    assert poison.problem
    assert poison.raw
    assert good.at.utcoffset() == poison.at.utcoffset() == timedelta(0)


def test_any_thread_may_look_while_the_driver_works(field, running, store):
    """Snapshots: no look fails, and none changes under the looker's eyes."""
    failed: list[BaseException] = []
    over = Event()

    def look() -> None:
        while not over.is_set():
            try:
                taken = running.driver.last_reads()
                before = dict(taken)
                running.driver.health()
                assert dict(taken) == before
            except BaseException as error:
                failed.append(error)
                return

    lookers = [Thread(target=look, daemon=True) for _ in range(2)]
    for looker in lookers:
        looker.start()
    for _ in range(2):
        field.speak()
    running.until(lambda: values(store) == field.said)
    over.set()
    for looker in lookers:
        looker.join(PATIENCE)
    assert not failed


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_a_driver_that_waits_stops_when_it_is_woken(field, running):
    """Whatever it is waiting for."""
    field.speak()
    assert running.stop(STOP_WITHIN)
    assert running.died is None


def test_a_driver_whose_other_side_hangs_stops_within_its_bound(field, store, clock):
    """Something accepts the connection and never says a word."""
    with socket.create_server((HOST, 0)) as listener:
        listener.settimeout(PATIENCE)
        url = f"{field.others}://{HOST}:{listener.getsockname()[1]}"
        thread = DriverThread(field.build(store.ports, url), clock)
        with thread:
            hanging, _ = listener.accept()
            assert thread.stop(STOP_WITHIN)
        hanging.close()
    assert thread.died is None


def test_a_driver_whose_store_hangs_stops_when_the_store_answers(field, store, clock):
    """`deliver` blocks until the commit: that is the store's time, and the driver survives it."""
    let_go, within = Event(), Event()

    def slow(batch) -> None:
        within.set()
        let_go.wait(PATIENCE)
        store.deliver(batch)

    thread = DriverThread(field.build(replace(store.ports, deliver=slow)), clock)
    with thread:
        thread.until(lambda: thread.driver.health().ready_since is not None or within.is_set())
        speaker = Thread(target=field.speak, daemon=True)
        speaker.start()
        thread.until(within.is_set)
        assert not thread.stop(0.1)
        let_go.set()
        assert thread.stop(STOP_WITHIN)
        field.over.set()
        speaker.join(PATIENCE)  # before its broker goes
    assert thread.died is None
    assert store.batches


def test_a_closed_driver_has_let_go_of_the_wire(field, store, clock):
    """The other side sees the end of the connection; closing again does nothing."""
    with socket.create_server((HOST, 0)) as listener:
        listener.settimeout(PATIENCE)
        driver = field.build(store.ports, f"{field.others}://{HOST}:{listener.getsockname()[1]}")
        with DriverThread(driver, clock) as thread:
            accepted, _ = listener.accept()
            assert thread.stop(STOP_WITHIN)
        accepted.settimeout(2)  # less than the time after which a driver gives up a connection by itself
        with suppress(ConnectionResetError):
            while accepted.recv(1024):
                pass
        accepted.close()
        driver.close()
