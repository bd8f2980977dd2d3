"""The way to EnerKey that sending and reading back share: its keys, its manners, and the budget of requests (R22)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from buffer import journal, key_use
from buffer.model import Accepted, Refused, hour_of, to_ms
from buffer.readings import note
from buffer.store import StoreError
from gateway import pacing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from random import Random

    from buffer.model import Fate
    from buffer.store import Connection, Store
    from drivers.base import Clock, Now
    from gateway.composing import Family
    from gateway.enerkey.client import Answer, EnerkeyClient, ReadBack, ReadMany
    from gateway.keys import KeyRing

log = logging.getLogger(__name__)


class Pushed(NamedTuple):
    """What a push came to, and what an operator should hear of the key that it was sent with."""

    answer: Answer
    key_news: str


class Line:
    """One account's connection to EnerKey, used by one thread."""

    def __init__(  # noqa: PLR0913, PLR0917 - the composition root hands over every port by name
        self,
        store: Store,
        client: EnerkeyClient,
        keys: KeyRing,
        requests_per_day: int,
        burst: pacing.Burst,
        clock: Clock,
        random: Random,
        on_date: Callable[[datetime, datetime], None],
    ) -> None:
        """`on_date(wall, server's Date)` lets an answer bear witness to the clock."""
        self.keys = keys
        self.name = f"delivery {keys.account}".rstrip()
        self._store = store
        self._client = client
        self._share = requests_per_day
        self._burst = burst
        self._clock = clock
        self._random = random
        self._on_date = on_date
        self._manners = pacing.Manners()
        self._pushes = pacing.Pushes()
        self._left: pacing.Left | None = None

    def until(self, now: float) -> float:
        """The boottime until which nothing is asked."""
        most = self._manners.rate.of(self._burst.most, now)
        return max(self._manners.until, self._burst.until(most))

    def share(self, now: float) -> int:
        """What of the day's share is used for now: less for a while after the server has said that it is too much."""
        return self._manners.day.of(self._share, now)

    def may_push(self, now: Now) -> bool:
        """Whether the budget has room for a push."""
        made, _ = self._pushes.made(now.boottime)
        return pacing.may_push(self._spent(now), made, self._share, self._left, now.boottime)

    def may_catch_up(self, now: Now, regular: float) -> bool:
        """Whether it has room for one of the backlog, when there are so many `regular` pushes of live hours in a day.

        The backlog gives way to those, and first where the share is halved. Live hours need not then: at the cadence that
        fits the halved share they are fewer.
        """
        made, backlog = self._pushes.made(now.boottime)
        share, spent = self.share(now.boottime), self._spent(now)
        room = pacing.room_for_backlog(share, regular, made - backlog, spent - made)
        return backlog < room and pacing.may_push(spent, made, share, self._left, now.boottime)

    def recall(self, now: Now) -> None:
        """Take up the pushes that were made before this process."""
        now_ms = to_ms(now.wall)
        since, account = now_ms - round(pacing.DAY * 1000), self.keys.account
        for at, newest in self._store.read(lambda db: journal.made_since(db, since, account)):
            self._pushes.add(now.boottime - (now_ms - at) / 1000, backlog=newest < hour_of(at) - pacing.LIVE)

    def may_read(self, now: Now) -> bool:
        """Whether the budget has room for a read."""
        return pacing.may_read(self._spent(now), self._share, self._left, now.boottime)

    def push(self, family: Family, enerkey_id: int, body: bytes, slot: int, *, backlog: bool) -> Pushed:
        """Send a message whose intent is durable, and its request counted, already; `backlog`: it has no live hour."""
        self._pushes.add(self._clock.now().boottime, backlog=backlog)
        answer = self._client.push(family, enerkey_id, body, self.keys.secret(slot))
        return Pushed(answer, self._heard(answer, family, slot))

    def read(self, enerkey_id: int, from_hour: int, to_hour: int, slot: int) -> ReadBack:
        """What EnerKey has for the hours [from, to) of one meter; the request is counted first."""
        now_ms = self._count_read()
        found = self._client.hourly_values(enerkey_id, from_hour, to_hour, self.keys.secret(slot))
        self._heard_of_read(found.answer, slot, now_ms)
        return found

    def read_many(self, enerkey_ids: Sequence[int], from_hour: int, to_hour: int, slot: int) -> ReadMany:
        """The same of several meters in one request."""
        now_ms = self._count_read()
        found = self._client.hourly_values_of(enerkey_ids, from_hour, to_hour, self.keys.secret(slot))
        self._heard_of_read(found.answer, slot, now_ms)
        return found

    def look(self, now: Now) -> bool:
        """Ask for nothing but the time; whether it was told. Not counted in the budget, whose bins an untrusted clock would misplace."""
        slot = self.keys.usable("look", now.boottime) or 0
        answer = self._client.look(self.keys.secret(slot))
        self._heard(answer, "look", slot)
        return answer.date is not None

    def snapshot(self) -> dict[str, object]:
        """For `status`; any thread may take it."""
        return {
            "outage": self._manners.outage,
            "limited": self._manners.limited.failures > 0,
            "doubtful": self._manners.doubtful.failures >= pacing.DOUBT_AFTER,
            "recovering": self._manners.ramp.gap > 0,
            "budget": self._budget(self._clock.now()),
            "keys": self.keys.snapshot(),
            "no_key_for": self.keys.shut_for(),
        }

    def remember(self, db: Connection) -> None:
        """Write down which keys were taken lately, in a transaction that is made anyway."""
        key_use.remember(db, self.keys.account, self.keys.to_remember())

    def close(self) -> None:
        """Close the connection that is kept alive."""
        self._client.close()

    def _spend(self, db: Connection, now_ms: int) -> None:
        journal.spend(db, now_ms, self.keys.account)
        self.remember(db)

    def _count_read(self) -> int:
        now_ms = to_ms(self._clock.now().wall)
        self._store.write(lambda db: self._spend(db, now_ms))
        return now_ms

    def _heard_of_read(self, answer: Answer, slot: int, now_ms: int) -> None:
        news = self._heard(answer, "values", slot)
        if news:
            log.warning("%s", news)
            self._store.write(lambda db: note(db, now_ms, "error", self.name, news))

    def _budget(self, now: Now) -> dict[str, int | None]:
        """Requests in 24 h; `spent` None while the buffer cannot be read, `remaining` None before the server has said it."""
        try:
            spent = self._spent(now)
        except StoreError:
            spent = None
        share = self.share(now.boottime)
        return {
            "share": self._share,
            "in_use": share,
            "spent": spent,
            "remaining": self._left.requests if self._left else None,
            "reserved_for_reads": pacing.reserved(self._share),
        }

    def _spent(self, now: Now) -> int:
        return self._store.read(lambda db: journal.spent(db, to_ms(now.wall), self.keys.account))

    def _heard(self, answer: Answer, family: str, slot: int) -> str:
        """Draw the conclusions that concern every meter; what an operator should hear of a key."""
        now = self._clock.now()
        self._burst = self._burst.after(now.boottime)
        outage = self._manners.outage
        self._manners = self._manners.after(answer.fate, now.boottime, self._random, left=answer.remaining)
        if self._manners.outage != outage:
            _tell_outage(answer.fate, over=outage)
        if answer.remaining is not None:
            self._left = pacing.Left(answer.remaining, now.boottime)
        elif self._left:
            self._left = self._left.less_one()
        if answer.date is not None:
            self._on_date(now.wall, answer.date)
        if isinstance(answer.fate, Accepted):
            self.keys.accepted(slot, family, now.wall)
            return ""
        fate = answer.fate
        new = isinstance(fate, Refused) and fate.why == "key" and self.keys.refused(slot, family, now.boottime)
        if not new:
            return ""
        words = f"EnerKey refuses {self.keys.name_of(slot)} for {family}: {said(fate)}"
        return f"{words}; no other key is left for that, so it waits" if self.keys.is_shut(family) else words


def said(fate: Fate) -> str:
    """The server's or the network's own words."""
    if isinstance(fate, Refused):
        return f"HTTP {fate.status}: {fate.text}"
    return f"HTTP {fate.status}" if isinstance(fate, Accepted) else fate.text


def _tell_outage(fate: Fate, *, over: bool) -> None:
    if over:
        log.info("EnerKey answers again")
    else:
        log.warning("EnerKey cannot be reached (%s); trying again with growing pauses", said(fate))
