"""From a configuration to a gateway that can run: what is opened, what is remembered, and what cannot be had."""

from __future__ import annotations

import logging
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest
from sqlite_utils import Database, Migrations

from buffer import overview
from buffer.counter import CounterRule
from buffer.hours import Rule
from buffer.model import MICRO
from buffer.store import Store
from drivers.base import Driver, NotStored
from drivers.reading import Reading
from gateway.clock import SystemClock, Trust
from gateway.config import Config, load
from gateway.credentials import check_credentials
from gateway.delivery import delivery_rules, pushed_meters
from gateway.errors import DatabaseFailure, GatewayError, Misconfigured, NoDatabase
from gateway.probed import Probed
from gateway.wiring import (
    DriverMemory,
    Forgetful,
    Gateway,
    _client_id,
    build,
    drivers_for_reading,
    event_writer,
    open_store,
    socket_path,
)
from tests.fakes.clock import FakeClock
from tests.fakes.mosquitto import mosquitto
from tests.fakes.site import Site

PATIENCE = 60.0  # s, on a machine that does other things too; every wait ends by itself long before


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@contextmanager
def built(config: Config, clock: SystemClock | None = None) -> Iterator[Gateway]:
    """A gateway over its real database, closed at the end."""
    store = open_store(config, command="test", threaded=False)
    try:
        yield build(config, store, clock or SystemClock(Trust("always")), Random(1))
    finally:
        store.close()


def changed(site: Site, *changes: tuple[str, str]) -> Config:
    """The site's configuration with some words replaced."""
    text = site.config.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    site.config.write_text(text)
    return load(site.config)


ALL_OFF = (('push = "cumulative"', 'push = "off"'), ('push = "consumption"', 'push = "off"'))


# --- the database -----------------------------------------------------------------------------------------------------


def test_the_data_directory_is_made_for_its_owner_alone(site: Site):
    """Readings tell when people are at home."""
    open_store(load(site.config), command="test").close()
    assert stat.S_IMODE(site.data.stat().st_mode) == 0o700


def _held(data: Path) -> Callable[[], None]:
    data.mkdir()
    store = Store(data, facts={"command": "run"})
    return store.close


def _newer(data: Path) -> None:
    data.mkdir()
    Store(data, threaded=False).close()
    later = Migrations("meter-gateway")

    @later()
    def m999_from_the_future(db: Database) -> None:
        pass

    with closing(sqlite3.connect(data / "buffer.db")) as db:
        later.apply(Database(db))


@pytest.mark.parametrize(("written", "seconds"), [("", 0.2), ('[buffer]\ncommit_within = "50ms"\n', 0.05)])
def test_polled_readings_wait_for_those_of_others_as_long_as_configured(site: Site, written: str, seconds: float):
    """200 ms where nothing is said."""
    with closing(open_store(changed(site, ("[gateway]", f"{written}[gateway]")), command="test")) as store:
        assert store._gathering._within == seconds


def _a_file(data: Path) -> None:
    data.write_text("")


def _a_file_above(data: Path) -> None:
    data.parent.rmdir()
    data.parent.write_text("")


def _somebody_elses(data: Path) -> None:
    data.mkdir()
    with closing(sqlite3.connect(data / "buffer.db")) as db:
        db.execute("CREATE TABLE photo (id INTEGER)")


@pytest.mark.parametrize(
    ("prepare", "error", "words"),
    [
        (_held, NoDatabase, "is in use by process"),
        (_newer, Misconfigured, "install that release again, the file was not touched"),
        (_a_file, NoDatabase, "cannot create the database: not a directory"),
        (_a_file_above, NoDatabase, "cannot create the database: not a directory"),
        (_somebody_elses, DatabaseFailure, "not one of this gateway's"),
    ],
)
def test_what_keeps_the_database_from_being_opened_is_said_with_its_path(
    site: Site,
    tmp_path: Path,
    prepare: Callable[[Path], Callable[[], None] | None],
    error: type[GatewayError],
    words: str,
):
    """Each with the exit code that units and scripts rely on (R20, R30)."""
    data = tmp_path / "deep" / "data"
    data.parent.mkdir()
    config = changed(site, (str(site.data), str(data)))
    undo = prepare(data)
    with pytest.raises(error, match=words) as raised:
        open_store(config, command="test", threaded=False)
    assert type(raised.value) is error
    assert str(tmp_path / "deep") in str(raised.value)
    if undo:
        undo()


