"""What a box forgets: a disk that lies about its syncs, yesterday's image, an empty database; and what may be there then.

Whatever is forgotten, nothing is brought to EnerKey twice (R19). An hour that was there before stays as it was, and is
either found or held; what the sources had said in between is gone for the gateway, and so it is for the exact hours.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from buffer.model import HOUR_MS, from_ms
from drivers.reading import Reading
from tests.simulation.scenario import LONGEST_ZOMBIE, SETTLE
from tests.simulation.sources import Arrival, decimal
from tests.simulation.wire import Crash

if TYPE_CHECKING:
    from tests.simulation.world import World

PUSHED_MS = (60_000, 240_000)  # after the hour, and the meters' offset
MOST_LIES = 60  # commits that a disk may have promised to keep
TOLD_AGAIN = 12  # h of its history that a device has at most


class PowerCut(Crash):
    """The box is off, and what its disk still has is older than what it promised."""


class Image(NamedTuple):
    """The files at an instant (true ms), and what the world knew then."""

    files: Path | None
    at: int
    known: list[dict[int, int]]
    settled: list[dict[int, Fraction]]
    frozen: dict[tuple[int, int], tuple[int, int]]
    requests: int
    accepted: int
    boot: str


class Memory:
    """The happenings, as events of a world, and the excuses for what follows from them."""

    def __init__(self, world: World) -> None:
        self._world = world
        meters = world.building.meters
        self.forgotten: list[dict[int, int]] = [{} for _ in meters]  # what was at EnerKey already, by hour
        self.spans: list[tuple[int, int]] = []  # (ms, ms): what was said in between is gone
        self.anew = False
        self.accepted = 0  # messages whose acceptance is forgotten
        self.requests = 0  # that the budget has forgotten
        self._until_image = self._until_cut = 0  # commits
        self._image: Image | None = None

    # --- happenings ---------------------------------------------------------------------------------------------------

    def lying_disk(self, fault: str) -> None:
        """From some commit on nothing gets to the disk, and after some more of them the power fails."""
        if self._until_cut:
            return
        world, now = self._world, self._world.clock.true_ms
        if world.random.random() < 0.5 and now % HOUR_MS > PUSHED_MS[1]:
            # There is most to forget while an hour's messages are on their way.
            after = round(1000 * world.scenario.offset) + world.random.randrange(*PUSHED_MS)
            world.at(now - now % HOUR_MS + HOUR_MS + after, self.lying_disk, fault)
            return
        self._world.faults[fault] += 1
        self._until_image = 1 + self._world.random.randrange(6)
        self._until_cut = 1 + int(MOST_LIES ** self._world.random.random())

    def committed(self) -> None:
        """Something has just become durable, as far as anybody knows."""
        if self._until_image:
            self._until_image -= 1
            if not self._until_image:
                if self._begun():
                    self._image = self._taken()
                else:
                    self._until_image = 1  # a clean stop whose whole successor is forgotten cannot be told from one
        elif self._until_cut:
            self._until_cut -= 1
            if not self._until_cut:
                raise PowerCut

    def power_cut(self) -> None:
        """The box comes up with what its disk has."""
        if self._image is None:
            raise AssertionError("a power cut without an image")
        self._restored(self._image)

    def old_image(self, fault: str) -> None:
        """A copy is made, and some hours later somebody puts it back."""
        world = self._world
        if not self._begun():
            return  # a copy of a stopped gateway is put back by a command, which says that it was
        world.faults[fault] += 1
        latest = max(world.building.last - world.clock.true_ms, HOUR_MS)
        after = min(world.random.randrange(HOUR_MS // 2, 20 * HOUR_MS), latest)
        world.at(world.clock.true_ms + after, self._restored, self._taken())

    def empty_database(self, fault: str) -> None:
        """The card is replaced by an empty one; devices that keep a history tell it again."""
        self._world.faults[fault] += 1
        world = self._world
        nothing: list[dict[int, int]] = [{} for _ in world.known]
        edges: list[dict[int, Fraction]] = [{} for _ in world.known]
        since = world.clock.true_ms - world.random.randrange(HOUR_MS, TOLD_AGAIN * HOUR_MS)
        arrived = [each for each in world.arrived if each.at >= since]
        self.anew = True
        self._restored(Image(None, world.building.first, nothing, edges, {}, 0, 0, ""))
        world.at(world.clock.true_ms, self.tell_again, arrived)

    def restart(self, fault: str) -> None:
        """The gateway is stopped and started; or the box is."""
        self._world.faults[fault] += 1
        self._world.box.stop_and_start(boot=self._world.random.random() < 0.5)

    def tell_again(self, arrived: list[Arrival]) -> None:
        """In one batch, or some of it would be late."""
        readings = [
            Reading(
                self._world.building.meters[each.meter].name, from_ms(each.at), decimal(each.value), "kWh", stamped=True
            )
            for each in arrived
        ]
        said = [(each.meter, each.at, each.value) for each in arrived]
        self._world.told(readings, said)

    # --- images -------------------------------------------------------------------------------------------------------

    def _begun(self) -> bool:
        """Whether this process of the gateway has made its mark, which only a clean stop takes away."""
        return self._world.gateway.uploader._begun

    def _taken(self) -> Image:
        world = self._world
        known = [dict(each) for each in world.known]
        for number, at, value in world.saying:
            known[number][at] = value
        return Image(
            world.image(),
            world.clock.true_ms,
            known,
            [dict(each) for each in world.settled],
            dict(world.frozen),
            world.wire.requests,
            accepted(world.reader),
            world.gateway.boot,
        )

    def _restored(self, image: Image) -> None:
        """Put an image in the place of what is there; an event of the world, too."""
        world = self._world
        self._until_image = self._until_cut = 0
        if self._image is not image:
            self._image = None
        ledger = self._ledger(image.files)
        self._forget(ledger)
        # What was under way when the power failed may still arrive. Nothing of this gateway is sent before it is over.
        world.at(world.clock.true_ms + round(LONGEST_ZOMBIE * 1000) + 1000, self._forget, ledger)
        world.known[:] = [dict(each) for each in image.known]
        world.settled[:] = [dict(each) for each in image.settled]
        world.frozen = dict(image.frozen)
        self.spans.append((image.at, world.clock.true_ms))
        self.requests += world.wire.requests - image.requests
        self.accepted += accepted(world.reader) - image.accepted
        # Whoever puts in an empty card takes his time; the power may be back before EnerKey shows what it has.
        off = (
            world.random.uniform(10, 10 ** world.random.uniform(1, 3))
            if image.files
            else SETTLE + world.random.uniform(0, 600)
        )
        world.box.boot_from(image.files, image.boot, off)

    def _ledger(self, files: Path | None) -> dict[int, dict[int, int]]:
        """What the image knows to be at EnerKey: micro by hour and number."""
        found: dict[int, dict[int, int]] = {number: {} for number in range(len(self._world.building.meters))}
        if files is None:
            return found
        names = {meter.name: meter.number for meter in self._world.building.meters}
        with closing(sqlite3.connect(files / "buffer.db")) as db:
            find = "SELECT name, hour, accepted FROM ledger JOIN meter ON meter.id = ledger.meter"
            for name, hour, accepted in db.execute(find):
                found[names[name]][hour] = accepted
        return found

    def _forget(self, ledger: dict[int, dict[int, int]]) -> None:
        """Remember what is at EnerKey and is not in the ledger."""
        for number, accepted in ledger.items():
            there = self._world.wire.simulator.hourly(100 + number)
            self.forgotten[number].update({hour: value for hour, value in there.items() if hour not in accepted})

    # --- excuses ------------------------------------------------------------------------------------------------------

    def excuses(self, number: int, hour: int, found: Hour) -> bool:
        """Whether an hour may be so because of what was forgotten."""
        if not self.spans:
            return False
        there, wanted, state, waits = found
        before = self.forgotten[number].get(hour)
        if there == before and (waits or (before is not None and (state in {"held", "missing"} or wanted is None))):
            return True
        if state == "missing" and there is None:
            return self._gone(hour)
        if "cumulative" not in self._world.building.meters[number].name:
            return False
        if there is None and state == "held":
            return True  # its boundary would be there twice, or lower than the one before
        # Between the last boundary that was sent and the first that an empty database has, EnerKey spreads the energy.
        return self.anew and wanted is None and state is None

    def _gone(self, hour: int) -> bool:
        return any(begin < (hour + 1) * HOUR_MS and end > hour * HOUR_MS for begin, end in self.spans)


def accepted(db: sqlite3.Connection) -> int:
    """Messages of which something was accepted."""
    find = (
        "SELECT count(*) FROM message WHERE state = 'accepted' OR EXISTS"
        " (SELECT 1 FROM message_hour WHERE message = message.id AND message_hour.fate = 'accepted')"
    )
    return int(db.execute(find).fetchone()[0])


class Hour(NamedTuple):
    """What is at EnerKey, what is right, and what the buffer calls it; None for nothing.

    `waits`: it is a boundary behind one in doubt.
    """

    there: int | None
    wanted: Any
    state: str | None
    waits: bool
