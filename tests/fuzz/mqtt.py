"""What a fuzzer calls in the MQTT driver: each function takes any bytes as what a publisher sends; what it raises is a bug."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from drivers.base import Now
from drivers.mqtt import preset as presets
from drivers.mqtt.port import Message
from drivers.mqtt.source import Source
from drivers.mqtt.sparkplug import decode, number_in
from drivers.mqtt.translator import Translator
from drivers.mqtt.values import PayloadError
from drivers.reading import Reading, Rejected

WALL = datetime(2026, 11, 26, 2, tzinfo=UTC)
NOW = Now(1000.0, WALL, trusted=True)
PLANT = {"topic": "spBv1.0/group/+/edge1/#", "format": "sparkplug", "device": "meter1"}
OWN_WORDS = {"value": "[0]", "where": "a!='b'"}


def every_point() -> dict[str, Source]:
    """Every point of every preset, and the forms that none has, all on one topic: each message meets each of them."""
    found = {}
    for name in presets.names():
        preset = presets.load(name)
        asked = {key: text for key, text in OWN_WORDS.items() if key in preset.needs}
        for point in preset.points if preset.common.get("format") != "sparkplug" else ():
            fillings = {"device": "m1", "channel": "energy", "topic": "t", "unit": "kWh", "tz": "Europe/Helsinki"}
            table = {"connection": "hall", "preset": name, "point": point, **fillings, **asked}
            found[f"{name}.{point}"] = Source.model_validate(table)
    more = {
        "raw": {},
        "csv": {"format": "csv", "value": "energy"},
        "rows": {"format": "csv", "header": False, "value": "[0]", "time": "[1]", "tz": "UTC"},
        "lines": {"format": "influx", "value": "fields.energy", "time": "time"},
        "sum": {"value": ["a", "b", "c[0]"]},
        "series": {"value": "v", "time": "t", "deltas": "d", "step": "366d", "time_marks": "first"},
        "items": {"each": "@", "format": "json", "value": "v", "time": "t", "offset": "5", "scale": "1e12"},
        "strptime": {"value": "v", "time": "t", "time_format": "strptime:%Y.%m.%d %H:%M:%S", "tz": "+01:00"},
        "deep": {"value": "sum(*.*[].v)", "where": "length(@) > `0`"},
        "joined": {"value": "to_number(join('', [a, b]))", "where": "contains(keys(@), 'a')"},
        "sorted": {"value": "sort_by(@, &v)[-1].v", "format": "json"},
    }
    return found | {
        name: Source.model_validate({"connection": "hall", "topic": "t", "unit": "kWh", **keys})
        for name, keys in more.items()
    }


EVERY = Translator(every_point())
FEW = Translator(
    {
        name: EVERY._sources[name]
        for name in ("csv", "rows", "lines", "sum", "series", "items", "strptime", "deep", "joined", "sorted")
    }
)
SPARKPLUG = {
    name: Source.model_validate({"connection": "hall", "unit": "kWh", "metric": metric, **PLANT})
    for name, metric in (("energy", "Energy/Active Import"), ("water", "Volume/Water"), ("net", "Energy/Net"))
}


def take(translator: Translator, payload: bytes, topic: str = "t") -> list[Reading | Rejected]:
    """What one message gives; everything in it can be stored."""
    items = translator.translate(Message(1, 1, 1, topic, payload, retain=False, arrived=NOW))
    for item in items:
        if isinstance(item, Reading):
            assert type(item.value).__name__ == "Decimal"
            assert item.value.is_finite()
            assert abs(item.value) < 10**18
            assert datetime(2015, 1, 1, tzinfo=UTC) <= item.at <= WALL + timedelta(minutes=5)
        else:
            (item.reason + item.detail + item.payload).encode()  # SQLite takes no lone surrogates
            assert len(item.payload) <= 500
            assert len(item.detail) <= 300
    return items


def outcomes(data: bytes) -> list[Decimal | str]:
    """The numbers in a payload, or the reasons why not; any other error goes on."""
    try:
        metrics = decode(data).metrics
    except PayloadError as refused:
        return [refused.reason]
    found: list[Decimal | str] = []
    for metric in metrics:
        try:
            found.append(number_in(metric))
        except PayloadError as refused:
            found.append(refused.reason)
    return found


def message(data: bytes) -> None:
    """One byte chooses between all mappings and those that no preset has; the rest is a message to them."""
    take(EVERY if data[:1] == b"\xff" else FEW, data[1:])


KINDS = ("NBIRTH", "DBIRTH", "DDATA", "NDATA", "DDEATH", "NDEATH", "DCMD", "STATE")


def sparkplug(data: bytes) -> None:
    """Messages of one node, one after the other: a byte for the kind, a byte for the length, the payload."""
    translator = Translator(SPARKPLUG)
    for kind, payload in pieces(data):
        device = "/meter1" if kind.startswith("D") else ""
        take(translator, payload, f"spBv1.0/group/{kind}/edge1{device}")
    outcomes(data)


def pieces(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Cut as `sparkplug` says."""
    while len(data) > 1:
        yield KINDS[data[0] % len(KINDS)], data[2 : 2 + data[1]]
        data = data[2 + data[1] :]
