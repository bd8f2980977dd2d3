"""While EnerKey refuses every key for a family of pushes: a cheap read now and then, and no push (reliability 3.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from buffer.model import Accepted, Refused, hour_of, to_ms

if TYPE_CHECKING:
    from drivers.base import Clock, Now
    from gateway.composing import Family
    from gateway.line import Line
    from gateway.messages import DeliveryRules, PushedMeter

WITHOUT_BUDGET = 60.0  # s until the budget is asked again
PUSH_ALL_THE_SAME = 86_400.0  # s; a key that may not read may be taken for pushes again: that shows only a push


class Knocked(NamedTuple):
    """Whether a request was made, and until when (boottime) the meter waits."""

    asked: bool
    until: float


class Knocker:
    """Asks for one hour of one meter before a push is tried with a key that was refused; part of the delivery worker."""

    def __init__(self, line: Line, rules: DeliveryRules, clock: Clock) -> None:
        """Nothing is asked yet."""
        self._line = line
        self._rules = rules
        self._clock = clock
        self._asked: dict[Family, float] = {}  # since when (boottime) reads are asked instead of pushes
        self._opened: set[Family] = set()  # a read was answered: the next push is tried

    def before(self, meter: PushedMeter, slot: int, now: Now) -> Knocked | None:
        """Ask before a push with this key; None when the push may be tried. Never asks where no key may read."""
        keys, family = self._line.keys, meter.family
        since = self._asked.setdefault(family, now.boottime)
        opened = family in self._opened or self._rules.on_unknown == "hold" or now.boottime - since >= PUSH_ALL_THE_SAME
        if opened or not keys.is_shut(family):
            self._opened.discard(family)
            self._asked.pop(family, None)
            return None
        if not self._line.may_read(now):
            return Knocked(asked=False, until=now.boottime + WITHOUT_BUDGET)
        hour = hour_of(to_ms(now.wall)) - 1
        fate = self._line.read(meter.enerkey_id, hour, hour + 1, slot).answer.fate
        after = self._clock.now().boottime
        if isinstance(fate, Refused) and fate.why == "key":
            keys.refused(slot, family, after)
            return Knocked(asked=True, until=keys.again(family))
        if not isinstance(fate, Refused | Accepted):
            return Knocked(asked=True, until=after + WITHOUT_BUDGET)
        self._opened.add(family)
        return Knocked(asked=True, until=after)
