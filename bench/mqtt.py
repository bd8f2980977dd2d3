"""What MQTT costs: messages of QoS 1 until they are durable and acknowledged. Prints one JSON document.

A real mosquitto on loopback, a publisher that sends as fast as the broker takes, and the gateway's own chain (session,
driver, collector, store) in a process of its own. Ratios are to paho alone in the same place, acknowledging by hand and
doing nothing else, in turns within the same run. `slow_sync_ratio` is the rate when every sync takes 10 ms longer, as on
a slow card, to the rate without: strace holds up the calls in the one and not in the other (without strace: null).
`wal_mb_per_day` is what `--meters` meters at 60 s write when their messages come evenly, from `--calm` seconds of them.
Medians of `--rounds`.

    .venv/bin/python bench/mqtt.py [--messages 100000] [--rounds 3] [--protocol 3.1.1] [--dir DIR]
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from random import Random
from threading import Condition, Thread
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from buffer.corrections import enter_meters
from buffer.model import to_ms
from buffer.readings import MeterRow
from buffer.store import Store
from drivers.base import Ports
from drivers.mqtt.config import Connection, Source
from drivers.mqtt.driver import YOUNG, MqttDriver, build
from gateway.clock import SystemClock, Trust
from gateway.collector import CollectedMeter, Collector
from gateway.simulator.broker import start_broker

HOST = "127.0.0.1"
KIB = 1024
FIRST = 1_772_445_600_000  # ms; the first message's own time
WITHIN = 600.0  # s for one run
CHUNK = 500  # messages in one send of the publisher
TRACER = ["strace", "-D", "-f", "--seccomp-bpf", "-o/dev/null", "-etrace=fdatasync,fsync"]
SLOWER = {
    "10 ms longer": "-einject=fdatasync,fsync:delay_exit=10000",
    "as fast as it is": "-einject=fdatasync,fsync:delay_exit=1",  # microseconds
}
FLUSH = "200ms"  # in a flood only the last few messages wait for it, and that is not what a rate is about
DAY = 86_400.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000, help="that are sent in a round (default: %(default)s)")
    parser.add_argument("--meters", type=int, default=200, help="among which they are spread (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median is taken (default: %(default)s)")
    parser.add_argument(
        "--calm",
        type=float,
        default=300.0,
        help="seconds of messages at 60 s a meter; 0: leave it out (default: %(default)s)",
    )
    parser.add_argument(
        "--protocol", choices=("auto", "3.1.1"), default="auto", help="that the gateway speaks (default: %(default)s)"
    )
    parser.add_argument("--dir", type=Path, help="where the databases are made (default: the system's)")
    parser.add_argument("--as", dest="role", choices=("gateway", "paho"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--format", choices=("raw", "json"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        receive = as_gateway if args.role == "gateway" else as_paho
        receive(args)
        return
    with tempfile.TemporaryDirectory(dir=args.dir) as name, ExitStack() as ending:
        broker = start_broker("mosquitto", Path(name))
        ending.callback(broker.stop)
        print(json.dumps(measured(args, broker.port, Path(name)), indent=2))


# --- the parent: publishes, and reads what its children measured ---------------------------------------------------------


def measured(args: argparse.Namespace, port: int, directory: Path) -> dict[str, Any]:
    runs: dict[str, list[dict[str, float]]] = {}
    for number in range(args.rounds):
        for kind in ("raw", "json"):
            for role in ("paho", "gateway"):
                run = one_run(args, port, directory / f"{role}-{kind}-{number}", role, kind)
                runs.setdefault(f"{role} {kind}", []).append(run)
        if shutil.which("strace"):
            run = one_run(args, port, directory / f"slow-{number}", "gateway", "json", sync="10 ms longer")
            runs.setdefault("slow json", []).append(run)
            run = one_run(args, port, directory / f"traced-{number}", "gateway", "json", sync="as fast as it is")
            runs.setdefault("traced json", []).append(run)
    figures: dict[str, Any] = {}
    for kind in ("raw", "json"):
        figures[f"qos1_{kind}_ratio"] = ratio(runs, f"gateway {kind}", f"paho {kind}")
        figures[f"qos1_{kind}_per_s"] = median(runs[f"gateway {kind}"], "per_s")
        figures[f"paho_{kind}_per_s"] = median(runs[f"paho {kind}"], "per_s")
        figures[f"cpu_s_per_1000_{kind}"] = median(runs[f"gateway {kind}"], "cpu_s_per_1000")
    figures["slow_sync_ratio"] = ratio(runs, "slow json", "traced json") if "slow json" in runs else None
    figures["bytes_per_message"] = median(runs["gateway json"], "bytes_per_message")
    figures["peak_rss_mib"] = max(run["peak_rss_mib"] for name in runs if "paho" not in name for run in runs[name])
    if args.calm:
        run = one_run(args, port, directory / "calm", "gateway", "json", calm=args.calm)
        figures["calm_bytes_per_message"] = run["bytes_per_message"]
        figures["wal_mb_per_day"] = run["bytes_per_message"] * args.meters * DAY / 60 / 1e6
    rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in figures.items()}
    return rounded | {
        "protocol": args.protocol,
        "messages": args.messages,
        "meters": args.meters,
        "rounds": args.rounds,
    }


def ratio(runs: dict[str, list[dict[str, float]]], ours: str, other: str) -> float:
    """The median of each round's own ratio: what ran side by side is compared."""
    return statistics.median(one["per_s"] / two["per_s"] for one, two in zip(runs[ours], runs[other], strict=True))


