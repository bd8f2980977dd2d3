"""`status`: what runs, what every meter last said, what EnerKey has, and what a person should look at."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from gateway import terminal
from gateway.clock import SystemClock
from gateway.errors import FAILED, OK, Unreachable
from gateway.faults import counted, some
from gateway.locate import data_dir, find_config
from gateway.report import FEW, age, gather, key_name, problems, waiting

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
    _show_buffer(report["buffer"])
    together = waiting(report)
    explained = {name for meters in together.values() for name in meters}
    _show_connections(report["connections"], together)
    _show_delivery("EnerKey", report["delivery"], now)
    for name, delivery in report["delivery"].get("accounts", {}).items():
        _show_delivery(f"EnerKey, account {name}", delivery, now)
    meters = [meter for meter in report["meters"] if meter["meter"] not in explained]
    if meters or not explained:
        _show_meters(meters, now)
    _show_rejected(report, explained)
    _show_findings(report)
    _show_problems(list(problems(report, together=together)))


def _show_buffer(buffer: dict[str, Any]) -> None:
    parts = [f"buffer {_megabytes(buffer['bytes'])}"]
    if buffer["max_bytes"]:
        parts[0] += f" of {_megabytes(buffer['max_bytes'])}"
    if buffer["written_per_day"] is not None:
        parts.append(f"{_megabytes(buffer['written_per_day'])} written a day")
    if buffer["days_left"] is not None:
        parts.append(f"full in {counted(buffer['days_left'], 'day')} at this pace")
    if buffer["waiting"]:
        parts.append(f"{counted(buffer['waiting'], 'reading')} in memory until there is room")
    _say(", ".join(parts))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size < 10**8 else f"{size / 1e6:.0f} MB"


def _counted(count: int, what: str) -> str:
    """`what` as a driver names it: several of them."""
    return f"{count} {(what.removesuffix('s') if count == 1 else what).replace('_', ' ')}"


def _show_connections(connections: dict[str, Any], together: dict[str, list[str]]) -> None:
    for name, health in connections.items():
        state = terminal.coloured(health["state"], {"ok": "ok", "trouble": "FAIL"}.get(health["state"], "warn"))
        terminal.show(f"connection {name}: {state}")
        counts = ", ".join(_counted(count, what) for what, count in health["counts"].items() if count)
        if counts:
            terminal.show(terminal.coloured(terminal.wrapped(f"  {counts}", "  "), "dim"))
        if name in together:
            said = f"  no reading yet of {len(together[name])} meters: {some(together[name], FEW)}"
            terminal.show(terminal.wrapped(said, "    "))


def _show_delivery(title: str, delivery: dict[str, Any], now: datetime) -> None:
    """An account's requests, and its keys: which one is in use for what, and when it was taken last."""
    if "budget" in delivery:
        _show_budget(title, delivery)
    elif delivery.get("keys"):
        terminal.show(f"{title}:")
    for key in delivery.get("keys", []):
        use = f"in use for {', '.join(key['in_use_for'])}" if key["in_use_for"] else "not in use"
        taken = f"taken {terminal.ago(age(key['last_accepted'], now))} ago" if key["last_accepted"] else "not taken yet"
        expires = f", expires {key['expires']}" if key["expires"] else ""
        terminal.show(terminal.coloured(terminal.wrapped(f"  {key_name(key)}: {use}, {taken}{expires}", "    "), "dim"))


def _show_budget(title: str, delivery: dict[str, Any]) -> None:
    """Requests to EnerKey: what they come to in a day, and how often a meter is pushed."""
    budget = delivery["budget"]
    spent = "an unknown number" if budget["spent"] is None else budget["spent"]
    share = f"{budget['share']}"
    if budget["in_use"] < budget["share"]:
        share = f"{budget['in_use']} (for now; EnerKey asked for fewer than {share})"
    told = "" if budget["remaining"] is None else f"; EnerKey says {budget['remaining']} are left"
    every = "every hour" if delivery["cadence_hours"] == 1 else f"every {delivery['cadence_hours']} h"
    kept = f"{budget['reserved_for_reads']} kept for reads"
    _say(f"{title}: {spent} of {share} requests in 24 h, {kept}{told}; each meter is pushed {every}")


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
    return meter["meter"], shown, since, "off" if meter["push"] == "off" else accepted, waiting, str(meter["held"])


def _show_block(name: str, reading: str, since: str, accepted: str, waiting: str, held: str) -> None:
    """A meter on a narrow terminal: what a zero would say is left out."""
    terminal.show(terminal.coloured(name, "bold"))
    _say(f"  {'no reading yet' if since == '-' else f'{reading}, {since} ago'}")
    told = {"off": "not pushed", "-": "nothing accepted yet"}.get(accepted, f"accepted up to {accepted}")
    counts = [f"{count} {what}" for count, what in ((waiting, "waiting"), (held, "held")) if count != "0"]
    _say(f"  {', '.join([told, *counts])}")


def _end_of_hour(start: str) -> str:
    return terminal.stamp(datetime.fromisoformat(start) + timedelta(hours=1))


def _show_rejected(report: dict[str, Any], explained: set[str]) -> None:
    if report["unplaced"]:
        waiting = "1 reading waits" if report["unplaced"] == 1 else f"{report['unplaced']} readings wait"
        _say(f"\n{waiting} for a trusted clock")
    if report["rejected"]:
        terminal.show("\nnot taken as readings:")
        kinds: Counter[tuple[str, str]] = Counter()
        for row in report["rejected"]:
            alone = row["source"] and row["source"] not in explained
            kinds[row["source"] if alone else row["connection"], row["reason"]] += row["count"]
        for (whose, reason), count in kinds.most_common(MOST_REJECTED):
            _say(f"  {count} x {whose}: {reason}")
        if (more := len(kinds) - MOST_REJECTED) > 0:
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
