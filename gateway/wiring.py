"""The composition root: from a checked configuration to a gateway that can run. Nothing else builds these objects."""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from buffer import findings, identity, outline, readings, recovery
from buffer.corrections import enter_meters
from buffer.counter import CounterRule
from buffer.hours import Rule
from buffer.key_use import remembered
from buffer.lock import LockHeld
from buffer.migrations import NewerDatabase
from buffer.model import to_micro, to_ms
from buffer.readings import MeterRow
from buffer.room import BALLAST, Room
from buffer.store import Connection, Store, StoreError
from drivers import registry
from drivers.base import Clock, Driver, NotStored, Ports
from gateway.checker import Checker
from gateway.clock import ScaledClock, SystemClock
from gateway.closer import Closer, ClosingMeter
from gateway.collector import CollectedMeter, Collector
from gateway.credentials import keys_of, secret
from gateway.delivery import delivery_rules, doubts_of, pushed_meters
from gateway.enerkey.client import EnerkeyClient
from gateway.errors import DatabaseFailure, Misconfigured, NoDatabase, NotPermitted
from gateway.housekeeping import Housekeeper, bytes_written
from gateway.keys import Key, KeyRing
from gateway.machine import STRANGER, boot_id, machine_id
from gateway.probed import probed
from gateway.uploader import Uploader
from gateway.watermarks import Watermarks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pydantic import BaseModel

    from drivers.base import DeliverTogether, Helper
    from drivers.mqtt.config import Connection as MqttConnection
    from drivers.mqtt.listening import Listener
    from gateway.config import Config, Meter

log = logging.getLogger(__name__)

SOCKET = "control.sock"
BROKER = "mqtt"  # the driver whose other side keeps what is not acknowledged
LONGEST_CONNECTION = 36  # characters of a connection's name in an MQTT client id, which then has 60
LOG_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


@dataclass(slots=True)
class Gateway:
    """Everything that runs, ready to be started."""

    config: Config
    clock: SystemClock | ScaledClock
    store: Store
    drivers: dict[str, Driver]
    closer: Closer
    uploaders: dict[str, Uploader]  # by account; "" is the default one
    machine: str  # the machine's id, "" where it has none
    housekeeper: Housekeeper
    checker: Checker
    deliver_together: DeliverTogether


@dataclass(frozen=True, slots=True)
class _Site:
    """What every part is built from."""

    config: Config
    store: Store
    clock: SystemClock | ScaledClock
    random: Random
    numbers: Mapping[str, int]  # meter's name -> its number in the database
    identity: str
    boot: str


def open_store(config: Config, *, command: str, threaded: bool = True) -> Store:
    """Open the database as its only owner. Raises NoDatabase, NotPermitted, DatabaseFailure or Misconfigured."""
    data_dir = config.gateway.data_dir
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = {"command": command, "socket": str(socket_path(config))}
        room = Room(data_dir, config.buffer.max_size, BALLAST)
        within = config.buffer.commit_within
        return Store(data_dir, threaded=threaded, facts=facts, heal=recovery.opened, room=room, commit_within=within)
    except LockHeld as error:
        raise NoDatabase(str(error)) from None
    except NewerDatabase as error:
        raise Misconfigured(f"{data_dir}: {error}; install that release again, the file was not touched") from None
    except PermissionError as error:
        words = (
            f"{error.filename or data_dir}: {error.strerror}; run as the user that owns it, or set [gateway] data_dir"
        )
        raise NotPermitted(words) from None
    except (FileExistsError, NotADirectoryError) as error:  # mkdir's two words for one thing
        raise NoDatabase(f"{error.filename or data_dir}: cannot create the database: not a directory") from None
    except OSError as error:
        raise NoDatabase(f"{error.filename or data_dir}: cannot create the database: {error.strerror}") from None
    except StoreError as error:
        raise DatabaseFailure(str(error)) from None


def socket_path(config: Config) -> Path:
    """Where the running service listens: its runtime directory under systemd, else beside the data."""
    return Path(os.environ.get("RUNTIME_DIRECTORY") or config.gateway.data_dir) / SOCKET


