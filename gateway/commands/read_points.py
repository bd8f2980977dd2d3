"""`read tcp://… --profile`: every value of a meter family at one device."""

from __future__ import annotations

import difflib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivers.modbus.profile import BadProfile, Profile, UnknownProfile, like, load, names
from drivers.modbus.source import Source
from gateway import terminal
from gateway.clock import SystemClock
from gateway.commands.watching import facts_of, wait, watch
from gateway.drafting import check_file
from gateway.errors import FAILED, OK, GatewayError, WrongUsage
from gateway.faults import Findings, counted, listing
from gateway.wiring import driver_for_url

if TYPE_CHECKING:
    import argparse

    from drivers.base import LastRead
    from drivers.modbus.config import Connection
    from gateway.commands.watching import Row

ROUNDS = 3  # a device that is silent at some registers is asked again without them


def run(args: argparse.Namespace, connection: Connection) -> int:
    """0 when a value was read, else 1."""
    points = Points(args, connection)
    try:
        if args.watch is not None:
            return watch(points, args.watch, as_json=args.json)
        reads = points.read()
    finally:
        points.close()
    if args.json:
        rows = [facts_of({"point": point, **_plain(read)}) for point, read in reads.items()]
        terminal.document({"url": args.url, "device": args.device, "profile": args.profile, "points": rows})
    else:
        _show_points(args, points.profile, reads)
    return OK if any(read.value is not None for read in reads.values()) else FAILED


class Points:
    """The points of a profile at a device, as the driver itself reads them."""

    rows_key = "points"

    def __init__(self, args: argparse.Namespace, connection: Connection) -> None:
        """Opens nothing. Raises WrongUsage where there is no such profile."""
        self.profile = _profile(args.profile)
        self._args = args
        self._clock = SystemClock()
        about: dict[str, Any] = {"connection": "url", "device": args.device, "profile": args.profile}
        if args.timeout:
            about["timeout"] = f"{args.timeout * 1000:.0f}ms"
        sources = {point: Source.model_validate(about | {"point": point}) for point in self.profile.points}
        self._driver = driver_for_url("modbus", connection, sources, self._clock)

    def read(self) -> dict[str, LastRead]:
        """What each point shows now."""
        reads: dict[str, LastRead] = {}
        for _ in range(ROUNDS):
            self._driver.poll(self._clock.now())
            reads = dict(self._driver.last_reads())
            silent = [read for read in reads.values() if read.problem.startswith("no answer")]
            if not silent or len(silent) == len(reads):
                break
        return {point: reads[point] for point in self.profile.points if point in reads}

    def look(self) -> tuple[list[Row], dict[str, Any]]:
        """A row for each point that gives a value; for all where none does."""
        reads = self.read()
        rows = [
            {"name": point, "point": point, **_plain(read), "counts": self.profile.points[point].kind == "counter"}
            for point, read in reads.items()
        ]
        facts = {"url": self._args.url, "device": self._args.device, "profile": self._args.profile}
        return [row for row in rows if row["value"] is not None] or rows, facts

    def rest(self, clock: SystemClock, until: float) -> None:
        """As the protocol says."""
        wait(clock, until)

    def close(self) -> None:
        """Release the line."""
        self._driver.close()


def _plain(read: LastRead) -> dict[str, Any]:
    value = None if read.value is None else str(read.value)
    return {**asdict(read), "at": read.at.isoformat(), "value": value}


def _profile(name: str) -> Profile:
    try:
        return load(name)
    except UnknownProfile:
        close = like(name, most=3) or difflib.get_close_matches(name, names(), n=3, cutoff=0.4)
        meant = f"; did you mean {' or '.join(close)}?" if close else ""
        if "/" in name or name.endswith(".toml"):
            meant = f"; one of your own is named with its whole path: {Path(name).absolute()}"
        raise WrongUsage(f'there is no profile "{name}"; docs/meters.md lists them{meant}') from None
    except BadProfile as error:
        findings = Findings(name)
        check_file(Path(name), Profile, findings)
        faults = list(findings)
        what = f"{counted(len(faults), 'mistake')} in the profile\n{listing(faults)}" if faults else f"{name}: {error}"
        raise GatewayError(what) from None


def _show_points(args: argparse.Namespace, profile: Profile, reads: dict[str, LastRead]) -> None:
    terminal.show(terminal.wrapped(f"device {args.device} as {profile.manufacturer} {profile.model}", "  "))
    problems = {read.problem for read in reads.values()}
    if len(problems) == 1 and "" not in problems:
        terminal.show(terminal.coloured("FAIL", "FAIL") + " " + terminal.wrapped(problems.pop(), "  "))
        return
    rows = []
    for point, read in reads.items():
        took = "" if read.took_ms is None else f"{read.took_ms:.0f} ms"
        value = f"{read.value:f}" if read.value is not None else "-"
        rows.append((point, value, read.unit or ("?" if read.value is not None else ""), read.raw, took))
    terminal.show(terminal.table(("point", "value", "unit", "words", "took"), rows, right=(1, 4)))
    for problem in dict.fromkeys(read.problem for read in reads.values() if read.problem):
        points = ", ".join(point for point, read in reads.items() if read.problem == problem)
        terminal.show(terminal.wrapped(f"{problem}: {points}", "  "))
    if any(read.value is not None and not read.unit for read in reads.values()):
        terminal.show(terminal.wrapped("?: the unit is set in the meter: look at its display"))
