"""Bugs that a delivery without idempotency keys is prone to, put in from outside: the simulation must catch each one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from buffer import hours, journal
from buffer.journal import BIN_MS, BINS_PER_DAY
from buffer.model import Accepted, NotSent, Unknown
from drivers.base import NotStored
from gateway.enerkey.client import Answer, EnerkeyClient
from tests.simulation.plant import Plant
from tests.simulation.world import World


class _Retrying(EnerkeyClient):
    def push(self, *args: Any, **kwargs: Any) -> Answer:
        answer = super().push(*args, **kwargs)
        return replace(answer, fate=NotSent(answer.fate.text)) if isinstance(answer.fate, Unknown) else answer


class NaiveRetry(Plant):
    """What became of a message is unknown, so it is sent again at once."""

    name = "naive retry"
    client = _Retrying


class _Hoping(EnerkeyClient):
    def push(self, *args: Any, **kwargs: Any) -> Answer:
        answer = super().push(*args, **kwargs)
        return replace(answer, fate=Accepted(200)) if isinstance(answer.fate, Unknown) else answer


class NeverRetry(Plant):
    """What was sent is taken for accepted, whatever came back."""

    name = "never retry"
    client = _Hoping


class NoSettle(Plant):
    """A message of unknown fate is read back at once, before a zombie or a lag is over."""

    name = "no settle"
    rules = {"settle": 0.0}  # noqa: RUF012


class ConfirmAfterSend(Plant):
    """The intent becomes durable with the answer: a crash while a message is under way leaves no trace of it."""

    name = "confirm after send"

    def __init__(self) -> None:
        self._world: World | None = None
        self._before: Path | None = None
        self._begin: Callable[..., int] = journal.begin
        self._settle: Callable[..., None] = journal.settle

    def patch(self, monkeypatch: Any) -> None:
        """Remember the files as they are before each intent, until its answer is written down."""

        def begin(*args: Any) -> int:
            assert self._world
            self._before = self._world.image()
            return self._begin(*args)

        def settle(*args: Any, **kwargs: Any) -> None:
            self._before = None
            self._settle(*args, **kwargs)

        monkeypatch.setattr(journal, "begin", begin)
        monkeypatch.setattr(journal, "settle", settle)

    def started(self, world: World) -> None:
        self._world, self._before = world, None

    def files(self, world: World) -> Path:
        return self._before or world.image()


class FloatSums(Plant):
    """A boundary is computed in floating point."""

    name = "float sums"

    def patch(self, monkeypatch: Any) -> None:
        exact = hours._value_at

        @functools.wraps(exact)
        def value_at(at: int, left: Any, right: Any, rule: Any) -> Any:
            value, quality = exact(at, left, right, rule)
            if left is None:
                return value, quality
            share = (at - left[0]) / (right[0] - left[0])
            return round((left[1] / 1e6 + (right[1] / 1e6 - left[1] / 1e6) * share) * 1e6), quality

        monkeypatch.setattr(hours, "_value_at", value_at)


class AckBeforeCommit(Plant):
    """`deliver` comes back at once; what it was given is stored with the next call."""

    name = "ack before commit"

    def deliver(self, world: World) -> Callable[..., None]:
        self._waiting: list[Any] = []  # of this process: a crash takes it along
        gateway = world.gateway

        def deliver(*batch: Any) -> None:
            try:
                if self._waiting:
                    gateway.deliver(*self._waiting)
            except NotStored:
                self._waiting += batch
            else:
                self._waiting = list(batch)

        return deliver

    def at_rest(self, world: World) -> None:
        world.gateway.deliver(*self._waiting)


class BudgetInMemory(Plant):
    """The budget begins anew with every process."""

    name = "budget in memory only"
    kind = "tight"

    def __init__(self) -> None:
        self._bins: dict[int, int] = {}

    def patch(self, monkeypatch: Any) -> None:
        def spend(_: Any, now_ms: int, account: str = "") -> None:
            del account  # the simulation has one
            self._bins[now_ms // BIN_MS] = self._bins.get(now_ms // BIN_MS, 0) + 1

        def spent(_: Any, now_ms: int, account: str = "") -> int:
            del account
            return sum(count for bin_, count in self._bins.items() if bin_ >= now_ms // BIN_MS - BINS_PER_DAY)

        monkeypatch.setattr(journal, "spend", spend)
        monkeypatch.setattr(journal, "spent", spent)
        monkeypatch.setattr(journal, "made_since", lambda _db, _since, _account=None: [])

    def started(self, world: World) -> None:
        self._bins.clear()


class ForgetsOrphans(Plant):
    """What a crash left under way is thought not to have been sent."""

    name = "orphans are pending again"

    def patch(self, monkeypatch: Any) -> None:
        def orphaned(db: Any, now_ms: int, account: str | None = None) -> int:
            del account
            rows = db.execute("SELECT id FROM message WHERE state = 'open'").fetchall()
            for (message,) in rows:
                journal.settle(db, message, NotSent("forgotten"), now_ms)
            return len(rows)

        monkeypatch.setattr(journal, "orphaned_intents", orphaned)


PLANTED = (
    NaiveRetry,
    NeverRetry,
    NoSettle,
    ConfirmAfterSend,
    FloatSums,
    AckBeforeCommit,
    BudgetInMemory,
    ForgetsOrphans,
)