def median(runs: list[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def one_run(  # noqa: PLR0913 - what is compared
    args: argparse.Namespace, port: int, directory: Path, role: str, kind: str, *, sync: str = "", calm: float = 0.0
) -> dict[str, float]:
    """One receiver from its start to the last acknowledgement. A `calm` one gets what so many seconds bring."""
    messages = round(calm * args.meters / 60) if calm else args.messages
    directory.mkdir()
    tracer = [*TRACER, SLOWER[sync]] if sync else []
    settings = {
        "as": role,
        "port": port,
        "format": kind,
        "messages": messages,
        "meters": args.meters,
        "dir": directory,
        "calm": calm,
        "protocol": args.protocol,
    }
    options = [f"--{key}={value}" for key, value in settings.items()]
    command = [*tracer, sys.executable, __file__, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        if child.stdout.readline() != "ready\n":
            raise SystemExit(f"the {role} did not get ready")
        time.sleep(YOUNG if calm else 0.0)
        publish(port, list(packets(messages, args.meters, kind)), every=calm / messages if calm else 0.0)
        said = child.stdout.readline()
    shutil.rmtree(directory)
    result: dict[str, float] = json.loads(said)
    return result


def packets(messages: int, meters: int, kind: str) -> Iterator[bytes]:
    """PUBLISH packets of QoS 1: every meter's register in turn, each message with a time of its own."""
    for number in range(messages):
        value = f"{1000 + number / 1000:.3f}"
        body = value if kind == "raw" else f'{{"id":"{number}","energy":{{"total":{value}}},"time":{FIRST + number}}}'
        topic = f"site/m{number % meters}/energy".encode()
        rest = len(topic).to_bytes(2) + topic + (number % 65_535 + 1).to_bytes(2) + body.encode()
        yield bytes([0x32, len(rest)]) + rest  # shorter than 128 bytes: one byte holds the length


def publish(port: int, whole: Sequence[bytes], every: float) -> None:
    """By hand: paho would take the CPU that is being measured."""
    with socket.create_connection((HOST, port)) as wire:
        wire.sendall(b"\x10\x15\x00\x04MQTT\x04\x02\x00\x00\x00\x09publisher")
        wire.recv(4)
        due, step = time.monotonic(), 1 if every else CHUNK
        answers = Thread(target=swallow, args=(wire, 4 * len(whole)), daemon=True)
        answers.start()
        for first in range(0, len(whole), step):
            wire.sendall(b"".join(whole[first : first + step]))
            due += every
            time.sleep(max(0.0, due - time.monotonic()) if every else 0.0)
        answers.join(WITHIN)
        wire.sendall(b"\xe0\x00")


def swallow(wire: socket.socket, wanted: int) -> None:
    while wanted > 0 and (got := wire.recv(65_536)):
        wanted -= len(got)


# --- the children ------------------------------------------------------------------------------------------------------


def as_paho(args: argparse.Namespace) -> None:
    """paho alone, with the settings that the session has."""
    begun: list[float] = []
    done = Condition()
    count = 0

    def on_message(client: Client, _: object, message: MQTTMessage) -> None:
        nonlocal count
        if not count:
            begun.append(time.perf_counter())
        count += 1
        client.ack(message.mid, message.qos)
        if count == args.messages:
            with done:
                done.notify()

    properties = Properties(PacketTypes.CONNECT)
    properties.ReceiveMaximum = 1000
    client = Client(CallbackAPIVersion.VERSION2, "paho", protocol=MQTTProtocolVersion.MQTTv5, manual_ack=True)
    client.on_message = on_message
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.on_connect = lambda client, *_: client.subscribe("site/#", 1)
    client.connect(HOST, args.port, clean_start=True, properties=properties)
    client.loop_start()
    cpu = time.process_time()
    with done:
        done.wait_for(lambda: count == args.messages, WITHIN)
    report(args.messages, begun[0], cpu, 0)
    client.disconnect()


class Memory:
    def get(self, _: str) -> None:
        return None

    def put(self, *_: str) -> None:
        return


def driver_of(args: argparse.Namespace, names: Sequence[str], ports: Ports) -> MqttDriver:
    found = {"value": "energy.total", "time": "time"} if args.format == "json" else {}
    sources = {name: Source(connection="hall", topic=f"site/{name}/energy", unit="kWh", **found) for name in names}
    flush = {} if args.calm else {"flush": FLUSH}
    url = f"mqtt://{HOST}:{args.port}"
    connection = Connection(driver="mqtt", url=url, session_expiry="0s", protocol=args.protocol, **flush)
    return build("hall", connection, sources, ports)


def as_gateway(args: argparse.Namespace) -> None:
    """Session, driver, collector and store as the service has them; there is no closer."""
    clock = SystemClock(Trust("always"))
    store = Store(args.dir, threaded=True)
    names = [f"m{number}" for number in range(args.meters)]
    rows = [MeterRow(name, number + 1, "kWh", "counter", "consumption", "hall") for number, name in enumerate(names)]
    numbers = store.write(lambda db: enter_meters(db, rows, to_ms(clock.now().wall)))
    meters = {name: CollectedMeter(number, Fraction(1)) for name, number in numbers.items()}
    collector = Collector(store, meters, clock, "bench", lambda *_: None)
    driver = driver_of(args, names, Ports(clock, collector.deliver_for("hall"), Memory(), print, Random(1), "bench"))
    begun, cpu, written = 0.0, 0.0, 0
    ready = False
    due = 0.0
    while driver._acknowledged < args.messages:  # noqa: SLF001 - `health` looks at every meter
        clock.wait(driver.wake, min(due, clock.now().boottime + 10))
        driver.wake.clear()
        due = driver.step(clock.now())
        if not ready and driver.health().state == "ok":
            ready, cpu, written = True, time.process_time(), bytes_written()
            print("ready", flush=True)
        if not begun and driver._translator.counts["messages"]:  # noqa: SLF001 - the same
            begun = time.perf_counter()
    report(args.messages, begun, cpu, bytes_written() - written)
    driver.close()
    count = store.read(lambda db: db.execute("SELECT count(*) FROM reading").fetchone()[0])
    assert count == args.messages, f"{count} of {args.messages} readings are stored"
    store.close()


def report(messages: int, begun: float, cpu: float, written: int) -> None:
    figures = {
        "per_s": messages / (time.perf_counter() - begun),
        "cpu_s_per_1000": (time.process_time() - cpu) / messages * 1000,
        "bytes_per_message": written / messages,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB,
    }
    print(json.dumps(figures), flush=True)


def bytes_written() -> int:
    """By this process, to files: sockets are not counted."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


if __name__ == "__main__":
    main()
