"""What left a recorded process over its sockets: MQTT acknowledgements and pushes to EnerKey, each with its first byte."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from tests.powercut.trace import Call, Event

CONNECT, PUBLISH, PUBACK = 1, 3, 4


class Acknowledged(NamedTuple):
    """A PUBACK whose first byte leaves with event number `index`, for this message."""

    index: int
    topic: str
    payload: bytes


class Pushed(NamedTuple):
    """A POST whose first byte leaves with event number `index`; `whole`: all of its body has left in the end."""

    index: int
    body: bytes
    whole: bool


class Effects(NamedTuple):
    """Everything that the world has seen, in order."""

    acknowledged: list[Acknowledged]
    pushed: list[Pushed]


def effects(events: Sequence[Event], *, broker: int, enerkey: int) -> Effects:
    """What was said to the broker and to EnerKey at these ports of this machine."""
    conversations: dict[str, _Conversation] = defaultdict(_Conversation)
    requests: dict[str, _Sent] = defaultdict(_Sent)
    found = Effects([], [])
    for index, (when, call) in enumerate(events):
        sends = call.name == "sendto"
        failed = call.result is not None and call.result < 0  # one that its process did not survive may have sent all
        if not (sends and when == "begin" and not failed) and not (
            call.name == "recvfrom" and when == "end" and call.done
        ):
            continue
        address = f"{call.run} {call.place().name}"
        if f"->127.0.0.1:{broker}]" in address:
            talk = conversations[address]
            found.acknowledged.extend(talk.said(index, call) if sends else talk.heard(call))
        elif f"->127.0.0.1:{enerkey}]" in address and sends:
            requests[address].add(index, call.data())
    found.pushed.extend(sorted(push for sent in requests.values() for push in sent.pushes()))
    found.acknowledged.sort()
    return found


class _Conversation:
    """One connection to the broker."""

    def __init__(self) -> None:
        self._in, self._out = bytearray(), _Sent()
        self._five = False
        self._messages: dict[int, tuple[str, bytes]] = {}

    def heard(self, call: Call) -> list[Acknowledged]:
        self._in += call.data()
        while packet := _packet(self._in):
            kind, flags, body, size = packet
            del self._in[:size]
            if kind == PUBLISH and flags & 0b110:
                self._published(body)
        return []

    def _published(self, body: bytes) -> None:
        length = int.from_bytes(body[:2], "big")
        topic, rest = body[2 : 2 + length].decode(), body[2 + length :]
        mid, rest = int.from_bytes(rest[:2], "big"), rest[2:]
        if self._five:
            properties, used = _varint(rest, 0)
            rest = rest[used + properties :]
        self._messages[mid] = topic, rest

    def said(self, index: int, call: Call) -> list[Acknowledged]:
        self._out.add(index, call.data())
        found = []
        while packet := _packet(self._out.bytes):
            kind, _, body, size = packet
            began = self._out.drop(size)
            if kind == CONNECT:
                self._five = body[6] == 5
            elif kind == PUBACK:
                found.append(Acknowledged(began, *self._messages.pop(int.from_bytes(body[:2], "big"))))
        return found


class _Sent:
    """Bytes of one direction, which remember the event that sent them."""

    def __init__(self) -> None:
        self.bytes = bytearray()
        self._began: list[tuple[int, int]] = []  # offset, event
        self._dropped = 0

    def add(self, index: int, data: bytes) -> None:
        self._began.append((self._dropped + len(self.bytes), index))
        self.bytes += data

    def drop(self, size: int) -> int:
        """Take away the first bytes; the event that sent the very first one."""
        began = max(index for offset, index in self._began if offset <= self._dropped)
        del self.bytes[:size]
        self._dropped += size
        return began

    def pushes(self) -> list[Pushed]:
        found = []
        while self.bytes:
            head, _, rest = bytes(self.bytes).partition(b"\r\n\r\n")
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            length = int(lengths[0].split(b":")[1]) if lengths else 0
            body = rest[:length]
            began = self.drop(len(head) + 4 + length)
            if head.startswith(b"POST "):
                found.append(Pushed(began, body, len(body) == length))
        return found


def _packet(data: bytes | bytearray) -> tuple[int, int, bytes, int] | None:
    """The first packet: kind, flags, body, size of the whole; None while it is not complete."""
    if len(data) < 2:
        return None
    try:
        length, used = _varint(data, 1)
    except IndexError:
        return None
    size = 1 + used + length
    return (data[0] >> 4, data[0] & 15, bytes(data[1 + used : size]), size) if len(data) >= size else None


def _varint(data: bytes | bytearray, at: int) -> tuple[int, int]:
    value = shift = used = 0
    while True:
        byte = data[at + used]
        value |= (byte & 127) << shift
        used, shift = used + 1, shift + 7
        if byte < 128:
            return value, used
