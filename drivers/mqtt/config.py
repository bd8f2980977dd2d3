"""What an operator writes about an MQTT broker and about a topic. Importing this imports neither paho nor jmespath."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, cast
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, Field

from drivers.fields import Duration, SourceBase, Strict, Words, is_file
from drivers.mqtt.topics import filter_fault
from drivers.registry import Fault, SourceFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

PACE = 900.0  # s between two readings when the operator does not say (DESIGN 5)
PORTS = {"mqtt": 1883, "mqtts": 8883}
FLUSH = 25.0  # s; 200 meters at 60 s then write 85 MB a day (10 s: 140), and brokers that send again wait 30 s or more
SESSION_EXPIRY = 7 * 86_400.0  # s; reliability 3.5: at least a week of outage

Format = Literal["auto", "raw", "json"]
TimeFormat = Literal["auto", "iso", "epoch_s", "epoch_ms"]
Protocol = Literal["auto", "5", "3.1.1"]


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int
    tls: bool


def address_of(url: str) -> Address:
    """The address in a URL; raises ValueError with what is allowed."""
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets without an IPv6 address in them
        parts = SplitResult("", "", "", "", "")
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError('must look like "mqtt://host:1883", or "mqtts://host:8883" for TLS')
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user name or password: write them under username and password")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("must end after the port: topics belong to the meters")
    if not _resolvable(parts.hostname):
        raise ValueError("must name a host whose parts between the dots have 1 to 63 characters, without blanks")
    return Address(parts.hostname, _port(parts), parts.scheme == "mqtts")


def _resolvable(host: str) -> bool:
    """Whether the resolver will answer; at some names it raises instead."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return not any(letter.isspace() for letter in host)


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("must have a port between 1 and 65535")
    return port or PORTS[parts.scheme]


def _url(value: str) -> str:
    address_of(value)
    return value


def _topic(value: str) -> str:
    fault = filter_fault(value)
    if fault:
        raise ValueError(fault)
    return value


def _expression(value: str) -> str:
    from drivers.mqtt.expressions import compile_expression  # noqa: PLC0415 - a Modbus-only box never loads jmespath

    compile_expression(value)
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError('must be an IANA time zone such as "Europe/Helsinki"') from None
    except KeyError:
        raise ValueError('must be an IANA time zone known on this machine, such as "Europe/Helsinki"') from None
    return value


Expression = Annotated[str, AfterValidator(_expression), Words("a JMESPath expression in quotes")]


class Connection(Strict):
    """`[connections.NAME]` with `driver = "mqtt"`: one broker.

    The driver takes `password` as the secret itself: whoever builds it resolves the reference first
    (`connection.model_copy(update={"password": secret})`).
    """

    driver: Literal["mqtt"]
    url: Annotated[str, AfterValidator(_url), Words('a URL such as "mqtt://192.0.2.20:1883"')] = Field(
        description="Address of the broker: `mqtt://host:1883`, or `mqtts://host:8883` for TLS."
    )
    username: str | None = Field(None, min_length=1, description="User name at the broker.")
    password: str | None = Field(
        None,
        min_length=1,
        repr=False,
        description="Password at the broker: `credential:NAME` (systemd), `env:NAME`, `file:/PATH`, "
        "or the password itself (warned about).",
    )
    ca_file: str | None = Field(
        None,
        min_length=1,
        description="Certificate authority of the broker (PEM) where the system does not know it; only with `mqtts://`.",
    )
    cert_file: str | None = Field(
        None,
        min_length=1,
        description="This gateway's certificate (PEM), where the broker asks for one; only `mqtts://`.",
    )
    key_file: str | None = Field(
        None, min_length=1, description="Its private key (PEM), where `cert_file` does not hold it."
    )
    client_id: str | None = Field(
        None,
        min_length=1,
        max_length=65_535,
        description="MQTT client id; the broker keeps messages under it. Must be this gateway's alone. "
        "Default: made from this gateway's identity and the connection's name.",
    )
    protocol: Protocol = Field(
        "auto", description="`auto` begins with MQTT 5 and falls back to 3.1.1 where the broker does not speak it."
    )
    session_expiry: Annotated[Duration, Field(ge=0, le=0xFFFF_FFFE)] = Field(
        SESSION_EXPIRY,
        description="How long the broker is to keep messages for an absent gateway (MQTT 5; with 3.1.1 the broker "
        'decides). `"0s"`: not at all.',
    )
    keepalive: Annotated[Duration, Field(ge=5, le=3600)] = Field(
        30.0, description="Silence after which the connection is tested; a dead one is noticed after twice this time."
    )
    receive_maximum: int = Field(
        1000,
        ge=1,
        le=65_535,
        description="Messages that the broker may send ahead of the gateway's acknowledgements (MQTT 5; with 3.1.1 "
        "the broker's own limit).",
    )
    flush: Annotated[Duration, Field(ge=0, le=60)] = Field(
        FLUSH,
        description="Longest time for which messages are gathered before they are stored and acknowledged; sooner "
        "where the broker would have to wait, and in a connection's first minute. Shorter means more commits and more wear of the card.",
    )


