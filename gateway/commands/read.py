"""`read [METER…]`: every meter now, raw and decoded. Never opens a bus that the service holds: it asks the service then."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Any

from buffer.lock import holder
from buffer.store import LOCK
from drivers.reading import Reading, Rejected
from gateway import logs, terminal
from gateway.clock import SystemClock
from gateway.commands.check import load_or_exit
from gateway.config import Config, Meter
from gateway.control import ask
from gateway.errors import FAILED, OK, GatewayError, Unreachable
from gateway.locate import find_config
from gateway.wiring import drivers_for_reading

LISTEN = 10.0  # s that a message is waited for


def configure(parser: argparse.ArgumentParser) -> None:
    """Which meters, and how long to listen."""
    parser.add_argument("meters", nargs="*", metavar="METER", help="names in the configuration (default: all)")
    parser.add_argument("--wait", type=float, default=LISTEN, metavar="SECONDS", help="how long to listen for MQTT (default: 10)")


def run(args: argparse.Namespace) -> int:
    """0 when every meter gave a value, else 1."""
    logs.configure(verbose=args.verbose)
    config = load_or_exit(find_config(args.config))
    wanted = _wanted(config, args.meters)
    held_by = holder(config.gateway.data_dir / LOCK)
    reads = _ask_service(held_by) if held_by else _look(config, wanted, args.wait)
    rows = [_row(meter, reads.get(meter.name)) for meter in wanted]
    if args.json:
        terminal.document({"from": "service" if held_by else "wire", "meters": rows})
    else:
        _show(rows, SystemClock().now().wall)
    return OK if all(row["value"] is not None for row in rows) else FAILED


def _wanted(config: Config, names: list[str]) -> list[Meter]:
    known = {meter.name: meter for meter in config.meters}
    for name in names:
        if name not in known:
            raise GatewayError(f'no meter "{name}" in the configuration; known: {", ".join(known)}')
    return [known[name] for name in names] or list(config.meters)


def _ask_service(held_by: dict[str, Any]) -> dict[str, Any]:
    answer = ask(Path(held_by["socket"]), {"want": "reads"}) if "socket" in held_by else None
    if answer is None:
        raise Unreachable(f"process {held_by.get('pid', '?')} holds the data directory but does not answer")
    return answer


def _look(config: Config, wanted: list[Meter], seconds: float) -> dict[str, Any]:
    clock = SystemClock()
    names = {meter.name for meter in wanted}
    only = config.only(names)
    drivers = drivers_for_reading(only, {meter.source.connection for meter in wanted}, clock, _ignore)
    for driver in drivers.values():
        driver.poll(clock.now())
    until = clock.now().boottime + seconds
    never = Event()
    while clock.now().boottime < until:
        seen = {source for driver in drivers.values() for source in driver.last_reads()}
        if seen >= names:
            break
        for driver in drivers.values():
            if not names & set(driver.last_reads()):
                driver.step(clock.now())
        clock.wait(never, clock.now().boottime + 0.1)
    reads = {source: asdict(read) for driver in drivers.values() for source, read in driver.last_reads().items()}
    for driver in drivers.values():
        driver.close()
    return reads


def _ignore(batch: list[Reading | Rejected]) -> None:
    """A look stores nothing."""
    del batch


def _row(meter: Meter, read: dict[str, Any] | None) -> dict[str, Any]:
    if read is None:
        read = {"at": None, "raw": "", "value": None, "unit": "", "problem": "nothing heard", "took_ms": None, "where": meter.where}
    return {"meter": meter.name, "connection": meter.source.connection} | {
        key: str(value) if key in {"at", "value"} and value is not None else value for key, value in read.items()
    }


def _show(rows: list[dict[str, Any]], now: datetime) -> None:
    for row in rows:
        value = f"{row['value']} {row['unit']}" if row["value"] is not None else terminal.coloured(row["problem"], "FAIL")
        terminal.show(f"{row['meter']}: {value}")
        took = f", {row['took_ms']:.0f} ms" if row["took_ms"] is not None else ""
        since = f", {terminal.ago((now - datetime.fromisoformat(row['at'])).total_seconds())} ago" if row["at"] else ""
        terminal.show(terminal.coloured(f"  {row['connection']}, {row['where']}{took}{since}", "dim"))
        if row["raw"]:
            terminal.show(terminal.coloured(f"  {row['raw']}", "dim"))
