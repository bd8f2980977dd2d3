"""Listens to a broker as a stranger does and remembers what was said on each topic, in bounded memory; for `read mqtt://…`.

No other client notices it: a client id of its own, a session that ends with the connection, nothing published, every message
acknowledged at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drivers.mqtt.proposing import Heard
from drivers.mqtt.session import PahoSession
from drivers.mqtt.sparkplug import NAMESPACE, topic_of
from drivers.mqtt.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from drivers.base import Now, Ports
    from drivers.mqtt.config import Connection
    from drivers.mqtt.port import Message, Session

MOST_TOPICS = 10_000
LONGEST_NAME = 1_000  # characters of a topic; MQTT allows 65 535 bytes
LARGEST = 64 * 1024  # bytes of a payload that are looked at; a meter's message is a hundredth of it
BUDGET = 32 * 1024 * 1024  # bytes of all payloads together; beyond it only their beginnings are kept
BEGINNING = 512  # bytes
AT_A_TIME = 200  # messages
WINDOW = 100  # messages that the broker may send ahead
UNITS_BESIDE = ("{above}/unit_of_measurement", "{topic}/$unit", "{topic}/unit", "{above}/unit")


@dataclass(slots=True)
class Topic:
    """What was heard on one topic. All times are boottime in seconds."""

    name: str
    newest: bytes
    size: int  # of the newest payload; a larger one than `LARGEST` counts as that
    last_at: float
    retained: int = 0  # messages that the broker had kept, of unknown age
    live: int = 0
    first_live: float = 0.0
    earlier: bytes | None = None  # the first payload, where the newest is another one
    whole: bool = True  # whether `newest` is all of the payload
    lost: bool = False  # whether an earlier payload was another one and is not kept

    @property
    def every(self) -> float | None:
        """Seconds between two live messages."""
        return (self.last_at - self.first_live) / (self.live - 1) if self.live > 1 else None


class Topics:
    """Everything that was heard."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._found: dict[str, Topic] = {}
        self._kept = 0  # bytes
        self.messages = 0
        self.left_out = 0  # messages on topics beyond the `MOST_TOPICS` first ones, or on one without a usable name

    def __iter__(self) -> Iterator[Topic]:
        """By name."""
        return iter(sorted(self._found.values(), key=lambda topic: topic.name))

    def __len__(self) -> int:
        """How many topics."""
        return len(self._found)

    def add(self, message: Message) -> None:
        """A message came."""
        self.messages += 1
        topic = self._found.get(message.topic)
        if topic is None and (len(self._found) >= MOST_TOPICS or not 0 < len(message.topic) <= LONGEST_NAME):
            self.left_out += 1
            return
        size = len(message.payload)
        payload = self._bounded(message.payload, topic)
        at = message.arrived.boottime
        if topic is None:
            topic = self._found[message.topic] = Topic(message.topic, payload, size, at)
        else:
            self._replace(topic, payload, size, at)
        topic.whole = len(payload) == size
        if message.retain:
            topic.retained += 1
            return
        topic.live += 1
        if topic.live == 1:
            topic.first_live = at

    def heard(self, topic: Topic) -> Heard:
        """As proposals are made from it: with what other topics say of this one."""
        beside = self._births(topic.name), self._unit(topic.name)
        return Heard(topic.name, topic.newest, topic.earlier, *beside, 1 if topic.lost else topic.retained + topic.live)

    def _bounded(self, payload: bytes, topic: Topic | None) -> bytes:
        room = BUDGET - self._kept + (len(topic.newest) if topic else 0)
        kept = payload if len(payload) <= min(LARGEST, room) else payload[:BEGINNING]
        self._kept += len(kept) - (len(topic.newest) if topic else 0)
        return kept

    def _replace(self, topic: Topic, payload: bytes, size: int, at: float) -> None:
        if (
            topic.earlier is None
            and topic.newest != payload
            and topic.whole
            and self._kept + len(topic.newest) <= BUDGET
        ):
            topic.earlier = topic.newest
            self._kept += len(topic.newest)
        elif topic.earlier is None and topic.newest != payload:
            topic.lost = True
        topic.newest, topic.size, topic.last_at = payload, size, at

    def _births(self, name: str) -> Sequence[tuple[str, bytes]]:
        """Of a Sparkplug node: what its BIRTH messages were, its own first."""
        parts = topic_of(name)
        if parts is None or "DATA" not in parts.kind:
            return ()
        own = [f"{NAMESPACE}/{parts.group}/NBIRTH/{parts.node}"]
        devices = [f"{NAMESPACE}/{parts.group}/DBIRTH/{parts.node}/{parts.device}"] if parts.device else []
        return [(each, self._found[each].newest) for each in (*own, *devices) if each in self._found]

    def _unit(self, name: str) -> str:
        above = name.rpartition("/")[0]
        for form in UNITS_BESIDE:
            beside = self._found.get(form.format(topic=name, above=above))
            if beside is not None and beside is not self._found.get(name):
                return beside.newest.decode("utf-8", "replace").strip(' "')
        return ""


class Listener:
    """A connection to a broker, stepped by its owner."""

    def __init__(
        self, connection: Connection, filters: Sequence[str], ports: Ports, session: Session | None = None
    ) -> None:
        """Opens nothing yet. `connection.password` is the secret itself; `ports.client_id` nobody else's."""
        quiet = connection.model_copy(update={"session_expiry": 0.0, "client_id": None, "receive_maximum": WINDOW})
        self._session = session or PahoSession(quiet, ports.client_id, ports.clock, largest=LARGEST)
        self._supervisor = Supervisor("broker", quiet, filters, self._session, ports)
        self.wake = self._session.wake
        self.topics = Topics()

    def step(self, now: Now) -> float:
        """Take what has come, connect when due; returns the boottime of the next attempt."""
        due = self._supervisor.step(now)
        messages = self._session.take(AT_A_TIME)
        for message in messages:
            self.topics.add(message)
        self._session.acknowledge(messages)
        return now.boottime if messages else due

    @property
    def ready(self) -> bool:
        """Whether the broker has confirmed the subscription."""
        return self._supervisor.listening_since is not None

    @property
    def version(self) -> str:
        """Of MQTT."""
        return self._supervisor.version

    @property
    def connects(self) -> int:
        """How often the broker let it in."""
        return self._supervisor.connects

    @property
    def trouble(self) -> str:
        """What is wrong, in one sentence; "" when nothing is."""
        return self._supervisor.detail

    @property
    def refused(self) -> Mapping[str, str]:
        """Filters that the broker refused, and why."""
        return self._supervisor.refused

    @property
    def dropped(self) -> int:
        """Messages that came faster than they could be looked at."""
        return self._session.dropped()

    def close(self) -> None:
        """Disconnect."""
        self._session.close()
