"""The composition root: from a checked configuration to a gateway that can run. Nothing else builds these objects."""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from buffer import readings
from buffer.hours import Rule
from buffer.lock import LockHeld
from buffer.migrations import NewerDatabase
from buffer.model import MICRO, round_half_up, to_micro, to_ms
from buffer.readings import MeterRow, register_meters
from buffer.store import Connection, Store, StoreError
from drivers import registry
from drivers.base import Clock, Driver, NotStored, Ports
from drivers.reading import Reading, Rejected
from gateway import secrets
from gateway.clock import ScaledClock, SystemClock, boot_id
from gateway.closer import Closer, ClosingMeter, Watermarks
from gateway.collector import CollectedMeter, Collector
from gateway.config import Config, Meter
from gateway.enerkey.client import EnerkeyClient
from gateway.errors import DatabaseFailure, Misconfigured, NoDatabase
from gateway.keys import KeyRing
from gateway.pacing import push_offset
from gateway.uploader import DeliveryRules, PushedMeter, Uploader

log = logging.getLogger(__name__)

MACHINE_ID = Path("/etc/machine-id")
SOCKET = "control.sock"
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


class DriverMemory:
    """One connection's part of the table `driver_state`."""

    def __init__(self, store: Store, connection: str) -> None:
        self._store = store
        self._connection = connection

    def get(self, key: str) -> str | None:
        """The stored value, or None."""
        find = "SELECT value FROM driver_state WHERE connection = ? AND key = ?"
        row = self._store.read(lambda db: db.execute(find, (self._connection, key)).fetchone())
        return row[0] if row else None

    def put(self, key: str, value: str) -> None:
        """Store durably; raises NotStored."""
        upsert = "INSERT INTO driver_state VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
        try:
            self._store.write(lambda db: db.execute(upsert, (self._connection, key, value)))
        except StoreError as error:
            raise NotStored(str(error)) from error


def open_store(config: Config, *, command: str, threaded: bool = True) -> Store:
    """Open the gateway's database as its only owner. Raises NoDatabase, DatabaseFailure or Misconfigured."""
    data_dir = config.gateway.data_dir
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Store(data_dir, threaded=threaded, facts={"command": command, "socket": str(socket_path(config))})
    except LockHeld as error:
        raise NoDatabase(str(error)) from None
    except NewerDatabase as error:
        raise Misconfigured(f"{data_dir}: {error}; install that release again, the file was not touched") from None
    except OSError as error:
        raise NoDatabase(f"{data_dir}: cannot create the database: {error.strerror}") from None
    except StoreError as error:
        raise DatabaseFailure(str(error)) from None


def socket_path(config: Config) -> Path:
    """Where the running service listens: its runtime directory under systemd, else beside the data."""
    return Path(os.environ.get("RUNTIME_DIRECTORY") or config.gateway.data_dir) / SOCKET


def build(config: Config, store: Store, clock: SystemClock | ScaledClock, random: Random) -> Gateway:
    """Build every worker from the configuration. Opens no wire. Raises Misconfigured for credentials that cannot be had."""
    client = _client(config)
    keys = _keys(config)
    numbers = store.write(lambda db: register_meters(db, [_row(meter) for meter in config.meters]))
    identity = store.write(_identity)
    boot = boot_id()
    drivers: dict[str, Driver] = {}
    connection_of = {numbers[meter.name]: meter.source.connection for meter in config.meters}

    def ready_since(meter: int) -> float | None:
        return drivers[connection_of[meter]].health().ready_since

    uploader = _uploader(config, store, clock, random, client, keys, numbers, identity, boot) if client and keys else None
    watermarks = Watermarks(config.hours.grace, ready_since)
    closing = [_closing(meter, numbers[meter.name]) for meter in config.meters]
    closer = Closer(store, closing, watermarks, boot, uploader.wake.set if uploader else _nobody)
    collected = {meter.name: CollectedMeter(numbers[meter.name], meter.factor) for meter in config.meters}
    collector = Collector(store, collected, clock, boot, closer.saw)
    for name in config.connections:
        driver = _driver(config, name, store, clock, collector, random, identity)
        if driver:
            drivers[name] = driver
    return Gateway(config, clock, store, drivers, closer, uploader)


def drivers_for_reading(
    config: Config, names: set[str], clock: Clock, deliver: Callable[[list[Reading | Rejected]], None]
) -> dict[str, Driver]:
    """Drivers that store nothing, for looking at meters while no service runs."""
    return {
        name: _build_driver(
            config, name, Ports(clock, lambda batch: deliver(list(batch)), _Forgetful(), _log_event, Random(), f"read-{uuid.uuid4().hex[:12]}")  # noqa: S311, E501
        )
        for name in names
    }  # fmt: skip


