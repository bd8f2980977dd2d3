"""Sparkplug B payloads and topics. Pure: no protobuf library, no alias table (that is `drivers.mqtt.births`).

Source: eclipse-sparkplug/sparkplug, specification/src/main/asciidoc/chapters/Sparkplug_6_Payloads.adoc, and the wire
format of protocol buffers. Every wire type is checked, every varint is bounded, nothing is nested: what the decoder has no
use for (metadata, properties, data sets, templates) is skipped by its length.
"""

from __future__ import annotations

import struct
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from drivers.mqtt.values import PayloadError, bounded

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACE = "spBv1.0"
MOST_METRICS = 10_000  # in one message

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_SIGNED = {1: 8, 2: 16, 3: 32, 4: 64}  # datatype -> bits
_UNSIGNED = {5: 8, 6: 16, 7: 32, 8: 64}
_FLOAT, _DOUBLE = 9, 10
_NUMERIC = {*_SIGNED, *_UNSIGNED, _FLOAT, _DOUBLE}

_METRIC = {  # field -> name and wire type; the value's fields share one place (oneof): the last one counts
    1: ("name", _BYTES),
    2: ("alias", _VARINT),
    3: ("timestamp", _VARINT),
    4: ("datatype", _VARINT),
    5: ("is_historical", _VARINT),
    7: ("is_null", _VARINT),
    10: ("int_value", _VARINT),
    11: ("long_value", _VARINT),
    12: ("float_value", _FIXED32),
    13: ("double_value", _FIXED64),
    14: ("boolean_value", _VARINT),
    15: ("string_value", _BYTES),
}
_VALUES = {"int_value", "long_value", "float_value", "double_value", "boolean_value", "string_value"}
_OTHER_VALUES = {16: "bytes_value", 17: "dataset_value", 18: "template_value", 19: "extension_value"}
_PAYLOAD = {1: _VARINT, 2: _BYTES, 3: _VARINT}


class Topic(NamedTuple):
    """`spBv1.0/GROUP/KIND/NODE[/DEVICE]`; `device` is "" for the edge node itself."""

    group: str
    kind: str
    node: str
    device: str

    @property
    def edge(self) -> str:
        """The edge node that it is about."""
        return f"{self.group}/{self.node}"


class Metric(NamedTuple):
    """One metric as it was sent. `field` names the field that held the value; "" where there is none."""

    name: str | None = None
    alias: int | None = None
    timestamp: int | None = None  # ms since 1970, UTC
    datatype: int | None = None
    is_historical: bool = False
    is_null: bool = False
    field: str = ""
    value: float | str | bool | None = None


class Payload(NamedTuple):
    """One message."""

    timestamp: int | None
    seq: int | None
    metrics: tuple[Metric, ...]


def topic_of(text: str) -> Topic | None:
    """The parts of a topic; None where it is no Sparkplug topic."""
    levels = text.split("/")
    if len(levels) not in {4, 5} or levels[0] != NAMESPACE or not all(levels):
        return None
    return Topic(levels[1], levels[2], levels[3], levels[4] if len(levels) == 5 else "")


def decode(data: bytes) -> Payload:
    """A message's payload; raises PayloadError."""
    found: dict[int, int] = {}
    metrics: list[Metric] = []
    for field, wire, value in _fields(data):
        _check(field, wire, _PAYLOAD.get(field))
        if field == 2 and isinstance(value, bytes):
            if len(metrics) >= MOST_METRICS:
                raise PayloadError("not Sparkplug", f"more than {MOST_METRICS} metrics")
            metrics.append(_metric(value))
        elif isinstance(value, int):
            found[field] = value
    return Payload(found.get(1), found.get(3), tuple(metrics))


def number_in(metric: Metric) -> Decimal:
    """The number that a metric holds, by its datatype; raises PayloadError."""
    value = metric.value
    if metric.is_null or not metric.field:
        raise PayloadError("no value at the path", "the metric is null", expected=True)
    if metric.field in {"float_value", "double_value"} and metric.datatype in {None, _FLOAT, _DOUBLE}:
        return _of_float(float(value or 0), single=metric.field == "float_value")
    if isinstance(value, bool) or not isinstance(value, int) or metric.datatype not in {None, *_NUMERIC}:
        raise PayloadError("not a number", f"datatype {metric.datatype}, {metric.field}")
    if metric.datatype is None:
        raise PayloadError("datatype not known", "no BIRTH message has told it yet", expected=True)
    return bounded(Decimal(_integer(value, metric.datatype)))


