"""The small server on real loopback sockets, asked by the standard library's client and by raw bytes."""

from __future__ import annotations

import http.client
import logging
import socket
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Barrier
from threading import enumerate as enumerate_threads
from typing import TYPE_CHECKING

import pytest

from gateway.simulator import http as module
from gateway.simulator.http import Limits, Request, Response, Server, serve
from tests.fakes.ports import lasting_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 60.0  # s, on a machine that does other things too; every wait ends by itself long before
SMALL = Limits(headers=2048, body=1000, request_within=PATIENCE, connections=3)
HASTY = replace(SMALL, request_within=0.3)
HASTES = [replace(SMALL, request_within=within) for within in (0.3, 3.0, 30.0)]  # s


def echo(request: Request) -> Response:
    """Says what it was asked, as text."""
    words = f"{request.method} {request.target} {request.headers.get('x-word', '')} {len(request.body)}"
    return Response(200, {"Content-Type": "text/plain"}, words.encode())


@contextmanager
def serving(handler: Callable[[Request], Response | None] = echo, limits: Limits = SMALL) -> Iterator[Server]:
    server = serve(handler, limits=limits)
    try:
        yield server
    finally:
        server.stop()


def connected(server: Server) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)


def raw(server: Server, data: bytes) -> bytes:
    """Everything that the server answers to these bytes until it hangs up."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as channel:
        channel.sendall(data)
        received = b""
        while piece := channel.recv(65_536):
            received += piece
        return received


def answer_to_the_slow(talk: Callable[[Server], bytes]) -> bytes:
    """What a server says to who began a request and did not end it in time.

    Who does not even begin in time is hung up on in silence: a busy machine may need more time for that.
    """
    for limits in HASTES:
        with serving(limits=limits) as server, suppress(ConnectionError):
            if received := talk(server):
                return received
    return b""


def test_a_request_becomes_a_call_and_its_result_the_answer():
    with serving() as server, closing(connected(server)) as one:
        one.request("POST", "/a/b?c=%20d", body=b"12345", headers={"X-Word": "hello"})
        answer = one.getresponse()
        assert (answer.status, answer.reason, answer.read()) == (200, "OK", b"POST /a/b?c=%20d hello 5")
        assert answer.headers["Content-Type"] == "text/plain"


def test_one_connection_carries_many_requests():
    with serving() as server, closing(connected(server)) as one:
        one.request("GET", "/1")
        assert one.getresponse().read() == b"GET /1  0"
        before = one.sock.getsockname()
        one.request("GET", "/2")
        assert one.getresponse().read() == b"GET /2  0"
        assert one.sock.getsockname() == before


def test_pipelined_requests_are_answered_in_order():
    with serving() as server:
        received = raw(
            server, b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
    assert received.index(b"GET /1") < received.index(b"GET /2")


def test_every_answer_has_a_date_and_a_length():
    with serving() as server, closing(connected(server)) as one:
        one.request("GET", "/")
        headers = one.getresponse().headers
        assert abs(parsedate_to_datetime(headers["Date"]) - datetime.now(UTC)).total_seconds() < PATIENCE
        assert headers["Content-Length"] == "8"
        assert b"\r\nDate: " in raw(server, b"nonsense\r\n\r\n")


def test_a_date_that_the_handler_gives_stays():
    date = "Tue, 24 Nov 2026 13:00:00 GMT"
    with serving(lambda _: Response(200, {"Date": date})) as server, closing(connected(server)) as one:
        one.request("GET", "/")
        assert one.getresponse().headers.get_all("Date") == [date]


def test_head_gets_the_headers_alone_and_204_no_length():
    with serving() as server, closing(connected(server)) as one:
        one.request("HEAD", "/")
        answer = one.getresponse()
        assert (answer.headers["Content-Length"], answer.read()) == ("9", b"")
        one.request("GET", "/")
        assert one.getresponse().read() == b"GET /  0"
    with serving(lambda _: Response(204)) as server, closing(connected(server)) as one:
        one.request("GET", "/")
        assert one.getresponse().headers["Content-Length"] is None


def test_repeated_headers_are_joined():
    with serving() as server:
        assert b"GET / a, b 0" in raw(
            server, b"GET / HTTP/1.1\r\nHost: x\r\nX-Word: a\r\nx-word: b\r\nConnection: close\r\n\r\n"
        )


def test_a_chunked_body_arrives_whole():
    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    with serving() as server:
        assert b"POST /  7" in raw(server, head + b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")


def test_a_client_that_waits_for_100_continue_is_told_to_go_on():
    with serving() as server, socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as channel:
        channel.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert channel.recv(1000).startswith(b"HTTP/1.1 100 ")
        channel.sendall(b"abc")
        assert b"POST /  3" in channel.recv(1000)


def test_none_hangs_up_without_a_word():
    with serving(lambda _: None) as server:
        assert raw(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 4000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", 413),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"z" * 2000 + b"\r\n0\r\n\r\n",
            413,
        ),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    ],
)
def test_what_is_malformed_or_too_large_is_refused_and_hung_up_on(request_bytes: bytes, status: int):
    with serving() as server:
        received = raw(server, request_bytes)
        assert received.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nConnection: close\r\n" in received


@pytest.mark.parametrize(
    "request_bytes", [b"GET / HTTP/1.1\r\nHo", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"]
)
def test_what_is_too_slow_is_refused_and_hung_up_on(request_bytes: bytes):
    received = answer_to_the_slow(lambda server: raw(server, request_bytes))
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nConnection: close\r\n" in received


def drip(server: Server) -> bytes:
    """What is answered at last to byte after byte."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as channel:
        channel.settimeout(0.05)
        for dripped in range(1000):
            channel.sendall(b"E" if dripped else b"G")
            with suppress(TimeoutError):
                return channel.recv(1000)
    return b""


