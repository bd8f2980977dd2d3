"""A gateway whose disk fails at its n-th write, sync or truncate: a morning of two meters, in virtual time (reliability 5.5).

It goes on by itself, as the service does: what was not stored is delivered again, a start that fails is tried again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Container
from decimal import Decimal
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import NamedTuple

import httpx

from buffer.closing import imbalance
from buffer.model import MICRO, to_ms
from buffer.store import DATABASE, StoreError, read_only
from drivers.base import NotStored
from drivers.reading import Reading, Rejected
from gateway.simulator.enerkey import EnerkeySimulator
from tests.fakes.clock import FakeClock
from tests.fakes.enerkey_transport import transport
from tests.fakes.failing_disk import EIO, ENOSPC, AtLeast, FailingDisk, failing_disk
from tests.fakes.small_gateway import SmallGateway, reading
from tests.powercut.recording import wrong_hours

METERS = ("a", "cumulative-b")
POLLS = 14  # at 10 minutes, so that two hours are full
POLL = 600.0  # s
SETTLE = 60.0  # s
AWAY = 1  # polls after which a disk that fails for good is mended
RESTART = 5.0  # s, systemd's RestartSec
REST = 3600.0  # s in which everything must be well again


class Lived(NamedTuple):
    """How it went: operations that the disk has counted, those that failed, and what is wrong in the end."""

    operations: int
    failed: list[tuple[int, str]]
    wrong: list[str]


class _Morning:
    def __init__(self, directory: Path, disk: FailingDisk) -> None:
        self.directory = directory
        self.disk = disk
        self.clock = FakeClock()
        self.simulator = EnerkeySimulator(now=lambda: self.clock.wall, keys=["one", "two"])
        self.enerkey = transport(self.simulator)
        self.wrong: list[str] = []
        self.offered: list[Reading | Rejected] = []
        self.stored: list[Reading | Rejected] = []
        self.said: list[Reading] = []
        self.gateway = SmallGateway(
            directory, self.clock, self.simulator, METERS, settle=SETTLE, handler=self._asked, looked=False
        )

    def _asked(self, request: httpx.Request) -> httpx.Response:
        """R12, at the other end: whatever comes is in the journal already, with these bytes."""
        if request.method == "POST":
            with read_only(self.directory / DATABASE) as db:
                find = "SELECT count(*) FROM message WHERE state = 'open' AND body = ?"
                intents = db.execute(find, (request.read(),)).fetchone()[0]
            if intents != 1:
                self.wrong.append(f"sent with {intents} intents in the journal: {request.read()!r}")
        return self.enerkey.handler(request)

    def poll(self, number: int) -> None:
        """What a driver does: what was not stored is offered again with the next."""
        values = (Decimal(number * number), Decimal(3 * number))
        new = [reading(name, self.clock.wall, value) for name, value in zip(METERS, values, strict=True)]
        self.said += new
        self.offered += [*new, Rejected("a", self.clock.wall, "not a number", f"poll {number}")]
        try:
            self.gateway.deliver(*self.offered)
        except NotStored:
            return
        self.stored += self.offered
        self.offered = []

    def restart(self) -> None:
        """The process ends where it is; systemd starts it until it stays."""
        for _ in range(AWAY):
            try:
                self.gateway.crash()
            except StoreError:
                self.gateway.store.close()
                self.clock.advance(RESTART)
            else:
                return
        self.disk.heal()
        self.gateway.crash()

    def judge(self) -> list[str]:
        """What is wrong now that everything has had its time."""
        wrong = self.wrong + [f"not stored in the end: {item}" for item in self.offered]
        for number, name in enumerate(METERS):
            points = [(to_ms(each.at), Fraction(each.value) * MICRO) for each in self.said if each.source == name]
            wrong += wrong_hours(name, points, self.simulator.hourly(100 + number))
            wrong += [f"{name}: {view}" for view in self.gateway.hours(name) if view.state != "accepted"]
        return wrong + self._file()

    def _file(self) -> list[str]:
        with read_only(self.directory / DATABASE) as db:
            stored = {row[0] for row in db.execute("SELECT at FROM reading")}
            kept = {row[0] for row in db.execute("SELECT detail FROM rejected")}
            wrong = [f"R7: {name}" for name, number in self.gateway.numbers.items() if imbalance(db, number) != 0]
            wrong += [str(row) for row in db.execute("PRAGMA integrity_check") if row != ("ok",)]
        lost = [each for each in self.stored if isinstance(each, Reading) and to_ms(each.at) not in stored]
        lost_words = [each for each in self.stored if isinstance(each, Rejected) and each.detail not in kept]
        return wrong + [f"acknowledged and lost: {each}" for each in [*lost, *lost_words]]


def live(directory: Path, disk: FailingDisk, failing: Container[int], error: int, *, restarts: bool = False) -> Lived:
    """One morning; the operations in `failing` fail. `restarts`: the process ends at the first failure, too."""
    morning = _Morning(directory, disk)
    try:
        disk.fail(failing, error)
        mended_at = POLLS
        ended = not restarts
        for number in range(POLLS):
            morning.poll(number)
            morning.gateway.run(POLL)
            if disk.failed and mended_at == POLLS:
                mended_at = number + AWAY
            if disk.failed and not ended:
                morning.restart()
                ended = True
            if number >= mended_at:
                disk.heal()
        disk.heal()
        if morning.offered:
            morning.poll(POLLS)
        morning.gateway.run(REST)
        return Lived(disk.operations, list(disk.failed), morning.judge())
    finally:
        disk.heal()
        morning.gateway.close()
        morning.simulator.close()


class Kind(NamedTuple):
    """A way of failing: which operations, when it is the turn of number n."""

    failing: Callable[[int], Container[int]]
    error: int
    restarts: bool = False


KINDS = {
    "once, EIO": Kind(lambda n: {n}, EIO),
    "once, ENOSPC": Kind(lambda n: {n}, ENOSPC),
    "from then on, EIO": Kind(AtLeast, EIO),
    "from then on, ENOSPC": Kind(AtLeast, ENOSPC),
    "again while it recovers": Kind(lambda n: {n, n + 1 + n % 7}, EIO),
    "once, and the process ends": Kind(lambda n: {n}, EIO, restarts=True),
    "from then on, and the process ends": Kind(AtLeast, ENOSPC, restarts=True),
}


class Swept(NamedTuple):
    """What came of a sweep."""

    runs: int
    failures: int  # runs in which an operation failed
    wrong: list[str]


def _wrong(directory: Path, disk: FailingDisk, number: int, kind: Kind) -> list[str]:
    try:
        return live(directory, disk, kind.failing(number), kind.error, restarts=kind.restarts).wrong
    except Exception as error:  # it is one finding, and the operations after it are tried all the same
        return [f"the morning ended: {error!r}"]


def swept(directory: Path, kind: Kind, *, first: int, step: int) -> Swept:
    """Let operation `first` fail, then one `step` later, until a morning runs clean."""
    wrong: list[str] = []
    failures = 0
    for runs in count(1):
        number = first + (runs - 1) * step
        place = directory / str(number)
        place.mkdir()
        with failing_disk(place) as disk:
            found = _wrong(place, disk, number, kind)
            failed = disk.failed[:1]
        shutil.rmtree(place)
        wrong += [f"operation {number} ({failed}): {words}" for words in found]
        failures += bool(failed)
        if not failed:
            return Swept(runs, failures, wrong)
    raise AssertionError("there is no end")
