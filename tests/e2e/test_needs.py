"""What the service takes of its process, counted on the running one: threads and descriptors of each kind of connection."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

from drivers.registry import Needs
from gateway.clock import SystemClock
from gateway.commands.room import OURS, needed
from gateway.config import load
from gateway.simulator.building import bus, devices_on_the_bus
from gateway.simulator.modbus import ModbusSimulator
from tests.fakes.command_line import command
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.mosquitto import mosquitto
from tests.fakes.serial_line import serial_line
from tests.waiting import until

CONNECTIONS = 6
TASKS, FILES = range(5, 8), range(10, 13)  # at rest, of everything but the connections; one too few for a kind shows
MODBUS = 'device = 1, register = 10, table = "holding", type = "u32"'
MQTT = 'topic = "t", value = "v"'


def test_what_a_configuration_is_said_to_need_is_what_a_service_takes(tmp_path: Path) -> None:
    """Two connections each over TCP, on serial lines and to a broker."""
    with ExitStack() as stack:
        urls = [_tcp(stack), _tcp(stack)]
        urls += [stack.enter_context(serial_line({1: {10: 0, 11: 7}}, 38400)).url for _ in range(2)]
        urls += [stack.enter_context(mosquitto(tmp_path)).url] * 2
        path = tmp_path / "config.toml"
        path.write_text(_configuration(tmp_path / "data", urls))
        need = needed(load(path))
        service = stack.enter_context(GatewayProcess(path, tmp_path / "log"))
        connections = Needs(need.tasks - OURS.tasks, need.files - OURS.files)
        until(lambda: _all_are_open(path))
        held = Needs(0, 0)

        def rests() -> bool:
            """Not while a program is asked about the clock, a broker is waited for or the database is looked into."""
            nonlocal held
            held = Needs(*(sum(1 for _ in Path(f"/proc/{service.pid}/{what}").iterdir()) for what in ("task", "fd")))
            return held.tasks - connections.tasks in TASKS and held.files - connections.files in FILES

        until(rests, lambda: f"{held}, of which the connections {connections}")
        assert max(TASKS) < OURS.tasks
        assert max(FILES) < OURS.files
        assert service.stop() == 0


def _tcp(stack: ExitStack) -> str:
    simulator = ModbusSimulator(devices_on_the_bus(bus(1, push="off")), SystemClock())
    stack.callback(simulator.stop)
    return simulator.url


def _all_are_open(config: Path) -> bool:
    """Whether each connection is at work."""
    connections = json.loads(command("status", "--json", "-c", config).out)["connections"].values()
    return len(connections) == CONNECTIONS and all(each["ready_since"] is not None for each in connections)


def _configuration(data: Path, urls: list[str]) -> str:
    text = [f'[gateway]\nname = "bench"\ndata_dir = "{data}"\n']
    for each, url in enumerate(urls):
        driver, where = ("mqtt", MQTT) if url.startswith("mqtt") else ("modbus", MODBUS)
        text.append(f'[connections.c{each}]\ndriver = "{driver}"\nurl = "{url}"\n')
        meter = f'[[meters]]\nname = "m{each}"\npush = "off"\nunit = "kWh"\n'
        text.append(f'{meter}source = {{ connection = "c{each}", {where}, unit = "kWh" }}\n')
    return "".join(text)
