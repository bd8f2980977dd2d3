"""The service's ear, over a real Unix socket."""

from __future__ import annotations

import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.control import ControlServer, ask

Serve = Callable[..., Path]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    servers: list[ControlServer] = []

    def start(handler: Callable[[dict[str, Any]], Any], path: Path = tmp_path / "control.sock") -> Path:
        servers.append(ControlServer(path, handler))
        return path

    yield start
    for server in servers:
        server.close()


def raw(path: Path, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(60)
        channel.connect(str(path))
        try:
            channel.sendall(request)
            channel.shutdown(socket.SHUT_WR)
            return channel.recv(1000)
        except (BrokenPipeError, ConnectionResetError):  # it had heard enough before all of it was sent
            return b""


def test_a_request_is_answered(serve: Serve):
    path = serve(lambda request: {"got": request["want"]})
    assert ask(path, {"want": "status"}) == {"got": "status"}
    assert ask(path, {"want": "reads"}) == {"got": "reads"}


def test_an_answer_may_be_long(serve: Serve):
    path = serve(lambda request: {str(number): "x" * 100 for number in range(5000)})
    assert len(ask(path, {"want": "reads"}) or {}) == 5000


def test_only_its_own_user_may_ask(serve: Serve):
    assert stat.S_IMODE(serve(lambda request: {}).stat().st_mode) == 0o600


def test_nobody_answers_where_nobody_listens(tmp_path: Path):
    assert ask(tmp_path / "control.sock", {}) is None
    assert ask(tmp_path / "nowhere" / "control.sock", {}) is None


def test_a_socket_that_a_dead_process_left_is_replaced(serve: Serve, tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(tmp_path / "control.sock"))
    assert ask(tmp_path / "control.sock", {}) is None
    assert ask(serve(lambda request: {"alive": True}), {}) == {"alive": True}


@pytest.mark.parametrize("request_bytes", [b"", b"{", b"[]\n", b"\xff\xfe\n", b"{}\n", b'"' + b"x" * 100_000 + b'"\n'])
def test_a_broken_request_harms_nobody_but_its_sender(serve: Serve, request_bytes: bytes):
    path = serve(lambda request: {"got": request["want"]})
    assert raw(path, request_bytes) == b""
    assert ask(path, {"want": "status"}) == {"got": "status"}


def test_a_handler_that_fails_ends_one_answer_only(serve: Serve):
    answers = iter([RuntimeError("dictionary changed size"), None])

    def handler(request: dict[str, Any]) -> dict[str, Any]:
        if error := next(answers):
            raise error
        return {"ok": True}

    path = serve(handler)
    assert ask(path, {}) is None
    assert ask(path, {}) == {"ok": True}


def test_a_deep_directory_is_no_obstacle(serve: Serve, tmp_path: Path):
    """unix(7) allows 108 bytes."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    assert ask(serve(lambda request: {"ok": True}, deep / "control.sock"), {}) == {"ok": True}


def test_after_close_nobody_answers_and_nothing_is_left(tmp_path: Path):
    server = ControlServer(tmp_path / "control.sock", lambda request: {})
    server.close()
    assert ask(tmp_path / "control.sock", {}) is None
    assert list(tmp_path.iterdir()) == []
