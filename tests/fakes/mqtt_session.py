"""A broker and the way to it, behind the Session port: it keeps what is not acknowledged, and sends it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Event
from typing import NamedTuple

from drivers.base import Clock
from drivers.mqtt.port import Connected, Ended, Happening, Message, Subscribed
from drivers.mqtt.reasons import Reason

LOST = Reason("line", "the broker closed it, or the network failed")


class Opened(NamedTuple):
    """One call of `open`."""

    protocol: str
    filters: list[str]
    stale: list[str]


class FakeSession:
    """Connects when told to. `arrive` is a device that publishes; what came at QoS 1 stays until it is acknowledged.

    session.accept()                         CONNACK and SUBACK of the attempt that is open
    session.arrive("topic", b"5")            a message over the open connection, at the clock's time
    session.arrive("topic", b"5", waits=True)   one that the broker keeps for the next connection
    session.end(reason)                      the connection is gone, or did not come to be
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.wake = Event()
        self.opened: list[Opened] = []
        self.acknowledged: list[Message] = []
        self.published: list[tuple[str, bytes]] = []
        self.unacknowledged: list[Message] = []
        self.is_open = False
        self.closed = 0
        self.lost_qos0 = 0
        self._mid = 0
        self._inbox: list[Message] = []
        self._happenings: list[Happening] = []

    # --- the broker's side --------------------------------------------------------------------------------------------

    def accept(self, *, resumed: bool = False, refused: Mapping[str, str] | None = None, suback: bool = True) -> None:
        assert self.is_open, "nobody asks for a connection"
        self._happenings.append(Connected(resumed))
        again, self.unacknowledged = self.unacknowledged, []
        for message in again if resumed else ():
            self._put(message._replace(epoch=self.epoch, arrived=self._clock.now()))
        if suback:
            self.suback(refused)

    def suback(self, refused: Mapping[str, str] | None = None) -> None:
        self._happenings.append(Subscribed(self._clock.now().boottime, refused or {}))
        self.wake.set()

    def end(self, reason: Reason = LOST) -> None:
        self._happenings.append(Ended(reason))
        self.wake.set()

    def arrive(
        self, topic: str, payload: bytes | str, *, qos: int = 1, retain: bool = False, waits: bool = False
    ) -> Message:
        self._mid += 1
        data = payload.encode() if isinstance(payload, str) else payload
        message = Message(self.epoch, self._mid, qos, topic, data, retain, self._clock.now())
        if waits:
            self.unacknowledged.append(message)
        else:
            self._put(message)
        return message

    @property
    def epoch(self) -> int:
        return len(self.opened)

    def _put(self, message: Message) -> None:
        self._inbox.append(message)
        if message.qos:
            self.unacknowledged.append(message)
        self.wake.set()

    # --- the port -----------------------------------------------------------------------------------------------------

    def open(self, protocol: str, filters: Sequence[str], stale: Sequence[str]) -> None:
        self.shut()
        self.opened.append(Opened(protocol, list(filters), list(stale)))
        self.is_open = True

    def happenings(self) -> list[Happening]:
        happened, self._happenings = self._happenings, []
        self.is_open = self.is_open and not any(isinstance(each, Ended) for each in happened)
        return happened

    def take(self, most: int) -> list[Message]:
        taken, self._inbox = self._inbox[:most], self._inbox[most:]
        return taken

    def acknowledge(self, messages: Sequence[Message]) -> int:
        ours = [each for each in messages if self.is_open and each.qos and each.epoch == self.epoch]
        self.acknowledged += ours
        mids = {each.mid for each in ours}
        self.unacknowledged = [each for each in self.unacknowledged if each.mid not in mids]
        return len(ours)

    def publish(self, topic: str, payload: bytes) -> bool:
        if self.is_open:
            self.published.append((topic, payload))
        return self.is_open

    def shut(self) -> None:
        self.is_open = False
        self._happenings.clear()

    def close(self) -> None:
        self.closed += 1
        self.shut()

    def dropped(self) -> int:
        return self.lost_qos0
