"""`meter-gateway check --plan`: what will be asked and how long it takes, before anything is wired."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drivers.modbus.connection import Connection
from drivers.modbus.learned import shape_key
from drivers.modbus.limits import wants_of
from drivers.modbus.plan import Shape, to_text
from drivers.modbus.source import Source
from gateway.config import Config, load
from gateway.wiring import DriverMemory, open_store
from tests.fakes.command_line import Done, command, on_terminal

HALL = """\
[gateway]
data_dir = "DATA"
[connections.hall]
driver = "modbus"
url = "rtu:///dev/ttyUSB0?baudrate=9600&parity=E"
poll = "10s"
"""
METER = """\
[[meters]]
name = "NAME"
push = "off"
unit = "kWh"
max_rate = 50
source = { connection = "hall", SOURCE }
"""
SDM630 = 'device = 7, profile = "eastron-sdm630", point = "POINT"'

SHOWN = """\
hall: rtu:///dev/ttyUSB0?baudrate=9600&parity=E
  a round: 3 requests to 2 devices, 0.49 s of the 10 s between two polls (4.9%),
    taking answers that begin after 40 ms
  device 7: 2 requests, 334 ms
    input 52, 22 registers, 65 ms on the wire: power (52-53), hole (54-71),
      energy (72-73)
    input 346, 6 registers, 29 ms on the wire: phases (346-347), phases
      (348-349), phases (350-351)
  device 8: 1 request, 157 ms
    holding 0, 1 register, 17 ms on the wire: pulses and again (0)
"""


def meter(name: str, source: str) -> str:
    return METER.replace("NAME", name).replace("SOURCE", source)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Two devices on a serial line: power and energy with a hole between, a sum of phases, two meters on one register."""
    phases = SDM630.replace('point = "POINT"', 'points = ["energy_import_l1", "energy_import_l2", "energy_import_l3"]')
    pulses = 'device = 8, register = 0, type = "u16", unit = "kWh"'
    path = tmp_path / "config.toml"
    path.write_text(
        HALL.replace("DATA", str(tmp_path / "data"))
        + meter("energy", SDM630.replace("POINT", "energy_import_total"))
        + meter("power", SDM630.replace("POINT", "power_active_total"))
        + meter("phases", phases)
        + meter("pulses", pulses)
        + meter("again", pulses)
    )
    return path


def connection_of(config: Config) -> Connection:
    connection = config.connections["hall"]
    assert isinstance(connection, Connection)
    return connection


def sources_of(config: Config) -> dict[str, Source]:
    return {each.name: each.source for each in config.meters if isinstance(each.source, Source)}


def line_of(done: Done) -> dict:
    (line,) = json.loads(done.out)["plan"]
    return line


def test_the_plan_tells_each_request_its_values_its_holes_and_the_time_of_a_round(config: Path):
    """Exactly so, on a terminal of 80 columns; nothing is opened or written."""
    done = on_terminal("check", "--plan", "-c", config, NO_COLOR="1")
    shown, _, verdict = done.out.partition("\n\n")
    assert (done.code, shown + "\n") == (0, SHOWN)
    assert " ".join(verdict.split()).endswith(f"{config}: ok: 5 meters on 1 connection, 1 warning")
    assert 'reads the same as meter "pulses"' in " ".join(verdict.split())
    assert max(map(len, shown.splitlines())) <= 80
    assert list(config.parent.iterdir()) == [config]


def test_the_same_as_json(config: Path):
    """Beside what `check --json` says anyway."""
    done = command("check", "--plan", "--json", "-c", config)
    document = json.loads(done.out)
    line = line_of(done)
    assert (done.code, document["ok"], document["meters"][0]) == (0, True, "energy")
    assert (line["connection"], line["requests"], line["poll_ms"]) == ("hall", 3, 10_000)
    assert line["share"] == pytest.approx(line["round_ms"] / line["poll_ms"], abs=0.0001)
    assert line["round_ms"] == pytest.approx(sum(device["round_ms"] for device in line["devices"]), abs=0.2)
    assert line["devices"][0]["requests"][0] == {
        "table": "input",
        "sunspec": None,
        "register": 52,
        "count": 22,
        "took_ms": 165.3,  # 60 ms gap, 40 ms of thinking, 57 characters
        "wire_ms": 65.3,
        "values": [
            {"meters": ["power"], "register": 52, "count": 2},
            {"meters": ["energy"], "register": 72, "count": 2},
        ],
        "holes": [{"register": 54, "count": 18}],
    }


def test_a_round_that_does_not_fit_between_two_polls_has_more_than_all_of_the_time(config: Path):
    """A request takes most of a second at 300 baud, and there a hole of 18 registers is dearer than another request."""
    config.write_text(config.read_text().replace("baudrate=9600", "baudrate=300").replace('"10s"', '"1s"'))
    said = " ".join(command("check", "--plan", "-c", config).out.split())
    assert "a round: 4 requests to 2 devices, 3.74 s of the 1 s between two polls (374.0%)" in said


def test_the_plan_is_what_a_device_has_taught(config: Path):
    """It has refused the hole before its energy, and the driver remembers it: what is shown is what will be asked."""
    loaded = load(config)
    store = open_store(loaded, command="run", threaded=False)
    want = next(each for each in wants_of(connection_of(loaded), sources_of(loaded)) if each.number == 7)
    key = shape_key(want.number, want.targets, want.limits.max_registers)
    DriverMemory(store, "hall").put(key, to_text(Shape(80, frozenset({("input", 72)}))))
    store.close()
    done = command("check", "--plan", "-c", config)
    assert "device 7: 3 requests, 408 ms, as it has taught\n" in done.out


def test_a_network_connection_says_what_its_times_stand_on(config: Path):
    """Nobody knows the speed behind it."""
    config.write_text(
        config.read_text().replace("rtu:///dev/ttyUSB0?baudrate=9600&parity=E", "rtu+tcp://192.0.2.7:4001")
    )
    done = command("check", "--plan", "-c", config)
    assert "taking 9600 baud behind the gateway, and answers that begin after 40 ms" in done.out
    assert "on the wire" not in done.out


def test_registers_of_a_sunspec_model_count_from_its_beginning(config: Path):
    """Where the device has it is found only when it is asked."""
    sun = 'device = 9, profile = "sunspec-meter", point = "energy_import_total", instance = 2'
    config.write_text(HALL.replace("DATA", str(config.parent / "data")) + meter("sun", sun))
    done = command("check", "--plan", "-c", config)
    assert "SunSpec 201/202/203/204 no. 2 + 46, 9 registers" in done.out
    assert "sun (46-54)\n" in done.out


def test_without_modbus_there_is_no_plan(config: Path):
    """MQTT asks nothing."""
    mqtt = '[connections.hall]\ndriver = "mqtt"\nurl = "mqtt://192.0.2.7"\n'
    config.write_text(mqtt + meter("water", 'topic = "w", unit = "kWh"'))
    done = command("check", "--plan", "-c", config)
    assert done.code == 0
    assert done.out.startswith("no connection speaks Modbus: there are no requests to plan\n")


def test_a_plan_and_a_message_are_not_looked_at_together(config: Path):
    """One or the other."""
    done = command("check", "--plan", "--message", config, "-c", config)
    assert done.code == 2
    assert "not allowed with argument" in done.err
