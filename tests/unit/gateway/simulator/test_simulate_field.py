"""`simulate modbus` and `simulate mqtt` as an operator runs them: a process, its lines, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from drivers.modbus.address import address_of
from gateway.simulator.broker import find_mosquitto
from gateway.simulator.frames import Rtu, checksum
from tests.fakes.ports import lasting_port

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-m", "gateway", "simulate"]


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """What it still says after the signal; it must end well."""
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    return out


def test_modbus_says_what_it_serves_and_how_to_read_it():
    with running("modbus", "--port", "0", "--devices", "6", "--json") as process:
        told = json.loads(process.stdout.readline())
        assert [meter["name"] for meter in told["meters"]] == ["main", "chiller", "kitchen", "heat", "lab", "main-2"]
        config = tomllib.loads(told["config"])
        assert config["connections"]["bus"]["url"] == told["url"]
        assert [meter["source"]["device"] for meter in config["meters"]] == [1, 2, 3, 4, 5, 6]
        port = int(told["url"].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=60) as channel:
            channel.sendall(bytes([0, 1, 0, 0, 0, 6, 1, 4, 0, 72, 0, 2]))
            assert channel.recv(300)[7:9] == bytes([4, 4])
        assert json.loads(ended(process, signal.SIGINT)) == {"event": "summary", "requests": 1}


def test_modbus_on_a_serial_port_with_faults_says_what_came_of_it():
    """The port can be opened as the URL says, every second answer has a wrong checksum, and it is summed up."""
    arguments = ("--serial", "--baudrate", "38400", "--parity", "E", "--devices", "2", "--fault", "corrupt=2@1")
    with running("modbus", *arguments, "--json") as process:
        told = json.loads(process.stdout.readline())
        assert told["url"].endswith("?baudrate=38400&parity=N")
        address = address_of(told["url"])
        port = os.open(address.host, os.O_RDWR | os.O_NOCTTY)
        sound = []
        for _ in range(4):
            os.write(port, Rtu.wrap(0, 1, bytes([4, 0, 72, 0, 2])))
            answer = b""
            while len(answer) < 9:
                answer += os.read(port, 100)
            sound.append(checksum(answer[:-2]) == answer[-2:])
        os.close(port)
        assert sorted(sound) == [False, False, True, True]
        summary = json.loads(ended(process, signal.SIGINT))
        assert 0 <= summary.pop("early") <= 3
        assert summary == {"event": "summary", "requests": 4, "faults": 2}


def test_modbus_behind_a_serial_server_answers_rtu_frames():
    """Without MBAP header."""
    with running("modbus", "--rtu-over-tcp", "--port", "0", "--json") as process:
        url = json.loads(process.stdout.readline())["url"]
        assert url.startswith("rtu+tcp://127.0.0.1:")
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=60) as channel:
            channel.sendall(Rtu.wrap(0, 1, bytes([4, 0, 72, 0, 2])))
            answer = channel.recv(300)
        assert answer[:3] == bytes([1, 4, 4])
        assert checksum(answer[:-2]) == answer[-2:]


BROKERS = [
    pytest.param("mosquitto", marks=pytest.mark.skipif(not find_mosquitto(), reason="no mosquitto here")),
    pytest.param("amqtt", marks=pytest.mark.skipif(not find_spec("amqtt"), reason="no amqtt here")),
]


@pytest.mark.parametrize("broker", BROKERS)
def test_mqtt_starts_a_broker_and_publishes(broker: str):
    url = f"mqtt://127.0.0.1:{lasting_port()}"
    with running("mqtt", "--url", url, "--broker", broker, "--every", "0.2", "--json") as process:
        told = json.loads(process.stdout.readline())
        config = tomllib.loads(told["config"])
        assert config["connections"]["hall"].get("protocol", "5") == {"mosquitto": "5", "amqtt": "3.1.1"}[broker]
        topics = {json.loads(process.stdout.readline())["topic"] for _ in range(8)}
        assert topics == {meter["source"]["topic"] for meter in config["meters"]}
        *_, last = ended(process, signal.SIGTERM).splitlines()
        assert json.loads(last)["event"] == "summary"


def test_people_get_a_table_and_something_to_paste():
    with running("modbus", "--port", "0", "--devices", "1") as process:
        lines = [process.stdout.readline() for _ in range(6)]
        assert lines[0].endswith("Ctrl-C ends it\n")
        assert lines[2] == "main   device 1, Eastron SDM630, register 72 f32\n"
        assert "paste" in lines[4]
        assert ended(process, signal.SIGINT).endswith("0 requests answered\n")
