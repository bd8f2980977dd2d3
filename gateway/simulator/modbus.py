"""Simulated Modbus meters on a socket or on a serial port: the thin edges of gateway.simulator.line, with a thread each.

A serial port is a pair of pseudo-terminals. Its bytes take the time that the line's speed gives them: an answer cannot be
read before its wire time is over, and a request's time counts from its first byte. A pseudo-terminal refuses parity E and
O: here they only make the characters longer. Meters hear nothing at another speed than theirs.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import pty
import select
import socket
import struct
import termios
import time
import tty
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from threading import Thread
from typing import TYPE_CHECKING, Literal, Protocol

from gateway.simulator.line import HangUp, Line, serial_speed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from drivers.base import Clock
    from gateway.simulator.faults import Fault
    from gateway.simulator.frames import Request
    from gateway.simulator.line import Parity, Send
    from gateway.simulator.meters import Meter

STOP_WITHIN = 60.0  # s for the thread to end, on a machine that does other things too
ISPEED, OSPEED = 4, 5  # places in what tcgetattr gives
CHUNK = 8  # bytes that a serial port hands on together, as a UART's buffer does
SINGLY = 0.001  # s between bytes that come one by one on a line without a speed
STALE = 0.1  # s after which the beginning of a request is none any more
KEPT = 100_000  # times of frames that are remembered
CUT = struct.pack("ii", 1, 0)  # SO_LINGER: closing cuts the connection


def monotonic() -> float:
    """Wire time."""
    return time.monotonic()  # noqa: TID251 - a wire has real time, whatever the meters' clock says


class _End(Protocol):
    """Where bytes come in and go out."""

    def fileno(self) -> int: ...

    def send(self, data: bytes) -> None: ...

    def hang_up(self, how: Literal["reset", "half"]) -> None: ...


@dataclass(order=True, slots=True)
class _Coming:
    """What is to be done at a time."""

    at: float
    number: int
    end: _End = field(compare=False)
    what: bytes | HangUp = field(compare=False)
    last: bool = field(compare=False)  # of an answer


class _Partial:
    """The beginning of a request."""

    def __init__(self) -> None:
        self.data = b""
        self.began = 0.0  # when its first byte was heard
        self.newest = 0.0

    def add(self, data: bytes, now: float) -> bool:
        """Take more bytes; whether a request begins with them."""
        begins = not self.data or now - self.newest > STALE
        if begins:
            self.data, self.began = b"", now
        self.data += data
        self.newest = now
        return begins


class _Simulator:
    """A line with a thread that serves it.

    Change between requests as a test needs: `mute`, the ids of devices that do not answer although they are there, and
    `faults`.
    """

    url: str

    def __init__(self, line: Line, clock: Clock) -> None:
        """Whoever inherits this starts the thread."""
        self.line = line
        self.mute = line.mute
        self.early = 0  # requests that began before 3.5 characters had passed since the end of the answer before them
        self.began: deque[float] = deque(maxlen=KEPT)  # wire time of each request's first byte
        self.ended: deque[float] = deque(maxlen=KEPT)  # and of each answer's end
        self._clock = clock
        self._coming: list[_Coming] = []  # a heap
        self._numbers = count()
        self._wake, self._waker = os.pipe()
        self._stopping = False
        self._thread = Thread(target=self._run, name="modbus-simulator", daemon=True)

    @property
    def requests(self) -> int:
        """Requests that were answered with registers."""
        return self.line.answered

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What goes wrong."""
        return self.line.faults

    @faults.setter
    def faults(self, faults: Sequence[Fault]) -> None:
        self.line.faults = tuple(faults)

    def stop(self) -> None:
        """Cut every connection and end the thread. May be called twice."""
        if self._stopping:
            return
        self._stopping = True
        os.write(self._waker, b"!")
        self._thread.join(STOP_WITHIN)
        os.close(self._wake)
        os.close(self._waker)

    def _run(self) -> None:
        try:
            while not self._stopping:
                ends = self._ends()
                patience = max(0.0, self._coming[0].at - monotonic()) if self._coming else None
                for ready in select.select([self._wake, *ends], [], [], patience)[0]:
                    handle = ends.get(ready)
                    if handle:
                        handle()
                self._act()
        finally:
            self._close()

    def _ends(self) -> dict[int, Callable[[], None]]:
        """What to do when there is something to read, by file descriptor."""
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError

    def _current(self, end: _End) -> _End | None:
        """Where an answer to a request from `end` goes now."""
        return end

    def _heard(self, end: _End, partial: _Partial, data: bytes) -> None:
        now = monotonic()
        if partial.add(data, now) and self.ended and now < self.ended[-1] + self.line.speed.silence:
            self.early += 1
        while partial.data:
            request, size = self.line.framing.take(partial.data)
            if size == 0:
                return
            partial.data = partial.data[size:]
            if request is not None:
                self._answer(end, request, partial.began, max(now, partial.began + size * self.line.speed.character))

    def _answer(self, end: _End, request: Request, began: float, over: float) -> None:
        self.began.append(began)
        for action in self.line.answer(request, over, self._clock.now().wall):
            if isinstance(action, HangUp):
                self._later(action.at, end, action)
            else:
                self._spread(end, action)

    def _spread(self, end: _End, send: Send) -> None:
        """Bytes are there to be read when their wire time is over."""
        pace = self.line.speed.character
        size = CHUNK if pace else len(send.data)
        if send.bytewise:
            pace, size = max(pace, SINGLY), 1
        for start in range(0, len(send.data), size):
            over = min(start + size, len(send.data))
            self._later(send.at + over * pace, end, send.data[start:over], last=over == len(send.data))

    def _later(self, at: float, end: _End, what: bytes | HangUp, *, last: bool = False) -> None:
        heapq.heappush(self._coming, _Coming(at, next(self._numbers), end, what, last))

    def _act(self) -> None:
        while self._coming and self._coming[0].at <= monotonic():
            coming = heapq.heappop(self._coming)
            end = self._current(coming.end)
            if end is None:
                continue
            if isinstance(coming.what, HangUp):
                end.hang_up(coming.what.how)
                continue
            if coming.last:
                self.ended.append(monotonic())  # before: afterwards the other side may already be a step ahead
            end.send(coming.what)


