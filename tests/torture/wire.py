"""A bad line between a gateway and EnerKey: bytes go through it, and it breaks connections in the middle of a request."""

from __future__ import annotations

import re
import socket
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from random import Random
from select import select
from threading import Thread
from typing import Literal

Moment = Literal["asked", "answered"]
"""A request is on the wire and the server has not seen it; the server has carried it out."""

CHUNK = 65_536
SILENCE = 30.0  # s until a connection that says nothing is given up
LOST = {"lost request": 0.10, "lost answer": 0.15}


class Wire:
    """A relay on loopback, one thread a connection; `url` is what the gateway is told.

    Change at any time: `rates`, each fault's probability per request. `moment(which, bytes)` is asked at both moments of
    every push; True says that the gateway has just been killed.
    """

    def __init__(self, server: int, moment: Callable[[Moment, bytes], bool], random: Random) -> None:
        self.rates = dict(LOST)
        self.requests: Counter[str] = Counter()  # by method
        self.faults: Counter[str] = Counter()
        self._server = server
        self._moment = moment
        self._random = random
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        Thread(target=self._accept, name="wire", daemon=True).start()

    def stop(self) -> None:
        """Listen no more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # stopped
            while True:
                channel, _ = self._listener.accept()
                Thread(target=self._relay, args=(channel,), name="wire-client", daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(("127.0.0.1", self._server)) as server:
            fault, method, answered, on = None, "", True, True
            while on and (ready := select([client, server], [], [], SILENCE)[0]):
                source, other = (server, client) if server in ready else (client, server)
                if not (data := source.recv(CHUNK)):
                    break
                if source is client and answered:
                    data = _whole(client, data)
                    answered, method = False, data.partition(b" ")[0].decode("ascii", "replace")
                    fault = self._begin(method)
                    on = self._lives("asked", method, data) and fault != "lost request"
                elif source is server and not answered:
                    answered = True
                    on = self._lives("answered", method, data) and fault != "lost answer"
                other.sendall(data if on else self._part(data))
            if not on:
                _reset(client)

    def _lives(self, moment: Moment, method: str, data: bytes) -> bool:
        return method != "POST" or not self._moment(moment, data)

    def _begin(self, method: str) -> str | None:
        self.requests[method] += 1
        point = self._random.random()
        for fault, rate in self.rates.items():
            point -= rate
            if point < 0:
                self.faults[fault] += 1
                return fault
        return None

    def _part(self, data: bytes) -> bytes:
        """Nothing, or some of it but not all."""
        return data[: self._random.randrange(len(data))] if self._random.random() < 0.5 else b""


def _whole(client: socket.socket, data: bytes) -> bytes:
    """The request that begins with these bytes; its head comes in one piece, the body perhaps later."""
    head, _, _ = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    whole = len(head) + 4 + (int(length[1]) if length else 0)
    while len(data) < whole and (more := client.recv(CHUNK)):
        data += more
    return data


def _reset(channel: socket.socket) -> None:
    """Let it close with an RST, as a line does that is cut."""
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
