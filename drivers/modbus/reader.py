"""From words to readings and rejections; remembers the newest look at each source."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from drivers.base import LastRead
from drivers.modbus.decode import NoValue, decode, hexed
from drivers.modbus.device import Look, Problem
from drivers.reading import Reading, Rejected

if TYPE_CHECKING:
    from decimal import Decimal

    from drivers.base import Clock

RECORD_EVERY = 3600.0  # s between two records of the same problem of one source; it is counted each time
RAW_SHOWN = 200  # characters, as `LastRead` says


class Reader:
    """Translates looks."""

    def __init__(self, clock: Clock) -> None:
        """`clock` only spaces the records of lasting problems."""
        self._clock = clock
        self._recorded: dict[tuple[str, str], float] = {}
        self.counts: Counter[str] = Counter()
        self.last_reads: dict[str, LastRead] = {}

    def take(self, look: Look) -> list[Reading | Rejected]:
        """The reading, or the rejection where it is worth a record; never a 0 for what is no number."""
        if look.problem is None:
            try:
                value = decode(look.words, look.target.encoding) * look.target.scale
            except NoValue as error:
                look = look._replace(problem=Problem(error.reason, error.detail, hexed(look.words)))
            else:
                return [self._reading(look, value)]
        self.show(look)
        self.counts["rejected"] += 1
        return self._rejection(look)

    def show(self, look: Look) -> None:
        """Remember a look that brought no value, without counting it."""
        problem = look.problem
        assert problem is not None
        self._remember(look, None, f"{problem.reason}: {problem.detail}", problem.raw)

    def _reading(self, look: Look, value: Decimal) -> Reading:
        self.counts["readings"] += 1
        self._remember(look, value, "", hexed(look.words))
        return Reading(look.target.source, look.at, value, look.target.unit or "")

    def _remember(self, look: Look, value: Decimal | None, problem: str, raw: str) -> None:
        target = look.target
        took = None if look.took is None else look.took * 1000
        where = f"device {target.device}, {target.where}"
        self.last_reads[target.source] = LastRead(
            look.at, raw[:RAW_SHOWN], value, target.unit or "", problem, took, where
        )

    def _rejection(self, look: Look) -> list[Reading | Rejected]:
        source, problem = look.target.source, look.problem
        assert problem is not None
        boottime = self._clock.now().boottime
        last = self._recorded.get((source, problem.reason))
        if last is not None and boottime - last < RECORD_EVERY:
            return []
        self._recorded[source, problem.reason] = boottime
        return [Rejected(source, look.at, problem.reason, problem.detail, problem.raw)]
