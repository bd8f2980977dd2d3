"""A small building full of simulated meters: what each measures, how it is read, and the configuration that reads it.

`demo` runs a gateway on all of it; `simulate modbus` and `simulate mqtt` offer its two halves to anybody's gateway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from gateway.simulator.meters import MODELS, ModbusMeter
from gateway.simulator.mqtt import MqttDevice, Voice
from gateway.simulator.world import SINCE, Load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

BUS, HALL = "bus", "hall"  # names of the two connections
FIRST_ID = 10_001  # of the meters in EnerKey
HEADROOM = 10  # times the quiet load; max_rate is a fuse, not a forecast

Push = Literal["consumption", "cumulative", "off"]


class SimulatedMeter(NamedTuple):
    """One meter: its truth, where it is read, and what becomes of it."""

    name: str
    enerkey_id: int
    push: Push
    unit: str  # in EnerKey
    quiet: int  # load of a quiet hour, in `unit`
    load: Load
    source: ModbusMeter | MqttDevice

    def truth(self, hour: int) -> int:
        """The consumption of an hour since the epoch, in micro of `unit`."""
        measured = self.source.model.unit if isinstance(self.source, ModbusMeter) else self.unit
        return self.load.hourly(hour) * _KWH_IN[measured] if measured in _KWH_IN else self.load.hourly(hour)


_MICRO = 1_000_000
_KWH_IN = {"kWh": 1, "MWh": 1000}  # a heat meter counts megawatt-hours, EnerKey has it in kilowatt-hours

_ON_THE_BUS: tuple[tuple[str, str, Push, int, int], ...] = (  # name, model, push, quiet load and register in units
    ("main", "sdm630", "cumulative", 180, 12_345),
    ("chiller", "em340", "consumption", 90, 48_210),
    ("kitchen", "b23", "cumulative", 60, 7_015),
    ("heat", "multical", "consumption", 120, 310_000),
    ("lab", "iem3155", "cumulative", 45, 2_718),
)
_IN_THE_HALL: tuple[tuple[str, Voice, Push, str, int, int], ...] = (  # name, voice, push, unit, quiet load, register
    ("bakery", "counter", "cumulative", "kWh", 30, 5_520),
    ("cold-water", "number", "consumption", "m3", 2, 812),
    ("pv-roof", "interval", "consumption", "kWh", 20, 0),
    ("charger", "power", "cumulative", "kWh", 11, 0),
)


class Pace(NamedTuple):
    """How often devices speak."""

    counter: timedelta
    interval: timedelta
    power: timedelta


def bus(count: int, *, since: datetime = SINCE, push: Push | None = None) -> list[SimulatedMeter]:
    """So many Modbus meters, device 1 and up, family after family. `push` instead of each meter's own."""
    return [_on_the_bus(number, since, push) for number in range(count)]


def _on_the_bus(number: int, since: datetime, push: Push | None) -> SimulatedMeter:
    again, row = divmod(number, len(_ON_THE_BUS))
    name, key, own, quiet, register = _ON_THE_BUS[row]
    name = f"{name}-{again + 1}" if again else name
    model = MODELS[key]
    one = _MICRO // _KWH_IN[model.unit]
    load = Load(name, quiet * one, start=register * one, since=since)
    return SimulatedMeter(
        name, FIRST_ID + number, push or own, "kWh", quiet, load, ModbusMeter(number + 1, model, load)
    )


def hall(
    pace: Pace, *, since: datetime = SINCE, first_id: int = FIRST_ID, push: Push | None = None
) -> list[SimulatedMeter]:
    """The MQTT devices. `push` instead of each meter's own."""
    meters = []
    for number, (name, voice, own, unit, quiet, register) in enumerate(_IN_THE_HALL):
        load = Load(name, quiet * _MICRO, start=register * _MICRO, since=since)
        device = _device(name, voice, load, pace)
        meters.append(SimulatedMeter(name, first_id + number, push or own, unit, quiet, load, device))
    return meters


def _device(name: str, voice: Voice, load: Load, pace: Pace) -> MqttDevice:
    topic = f"building/{name}"
    if voice == "interval":
        return MqttDevice(topic, voice, load, pace.interval)
    if voice == "power":  # not at the full hour, where the load jumps and a sample could mean either side
        return MqttDevice(topic, voice, load, pace.power, after=pace.power / 2)
    return MqttDevice(topic, voice, load, pace.counter)


def devices_on_the_bus(meters: Sequence[SimulatedMeter]) -> list[ModbusMeter]:
    """Those that a Modbus simulator is to serve."""
    return [meter.source for meter in meters if isinstance(meter.source, ModbusMeter)]


def devices_in_the_hall(meters: Sequence[SimulatedMeter]) -> list[MqttDevice]:
    """Those that publish."""
    return [meter.source for meter in meters if isinstance(meter.source, MqttDevice)]


# --- the configuration that reads them --------------------------------------------------------------------------------


def bus_connection(url: str, poll: str) -> str:
    """TOML of the connection to the Modbus simulator."""
    return f'[connections.{BUS}]\ndriver = "modbus"\nurl = "{url}"\npoll = "{poll}"\n'


def hall_connection(url: str, protocol: str = "auto") -> str:
    """TOML of the connection to the broker."""
    version = "" if protocol == "auto" else f'protocol = "{protocol}"\n'
    return f'[connections.{HALL}]\ndriver = "mqtt"\nurl = "{url}"\n{version}'


def meter_block(meter: SimulatedMeter) -> str:
    """TOML of one meter."""
    source = (
        _modbus_source(meter.source) if isinstance(meter.source, ModbusMeter) else _mqtt_source(meter, meter.source)
    )
    lines = [
        "[[meters]]",
        f'name = "{meter.name}"',
        *([f"enerkey_id = {meter.enerkey_id}"] if meter.push != "off" else []),
        f'push = "{meter.push}"',
        f'unit = "{meter.unit}"',
        f"max_rate = {meter.quiet * HEADROOM}",
        f"source = {{ {source} }}",
    ]
    return "\n".join(lines) + "\n"


def _modbus_source(source: ModbusMeter) -> str:
    model = source.model
    said = f'connection = "{BUS}", device = {source.device}, profile = "{model.profile}", point = "{model.point}"'
    return said if model.unit == "kWh" else f'{said}, unit = "{model.unit}"'  # a heat meter's unit is a setting


def _mqtt_source(meter: SimulatedMeter, device: MqttDevice) -> str:
    seconds = f"{device.every.total_seconds():g}s"
    match device.voice:
        case "counter":
            said = f'value = "total", time = "time", unit = "{meter.unit}", expected_every = "{seconds}"'
        case "number":
            said = f'unit = "{meter.unit}", expected_every = "{seconds}"'
        case "interval":
            said = 'value = "energy_wh", time = "until", unit = "Wh", kind = "interval", '
            said += f'period = "{seconds}", stamp = "end", expected_every = "{seconds}"'
        case "power":
            said = 'value = "power_w", time = "ts", unit = "W", kind = "power", '
            said += f'expected_every = "{seconds}", max_gap = "5m"'
    return f'connection = "{HALL}", topic = "{device.topic}", {said}'


def where(meter: SimulatedMeter) -> str:
    """Where a meter is found, for people."""
    if isinstance(meter.source, MqttDevice):
        return f"{meter.source.topic} ({meter.source.voice})"
    register = meter.source.model.energy
    return f"device {meter.source.device}, {meter.source.model.title}, register {register.address} {register.type}"
