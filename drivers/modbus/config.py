"""What an operator writes about a Modbus connection and about a register. Importing this does not import pymodbus."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import AfterValidator, BaseModel, Field

from drivers.fields import Duration, Strict, Words, is_file
from drivers.modbus import profile as profiles
from drivers.modbus.address import Address, address_of
from drivers.modbus.profile import BadProfile, Profile, UnknownProfile
from drivers.modbus.source import Source
from drivers.modbus.sourcing import caution_of, source_faults
from drivers.modbus.target import target_of
from drivers.registry import Fault, SourceFacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

POLL = 60.0  # s
RTU_DEVICES = range(1, 248)
TCP_DEVICES = range(256)  # 0 and 255 are "the gateway itself" on some gateways


def _url(value: str) -> str:
    address_of(value)
    return value


class Connection(Strict):
    """`[connections.NAME]` with `driver = "modbus"`: one bus, gateway or meter, with one request at a time."""

    driver: Literal["modbus"]
    url: Annotated[str, AfterValidator(_url), Words('a URL such as "tcp://192.0.2.10:502"')] = Field(
        description="`tcp://host:502` (Modbus TCP), `rtu+tcp://host:port` (RTU frames through a serial server), "
        "`tls://host:802` (Modbus TCP security), `rtu:///dev/ttyUSB0?baudrate=9600&parity=N&stopbits=1` (serial line)."
    )
    poll: Annotated[Duration, Field(ge=1, le=3600)] = Field(
        POLL,
        description="How often every device is read. Polls are aligned to the wall clock: one falls on each full hour.",
    )
    timeout: Annotated[Duration, Field(ge=0.05, le=30)] | None = Field(
        None,
        description="How long a device may take to begin its answer. On RTU at least 500 ms is wise: a late answer can "
        'be taken for the next one. Default `"1s"`, for `rtu+tcp` `"1500ms"`, or more where the profile asks for it.',
    )
    gap: Annotated[Duration, Field(ge=0, le=10)] | None = Field(
        None,
        description="Silence before the next request; on a serial line never less than 3.5 characters. Default: RTU 60 ms, "
        "100 ms when the device changes; `rtu+tcp` 100 ms; TCP none.",
    )
    pause_after_connect: Annotated[Duration, Field(ge=0, le=30)] = Field(
        0.0, description="Rest between opening the connection and the first request, for gateways that need it."
    )
    local_echo: bool = Field(
        False,  # noqa: FBT003 - pydantic's default
        description="The RS-485 adapter hears its own requests: skip them. Only RTU.",
    )
    ca_file: str | None = Field(
        None,
        min_length=1,
        description="Certificate authority of the device (PEM) instead of the system's; only `tls://`.",
    )
    cert_file: str | None = Field(None, min_length=1, description="This gateway's certificate (PEM); only `tls://`.")
    key_file: str | None = Field(
        None, min_length=1, description="Its private key (PEM), where `cert_file` does not hold it."
    )


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


def exclusive(connection: BaseModel) -> str | None:
    """A serial port or a gateway: two masters on one bus take each other's answers (thingsboard-gateway 905)."""
    address = address_of(cast("Connection", connection).url)
    return f"the serial port {address.host}" if address.scheme == "rtu" else f"{address.host}:{address.port}"


def profile_of(source: Source) -> Profile | None:
    """The profile that a source names, where there is one of that name."""
    try:
        return profiles.load(source.profile) if source.profile else None
    except (UnknownProfile, BadProfile):
        return None


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
        yield "local_echo", "is for RS-485 adapters: use it with rtu:// or rtu+tcp://"


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
