"""What an operator writes about an MQTT broker and about a topic. Importing this imports neither paho nor jmespath."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, cast
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, Field

from drivers.fields import Duration, Strict, Words, is_file
from drivers.mqtt.source import Source, kind_of, paths
from drivers.mqtt.source_check import source_faults
from drivers.registry import Fault, Needs, SourceFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

PACE = 900.0  # s between two readings when the operator does not say (DESIGN 5)
PORTS = {"mqtt": 1883, "mqtts": 8883}
FLUSH = 25.0  # s; 200 meters at 60 s then write 70 MB a day (10 s: 140), and brokers that send again wait 30 s or more
SESSION_EXPIRY = 7 * 86_400.0  # s; reliability 3.5: at least a week of outage

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


def check(connection: BaseModel, sources: Mapping[str, BaseModel]) -> list[Fault]:
    """Mistakes that no single key shows."""
    found = _connection_faults(cast("Connection", connection))
    faults = [Fault(("connection", key), message) for key, message in found]
    for name, source in sources.items():
        faults += [Fault((name, key), message) for key, message in source_faults(cast("Source", source))]
    return faults


def cautions(connection: BaseModel, sources: Mapping[str, BaseModel]) -> list[Fault]:
    """Nothing that `check` does not say."""
    del connection, sources
    return []


def describe(source: BaseModel) -> SourceFacts:
    """What the gateway must know of a source."""
    source = cast("Source", source)
    where = ", ".join((source.topic, *_within(source)))
    return SourceFacts(
        unit=source.unit,
        kind=kind_of(source),
        where=where,
        rollover=None if source.rollover is None else str(source.rollover),
        resolution=None if source.resolution is None else str(source.resolution),
        register=f"{where} x {source.scale.normalize():f}{_further(source)}",
    )


def _within(source: Source) -> list[str]:
    """Where in the message the number is: what tells a source from another one of the same topic."""
    fillings = {key: getattr(source, key) for key in ("device", "channel")}
    by_name = {key: text for key, text in fillings.items() if text and f"/{text}/" not in f"/{source.topic}/"}
    chosen = source.where if not any(fillings.values()) else None  # else it is the name that tells them apart
    parts = {"each": source.each, "where": chosen, **by_name, "": source.metric or " + ".join(paths(source.value))}
    return [f"{word} {part}".strip() for word, part in parts.items() if part]


def _further(source: Source) -> str:
    """What else makes a counter another one. Nothing where it is not written: a new release opens no new epoch."""
    return f" + {source.offset.normalize():f}" if source.offset else ""


def pace(connection: BaseModel, source: BaseModel) -> float:
    """Seconds between two readings: as the operator expects them, else a quarter of an hour."""
    del connection
    return cast("Source", source).expected_every or PACE


def files(source: BaseModel) -> Mapping[str, type[BaseModel]]:
    """None: presets are shipped."""
    del source
    return {}


def exclusive(connection: BaseModel) -> str | None:
    """A client id at a broker; the ones that the gateway makes differ by themselves."""
    settings = cast("Connection", connection)
    if settings.client_id is None:
        return None
    address = address_of(settings.url)
    return f'the client id "{settings.client_id}" at {address.host}:{address.port}'


def needs(connection: BaseModel) -> Needs:
    """Our thread, paho's and, while a broker is waited for, a timer's; paho has a pair of sockets beside the broker's."""
    del connection
    return Needs(tasks=3, files=3)


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