class Source(SourceBase):
    """A meter's `source` on an MQTT connection."""

    topic: Annotated[str, AfterValidator(_topic), Words("a topic in quotes")] = Field(
        description="Topic of the meter's messages. With `+` or `#`, all topics that match are this one meter."
    )
    format: Format = Field(
        "auto",
        description="`raw`: the payload is one number. `json`: it is JSON. `auto`: `json` where `value` is given, "
        "else `raw`.",
    )
    value: Expression | None = Field(
        None,
        description="JMESPath of the number in the JSON payload; a number in quotes is taken too. "
        "Keys with `:` `.` `-` or blanks need double quotes: `'\"em:0\".total'`.",
    )
    time: Expression | None = Field(
        None,
        description="JMESPath of the reading's time in the JSON payload. Without it a reading gets the time of its "
        "arrival.",
    )
    time_format: TimeFormat = Field(
        "auto",
        description="`iso`, `epoch_s` or `epoch_ms`; `auto` takes text for ISO 8601 and numbers for seconds or "
        "milliseconds by their size.",
    )
    tz: Annotated[str, AfterValidator(_zone), Words('a time zone such as "Europe/Helsinki"')] | None = Field(
        None, description="IANA time zone of ISO times that name none. Without it such times are rejected."
    )
    use_retained: bool = Field(
        False,  # noqa: FBT003 - pydantic's default
        description="Whether a retained message without a time of its own is a reading of the moment of its arrival; "
        "only for counters.",
    )
    accept_double_count: bool = Field(
        False,  # noqa: FBT003 - pydantic's default
        description='Allows `kind = "interval"` without `time`, although MQTT may deliver a message twice and it then '
        "counts twice.",
    )


def reads_json(source: Source) -> bool:
    """Whether the payload is JSON."""
    return source.format == "json" or (source.format == "auto" and source.value is not None)


def kind_of(source: Source) -> str:
    """The kind of a source's number."""
    return source.kind or "counter"


def check(connection: BaseModel, sources: Mapping[str, BaseModel]) -> list[Fault]:
    """Mistakes that no single key shows."""
    found = _connection_faults(cast("Connection", connection))
    faults = [Fault(("connection", key), message) for key, message in found]
    for name, source in sources.items():
        faults += [Fault((name, key), message) for key, message in _source_faults(cast("Source", source))]
    return faults


def describe(source: BaseModel) -> SourceFacts:
    """What the gateway must know of a source."""
    source = cast("Source", source)
    where = f"{source.topic}, {source.value}" if source.value else source.topic
    return SourceFacts(
        unit=source.unit,
        kind=kind_of(source),
        where=where,
        rollover=None if source.rollover is None else str(source.rollover),
        resolution=None if source.resolution is None else str(source.resolution),
        register=f"{where} x {source.scale.normalize():f}",
    )


def pace(connection: BaseModel, source: BaseModel) -> float:
    """Seconds between two readings: as the operator expects them, else a quarter of an hour."""
    del connection
    return cast("Source", source).expected_every or PACE


def exclusive(connection: BaseModel) -> str | None:
    """A client id at a broker; the ones that the gateway makes differ by themselves."""
    settings = cast("Connection", connection)
    if settings.client_id is None:
        return None
    address = address_of(settings.url)
    return f'the client id "{settings.client_id}" at {address.host}:{address.port}'


def _connection_faults(connection: Connection) -> list[tuple[str, str]]:
    faults = []
    if connection.password and not connection.username:
        faults.append(("password", "needs username beside it"))
    for key in ("ca_file", "cert_file", "key_file"):
        path = getattr(connection, key)
        if path and not address_of(connection.url).tls:
            faults.append((key, "is of use only with mqtts://: this connection is not encrypted"))
        elif path and not is_file(path):
            faults.append((key, f"names a file that is not there: {path}"))
    if connection.key_file and not connection.cert_file:
        faults.append(("key_file", "needs cert_file beside it"))
    return faults


def _source_faults(source: Source) -> list[tuple[str, str]]:
    return [*_format_faults(source), *_time_faults(source), *_counting_faults(source)]


def _format_faults(source: Source) -> list[tuple[str, str]]:
    if reads_json(source):
        return []
    return [
        (key, f'is an expression into JSON: write format = "json", or leave out {key}')
        for key in ("value", "time")
        if getattr(source, key) is not None
    ]


def _time_faults(source: Source) -> list[tuple[str, str]]:
    faults = []
    if source.time is None and source.time_format != "auto":
        faults.append(("time_format", "needs time beside it: which part of the payload holds the time"))
    if source.time is None and source.tz:
        faults.append(("tz", "needs time beside it: which part of the payload holds the time"))
    if source.tz and kind_of(source) == "interval" and _changes(ZoneInfo(source.tz)):
        message = (
            'cannot tell apart the two hours of one name in autumn, and kind = "interval" would lose one of them: '
            'let the source send its zone, or name a zone without summer time such as "Etc/GMT-2"'
        )
        faults.append(("tz", message))
    return faults


def _counting_faults(source: Source) -> list[tuple[str, str]]:
    faults = []
    if kind_of(source) == "interval" and source.time is None and not source.accept_double_count:
        message = (
            'is needed for kind = "interval": MQTT may deliver a message twice, and only its own time shows that '
            "it is the same one; accept_double_count = true allows it all the same"
        )
        faults.append(("time", message))
    if source.use_retained and source.time is None and kind_of(source) != "counter":
        faults.append(("use_retained", f"is for counters: a retained {kind_of(source)} value has no age"))
    return faults


def _changes(zone: ZoneInfo) -> bool:
    """Whether a zone has two times in a year: by summer and winter, or by Ramadan."""
    begin = datetime(2026, 1, 1)  # noqa: DTZ001 - local on purpose
    return len({zone.utcoffset(begin + timedelta(days=day)) for day in range(366)}) > 1
