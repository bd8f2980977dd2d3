"""`read [METER…]`: the configured meters now. What the service holds is not opened: the service is asked."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from gateway import logs, terminal
from gateway.clock import SystemClock
from gateway.commands.common import configuration, no_meter
from gateway.control import ask
from gateway.errors import FAILED, OK, Unreachable
from gateway.report import holder_of
from gateway.wiring import drivers_for_reading

if TYPE_CHECKING:
    import argparse

    from drivers.base import Clock, Driver
    from gateway.config import Config, Meter

LISTEN = 10.0  # s that a message is waited for, unless said otherwise
BREATH = 0.05  # s between two looks at what has arrived


def run(args: argparse.Namespace) -> int:
    """0 when every meter gave a value, else 1."""
    logs.configure(verbose=args.verbose, usual=logging.ERROR)  # what is wrong with a meter stands in its row
    config = configuration(args)
    wanted = _wanted(config, args.meters)
    held_by = holder_of(config.gateway.data_dir)
    wait = LISTEN if args.wait is None else args.wait
    reads = _ask_service(held_by) if held_by else _look(config, wanted, wait)
    silence = "not read yet" if held_by else "nothing heard"
    rows = [_row(meter, reads.get(meter.name), silence) for meter in wanted]
    if args.json:
        terminal.document({"from": "service" if held_by else "wire", "meters": rows})
    else:
        _show(rows, SystemClock().now().wall)
    return OK if all(row["value"] is not None for row in rows) else FAILED


def _wanted(config: Config, names: list[str]) -> list[Meter]:
    known = {meter.name: meter for meter in config.meters}
    for name in names:
        if name not in known:
            raise no_meter(name, known, "the configuration")
    return [known[name] for name in names] or list(config.meters)


def _ask_service(held_by: dict[str, Any]) -> dict[str, Any]:
    answer = ask(Path(held_by["socket"]), {"want": "reads"}) if "socket" in held_by else None
    if answer is None:
        raise Unreachable(
            f"process {held_by.get('pid', '?')} holds the meters' connections but does not answer: look at its log"
        )
    return answer


def _look(config: Config, wanted: list[Meter], seconds: float) -> dict[str, Any]:
    clock = SystemClock()
    drivers = drivers_for_reading(config.only({meter.name for meter in wanted}), clock)
    missing = {name: {meter.name for meter in wanted if meter.source.connection == name} for name in drivers}
    try:
        for driver in drivers.values():
            driver.poll(clock.now())
        with suppress(KeyboardInterrupt):  # who has waited enough sees what is there
            _listen(drivers, missing, clock, seconds)
        return {source: asdict(read) for driver in drivers.values() for source, read in driver.last_reads().items()}
    finally:
        for driver in drivers.values():
            driver.close()


def _listen(drivers: dict[str, Driver], wanted: dict[str, set[str]], clock: Clock, seconds: float) -> None:
    """Until every source was heard, at most so long."""

    def waiting() -> list[Driver]:
        return [driver for name, driver in drivers.items() if not wanted[name] <= set(driver.last_reads())]

    if waiting() and seconds:
        terminal.hint(
            f"listening to {', '.join(driver.name for driver in waiting())}, {seconds:g} s at most; Ctrl-C shows what is there"
        )
    never = Event()
    until = clock.now().boottime + seconds
    while clock.now().boottime < until and (silent := waiting()):
        for driver in silent:
            driver.step(clock.now())
        clock.wait(never, clock.now().boottime + BREATH)


def _row(meter: Meter, read: dict[str, Any] | None, silence: str) -> dict[str, Any]:
    nothing = {"at": None, "raw": "", "value": None, "unit": "", "problem": silence, "took_ms": None}
    found = read or {**nothing, "where": meter.where}
    at = found["at"] and datetime.fromisoformat(str(found["at"])).isoformat()
    value = None if found["value"] is None else str(found["value"])
    return {"meter": meter.name, "connection": meter.source.connection, **found, "at": at, "value": value}


def _show(rows: list[dict[str, Any]], now: datetime) -> None:
    for row in rows:
        known = row["value"] is not None
        value = f"{row['value']} {row['unit']}" if known else f"FAIL {row['problem']}"
        said = terminal.wrapped(f"{row['meter']}: {value}", "  ")
        terminal.show(said if known else said.replace("FAIL", terminal.coloured("FAIL", "FAIL"), 1))
        took = f", {row['took_ms']:.0f} ms" if row["took_ms"] is not None else ""
        since = f", {terminal.ago((now - datetime.fromisoformat(row['at'])).total_seconds())} ago" if row["at"] else ""
        _aside(f"  {row['connection']}, {row['where']}{took}{since}")
        if row["raw"]:
            _aside(f"  {' '.join(row['raw'].split())}")


def _aside(line: str) -> None:
    terminal.show(terminal.coloured(terminal.wrapped(line, "  "), "dim"))