class _Client:
    """A connection that somebody has opened."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.partial = _Partial()
        channel.setblocking(False)  # noqa: FBT003 - the socket module's way
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        return self.channel.fileno()

    def send(self, data: bytes) -> None:
        """What a client does not take is lost, as on a real line."""
        with contextlib.suppress(OSError):
            self.channel.send(data)

    def hang_up(self, how: Literal["reset", "half"]) -> None:
        with contextlib.suppress(OSError):
            if how == "half":
                self.channel.shutdown(socket.SHUT_WR)
                return
            self.channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CUT)
            self.channel.close()


class ModbusSimulator(_Simulator):
    """A Modbus TCP server with meters behind it, or a serial server that passes RTU frames on."""

    def __init__(
        self,
        meters: Sequence[Meter],
        clock: Clock,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        rtu: bool = False,
        missing: Literal["silent", "0x04"] = "silent",
    ) -> None:
        """Listen at once; port 0 takes a free one. OSError when it cannot. `missing`: see Line."""
        self._listener = socket.create_server((host, port))
        transport: Literal["rtu+tcp", "tcp"] = "rtu+tcp" if rtu else "tcp"
        super().__init__(Line(meters, transport, missing=missing), clock)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{transport}://{host}:{self.port}"
        self._serial_server = rtu
        self._clients: list[_Client] = []
        self._thread.start()

    @property
    def clients(self) -> int:
        """Connections that are open now."""
        return len(self._clients)

    def _ends(self) -> dict[int, Callable[[], None]]:
        self._clients = [client for client in self._clients if client.fileno() >= 0]
        return {self._listener.fileno(): self._accept} | {
            client.fileno(): lambda client=client: self._from(client) for client in self._clients
        }

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            channel, _ = self._listener.accept()
            self._clients.append(_Client(channel))

    def _from(self, client: _Client) -> None:
        try:
            data = client.channel.recv(4096)
        except OSError:
            data = b""
        if data:
            self._heard(client, client.partial, data)
        else:
            client.channel.close()

    def _current(self, end: _End) -> _End | None:
        """A serial server sends what comes from its line to whoever is connected then."""
        if self._serial_server:
            return self._clients[-1] if self._clients else None
        return end

    def _close(self) -> None:
        for end in (self._listener, *(client.channel for client in self._clients)):
            end.close()


class SerialSimulator(_Simulator):
    """Meters on a serial line: a pair of pseudo-terminals, of which `port` is the gateway's side."""

    def __init__(
        self,
        meters: Sequence[Meter],
        clock: Clock,
        baudrate: int = 9600,
        parity: Parity = "N",
        *,
        turnaround: float = 0.0,
        ascii: bool = False,  # noqa: A002 - its name
    ) -> None:
        """The settings give the bytes their time. `turnaround`: see Speed. OSError when there is no port left."""
        self.echo = False  # the adapter hears its own requests
        self.unheard = 0  # times that bytes came at another speed
        self._master, self._slave = pty.openpty()
        speed = serial_speed(baudrate, parity, turnaround)
        if ascii:  # a frame says itself where it ends
            speed = speed._replace(silence=0.0)
        super().__init__(Line(meters, "ascii" if ascii else "rtu", speed=speed), clock)
        for end in (self._master, self._slave):
            tty.setraw(end)
        self._speed: int = getattr(termios, f"B{baudrate}")
        _set_speed(self._slave, self._speed)
        os.set_blocking(self._master, False)
        self.port: str = os.ttyname(self._slave)
        scheme, bits = ("ascii", "&bytesize=8") if ascii else ("rtu", "")
        self.url = f"{scheme}://{self.port}?baudrate={baudrate}&parity=N{bits}"
        self._partial = _Partial()
        self._thread.start()

    def silences(self) -> list[float]:
        """Seconds from the end of each answer to the next request's first byte."""
        requests, answers = list(self.began), list(self.ended)  # at once: the line goes on
        after = [(end, min((began for began in requests if began > end), default=None)) for end in answers]
        return [began - end for end, began in after if began is not None]

    def fileno(self) -> int:
        """The meters' side."""
        return self._master

    def send(self, data: bytes) -> None:
        """What nobody reads is lost."""
        with contextlib.suppress(OSError):
            os.write(self._master, data)

    def hang_up(self, how: Literal["reset", "half"]) -> None:
        """A serial line has no connection."""

    def _ends(self) -> dict[int, Callable[[], None]]:
        return {self._master: self._from_port}

    def _from_port(self) -> None:
        try:
            data = os.read(self._master, 4096)
        except OSError:
            return
        if self.echo:
            self._later(monotonic() + len(data) * self.line.speed.character, self, data)
        if termios.tcgetattr(self._slave)[OSPEED] == self._speed:
            self._heard(self, self._partial, data)
        else:
            self.unheard += 1

    def _close(self) -> None:
        os.close(self._slave)
        os.close(self._master)


def _set_speed(port: int, speed: int) -> None:
    """`speed`: of termios' own, as B9600."""
    settings = termios.tcgetattr(port)
    settings[ISPEED] = settings[OSPEED] = speed
    termios.tcsetattr(port, termios.TCSANOW, settings)
