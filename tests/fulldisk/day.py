"""A day of four meters while the disk takes nothing, in virtual time: collector, closer, uploader and housekeeper over one file.

Three meters are polled, and whoever polls them keeps its last readings only; the fourth one's messages stay at a broker
until they are acknowledged. `python -m tests.fulldisk.day DIRECTORY TROUBLE` lives it on a small filesystem of its own, made
by whoever calls, and prints what is wrong in the end.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import httpx

from buffer.model import MICRO, to_ms
from buffer.room import BALLAST_NAME, MIB, OVER
from buffer.store import DATABASE, StoreError, read_only
from drivers.base import NotStored
from drivers.reading import Reading
from gateway.simulator.enerkey import EnerkeySimulator
from tests.fakes.clock import FakeClock
from tests.fakes.enerkey_transport import transport
from tests.fakes.small_filesystem import fill
from tests.fakes.small_gateway import COUNTER, SmallGateway, reading
from tests.powercut.recording import wrong_hours

POLLED = ("a", "b", "cumulative-c")
BROKER = "mqtt-d"
METERS = (*POLLED, BROKER)
POLL = 60.0  # s
KEPT = 60  # readings that who polls keeps: twenty minutes
BEFORE, MEANWHILE, AFTER = 200, 24 * 60, 200  # polls
SMALL = 24 * MIB  # of the filesystem
BALLAST = 8 * MIB


class Lived(NamedTuple):
    """What was wrong in the end; what was told when; the sorts of hours there were."""

    wrong: list[str]
    problems: set[str]
    told: list[str]
    qualities: set[str]
    most_waiting: int


class Day:
    """`begin`, `each` and `end` are the trouble; each is called between two polls."""

    def __init__(self, directory: Path, room: tuple[int | None, int] = (None, BALLAST)) -> None:
        self.directory = directory
        self.clock = FakeClock()
        self.simulator = EnerkeySimulator(now=lambda: self.clock.wall, keys=["one", "two"])
        self.enerkey = transport(self.simulator)
        self.wrong: list[str] = []
        self.said: list[Reading] = []
        self.polled: list[Reading] = []  # not stored yet, as far as who polls keeps it
        self.at_broker: list[Reading] = []
        self.problems: set[str] = set()
        self.most_waiting = 0
        rule = replace(COUNTER, expected_every_ms=60_000)
        self.gateway = SmallGateway(
            directory, self.clock, self.simulator, METERS, rule=rule, settle=600.0, handler=self._asked, room=room
        )

    def _asked(self, request: httpx.Request) -> httpx.Response:
        """R12: whatever is sent is in the journal already."""
        if request.method == "POST":
            with read_only(self.directory / DATABASE) as db:
                find = "SELECT count(*) FROM message WHERE state = 'open' AND body = ?"
                if db.execute(find, (request.read(),)).fetchone()[0] != 1:
                    self.wrong.append("sent without an intent in the journal")
        return self.enerkey.handler(request)

    def poll(self) -> None:
        minute = round((self.clock.boottime - 1000) / POLL)
        values = [Decimal(minute * minute * (number + 1)) / 1000 for number in range(len(METERS))]
        new = [reading(name, self.clock.wall, value) for name, value in zip(METERS, values, strict=True)]
        self.said += new
        self.polled += new[: len(POLLED)]
        self.at_broker += new[len(POLLED) :]
        with suppress(NotStored):
            self.gateway.deliver(*self.polled, polled=True)
            self.polled = []
        self.polled = self.polled[-KEPT:]
        with suppress(NotStored):
            if self.at_broker:
                self.gateway.deliver(*self.at_broker)
            self.at_broker = []
        self.gateway.run(POLL)
        told = self.gateway.housekeeper.snapshot()
        self.problems |= set(told["problems"])
        self.most_waiting = max(self.most_waiting, told["waiting"])

    def restart(self) -> None:
        """As systemd has it: in order, and again after 5 s where the start fails. Who polls forgets what it kept."""
        self.gateway.housekeeper.close()
        self.polled = []
        while True:
            try:
                self.gateway.crash()
            except StoreError:
                self.clock.advance(5.0)
            else:
                return

    def live(
        self,
        begin: Callable[[], None],
        each: Callable[[int], None],
        end: Callable[[], None],
        meanwhile: int = MEANWHILE,
    ) -> Lived:
        for _ in range(BEFORE):
            self.poll()
        begin()
        for number in range(meanwhile):
            each(number)
            self.poll()
        end()
        for _ in range(AFTER):
            self.poll()
        told = [f"{level}: {text}" for level, subject, text in self.gateway.events() if subject == "buffer"]
        qualities = {view.quality for name in METERS for view in self.gateway.hours(name)}
        return Lived(self.judge(), self.problems, told, qualities, self.most_waiting)

    def judge(self) -> list[str]:
        wrong = self.wrong + [f"not stored in the end: {item}" for item in (*self.at_broker, *self.polled)]
        for number, name in enumerate(METERS):
            points = [(to_ms(each.at), Fraction(each.value) * MICRO) for each in self.said if each.source == name]
            wrong += wrong_hours(name, points[: -round(600 / POLL)], self.simulator.hourly(100 + number))
            wrong += [f"{name}: {view}" for view in self.gateway.hours(name) if view.state != "accepted"]
        if now := self.gateway.housekeeper.snapshot()["problems"].keys() - {
            "nearly"
        }:  # which so small a disk always is
            wrong.append(f"still said: {now}")
        with read_only(self.directory / DATABASE) as db:
            wrong += [str(row) for row in db.execute("PRAGMA integrity_check") if row != ("ok",)]
        return wrong

    def close(self) -> None:
        self.gateway.close()
        self.simulator.close()


class _Others:
    """Other programs, which fill the filesystem."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "others"

    def fill(self) -> None:
        fill(self._file)

    def leave(self) -> None:
        self._file.unlink(missing_ok=True)

    def protect(self, *, on: bool) -> None:
        """Put a read-only view of the filesystem over it, or take it away: who opens a file now, gets it from there."""
        place = str(self._file.parent)
        if on:
            subprocess.run(["mount", "--bind", place, place], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
        else:
            subprocess.run(["umount", place], check=True)


def main(directory: Path, trouble: str) -> None:
    day, others = Day(directory), _Others(directory)

    def each(number: int) -> None:
        if trouble == "greedy":
            others.fill()
        if trouble == "read-only" and number == 1:
            others.protect(on=True)
        if trouble == "restart" and number % 400 == 300:
            day.restart()

    def end() -> None:
        if trouble == "read-only":
            others.protect(on=False)
        others.leave()

    lived = day.live(others.fill, each, end)
    wrong = list(lived.wrong)
    if not (directory / BALLAST_NAME).exists() or (directory / BALLAST_NAME).stat().st_blocks * 512 < BALLAST:
        wrong.append("there is no ballast again")
    expected = {"full", "read-only"} if trouble == "read-only" else {"full"}
    if not expected <= lived.problems or f"info: {OVER['full']}" not in lived.told:
        wrong.append(f"told: {lived.problems}, {lived.told}")
    if not lived.most_waiting or not lived.qualities <= {"measured", "interpolated"}:
        wrong.append(f"in memory: {lived.most_waiting}, then {lived.qualities}")
    day.close()
    print(*wrong, sep="\n", end="")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