def test_the_service_listens_in_its_runtime_directory_where_there_is_one(site: Site, monkeypatch):
    """The directory of RuntimeDirectory= in the unit, else beside the data."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    assert socket_path(load(site.config)) == site.data / "control.sock"
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/meter-gateway")
    assert socket_path(load(site.config)) == Path("/run/meter-gateway/control.sock")


# --- what is built ----------------------------------------------------------------------------------------------------


def test_each_connection_with_meters_gets_a_driver_and_no_other(site: Site, caplog):
    """One that has no meters is not opened, and that is said."""
    spare = '[connections.spare]\ndriver = "modbus"\nurl = "tcp://127.0.0.1:2"\n[connections.main]'
    with built(changed(site, ("[connections.main]", spare))) as gateway:
        assert set(gateway.drivers) == {"main", "hall"}
        assert set(gateway.uploaders) == {""}
    assert "connection spare has no meters and is not opened" in caplog.text


def test_without_a_pushed_meter_nothing_is_sent_and_no_key_is_needed(site: Site):
    """Keys often come weeks after the wiring."""
    config = changed(site, *ALL_OFF, ("canary-key-5a17", "env:NOT_SET_ANYWHERE"))
    with built(config) as gateway:
        assert gateway.uploaders == {}


def test_each_account_that_a_meter_pushes_to_gets_its_own_delivery(site: Site):
    """With its own meters, limits and keys; one that is only collected for needs no key."""
    accounts = """[enerkey.accounts.north]
api_keys = ["canary-key-north"]
requests_per_day = 24
burst = "3/1s"
[enerkey.accounts.quiet]
api_keys = ["env:NOT_SET_ANYWHERE"]
[connections.main]"""
    changes = [('name = "chiller"', 'name = "chiller"\naccount = "north"')]
    changes += [('name = "cold-water"', 'name = "cold-water"\naccount = "quiet"')]
    config = changed(site, ("[connections.main]", accounts), *changes)
    check_credentials(config)
    with built(config) as gateway:
        names = {name: uploader.name for name, uploader in gateway.uploaders.items()}
        assert names == {"": "delivery", "north": "delivery north"}
        its = {name: [meter.name for meter in each._meters.values()] for name, each in gateway.uploaders.items()}
        assert its == {"": ["main-electricity"], "north": ["chiller"]}
        assert gateway.uploaders["north"].snapshot()["cadence_hours"] == 2
        assert (delivery_rules(config, account="north").burst, delivery_rules(config).burst) == ((3, 1.0), (20, 10.0))
        found = gateway.store.read(lambda db: dict(db.execute("SELECT name, account FROM meter").fetchall()))
    assert found == {"main-electricity": "", "chiller": "north", "cold-water": "quiet"}


def test_the_keys_of_every_account_are_looked_for_before_the_start(site: Site):
    """All at once, each with its place."""
    accounts = '[enerkey.accounts.north]\napi_keys = ["env:NOT_SET_EITHER"]\n[connections.main]'
    changes = [("[connections.main]", accounts), ('name = "chiller"', 'name = "chiller"\naccount = "north"')]
    config = changed(site, ("canary-key-5a17", "env:NOT_SET_ANYWHERE"), *changes)
    with pytest.raises(Misconfigured) as caught:
        check_credentials(config)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("enerkey.api_keys: the environment variable NOT_SET_ANYWHERE")
    assert lines[1].startswith("enerkey.accounts.north.api_keys: the environment variable NOT_SET_EITHER")


def test_a_credential_that_cannot_be_had_is_named_with_its_place(site: Site):
    """For the key and for the broker's password alike."""
    config = changed(site, ("canary-key-5a17", "env:NOT_SET_ANYWHERE"))
    with pytest.raises(Misconfigured, match=r"enerkey\.api_keys: .*NOT_SET_ANYWHERE"), built(config):
        pass
    config = changed(site, ("env:NOT_SET_ANYWHERE", "canary-key-5a17"), ("canary-password-9c3e", "env:NOT_SET_EITHER"))
    with pytest.raises(Misconfigured, match=r"connections\.hall\.password: .*NOT_SET_EITHER"), built(config):
        pass


def test_a_database_keeps_its_identity_and_a_copy_elsewhere_has_its_own(site: Site, tmp_path: Path):
    """Two gateways with one MQTT client id would throw each other out for ever."""

    def offsets(config: Config) -> list[float]:
        with built(config) as gateway:
            return [meter.offset for meter in gateway.uploaders[""]._meters.values()]

    config = changed(site, ('push_spread = "0s"', 'push_spread = "15m"'))
    first = offsets(config)
    assert all(0 <= offset < 900 for offset in first)
    assert offsets(config) == first, "a meter's offset stays over restarts"
    assert offsets(changed(site, (str(site.data), str(tmp_path / "other")))) != first


