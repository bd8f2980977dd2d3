"""What 200 meters with ten values each cost over Modbus TCP, polled every second. Prints one JSON document.

Twice: behind 10 gateways with 20 unit ids each (`_10`), and each meter on a connection of its own (`_200`). Four programs
in turns, each alone on one core, the meters in a process of their own on another; CPU seconds of all their threads, user
and system, from the kernel; medians of `--rounds`:

    gateway      `meter-gateway run` itself, without EnerKey: driver, decoding, collector, SQLite with a sync per commit,
                 closer and housekeeping; its figure is `tcp_cpu_ratio`, the worse of the two lines
    driver       its drivers alone with their threads and the shared one, decoding included; what they deliver is thrown away
    bare sync    one thread and pymodbus' synchronous client: the same requests on as many connections, registers only
    bare async   pymodbus' asynchronous client likewise, connections side by side

Ratios are to the cheaper bare program of the same topology. A missed poll is a slot of a device without all ten readings.
`tcp_values_per_s` is what the gateway stores when the drivers poll without a pause.

    .venv/bin/python bench/modbus_tcp.py [--seconds 10] [--rounds 3]
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
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.modbus_tcp_parts import BLOCKS, METERS, VALUES, config_text
from buffer.store import DATABASE, Unreadable, read_only

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTS = [sys.executable, "-m", "bench.modbus_tcp_parts"]
ROOT = Path(__file__).resolve().parent.parent
CONNECTIONS = (10, 200)
WARMED = 3  # slots before anything is measured: the first round opens connections and enters meters
LIMIT = 60  # registers in one request, the gateway's default


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seconds", type=int, default=10, help="of one program's work in one round (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="in which the programs take turns (default: %(default)s)")
    args = parser.parse_args()
    print(json.dumps(measure(args.seconds, args.rounds), indent=2))


def measure(seconds: int = 10, rounds: int = 3) -> dict[str, float]:
    """All figures; the keys without a number are the worse of both topologies."""
    figures: dict[str, float] = {}
    for connections in CONNECTIONS:
        runs = [one_round(connections, seconds) for _ in range(rounds)]
        medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        medians["tcp_missed_polls"] = max(run["tcp_missed_polls"] for run in runs)
        figures |= {f"{key}_{connections}": round(value, 4) for key, value in medians.items()}
    worst = {key: max(figures[f"{key}_{number}"] for number in CONNECTIONS) for key in WORST}
    figures["tcp_200_missed_polls"] = worst.pop("tcp_missed_polls")
    figures |= worst
    figures["tcp_values_per_s"] = round(statistics.median(saturated() for _ in range(rounds)))
    figures["tcp_best_plan_requests_per_cycle"] = METERS * best_plan()
    return figures


WORST = (
    "tcp_missed_polls",
    "tcp_cpu_ratio",
    "tcp_driver_cpu_ratio",
    "tcp_cpu_s_per_1000_values",
    "tcp_requests_per_cycle",
)


def best_plan() -> int:
    """The fewest requests for one meter under its limit, holes for nothing: no plan can do with less."""
    places = sorted((block.start + at, width) for block in BLOCKS for at, width in block.places)
    requests, end = 0, -1
    for register, width in places:
        if register + width > end:
            requests, end = requests + 1, register + LIMIT
    return requests


def one_round(connections: int, seconds: int) -> dict[str, float]:
    with meters(connections) as (server, ports), tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        config = directory / "config.toml"
        config.write_text(config_text(ports, directory))
        gateway = gateway_run(config, directory / "data" / DATABASE, server, seconds)
        driver = cpu_of([*PARTS, "driver", str(config)], seconds)
        bare_sync = cpu_of([*PARTS, "bare-sync", *map(str, ports)], seconds)
        bare_async = cpu_of([*PARTS, "bare-async", *map(str, ports)], seconds)
    bare = min(bare_sync, bare_async)
    return {
        "tcp_missed_polls": gateway["missed"],
        "tcp_cpu_ratio": gateway["cpu"] / bare,
        "tcp_driver_cpu_ratio": driver / bare,
        "tcp_bare_async_to_sync": bare_async / bare_sync,
        "tcp_cpu_s_per_1000_values": 1000 * gateway["cpu"] / (METERS * VALUES),
        "tcp_bare_cpu_s_per_1000_values": 1000 * bare / (METERS * VALUES),
        "tcp_requests_per_cycle": gateway["requests"],
        "tcp_rss_mib": gateway["rss_mib"],
        "tcp_threads": gateway["threads"],
    }


# --- the meters -------------------------------------------------------------------------------------------------------


class Meters:
    """The process of the meters, and what it has been asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def requests(self) -> int:
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._line())

    def ports(self) -> list[int]:
        return json.loads(self._line())

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()


