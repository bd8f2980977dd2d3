"""A small HTTP/1.1 server for loopback use: a plain function from request to response, threads, and limits.

The protocol is h11's; this module owns the sockets, what a client may cost (size, time, connections), and nothing else.
It serves the simulated EnerKey and is general: no paths, no JSON, no state.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import format_datetime
from http import HTTPStatus
from threading import Lock, Thread, current_thread
from typing import TYPE_CHECKING

import h11

from gateway.clock import SystemClock

if TYPE_CHECKING:
    from drivers.base import Clock

log = logging.getLogger(__name__)

CHUNK = 65_536  # bytes per read of a socket
LINGER = 1.0  # s in which a client that is still sending may read why it was refused
STOP_WITHIN = 2.0  # s for a connection's thread to end


@dataclass(frozen=True, slots=True)
class Request:
    """One request, complete. `headers` by lower-case name, repeated ones joined by commas (RFC 9110, 5.3)."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """One answer. Content-Length and Date are added by the server; a Date that is given stays."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


Handler = Callable[[Request], "Response | None"]
"""Called in the connection's thread, by several threads at once; None hangs up without a word."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may cost."""

    headers: int = 16 * 1024  # bytes
    body: int = 4 * 1024 * 1024  # bytes
    request_within: float = 30.0  # s from one answer to the end of the next request, waiting included
    connections: int = 64


DEFAULT_LIMITS = Limits()


def serve(
    handler: Handler,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    limits: Limits = DEFAULT_LIMITS,
    clock: Clock | None = None,
) -> Server:
    """Listen at once and answer in threads until `stop`. Port 0 takes a free one. OSError when it cannot listen.

    `clock` runs in real time: it bounds what happens on the wire.
    """
    return Server(handler, host, port, limits, clock or SystemClock())


class Server:
    """A listening server; `port` is the one it got."""

    def __init__(self, handler: Handler, host: str, port: int, limits: Limits, clock: Clock) -> None:
        """See `serve`."""
        self._handler = handler
        self._limits = limits
        self._clock = clock
        self._lock = Lock()
        self._open: dict[Thread, socket.socket] = {}
        self._stopping = False
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=limits.connections)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"
        self._acceptor = Thread(target=self._accept, name=f"http-{self.port}", daemon=True)
        self._acceptor.start()

    def stop(self) -> None:
        """Stop listening and cut every connection; a request being handled has 2 s to end."""
        with self._lock:
            self._stopping = True
            connections = dict(self._open)
        _shut(self._listener)  # wakes accept(), which closing alone does not
        self._acceptor.join(STOP_WITHIN)
        self._listener.close()
        for thread, channel in connections.items():
            _shut(channel)
            thread.join(STOP_WITHIN)

    def _accept(self) -> None:
        while True:
            try:
                channel, _ = self._listener.accept()
            except OSError:  # stopped
                return
            thread = Thread(target=self._converse, args=(channel,), name=f"http-{self.port}-client", daemon=True)
            with self._lock:
                welcome = not self._stopping and len(self._open) < self._limits.connections
                if welcome:
                    self._open[thread] = channel
                    thread.start()  # `stop` waits for those that have begun
            if not welcome:
                channel.close()

    def _converse(self, channel: socket.socket) -> None:
        try:
            with channel:
                _Conversation(channel, self._handler, self._limits, self._clock).run()
        finally:
            with self._lock:
                del self._open[current_thread()]


