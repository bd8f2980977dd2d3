"""Answers of a wire that must come within a short timeout, or must not, on a machine that may stand still for longer.

A bad answer costs its whole timeout, since the rest of a frame may follow: a long timeout from the start would cost minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from drivers.modbus.wire import Answer, BadAnswer, NoAnswer
from tests.waiting import until

PATIENCE = 30.0  # s; what answers does so long before, also on a machine that does other things too


def patiently(live: Callable[[float], None], timeout: float) -> None:
    """`live(timeout)` expects no silence. Where there is one the machine stood still: once more, from the start, with patience."""
    try:
        live(timeout)
    except NoAnswer:
        live(PATIENCE)


def missed(read: Callable[[], Answer], late: Sequence[int]) -> None:
    """Read until an answer that is late is missed: who looks at the line when it has come has it, and rightly so."""

    def misses() -> bool:
        try:
            answer = read()
        except NoAnswer:
            return True
        assert answer.words == late
        return False

    until(misses)


def at_last(read: Callable[[], Answer]) -> Sequence[int]:
    """The words of the first answer. What is later than a test meant it to be spoils the one that it meets."""

    def words() -> Sequence[int]:
        try:
            return read().words
        except (BadAnswer, NoAnswer):
            return ()

    return until(words)
