"""Between the network thread and the owner of an MQTT connection."""

from __future__ import annotations

from collections import deque
from threading import Condition
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drivers.mqtt.port import Message

HELD_UP_FOR = 1.0  # s for which a full inbox holds up the network thread at each message; keepalives go on meanwhile


class Inbox:
    """Messages on their way from the network thread to the owner. When full, the oldest of QoS 0 makes room.

    Those of QoS 1 are bounded by what the broker sends ahead of acknowledgements. Where it does not keep to that
    (mosquitto 2.0.11 with MQTT 3.1.1 sends everything it has), the network thread slows down: the rest waits at the
    broker, not in our memory.
    """

    def __init__(self, limit: int) -> None:
        """`limit` in messages."""
        self._limit = limit
        self._waiting: deque[Message] = deque()
        self._room = Condition()
        self.dropped = 0

    def put(self, message: Message) -> None:
        """Called by the network thread. A full inbox holds it up for a moment, but not so long that the line dies."""
        with self._room:
            if len(self._waiting) >= self._limit and not self._make_room():
                self._room.wait(HELD_UP_FOR)
            self._waiting.append(message)

    def is_full(self) -> bool:
        """Whether the next message has to wait or to make room."""
        return len(self._waiting) >= self._limit

    def take(self, most: int) -> list[Message]:
        """Called by the owner."""
        with self._room:
            taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            self._room.notify_all()
        return taken

    def _make_room(self) -> bool:
        for position, message in enumerate(self._waiting):
            if message.qos == 0:
                del self._waiting[position]
                self.dropped += 1
                return True
        return False
