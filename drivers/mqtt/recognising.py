"""Which presets a message fits: by its topic, or by the keys in it where it was published under another topic. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from itertools import islice, product
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from drivers.mqtt import preset as presets
from drivers.mqtt.figures import Figure, figures, form_of, is_usable, quoted
from drivers.mqtt.payload import Sample, extract, mapping_of
from drivers.mqtt.source import Source, paths
from drivers.mqtt.source_check import source_faults
from drivers.mqtt.values import PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from drivers.base import Now
    from drivers.mqtt.body import Body

MOST_TRIES = 200  # of names in a message that may stand for {device} or {channel}
MOST_NAMES = 60  # of either
MOST_WORDS = 5_000  # keys of a message that are looked at
BY_TOPIC, BY_KEYS, PER_KEY, NO_READING = 100, 50, 5, -30  # likeness
EXPRESSIONS = ("each", "where", "value", "time")

FORMS = ("strptime:%Y.%m.%d %H:%M:%S",)  # of times that are not ISO's: Tasmota's, once

_KEY = re.compile(r'"((?:[^"\\]|\\.)*)"|([A-Za-z_][A-Za-z0-9_]*)\b(?!\()')
_OPTIONAL = re.compile(r"not_null\([^)]*\)")
_TEXT = re.compile(r"'[^']*'|`[^`]*`")
_COMMON = {"value", "time", "timestamp", "ts", "t", "id", "Time"}  # keys that many senders use


class Fit(NamedTuple):
    """A source that a message fits. `sample` is None where it is no reading now, and `problem` says why."""

    keys: dict[str, Any]  # as an operator writes them, without connection and unit
    source: Source
    sample: Sample | None
    problem: str
    likeness: int  # the higher, the less it can be a coincidence
    by_topic: bool
    own_unit: bool  # the preset knows the unit
    chosen: bool  # a name of the message was put into a place of the preset
    unit: str  # as it stands beside the number


class _Point(NamedTuple):
    """One value that a preset knows, prepared."""

    preset: str
    point: str | None  # None: the first one, which need not be named
    known: dict[str, Any]
    needs: frozenset[str]
    topic: re.Pattern[str] | None
    literal: int  # characters of the topic that are the sender's own
    words: frozenset[str]  # keys that its expressions name
    texts: str  # its expressions

    @property
    def distinctive(self) -> bool:
        """Whether its keys alone tell the sender."""
        return len(self.words) > 1 and bool(self.words - _COMMON)


def fits(topic: str, body: Body, now: Now, zone: str) -> list[Fit]:
    """Every point of a preset that a message fits. `zone`: for those whose times name none."""
    return list(_Look(topic, body, now, zone).fits())


@cache
def _points() -> tuple[_Point, ...]:
    return tuple(_prepared(name, point) for name in presets.names() for point in presets.load(name).points)


def _prepared(name: str, point: str) -> _Point:
    preset = presets.load(name)
    known = {**preset.common, **preset.points[point]}
    topic = known.get("topic", "")
    texts = [
        each
        for key in EXPRESSIONS
        for each in paths(tuple(known[key]) if isinstance(known.get(key), list) else known.get(key))
    ]
    return _Point(
        name,
        None if point == next(iter(preset.points)) else point,
        known,
        frozenset(preset.needs),
        re.compile(_pattern(topic)) if topic else None,
        len(re.sub(r"\{\w+\}|[+#/]", "", topic)),
        frozenset(word for text in texts for word in _keys(text)),
        " ".join(texts),
    )


def _pattern(topic: str) -> str:
    """A topic with places in it; what stands in the first and in the last place may be several levels."""
    levels = topic.split("/")
    ends = {0, len(levels) - 1}
    return "/".join(
        "[^/]+"
        if level == "+"
        else re.sub(r"\\\{(\w+)\\\}", rf"(?P<\1>{'.+' if number in ends else '[^/]+'})", re.escape(level))
        for number, level in enumerate(levels)
    )


def _keys(expression: str) -> list[str]:
    """The keys that an expression needs, without those that a place stands for."""
    named = (quoted or plain for quoted, plain in _KEY.findall(_TEXT.sub("", _OPTIONAL.sub("", expression))))
    return [word for word in named if word and not presets.holes(word) and word not in presets.FILLINGS]


class _Look:
    """One message."""

    def __init__(self, topic: str, body: Body, now: Now, zone: str) -> None:
        self._topic = topic
        self._body = body
        self._now = now
        self._zone = zone
        decoded = form_of(body)
        self._document = decoded[1] if decoded else None
        self._format = decoded[0].format if decoded else ""
        self._figures: list[Figure] = figures(*decoded, now) if decoded else []
        self._nodes = list(islice(_objects(self._document), MOST_WORDS))
        self._words = {key for node in self._nodes for key in node}

    def fits(self) -> Iterator[Fit]:
        """Of every preset."""
        for point in _points():
            matched = point.topic.fullmatch(self._topic) if point.topic else None
            if not matched and not self._is_alike(point):
                continue
            named = {key: value for key, value in (matched.groupdict() if matched else {}).items() if value}
            if any(presets.filling_fault(value) for value in named.values()):
                continue
            table = {"preset": point.preset, **({"point": point.point} if point.point else {}), **named}
            table |= ({} if matched else {"topic": self._topic}) | ({"tz": self._zone} if "tz" in point.needs else {})
            places = sorted(presets.holes(point.texts) - set(named))
            for way in self._ways(point, table, places):
                if fit := self._fit(point, way, chosen=bool(places), by_topic=matched is not None):
                    yield fit

    def _is_alike(self, point: _Point) -> bool:
        """Whether the keys of the message are this sender's, whatever its topic."""
        if not point.words <= self._words:
            return False
        return point.distinctive or (point.topic is None and point.known.get("format") == self._format != "json")

    def _ways(self, point: _Point, table: dict[str, Any], places: list[str]) -> Iterator[tuple[dict[str, Any], str]]:
        """The table with what the preset asks for, and with names of the message in the places that its topic leaves open.

        And the unit that stands beside the number.
        """
        for asked, unit in self._asked(point):
            names = product(*(self._choices(point, place) for place in places))
            for chosen in islice(names, MOST_TRIES):
                yield table | asked | dict(zip(places, chosen, strict=True)), unit
        if wrapped := self._wrapped(point):
            yield table | wrapped, ""

    def _asked(self, point: _Point) -> Iterator[tuple[dict[str, Any], str]]:
        """What the preset asks for besides a zone, from the numbers that are there."""
        asked = point.needs & {"value", "where"}
        if not asked:
            yield {}, ""
            return
        for figure in self._figures[:MOST_NAMES]:
            value = point.known.get("value", figure.keys.get("value"))
            if figure.keys.get("value") == value and asked <= set(figure.keys):
                yield {key: figure.keys[key] for key in sorted(asked)}, figure.unit

    def _wrapped(self, point: _Point) -> dict[str, Any]:
        """The paths of value and time, where the whole message stands under one more key (Tasmota's StatusSNS)."""
        told = [point.known.get(key) for key in ("value", "time")]
        if not (
            isinstance(self._document, dict)
            and len(self._document) == 1
            and all(isinstance(each, str) for each in told)
        ):
            return {}
        ((key, inner),) = self._document.items()
        if (
            not isinstance(inner, dict)
            or key in point.words
            or not is_usable(key)
            or {"each", "where"} & set(point.known)
        ):
            return {}
        return {name: f"{quoted(key)}.{path}" for name, path in zip(("value", "time"), told, strict=True)}

    def _choices(self, point: _Point, place: str) -> list[str]:
        """Texts of the message that may stand in a place: values where it is in quotes, else keys."""
        as_value = f"'{{{place}}}'" in point.texts
        found: dict[str, None] = {}
        for node in self._nodes:
            of_node = (each for each in node.values() if isinstance(each, str | int)) if as_value else node
            found |= {str(each): None for each in of_node if not isinstance(each, bool)}
        return [name for name in found if not presets.filling_fault(name)][:MOST_NAMES]

    def _fit(self, point: _Point, way: tuple[dict[str, Any], str], *, chosen: bool, by_topic: bool) -> Fit | None:
        """The way tried on the message; `chosen`: names of the message were put into places."""
        keys, unit = way
        own_unit = "unit" in point.known
        usual = {} if own_unit else {"unit": "kWh"}
        source = source_of(usual | keys)
        sample, problem = self._read(source)
        for form in FORMS if problem.startswith("not a time: ") else ():
            other = source_of(usual | keys | {"time_format": form})
            if other and (found := self._read(other)[0]):
                keys, source, sample, problem = keys | {"time_format": form}, other, found, ""
        if source is None:
            return None
        doubted = chosen and not problem.startswith("time ")
        if sample is None and (doubted or not self._is_its_own(source, by_topic=by_topic)):
            return None
        likeness = (BY_TOPIC + point.literal if by_topic else BY_KEYS) + PER_KEY * len(point.words)
        likeness += NO_READING * (sample is None)
        return Fit(keys, source, sample, problem, likeness, by_topic, own_unit, chosen, unit)

    def _read(self, source: Source | None) -> tuple[Sample | None, str]:
        return _newest(extract(self._body, mapping_of(source), self._now)) if source else (None, "")

    def _is_its_own(self, source: Source, *, by_topic: bool) -> bool:
        """Whether a message that is no reading is this sender's all the same: the number is only refused, or null, now."""
        mapping = mapping_of(source)
        if mapping.form.format == "raw":
            return by_topic and self._document is None and self._is_absence()
        bare = replace(mapping, where=None, time=None, series=None)
        return _newest(extract(self._body, bare, self._now))[0] is not None or (by_topic and self._is_null(source))

    def _is_null(self, source: Source) -> bool:
        """Whether null stands where the number should."""
        node: object = self._document
        *above, last = [
            quoted or plain for path in paths(source.value)[:1] for quoted, plain in _KEY.findall(path)
        ] or [""]
        for key in above:
            node = node.get(key) if isinstance(node, dict) else None
        return isinstance(node, dict) and last in node and node[last] is None

    def _is_absence(self) -> bool:
        """Whether a text stands for a number that is not there now."""
        try:
            return self._body.text.casefold() in {"nan", "unavailable", "unknown", "none", "null"}
        except PayloadError:
            return False


def source_of(keys: Mapping[str, Any]) -> Source | None:
    """The source of these keys, if it has no mistake: topics and keys of hostile messages make some."""
    try:
        source = Source.model_validate({"connection": "broker", **keys})
    except ValidationError:
        return None
    return None if source_faults(source) else source


def _newest(found: list[Sample | PayloadError]) -> tuple[Sample | None, str]:
    """The last sample, or why there is none."""
    samples = [each for each in found if isinstance(each, Sample)]
    return (samples[-1], "") if samples else (None, str(found[0]))


def _objects(document: object) -> Iterator[dict[str, Any]]:
    """Every object of a document, the outer ones first."""
    nodes = [document]
    for node in nodes:
        if len(nodes) > MOST_WORDS:
            return
        if isinstance(node, dict):
            yield node
            nodes += node.values()
        elif isinstance(node, list):
            nodes += node
