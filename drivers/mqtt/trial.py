"""A source's mapping, tried on stored messages: what the driver would deliver, without a broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from drivers.mqtt.port import Message
from drivers.mqtt.source import Source, format_of
from drivers.mqtt.sparkplug import decode
from drivers.mqtt.translator import Translator
from drivers.mqtt.values import PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from drivers.base import Now
    from drivers.reading import Reading, Rejected


class Tried(NamedTuple):
    """What one message gave. `topic`: the one it was taken to have come from."""

    topic: str
    items: list[Reading | Rejected]


def tried(
    name: str, source: Source, payloads: Sequence[bytes], now: Now, *, topic: str | None = None, retain: bool = False
) -> Iterator[Tried]:
    """The messages one after the other, as if they arrived now. Without `topic` one that the source listens to."""
    translator = Translator({name: source})
    for payload in payloads:
        came_from = topic or _topic(source, payload)
        message = Message(0, 0, 0, came_from, payload, retain, now)
        yield Tried(came_from, translator.translate(message))


def _topic(source: Source, payload: bytes) -> str:
    levels = source.topic.split("/")
    if format_of(source) == "sparkplug":
        levels[2] = f"{'D' if source.device else 'N'}{'BIRTH' if _introduces(payload) else 'DATA'}"
        return "/".join([*levels[:4], *([source.device] if source.device else [])])
    return "/".join("any" if level in {"+", "#"} else level for level in levels)


def _introduces(payload: bytes) -> bool:
    """Whether a Sparkplug message tells names together with their types, as only a BIRTH message must."""
    try:
        return any(each.name is not None and each.datatype is not None for each in decode(payload).metrics)
    except PayloadError:
        return False
