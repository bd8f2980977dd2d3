"""`status`: what runs, what every meter last said, what EnerKey has, and what a person should look at."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from gateway import terminal
from gateway.clock import SystemClock
from gateway.errors import FAILED, OK, Unreachable
from gateway.locate import data_dir, find_config
from gateway.report import age, gather

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""
    del parser


def run(args: argparse.Namespace) -> int:
    """0 all well, 1 something is not ok, 69 the service does not run (what the buffer holds is shown all the same)."""
    report = gather(data_dir(find_config(args.config)))
    if args.json:
        terminal.document(report)
    else:
        _show(report)
    if report["service"] is None:
        return Unreachable.code
    return FAILED if report["problems"] else OK


def _show(report: dict[str, Any]) -> None:
    service = report["service"]
    now = SystemClock().now().wall
    if service and service["answers"]:
        now = datetime.fromisoformat(service["now"])  # the demo's clock is not this one
        terminal.show(f"{service['name']}: running, version {service['version']}, process {service['pid']}")
        clock = service["clock"]
        trust = f"trusted ({clock['because']})" if clock["trusted"] else terminal.coloured("NOT trusted", "FAIL")
        terminal.show(f"clock {terminal.stamp(now)}, {trust}")
    _show_connections(report["connections"])
    _show_meters(report["meters"], now)
    _show_rejected(report)
    _show_problems(report["problems"])


def _show_connections(connections: dict[str, Any]) -> None:
    for name, health in connections.items():
        state = terminal.coloured(health["state"], {"ok": "ok", "trouble": "FAIL"}.get(health["state"], "warn"))
        terminal.show(f"connection {name}: {state}")
        counts = ", ".join(f"{count} {what}" for what, count in health["counts"].items() if count)
        if counts:
            terminal.show(terminal.coloured(f"  {counts}", "dim"))


def _show_meters(meters: list[dict[str, Any]], now: datetime) -> None:
    if not meters:
        return
    header = ("meter", "last reading", "age", "accepted up to", "waiting", "held")
    rows = [_meter_row(meter, now) for meter in meters]
    terminal.show()
    terminal.show(terminal.table(header, rows, right=(4, 5)))


def _meter_row(meter: dict[str, Any], now: datetime) -> tuple[str, ...]:
    reading = meter["last_reading"]
    shown = f"{reading['value']} {meter['unit']}" if reading else "none yet"
    since = terminal.ago(age(reading["at"], now)) if reading else "-"
    accepted = _end_of_hour(meter["last_accepted"]) if meter["last_accepted"] else "-"
    waiting = str(meter["pending"] + meter["unknown"])
    return meter["name"], shown, since, "off" if meter["push"] == "off" else accepted, waiting, str(meter["held"])


def _end_of_hour(start: str) -> str:
    return terminal.stamp(datetime.fromisoformat(start) + timedelta(hours=1))


def _show_rejected(report: dict[str, Any]) -> None:
    if report["unplaced"]:
        terminal.show(f"\n{report['unplaced']} readings wait for a trusted clock")
    if report["rejected"]:
        terminal.show("\nnot taken as readings:")
        for row in report["rejected"][:10]:
            terminal.show(f"  {row['count']} x {row['source'] or row['connection']}: {row['reason']}")


def _show_problems(problems: list[str]) -> None:
    terminal.show()
    if not problems:
        terminal.show(terminal.coloured("ok", "ok"))
    for number, problem in enumerate(problems, 1):
        terminal.show(f"{number}. {problem}")
