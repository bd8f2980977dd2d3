"""How a probe asks: paced, counted, bounded, and with every retry that cannot apply anything twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from buffer.model import Accepted, NotSent, Refused
from gateway.errors import GatewayError
from gateway.line import said
from gateway.probing.judging import Heard
from gateway.probing.plan import RESERVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from threading import Event

    from buffer.model import Fate
    from drivers.base import Clock
    from gateway.composing import Family
    from gateway.enerkey.client import Answer, EnerkeyClient
    from gateway.enerkey.contract import Contract
    from gateway.keys import KeyRing
    from gateway.pacing import Burst
    from gateway.probing.plan import Row

TRIES = 4
FIRST_PAUSE = 1.0  # s, doubling
APART = timedelta(minutes=10)  # of this machine's clock and EnerKey's
LONGEST_PAUSE = 15 * 60.0  # s that a probe lets EnerKey keep it waiting

INTERRUPTED = "interrupted"

Written = tuple[int, str, str]  # meter, time and value of an item that was sent


class Ended(GatewayError):  # noqa: N818 - says what happened
    """The probe cannot or shall not go on; what it has found out stays found out."""


@dataclass(slots=True)
class Wire:
    """The requests of one probe. `most`: of them, RESERVE are kept for the way back (`returning`)."""

    client: EnerkeyClient
    contract: Contract
    keys: KeyRing
    clock: Clock
    stop: Event
    burst: Burst
    most: int
    body_of: Callable[[Contract, int, Iterable[Row]], bytes]
    requests: int = 0
    returning: bool = False
    heard: list[Heard] = field(default_factory=list)
    sent: list[Written] = field(default_factory=list)  # whatever may have been applied

    def push(self, family: Family, meter: int, rows: list[Row]) -> Fate:
        """Send one message. Only what is known not to have been applied is sent again."""
        body = self.body_of(self.contract, meter, rows)
        before = self.sent

        def ask(key: str) -> Answer:
            self.sent = before + [(meter, *row) for row in rows if row[1] != "0"]  # from here on it may be there
            return self.client.push(family, meter, body, key)

        fate = self._tried("push", family, ask)
        if isinstance(fate, NotSent) or (isinstance(fate, Refused) and not (fate.why == "data" and len(rows) > 1)):
            self.sent = before
        return _heeded(fate, family)

    def read(self, meter: int, since: int, until: int) -> tuple[Mapping[int, int] | None, Fate]:
        """What EnerKey shows for the hours [since, until); None with the fate that tells why not."""
        found: dict[str, Mapping[int, int] | None] = {}

        def ask(key: str) -> Answer:
            look = self.client.hourly_values(meter, since, until, key)
            found["values"] = look.values
            return look.answer

        fate = self._tried("read", "values", ask)
        return found["values"], _heeded(fate, "values")

    def wait(self, seconds: float) -> None:
        """Let time pass. Raises Ended when it was interrupted."""
        if self.clock.wait(self.stop, self.clock.now().boottime + seconds) or self.stop.is_set():
            raise Ended(INTERRUPTED)

    def _tried(self, what: str, family: str, ask: Callable[[str], Answer]) -> Fate:
        pause = FIRST_PAUSE
        for attempt in range(1, TRIES + 1):
            fate = self._asked(what, family, ask)
            again = isinstance(fate, NotSent) or (what == "read" and not isinstance(fate, Accepted | Refused))
            other_key = isinstance(fate, Refused) and fate.why == "key" and self._usable(family) is not None
            if attempt == TRIES or not (again or other_key):
                break
            if again:
                told = fate.retry_after if isinstance(fate, NotSent) else None
                self._pause(pause if told is None else told)
                pause *= 2
        return fate

    def _asked(self, what: str, family: str, ask: Callable[[str], Answer]) -> Fate:
        slot = self._usable(family)
        if slot is None:
            raise Ended(f"EnerKey refuses every API key for this ({family})")
        if self.requests >= self.most - (0 if self.returning else RESERVE):
            raise Ended("the requests that were planned are used up")
        self._keep_pace()
        self.requests += 1
        answer = ask(self.keys.secret(slot))
        now, fate = self.clock.now(), answer.fate
        self.burst = self.burst.after(now.boottime)
        self.heard.append(Heard(what, answer.remaining, limited=isinstance(fate, NotSent) and fate.limited))
        if not self.returning and answer.date is not None and abs(answer.date - now.wall) > APART:
            raise Ended(
                f"this machine's clock says {now.wall:%Y-%m-%d %H:%MZ}, EnerKey's {answer.date:%Y-%m-%d %H:%MZ}: set it"
            )
        if isinstance(fate, Accepted):
            self.keys.accepted(slot, family, now.wall)
        elif isinstance(fate, Refused) and fate.why == "key":
            self.keys.refused(slot, family, now.boottime)
        return fate

    def _usable(self, family: str) -> int | None:
        return self.keys.usable(family, self.clock.now().boottime)

    def _keep_pace(self) -> None:
        rest = self.burst.until(self.burst.most) - self.clock.now().boottime
        if rest > 0 or self.stop.is_set():
            self.wait(max(rest, 0.0))

    def _pause(self, seconds: float) -> None:
        if seconds > LONGEST_PAUSE:
            raise Ended(f"EnerKey asks to be left alone for {seconds:.0f} s")
        self.wait(seconds)


def _heeded(fate: Fate, family: str) -> Fate:
    """The fate, unless it leaves nothing to go on with."""
    if isinstance(fate, Refused) and fate.why == "key":
        raise Ended(f"EnerKey refuses the API key for this ({family}): {said(fate)}")
    if isinstance(fate, NotSent):
        raise Ended(f"EnerKey cannot be reached: {fate.text}")
    return fate
