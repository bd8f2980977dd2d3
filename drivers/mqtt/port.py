"""The MQTT wire as the driver sees it: one client's session at a broker, over any number of connections."""

from __future__ import annotations

from threading import Event as Flag
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drivers.base import Now
    from drivers.mqtt.reasons import Reason


class Message(NamedTuple):
    """A PUBLISH as it arrived. `mid` means something only together with `epoch`. An undecodable topic is ""."""

    epoch: int
    mid: int
    qos: int
    topic: str
    payload: bytes
    retain: bool
    arrived: Now


class Connected(NamedTuple):
    """The broker accepted the connection; `resumed`: it had kept the session, and sends what waited in it."""

    resumed: bool


class Subscribed(NamedTuple):
    """All filters were answered at boottime `at`; `refused` says which ones the broker refused, and why."""

    at: float
    refused: Mapping[str, str]


class Ended(NamedTuple):
    """The connection is gone, or never came."""

    reason: Reason


Happening = Connected | Subscribed | Ended


class Session(Protocol):
    """One client's session at a broker, over any number of connections. All methods return at once and never raise."""

    wake: Flag  # set whenever there is something to take or something happened

    def open(self, protocol: str, filters: Sequence[str], stale: Sequence[str]) -> None:
        """Begin to connect with MQTT "5" or "3.1.1", subscribe to `filters` at QoS 1, unsubscribe `stale` ones."""
        ...

    def happenings(self) -> list[Happening]:
        """What happened to the open connection since the last call. A message is never ahead of its Connected."""
        ...

    def take(self, most: int) -> list[Message]:
        """The oldest messages that wait."""
        ...

    def acknowledge(self, messages: Sequence[Message]) -> int:
        """Acknowledge those that came over the open connection; returns how many. The others are delivered again."""
        ...

    def publish(self, topic: str, payload: bytes) -> bool:
        """Send at QoS 0, not retained; False where there is no open connection."""
        ...

    def shut(self) -> None:
        """Disconnect; the session stays at the broker. Nothing more is heard of this connection."""
        ...

    def close(self) -> None:
        """Shut, and wait a moment for the connection to end."""
        ...

    def dropped(self) -> int:
        """Messages of QoS 0 that had to be thrown away since the start, because nobody took them in time."""
        ...
