"""The composition root: from a checked configuration to a gateway that can run. Nothing else builds these objects."""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from buffer import readings
from buffer.corrections import enter_meters
from buffer.counter import CounterRule
from buffer.hours import Rule
from buffer.lock import LockHeld
from buffer.migrations import NewerDatabase
from buffer.model import to_micro, to_ms
from buffer.readings import MeterRow
from buffer.store import Connection, Store, StoreError
from drivers import registry
from drivers.base import Clock, Driver, NotStored, Ports
from gateway import secrets
from gateway.clock import ScaledClock, SystemClock, boot_id
from gateway.closer import Closer, ClosingMeter
from gateway.collector import CollectedMeter, Collector
from gateway.enerkey.client import EnerkeyClient
from gateway.errors import DatabaseFailure, Misconfigured, NoDatabase, NotPermitted
from gateway.keys import KeyRing
from gateway.messages import DeliveryRules, PushedMeter
from gateway.pacing import push_offset
from gateway.sections import parse_burst
from gateway.uploader import Uploader
from gateway.watermarks import Watermarks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.config import Config, Meter

log = logging.getLogger(__name__)

MACHINE_ID = Path("/etc/machine-id")
SOCKET = "control.sock"
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
    uploader: Uploader | None


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


def check_credentials(config: Config) -> None:
    """Raise Misconfigured with every secret that cannot be had: nobody wants to hear of them one start at a time."""
    wanted = (
        [(key, "enerkey.api_keys") for key in config.enerkey.api_keys] if config.enerkey and _pushes(config) else []
    )
    for name, connection in config.connections.items():
        password = dict(connection).get("password")
        if password and any(meter.source.connection == name for meter in config.meters):
            wanted.append((password, f"connections.{name}.password"))
    faults = []
    for reference, where in wanted:
        try:
            _secret(reference, where)
        except Misconfigured as error:
            faults.append(str(error))
    if faults:
        raise Misconfigured("\n".join(faults))


def open_store(config: Config, *, command: str, threaded: bool = True) -> Store:
    """Open the database as its only owner. Raises NoDatabase, NotPermitted, DatabaseFailure or Misconfigured."""
    data_dir = config.gateway.data_dir
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Store(data_dir, threaded=threaded, facts={"command": command, "socket": str(socket_path(config))})
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


def build(config: Config, store: Store, clock: SystemClock | ScaledClock, random: Random) -> Gateway:
    """Build every worker from the configuration. Opens no wire. Raises Misconfigured for credentials it cannot have."""
    keys = KeyRing(_api_keys(config)) if _pushes(config) else None
    rows, now_ms = [_row(meter) for meter in config.meters], to_ms(clock.now().wall)
    numbers = store.write(lambda db: enter_meters(db, rows, now_ms))
    site = _Site(config, store, clock, random, numbers, store.write(_identity), boot_id())
    drivers: dict[str, Driver] = {}
    uploader = _uploader(site, keys) if keys else None
    closing = [closing_meter(meter, numbers[meter.name]) for meter in config.meters]
    lateness = {numbers[meter.name]: meter.lateness for meter in config.meters if meter.lateness is not None}
    watermarks = Watermarks(config.hours.grace, _readiness(site, drivers), lateness)
    on_closed = uploader.wake.set if uploader else _nobody
    closer = Closer(store, closing, watermarks, site.boot, clock.trust, on_closed)
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
    return Gateway(config, clock, store, drivers, closer, uploader)


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
        client_id = f"read-{uuid.uuid4().hex[:16]}"
        ports = Ports(clock, _forget, Forgetful(), log_event, Random(), client_id)  # noqa: S311 - chance for pauses
        drivers[name] = _build_driver(config, name, ports, stranger)
    return drivers


def _driver(site: _Site, name: str, collector: Collector) -> Driver:
    ports = Ports(
        site.clock,
        collector.deliver_for(name),
        DriverMemory(site.store, name),
        event_writer(site.store, site.clock),
        site.random,
        _client_id(site.identity, name),
    )
    return _build_driver(site.config, name, ports, {})


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
        update["password"] = _secret(settings["password"], f"connections.{name}.password")
    sources = {meter.name: meter.source for meter in config.meters if meter.source.connection == name}
    driver = registry.driver_of(settings["driver"])
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


def _uploader(site: _Site, keys: KeyRing) -> Uploader:
    section = site.config.enerkey
    if section is None:
        raise AssertionError("there are keys only with [enerkey]")
    client = EnerkeyClient(section.url, section.contract, ca_file=section.ca_file)
    pushed = pushed_meters(site.config, site.numbers, site.identity)
    rules = delivery_rules(site.config)
    clock = site.clock
    return Uploader(
        site.store, client, section.contract, pushed, rules, keys, clock, site.random, site.boot, clock.trust.witness
    )


def pushed_meters(config: Config, numbers: Mapping[str, int], identity: str) -> list[PushedMeter]:
    """The meters whose hours go to EnerKey, with their offsets after the hour."""
    spread = config.enerkey.push_spread if config.enerkey else 0.0
    return [
        PushedMeter(
            numbers[meter.name], meter.name, meter.enerkey_id, meter.push, push_offset(identity, meter.name, spread)
        )
        for meter in config.meters
        if meter.push != "off" and meter.enerkey_id is not None and meter.name in numbers
    ]


def delivery_rules(config: Config) -> DeliveryRules:
    """The settings of [enerkey] that delivery lives by."""
    section = config.enerkey
    if section is None:
        raise Misconfigured("there is no [enerkey] section: nothing is sent anywhere")
    return DeliveryRules(
        settle=section.settle,
        on_unknown=section.on_unknown,
        same_hour=section.same_hour,
        hour_stamp=section.hour_stamp,
        decimals=section.push_decimals,
        most_hours=section.max_days * 24,
        requests_per_day=section.requests_per_day,
        burst=parse_burst(section.burst),
        push_estimated=section.push_estimated,
    )


def _pushes(config: Config) -> bool:
    return config.enerkey is not None and any(meter.push != "off" for meter in config.meters)


def _api_keys(config: Config) -> list[str]:
    return [_secret(key, "enerkey.api_keys") for key in config.enerkey.api_keys] if config.enerkey else []


def _secret(reference: str, where: str) -> str:
    try:
        return secrets.resolve(reference, os.environ)
    except secrets.SecretError as error:
        raise Misconfigured(f"{where}: {error}") from None


# --- the buffer's view ------------------------------------------------------------------------------------------------


def _row(meter: Meter) -> MeterRow:
    where = f"{meter.source.connection}: {meter.where}"
    return MeterRow(meter.name, meter.enerkey_id, meter.unit, meter.kind, meter.push, where, meter.register)


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


def _identity(db: Connection) -> str:
    """Twelve characters for this database on this machine: a cloned card must not fight for an MQTT session."""
    db.execute("INSERT INTO meta VALUES ('db_uuid', ?) ON CONFLICT DO NOTHING", (uuid.uuid4().hex,))
    db_uuid = db.execute("SELECT value FROM meta WHERE key = 'db_uuid'").fetchone()[0]
    machine = MACHINE_ID.read_text().strip() if MACHINE_ID.exists() else ""
    return hashlib.sha256(f"{machine}/{db_uuid}".encode()).hexdigest()[:12]


def _nobody() -> None:
    return