class _Forgetful:
    """Driver memory for a single look."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        return self._values.get(key)

    def put(self, key: str, value: str) -> None:
        self._values[key] = value


def _driver(  # noqa: PLR0913, PLR0917 - private to the composition root
    config: Config,
    name: str,
    store: Store,
    clock: Clock,
    collector: Collector,
    random: Random,
    identity: str,
) -> Driver | None:
    if not any(meter.source.connection == name for meter in config.meters):
        log.warning("connection %s has no meters and is not opened", name)
        return None
    ports = Ports(
        clock,
        collector.deliver_for(name),
        DriverMemory(store, name),
        event_writer(store, clock),
        random,
        f"enerkey-gw-{identity}-{name}"[:60],
    )
    return _build_driver(config, name, ports)


def _build_driver(config: Config, name: str, ports: Ports) -> Driver:
    connection = config.connections[name]
    settings: dict[str, Any] = dict(connection)
    if settings.get("password"):
        connection = connection.model_copy(update={"password": _secret(settings["password"], f"connections.{name}.password")})
    sources = {meter.name: meter.source for meter in config.meters if meter.source.connection == name}
    return registry.driver_of(settings["driver"]).build(name, connection, sources, ports)


def event_writer(store: Store, clock: Clock) -> Callable[[str, str, str], None]:
    """An event goes to the log and to the table `event`; a failing disk must not silence it."""

    def write(level: str, subject: str, text: str) -> None:
        _log_event(level, subject, text)
        try:
            store.write(lambda db: readings.note(db, to_ms(clock.now().wall), level, subject, text))
        except StoreError as error:
            log.warning("event not stored: %s", error)

    return write


def _log_event(level: str, subject: str, text: str) -> None:
    log.log(LOG_LEVELS.get(level, logging.WARNING), "%s: %s", subject, text)


def _uploader(  # noqa: PLR0913, PLR0917 - private to the composition root
    config: Config,
    store: Store,
    clock: SystemClock | ScaledClock,
    random: Random,
    client: EnerkeyClient,
    keys: KeyRing,
    numbers: Mapping[str, int],
    identity: str,
    boot: str,
) -> Uploader:
    if config.enerkey is None:
        raise AssertionError("a client exists only with [enerkey]")
    pushed = pushed_meters(config, numbers, identity)
    rules = delivery_rules(config)
    return Uploader(
        store, client, config.enerkey.contract, pushed, rules, keys, clock, random, boot, clock.trust.witness
    )  # fmt: skip


def pushed_meters(config: Config, numbers: Mapping[str, int], identity: str) -> list[PushedMeter]:
    """The meters whose hours go to EnerKey, with their offsets after the hour."""
    spread = config.enerkey.push_spread if config.enerkey else 0.0
    return [
        PushedMeter(
            numbers[meter.name], meter.name, meter.enerkey_id, meter.push, push_offset(identity, meter.name, spread)
        )
        for meter in config.meters
        if meter.push != "off" and meter.enerkey_id is not None
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
        push_estimated=section.push_estimated,
    )


def _client(config: Config) -> EnerkeyClient | None:
    if config.enerkey is None or all(meter.push == "off" for meter in config.meters):
        return None
    return EnerkeyClient(config.enerkey.url, config.enerkey.contract, ca_file=config.enerkey.ca_file)


def _keys(config: Config) -> KeyRing | None:
    if _client_needed(config) and config.enerkey:
        return KeyRing([_secret(key, "enerkey.api_keys") for key in config.enerkey.api_keys])
    return None


def _client_needed(config: Config) -> bool:
    return config.enerkey is not None and any(meter.push != "off" for meter in config.meters)


def _secret(reference: str, where: str) -> str:
    try:
        return secrets.resolve(reference, os.environ)
    except secrets.SecretError as error:
        raise Misconfigured(f"{where}: {error}") from None


def _row(meter: Meter) -> MeterRow:
    return MeterRow(meter.name, meter.enerkey_id, meter.unit, meter.kind, meter.push, f"{meter.source.connection}: {meter.where}")


def _closing(meter: Meter, number: int) -> ClosingMeter:
    rule = Rule(
        kind=meter.kind,
        expected_every_ms=round(meter.expected_every * 1000),
        max_gap_ms=round(meter.max_gap * 1000),
        period_ms=round((meter.source.period or 0) * 1000),
        stamp=meter.source.stamp or "end",
    )
    max_rate = None if meter.max_rate is None else round_half_up(int(meter.max_rate * MICRO), 1)
    return ClosingMeter(number, meter.name, meter.source.connection, rule, max_rate, to_micro(meter.start_value))


def _identity(db: Connection) -> str:
    """Twelve characters that stay with this database on this machine: a cloned card must not fight for an MQTT session."""
    db.execute("INSERT INTO meta VALUES ('db_uuid', ?) ON CONFLICT DO NOTHING", (uuid.uuid4().hex,))
    db_uuid = db.execute("SELECT value FROM meta WHERE key = 'db_uuid'").fetchone()[0]
    machine = MACHINE_ID.read_text().strip() if MACHINE_ID.exists() else ""
    return hashlib.sha256(f"{machine}/{db_uuid}".encode()).hexdigest()[:12]


def _nobody() -> None:
    return
