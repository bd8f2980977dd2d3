"""`simulate modbus` and `simulate mqtt`: meters to point a gateway at, with the configuration that reads them."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway import terminal
from gateway.clock import SystemClock
from gateway.commands.common import port, until_interrupted
from gateway.errors import OK, GatewayError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.simulator.building import SimulatedMeter

MODBUS_PORT = 5020  # 502 is root's
MQTT_URL = "mqtt://127.0.0.1:1883"
MOST_DEVICES = 247  # ids on one line, Modbus over serial line 2.2

# The simulators themselves are imported when they run: they load pymodbus and paho.


def configure_modbus(parser: argparse.ArgumentParser) -> None:
    """Where it listens and what is there."""
    parser.add_argument("--port", type=port, default=MODBUS_PORT, help=f"default {MODBUS_PORT}; 0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1")
    parser.add_argument("--devices", type=_devices, default=5, metavar="N", help="meters with ids 1 to N (default: 5)")
    parser.add_argument(
        "--mute", action="append", type=_devices, default=[], metavar="ID", help="one that does not answer; repeatable"
    )
    parser.add_argument("--missing", choices=("silent", "0x04"), default="silent", help="what other ids answer")


def run_modbus(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from gateway.simulator import building  # noqa: PLC0415 - see above
    from gateway.simulator.modbus import ModbusSimulator  # noqa: PLC0415

    meters = building.bus(args.devices, push="off")
    try:
        simulator = ModbusSimulator(
            building.devices_on_the_bus(meters), SystemClock(), args.host, args.port, missing=args.missing
        )
    except OSError as error:
        raise GatewayError(f"cannot listen on {args.host} port {args.port}: {error.strerror}; try --port 0") from None
    simulator.mute.update(args.mute)
    say = _Voice(as_json=args.json)
    with until_interrupted() as interrupted:
        connection = building.bus_connection(simulator.url, "10s")
        say.listening(f"Modbus simulator listening on {simulator.url}", simulator.url, meters, connection)
        interrupted.wait()
    simulator.stop()
    say.line(f"{simulator.requests} requests answered", event="summary", requests=simulator.requests)
    return OK


def configure_mqtt(parser: argparse.ArgumentParser) -> None:
    """Where the devices publish, and whether the broker is simulated too."""
    parser.add_argument("--url", default=MQTT_URL, help=f"broker to publish at (default: {MQTT_URL})")
    parser.add_argument(
        "--broker",
        nargs="?",
        const="auto",
        choices=("auto", "mosquitto", "amqtt"),
        help="start a broker there: mosquitto where it is installed, else amqtt",
    )
    parser.add_argument(
        "--every", type=_seconds, default=10.0, metavar="S", help="seconds between messages (default: 10)"
    )


def run_mqtt(args: argparse.Namespace) -> int:
    """Publish until interrupted."""
    from gateway.simulator import building  # noqa: PLC0415
    from gateway.simulator.mqtt import MqttDevices  # noqa: PLC0415

    host, number = _address(args.url)
    every = timedelta(seconds=args.every)
    meters = building.hall(building.Pace(every, every, every), push="off")
    say = _Voice(as_json=args.json)
    with ExitStack() as stack:
        interrupted = stack.enter_context(until_interrupted())
        protocol = stack.enter_context(_broker(args, host, number)) if args.broker else "auto"
        try:
            devices = MqttDevices(building.devices_in_the_hall(meters), SystemClock(), host, number)
        except OSError as error:
            raise GatewayError(f"no broker at {args.url}: {error.strerror or error}; --broker starts one") from None
        stack.callback(devices.stop)
        connection = building.hall_connection(args.url, protocol)
        say.listening(f"MQTT devices publish at {args.url}", args.url, meters, connection)
        devices.on_publish = say.published
        interrupted.wait()
    say.line(f"{devices.published} messages published", event="summary", messages=devices.published)
    return OK


@contextmanager
def _broker(args: argparse.Namespace, host: str, number: int) -> Iterator[str]:
    """A broker of our own; gives the MQTT version that a gateway should speak with it."""
    from gateway.simulator.broker import HOST, NoBroker, start_broker  # noqa: PLC0415

    if host not in {HOST, "localhost"}:
        raise GatewayError(f"--broker listens on {HOST} only, not on {host}")
    with tempfile.TemporaryDirectory(prefix="meter-gateway-broker-") as directory:
        try:
            broker = start_broker(args.broker, Path(directory), number)
        except NoBroker as error:
            raise GatewayError(str(error)) from None
        try:
            yield "auto" if broker.protocol == "5" else broker.protocol
        finally:
            broker.stop()


def _address(url: str) -> tuple[str, int]:
    from drivers.mqtt.config import address_of  # noqa: PLC0415

    try:
        host, number, tls = address_of(url)
    except ValueError as error:
        raise GatewayError(f"--url {url} {error}") from None
    if tls:
        raise GatewayError(f"--url {url}: the simulated devices speak plain mqtt:// only")
    return host, number


def _devices(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_DEVICES:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number from 1 to {MOST_DEVICES}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds from 0.1 to 3600")
    return seconds


class _Voice:
    """What the command says: lines for people, or one JSON document per line."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def listening(self, line: str, url: str, meters: Sequence[SimulatedMeter], connection: str) -> None:
        """Where, what, and the configuration to paste."""
        from gateway.simulator.building import meter_block, where  # noqa: PLC0415

        config = "\n".join([connection, *(meter_block(meter) for meter in meters)])
        served = [{"name": meter.name, "unit": meter.unit, "where": where(meter)} for meter in meters]
        if self._as_json:
            terminal.document({"event": "listening", "url": url, "meters": served, "config": config})
            return
        terminal.show(f"{line}; Ctrl-C ends it")
        terminal.show(terminal.table(("meter", "where"), [(each["name"], each["where"]) for each in served]))
        terminal.show("\nTo read them, paste this into a configuration:\n")
        terminal.show(config)

    def published(self, topic: str, payload: str) -> None:
        """One message."""
        self.line(terminal.coloured(f"{topic} {payload}", "dim"), event="message", topic=topic, payload=payload)

    def line(self, text: str, **facts: Any) -> None:  # noqa: ANN401 - whatever JSON can say
        """One line, or its facts."""
        if self._as_json:
            terminal.document(facts)
        else:
            terminal.show(text)
