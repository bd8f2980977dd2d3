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

MOST_TOLD = ("lag", "same_hour", "hour_stamp", "decimals", "negatives")  # of what was probed
MOST_REJECTED = 10  # lines, the most frequent first


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
        _say(f"{service['name']}: running, version {service['version']}, process {service['pid']}")
        clock = service["clock"]
        trust = f"trusted ({clock['because']})" if clock["trusted"] else "NOT trusted"
        line = terminal.wrapped(f"clock {terminal.stamp(now)}, {trust}", "  ")
        terminal.show(line.replace("NOT", terminal.coloured("NOT", "FAIL")))
    else:
        state = "does not answer" if service else "not running"
        terminal.show(f"{terminal.coloured(state, 'FAIL')}; what the buffer holds:")
    _show_connections(report["connections"])
    _show_meters(report["meters"], now)
    _show_rejected(report)
    _show_findings(report)
    _show_problems(report["problems"])


def _show_connections(connections: dict[str, Any]) -> None:
    for name, health in connections.items():
        state = terminal.coloured(health["state"], {"ok": "ok", "trouble": "FAIL"}.get(health["state"], "warn"))
        terminal.show(f"connection {name}: {state}")
        counts = ", ".join(f"{count} {what}" for what, count in health["counts"].items() if count)
        if counts:
            terminal.show(terminal.coloured(terminal.wrapped(f"  {counts}", "  "), "dim"))


def _show_meters(meters: list[dict[str, Any]], now: datetime) -> None:
    header = ("meter", "last reading", "age", "accepted up to", "waiting", "held")
    rows = [_meter_row(meter, now) for meter in meters]
    terminal.show()
    if terminal.fits(header, rows):
        terminal.show(terminal.table(header, rows, right=(2, 4, 5)) if rows else "no meter yet")
        return
    for row in rows:
        _show_block(*row)


def _meter_row(meter: dict[str, Any], now: datetime) -> tuple[str, str, str, str, str, str]:
    reading = meter["last_reading"]
    shown = f"{reading['value']} {meter['unit']}" if reading else "none yet"
    since = terminal.ago(age(reading["at"], now)) if reading else "-"
    accepted = _end_of_hour(meter["last_accepted"]) if meter["last_accepted"] else "-"
    waiting = str(meter["pending"] + meter["unknown"])
    return meter["name"], shown, since, "off" if meter["push"] == "off" else accepted, waiting, str(meter["held"])


def _show_block(name: str, reading: str, since: str, accepted: str, waiting: str, held: str) -> None:
    """A meter on a narrow terminal: what a zero would say is left out."""
    terminal.show(terminal.coloured(name, "bold"))
    _say(f"  {'no reading yet' if since == '-' else f'{reading}, {since} ago'}")
    told = {"off": "not pushed", "-": "nothing accepted yet"}.get(accepted, f"accepted up to {accepted}")
    counts = [f"{count} {what}" for count, what in ((waiting, "waiting"), (held, "held")) if count != "0"]
    _say(f"  {', '.join([told, *counts])}")


def _end_of_hour(start: str) -> str:
    return terminal.stamp(datetime.fromisoformat(start) + timedelta(hours=1))


def _show_rejected(report: dict[str, Any]) -> None:
    if report["unplaced"]:
        waiting = "1 reading waits" if report["unplaced"] == 1 else f"{report['unplaced']} readings wait"
        _say(f"\n{waiting} for a trusted clock")
    if report["rejected"]:
        terminal.show("\nnot taken as readings:")
        for row in report["rejected"][:MOST_REJECTED]:
            _say(f"  {row['count']} x {row['source'] or row['connection']}: {row['reason']}")
        if more := len(report["rejected"][MOST_REJECTED:]):
            terminal.show(f"  and {more} more kinds: status --json")


def _show_findings(report: dict[str, Any]) -> None:
    """What was found out of EnerKey's API."""
    found = {each["name"]: each for each in report["findings"]}
    if not found:
        return
    since = min(each["at"] for each in found.values())[:10]
    known = [f"{name} {found[name]['value']}" for name in MOST_TOLD if name in found]
    _say(f"\nEnerKey's API as probed {since}: {', '.join(known)}; all of it: probe --show")


def _show_problems(problems: list[str]) -> None:
    terminal.show()
    if not problems:
        terminal.show(terminal.coloured("ok", "ok"))
    for number, problem in enumerate(problems, 1):
        terminal.show(terminal.wrapped(f"{number}. {problem}", "   "))


def _say(line: str) -> None:
    terminal.show(terminal.wrapped(line, "  "))
