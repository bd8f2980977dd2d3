"""A broker of MQTT 3.1.1 in a thread, on loopback: a few packets over a real socket, and its own way with MQTT 5.

    with old_broker("silent") as broker:
        broker.url
        broker.greetings      # the protocol level of every CONNECT: 5 is MQTT 5, 4 is MQTT 3.1.1
        broker.publish("topic", b"5")   # at QoS 1 to whoever has subscribed
        broker.acknowledged   # packet ids of the PUBACKs

What it does with a CONNECT of MQTT 5: "refuses" (MQTT 5's CONNACK with 0x84), "refuses in its own words" (3.1.1's
CONNACK with 1), "closes", "silent", or "accepts nothing": it is silent at every version.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Literal

HOST = "127.0.0.1"
PATIENCE = 60.0  # s

Manner = Literal["refuses", "refuses in its own words", "closes", "silent", "accepts nothing"]

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = (
    0x10, 0x20, 0x32, 0x40, 0x80, 0x90, 0xA0, 0xB0, 0xC0, 0xD0, 0xE0,
)  # fmt: skip
REFUSALS = {"refuses": b"\x20\x03\x00\x84\x00", "refuses in its own words": b"\x20\x02\x00\x01"}


class OldBroker:
    """The broker; `old_broker()` makes one. It serves one client at a time."""

    def __init__(self, manner: Manner) -> None:
        self._manner = manner
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.greetings: list[int] = []
        self.acknowledged: list[int] = []
        self.subscribed = Event()
        self._client: socket.socket | None = None
        self._mid = 0
        self._thread = Thread(target=self._serve, name="old-broker", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """As a connection's `url`."""
        return f"mqtt://{HOST}:{self.port}"

    def publish(self, topic: str | bytes, payload: bytes) -> None:
        """To the client that has subscribed; bytes go out as they are, UTF-8 or not."""
        assert self.subscribed.wait(PATIENCE), "nobody has subscribed"
        assert self._client is not None
        self._mid += 1
        name = topic.encode() if isinstance(topic, str) else topic
        body = len(name).to_bytes(2, "big") + name + self._mid.to_bytes(2, "big") + payload
        self._client.sendall(bytes([PUBLISH, len(body)]) + body)  # bodies here are shorter than 128 bytes

    def stop(self) -> None:
        for each in (self._listener, self._client):
            if each is not None:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
        self._thread.join(PATIENCE)

    def _serve(self) -> None:
        with suppress(OSError):  # the end: `stop` closed the socket
            while True:
                client, _ = self._listener.accept()
                self._client = client
                self.subscribed.clear()
                with client, suppress(OSError, EOFError):
                    self._speak(client)

    def _speak(self, client: socket.socket) -> None:
        while True:
            kind, body = _packet(client)
            if kind == CONNECT:
                level = body[6]
                self.greetings.append(level)
                if self._manner == "accepts nothing" or (level == 5 and self._manner == "silent"):
                    continue
                if level == 5:
                    client.sendall(REFUSALS.get(self._manner, b""))
                    return
                client.sendall(bytes([CONNACK, 2, 0, 0]))
            elif kind == SUBSCRIBE:
                client.sendall(bytes([SUBACK, 2 + _filters(body)]) + body[:2] + b"\x01" * _filters(body))
                self.subscribed.set()
            elif kind == UNSUBSCRIBE:
                client.sendall(bytes([UNSUBACK, 2]) + body[:2])
            elif kind == PUBACK:
                self.acknowledged.append(int.from_bytes(body[:2], "big"))
            elif kind == PINGREQ:
                client.sendall(bytes([PINGRESP, 0]))
            elif kind == DISCONNECT:
                return


@contextmanager
def old_broker(manner: Manner) -> Iterator[OldBroker]:
    """A running one."""
    broker = OldBroker(manner)
    try:
        yield broker
    finally:
        broker.stop()


def _packet(client: socket.socket) -> tuple[int, bytes]:
    kind = _exactly(client, 1)[0] & 0xF0
    length = shift = 0
    while True:
        digit = _exactly(client, 1)[0]
        length |= (digit & 0x7F) << shift
        shift += 7
        if not digit & 0x80:
            return kind, _exactly(client, length)


def _exactly(client: socket.socket, wanted: int) -> bytes:
    got = b""
    while len(got) < wanted:
        more = client.recv(wanted - len(got))
        if not more:
            raise EOFError
        got += more
    return got


def _filters(body: bytes) -> int:
    """How many filters a SUBSCRIBE of MQTT 3.1.1 has."""
    count, position = 0, 2
    while position < len(body):
        position += 2 + int.from_bytes(body[position : position + 2], "big") + 1
        count += 1
    return count
