"""`demo`: the real gateway in a simulated building, hundreds of times as fast; every hour shown beside the truth.

Real are the wiring, the workers, the sockets, the SQLite file, the configuration file. Simulated are the meters, the
EnerKey server, and the time. The broker is a real one.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from buffer.model import MICRO, from_micro, hour_start
from gateway import terminal
from gateway.clock import ScaledClock, SystemClock
from gateway.commands.common import checked, fraction, until_interrupted, whole
from gateway.control import ControlServer
from gateway.errors import FAILED, OK, GatewayError, NoDatabase
from gateway.runtime import answer, service_of
from gateway.service import LONGEST_WAIT
from gateway.simulator import building
from gateway.simulator.broker import HOST, NoBroker, start_broker
from gateway.simulator.comparison import Comparison, Row
from gateway.simulator.enerkey import EnerkeySimulator, random_faults
from gateway.simulator.http import serve
from gateway.simulator.modbus import ModbusSimulator
from gateway.simulator.mqtt import MqttDevices
from gateway.systemd import Notifier
from gateway.wiring import build, open_store, socket_path

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from threading import Event

    from gateway.service import Service
    from gateway.simulator.broker import Broker
    from gateway.simulator.building import SimulatedMeter
    from gateway.simulator.enerkey import Fault

SCALE = 360.0  # times real time: an hour in ten seconds
FASTEST = 3600.0
HOURS = 6
MOST_HOURS = 8760
MODBUS_METERS = 4
BEFORE_THE_HOUR = timedelta(minutes=5)  # the demo's time at its start
PACE = building.Pace(counter=timedelta(seconds=60), interval=timedelta(minutes=15), power=timedelta(seconds=20))
POLL = "60s"
FAULTS: dict[Fault, float] = {"lost-answer": 0.04, "lost-request": 0.01, "503": 0.02}  # EnerKey's, per request
TWICE = 0.03  # share of MQTT messages that come two times, as QoS 1 allows
LOOK_EVERY = 0.2  # s, real: between two looks at what EnerKey has
USUAL_DELAY = 600.0  # s of the demo's time: from the end of an hour to its acceptance, with all that may go wrong
PATIENCE = 45.0  # s, real: for a slow machine on top
WIDE = 64  # columns from which a row says more
LOG, KEY, CONFIG = "gateway.log", "enerkey.key", "config.toml"

_SETTINGS = """\
# The demo's configuration. All times in it are the demo's, {scale:g} times as fast as real ones, except timeouts.
[gateway]
name = "demo"
data_dir = {directory}

[clock]
trust = "always"

[hours]
grace = "60s"

[buffer]
commit_within = "0s"    # a fifth of a real second is more than a minute here

[enerkey]
url = "{url}"
api_keys = [{key}]
settle = "2m"
push_spread = "4m"
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """How long, how fast, where."""
    parser.add_argument(
        "--hours",
        type=whole(1, MOST_HOURS, "of hours "),
        default=HOURS,
        metavar="N",
        help=f"with --exit: hours of every meter (default: {HOURS})",
    )
    parser.add_argument("--exit", action="store_true", help="end after N hours (default: go on until Ctrl-C)")
    parser.add_argument(
        "--scale",
        type=fraction(1, FASTEST),
        default=SCALE,
        metavar="X",
        help=f"how many times as fast as real time (default: {SCALE:g})",
    )
    parser.add_argument(
        "--dir", type=Path, metavar="DIR", help="keep configuration, database and log here (default: a temporary place)"
    )
    parser.add_argument(
        "--broker",
        choices=("auto", "mosquitto", "amqtt"),
        default="auto",
        help="which broker to start (default: auto, mosquitto where it is installed)",
    )


def run(args: argparse.Namespace) -> int:
    """Run until N hours of every meter are accepted, or until interrupted; 1 when an hour is wrong or does not come."""
    say = _Voice(as_json=args.json)
    comparison: Comparison
    with ExitStack() as stack:
        interrupted = stack.enter_context(until_interrupted())
        place = _Place(args.dir)
        stack.callback(place.leave)
        stack.callback(_log_to(place.directory / LOG, verbose=args.verbose))
        stage = _set_up(args, place.directory, stack)
        say.started(stage, place, args)
        comparison = Comparison(stage.meters, args.hours if args.exit else None)
        trouble = _watch(stage, comparison, interrupted, say)
        rows = comparison.all(stage.enerkey.hourly)
        wrong = sum(row.wrong for row in rows)
        if trouble or wrong:
            place.keep = True
            say.trouble(trouble or "an hour is off by more than 1 %", place.directory)
    say.summary(len(rows), wrong)
    return FAILED if trouble or wrong else OK


# --- what runs --------------------------------------------------------------------------------------------------------


