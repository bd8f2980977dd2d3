"""`simulate mqtt`: devices to point a gateway at; and how the simulated meters introduce themselves."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway import terminal
from gateway.clock import SystemClock
from gateway.commands.common import span, until_interrupted, wait_for
from gateway.errors import OK, GatewayError, WrongUsage
from gateway.faults import cut

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from gateway.simulator.building import SimulatedMeter

MQTT_URL = "mqtt://127.0.0.1:1883"
LONGEST_URL = 80  # characters of one that is none

# The simulator itself is imported when it runs: it loads paho.


def configure_mqtt(parser: argparse.ArgumentParser) -> None:
    """Where the devices publish, and whether the broker is simulated too."""
    parser.add_argument("--url", default=MQTT_URL, help=f"broker to publish at (default: {MQTT_URL})")
    parser.add_argument(
        "--broker",
        nargs="?",
        const="auto",
        choices=("auto", "mosquitto", "amqtt"),
        help="start a broker there, too (auto: mosquitto where it is installed, else amqtt)",
    )
    parser.add_argument(
        "--every",
        type=span(0.1, 3600),
        default=10.0,
        metavar="SECONDS",
        help="between two messages of a device (default: 10)",
    )


def run_mqtt(args: argparse.Namespace) -> int:
    """Publish until interrupted."""
    from gateway.simulator import building  # noqa: PLC0415
    from gateway.simulator.mqtt import MqttDevices  # noqa: PLC0415

    host, number = _address(args.url)
    every = timedelta(seconds=args.every)
    meters = building.hall(building.Pace(every, every, every), push="off")
    say = Voice(as_json=args.json)
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
        wait_for(interrupted)
    say.line(f"{devices.published} messages published", event="summary", messages=devices.published)
    return OK


@contextmanager
def _broker(args: argparse.Namespace, host: str, number: int) -> Iterator[str]:
    """A broker of our own; gives the MQTT version that a gateway should speak with it."""
    from gateway.simulator.broker import HOST, NoBroker, start_broker  # noqa: PLC0415

    if host not in {HOST, "localhost"}:
        raise WrongUsage(f"--broker listens on {HOST} only, not on {host}")
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
        raise WrongUsage(f"--url {cut(url, LONGEST_URL)} {error}") from None
    if tls:
        raise WrongUsage(f"--url {url}: the simulated devices speak plain mqtt:// only")
    return host, number


class Voice:
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
        terminal.show(terminal.wrapped(f"{line}; Ctrl-C ends it", "  "))
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
