"""Values of more than one register over a real socket: a SunSpec meter that is found, tariffs, a fraction, BCD."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from drivers.modbus.config import Connection, Source, check
from drivers.modbus.driver import build
from gateway.clock import SystemClock
from gateway.config import load
from tests.fakes.driver_ports import FakePorts
from tests.fakes.driver_thread import DriverThread
from tests.fakes.modbus_server import modbus_server


def sunspec() -> dict[int, int]:
    """A map at register 0: a common model, then a meter (203) that has counted 1234 x 10 Wh, then the end."""
    words = dict.fromkeys(range(180), 0)
    words |= {0: 0x5375, 1: 0x6E53, 2: 1, 3: 66, 70: 203, 71: 105, 177: 0xFFFF}
    return words | {70 + 47: 1234, 70 + 54: 1}


DEVICES = {
    1: sunspec(),
    2: {10: 0, 11: 1000, 50: 0, 51: 234},
    3: {10: 0, 11: 1234, 12: 4711, 20: 0x0012, 21: 0x3456},
}
METERS = """\
[[meters]]
name = "sunspec"
push = "off"
unit = "kWh"
source = { connection = "main", device = 1, profile = "sunspec-meter", point = "energy_import_total" }
[[meters]]
name = "tariffs"
push = "off"
unit = "kWh"
source = { connection = "main", device = 2, registers = [10, 50], type = "u32", unit = "kWh", ct_ratio = "200/5" }
[[meters]]
name = "fraction"
push = "off"
unit = "kWh"
[meters.source]
connection = "main"
device = 3
register = 10
type = "u32"
unit = "kWh"
fraction_register = 12
fraction_type = "u16"
fraction_scale = "0.0001"
[[meters]]
name = "bcd"
push = "off"
unit = "m3"
source = { connection = "main", device = 3, register = 20, type = "bcd32", unit = "m3", scale = "0.001" }
"""
SHOWN = {
    "sunspec": Decimal(12_340),
    "tariffs": Decimal(49_360),
    "fraction": Decimal("1234.4711"),
    "bcd": Decimal("123.456"),
}


def test_values_of_many_registers_come_whole_over_a_real_socket(tmp_path: Path):
    """From the words of a configuration to readings, round after round, each device with as few requests as it takes."""
    with modbus_server(DEVICES) as server:
        path = tmp_path / "config.toml"
        main = f'[connections.main]\ndriver = "modbus"\nurl = "{server.url}"\npoll = "1s"\ntimeout = "30s"\n'
        path.write_text(main + METERS)
        config = load(path)
        connection = config.connections["main"]
        sources = {meter.name: meter.source for meter in config.meters}
        assert isinstance(connection, Connection)
        assert all(isinstance(source, Source) for source in sources.values())
        assert not check(connection, sources)
        clock = SystemClock()
        store = FakePorts(clock)
        with DriverThread(build("main", connection, sources, store.ports), clock) as running:
            running.until(lambda: all(len(store.of(name)) >= 3 for name in SHOWN))
    assert {name: {reading.value for reading in store.of(name)} for name in SHOWN} == {
        name: {value} for name, value in SHOWN.items()
    }
    assert not store.rejected