class _Stage(NamedTuple):
    meters: Sequence[SimulatedMeter]
    clock: ScaledClock
    scale: float
    broker: Broker
    modbus: ModbusSimulator
    enerkey: EnerkeySimulator
    enerkey_url: str
    service: Service


def _set_up(args: argparse.Namespace, directory: Path, stack: ExitStack) -> _Stage:
    """Start everything; `stack` ends it in reverse order."""
    first_hour = _next_hour(SystemClock().now().wall)
    meters = building.bus(MODBUS_METERS, since=first_hour - timedelta(days=1))
    meters += building.hall(PACE, since=first_hour - timedelta(days=1), first_id=building.FIRST_ID + MODBUS_METERS)
    try:
        broker = start_broker(args.broker, directory)
    except NoBroker as error:
        raise GatewayError(str(error)) from None
    stack.callback(broker.stop)
    # The time begins last: nothing of the first hour may pass before the gateway listens.
    clock = ScaledClock(first_hour - BEFORE_THE_HOUR, args.scale)
    modbus = ModbusSimulator(building.devices_on_the_bus(meters), clock)
    stack.callback(modbus.stop)
    enerkey = EnerkeySimulator(now=lambda: clock.now().wall, meters=[meter.enerkey_id for meter in meters])
    enerkey.faults = random_faults(FAULTS, Random(1))  # noqa: S311 - chance, not secrecy
    stack.callback(enerkey.close)
    server = serve(enerkey.handle)
    stack.callback(server.stop)
    settings = _configuration(args.scale, directory, server.url, broker, modbus, meters)
    service = _gateway(settings, clock, args.scale, stack)
    devices = MqttDevices(
        building.devices_in_the_hall(meters), clock, HOST, broker.port, twice=(TWICE, Random(2))  # noqa: S311
    )  # fmt: skip
    stack.callback(devices.stop)
    return _Stage(meters, clock, args.scale, broker, modbus, enerkey, server.url, service)


def _gateway(settings: Path, clock: ScaledClock, scale: float, stack: ExitStack) -> Service:
    """The gateway as `run` has it, with another clock."""
    config = checked(settings)
    store = open_store(config, command="demo")
    try:
        gateway = build(config, store, clock, Random(3), machine="demo")  # noqa: S311
    except BaseException:
        store.close()
        raise
    service = service_of(gateway, Notifier(), LONGEST_WAIT * scale, scale)
    control = ControlServer(socket_path(config), lambda request: answer(gateway, service, request))
    stack.callback(control.close)
    stack.callback(lambda: store.close() if service.stop() else None)
    service.start()
    return service


def _configuration(
    scale: float,
    directory: Path,
    enerkey_url: str,
    broker: Broker,
    modbus: ModbusSimulator,
    meters: Sequence[SimulatedMeter],
) -> Path:
    key, file = directory / KEY, directory / CONFIG
    key.touch(mode=0o600)
    key.write_text("the-demo-key\n")
    protocol = "auto" if broker.protocol == "5" else broker.protocol  # who asks amqtt for MQTT 5 waits 3 s in vain
    parts = [
        _SETTINGS.format(scale=scale, directory=_quoted(directory), url=enerkey_url, key=_quoted(f"file:{key}")),
        building.bus_connection(modbus.url, POLL),
        building.hall_connection(f"mqtt://{HOST}:{broker.port}", protocol),
        *(building.meter_block(meter) for meter in meters),
    ]
    file.write_text("\n".join(parts))
    return file


def _quoted(text: object) -> str:
    return json.dumps(str(text), ensure_ascii=False)  # a TOML basic string has JSON's escapes


def _next_hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)


class _Place:
    """The demo's directory: the operator's, which stays, or a temporary one, which stays only after trouble."""

    def __init__(self, wanted: Path | None) -> None:
        self.keep = wanted is not None
        try:
            if wanted is not None:
                wanted.mkdir(parents=True, exist_ok=True)
                if any(wanted.iterdir()):
                    raise NoDatabase(f"--dir {wanted} is not empty: a demo begins with a fresh database")
            self.directory = (
                Path(tempfile.mkdtemp(prefix="meter-gateway-demo-")) if wanted is None else wanted.resolve()
            )
        except OSError as error:
            raise NoDatabase(f"--dir {wanted}: {error.strerror}") from None

    def leave(self) -> None:
        if not self.keep:
            shutil.rmtree(self.directory, ignore_errors=True)


def _log_to(file: Path, *, verbose: bool) -> Callable[[], None]:
    """Send everything that is logged or warned about to a file; what it gives ends that."""
    handler = logging.FileHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.ERROR, handlers=[handler], force=True)  # of others, errors only
    logging.captureWarnings(capture=True)
    for ours in ("gateway", "buffer", "drivers"):
        logging.getLogger(ours).setLevel(logging.DEBUG if verbose else logging.INFO)

    def end() -> None:
        logging.captureWarnings(capture=False)
        logging.getLogger().removeHandler(handler)
        logging.getLogger().addHandler(logging.NullHandler())  # without any, warnings would go to the screen
        handler.close()

    return end