class _Refused(Exception):  # noqa: N818 - what the client is told
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Conversation:
    """One connection: requests and answers in turn until one side has had enough."""

    def __init__(self, channel: socket.socket, handler: Handler, limits: Limits, clock: Clock) -> None:
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._channel = channel
        self._handler = handler
        self._limits = limits
        self._clock = clock
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.headers)

    def run(self) -> None:
        try:
            while self._turn():
                self._http.start_next_cycle()
        except _Refused as refused:
            self._refuse(refused.status, str(refused))
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, str(error))
        except h11.LocalProtocolError:
            log.exception("the handler gave a response that is not HTTP")
        except OSError:  # the client is gone, or the server was stopped
            return

    def _turn(self) -> bool:
        """One request and its answer; False when the connection ends."""
        request = self._receive()
        if request is None:
            return False
        response = self._handled(request)
        if response is None:
            return False
        self._send(response, with_body=request.method != "HEAD")
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    def _handled(self, request: Request) -> Response | None:
        if request.method == "CONNECT":
            raise _Refused(501, "this is no proxy")
        try:
            return self._handler(request)
        except Exception:  # the seam to foreign code: a handler's fault must not end the server
            log.exception("%s %s failed", request.method, request.target)
            return Response(500, {"Content-Type": "text/plain"}, b"internal error\n")

    # --- receiving ------------------------------------------------------------------------------------------------

    def _receive(self) -> Request | None:
        deadline = self._clock.now().boottime + self._limits.request_within
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            match event:
                case h11.NEED_DATA:
                    self._feed(deadline)
                case h11.Request():
                    head = event
                    self._check_head(head)
                    self._check_size(_content_length(head))
                case h11.Data():
                    body += event.data
                    self._check_size(len(body))
                case _:
                    return _request(head, bytes(body)) if head and isinstance(event, h11.EndOfMessage) else None

    def _feed(self, deadline: float) -> None:
        if self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            self._channel.sendall(self._http.send(go_on) or b"")
        self._channel.settimeout(max(deadline - self._clock.now().boottime, 0.001))  # 0 would mean: do not block
        try:
            self._http.receive_data(self._channel.recv(CHUNK))
        except TimeoutError:
            if self._http.their_state is h11.IDLE and not self._http.trailing_data[0]:
                raise  # nobody is kept waiting: hang up
            raise _Refused(408, "the request did not arrive in time") from None

    def _check_head(self, head: h11.Request) -> None:
        """h11 bounds only a head that is not yet complete; this one came in one piece."""
        if len(head.target) + sum(len(name) + len(value) for name, value in head.headers) > self._limits.headers:
            raise _Refused(431, f"the request's head may have {self._limits.headers} bytes")

    def _check_size(self, length: int) -> None:
        if length > self._limits.body:
            raise _Refused(413, f"the body may have {self._limits.body} bytes")

    # --- sending --------------------------------------------------------------------------------------------------

    def _send(self, response: Response, *, with_body: bool = True) -> None:
        given = {name.lower() for name in response.headers}
        headers = list(response.headers.items())
        if "date" not in given:
            headers.append(("Date", format_datetime(self._clock.now().wall, usegmt=True)))
        if response.status not in {204, 304}:
            headers.append(("Content-Length", str(len(response.body))))
        head = h11.Response(status_code=response.status, headers=headers, reason=_reason(response.status))
        out = [self._http.send(head)]
        if with_body and response.body:
            out.append(self._http.send(h11.Data(data=response.body)))
        out.append(self._http.send(h11.EndOfMessage()))
        self._channel.settimeout(self._limits.request_within)
        self._channel.sendall(b"".join(piece for piece in out if piece))  # at once: no waiting for delayed ACKs

    def _refuse(self, status: int, text: str) -> None:
        """Say why, and hang up in a way that lets a client that is still sending read it."""
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        try:
            self._send(Response(status, {"Connection": "close", "Content-Type": "text/plain"}, f"{text}\n".encode()))
            self._channel.shutdown(socket.SHUT_WR)
            self._drain()
        except (OSError, h11.LocalProtocolError):  # the client is gone, or wants no body with its answer
            return

    def _drain(self) -> None:
        deadline = self._clock.now().boottime + LINGER
        while (left := deadline - self._clock.now().boottime) > 0:
            self._channel.settimeout(left)
            if not self._channel.recv(CHUNK):
                return


def _request(head: h11.Request, body: bytes) -> Request:
    headers: dict[str, str] = {}
    for raw, value in head.headers:
        name, text = raw.decode("ascii"), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return Request(head.method.decode("ascii"), head.target.decode("latin-1"), headers, body)


def _content_length(head: h11.Request) -> int:
    return next((int(value) for name, value in head.headers if name == b"content-length"), 0)


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""


def _shut(channel: socket.socket) -> None:
    try:
        channel.shutdown(socket.SHUT_RDWR)
    except OSError:  # never connected, or gone already
        return
