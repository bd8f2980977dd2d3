"""Twenty meters with a known truth, ten on a Modbus line and ten at a broker, ten of them pushed as readings."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from buffer.model import MICRO, hour_start
from gateway.simulator import building
from gateway.simulator.building import SimulatedMeter
from gateway.simulator.mqtt import MqttDevice, MqttDevices
from gateway.simulator.world import Load

ON_THE_BUS = 10
POLL = timedelta(minutes=5)
PACE = building.Pace(counter=timedelta(minutes=5), interval=timedelta(minutes=15), power=timedelta(minutes=1))
WATT_HOUR = 1000  # micro of a kilowatt-hour: as fine as the devices at the broker speak
TWICE = 0.03  # share of messages that are published two times
LATE = 0.01  # share of the interval messages that come hours later, when their hour is closed
LATE_BY = (timedelta(hours=2), timedelta(hours=5))

CONFIG = """
[gateway]
name = "torture"
data_dir = "{directory}/data"
[clock]
trust = "always"
[hours]
grace = "2m"
[enerkey]
url = "{enerkey}"
api_keys = ["{key}"]
settle = "20m"
push_spread = "10m"
"""
KEY = "a-key-that-is-good"


def meters(since: datetime) -> list[SimulatedMeter]:
    """The bus as the demo has it (6 cumulative, 4 consumption), then 6 counters and 4 interval sources at a broker."""
    found = building.bus(ON_THE_BUS, since=since)
    for number in range(10):
        voice, push = (
            ("counter" if number < 6 else "interval"),
            ("cumulative" if number in {0, 1, 6, 7} else "consumption"),
        )
        name, quiet = f"{voice}-{number}", 7 + 11 * number
        load = Load(name, quiet * MICRO, start=1000 * number * MICRO, since=since)
        device = building._device(name, voice, load, PACE)
        found.append(SimulatedMeter(name, building.FIRST_ID + len(found), push, "kWh", quiet, load, device))
    return found


def exact(meter: SimulatedMeter, hour: int) -> int | None:
    """What an hour of a meter must be to the last digit, in micro; None where polls decide what is seen of it."""
    if not isinstance(meter.source, MqttDevice):
        return None
    first, last = (meter.load.register(hour_start(edge)) // WATT_HOUR for edge in (hour, hour + 1))
    return (last - first) * WATT_HOUR


def configuration(directory: Path, enerkey: str, bus: str, broker: str, those: list[SimulatedMeter]) -> Path:
    """The file that the gateway is started with."""
    parts = [
        CONFIG.format(directory=directory, enerkey=enerkey, key=KEY),
        building.bus_connection(bus, f"{POLL.total_seconds():g}s") + 'timeout = "30s"\n',  # real, on a busy machine
        building.hall_connection(broker),
        *(building.meter_block(meter) for meter in those),
    ]
    file = directory / "config.toml"
    file.write_text("\n".join(parts))
    return file


class Dawdlers(MqttDevices):
    """Devices of which some messages come hours late: their energy becomes an adjustment to a closed hour."""

    def __init__(self, *args: Any, random: Random, **kwargs: Any) -> None:
        self._late: list[tuple[datetime, MqttDevice, datetime]] = []
        self._random = random
        self.share = LATE
        self.came_late = 0
        super().__init__(*args, **kwargs)

    def _publish(self, device: MqttDevice, at: datetime) -> None:
        for each in [each for each in self._late if each[0] <= at or not self.share]:
            self._late.remove(each)
            self.came_late += 1
            super()._publish(each[1], each[2])
        if device.voice == "interval" and self._random.random() < self.share:
            self._late.append((at + self._random.uniform(0, 1) * (LATE_BY[1] - LATE_BY[0]) + LATE_BY[0], device, at))
        else:
            super()._publish(device, at)