@contextmanager
def meters(connections: int) -> Iterator[tuple[Meters, list[int]]]:
    command = [*PARTS, "meters", str(connections)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pin(process, core=-1)
    try:
        served = Meters(process)
        yield served, served.ports()
    finally:
        process.kill()
        process.wait()


# --- the programs -----------------------------------------------------------------------------------------------------


def gateway_run(config: Path, database: Path, server: Meters, seconds: int) -> dict[str, float]:
    """CPU seconds of one slot, requests of one slot, slots of devices without all their readings."""
    with program([sys.executable, "-m", "gateway", "run", "-c", str(config)]) as process:
        wait_for_readings(process, database)
        first = between_slots(WARMED)
        cpu, requests = cpu_seconds(process.pid), server.requests()
        end = between_slots(seconds)
        cpu, requests = cpu_seconds(process.pid) - cpu, server.requests() - requests
        status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    slots = range(first + 1, end + 1)
    return {
        "cpu": cpu / len(slots),
        "requests": requests / len(slots),
        "missed": METERS * len(slots) - whole_polls(database, slots),
        "rss_mib": said(status, "VmRSS") / 1024,
        "threads": said(status, "Threads"),
    }


def cpu_of(command: list[str], seconds: int) -> float:
    """CPU seconds of one slot."""
    with program(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()  # connected
        between_slots(WARMED)
        before = cpu_seconds(process.pid)
        between_slots(seconds)
        return (cpu_seconds(process.pid) - before) / seconds


def saturated(seconds: float = 5.0) -> float:
    """Values a second that are read and stored when nobody waits for a slot."""
    with meters(CONNECTIONS[0]) as (_, ports), tempfile.TemporaryDirectory() as name:
        config = Path(name) / "config.toml"
        config.write_text(config_text(ports, Path(name)))
        with program([*PARTS, "saturated", str(config), str(seconds)], stdout=subprocess.PIPE) as process:
            assert process.stdout
            return float(process.stdout.readline())


@contextmanager
def program(command: list[str], stdout: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    with ExitStack() as ending:
        errors = ending.enter_context(tempfile.TemporaryFile("w+"))
        process = subprocess.Popen(command, cwd=ROOT, stdout=stdout, stderr=errors, text=True)
        pin(process, core=0)
        try:
            yield process
        except BaseException:
            errors.seek(0)
            print(errors.read()[-2000:], file=sys.stderr)
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def pin(process: subprocess.Popen[str], core: int) -> None:
    """The programs to one core, the meters to another where there is one; at once, so that all threads inherit it."""
    os.sched_setaffinity(process.pid, {sorted(os.sched_getaffinity(0))[core]})


# --- what is read off -------------------------------------------------------------------------------------------------


def between_slots(slots: int) -> int:
    """Wait for the middle between two slots, `slots` later; the slot before it, in seconds since 1970."""
    slot = int(time.time()) + slots
    time.sleep(max(0.0, slot + 0.8 - time.time()))
    return slot


def wait_for_readings(process: subprocess.Popen[str], database: Path) -> None:
    began = time.monotonic()
    while not _any_reading(database):
        if process.poll() is not None or time.monotonic() - began > 60:
            raise SystemExit("the gateway stored nothing within 60 s")
        time.sleep(0.05)


def _any_reading(database: Path) -> bool:
    try:
        with read_only(database) as db:
            return db.execute("SELECT 1 FROM reading LIMIT 1").fetchone() is not None
    except Unreadable:
        return False


def whole_polls(database: Path, slots: range) -> int:
    """Pairs of device and slot with readings of all ten values; the device of a meter is the head of its name."""
    find = (
        "SELECT count(*) FROM (SELECT 1 FROM reading JOIN meter ON meter.id = reading.meter"
        " WHERE at >= ? AND at < ? GROUP BY at / 1000, substr(name, 1, 4) HAVING count(DISTINCT meter) = ?)"
    )
    with read_only(database) as db:
        return int(db.execute(find, (slots.start * 1000, slots.stop * 1000, VALUES)).fetchone()[0])


def cpu_seconds(pid: int) -> float:
    """Of all threads that live, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def said(status: list[str], key: str) -> int:
    return int(next(line for line in status if line.startswith(f"{key}:")).split()[1])


if __name__ == "__main__":
    main()
