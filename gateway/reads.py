"""Reads of EnerKey: of one meter, or of several in one request where the contract has `{meters}`.

Whoever needs a meter's hours says which; meters that somebody needs anyway, now or soon, come along. Of an answer for several
only what it names is believed: a meter that it leaves out may have nothing there, or was not looked for, and is read alone.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, Protocol

from buffer.model import Refused, Unknown
from gateway.enerkey.client import ReadBack
from gateway.line import said

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from drivers.base import Clock, Now
    from gateway.enerkey.client import Answer
    from gateway.enerkey.contract import Contract
    from gateway.line import Line

log = logging.getLogger(__name__)

MOST_METERS = 50  # in one request: with ids of 19 digits the URL stays below 1500 characters
MOST_ROWS = 8760  # asked for in one request, as many as a year of one meter
BEFORE = (
    24  # h that are read more where rows name their meters: one with nothing in its own hours is named all the same
)
ALONE = 86_400.0  # s that a meter is read alone after EnerKey refused to read it
OFF = 3600.0  # s that every meter is read alone after a request for several was refused; twice as long each time, up to a day
LONGEST_OFF = 86_400.0
STRIKES = 2  # such requests in a row that fail in the server (5xx), until they are taken for the reason


class Wanted(NamedTuple):
    """The hours [first, end) of a meter (its number here, and its id there) that somebody needs."""

    meter: int
    enerkey_id: int
    first: int
    end: int


class Overhears(Protocol):
    """Who has a use for what was read for somebody else."""

    def widened(self, meter: int, first: int, end: int, now: Now) -> tuple[int, int]:
        """The hours that may as well be read, since this meter is."""

    def overhear(self, meter: int, first: int, end: int, server: Mapping[int, int], now: Now) -> None:
        """These hours were read, in a request made after `now`."""

    def proved(self, meter: int, hours: Sequence[int], now: float, *, clean: bool) -> None:
        """These hours were read, sorted, and those of them that wait are not there; `clean`: nothing is held of them."""


class Reads:
    """Used by the delivery worker, in its thread."""

    def __init__(self, line: Line, contract: Contract, clock: Clock) -> None:
        """Nothing is asked yet."""
        self._line = line
        self._clock = clock
        self._many = contract.reads_many
        self._before = BEFORE if contract.answer_meter_key else 0
        self._alone: dict[int, float] = {}  # meter -> until when (boottime) it is read alone
        self._off = float("-inf")  # until when every meter is
        self._failures = 0  # of requests for several, in a row
        self._off_for = OFF

    @property
    def several(self) -> bool:
        """Whether more than one meter can be read in one request now."""
        return self._many and self._off <= self._clock.now().boottime

    def read(self, wanted: Sequence[Wanted], slot: int) -> dict[int, ReadBack]:
        """Read the first, and in the same request as many of the others as fit; one request, by meter what it came to.

        A meter that is missing in the result is still to be read; when the first is missing: at once, it is read alone then.
        """
        first, *others = wanted
        group = [first]
        if self.several and not self._is_alone(first.meter):
            group = together(first, (each for each in others if not self._is_alone(each.meter)), self._before)
        if len(group) > 1:
            return self._read_many(group, slot)
        found = self._line.read(first.enerkey_id, first.first, first.end, slot)
        if self._many and isinstance(found.answer.fate, Refused) and found.answer.fate.why != "key":
            self._alone[first.meter] = self._clock.now().boottime + ALONE
        return {first.meter: found}

    def _is_alone(self, meter: int) -> bool:
        return self._alone.get(meter, float("-inf")) > self._clock.now().boottime

    def _read_many(self, group: Sequence[Wanted], slot: int) -> dict[int, ReadBack]:
        since, until = min(each.first for each in group) - self._before, max(each.end for each in group)
        found = self._line.read_many([each.enerkey_id for each in group], since, until, slot)
        if found.values is None:
            if self._is_to_blame(found.answer):
                self._switch_off(found.answer)
                return {}
            return {group[0].meter: ReadBack(None, found.answer)}
        self._failures, self._off_for = 0, OFF
        now, read = self._clock.now().boottime, {}
        for each in group:
            values = found.values.get(each.enerkey_id)
            if values is None:
                self._alone[each.meter] = now + OFF
            else:
                own = {hour: micro for hour, micro in values.items() if each.first <= hour < each.end}
                read[each.meter] = ReadBack(own, found.answer)
        return read

    def _is_to_blame(self, answer: Answer) -> bool:
        """Whether it failed because it was for several: one of them may be unknown, or the server takes no lists."""
        if isinstance(answer.fate, Refused):
            return answer.fate.why != "key"
        if not isinstance(answer.fate, Unknown) or answer.status is None:
            return False
        self._failures += 1
        return answer.status < 500 or self._failures >= STRIKES

    def _switch_off(self, answer: Answer) -> None:
        self._off = self._clock.now().boottime + self._off_for
        log.info(
            "several meters in one read: %s; each is read alone for %.0f min", said(answer.fate), self._off_for / 60
        )
        self._failures, self._off_for = 0, min(2 * self._off_for, LONGEST_OFF)


def together(first: Wanted, others: Iterable[Wanted], before: int = 0) -> list[Wanted]:
    """The first and those of the others that fit into one request over one range, `before` hours longer than they need."""
    group, since, until = [first], first.first, first.end
    for each in others:
        wider = min(since, each.first), max(until, each.end)
        if fits(wider[1] - wider[0] + before, len(group) + 1):
            group.append(each)
            since, until = wider
    return group


def fits(hours: int, meters: int) -> bool:
    """Whether one request may ask for so many hours of so many meters."""
    return meters <= MOST_METERS and hours * meters <= MOST_ROWS
