"""Which answers may still come on a line whose frames have no number, and how to find out that they will not. Pure.

RTU and ASCII answers say which device speaks, by which function, and how many registers follow: no more. So the late
answer to one request is a sound answer to the next one of the same shape, and then each answer is that of the request
before. Quiet after a silence helps only as long as the quiet is longer than the lateness. What always helps: a device
answers in the order in which it is asked. Before a shape is asked for again to which an answer is still awaited, the
device is asked for another one: once that has been answered, nothing older can come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from drivers.modbus.plan import MOST_REGISTERS, REGISTERS, Block

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.modbus.plan import Table
    from drivers.modbus.wire import Request

LATEST = 30.0  # s after which no answer comes any more; meters need milliseconds, the slowest gateway some seconds
BEYOND = 4  # registers more than were wanted, at most, where none fewer will do


class _Asked(NamedTuple):
    """A request without its answer."""

    table: Table
    registers: int
    at: float  # s, the caller's axis


class Awaited:
    """The unanswered requests of each device, oldest first."""

    def __init__(self, latest: float = LATEST) -> None:
        """Nothing was asked."""
        self._latest = latest
        self._asked: dict[int, list[_Asked]] = {}

    def sent(self, request: Request, now: float) -> None:
        """The request goes out."""
        asked = self._young(request.device, now)
        asked.append(_Asked(request.block.table, request.block.count, now))
        self._asked[request.device] = asked

    def answered(self, request: Request) -> None:
        """Its registers have come: nothing older can follow."""
        self._asked.pop(request.device, None)

    def refused(self, request: Request) -> None:
        """An exception has come, which fits all requests: it answers the oldest one or a younger one."""
        del self._asked.get(request.device, [])[:1]

    def mistakable(self, request: Request, now: float) -> bool:
        """Whether an older answer may come that looks like the one to this request."""
        block = request.block
        return any(
            (each.table, each.registers) == (block.table, block.count) for each in self._young(request.device, now)
        )

    def awaits(self, device: int, now: float) -> bool:
        """Whether an exception that comes after the next request may answer an older one."""
        return bool(self._young(device, now))

    def question(self, request: Request, now: float) -> Request | None:
        """A read near what the request wants whose answer no other one looks like; None when there is none left."""
        block = request.block
        taken = {each.registers for each in self._young(request.device, now) if each.table == block.table}
        free = next((count for count in _counts(block) if count not in taken), None)
        return None if free is None else request._replace(block=Block(block.table, block.start, free, ()))

    def _young(self, device: int, now: float) -> list[_Asked]:
        return [each for each in self._asked.get(device, ()) if now - each.at < self._latest]


def answered_twice(begin: bytes, size: int, heard: bytes) -> bool:
    """Whether two answers that begin so, with `size` bytes each, are in what was heard: then one of them is another request's.

    The registers of an answer may look like the beginning of one.
    """
    first = heard.find(begin)
    return first >= 0 and begin in heard[first + size :]


def _counts(block: Block) -> Iterator[int]:
    """Fewer registers first: they are there. Even numbers before odd ones, which some meters refuse (Eastron's manuals)."""
    yield from range(2, block.count, 2)
    yield from range(1, block.count, 2)
    most = min(block.count + BEYOND, MOST_REGISTERS, REGISTERS - block.start)
    yield from range(block.count + 1, most + 1)
