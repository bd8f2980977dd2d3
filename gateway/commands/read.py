"""`read`: the configured meters now, or with a URL any device at all. Which of the two, and which module does it.

A module for URLs has `FLAGS` (its own options, all of them None where not given), `configure` that adds them, and `run`,
which finds the URL in `args.url`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from drivers.modbus.address import Scheme
from gateway.commands import read_meters, read_modbus, read_mqtt
from gateway.commands.common import seconds
from gateway.commands.watching import EVERY, every
from gateway.errors import WrongUsage

if TYPE_CHECKING:
    import argparse

MODULES: dict[str, Any] = {
    **dict.fromkeys(get_args(Scheme), read_modbus),
    "mqtt": read_mqtt,
    "mqtts": read_mqtt,
}
LINES = ("tcp://192.0.2.10:502", "rtu:///dev/ttyUSB0")
EXAMPLES = {read_modbus: "tcp://192.0.2.10:502", read_mqtt: "mqtt://192.0.2.20"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Which meters or which URL, and how long to listen."""
    what = "names in the configuration (default: all), or one URL such as tcp://192.0.2.10:502 or mqtt://192.0.2.20"
    parser.add_argument("meters", nargs="*", metavar="METER", help=what)
    how_long = f"how long to listen for MQTT (default: {read_meters.LISTEN:g}; with a URL {read_mqtt.LISTEN:g})"
    parser.add_argument("--wait", type=seconds, metavar="SECONDS", help=how_long)
    again = f"again and again, with the change and the rate per hour (default: every {EVERY:g} s)"
    parser.add_argument("--watch", nargs="?", type=every, const=EVERY, metavar="SECONDS", help=again)
    parser.add_argument("--orders", action="store_true", help="Modbus values in all four orders of words and bytes")
    read_modbus.configure(parser.add_argument_group("a Modbus device, with a URL"))
    read_mqtt.configure(parser.add_argument_group("a broker, with a URL"))


def run(args: argparse.Namespace) -> int:
    """0 when everything that was asked for gave a value, else 1."""
    urls = [word for word in args.meters if "://" in word]
    chosen = _module(urls[0]) if urls else None
    if urls and len(args.meters) > 1:
        raise WrongUsage("one URL at a time, and no meters beside it: their connections stand in the configuration")
    for module, example in EXAMPLES.items():
        given = [flag for flag in module.FLAGS if getattr(args, flag[2:].replace("-", "_")) is not None]
        if given and module is not chosen:
            raise WrongUsage(f"{given[0]} goes with a URL such as {example}")
    if chosen is None:
        for word in args.meters:
            if "/" in word:
                raise WrongUsage(f"{word} is neither a meter's name nor a URL such as {' or '.join(LINES)}")
        return read_meters.run(args)
    args.url = urls[0]
    return int(chosen.run(args))


def _module(url: str) -> Any:  # noqa: ANN401 - one of MODULES
    scheme = url.partition("://")[0].lower()
    if scheme not in MODULES:
        known = ", ".join(f"{each}://" for each in MODULES)
        raise WrongUsage(f"nothing is read at {scheme}://; there are: {known}")
    return MODULES[scheme]
