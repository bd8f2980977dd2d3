"""Private brokers: they listen on loopback, end when told, and say why when they cannot."""

from __future__ import annotations

import os
import socket
from importlib.util import find_spec
from threading import Event

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from gateway.simulator import broker as module
from gateway.simulator.broker import HOST, NoBroker, find_mosquitto, start_broker
from tests.fakes.ports import lasting_port

MOSQUITTO = pytest.param("mosquitto", marks=pytest.mark.skipif(not find_mosquitto(), reason="no mosquitto here"))
AMQTT = pytest.param("amqtt", marks=pytest.mark.skipif(not find_spec("amqtt"), reason="no amqtt here"))


def accepts(port: int) -> bool:
    """Whether a broker greets a client there."""
    greeted = Event()
    client = Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda *_: greeted.set()
    try:
        client.connect(HOST, port)
    except OSError:
        return False
    client.loop_start()
    greeted.wait(60)
    client.disconnect()
    client.loop_stop()
    return greeted.is_set()


@pytest.mark.parametrize("kind", [MOSQUITTO, AMQTT])
def test_it_listens_until_it_is_stopped(kind, tmp_path):
    broker = start_broker(kind, tmp_path, lasting_port())  # nobody else gets it afterwards
    assert (broker.name, broker.protocol) in {("mosquitto", "5"), ("amqtt", "3.1.1")}
    assert accepts(broker.port)
    broker.stop()
    broker.stop()
    assert not accepts(broker.port)


@pytest.mark.parametrize("kind", [MOSQUITTO])
def test_mosquitto_is_told_to_keep_no_message_back(kind, tmp_path):
    """Measured: in a demo at 600 x a bare number was heard 17 to 26 s late without this line, 1 s with it."""
    start_broker(kind, tmp_path).stop()
    assert "set_tcp_nodelay true\n" in (tmp_path / "mosquitto.conf").read_text()


@pytest.mark.parametrize("kind", [MOSQUITTO, AMQTT])
def test_two_of_them_do_not_disturb_each_other(kind, tmp_path):
    (tmp_path / "other").mkdir()
    first, second = start_broker(kind, tmp_path), start_broker(kind, tmp_path / "other")
    assert first.port != second.port
    first.stop()
    assert accepts(second.port)
    second.stop()


@pytest.mark.parametrize("kind", [MOSQUITTO, AMQTT])
def test_a_taken_port_is_named(kind, tmp_path):
    with socket.create_server((HOST, 0)) as taken, pytest.raises(NoBroker, match="in use") as refused:
        start_broker(kind, tmp_path, taken.getsockname()[1])
    assert "cannot listen on 127.0.0.1 port" in str(refused.value)


@pytest.mark.skipif(not find_mosquitto(), reason="no mosquitto here")
def test_a_mosquitto_that_dies_at_once_is_quoted(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOSQUITTO_CONF", "nonsense {port}\n")
    with pytest.raises(NoBroker, match="did not start"):
        start_broker("mosquitto", tmp_path)


def test_mosquitto_is_found_where_only_roots_path_leads(tmp_path, monkeypatch):
    program = tmp_path / "mosquitto"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.setattr(module, "SYSTEM_PROGRAMS", str(tmp_path))
    assert find_mosquitto() in {str(program), "/bin/mosquitto", "/usr/bin/mosquitto"}


def test_without_any_broker_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "SYSTEM_PROGRAMS", str(tmp_path))
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(NoBroker, match=r"apt install mosquitto.*amqtt"):
        start_broker("auto", tmp_path)
    with pytest.raises(NoBroker, match="apt install mosquitto"):
        start_broker("mosquitto", tmp_path)
