"""sd_notify over a real datagram socket."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from gateway.systemd import Notifier


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_state_lines_arrive_in_one_datagram(kind: str, tmp_path: Path):
    name = str(tmp_path / "notify") if kind == "path" else f"@meter-gateway-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if kind == "abstract" else name)
        manager.settimeout(60)
        Notifier({"NOTIFY_SOCKET": name}).send("READY=1", "STATUS=four meters")
        assert manager.recv(1000) == b"READY=1\nSTATUS=four meters"


def test_outside_systemd_nothing_happens():
    Notifier({}).send("READY=1")


def test_a_manager_that_is_gone_harms_nobody(tmp_path: Path):
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nothing")}).send("WATCHDOG=1")


def test_a_manager_that_takes_no_mail_holds_nobody_up(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("gateway.systemd.PATIENCE", 0.01)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(50):  # the queue of a datagram socket is shorter
            notifier.send("WATCHDOG=1")
