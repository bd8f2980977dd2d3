"""Cuts the power of a recorded gateway at random points and opens what the disk would have kept (R3, R8, R12, R25)."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from random import Random
from typing import NamedTuple

from buffer import journal
from buffer.closing import imbalance
from buffer.store import DATABASE, Connection, Store, StoreError
from tests.powercut.disk import Disk, lay_down
from tests.powercut.recording import Recording, Row
from tests.powercut.trace import Event, read
from tests.powercut.wire import Acknowledged, Pushed, effects

CUT_BEFORE = frozenset({"pwrite64", "write", "ftruncate", "fsync", "fdatasync", "unlink", "rename", "sendto"})


class Contents(NamedTuple):
    """What a database holds of what was promised to the world."""

    readings: set[Row]
    rejected: set[str]
    bodies: set[bytes]
    hours: dict[tuple[str, int], tuple[int, int]]


class Wrong(NamedTuple):
    """Something that must never be, at the event with number `at`."""

    at: int
    what: str


class Replayed(NamedTuple):
    """What came of it."""

    events: int
    syncs: int
    acknowledged: int
    pushed: int
    cuts: int
    early: list[Wrong]  # something left the process before it was on the disk
    lost: list[Wrong]  # something that was promised is not there after a cut
    broken: list[Wrong]  # the database does not open, or contradicts itself

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.early or self.lost or self.broken)

    @property
    def told(self) -> str:
        """One line."""
        seen = f"{self.syncs} syncs, {self.acknowledged} PUBACKs and {self.pushed} POSTs"
        found = f"{len(self.early)} early, {len(self.lost)} lost, {len(self.broken)} broken"
        return f"{self.cuts} cuts into {self.events} events with {seen}: {found}"


def replay(recording: Recording, cuts: int, *, seed: int = 0, lying: bool = False) -> Replayed:
    """Check every promise at its first byte, and cut the power so many times. `lying`: on a disk that never syncs."""
    events = read(recording.logs)
    replaying = _Replaying(recording, events, Random(seed), cuts, lying=lying)
    for index, event in enumerate(events):
        replaying.before(index)
        replaying.disk.take(event)
    return replaying.result()


class _Replaying:
    """One pass over the events; every cut is made between two of them."""

    def __init__(self, recording: Recording, events: list[Event], random: Random, cuts: int, *, lying: bool) -> None:
        self._recording = recording
        self._events = events
        self._random = random
        self.disk = Disk(recording.data, lying=lying)
        points = [index for index, event in enumerate(events) if event.call.name in CUT_BEFORE]
        chosen = [random.choice(points) for _ in range(cuts)]
        self._cuts = {index: chosen.count(index) for index in set(chosen)}
        seen = effects(events, broker=recording.broker, enerkey=recording.enerkey)
        self._effects: dict[int, list[Acknowledged | Pushed]] = {}
        for effect in [*seen.acknowledged, *seen.pushed]:
            self._effects.setdefault(effect.index, []).append(effect)
        self._promised: list[Acknowledged | Pushed] = []
        self._synced: tuple[int, Contents] = (-1, Contents(set(), set(), set(), {}))
        self._final = _raw(recording.data)
        self._early: list[Wrong] = []
        self._lost: list[Wrong] = []
        self._broken: list[Wrong] = []
        self._counts = (len(events), len(seen.acknowledged), len(seen.pushed), cuts)

    def before(self, index: int) -> None:
        """The power may go before this event; what leaves the process with it must be on the disk."""
        for _ in range(self._cuts.get(index, 0)):
            self._cut(index)
        due = self._effects.get(index, [])
        if due and self._synced[0] != self.disk.syncs:
            self._synced = self.disk.syncs, self._surely_there()
        for effect in due:
            if missing := self._missing(effect, self._synced[1]):
                self._early.append(Wrong(index, missing))
        self._promised += due

    def result(self) -> Replayed:
        """Of the whole recording."""
        events, acknowledged, pushed, cuts = self._counts
        return Replayed(events, self.disk.syncs, acknowledged, pushed, cuts, self._early, self._lost, self._broken)

    def _surely_there(self) -> Contents:
        with tempfile.TemporaryDirectory() as directory:
            lay_down(self.disk.image(), Path(directory))
            return _raw(Path(directory))

    def _cut(self, index: int) -> None:
        with tempfile.TemporaryDirectory() as directory:
            lay_down(self.disk.image(self._random), Path(directory))
            try:
                contents, contradictions = _recovered(Path(directory))
            except StoreError as error:
                self._broken.append(Wrong(index, str(error)))
                return
        self._broken += [Wrong(index, what) for what in [*contradictions, *self._invented(contents)]]
        missing = (self._missing(effect, contents) for effect in self._promised)
        self._lost += [Wrong(index, what) for what in missing if what]

    def _missing(self, effect: Acknowledged | Pushed, contents: Contents) -> str:
        if isinstance(effect, Pushed):
            bodies = contents.bodies
            there = effect.body in bodies if effect.whole else any(body.startswith(effect.body) for body in bodies)
            return "" if there else f"the intent of a message of {len(effect.body)} bytes"
        row = self._recording.rows[effect.topic, effect.payload]
        there = row in contents.readings if row else effect.payload.decode() in contents.rejected
        return "" if there else f"{effect.topic}: {effect.payload!r}"

    def _invented(self, contents: Contents) -> list[str]:
        """Readings that nobody sent, messages that were never made, hours that changed after they were frozen (R1, R8)."""
        found = [str(row) for row in contents.readings - self._final.readings]
        found += [f"message {body!r}" for body in contents.bodies - self._final.bodies]
        return found + [f"hour {hour}" for hour in contents.hours.items() - self._final.hours.items()]


def _recovered(directory: Path) -> tuple[Contents, list[str]]:
    """What the product finds in an image, and what is wrong with that. StoreError when it cannot open it."""
    store = Store(directory, threaded=False)
    try:
        store.write(lambda db: journal.orphaned_intents(db, 0))  # as at every start
        wrong = store.read(_contradictions)
        return store.read(_contents), wrong
    finally:
        store.close()


def _contradictions(db: Connection) -> list[str]:
    integrity = db.execute("PRAGMA integrity_check").fetchall()
    found = [] if integrity == [("ok",)] else [f"integrity_check: {integrity[:3]}"]
    found += [f"foreign key: {row}" for row in db.execute("PRAGMA foreign_key_check").fetchall()]
    meters = [row[0] for row in db.execute("SELECT meter FROM counter_state").fetchall()]
    return found + [f"meter {meter}: R7" for meter in meters if imbalance(db, meter) != 0]


def _raw(directory: Path) -> Contents:
    """What a plain SQLite finds in an image."""
    with closing(sqlite3.connect(directory / DATABASE)) as db:
        db.execute("PRAGMA synchronous = OFF")  # this image is looked at once
        made = db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'message'").fetchone()[0]
        return _contents(db) if made else Contents(set(), set(), set(), {})


def _contents(db: Connection) -> Contents:
    names = dict(db.execute("SELECT id, name FROM meter").fetchall())
    readings = db.execute("SELECT meter, at, value FROM reading").fetchall()
    hours = db.execute("SELECT meter, hour, consumption, boundary FROM hour").fetchall()
    return Contents(
        {Row(names[meter], at, value) for meter, at, value in readings},
        {row[0] for row in db.execute("SELECT payload FROM rejected")},
        {row[0] for row in db.execute("SELECT body FROM message")},
        {(names[meter], hour): (consumption, boundary) for meter, hour, consumption, boundary in hours},
    )
