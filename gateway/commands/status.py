"""`status`: what runs, what every meter last said, what EnerKey has, and what a person should look at."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import Any

from gateway import terminal
from gateway.clock import SystemClock
from gateway.errors import FAILED, OK, Unreachable
from gateway.locate import data_dir, find_config
from gateway.report import age, gather


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
        now = datetime.fromisoformat(service["now"])
        clock = service["clock"]
        trust = f"trusted ({clock['because']})" if clock["trusted"] else terminal.coloured("NOT trusted", "FAIL")
        terminal.show(f"{service['name']}: running, version {service['version']}, process {service['pid']}")
        terminal.show(f"clock {terminal.stamp(now)}, {trust}")
    _show_connections(report["connections"])
    _show_meters(report["meters"], now)
    _show_rejected(report)
    _show_problems(report["problems"])


def _show_connections(connections: dict[str, Any]) -> None:
    for name, health in connections.items():
        counts = ", ".join(f"{count} {what}" for what, count in health["counts"].items() if count)
        state = terminal.coloured(health["state"], {"ok": "ok", "trouble": "FAIL"}.get(health["state"], "warn"))
        terminal.show(f"connection {name}: {state}{', ' + counts if counts else ''}")


def _show_meters(meters: list[dict[str, Any]], now: datetime) -> None:
    rows = []
    for meter in meters:
        reading = meter["last_reading"]
        shown = f"{reading['value']} {meter['unit']}" if reading else "none yet"
        since = terminal.ago(age(reading["at"], now)) if reading else "-"
        accepted = terminal.stamp(datetime.fromisoformat(meter["last_accepted"])) if meter["last_accepted"] else "-"
        waiting = meter["pending"] + meter["unknown"]
        rows.append((meter["name"], shown, since, accepted if meter["push"] != "off" else "off", str(waiting), str(meter["held"])))
    terminal.show()
    header = ("meter", "last reading", "age", "accepted up to", "waiting", "held")
    terminal.show(terminal.table(header, rows, right=(4, 5)))


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
