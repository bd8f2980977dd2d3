"""What a small site costs: 32 meters, half over Modbus and half over MQTT, polled every 10 s. Prints one JSON document.

The real process against simulated meters on loopback, measured from outside: seconds from its start to the first
durable reading, resident memory and CPU share after a minute of work, bytes written per reading. Beside it, in the same
run, the memory of a bare Python process and of one that only imports the libraries: what is left is ours. Medians of
`--runs` starts.

    .venv/bin/python bench/footprint.py [--seconds 60] [--runs 3]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from buffer.store import DATABASE, Unreadable, read_only
from gateway.clock import SystemClock
from gateway.simulator.broker import start_broker
from gateway.simulator.building import (
    FIRST_ID,
    Pace,
    bus,
    bus_connection,
    devices_in_the_hall,
    devices_on_the_bus,
    hall,
    hall_connection,
    meter_block,
)
from gateway.simulator.enerkey import EnerkeySimulator
from gateway.simulator.http import serve
from gateway.simulator.modbus import ModbusSimulator
from gateway.simulator.mqtt import MqttDevices

HALF = 16
KIB = 1024
LIBRARIES = "import pymodbus.client, paho.mqtt.client, httpx, sqlite_utils, pydantic, jmespath"
CONFIG = """
[gateway]
name = "footprint"
data_dir = "{directory}/data"
[clock]
trust = "always"
[enerkey]
url = "{enerkey}"
api_keys = ["any"]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="of work before memory and CPU are read (default: %(default)s)"
    )
    parser.add_argument(
        "--runs", type=int, default=3, help="starts of which the median is taken (default: %(default)s)"
    )
    args = parser.parse_args()
    runs = [one_run(args.seconds) for _ in range(args.runs)]
    figures = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    figures["python_rss_mib"] = rss_of("pass")
    figures["libraries_rss_mib"] = rss_of(LIBRARIES)
    figures["rss_ratio_to_libraries"] = figures["rss_mib"] / figures["libraries_rss_mib"]
    print(json.dumps({key: round(value, 3) for key, value in figures.items()} | {"runs": args.runs}, indent=2))


def one_run(seconds: float) -> dict[str, float]:
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as name, ExitStack() as ending:
        directory = Path(name)
        on_the_bus = bus(HALF)
        in_the_hall = many_in_the_hall()
        modbus = ModbusSimulator(devices_on_the_bus(on_the_bus), clock)
        ending.callback(modbus.stop)
        broker = start_broker("auto", directory)
        ending.callback(broker.stop)
        devices = MqttDevices(devices_in_the_hall(in_the_hall), clock, "127.0.0.1", broker.port)
        ending.callback(devices.stop)
        server = serve(EnerkeySimulator(now=lambda: clock.now().wall).handle)
        ending.callback(server.stop)
        config = directory / "config.toml"
        parts = [
            CONFIG.format(directory=directory, enerkey=server.url),
            bus_connection(modbus.url, "10s"),
            hall_connection(f"mqtt://127.0.0.1:{broker.port}", broker.protocol),
            *(meter_block(meter) for meter in [*on_the_bus, *in_the_hall]),
        ]
        config.write_text("\n".join(parts))
        return measured(config, directory / "data" / DATABASE, seconds)


def many_in_the_hall() -> list:
    """Sixteen devices: the hall's four, four times over, each speaking every 10 s."""
    pace = Pace(timedelta(seconds=10), timedelta(seconds=10), timedelta(seconds=10))
    found = []
    for block in range(HALF // 4):
        for meter in hall(pace, first_id=FIRST_ID + HALF + 4 * block):
            device = meter.source._replace(topic=f"{meter.source.topic}/{block}")
            found.append(meter._replace(name=f"{meter.name}-h{block}", source=device))
    return found


def measured(config: Path, database: Path, seconds: float) -> dict[str, float]:
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "gateway", "run", "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        while readings(database) == 0:
            if process.poll() is not None or time.monotonic() - began > 30:
                raise SystemExit("the gateway stored nothing within 30 s")
            time.sleep(0.02)
        first = time.monotonic() - began
        time.sleep(5.0)  # past the start: imports and the first connection are not what a day costs
        cpu_before, written_before, rows_before = cpu_seconds(process.pid), written(process.pid), readings(database)
        time.sleep(seconds)
        rows = readings(database) - rows_before
        return {
            "first_reading_s": first,
            "rss_mib": status_kib(process.pid, "VmRSS") / KIB,
            "peak_rss_mib": status_kib(process.pid, "VmHWM") / KIB,
            "cpu_percent_of_a_core": 100 * (cpu_seconds(process.pid) - cpu_before) / seconds,
            "readings_per_s": rows / seconds,
            "bytes_written_per_reading": (written(process.pid) - written_before) / max(rows, 1),
        }
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def readings(database: Path) -> int:
    try:
        with read_only(database) as db:
            return int(db.execute("SELECT count(*) FROM reading").fetchone()[0])
    except Unreadable:
        return 0


def status_kib(pid: int, key: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def written(pid: int) -> int:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("write_bytes:")).split()[1])


def rss_of(code: str) -> float:
    """MiB of a Python process that runs this code."""
    report = f"{code}\nprint(next(line for line in open('/proc/self/status') if line.startswith('VmRSS')).split()[1])"
    out = subprocess.run([sys.executable, "-c", report], capture_output=True, check=True, text=True).stdout
    return int(out) / KIB


if __name__ == "__main__":
    main()
