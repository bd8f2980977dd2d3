"""The EnerKey contract: which paths and JSON names are spoken, as configuration, and requests filled in from it.

Public material gives the endpoint families, the time format and the key's header; paths and JSON names are
assumptions that an operator can correct in `[enerkey.contract]` (DESIGN 7).
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, NamedTuple
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, Field, model_validator

from drivers.fields import Strict, Words

if TYPE_CHECKING:
    from collections.abc import Collection

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_TARGET = re.compile(r"/[\x21\x22\x24-\x7e]*")  # a request line holds printable ASCII, no blank, no "#" (RFC 9112, 3.2)


class Endpoint(NamedTuple):
    """An endpoint of the contract taken apart: the method, and the path and query with their placeholders."""

    method: str
    target: str

    @property
    def placeholders(self) -> list[str]:
        """The names in braces, as often as they stand there."""
        return _PLACEHOLDER.findall(self.target)

    def filled(self, **values: str) -> str:
        """Path and query with each placeholder replaced by its value, URL-encoded."""
        return _PLACEHOLDER.sub(lambda match: quote(values[match[1]], safe=""), self.target)


def endpoint(text: str) -> Endpoint:
    """An endpoint as the contract writes it: `METHOD /path`."""
    method, _, target = text.partition(" ")
    return Endpoint(method, target)


def _checked(text: str, methods: Collection[str], allowed: Collection[str]) -> Endpoint:
    found = endpoint(text)
    if found.method not in methods or not _TARGET.fullmatch(found.target):
        raise ValueError(f'must be {" or ".join(methods)}, one blank and a path that begins with "/"')
    unknown = [name for name in found.placeholders if name not in allowed]
    if unknown:
        names = ", ".join(f"{{{name}}}" for name in allowed)
        raise ValueError(f"has the placeholder {{{unknown[0]}}}; allowed here: {names}")
    if re.search(r"[{}]", _PLACEHOLDER.sub("", found.target)):
        raise ValueError("has a brace that belongs to no placeholder; write %7B and %7D for braces that are meant")
    return found


def _push(text: str) -> str:
    _checked(text, ("POST", "PUT"), ("meter",))
    return text


def _values(text: str) -> str:
    names = _checked(text, ("GET",), ("meter", "meters", "from", "to")).placeholders
    missing = [name for name in ("from", "to") if name not in names]
    if missing:
        raise ValueError(f"needs the placeholder {{{missing[0]}}}: hours are read back as [from, to)")
    if ("meter" in names) == ("meters" in names):
        raise ValueError("needs exactly one of the placeholders {meter} and {meters}")
    return text


def _key(text: str) -> str:
    if not text.strip():
        raise ValueError("must name a JSON key")
    return text


PushEndpoint = Annotated[str, AfterValidator(_push), Words('an endpoint such as "POST /path?id={meter}"')]
ValuesEndpoint = Annotated[
    str, AfterValidator(_values), Words('an endpoint such as "GET /path?id={meter}&from={from}&to={to}"')
]
JsonKey = Annotated[str, AfterValidator(_key)]


class Contract(Strict):
    """`[enerkey.contract]`: the paths and JSON names of the EnerKey API. The defaults are assumptions: EnerKey may say otherwise."""

    push_consumptions: PushEndpoint = Field(
        default="POST /api/v2/Values/PushConsumptionsForMeter?meterId={meter}",
        description="Where hourly consumptions go: `POST` or `PUT`, one blank, path and query with `{meter}`.",
    )
    push_cumulative_readings: PushEndpoint = Field(
        default="POST /api/v2/Values/PushCumulativeReadingsForMeter?meterId={meter}",
        description="Where register readings go; written likewise, and another one than `push_consumptions`.",
    )
    hourly_values: ValuesEndpoint = Field(
        default="GET /api/v2/Values/Hourly?meterId={meter}&from={from}&to={to}",
        description="Where hours are read back, from `{from}` up to but not including `{to}`; `{meters}` instead of "
        "`{meter}` asks for several in one request, separated by commas.",
    )
    answer_meter_key: str = Field(
        default="meterId",
        description="Only with `{meters}`: key of the meter's id in every item of the answer. Empty: in the place of the array is "
        "an object with the ids as keys, and each meter's array behind its id.",
    )
    values_key: str = Field(default="", description="Key of the array in the body; empty: the body is the bare array.")
    timestamp_key: JsonKey = Field(default="timestamp", description="Key of an item's time.")
    value_key: JsonKey = Field(default="value", description="Key of an item's number.")
    meter_key: str = Field(
        default="",
        description="Key of the meter's id where that goes into the body: beside the array, or into every item of a bare "
        "array. Empty: the id stands in the path alone.",
    )

    @model_validator(mode="after")
    def _pushes_are_told_apart(self) -> Contract:
        if self.push_consumptions == self.push_cumulative_readings:
            raise ValueError(
                "push_consumptions and push_cumulative_readings must differ: one would be taken as the other"
            )
        for name in ("push_consumptions", "push_cumulative_readings"):
            if not self.meter_key and "meter" not in endpoint(getattr(self, name)).placeholders:
                raise ValueError(f"{name} has no {{meter}} and meter_key is empty: nothing tells which meter it is")
        return self

    @property
    def reads_many(self) -> bool:
        """Whether several meters can be read in one request."""
        return "meters" in endpoint(self.hourly_values).placeholders

    @model_validator(mode="after")
    def _keys_differ(self) -> Contract:
        item, around = [self.timestamp_key, self.value_key], [self.values_key] if self.values_key else []
        if self.meter_key:
            (around or item).append(self.meter_key)
        read = [self.timestamp_key, self.value_key, *([self.answer_meter_key] if self.reads_many else [])]
        if any(len(set(keys)) < len(keys) for keys in (item, around, read)):
            raise ValueError("has the same name for two JSON keys of one object; each needs its own")
        return self


def check_url(url: str) -> str:
    """The API's root without a trailing slash; ValueError says what is allowed. Plain http only to this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        host.encode("idna")  # as name resolution will; UnicodeError is a ValueError
    except ValueError:
        raise ValueError(
            'is no URL with a host and a port between 1 and 65535; write for example "https://api.enerkey.com"'
        ) from None
    if "@" in parts.netloc:  # and whatever stands before it stays unsaid
        raise ValueError("must not contain a user or a password: the key belongs into api_keys")
    if parts.scheme not in {"http", "https"} or not host or not _TARGET.fullmatch(f"/{url}") or "?" in url:
        raise ValueError('must be https://HOST or https://HOST/PATH, without "?" and "#"')
    if parts.scheme == "http" and not _loopback(host):
        raise ValueError("would send the key unencrypted: write https:// (http:// only to localhost)")
    return url.rstrip("/")


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
