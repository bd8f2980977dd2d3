"""Mistakes in a source that no single key shows."""

from __future__ import annotations

import difflib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from drivers.mqtt import preset as presets
from drivers.mqtt.source import Source, format_of, kind_of
from drivers.mqtt.sparkplug import topic_of
from drivers.mqtt.stamps import Zone, zone_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Said = tuple[str, str]  # key, message

EXPRESSIONS = ("each", "where", "value", "time", "deltas")
WITH_HOLES = ("topic", *EXPRESSIONS, "metric", "poke_topic")
NEEDS_TIME = {
    "time_format": "needs time beside it: which part of the payload holds the time",
    "tz": "needs time beside it: which part of the payload holds the time",
}


def source_faults(source: Source) -> list[Said]:
    """Everything, as key and message: of a key the first thing."""
    parts = (_preset_faults, _hole_faults, _format_faults, _sparkplug_faults, _time_faults, _series_faults)
    faults = [fault for part in (*parts, _counting_faults, _poke_faults) for fault in part(source)]
    return list(dict(reversed(faults)).items())[::-1]


def _preset_faults(source: Source) -> Iterator[Said]:
    if source.preset is None:
        if source.point is not None:
            yield "point", "needs preset beside it"
        return
    preset = presets.found(source.preset)
    if preset is None:
        yield "preset", _unknown("preset", source.preset, presets.names())
        return
    if source.point is not None and source.point not in preset.points:
        yield "point", _unknown("point", source.point, preset.points)
    for key, why in preset.needs.items():
        if getattr(source, key) is None:
            yield key, f"missing: {why}"


def _hole_faults(source: Source) -> Iterator[Said]:
    missing = {hole: key for key in WITH_HOLES for hole in presets.holes(getattr(source, key))}
    for hole, key in missing.items():
        yield hole, f"missing: {key} holds {{{hole}}}, write what stands there"


def _format_faults(source: Source) -> Iterator[Said]:
    form = format_of(source)
    if form == "raw":
        for key in EXPRESSIONS:
            if getattr(source, key) is not None:
                yield key, f'is an expression into JSON: write format = "json", or leave out {key}'
    if form in {"csv", "influx"} and source.value is None:
        yield "value", f"missing: which {'column' if form == 'csv' else 'field'} of the {form} holds the number"
    if form != "csv":
        if source.separator is not None:
            yield "separator", 'is only for format = "csv"'
        if not source.header:
            yield "header", 'is only for format = "csv"'


def _sparkplug_faults(source: Source) -> Iterator[Said]:
    if format_of(source) != "sparkplug":
        for key in ("metric", "rebirth"):
            if getattr(source, key):
                yield key, 'is only for format = "sparkplug"'
        return
    if source.metric is None:
        yield "metric", "missing: the metric's name, as the node's BIRTH message has it"
    for key in EXPRESSIONS:
        if getattr(source, key) is not None:
            yield key, "is an expression into JSON, and Sparkplug has metrics: write metric, or leave it out"
    topic = topic_of(source.topic)
    if topic is None or topic.kind != "+" or topic.device != "#" or {topic.group, topic.node} & {"+", "#"}:
        yield (
            "topic",
            'must be "spBv1.0/GROUP/+/NODE/#": names are told in BIRTH messages, values follow in DATA messages',
        )


def _time_faults(source: Source) -> Iterator[Said]:
    if source.time is None:
        if source.time_format != "auto":
            yield "time_format", NEEDS_TIME["time_format"]
        if source.tz:
            yield "tz", NEEDS_TIME["tz"]
    if source.tz and kind_of(source) == "interval" and _changes(zone_of(source.tz)):
        message = (
            'cannot tell apart the two hours of one name in autumn, and kind = "interval" would lose one of them: '
            'let the source send its zone, or name a zone without summer time such as "+02:00"'
        )
        yield "tz", message


def _series_faults(source: Source) -> Iterator[Said]:
    if source.deltas is None:
        for key, unwritten in (("step", None), ("time_marks", "last")):
            if getattr(source, key) != unwritten:
                yield key, "needs deltas beside it: which part of the payload holds the increments"
        return
    if source.step is None:
        yield "step", 'missing: the time between two of the deltas, such as "1h"'
    if source.time is None:
        yield "time", "missing: deltas need the instant to count from"
    if kind_of(source) != "counter":
        yield "deltas", "become readings of a counter: leave out kind, or leave out deltas"


def _counting_faults(source: Source) -> Iterator[Said]:
    stamped = source.time is not None or format_of(source) == "sparkplug"
    if kind_of(source) == "interval" and not stamped and not source.accept_double_count:
        message = (
            'is needed for kind = "interval": MQTT may deliver a message twice, and only its own time shows that '
            "it is the same one; accept_double_count = true allows it all the same"
        )
        yield "time", message
    if source.use_retained and not stamped and kind_of(source) != "counter":
        yield "use_retained", f"is for counters: a retained {kind_of(source)} value has no age"
    if source.offset and kind_of(source) != "counter":
        yield "offset", f'is only for kind = "counter": it would be added to every {kind_of(source)} value'


def _poke_faults(source: Source) -> Iterator[Said]:
    if source.poke_topic is None and source.poke_payload:
        yield "poke_payload", "needs poke_topic beside it"
    if source.poke_topic is not None and {"+", "#"} & set(source.poke_topic.split("/")):
        yield "poke_topic", "must be one topic, without + and #"


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    meant = f'; did you mean "{close[0]}"?' if close else ""
    return f'unknown {what} "{name}"; there are: {", ".join(names)}{meant}'


def _changes(zone: Zone) -> bool:
    """Whether a zone has two times in a year: by summer and winter, or by Ramadan."""
    begin = datetime(2026, 1, 1)  # noqa: DTZ001 - local on purpose
    return len({zone.utcoffset(begin + timedelta(days=day)) for day in range(366)}) > 1