def test_connections_with_long_names_have_client_ids_of_their_own():
    """Names that begin alike must not become one client: they would throw each other out for ever."""
    ids = {_client_id("0123456789ab", "the-hall-in-the-basement-of-building-" + name) for name in ("7", "8", "eighty")}
    assert len(ids) == 3
    assert max(map(len, ids)) == 60
    assert _client_id("0123456789ab", "hall") == "enerkey-gw-0123456789ab-hall"


def test_meters_that_leave_the_configuration_keep_what_they_have(site: Site):
    """R31: and are not shown as configured any more."""
    site.make()
    site.close_hours("chiller", datetime(2026, 11, 1, tzinfo=UTC), 2)
    config = load(site.config).only(["main-electricity"])
    with built(config) as gateway:
        assert set(gateway.store.read(overview.numbers)) == {"main-electricity"}
        assert gateway.store.read(lambda db: db.execute("SELECT count(*) FROM hour").fetchone()[0]) == 2


def test_a_reading_that_a_driver_delivers_is_stored_in_the_meters_unit(site: Site):
    """Hop 4: from the driver's port through the collector into the database, converted exactly."""
    with built(changed(site, ('unit = "kWh"\nmax_rate = 900', 'unit = "MWh"\nmax_rate = 900'))) as gateway:
        ports = gateway.drivers["main"]._ports
        ports.deliver([Reading("chiller", datetime.now(UTC), Decimal("1234.5"), "kWh", stamped=False)])
        rows = gateway.store.read(overview.meters)
    assert {row.name: row.last_value for row in rows}["chiller"] == 1_234_500


def test_what_the_operator_knows_of_a_register_reaches_the_closer(site: Site):
    """Every rule in the meter's unit and in ms: a key that got lost on the way would be silently without effect."""
    keys = (
        'register = 0, type = "u32", unit = "kWh", scale = "0.1", rollover = 1000000, reset = "zero", lateness = "10m"'
    )
    known = 'device = 2, profile = "carlo-gavazzi-em340", point = "energy_import_total"'
    more = 'gap = "arrival"\nunit = "kWh"\nmax_rate = 900'
    config = changed(site, (known, f"device = 2, {keys}"), ('unit = "kWh"\nmax_rate = 900', more))
    with built(config) as gateway:
        (meter,) = [each for each in gateway.closer._meters.values() if each.name == "chiller"]
        assert gateway.closer._marks._rest(meter.id) == 600
    assert meter.counter == CounterRule(900 * MICRO, 100_000, rollover=10**6 * MICRO, reset="zero")
    assert (meter.rule.gap, meter.rule.hold_ms, meter.connection) == ("arrival", 0, "main")


def test_what_the_operator_knows_of_a_power_source_reaches_closer_and_collector(site: Site):
    """The same rule for both: what is plausible, what holds, and what becomes of what is late."""
    source = 'topic = "site/water", value = "total", unit = "m3"'
    power = 'topic = "x", value = "v", unit = "m3/h", kind = "power", report = "on_change", expected_every = "5m", direction = "net"'
    with built(changed(site, (source, power), ("max_rate = 10\n", 'max_rate = 10\nlate = "alarm"\n'))) as gateway:
        (meter,) = [each for each in gateway.closer._meters.values() if each.name == "cold-water"]
    assert meter.rule == Rule("power", 300_000, 900_000, hold_ms=300_000, late="alarm", max_rate=10 * MICRO, net=True)


# --- what drivers are given -------------------------------------------------------------------------------------------


def test_what_a_driver_remembers_outlives_the_process_and_is_its_own(site: Site):
    """The table `driver_state`: by connection and key; the newest value counts."""
    site.make()
    with closing(Store(site.data, threaded=False)) as store:
        memory = DriverMemory(store, "main")
        memory.put("plan", "1")
        memory.put("plan", "2")
        assert memory.get("plan") == "2"
    with closing(Store(site.data, threaded=False)) as store:
        assert DriverMemory(store, "main").get("plan") == "2"
        assert DriverMemory(store, "hall").get("plan") is None


def test_what_could_not_be_stored_is_not_remembered(site: Site):
    """A driver that believed it would not say it again."""
    site.make()
    store = Store(site.data, threaded=False)
    memory = DriverMemory(store, "main")
    store.close()
    with pytest.raises(NotStored):
        memory.put("plan", "1")
    assert memory.get("plan") is None


def test_a_single_look_remembers_until_its_end():
    """And leaves nothing behind."""
    memory = Forgetful()
    memory.put("plan", "1")
    assert memory.get("plan") == "1"
    assert Forgetful().get("plan") is None


