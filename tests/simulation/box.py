"""The box itself: its power, its clock, and whoever restarts the gateway on it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from buffer.model import MINUTE_MS

if TYPE_CHECKING:
    from tests.simulation.world import World


class Box:
    """The happenings, as events of a world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def vouches(self) -> str | None:
        """NTP, as it is seen from the box."""
        return "NTP" if self._world.synchronised else None

    def doubt(self) -> None:
        """It is right or it is not there."""

    def reboot(self, fault: str) -> None:
        """The power fails; the clock goes on from where it stood some time before, and is set after a while."""
        self._world.faults[fault] += 1
        self._boot()
        self._world.at(
            self._world.clock.true_ms + self._world.random.randrange(MINUTE_MS, 40 * MINUTE_MS), self.synchronise, None
        )

    def reboot_unset(self, fault: str) -> None:
        """... and fails again before the clock was set."""
        self._world.faults[fault] += 1
        self._boot()
        self._world.at(
            self._world.clock.true_ms + self._world.random.randrange(10 * MINUTE_MS, 90 * MINUTE_MS),
            self.reboot,
            "reboot",
        )

    def boot_from(self, files: Path | None, boot: str, off: float) -> None:
        """The box comes up with other files, which a process of `boot` wrote; None: with none."""
        if files is None:
            files = self._world.new_directory()
        else:
            with closing(sqlite3.connect(files / "buffer.db")) as db:
                self._forget_stranded(boot, db)
        if self._world.random.random() < 0.5:  # its clock has a battery
            self._world.start_again(after=off, wall=self._world.clock.true + timedelta(seconds=off), files=files)
            self.synchronise(None)
            return
        self._world.synchronised = False
        back = timedelta(seconds=self._world.random.uniform(300, 86_400))
        self._world.start_again(after=off, wall=self._world.clock.true - back, files=files)
        self._world.at(
            self._world.clock.true_ms + self._world.random.randrange(MINUTE_MS, 40 * MINUTE_MS), self.synchronise, None
        )

    def stop_and_start(self, *, boot: bool) -> None:
        """The gateway is stopped by whoever may, and started again, with the box or alone."""
        if boot:
            self._forget_stranded(self._world.gateway.boot, self._world.reader)
        off = 30.0
        self._world.start_again(
            after=off, wall=self._world.clock.true + timedelta(seconds=off) if boot else None, clean=True
        )

    def _boot(self) -> None:
        self._forget_stranded(self._world.gateway.boot, self._world.reader)
        self._world.synchronised = False
        back = timedelta(seconds=self._world.random.uniform(300, 86_400))
        self._world.start_again(after=self._world.random.uniform(10, 1200), wall=self._world.clock.true - back)

    def _forget_stranded(self, boot: str, db: sqlite3.Connection) -> None:
        """Readings of a boot whose clock was never set have no time: of counters the next one carries the energy."""
        find = (
            "SELECT meter, boottime FROM unplaced WHERE boot_id = ? AND source_at IS NULL"
            " AND NOT EXISTS (SELECT 1 FROM meta WHERE key = 'boot_offset:' || ?)"
        )
        rows = db.execute(find, (boot, boot)).fetchall()
        names = {number: name for name, number in self._world.gateway.numbers.items()}
        numbers = {meter.name: meter.number for meter in self._world.building.meters}
        for meter, boottime in rows:
            self._world.known[numbers[names[meter]]].pop(self._world.origin[boot] + boottime, None)

    def synchronise(self, _: object) -> None:
        self._world.clock.step_wall((self._world.clock.true - self._world.clock.wall).total_seconds())
        self._world.synchronised = True

    def step_clock(self, fault: str) -> None:
        """Somebody sets the clock; NTP puts it right later."""
        if not self._world.synchronised:
            return
        self._world.faults[fault] += 1
        self._world.synchronised = False
        self._world.clock.step_wall(self._world.random.choice((-1, 1)) * self._world.random.randrange(120, 100_000))
        self._world.at(
            self._world.clock.true_ms + self._world.random.randrange(MINUTE_MS, 30 * MINUTE_MS), self.synchronise, None
        )
