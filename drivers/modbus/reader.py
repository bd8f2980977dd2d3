"""From words to readings and rejections; remembers the newest look at each source."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from drivers.base import LastRead, NotStored
from drivers.modbus.decode import NoValue, hexed
from drivers.modbus.device import Look, Problem
from drivers.reading import Reading, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal

    from drivers.base import Clock, KeyValues
    from drivers.modbus.target import Target

RECORD_EVERY = 3600.0  # s between two records of the same problem of one source; it is counted each time
RAW_SHOWN = 200  # characters, as `LastRead` says


class Reader:
    """Translates looks."""

    def __init__(self, clock: Clock, memory: KeyValues) -> None:
        """`clock` only spaces the records of lasting problems; `memory` keeps which accumulators have counted."""
        self._clock = clock
        self._memory = memory
        self._counted: set[str] = set()
        self._recorded: dict[tuple[str, str], float] = {}
        self.counts: Counter[str] = Counter()
        self._newest: dict[str, tuple[Look, Decimal | None]] = {}

    @property
    def last_reads(self) -> dict[str, LastRead]:
        """A snapshot that any thread may take; made when somebody asks, since each poll brings other values."""
        return {source: _last_read(look, value) for source, (look, value) in self._newest.copy().items()}

    def take_all(self, looks: Iterable[Look]) -> list[Reading | Rejected]:
        """The readings, and the rejections that are worth a record; never a 0 for what is no number."""
        found: list[Reading | Rejected] = []
        good = 0
        for look in looks:
            target, at, words, problem, _ = look
            if problem is not None:
                found += self._refused(look)
                continue
            try:
                value = target.value(words)
                if target.accumulates:
                    self._check_counting(target, value)
            except NoValue as error:
                found += self._refused(look._replace(problem=Problem(error.reason, error.detail, hexed(words))))
                continue
            self._newest[target.source] = look, value
            found.append(Reading(target.source, at, value, target.unit or ""))
            good += 1
        if good:
            self.counts["readings"] += good
        return found

    def take(self, look: Look) -> list[Reading | Rejected]:
        """`take_all` of one."""
        return self.take_all([look])

    def _refused(self, look: Look) -> list[Reading | Rejected]:
        self.show(look)
        self.counts["rejected"] += 1
        return self._rejection(look)

    def show(self, look: Look) -> None:
        """Remember a look that brought no value, without counting it."""
        assert look.problem is not None
        self._newest[look.target.source] = look, None

    def _check_counting(self, target: Target, value: Decimal) -> None:
        """A SunSpec accumulator that has counted and says 0 is not there at the moment; a new meter may say it."""
        key = f"counted/{target.source}"
        if value and target.source not in self._counted:
            self._counted.add(target.source)
            if not self._memory.get(key):  # written once: it may be the loop of many connections that waits for it
                with suppress(NotStored):  # learned again with the next reading after a start
                    self._memory.put(key, "1")
        elif not value and (target.source in self._counted or self._memory.get(key)):
            raise NoValue("not available", "an accumulator that has counted shows 0")

    def _rejection(self, look: Look) -> list[Reading | Rejected]:
        source, problem = look.target.source, look.problem
        assert problem is not None
        boottime = self._clock.now().boottime
        last = self._recorded.get((source, problem.reason))
        if last is not None and boottime - last < RECORD_EVERY:
            return []
        self._recorded[source, problem.reason] = boottime
        return [Rejected(source, look.at, problem.reason, problem.detail, problem.raw)]


def _in_words(problem: Problem) -> str:
    """Reason and detail, with nothing said twice."""
    reason, detail = problem.reason, problem.detail
    if detail.startswith(reason):
        return detail
    if detail.endswith(f": {reason}"):
        return f"{reason} ({detail.removesuffix(f': {reason}')})"
    return f"{reason}: {detail}"


def _last_read(look: Look, value: Decimal | None) -> LastRead:
    target, problem = look.target, look.problem
    why, raw = ("", hexed(look.words)) if problem is None else (_in_words(problem), problem.raw)
    took = None if look.took is None else look.took * 1000
    where = f"device {target.device}, {target.where}"
    return LastRead(look.at, raw[:RAW_SHOWN], value, target.unit or "", why, took, where)


def completed(looks: Sequence[Look]) -> Sequence[Look]:
    """The looks of one round with those at the terms of a sum made into one: all of them, or no number.

    Where a term was not asked for (it rests after a refusal, or the line broke before it) there is nothing to say of the
    sum in this round.
    """
    if all(look.target.whole is None for look in looks):
        return looks
    alone: list[Look] = []
    terms: dict[str, list[Look]] = {}
    for look in looks:
        if look.target.whole is None:
            alone.append(look)
        else:
            terms.setdefault(look.target.source, []).append(look)
    return alone + [summed for each in terms.values() if (summed := _summed(each)) is not None]


def _summed(looks: list[Look]) -> Look | None:
    whole = looks[0].target.whole
    assert whole is not None
    faulty = next((look for look in looks if look.problem is not None), None)
    if faulty is not None:
        return faulty._replace(target=whole)
    if {look.target.nth for look in looks} != set(range(len(whole.terms))):
        return None
    ordered = sorted(looks, key=lambda look: look.target.nth)
    words = tuple(word for look in ordered for word in look.words)
    took = max((look.took for look in looks if look.took is not None), default=None)
    return Look(whole, max(look.at for look in looks), words, None, took)
