"""The bytes of an open line and their times: what a request waits for, and for how long. Nothing of pymodbus in here."""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import time
from typing import Any

from drivers.modbus.plan import MOST_REGISTERS
from drivers.modbus.wiretime import ASCII

LONGEST_DRAIN = 2.0  # s and the time of the longest frame; a line that babbles on is used all the same
MOST_HEARD = 1024  # bytes for one request; frames have 260, or 513. Beyond it somebody babbles: parsing it is quadratic
LONGEST_PAUSES = 5.0  # s by which pauses between characters may make one answer longer
CHUNK = 4096


def monotonic() -> float:
    """Wire time."""
    return time.monotonic()  # noqa: TID251 - a wire has real time, whatever the gateway's clock says


class Line:
    """The bytes of one open line, with their times: mixed into a pymodbus client, whose I/O it replaces."""

    character = 0.0  # seconds for a character, where the line's speed is ours to know
    noise = b""  # bytes with which no frame begins: what a line says when nobody drives it
    pause = 0.0  # seconds that a frame may rest between two characters
    socket: Any
    started = 0.0  # when the request's first byte went out
    last = 0.0  # when the newest byte, sent or heard, was over
    deadline = 0.0
    latest = 0.0  # until when characters that come one by one may move the deadline
    timeout = 1.0
    answer_bytes = 0
    echo_bytes = 0  # of our own request, which is heard before the answer
    sent = b""
    heard = bytearray()
    ahead = b""  # heard, and not looked at by pymodbus yet
    stray = b""  # heard while the line was to be quiet
    transaction_id = 0  # of what was sent, where frames have one
    settled = False  # the last answer was the usual one, nothing was heard behind it

    def connect(self) -> bool:
        """Asked by pymodbus before each request; opening is ours."""
        return self.socket is not None

    def expect(self, timeout: float, answer_bytes: int, echo_bytes: int) -> None:
        """What follows the next request."""
        self.timeout, self.answer_bytes, self.echo_bytes = timeout, answer_bytes, echo_bytes

    def send(self, request: bytes, addr: object = None) -> int:
        """Send, and start the clock of the timeout when the last byte is out."""
        del addr
        self._begins(request)
        self._put(request)
        self.last = monotonic() + len(request) * self.character
        self.deadline, self.latest = self.last + self.timeout, 0.0
        return len(request)

    def _begins(self, request: bytes) -> None:
        self.sent = request
        self.heard, self.ahead = bytearray(), b""
        self.started = monotonic()

    def recv(self, size: int | None) -> bytes:
        """What comes, b"" when the time is over. A first byte in time buys the time that the rest of a frame takes."""
        del size
        if self.ahead:
            data, self.ahead = self.ahead, b""
            return data
        while len(self.heard) <= MOST_HEARD:
            data = self._take(self.deadline - monotonic())
            if not data:
                break
            before = len(self._clean(bytes(self.heard)))
            self.last = monotonic()
            self.heard += data
            if not self.latest and self.answer:
                whole = self.last + self.answer_bytes * self.character
                self.deadline, self.latest = max(self.deadline, whole), whole + LONGEST_PAUSES
            self.deadline = max(self.deadline, min(self.last + self.pause, self.latest))
            if sound := self._clean(bytes(self.heard))[before:]:  # pymodbus would take a frame behind noise for garbage
                return sound
        return b""

    def quiet(self, until: float, gap: float, most: float = math.inf) -> bytes:
        """Wait until `until`, and until nothing was heard for `gap`; not for ever, nor beyond `most` bytes.

        What came meanwhile belongs to nobody; of a flood the end. It is in `stray` as well, where the line ends meanwhile.
        """
        self.stray = b""
        latest = max(until, monotonic()) + LONGEST_DRAIN + ASCII.answer_of(MOST_REGISTERS) * self.character
        while monotonic() < latest and len(self.stray) <= most:
            left = max(until, self.last + gap) - monotonic()
            if left <= 0 and not self.ready():
                break
            if data := self._take(left):
                self.last = monotonic()
                self.stray = (self.stray + data)[-MOST_HEARD - CHUNK :]
        return self.stray

    @property
    def answer(self) -> bytes:
        """What was heard besides our own echo, and from the first byte on with which a frame may begin."""
        return self.answer_in(bytes(self.heard))

    def answer_in(self, heard: bytes) -> bytes:
        """The same of these bytes."""
        clean = self._clean(heard)
        if not self.echo_bytes:
            return clean
        return b"" if self.sent.startswith(clean) else clean.removeprefix(self.sent)

    def _clean(self, heard: bytes) -> bytes:
        """Without the noise before our echo and before the answer. More bytes never change the beginning of it."""
        heard = heard.lstrip(self.noise)
        if self.echo_bytes and heard.startswith(self.sent):
            return self.sent + heard[len(self.sent) :].lstrip(self.noise)
        return heard

    def ready(self) -> bool:
        """Whether there is something to be heard, also that the other end has hung up."""
        return bool(select.select([self.socket], [], [], 0)[0])

    def _put(self, data: bytes) -> None:
        raise NotImplementedError

    def _take(self, seconds: float) -> bytes:
        raise NotImplementedError


class NetworkLine(Line):
    """On a socket with a timeout: TLS."""

    def use(self, connected: socket.socket) -> None:
        """Take over a connected socket."""
        self.socket = connected

    def _put(self, data: bytes) -> None:
        self.socket.settimeout(self.timeout)
        self.socket.sendall(data)

    def _take(self, seconds: float) -> bytes:
        self.socket.settimeout(max(seconds, 0.0001))  # 0 would mean: do not wait, and raise
        try:
            return self._received()
        except TimeoutError:
            return b""

    def _received(self) -> bytes:
        data: bytes = self.socket.recv(CHUNK)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "closed by the other end")
        return data


class PlainLine(NetworkLine):
    """On a socket that never blocks: one with a timeout costs twice the system calls."""

    _poll: select.poll

    def use(self, connected: socket.socket) -> None:
        """Take over a connected socket."""
        connected.settimeout(0.0)
        self.socket = connected
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)

    def ready(self) -> bool:
        """As everywhere."""
        return bool(self._poll.poll(0))

    def send_at_once(self, request: bytes) -> bool:
        """As `send`, without waiting; False where there is no room, and nothing was sent. Raises OSError."""
        self._begins(request)
        try:
            sent = self.socket.send(request)
        except BlockingIOError:
            return False
        if sent < len(request):  # the rest of a frame cannot be waited for, nor left out
            self.socket.shutdown(socket.SHUT_RDWR)
        self.last = self.started
        self.deadline, self.latest = self.last + self.timeout, 0.0
        return True

    def hear_at_once(self) -> None:
        """Add to `heard` what has come; raises OSError, also where nothing has."""
        self.heard += self._received()
        self.last = monotonic()

    def _put(self, data: bytes) -> None:
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):  # the other end has not read for long
            self.socket.settimeout(self.timeout)
            self.socket.sendall(data[sent:])
            self.socket.settimeout(0.0)

    def _take(self, seconds: float) -> bytes:
        return self._received() if self._poll.poll(max(seconds, 0.0) * 1000) else b""


class PortLine(Line):
    """On a serial port."""

    def _put(self, data: bytes) -> None:
        self.socket.write(data)

    def _take(self, seconds: float) -> bytes:
        port = self.socket.fileno()
        if not select.select([port], [], [], max(seconds, 0.0))[0]:
            return b""
        data = os.read(port, CHUNK)
        if not data:
            raise OSError(errno.EIO, "the port is gone")
        return data