def build(
    config: Config,
    store: Store,
    clock: SystemClock | ScaledClock,
    random: Random,
    machine: str | None = None,
) -> Gateway:
    """Build every worker from the configuration. Opens no wire. Raises Misconfigured for credentials it cannot have.

    `machine`: the id of the machine, where it is not this one's.
    """
    machine = machine_id() if machine is None else machine
    keys = {account.name: keys_of(account) for account in config.pushing}
    rows, now_ms = [_row(meter) for meter in config.meters], to_ms(clock.now().wall)
    numbers = store.write(lambda db: enter_meters(db, rows, now_ms))
    store.read(lambda db: outline.remember(store.path, db))
    site = _Site(config, store, clock, random, numbers, store.write(lambda db: _identity(db, machine)), boot_id())
    drivers: dict[str, Driver] = {}
    uploaders = {name: _uploader(site, name, its) for name, its in keys.items()}
    for doubt in store.read(lambda db: doubts_of(config, db)) if uploaders else ():
        log.warning("[enerkey] %s: %s", doubt.key, doubt.words)
    closing = [closing_meter(meter, numbers[meter.name]) for meter in config.meters]
    lateness = {numbers[meter.name]: meter.lateness for meter in config.meters if meter.lateness is not None}
    watermarks = Watermarks(config.hours.grace, _readiness(site, drivers), lateness)
    closer = Closer(store, closing, watermarks, site.boot, clock.trust, lambda: _wake(uploaders))
    rules = {meter.name: meter.rule for meter in closing}
    collected = {
        meter.name: CollectedMeter(numbers[meter.name], meter.factor, rules[meter.name]) for meter in config.meters
    }
    collector = Collector(store, collected, clock, site.boot, closer.saw)
    for name in config.connections:
        if any(meter.source.connection == name for meter in config.meters):
            drivers[name] = _driver(site, name, collector)
        else:
            log.warning("connection %s has no meters and is not opened", name)
    kept = config.buffer
    housekeeper = Housekeeper(store, kept.keep_readings, kept.keep_messages, bytes_written, collector.flush)
    checker = Checker(store, lambda: _wake(uploaders))
    return Gateway(
        config, clock, store, drivers, closer, uploaders, machine, housekeeper, checker, collector.deliver_together
    )


def helpers_of(gateway: Gateway, longest_wait: float) -> Iterator[Helper]:
    """What serves several polled drivers at once where each has a thread; for once, before they start."""
    by_kind: dict[str, list[Driver]] = {}
    for name, driver in gateway.drivers.items():
        by_kind.setdefault(_driver_of(gateway.config, name), []).append(driver)
    for kind, drivers in by_kind.items():
        yield from registry.driver_of(kind).share(drivers, gateway.clock, gateway.deliver_together, longest_wait)


def _wake(uploaders: Mapping[str, Uploader]) -> None:
    for uploader in uploaders.values():
        uploader.wake.set()


# --- drivers ----------------------------------------------------------------------------------------------------------


class DriverMemory:
    """One connection's part of the table `driver_state`, read once: its driver is the only one that writes it."""

    def __init__(self, store: Store, connection: str) -> None:
        self._store = store
        self._connection = connection
        find = "SELECT key, value FROM driver_state WHERE connection = ?"
        self._values: dict[str, str] = dict(store.read(lambda db: db.execute(find, (connection,)).fetchall()))

    def get(self, key: str) -> str | None:
        """The stored value, or None."""
        return self._values.get(key)

    def put(self, key: str, value: str) -> None:
        """Store durably; raises NotStored."""
        upsert = "INSERT INTO driver_state VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
        try:
            self._store.write(lambda db: db.execute(upsert, (self._connection, key, value)))
        except StoreError as error:
            raise NotStored(str(error)) from error
        self._values[key] = value


class Forgetful:
    """Driver memory for a single look."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        """What this look has put, or None."""
        return self._values.get(key)

    def put(self, key: str, value: str) -> None:
        """Keep until the end of the look."""
        self._values[key] = value


def drivers_for_reading(config: Config, clock: Clock) -> dict[str, Driver]:
    """Drivers that store nothing, for a look at meters while no service runs.

    At a broker they are strangers with a session of their own that ends with them: under the service's name they would
    take the messages that wait there for it.
    """
    stranger = {"client_id": None, "session_expiry": 0.0}
    drivers: dict[str, Driver] = {}
    for name in sorted({meter.source.connection for meter in config.meters}):
        drivers[name] = _build_driver(config, name, _ports_for_reading(clock), stranger)
    return drivers


def driver_for_url(kind: str, connection: BaseModel, sources: Mapping[str, BaseModel], clock: Clock) -> Driver:
    """The same for a connection that stands in no configuration. Messages about it go nowhere: who asked sees its reads."""
    ports = replace(_ports_for_reading(clock), note=lambda *_: None)
    return registry.driver_of(kind).build("url", connection, sources, ports)


def listener_for_url(connection: MqttConnection, filters: Sequence[str], clock: Clock) -> Listener:
    """One that hears what a broker has, without a configuration and unnoticed by its other clients."""
    from drivers.mqtt.listening import Listener  # noqa: PLC0415 - paho

    return Listener(connection, filters, replace(_ports_for_reading(clock), note=lambda *_: None))


def _ports_for_reading(clock: Clock) -> Ports:
    client_id = f"read-{uuid.uuid4().hex[:16]}"
    return Ports(clock, _forget, Forgetful(), log_event, Random(), client_id)  # noqa: S311 - chance for pauses


def _driver(site: _Site, name: str, collector: Collector) -> Driver:
    ports = Ports(
        site.clock,
        collector.deliver_for(name, polled=_driver_of(site.config, name) != BROKER),
        DriverMemory(site.store, name),
        event_writer(site.store, site.clock),
        site.random,
        _client_id(site.identity, name),
    )
    return _build_driver(site.config, name, ports, {})


def _driver_of(config: Config, name: str) -> str:
    return str(dict(config.connections[name])["driver"])


def _client_id(identity: str, connection: str) -> str:
    """A name that no other connection has: two clients of one name throw each other out of the broker for ever."""
    if len(connection) > LONGEST_CONNECTION:
        digest = hashlib.sha256(connection.encode()).hexdigest()[:8]
        connection = f"{connection[: LONGEST_CONNECTION - len(digest) - 1]}-{digest}"
    return f"enerkey-gw-{identity}-{connection}"


def _build_driver(config: Config, name: str, ports: Ports, changes: dict[str, Any]) -> Driver:
    connection = config.connections[name]
    settings: dict[str, Any] = dict(connection)
    update = {key: value for key, value in changes.items() if key in settings}
    if settings.get("password"):
        update["password"] = secret(settings["password"], f"connections.{name}.password")
    sources = {meter.name: meter.source for meter in config.meters if meter.source.connection == name}
    driver = registry.driver_of(_driver_of(config, name))
    return driver.build(name, connection.model_copy(update=update), sources, ports)


def _readiness(site: _Site, drivers: Mapping[str, Driver]) -> Callable[[int], float | None]:
    """Since when (boottime) a meter's connection has been ready for the first time; the drivers may be built later."""
    connection_of = {site.numbers[meter.name]: meter.source.connection for meter in site.config.meters}
    known: dict[str, float] = {}

    def ready_since(meter: int) -> float | None:
        name = connection_of[meter]
        if name not in known and (since := drivers[name].health().ready_since) is not None:
            known[name] = since
        return known.get(name)

    return ready_since


