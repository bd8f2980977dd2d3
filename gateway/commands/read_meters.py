"""`read [METER…]`: the configured meters now. What the service holds is not opened: the service is asked."""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, cast

from gateway import logs, terminal
from gateway.clock import SystemClock
from gateway.commands.advice import advice
from gateway.commands.common import configuration, no_meter
from gateway.commands.watching import facts_of, watch
from gateway.control import ask
from gateway.errors import FAILED, OK, Unreachable
from gateway.report import holder_of
from gateway.wiring import BROKER, drivers_for_reading

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from drivers.base import Clock, Driver
    from drivers.modbus.source import Source
    from gateway.config import Config, Meter

LISTEN = 10.0  # s that a message is waited for, unless said otherwise
MODBUS = "modbus"
TOGETHER = "\xa0"  # stands between words that one line must keep
BREATH = 0.05  # s between two looks at what has arrived


def run(args: argparse.Namespace) -> int:
    """0 when every meter gave a value, else 1."""
    logs.configure(verbose=args.verbose, usual=logging.ERROR)  # what is wrong with a meter stands in its row
    config = configuration(args)
    wanted = _wanted(config, args.meters)
    usual = LISTEN if args.watch is None else 0.0  # who watches hears it at one of the next looks
    looking = Looking(config, wanted, usual if args.wait is None else args.wait)
    try:
        if args.watch is not None:
            return watch(looking, args.watch, as_json=args.json)
        rows, facts = looking.look()
    finally:
        looking.close()
    if args.json:
        terminal.document(facts | {"meters": [facts_of(row) | _in_orders(config, row) for row in rows]})
    else:
        _show(rows, SystemClock().now().wall, config if args.orders or args.verbose else None)
    return OK if all(row["value"] is not None for row in rows) else FAILED


class Looking:
    """The meters, from the service where one runs, else from the wire, whose connections stay open between two looks."""

    rows_key = "meters"

    def __init__(self, config: Config, wanted: Sequence[Meter], patience: float) -> None:
        """`patience`: seconds that a first message is waited for."""
        self._config = config
        self._wanted = wanted
        self._listen = patience
        self._clock = SystemClock()
        self._drivers: dict[str, Driver] | None = None
        self._looked = False

    def look(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """A row for each meter, and where they come from. Raises Unreachable, at the first time only."""
        held_by = holder_of(self._config.gateway.data_dir)
        if held_by:
            self.close()  # the line is the service's from now on
            reads, silence = self._from_service(held_by)
        else:
            reads, silence = self._from_wire(), "nothing heard"
        self._looked = True
        rows = [_found(meter, reads.get(meter.name), silence) for meter in self._wanted]
        return rows, {"from": "service" if held_by else "wire"}

    def rest(self, clock: Clock, until: float) -> None:
        """Hear what brokers say meanwhile."""
        brokers = {name: driver for name, driver in (self._drivers or {}).items() if self._is_broker(name)}
        if brokers:
            _listen(brokers, {name: {""} for name in brokers}, clock, until)
        clock.wait(Event(), until)

    def close(self) -> None:
        """Release every connection."""
        drivers, self._drivers = self._drivers or {}, None
        for driver in drivers.values():
            driver.close()

    def _from_service(self, held_by: dict[str, Any]) -> tuple[dict[str, Any], str]:
        try:
            return _ask_service(held_by), "not read yet"
        except Unreachable as error:  # it may be starting, or stopping
            if not self._looked:
                raise
            return {}, str(error)

    def _from_wire(self) -> dict[str, Any]:
        names = {meter.name for meter in self._wanted}
        first = self._drivers is None
        if self._drivers is None:
            self._drivers = drivers_for_reading(self._config.only(names), self._clock)
        for driver in self._drivers.values():
            driver.poll(self._clock.now())
        if first:
            self._wait()
        reads = [read for driver in self._drivers.values() for read in driver.last_reads().items()]
        return {source: asdict(read) for source, read in reads}

    def _wait(self) -> None:
        """Until every source was heard, at most so long as was said."""
        drivers = self._drivers or {}
        missing = {name: {meter.name for meter in self._wanted if meter.source.connection == name} for name in drivers}
        silent = [driver.name for name, driver in drivers.items() if not missing[name] <= set(driver.last_reads())]
        try:
            if silent and self._listen:
                terminal.hint(
                    f"listening to {', '.join(silent)}, {self._listen:g} s at most; Ctrl-C shows what is there"
                )
            _listen(drivers, missing, self._clock, self._clock.now().boottime + self._listen)
        except KeyboardInterrupt:  # who has waited enough sees what is there
            terminal.after_interrupt()

    def _is_broker(self, name: str) -> bool:
        return bool(dict(self._config.connections[name])["driver"] == BROKER)


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


def _listen(drivers: dict[str, Driver], wanted: dict[str, set[str]], clock: Clock, until: float) -> None:
    """Until every source was heard, at most until this boottime."""

    def waiting() -> list[Driver]:
        return [driver for name, driver in drivers.items() if not wanted[name] <= set(driver.last_reads())]

    never = Event()
    while clock.now().boottime < until and (silent := waiting()):
        for driver in silent:
            driver.step(clock.now())
        clock.wait(never, min(until, clock.now().boottime + BREATH))


def _found(meter: Meter, read: dict[str, Any] | None, silence: str) -> dict[str, Any]:
    """What `watching.Row` says, and where it was read."""
    nothing = {"at": None, "raw": "", "value": None, "unit": "", "problem": silence, "took_ms": None}
    found = read or {**nothing, "where": meter.where}
    at = found["at"] and datetime.fromisoformat(str(found["at"])).isoformat()
    value = None if found["value"] is None else str(found["value"])
    told = {"name": meter.name, "meter": meter.name, "connection": meter.source.connection}
    return {**told, **found, "at": at, "value": value, "counts": meter.kind == "counter"}


def _in_orders(config: Config, row: dict[str, Any]) -> dict[str, Any]:
    """What the words would be in each order, for a meter on a Modbus line; the configured one is `order`."""
    meter = next(meter for meter in config.meters if meter.name == row["meter"])
    if dict(config.connections[meter.source.connection])["driver"] != MODBUS or row["value"] is None:
        return {}
    from drivers.modbus.orders import in_all_orders, order_of  # noqa: PLC0415
    from drivers.modbus.target import target_of  # noqa: PLC0415

    target = target_of(meter.name, cast("Source", meter.source))
    words = [int(word, 16) for word in row["raw"].split()]
    orders = in_all_orders(target, words) if len(words) == target.place.width else {}
    texts = {order: None if value is None else str(value) for order, value in orders.items()}
    return {"order": order_of(target.encoding), "orders": texts} if texts else {}


def _show(rows: list[dict[str, Any]], now: datetime, orders_of: Config | None) -> None:
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
        if orders_of and (found := _in_orders(orders_of, row)):
            _aside(f"  {', '.join(_order(name, value, found['order']) for name, value in found['orders'].items())}")
    if told := advice(row["problem"] for row in rows if row["value"] is None):
        terminal.show()
        for each in told:
            terminal.show(terminal.wrapped(each, "  "))


def _order(name: str, value: str | None, configured: str) -> str:
    from drivers.modbus.orders import short  # noqa: PLC0415

    shown = short(None if value is None else Decimal(value))
    return f"{name}{f'{TOGETHER}(configured)' if name == configured else ''}{TOGETHER}{shown}"


def _aside(line: str) -> None:
    terminal.show(terminal.coloured(terminal.wrapped(line, "  ").replace(TOGETHER, " "), "dim"))
