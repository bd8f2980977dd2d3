"""What Sparkplug edge nodes told in their BIRTH messages: the names and types behind the aliases of later messages.

Kept in the driver's memory, so that a gateway that starts anew understands DATA messages at once. An edge node's BIRTH
messages come when it connects; who missed them can ask for a new one (`rebirth`), which is a command to the plant.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from drivers.base import NotStored
from drivers.mqtt.sparkplug import Metric, Payload, Topic, decode
from drivers.mqtt.values import PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from drivers.base import KeyValues

MEMORY = "sparkplug/"  # + GROUP/NODE: key in the driver's memory
MOST_ALIASES = 20_000  # of one edge node with all its devices; more are not remembered

Aliases = dict[str, tuple[str, int | None]]  # alias -> name, datatype; JSON has text keys


class Told(NamedTuple):
    """A message with its metrics' names and types filled in as far as they are known."""

    topic: Topic
    payload: Payload
    metrics: dict[str, list[Metric]]  # by name, in the order they were sent
    unknown: int  # metrics whose alias no BIRTH has told


class Births:
    """The alias tables of the edge nodes behind one connection."""

    def __init__(self, memory: KeyValues | None, edges: Iterable[str]) -> None:
        """`edges`: GROUP/NODE of those that meters are read from; of others nothing is kept."""
        self._memory = memory
        self._edges = set(edges)
        self._tables: dict[str, dict[str, Aliases]] = {}  # edge -> device -> aliases
        self._unstored: set[str] = set()
        self._seq: dict[str, int] = {}
        self._births: dict[str, int] = {}  # edge -> bdSeq of its newest NBIRTH
        self.lost: Counter[str] = Counter()  # edge -> how often something of it could not be understood or was missed

    def take(self, topic: Topic, data: bytes) -> Told:
        """Understand one message and learn from it; raises PayloadError."""
        payload = decode(data)
        if topic.edge in self._edges:
            self._follow(topic, payload)
            self._learn(topic, payload)
        aliases = self._of(topic.edge).get(topic.device, {})
        types = dict(aliases.values())
        metrics: dict[str, list[Metric]] = {}
        unknown = 0
        for metric in payload.metrics:
            named = _named(metric, aliases, types)
            if named.name is None:
                unknown += 1
            else:
                metrics.setdefault(named.name, []).append(named)
        if unknown:
            self.lost[topic.edge] += 1
        return Told(topic, payload, metrics, unknown)

    def _follow(self, topic: Topic, payload: Payload) -> None:
        """Notice messages that were missed: each has a number, 0 to 255 and round again.

        The first one after a start may follow a birth that nobody heard: the aliases may mean something else by now.
        """
        if payload.seq is None or topic.kind not in {"NBIRTH", "NDATA", "DBIRTH", "DDATA", "DDEATH"}:
            return
        before = self._seq.get(topic.edge)
        if topic.kind != "NBIRTH" and (before is None or payload.seq != (before + 1) % 256):
            self.lost[topic.edge] += 1
        self._seq[topic.edge] = payload.seq

    def _learn(self, topic: Topic, payload: Payload) -> None:
        tables = self._of(topic.edge)
        if topic.kind == "NDEATH" and self._is_old(topic.edge, payload):
            return  # the will of a connection that the edge node has replaced meanwhile
        if topic.kind in {"NBIRTH", "NDEATH"}:
            tables = {}
        if topic.kind == "DDEATH":
            tables = {device: aliases for device, aliases in tables.items() if device != topic.device}
        if topic.kind in {"NBIRTH", "DBIRTH"}:
            tables = {**tables, topic.device: _aliases(payload)}
        if topic.kind == "NBIRTH":
            self._births[topic.edge] = _bd_seq(payload)
        if sum(map(len, tables.values())) > MOST_ALIASES:  # better none of this device than those of an older birth
            tables = {device: aliases for device, aliases in tables.items() if device != topic.device}
        if tables != self._of(topic.edge):
            self._tables[topic.edge] = tables
            self._unstored.add(topic.edge)
        self._store()

    def _is_old(self, edge: str, payload: Payload) -> bool:
        died, born = _bd_seq(payload), self._births.get(edge, -1)
        return died >= 0 and born >= 0 and died != born

    def _of(self, edge: str) -> dict[str, Aliases]:
        if edge not in self._tables and edge in self._edges:
            self._tables[edge] = _stored(self._memory.get(MEMORY + edge) if self._memory else None)
        return self._tables.get(edge, {})

    def _store(self) -> None:
        """Whatever could not be stored before is tried again; until then a restart only has to wait for the next BIRTH."""
        for edge in sorted(self._unstored) if self._memory else ():
            try:
                self._memory.put(MEMORY + edge, json.dumps(self._tables[edge]))  # type: ignore[union-attr]
            except NotStored:
                return
            self._unstored.discard(edge)


def _named(metric: Metric, aliases: Aliases, types: Mapping[str, int | None]) -> Metric:
    """The metric with what its BIRTH said of it."""
    if metric.name is None and metric.alias is not None:
        name, datatype = aliases.get(str(metric.alias), (None, None))
        return metric._replace(name=name, datatype=metric.datatype or datatype)
    return metric._replace(datatype=metric.datatype or types.get(metric.name or ""))


def _aliases(payload: Payload) -> Aliases:
    """A BIRTH without aliases teaches the types of its names: they stand under their own names."""
    return {
        str(metric.alias) if metric.alias is not None else f"={metric.name}": (metric.name, metric.datatype)
        for metric in payload.metrics
        if metric.name is not None
    }


def _bd_seq(payload: Payload) -> int:
    values = [each.value for each in payload.metrics if each.name == "bdSeq" and isinstance(each.value, int)]
    return values[0] if values else -1


def _stored(text: str | None) -> dict[str, Aliases]:
    """What the memory holds; what does not look like a table is none."""
    try:
        content = json.loads(text or "{}")
        return {
            str(device): {str(alias): (str(name), datatype) for alias, (name, datatype) in aliases.items()}
            for device, aliases in content.items()
        }
    except (ValueError, TypeError, AttributeError):
        return {}


def refusal(told: Told, metric: str) -> PayloadError:
    """Why a message holds no such metric."""
    if told.topic.kind in {"NDEATH", "DDEATH"}:
        return PayloadError("the device is gone", told.topic.kind, expected=True)
    if told.unknown:
        detail = f'{told.unknown} metrics whose names no BIRTH message has told yet; "{metric}" may be among them'
        return PayloadError("alias not known", detail, expected=True)
    return PayloadError("no value at the path", expected=True)