def test_an_event_goes_to_the_log_and_into_the_database(site: Site, caplog):
    """With its level, and even when the disk takes nothing."""
    site.make()
    caplog.set_level(logging.INFO)
    clock = FakeClock()
    store = Store(site.data, threaded=False)
    note = event_writer(store, clock)
    note("error", "main", "no answer")
    note("info", "main", "answers again")
    found = store.read(lambda db: overview.events(db, 5))
    assert [(view.level, view.subject, view.text) for view in found] == [
        ("info", "main", "answers again"),
        ("error", "main", "no answer"),
    ]
    store.close()
    note("odd", "hall", "gone")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "main: no answer"),
        ("INFO", "main: answers again"),
        ("WARNING", "hall: gone"),
        ("WARNING", "event not stored: not stored: the store is closed"),
    ]


def test_a_look_takes_nothing_that_waits_at_the_broker_for_the_service(site: Site, tmp_path: Path):
    """R3: `read` is a stranger there, although the connection has a client id of its own."""
    with mosquitto(tmp_path) as broker:
        own = ('username = "gateway"', 'username = "gateway"\nclient_id = "the-service"')
        config = changed(site, ("mqtt://127.0.0.1:1", broker.url), own)
        clock = SystemClock(Trust("always"))
        with built(config, clock) as gateway:
            stepped(gateway.drivers["hall"], clock, lambda hall: hall.health().ready_since is not None)
        publish(broker.port, "site/water", '{"total": 42.5}')
        look = drivers_for_reading(config.only(["cold-water"]), clock)
        assert set(look) == {"hall"}
        stepped(look["hall"], clock, lambda hall: hall.health().ready_since is not None)
        assert not look["hall"].last_reads()
        with built(config, clock) as gateway:
            stepped(gateway.drivers["hall"], clock, lambda hall: "cold-water" in hall.last_reads())


def stepped(driver: Driver, clock: SystemClock, until: Callable[[Driver], bool]) -> None:
    """Let a driver act until something has come about, then close it."""
    end = clock.now().boottime + PATIENCE
    while clock.now().boottime < end:
        driver.step(clock.now())
        if until(driver):
            driver.close()
            return
        clock.wait(driver.wake, clock.now().boottime + 0.01)
        driver.wake.clear()
    raise AssertionError(driver.health())


def publish(port: int, topic: str, payload: str) -> None:
    """One message at QoS 1 that the broker has when this returns."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    client = Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    given = client.publish(topic, payload, qos=1)
    given.wait_for_publish(PATIENCE)
    assert given.is_published()
    client.disconnect()
    client.loop_stop()


# --- delivery ---------------------------------------------------------------------------------------------------------


def test_pushed_are_the_meters_with_an_id_that_the_database_knows(site: Site):
    """Not those that are off, and none that has never been entered."""
    config = load(site.config)
    assert [meter.name for meter in pushed_meters(config, {"main-electricity": 1, "cold-water": 3}, "x")] == [
        "main-electricity"
    ]


def test_the_rules_of_delivery_are_those_of_the_section(site: Site):
    """Days become hours; what is not written has its default."""
    rules = delivery_rules(changed(site, ('settle = "1s"', 'settle = "1s"\nmax_days = 2\npush_decimals = 3')))
    assert (rules.most_hours, rules.decimals, rules.settle, rules.same_hour) == (48, 3, 1.0, "sum")


def test_the_rules_of_delivery_follow_what_was_probed(site: Site):
    """`auto` is the finding; the tolerance and what a refusal means are, whatever is configured."""
    config = changed(site, ('settle = "1s"', 'settle = "auto"\nsame_hour = "auto"\nhour_stamp = "auto"'))
    known = Probed(lag=900.0, same_hour="replace", hour_stamp="end", decimals=3, whole_refusals=True)
    rules = delivery_rules(config, known)
    assert (rules.settle, rules.same_hour, rules.hour_stamp) == (2700.0, "replace", "end")
    assert (rules.decimals, rules.tolerance, rules.whole_refusals) == (6, 500, True)
    assert delivery_rules(config).whole_refusals is False


def test_without_the_section_there_are_no_rules(site: Site):
    """Whoever asks for them is told what is missing."""
    head, _, rest = site.config.read_text().partition("[enerkey]")
    site.config.write_text(head + "[connections.main]" + rest.partition("[connections.main]")[2])
    with pytest.raises(Misconfigured, match=r"no \[enerkey\] section"):
        delivery_rules(changed(site, *ALL_OFF))
