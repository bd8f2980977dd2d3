"""From a message to exact numbers and the times they belong to. Pure: `now` is given, nothing is kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import reduce
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from drivers.base import Now
from drivers.mqtt.births import Told, refusal
from drivers.mqtt.body import LONGEST, Body, Form
from drivers.mqtt.expressions import Expression, ExpressionFailed, compile_expression, find
from drivers.mqtt.source import Source, format_of, paths
from drivers.mqtt.sparkplug import Metric, number_in
from drivers.mqtt.stamps import StampForm, believed, from_epoch, instant_of, zone_of
from drivers.mqtt.values import EXACT, PayloadError, bounded, kind_word, number_of, printable, scaled, text_number

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LONGEST", "Body", "Mapping", "PayloadError", "Sample", "extract", "mapping_of", "printable"]

MOST_ITEMS = 2_000  # of one source in one message; a year of days, or a month of quarters of an hour twice
SPARKPLUG_READINGS = {"NBIRTH", "DBIRTH", "NDATA", "DDATA", "NDEATH", "DDEATH"}


class Sample(NamedTuple):
    """A number with the source's scale and offset applied, and its own time (aware UTC) where it has one."""

    value: Decimal
    at: datetime | None


Found = Sample | PayloadError


@dataclass(frozen=True, slots=True)
class Series:
    """Increments that follow a value."""

    deltas: tuple[Expression, ...]
    step: timedelta
    from_last: bool


@dataclass(frozen=True, slots=True)
class Mapping:
    """A source's way from payload to samples, compiled once. No `values`: the whole document is the number."""

    form: Form
    each: Expression | None
    where: Expression | None
    values: tuple[Expression, ...]
    time: Expression | None
    stamp: StampForm
    scale: Decimal
    offset: Decimal
    series: Series | None
    metric: str
    device: str
    whole: bool  # the document is looked into as one thing, whatever is in it


def mapping_of(source: Source) -> Mapping:
    """Compile what the operator wrote."""
    step = timedelta(seconds=source.step or 0)
    deltas = _compiled(paths(source.deltas))
    return Mapping(
        form=Form(format_of(source), source.header, "\t" if source.separator == "tab" else source.separator),
        each=_compiled(paths(source.each))[0] if source.each else None,
        where=_compiled(paths(source.where))[0] if source.where else None,
        values=_compiled(paths(source.value)),
        time=_compiled(paths(source.time))[0] if source.time else None,
        stamp=StampForm(source.time_format, zone_of(source.tz) if source.tz else None),
        scale=source.scale,
        offset=source.offset,
        series=Series(deltas, step, source.time_marks == "last") if deltas else None,
        metric=source.metric or "",
        device=source.device or "",
        whole=format_of(source) == "json" and source.each is None and source.where is None,
    )


def _compiled(texts: tuple[str, ...]) -> tuple[Expression, ...]:
    return tuple(compile_expression(each) for each in texts)


def extract(body: Body, mapping: Mapping, now: Now) -> list[Found]:
    """The samples that a source finds in a message, and why others are none; at least one of either. Never raises.

    `now` bounds the source's times above, and only if the clock is trusted.
    """
    try:
        if mapping.form.format == "raw":
            return [Sample(scaled(text_number(body.text), mapping.scale, mapping.offset), None)]
        document = body.read(mapping.form)
        if mapping.whole:
            return _of_item(document, mapping, now)
        items = _items(document, mapping)
    except PayloadError as error:
        return [error]
    judged = [(item, _judged(item, mapping)) for item in items]
    fitting = [(item, doubt) for item, doubt in judged if doubt is not False]
    if not fitting:
        why = "where is not met" if items else "no value at the path"
        return [PayloadError(why, expected=True)]
    found: list[Found] = []
    for item, doubt in fitting:
        found += [doubt] if isinstance(doubt, PayloadError) else _of_item(item, mapping, now)
        if len(found) > MOST_ITEMS:
            return [PayloadError("too many items", f"more than {MOST_ITEMS} readings")]
    return found


