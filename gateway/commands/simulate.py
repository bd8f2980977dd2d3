"""`simulate WHAT`: simulated counterparts on loopback, to try a configuration without a building or an account."""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from buffer.model import from_micro
from gateway import logs, terminal
from gateway.clock import SystemClock
from gateway.commands import simulate_field, simulate_modbus
from gateway.commands.common import (
    cannot_listen,
    enerkey_id,
    host,
    plain,
    port,
    quoted,
    span,
    until_interrupted,
    wait_for,
    whole,
)
from gateway.errors import OK, NoDatabase, WrongUsage
from gateway.simulator.books import HourStamp, SameHour, Unusable
from gateway.simulator.enerkey import FAULTS, EnerkeySimulator, Fault, random_faults
from gateway.simulator.http import serve

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.simulator.books import Push

PORT = 8040
LONGEST_LAG = 86_400  # s
MOST_REQUESTS = 10_000_000


class Part(NamedTuple):
    """One thing that can be simulated."""

    summary: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def configure(parser: argparse.ArgumentParser) -> None:
    """One subcommand per part."""
    parts = parser.add_subparsers(title="what to simulate", dest="what", metavar="WHAT", required=True)
    for name, part in PARTS.items():
        sub = parts.add_parser(name, help=part.summary, description=part.summary[0].upper() + part.summary[1:] + ".")
        part.configure(sub)


def run(args: argparse.Namespace) -> int:
    """Simulate until interrupted."""
    logs.configure(verbose=args.verbose)
    return PARTS[args.what].run(args)


# --- EnerKey ----------------------------------------------------------------------------------------------------------


def _configure_enerkey(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=port, default=PORT, help=f"where to listen; 0 takes a free one (default: {PORT})"
    )
    parser.add_argument(
        "--host",
        type=host,
        default="127.0.0.1",
        help="the address to listen at; the gateway sends a key only to this machine (default: 127.0.0.1)",
    )
    parser.add_argument("--key", action="append", default=[], help="an API key that is good (default: any); repeatable")
    parser.add_argument(
        "--meter", action="append", type=enerkey_id, metavar="ID", help="a meter there is (default: any)"
    )
    parser.add_argument("--db", type=Path, metavar="FILE", help="keep what was pushed in this file (default: memory)")
    parser.add_argument(
        "--requests-per-day",
        type=whole(1, MOST_REQUESTS),
        default=40_000,
        metavar="N",
        help="what a day allows (default: 40000)",
    )
    parser.add_argument(
        "--same-hour",
        choices=get_args(SameHour),
        default="sum",
        metavar="RULE",
        help=f"what becomes of a second value of an hour: {', '.join(get_args(SameHour))} (default: sum)",
    )
    parser.add_argument(
        "--hour-stamp",
        choices=get_args(HourStamp),
        default="start",
        help="which end of its hour stamps a consumption (default: start)",
    )
    parser.add_argument(
        "--lag",
        type=span(0, LONGEST_LAG),
        default=0.0,
        metavar="SECONDS",
        help="until a push can be read back (default: 0)",
    )
    parser.add_argument(
        "--decimals",
        type=whole(0, 6),
        default=6,
        metavar="N",
        help="how many are kept of a value, 0 to 6 (default: 6)",
    )
    parser.add_argument("--partial", action="store_true", help="a 400 applies the good items of its message")
    parser.add_argument("--no-negatives", action="store_true", help="a consumption below zero is refused")
    parser.add_argument(
        "--burst", type=whole(1, MOST_REQUESTS), metavar="N", help="requests in 10 s that are answered (default: any)"
    )
    parser.add_argument(
        "--fault",
        action="append",
        type=_fault,
        default=[],
        metavar="RATE:KIND",
        help=f"fail this share of requests, as 0.05:lost-answer; kinds: {', '.join(FAULTS)}; repeatable",
    )


def _run_enerkey(args: argparse.Namespace) -> int:
    _check_rates(args.fault)
    say = _Voice(as_json=args.json)
    simulator = _simulator(args)
    simulator.on_push = say.push
    try:
        server = serve(simulator.handle, args.host, args.port)
    except OSError as error:
        simulator.close()
        raise cannot_listen(args.host, args.port, error) from None
    with until_interrupted() as interrupted:
        say.listening(server.url, args)
        wait_for(interrupted)
    server.stop()
    say.summary(simulator)
    simulator.close()
    return OK


