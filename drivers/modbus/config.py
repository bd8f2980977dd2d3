"""What an operator writes about a Modbus connection and about a register. Importing this does not import pymodbus."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from os.path import realpath
from typing import TYPE_CHECKING, cast

from drivers.fields import is_file
from drivers.modbus.address import Address, address_of
from drivers.modbus.cautions import cautions_of
from drivers.modbus.connection import Connection
from drivers.modbus.profile import Profile
from drivers.modbus.source import Source
from drivers.modbus.sourcing import caution_of, source_faults
from drivers.modbus.target import target_of
from drivers.registry import Fault, Needs, SourceFacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel

__all__ = ["Connection", "Source", "cautions", "check", "describe", "exclusive", "files", "needs", "pace"]

RTU_DEVICES = range(1, 248)
TCP_DEVICES = range(256)  # 0 and 255 are "the gateway itself" on some gateways


DEVICE_KEYS = ("timeout", "gap", "max_registers")  # say something about a device, so its sources must agree


def check(connection: BaseModel, sources: Mapping[str, BaseModel]) -> list[Fault]:
    """Mistakes that no single key shows."""
    settings = cast("Connection", connection)
    address = address_of(settings.url)
    faults = [Fault(("connection", key), message) for key, message in _connection_faults(settings, address)]
    typed = {name: cast("Source", source) for name, source in sources.items()}
    for name, source in typed.items():
        faults += [Fault((name, key), message) for key, message in _source_faults(source, address)]
    return faults + list(_disagreements(typed))


def cautions(connection: BaseModel, sources: Mapping[str, BaseModel]) -> list[Fault]:
    """What works and should be looked at all the same: see `drivers.modbus.cautions`."""
    return list(cautions_of(cast("Connection", connection), cast("Mapping[str, Source]", sources)))


def describe(source: BaseModel) -> SourceFacts:
    """What the gateway must know of a source that `check` found no fault with."""
    source = cast("Source", source)
    target = target_of("", source)
    return SourceFacts(
        unit=target.unit,
        kind=target.kind,
        where=f"device {source.device}, {target.where}",
        max_rate=_text(target.max_rate),
        rollover=_text(target.end),
        resolution=_text(source.resolution or target.resolution),
        float32=target.float32,
        register=target.identity,
        caution=caution_of(source),
    )


def _text(number: Decimal | None) -> str | None:
    return None if number is None else str(number)


def pace(connection: BaseModel, source: BaseModel) -> float:
    """Seconds between two readings: as the operator expects them, else the poll interval."""
    return cast("Source", source).expected_every or cast("Connection", connection).poll


def files(source: BaseModel) -> Mapping[str, type[BaseModel]]:
    """A profile of the operator's own."""
    profile = cast("Source", source).profile
    return {profile: Profile} if profile and profile.startswith("/") else {}


def exclusive(connection: BaseModel) -> str | None:
    """A serial port or a gateway: two masters on one bus take each other's answers (thingsboard-gateway 905)."""
    address = address_of(cast("Connection", connection).url)
    return f"the serial port {realpath(address.host)}" if address.serial else f"{address.host}:{address.port}"


def needs(connection: BaseModel) -> Needs:
    """A thread, lent to the shared loop or not, and a socket; pyserial has two pipes beside a port."""
    return Needs(tasks=1, files=5 if address_of(cast("Connection", connection).url).serial else 1)


def _connection_faults(connection: Connection, address: Address) -> Iterator[tuple[str, str]]:
    for key in ("ca_file", "cert_file", "key_file"):
        path = getattr(connection, key)
        if path and address.scheme != "tls":
            yield key, "is of use only with tls://: this connection is not encrypted"
        elif path and not is_file(path):
            yield key, f"names a file that is not there: {path}"
    if connection.key_file and not connection.cert_file:
        yield "key_file", "needs cert_file beside it"
    if connection.local_echo and not address.untagged:
        yield "local_echo", "is for RS-485 adapters: use it with rtu://, rtu+tcp://, ascii:// or ascii+tcp://"


def _source_faults(source: Source, address: Address) -> Iterator[tuple[str, str]]:
    allowed = RTU_DEVICES if address.untagged else TCP_DEVICES
    if source.device not in allowed:
        yield "device", f"must be {allowed.start} to {allowed.stop - 1} on {address.scheme}://"
    yield from source_faults(source)


def _disagreements(sources: Mapping[str, Source]) -> Iterator[Fault]:
    """Two sources that say different things of one device."""
    for key in DEVICE_KEYS:
        said: dict[int, dict[object, str]] = defaultdict(dict)
        for name, source in sources.items():
            value = getattr(source, key)
            if value is None:
                continue
            others = said[source.device]
            if others and value not in others:
                other, by = next(iter(others.items()))
                yield Fault((name, key), f'is about device {source.device} as a whole, and meter "{by}" says {other:g}')
            others.setdefault(value, name)
