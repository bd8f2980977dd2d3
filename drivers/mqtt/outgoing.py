"""What the driver says by itself, where a source asks for it: pokes for devices that fall silent else, rebirth requests.

Both are commands to the plant, so neither is ever sent unless the configuration says so. QoS 0, never retained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from drivers.mqtt.source import edge_of
from drivers.mqtt.sparkplug import NAMESPACE, rebirth_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from drivers.base import Now
    from drivers.mqtt.source import Source

ASK_EVERY = 300.0  # s between two rebirth requests to one edge node: its BIRTH messages are large
NEVER = float("inf")


class _Poke(NamedTuple):
    payload: bytes
    every: float


class Outgoing:
    """One connection's pokes and rebirth requests. All times are boottime."""

    def __init__(
        self, sources: Iterable[Source], lost: Mapping[str, int], publish: Callable[[str, bytes], bool]
    ) -> None:
        """`lost`: how often something of an edge node was missed so far. `publish` says whether it was sent."""
        sources = list(sources)
        self._pokes = {
            each.poke_topic: _Poke(each.poke_payload.encode(), each.poke_every) for each in sources if each.poke_topic
        }
        self._edges = {edge_of(each) for each in sources if each.rebirth} - {""}
        self._lost = lost
        self._publish = publish
        self._connection: int | None = None
        self._poke_at: dict[str, float] = {}
        self._poked: set[str] = set()  # over the open connection
        self._asked_at: dict[str, float] = {}
        self._answered: dict[str, int] = {}  # edge -> how often something had been missed when it was last asked

    def speak(self, now: Now, connection: int | None) -> None:
        """Send what is due. `connection`: the number of the open connection, None where there is none."""
        if connection != self._connection:
            self._connection = connection
            self._poke_at = dict.fromkeys(self._pokes, now.boottime)
            self._poked.clear()
        for topic, poke in self._pokes.items() if connection is not None else ():
            payload = poke.payload if topic in self._poked else b""
            if now.boottime >= self._poke_at[topic] and self._publish(topic, payload):
                self._poke_at[topic] = now.boottime + poke.every
                self._poked.add(topic)
        for edge in self._to_ask():
            if now.boottime >= self._ask_at(edge):
                group, node = edge.split("/")
                self._publish(f"{NAMESPACE}/{group}/NCMD/{node}", rebirth_request(round(now.wall.timestamp() * 1000)))
                self._asked_at[edge] = now.boottime
                self._answered[edge] = self._lost.get(edge, 0)

    def due(self) -> float:
        """When `speak` will have something to say."""
        if self._connection is None:
            return NEVER
        return min((*self._poke_at.values(), *map(self._ask_at, self._to_ask())), default=NEVER)

    def _to_ask(self) -> list[str]:
        if self._connection is None:
            return []
        return [each for each in sorted(self._edges) if self._lost.get(each, 0) > self._answered.get(each, 0)]

    def _ask_at(self, edge: str) -> float:
        return self._asked_at.get(edge, -NEVER) + ASK_EVERY
