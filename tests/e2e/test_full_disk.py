"""The real service on a filesystem without room: it starts, says so, and goes on when there is some."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buffer.room import BALLAST, BALLAST_NAME, MIB
from gateway.clock import SystemClock
from gateway.errors import NoDatabase
from gateway.simulator.building import bus, devices_on_the_bus
from gateway.simulator.modbus import ModbusSimulator
from tests.fakes.gateway_process import ROOT, GatewayProcess
from tests.fakes.small_filesystem import SmallFilesystem, small_filesystem
from tests.waiting import until

CONFIG = """
[gateway]
name = "bench"
data_dir = "{data}"
[clock]
trust = "always"
[connections.main]
driver = "modbus"
url = "{url}"
poll = "1s"
[[meters]]
name = "main-electricity"
push = "off"
unit = "kWh"
max_rate = 1800
source = {{ connection = "main", device = 1, profile = "eastron-sdm630", point = "energy_import_total" }}
"""


@pytest.fixture
def meters() -> Iterator[str]:
    """The URL of a Modbus line with one meter."""
    simulator = ModbusSimulator(devices_on_the_bus(bus(1, push="off")), SystemClock())
    yield simulator.url
    simulator.stop()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallFilesystem]:
    """The data directory is a filesystem of its own."""
    (tmp_path / "data").mkdir()
    with small_filesystem(tmp_path / "data", 24 * MIB) as disk:
        yield disk


def status(disk: SmallFilesystem, config: Path) -> dict[str, Any]:
    command = [*disk.inside, sys.executable, "-m", "gateway", "status", "--json", "-c", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    return dict(json.loads(done.stdout))


def last_reading(disk: SmallFilesystem, config: Path) -> str:
    (meter,) = status(disk, config)["meters"]
    return str((meter["last_reading"] or {"at": ""})["at"])


@pytest.mark.timeout(300)
def test_a_start_on_a_full_disk_goes_on_and_stores_everything_when_there_is_room(tmp_path, meters, disk):
    """R27: the ballast is its room; `status` says what is wrong; without a restart everything is stored afterwards."""
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(data=tmp_path / "data", url=meters))
    gateway = GatewayProcess(config, tmp_path / "log", under=disk.inside)
    with gateway:
        until(lambda: last_reading(disk, config))
        assert gateway.stop() == 0
    assert (disk.path / BALLAST_NAME).stat().st_size == BALLAST
    disk.fill()
    with gateway:
        before = last_reading(disk, config)
        until(lambda: "is full" in json.dumps(status(disk, config)))
        until(lambda: not (disk.path / BALLAST_NAME).exists())
        until(
            lambda: disk.fill() or "could not be stored" in gateway.log.read_text()
        )  # others take the ballast's room, too
        assert "is full" in json.dumps(status(disk, config))
        disk.leave()
        until(lambda: last_reading(disk, config) > before)
        until((disk.path / BALLAST_NAME).exists)
        assert gateway.stop() == 0
    log = (tmp_path / "log").read_text()
    assert "buffer.ballast is given up" in log
    assert "the disk has room again" in log
    assert "Traceback" not in log


def test_a_first_start_on_a_full_disk_says_so_and_is_tried_again(tmp_path, meters, disk):
    """Nothing is there yet that could be given up; systemd starts again on this exit code."""
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(data=tmp_path / "data", url=meters))
    disk.fill()
    gateway = GatewayProcess(config, tmp_path / "log", under=disk.inside)
    gateway.start(patiently=False)
    code = gateway.wait()
    log = (tmp_path / "log").read_text()
    assert (code, "Traceback" in log) in {(NoDatabase.code, False), (74, False)}, log
    assert "space" in log or "full" in log
    disk.leave()
    with gateway:
        until(lambda: last_reading(disk, config))
        assert gateway.stop() == 0