# --- watching ---------------------------------------------------------------------------------------------------------


def _watch(stage: _Stage, comparison: Comparison, interrupted: Event, say: _Voice) -> str:
    """Show hours as they are accepted until it is over; what went wrong, or ""."""
    clock = SystemClock()
    hours = max(comparison.missing.values(), default=0)
    demo_time = BEFORE_THE_HOUR.total_seconds() + hours * 3600 + USUAL_DELAY
    deadline = clock.now().boottime + demo_time / stage.scale + PATIENCE if hours else float("inf")
    while not clock.wait(interrupted, clock.now().boottime + LOOK_EVERY):
        for row in comparison.news(stage.enerkey.hourly):
            say.row(row)
        if hours and not comparison.missing:
            return ""
        if stage.service.stopping.is_set():
            return "the gateway ended by itself"
        if clock.now().boottime > deadline:
            lacking = ", ".join(f"{name} ({count} h)" for name, count in comparison.missing.items())
            return f"stuck; still missing: {lacking}"
    return ""


class _Voice:
    """What the demo says: lines for people, or one JSON document per line."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._wide = terminal.width() >= WIDE

    def started(self, stage: _Stage, place: _Place, args: argparse.Namespace) -> None:
        """What runs, where to look, and when something will be seen."""
        mqtt = f"mqtt://{HOST}:{stage.broker.port}"
        config = place.directory / CONFIG
        if self._as_json:
            urls = {"modbus": stage.modbus.url, "mqtt": mqtt, "enerkey": stage.enerkey_url}
            terminal.document({"event": "started", **urls, "broker": stage.broker.name, "config": str(config)})
            return
        on_the_bus = len(building.devices_on_the_bus(stage.meters))
        in_the_hall = len(building.devices_in_the_hall(stage.meters))
        first = (BEFORE_THE_HOUR.total_seconds() + 3600) / stage.scale
        for line in (
            terminal.coloured(f"The real gateway, {stage.scale:g} times as fast, reads", "bold"),
            f"{on_the_bus} Modbus meters at {stage.modbus.url}",
            f"{in_the_hall} MQTT devices at {mqtt}, {stage.broker.name}, MQTT {stage.broker.protocol}",
            "and brings their hours to a simulated EnerKey",
            f"at {stage.enerkey_url}, which fails {sum(FAULTS.values()):.0%} of all requests.",
            f"Data, log: {place.directory}" + ("" if place.keep else " (until the end; --dir keeps it)"),
            f"Meanwhile: meter-gateway status -c {config}",
            "Ctrl-C ends it." if not args.exit else f"It ends after {args.hours} h of every meter.",
            f"An hour takes {3600 / stage.scale:.0f} s; the first is there in about {first:.0f} s.",
            "",
            f"{'hour':5} {'meter':10} {'EnerKey':>8} {'truth':>8}",
        ):
            terminal.show(line)

    def row(self, row: Row) -> None:
        """One hour that EnerKey has."""
        verdict = "WRONG" if row.wrong else "ok"
        start = hour_start(row.hour)
        if self._as_json:
            values = {"accepted": str(from_micro(row.accepted)), "truth": str(from_micro(row.truth))}
            about = {"meter": row.meter.name, "hour": start.isoformat(), "unit": row.meter.unit, "ok": not row.wrong}
            terminal.document({"event": "hour", **about, **values})
            return
        line = f"{start:%H:%M} {row.meter.name:10} {row.accepted / MICRO:8.3f} {row.truth / MICRO:8.3f} "
        line += terminal.coloured(f"{verdict:5}", "FAIL" if row.wrong else "ok")
        line += f" {row.meter.unit:3} {row.meter.push}" if self._wide else ""
        terminal.show(line.rstrip())

    def trouble(self, what: str, directory: Path) -> None:
        """Why it did not go well, and where to look."""
        if self._as_json:
            terminal.document({"event": "trouble", "what": what, "dir": str(directory)})
        else:
            terminal.show(terminal.coloured(f"{what}; see {directory / LOG}", "FAIL"))

    def summary(self, hours: int, wrong: int) -> None:
        """The last line."""
        self._say(f"demo: {hours} meter-hours accepted, {wrong} wrong", event="summary", hours=hours, wrong=wrong)

    def _say(self, line: str, **facts: Any) -> None:  # noqa: ANN401 - whatever JSON can say
        if self._as_json:
            terminal.document(facts)
        else:
            terminal.show(line)