def test_a_drip_of_bytes_does_not_hold_a_connection():
    assert answer_to_the_slow(drip).startswith(b"HTTP/1.1 408 ")


def test_a_client_still_sending_can_read_why_it_was_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LINGER", PATIENCE)  # a busy machine is no client that has had its time
    with serving() as server, socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as channel:
        channel.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n")
        channel.sendall(b"z" * 300_000)
        assert channel.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_an_idle_connection_is_closed_in_silence():
    with serving(limits=HASTY) as server:
        assert raw(server, b"") == b""


def test_connections_beyond_the_limit_are_closed_and_the_others_go_on():
    few = Limits(connections=2)
    with serving(limits=few) as server, closing(connected(server)) as one, closing(connected(server)) as two:
        for each in (one, two):
            each.request("GET", "/")
            each.getresponse().read()
        with suppress(ConnectionResetError):
            assert raw(server, b"") == b""
        one.request("GET", "/")
        assert one.getresponse().read() == b"GET /  0"


def test_clients_are_served_side_by_side():
    both_inside = Barrier(2, timeout=PATIENCE)

    def handler(_: Request) -> Response:
        both_inside.wait()
        return Response(200)

    with serving(handler) as server, closing(connected(server)) as one, closing(connected(server)) as two:
        one.request("GET", "/")
        two.request("GET", "/")
        assert one.getresponse().status == two.getresponse().status == 200


def test_a_fault_in_the_handler_is_logged_and_answered_and_ends_nothing(caplog: pytest.LogCaptureFixture):
    def handler(request: Request) -> Response:
        if request.target == "/bad":
            raise KeyError("whatever")
        return Response(200)

    with serving(handler) as server, closing(connected(server)) as one:
        one.request("GET", "/bad")
        assert one.getresponse().read() == b"internal error\n"
        one.request("GET", "/good")
        assert one.getresponse().status == 200
    assert "GET /bad failed" in caplog.text


def test_a_response_that_is_not_http_is_logged_and_hung_up_on(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.ERROR)
    with serving(lambda _: Response(200, {"X": "a\r\nInjected: b"})) as server:
        assert raw(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""
    assert "not HTTP" in caplog.text


def test_a_status_without_a_name_is_sent_without_one():
    with serving(lambda _: Response(599)) as server, closing(connected(server)) as one:
        one.request("GET", "/")
        assert one.getresponse().status == 599


def test_stopping_cuts_open_connections_and_leaves_no_thread():
    before = {*enumerate_threads()}
    server = serve(echo, port=lasting_port())  # nobody else gets it afterwards
    with closing(connected(server)) as one:
        one.request("GET", "/")
        one.getresponse().read()
        server.stop()
        for thread in {*enumerate_threads()} - before:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", server.port), timeout=1)


def test_a_taken_port_is_an_oserror_at_once():
    with serving() as server, pytest.raises(OSError):
        serve(echo, port=server.port)


def test_it_listens_on_ipv6_too():
    server = serve(echo, "::1")
    try:
        assert server.url == f"http://[::1]:{server.port}"
        with closing(http.client.HTTPConnection("::1", server.port, timeout=PATIENCE)) as one:
            one.request("GET", "/")
            assert one.getresponse().status == 200
    finally:
        server.stop()