def event_writer(store: Store, clock: Clock) -> Callable[[str, str, str], None]:
    """An event goes to the log and to the table `event`; a failing disk must not silence it."""

    def write(level: str, subject: str, text: str) -> None:
        log_event(level, subject, text)
        try:
            store.write(lambda db: readings.note(db, to_ms(clock.now().wall), level, subject, text))
        except StoreError as error:
            log.warning("event not stored: %s", error)

    return write


def log_event(level: str, subject: str, text: str) -> None:
    """An event as a log line."""
    log.log(LOG_LEVELS.get(level, logging.WARNING), "%s: %s", subject, text)


def _forget(batch: object) -> None:
    """A look stores nothing."""


# --- delivery ---------------------------------------------------------------------------------------------------------


def _uploader(site: _Site, account: str, keys: list[Key]) -> Uploader:
    section = site.config.enerkey
    if section is None:
        raise AssertionError("there are keys only with [enerkey]")
    client = EnerkeyClient(section.url, section.contract, ca_file=section.ca_file)
    pushed = [meter for meter in pushed_meters(site.config, site.numbers, site.identity) if meter.account == account]
    ring = KeyRing(keys, account, site.store.read(lambda db: remembered(db, account)))
    known = probed(section, site.store.read(findings.known))
    rules = delivery_rules(site.config, known, account)
    clock = site.clock
    return Uploader(
        site.store, client, section.contract, pushed, rules, ring, clock, site.random, site.boot, clock.trust.witness
    )


# --- the buffer's view ------------------------------------------------------------------------------------------------


def _row(meter: Meter) -> MeterRow:
    where = f"{meter.source.connection}: {meter.where}"
    return MeterRow(
        meter.name, meter.enerkey_id, meter.unit, meter.kind, meter.push, where, meter.register, meter.account
    )


def closing_meter(meter: Meter, number: int) -> ClosingMeter:
    """How a meter's readings become hours. `number`: its number in the database."""
    rule = Rule(
        kind=meter.kind,
        expected_every_ms=round(meter.expected_every * 1000),
        max_gap_ms=round(meter.max_gap * 1000),
        period_ms=round((meter.source.period or 0) * 1000),
        stamp=meter.source.stamp or "end",
        gap=meter.gap,
        hold_ms=round(meter.hold * 1000),
        late=meter.late,
        max_rate=None if meter.max_rate is None else to_micro(meter.max_rate),
        net=meter.net,
    )
    counter = CounterRule(
        max_rate=None if meter.max_rate is None else to_micro(meter.max_rate),
        resolution=max(1, to_micro(meter.resolution or Decimal(0))),
        float32=meter.float32,
        rollover=None if meter.rollover is None else to_micro(meter.rollover),
        reset=meter.reset,
    )
    return ClosingMeter(number, meter.name, rule, meter.source.connection, counter, to_micro(meter.start_value))


def _identity(db: Connection, machine: str) -> str:
    """Twelve characters for this database on this machine: a cloned card must not fight for an MQTT session."""
    stranger = identity.opened(db, machine)
    if stranger:
        log.error("%s", STRANGER[stranger])
    db.execute("INSERT INTO meta VALUES ('db_uuid', ?) ON CONFLICT DO NOTHING", (uuid.uuid4().hex,))
    db_uuid = db.execute("SELECT value FROM meta WHERE key = 'db_uuid'").fetchone()[0]
    return hashlib.sha256(f"{machine}/{db_uuid}".encode()).hexdigest()[:12]