def _simulator(args: argparse.Namespace) -> EnerkeySimulator:
    clock = SystemClock()
    try:
        simulator = EnerkeySimulator(
            now=lambda: clock.now().wall,
            keys=args.key,
            meters=args.meter,
            store=args.db,
            requests_per_day=args.requests_per_day,
            same_hour=args.same_hour,
        )
    except Unusable as error:
        raise NoDatabase(f"--db {error}") from None
    simulator.hour_stamp = args.hour_stamp
    simulator.lag, simulator.decimals, simulator.partial = args.lag, args.decimals, args.partial
    simulator.negatives = not args.no_negatives
    simulator.burst = None if args.burst is None else (args.burst, 10.0)
    if args.fault:
        simulator.faults = random_faults(dict(args.fault), Random())  # noqa: S311 - chance, not secrecy
    return simulator


def _check_rates(faults: list[tuple[Fault, float]]) -> None:
    """A request fails in one way at most. Raises WrongUsage."""
    kinds = [kind for kind, _ in faults]
    twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
    if twice:
        raise WrongUsage(f"--fault {twice} stands there twice")
    total = sum(rate for _, rate in faults)
    if total > 1 + 1e-9:  # the sum is rounded
        raise WrongUsage(f"the rates of all --fault come to {total:g}, more than 1")


def _fault(text: str) -> tuple[Fault, float]:
    rate, _, kind = text.partition(":")
    try:
        share = float(plain(rate))
    except ValueError:
        share = -1.0
    found = next((fault for fault in FAULTS if fault == kind), None)
    if found is None or not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(
            f"{quoted(text)} is not RATE:KIND with a rate from 0 to 1, such as 0.05:lost-answer"
        )
    return found, share


class _Voice:
    """What the command says: lines for people, or one JSON document per line."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def listening(self, url: str, args: argparse.Namespace) -> None:
        keys = f"{len(args.key)} keys" if args.key else "any key"
        meters = "any meter" if args.meter is None else f"{len(args.meter)} meters"
        where = args.db or "memory"
        line = f"EnerKey simulator listening on {url} ({keys}, {meters}, kept in {where}); Ctrl-C ends it"
        self._say(line, event="listening", url=url)

    def push(self, push: Push) -> None:
        total = from_micro(sum(item.value for item in push.items)).normalize()
        first, last = min(item.stamp for item in push.items), max(item.stamp for item in push.items)
        line = f"meter {push.meter}: {push.family}, {_items(len(push.items))}, {terminal.stamp(first)}"
        line += f" to {terminal.stamp(last)}" if last > first else ""
        line += f", {total:f}" if push.family == "consumption" or len(push.items) == 1 else ""
        self._say(
            line,
            event="push",
            meter=push.meter,
            family=push.family,
            items=[[item.stamp.isoformat(), str(from_micro(item.value))] for item in push.items],
        )

    def summary(self, simulator: EnerkeySimulator) -> None:
        pushes = simulator.pushes
        items, meters = sum(len(push.items) for push in pushes), len({push.meter for push in pushes})
        line = f"{len(pushes)} pushes with {_items(items)} of {meters} meters; {simulator.requests()} requests in 24 h"
        self._say(line, event="summary", pushes=len(pushes), items=items, meters=meters, requests=simulator.requests())

    def _say(self, line: str, **facts: Any) -> None:  # noqa: ANN401 - whatever JSON can say
        if self._as_json:
            terminal.document(facts)
        else:
            terminal.show(line)


def _items(count: int) -> str:
    return f"{count} item" if count == 1 else f"{count} items"


PARTS: dict[str, Part] = {
    "enerkey": Part("the EnerKey API over HTTP", _configure_enerkey, _run_enerkey),
    "modbus": Part("Modbus meters, and what goes wrong with them", simulate_modbus.configure, simulate_modbus.run),
    "mqtt": Part("MQTT devices that publish", simulate_field.configure_mqtt, simulate_field.run_mqtt),
}
