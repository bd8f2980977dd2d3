"""Bugs of a gateway that does not doubt: its disk, its database, what EnerKey has accepted, its registers (R9, R18, R19)."""

from __future__ import annotations

from typing import Any

from buffer import counter, looks
from gateway import closer
from gateway.lookout import Lookout
from tests.simulation.plant import Plant
from tests.simulation.world import World


class NoLookAfterPowerCut(Plant):
    """A box that was cut off from its power sends at once what its disk calls unsent."""

    name = "no look after a power cut"
    kind = "forgetful"

    def patch(self, monkeypatch: Any) -> None:
        def run_begins(db: Any, boot_id: str, _: int, _account: str = "") -> bool:
            mark = "INSERT INTO meta VALUES ('running', ?) ON CONFLICT DO UPDATE SET value = excluded.value"
            db.execute(mark, (boot_id,))
            return False

        monkeypatch.setattr(looks, "run_begins", run_begins)


class EveryStopIsClean(Plant):
    """The mark of a gateway that runs is never made, so no stop looks like a power cut."""

    name = "every stop is clean"
    kind = "forgetful"

    def patch(self, monkeypatch: Any) -> None:
        right = looks.run_begins

        def run_begins(db: Any, boot_id: str, readable_at: int, account: str = "") -> bool:
            cut_off = right(db, boot_id, readable_at, account)
            looks.run_ends(db, account)
            return cut_off

        monkeypatch.setattr(looks, "run_begins", run_begins)


class LooksTooSoon(Plant):
    """After a power cut EnerKey is read at once, before it shows what it had accepted last."""

    name = "looks too soon after a power cut"
    kind = "forgetful"
    seeds = (28, 29, 7)

    def patch(self, monkeypatch: Any) -> None:
        right = looks.run_begins
        monkeypatch.setattr(looks, "run_begins", lambda db, boot_id, _, account="": right(db, boot_id, 0, account))


class TrustsAnEmptyDatabase(Plant):
    """What a new database does not know to be at EnerKey is taken for not being there."""

    name = "an empty database is trusted"
    kind = "forgetful"
    seeds = (6,)

    def started(self, world: World) -> None:
        if world.memory.anew:
            world.gateway.store.write(lambda db: db.execute("UPDATE meter SET look_after = NULL WHERE look_after = 0"))


class NoAudit(Plant):
    """What was accepted is never looked at again."""

    name = "audit switched off"
    kind = "doubled"

    def patch(self, monkeypatch: Any) -> None:
        monkeypatch.setattr(Lookout, "audit_next", lambda *_: False)


class AuditsNobodyHears(Plant):
    """The audit compares, and neither holds nor tells what differs."""

    name = "audits that nobody hears"
    kind = "doubled"

    def patch(self, monkeypatch: Any) -> None:
        right = looks.audited
        monkeypatch.setattr(looks, "audited", lambda db, meter, _, shown, now_ms: right(db, meter, [], shown, now_ms))


class AuditsOnceAProcess(Plant):
    """The day until the next audit begins anew with every process."""

    name = "the day of the audit in memory only"
    kind = "doubled"
    seeds = (20, 21, 23)

    def patch(self, monkeypatch: Any) -> None:
        monkeypatch.setattr(looks, "audits", lambda _, meters, now_ms: dict.fromkeys(meters, now_ms))


class WordsNobodyHears(Plant):
    """What a person says about a register comes to nothing."""

    name = "words that nobody hears"
    kind = "turned"

    def patch(self, monkeypatch: Any) -> None:
        monkeypatch.setattr(closer, "epochs_of", lambda *_: [])


class EveryFallIsAnotherMeter(Plant):
    """What a register counts after a rollover or a reset, up to its first reading, is not booked."""

    name = "every fall is another meter"
    kind = "turned"

    def patch(self, monkeypatch: Any) -> None:
        lower = "_lower_level"
        monkeypatch.setattr(counter._Scan, lower, lambda _, track, first: ("replaced", track.total - first[1]))


DOUBTLESS = (
    NoLookAfterPowerCut,
    EveryStopIsClean,
    LooksTooSoon,
    TrustsAnEmptyDatabase,
    NoAudit,
    AuditsNobodyHears,
    AuditsOnceAProcess,
    WordsNobodyHears,
    EveryFallIsAnotherMeter,
)