def extract_metric(told: Told, mapping: Mapping, now: Now) -> list[Found]:
    """The same of a Sparkplug message, whose metrics have times of their own; nothing where it is about another device."""
    if told.topic.device != mapping.device or told.topic.kind not in SPARKPLUG_READINGS:
        return []
    metrics = told.metrics.get(mapping.metric, ())
    return [_of_metric(each, told, mapping, now) for each in metrics[:MOST_ITEMS]] or [refusal(told, mapping.metric)]


def _of_metric(metric: Metric, told: Told, mapping: Mapping, now: Now) -> Found:
    try:
        value = scaled(number_in(metric), mapping.scale, mapping.offset)
        stamp = metric.timestamp if metric.timestamp is not None else told.payload.timestamp
        return Sample(value, None if stamp is None else believed(from_epoch(Decimal(stamp), "epoch_ms"), now))
    except PayloadError as error:
        return error


def _items(document: object, mapping: Mapping) -> list[object]:
    """What is looked into by itself: the whole document, or the items of an array in it."""
    if mapping.each is None and mapping.form.format == "json":
        return [document]
    found = document if mapping.each is None else _find(mapping.each, document)
    if found is None:
        raise PayloadError("no value at the path", expected=True)
    if not isinstance(found, list):
        raise PayloadError("each is not an array")
    if len(found) > MOST_ITEMS:
        raise PayloadError("too many items", f"{len(found)}, at most {MOST_ITEMS}")
    return found


def _judged(item: object, mapping: Mapping) -> bool | PayloadError:
    """Whether `where` means the item; an error where it cannot tell, which is the item's then."""
    if mapping.where is None:
        return True
    try:
        met = _find(mapping.where, item)
    except PayloadError as error:
        return error
    if met is None or isinstance(met, bool):
        return bool(met)
    return PayloadError("where is neither true nor false", kind_word(met))


def _of_item(item: object, mapping: Mapping, now: Now) -> list[Found]:
    try:
        number = _sum(item, mapping.values) if mapping.values else number_of(item)
        value = scaled(number, mapping.scale, mapping.offset)
        at = instant_of(_find(mapping.time, item), mapping.stamp, now) if mapping.time else None
        if mapping.series is None or at is None:
            return [Sample(value, at)]
        deltas = _deltas(item, mapping.series, mapping.scale)
        return [Sample(each, believed(when, now)) for each, when in _series(value, at, deltas, mapping.series)]
    except PayloadError as error:
        return [error]


def _sum(item: object, values: tuple[Expression, ...]) -> Decimal:
    return bounded(reduce(EXACT.add, (number_of(_find(each, item)) for each in values)))


def _deltas(item: object, series: Series, scale: Decimal) -> list[Decimal]:
    found = [_find(each, item) for each in series.deltas]
    parts = found[0] if len(found) == 1 and isinstance(found[0], list) else found
    if len(parts) > MOST_ITEMS:
        raise PayloadError("too many items", f"{len(parts)}, at most {MOST_ITEMS}")
    if any(part is None for part in parts):
        raise PayloadError("an increment is missing", f"{len(parts)} are expected", expected=True)
    return [scaled(number_of(part), scale) for part in parts]


def _series(value: Decimal, at: datetime, deltas: list[Decimal], series: Series) -> Iterator[tuple[Decimal, datetime]]:
    """The value and what it became with each increment; the newest at `at`, or the oldest."""
    try:
        begin = at - series.step * len(deltas) if series.from_last else at
        for number, reading in enumerate(accumulate(deltas, EXACT.add, initial=value)):
            yield bounded(reading), begin + series.step * number
    except OverflowError:
        raise PayloadError("not a time", f"{len(deltas)} steps from {at.isoformat()}") from None


def _find(expression: Expression, document: object) -> object:
    try:
        return find(expression, document)
    except ExpressionFailed as error:
        raise PayloadError("expression failed", str(error)) from None
