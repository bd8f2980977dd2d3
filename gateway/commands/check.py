"""`check`: the whole configuration offline, every mistake at once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from importlib.metadata import packages_distributions
from pathlib import Path

from gateway import terminal
from gateway.clock import SystemClock
from gateway.commands.room import room_warnings
from gateway.config import Config, ConfigFaults, load
from gateway.errors import OK, GatewayError, Misconfigured
from gateway.faults import Fault, counted, listing, visible
from gateway.locate import find_config

DISTRIBUTION = "enerkey-meter-gateway"
PACKAGES = ("gateway", "drivers", "buffer")


def configure(parser: argparse.ArgumentParser) -> None:
    """The read plan, or stored messages to try a mapping on."""
    group = parser.add_argument_group("look closer")
    either = group.add_mutually_exclusive_group()
    plan = "show each Modbus connection's requests, and how much of the time between two polls they take"
    either.add_argument("--plan", action="store_true", help=plan)
    again = "try an MQTT mapping on a payload as it came; again for those that follow it (Sparkplug: BIRTH before DATA)"
    either.add_argument("--message", action="append", metavar="FILE", help=again)
    group.add_argument("--meter", metavar="NAME", help="whose mapping (default: the only one on MQTT)")
    group.add_argument("--topic", metavar="TOPIC", help="where it came from (default: one that the meter listens to)")
    group.add_argument("--retained", action="store_true", help="as a retained message")


def run(args: argparse.Namespace) -> int:
    """0 when the service could start with it, 78 when a person must mend it first, 77 when this user may not read it."""
    path = find_config(args.config)
    check_installation()
    try:
        config = load(path, SystemClock().now().wall.date())
        room = room_warnings(str(path), config)
        config = replace(config, warnings=(*config.warnings, *room, *_zone_warnings(), *_doubts(path, config)))
    except ConfigFaults as error:
        if args.json:
            terminal.document(_document(error.faults, error.warnings))
        else:
            _show_warnings(error.warnings)
            terminal.show(listing(error.faults, terminal.width()))
            _show_end(path, f"{counted(len(error.faults), 'mistake')}{_warned(error.warnings)}")
        return error.code
    if args.message or args.meter or args.topic or args.retained:
        from gateway.commands import check_message  # noqa: PLC0415 - the whole wiring, only for this

        return check_message.run(args, config)
    from gateway.commands import check_plan  # noqa: PLC0415 - the drivers' view, only for a whole configuration

    if args.json:
        document = _document((), config.warnings) | {"meters": [each.name for each in config.meters]}
        terminal.document(document | ({"plan": check_plan.document(config)} if args.plan else {}))
    else:
        if args.plan:
            check_plan.show(config)
        _show_warnings(config.warnings)
        _show(path, config)
    return OK


def _zone_warnings() -> list[Fault]:
    """Our hours are UTC's; whether EnerKey's are, too, where local hours begin at half past, nobody could tell us."""
    offset = _odd_offset(SystemClock().now().wall)
    if offset is None:
        return []
    sign, minutes = "-" if offset < timedelta() else "+", abs(offset) // timedelta(minutes=1)
    words = f"local time is UTC{sign}{minutes // 60}:{minutes % 60:02}: hours are counted in UTC; compare the first day with EnerKey's"
    return [Fault("this machine", None, "time zone", words)]


def _doubts(path: Path, config: Config) -> list[Fault]:
    """Where [enerkey] contradicts what was probed, as far as this user may look into the database."""
    if config.enerkey is None:
        return []
    from gateway.delivery import doubts_of  # noqa: PLC0415
    from gateway.report import stored  # noqa: PLC0415 - the database library, for those who have something to look up

    try:
        with stored(config.gateway.data_dir) as db:
            found = doubts_of(config, db)
    except GatewayError:  # nothing has run yet, or not for this user's eyes
        return []
    return [Fault(str(path), None, f"enerkey.{doubt.key}", doubt.words) for doubt in found]


def check_installation() -> None:
    """Our package names are plain words, and other distributions ship packages of the same names: they would be mixed up silently."""
    providers = packages_distributions()
    for package in PACKAGES:
        others = sorted(set(providers.get(package, ())) - {DISTRIBUTION})
        if others:
            raise Misconfigured(
                f'the package "{package}" in this Python environment is also brought by {", ".join(others)}: '
                f"install {DISTRIBUTION} into an environment of its own"
            )


def _document(faults: Sequence[Fault], warnings: Sequence[Fault]) -> dict[str, object]:
    return {
        "ok": not faults,
        "faults": [_facts(fault) for fault in faults],
        "warnings": [_facts(warning) for warning in warnings],
    }


def _facts(fault: Fault) -> dict[str, object]:
    """Null where there is nothing to say."""
    return {key: None if value == "" else value for key, value in asdict(fault).items()}


def _show(path: Path, config: Config) -> None:
    meters, connections = counted(len(config.meters), "meter"), counted(len(config.connections), "connection")
    _show_end(path, f"ok: {meters} on {connections}{_warned(config.warnings)}")


def _show_end(path: Path, words: str) -> None:
    terminal.show(terminal.wrapped(f"{visible(str(path))}: {words}", "    "))


def _show_warnings(warnings: Sequence[Fault]) -> None:
    if warnings:
        terminal.show(listing(warnings, terminal.width(), f"{terminal.coloured('warning', 'warn')}: "))


def _warned(warnings: Sequence[Fault]) -> str:
    return f", {counted(len(warnings), 'warning')}" if warnings else ""


def _odd_offset(wall: datetime) -> timedelta | None:
    """How far local time is from UTC where it is no whole hour, in winter or summer; None where it is one."""
    seasons = (wall.replace(month=month, day=1).astimezone().utcoffset() or timedelta() for month in (1, 7))
    return next((offset for offset in seasons if offset % timedelta(hours=1)), None)