def rebirth_request(now_ms: int) -> bytes:
    """The payload by which a host asks an edge node for its BIRTH messages (NCMD, `Node Control/Rebirth` = true)."""
    name = b"Node Control/Rebirth"
    metric = b"\x0a" + bytes([len(name)]) + name + b"\x18" + _varint(now_ms) + b"\x20\x0b\x70\x01"
    return b"\x08" + _varint(now_ms) + b"\x12" + bytes([len(metric)]) + metric


def _integer(value: int, datatype: int) -> int:
    """Signed types are two's complement, in as many bits as they have or in all of the field's."""
    bits = _SIGNED.get(datatype)
    if bits is None:
        if datatype in _UNSIGNED and value >> _UNSIGNED[datatype] == 0:
            return value
        raise PayloadError("not a number", f"{value} is beyond datatype {datatype}")
    for wide in (bits, 32, 64):
        number = value - (1 << wide) if value >> (wide - 1) == 1 else value
        if -(1 << (bits - 1)) <= number < 1 << (bits - 1):
            return number
    raise PayloadError("not a number", f"{value} is beyond datatype {datatype}")


def _of_float(value: float, *, single: bool) -> Decimal:
    """The shortest decimal that is this float; raises PayloadError for NaN and infinity."""
    if value != value or value in {float("inf"), float("-inf")}:  # noqa: PLR0124 - NaN
        raise PayloadError("not a number", repr(value))
    if not single:
        return bounded(Decimal(repr(value)))
    digits = (f"{value:.{precision}g}" for precision in range(1, 10))
    return bounded(Decimal(next(each for each in digits if _as_single(float(each)) == value)))


def _as_single(value: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:  # rounded up beyond the largest
        return float("inf")


# --- the wire format --------------------------------------------------------------------------------------------------


def _metric(data: bytes) -> Metric:
    found: dict[str, int | float | str | bool] = {}
    kind = ""
    for field, wire, value in _fields(data):
        if field in _OTHER_VALUES:
            _check(field, wire, _BYTES)
            kind = _OTHER_VALUES[field]
            continue
        name, wanted = _METRIC.get(field, ("", None))
        _check(field, wire, wanted)
        if not name:
            continue
        found[name] = _typed(name, value)
        kind = name if name in _VALUES else kind
    held = found.get(kind)
    keys = ("name", "alias", "timestamp", "datatype", "is_historical", "is_null")
    return Metric(**{key: found[key] for key in keys if key in found}, field=kind, value=held)  # type: ignore[arg-type]


def _typed(name: str, value: int | bytes) -> int | float | str | bool:
    if isinstance(value, int):
        if name in {"datatype", "int_value"}:
            return value & 0xFFFF_FFFF  # uint32, as protobuf cuts them
        return bool(value) if name.startswith(("is_", "boolean")) else value
    if name == "float_value":
        return float(struct.unpack("<f", value)[0])
    if name == "double_value":
        return float(struct.unpack("<d", value)[0])
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise PayloadError("not Sparkplug", f"{name} is not UTF-8") from None


def _check(field: int, wire: int, wanted: int | None) -> None:
    if wanted is not None and wire != wanted:
        raise PayloadError("not Sparkplug", f"field {field} with wire type {wire}")


def _fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Field number, wire type and content of everything in a message; raises PayloadError."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        field, wire = key >> 3, key & 7
        if not 0 < field < 1 << 29:
            raise PayloadError("not Sparkplug", f"field {field}")
        if wire == _VARINT:
            number, at = _read_varint(data, at)
            yield field, wire, number
            continue
        length = {_FIXED64: 8, _FIXED32: 4}.get(wire)
        if wire == _BYTES:
            length, at = _read_varint(data, at)
        if length is None:
            raise PayloadError("not Sparkplug", f"wire type {wire}")
        if at + length > len(data):
            raise PayloadError("not Sparkplug", "it ends too early")
        yield field, wire, data[at : at + length]
        at += length


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of up to 64 bits and the position behind it."""
    number = 0
    for position, byte in enumerate(data[at : at + 10]):
        number |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, at + position + 1
    raise PayloadError("not Sparkplug", "a number that does not end")


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
