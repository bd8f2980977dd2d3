"""Which answers to earlier requests may still come, and how to find out that they will not. Pure.

RTU and ASCII answers say which device speaks, by which function, and how many registers follow: no more. So the late
answer to one request is a sound answer to the next one of the same shape, and then each answer is that of the request
before. The number of a Modbus TCP frame helps no further than to the gateway: there are some that put the newest number on
whatever comes from their line, or was left in their buffer. Quiet after a silence helps only as long as the quiet is longer
than the lateness. What always helps: a device answers in the order in which it is asked. Before a shape is asked for again
to which an answer is still awaited, the device is asked for another one: once that has been answered, nothing older can come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from drivers.modbus.plan import MOST_REGISTERS, REGISTERS, Block

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from drivers.modbus.plan import Table
    from drivers.modbus.wire import Request

LATEST = 30.0  # s after which no answer comes by itself; meters need milliseconds, the slowest gateway some seconds
NEWEST = 3  # requests of a device whose answers may come at any time: a gateway keeps them until it is connected
BEYOND = 4  # registers more than were wanted, at most, where none fewer will do


class _Asked(NamedTuple):
    """A request without its answer."""

    table: Table
    registers: int
    at: float  # s, the caller's axis


class Awaited:
    """The unanswered requests of each device, oldest first."""

    def __init__(self, latest: float = LATEST, *, alone: bool = True) -> None:
        """Nothing was asked; not `alone`: by us, and what others have asked before, nobody knows."""
        self._latest = latest
        self._alone = alone
        self._asked: dict[int, list[_Asked]] = {}  # of each device that was asked

    def sent(self, request: Request, now: float) -> None:
        """The request goes out."""
        asked = [*self._outstanding(request.device, now), _Asked(request.block.table, request.block.count, now)]
        self._asked[request.device] = asked

    def unsent(self, request: Request) -> None:
        """It went out on a connection that had been closed."""
        del self._asked.get(request.device, [])[-1:]

    def answered(self, request: Request) -> None:
        """Registers of its shape have come: nothing older can follow."""
        if self._asked.get(request.device) == []:  # as usual where frames have numbers
            return
        if len(self._alike(request, request.block.count)) > 1:
            self.came(request, request.block.count)
        else:
            self._asked[request.device] = []

    def came(self, request: Request, registers: int) -> None:
        """So many registers have come, which answer the oldest request of that shape, or a younger one."""
        if alike := self._alike(request, registers):
            del self._asked[request.device][: alike[0] + 1]

    def refused(self, request: Request) -> None:
        """An exception has come, which fits all requests: it answers the oldest one or a younger one."""
        del self._asked.get(request.device, [])[:1]

    def mistakable(self, request: Request, now: float) -> bool:
        """Whether an older answer may come that looks like the one to this request."""
        asked = self._asked.get(request.device)
        if asked is None:  # a question beside a register by itself may be one that its device leaves unanswered
            return not self._alone and request.block.count > 1
        return bool(asked) and _in(self._outstanding(request.device, now), request)

    def hurried(self, request: Request, now: float) -> bool:
        """The same of what may come by itself: a line that has no question left is not given up for ever."""
        return _in(self._outstanding(request.device, now, newest=0), request)

    def awaits(self, device: int, now: float) -> bool:
        """Whether an exception that comes after the next request may answer an older one."""
        return bool(self._outstanding(device, now))

    def question(self, request: Request, now: float) -> Request | None:
        """A read near what the request wants whose answer no other one looks like; None when there is none left.

        Where all are taken, one that was first asked after the last request that looks like this one: an answer to any of
        them leaves none to that.
        """
        block = request.block
        asked = [each.registers for each in self._outstanding(request.device, now) if each.table == block.table]
        last = len(asked) - asked[::-1].index(block.count) if block.count in asked else 0
        free = [count for count in _counts(block) if count not in asked[:last]]
        best = next((count for count in free if count not in asked), next(iter(free), None))
        return None if best is None else request._replace(block=Block(block.table, block.start, best, ()))

    def _alike(self, request: Request, registers: int) -> list[int]:
        """Where the requests of that shape stand."""
        shape = (request.block.table, registers)
        asked = self._asked.get(request.device, ())
        return [at for at, each in enumerate(asked) if (each.table, each.registers) == shape]

    def _outstanding(self, device: int, now: float, newest: int = NEWEST) -> list[_Asked]:
        asked = self._asked.get(device, [])
        old = len(asked) - newest
        return [each for at, each in enumerate(asked) if at >= old or now - each.at < self._latest]


def _in(asked: Iterable[_Asked], request: Request) -> bool:
    block = request.block
    return any((each.table, each.registers) == (block.table, block.count) for each in asked)


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
