"""From messages to readings and rejections: which sources a topic serves, and what they find in it."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from drivers.base import LastRead
from drivers.mqtt.births import Births
from drivers.mqtt.payload import (
    Body,
    Found,
    Mapping,
    PayloadError,
    Sample,
    extract,
    extract_metric,
    mapping_of,
    printable,
)
from drivers.mqtt.source import edge_of
from drivers.mqtt.sparkplug import topic_of
from drivers.mqtt.topics import covers
from drivers.reading import Reading, Rejected

if TYPE_CHECKING:
    import collections.abc
    from datetime import datetime

    from drivers.base import KeyValues
    from drivers.mqtt.births import Told
    from drivers.mqtt.port import Message
    from drivers.mqtt.source import Source

RECORD_EVERY = 3600.0  # s between two records of the same thing that happens on healthy topics
ROUTES_KEPT = 4096  # topics whose sources are remembered; beyond it a wildcard meets endlessly many
PAYLOAD_SHOWN = 500  # characters, as `Rejected` says
RAW_SHOWN = 200  # characters, as `LastRead` says
TICK = timedelta(milliseconds=1)  # the resolution of stored readings
CLOCK_SET = timedelta(seconds=1)  # a wall clock that moves so far against boottime was set

NO_SOURCE = "no source for this topic"
NO_TOPIC = "topic is not text"
WAITED = "waited in the broker without a time"


class _Newest(NamedTuple):
    """The newest instant that a source was given, and the wall time of the boot by the clock of that moment."""

    at: datetime
    booted: datetime


class _Look:
    """One message, decoded at most once however many sources look into it."""

    def __init__(self, message: Message, births: Births) -> None:
        self.message = message
        self._births = births
        self._body = Body(message.payload)
        self._told: Told | PayloadError | None = None

    def found(self, mapping: Mapping) -> list[Found]:
        """What a source finds in it; nothing at all only where a Sparkplug message is about another device."""
        if mapping.form.format != "sparkplug":
            return extract(self._body, mapping, self.message.arrived)
        if self._told is None:
            self._told = self._understood()
        if isinstance(self._told, PayloadError):
            return [self._told]
        return extract_metric(self._told, mapping, self.message.arrived)

    def _understood(self) -> Told | PayloadError:
        topic = topic_of(self.message.topic)
        if topic is None:
            return PayloadError("not Sparkplug", "the topic is not spBv1.0/GROUP/KIND/NODE[/DEVICE]")
        try:
            return self._births.take(topic, self._body.data())
        except PayloadError as error:
            return error


class Translator:
    """Translates messages for the sources of one connection, and remembers the newest look at each."""

    def __init__(self, sources: collections.abc.Mapping[str, Source], memory: KeyValues | None = None) -> None:
        """`sources` by their ids. `memory`: where what Sparkplug nodes told of themselves is kept."""
        self._sources = sources
        self._mappings = {name: mapping_of(source) for name, source in sources.items()}
        self.births = Births(memory, (edge for edge in map(edge_of, sources.values()) if edge))
        self._routes: dict[str, tuple[str, ...]] = {}
        self._recorded: dict[tuple[str | None, str], float] = {}
        self._newest: dict[str, _Newest] = {}
        self.counts: Counter[str] = Counter()
        self.last_reads: dict[str, LastRead] = {}
        self.heard: dict[str, float] = {}  # source -> boottime of its newest reading, or rejection
        self.passed: dict[str, float] = {}  # source -> boottime of the newest message on its topic, whosesoever

    def translate(self, message: Message) -> list[Reading | Rejected]:
        """What one message says, to each source that it serves; what is a matter of course may be left out."""
        self.counts["messages"] += 1
        if not message.topic:
            return self._rejections(None, message, PayloadError(NO_TOPIC, "it is not UTF-8"))
        names = self._served(message.topic)
        if not names:
            return self._rejections(None, message, PayloadError(NO_SOURCE, message.topic[:200], expected=True))
        look = _Look(message, self.births)
        return [item for name in names for item in self._for_source(name, look)]

    def given_up(self, source: str, message: Message) -> list[Reading | Rejected]:
        """Take back a reading of this message: newer messages followed at once."""
        self.counts["readings"] -= 1
        return self._rejections(source, message, PayloadError(WAITED, "newer messages followed at once", expected=True))

    def _served(self, topic: str) -> tuple[str, ...]:
        route = self._routes.get(topic)
        if route is None:
            route = tuple(name for name, source in self._sources.items() if covers(source.topic, topic))
            if len(self._routes) >= ROUTES_KEPT:
                self._routes.clear()
            self._routes[topic] = route
        return route

    def _for_source(self, name: str, look: _Look) -> list[Reading | Rejected]:
        message = look.message
        items: list[Reading | Rejected] = []
        self.passed[name] = message.arrived.boottime
        for found in look.found(self._mappings[name]):
            try:
                items.append(self._reading(name, self._accepted(name, found, message), message))
                self.heard[name] = message.arrived.boottime
            except PayloadError as error:
                if not error.expected:  # what is rejected has words of its own
                    self.heard[name] = message.arrived.boottime
                self._look_failed(name, message, error)
                items += self._rejections(name, message, error)
        return items

    def _accepted(self, name: str, found: Found, message: Message) -> Sample:
        if isinstance(found, PayloadError):
            raise found
        if message.retain and found.at is None and not self._sources[name].use_retained:
            raise PayloadError("retained without a time", "its age is not known", expected=True)
        return found

    def _reading(self, name: str, sample: Sample, message: Message) -> Reading:
        source = self._sources[name]
        at = sample.at or self._arrival(name, message)
        reading = Reading(name, at, sample.value, source.unit or "", stamped=sample.at is not None)
        self.counts["readings"] += 1
        self.last_reads[name] = LastRead(
            at, printable(message.payload, RAW_SHOWN), reading.value, reading.unit, where=message.topic
        )
        return reading

    def _arrival(self, name: str, message: Message) -> datetime:
        """The time of arrival, moved where messages of one source came within the resolution of stored readings.

        A burst of any length keeps its order; only a wall clock that was set back begins anew.
        """
        arrived = message.arrived.wall
        at = arrived.replace(microsecond=arrived.microsecond // 1000 * 1000)
        booted = arrived - timedelta(seconds=message.arrived.boottime)
        newest = self._newest.get(name)
        if newest is not None and at <= newest.at and abs(booted - newest.booted) < CLOCK_SET:
            at = newest.at + TICK
        self._newest[name] = _Newest(at, booted)
        return at

    def _look_failed(self, name: str, message: Message, error: PayloadError) -> None:
        before = self.last_reads.get(name)
        if error.expected and before is not None and not before.problem:
            return  # a partial message among whole ones is no news
        raw = printable(message.payload, RAW_SHOWN)
        self.last_reads[name] = LastRead(message.arrived.wall, raw, problem=str(error), where=message.topic)

    def _rejections(self, name: str | None, message: Message, error: PayloadError) -> list[Reading | Rejected]:
        self.counts["ignored" if error.expected else "rejected"] += 1
        if error.expected and not self._worth_recording((name, error.reason), message.arrived.boottime):
            return []
        shown = printable(message.payload, PAYLOAD_SHOWN)
        return [Rejected(name, message.arrived.wall, error.reason, error.detail, shown)]

    def _worth_recording(self, what: tuple[str | None, str], boottime: float) -> bool:
        if boottime - self._recorded.get(what, float("-inf")) < RECORD_EVERY:
            return False
        self._recorded[what] = boottime
        return True
