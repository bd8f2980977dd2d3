"""One thread for many Modbus TCP connections, while all is as usual.

A thread for each is woken four times in a poll of three requests, which costs more than all that Python does for it: 200
meters on connections of their own were 2.7 times a bare loop over them (docs/decisions/0006-many-connections-one-thread.md).
So a connection whose last answers were the usual ones is lent to the loop, which sends, waits for all of them together
and takes the usual answers. Whatever else there is to do may take time: opening a connection, late or broken answers,
silences, refusals, devices that fail. Then the connection goes back to its own thread, in the middle of its turn if need be.
"""

from __future__ import annotations

import math
import os
import select
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from threading import Event, Lock
from typing import TYPE_CHECKING, Protocol
from weakref import finalize

from drivers.modbus.line import monotonic
from drivers.modbus.storing import Batch, Told
from drivers.modbus.wire import Heard, Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.base import Clock, Now
    from drivers.modbus.prompt import PromptBus
    from drivers.modbus.storing import Storing
    from drivers.modbus.wire import Asking, Wish
    from drivers.reading import Reading, Rejected

LONGEST_STEP = 1.0  # s; whoever watches the loop must see that it lives
LONGEST_LOOK = 0.05  # s for which it waits for answers before it looks at the clock, which may not be real time
TOGETHER = 0.25  # s for which what is read may wait for what the other connections read


class Bell(Event):
    """An event that also ends a wait for file descriptors."""

    def __init__(self) -> None:
        """Not set."""
        super().__init__()
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        finalize(self, os.close, self._fd)

    def fileno(self) -> int:
        """What is readable while it is set."""
        return self._fd

    def set(self) -> None:
        """As Event."""
        super().set()
        os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """As Event."""
        self.hush()
        super().clear()

    def hush(self) -> None:
        """End no further wait, until it is set again."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._fd)


class Lender(Told, Protocol):
    """The driver of a connection, as the loop sees it while it is lent."""

    ripe: bool

    def turn(self, now: Now) -> Asking[float]:
        """Ask one device that is due, or none; the boottime of the next turn. Then `ripe` says whether to store."""

    def batch(self) -> Sequence[Reading | Rejected]:
        """What is gathered, for whoever stores it."""

    def break_off(self, turn: Asking[float] | None, wish: Wish | None) -> None:
        """The loop is through with it: `turn` is to be gone on with where it wants `wish`."""


@dataclass(slots=True, eq=False)
class _Member:
    """A connection that is lent."""

    driver: Lender
    bus: PromptBus
    fd: int
    turn: Asking[float] | None = None  # under way
    wish: Wish | None = None  # what the turn wants next, mostly the request whose answer is awaited
    deadline: float = math.inf  # of that answer (monotonic), once the request is out
    gone: bool = False


class Loop:
    """Turns of the lent connections, side by side. See `drivers.base.Helper`."""

    name = "modbus tcp"

    def __init__(self, clock: Clock, storing: Storing, longest_wait: float) -> None:
        """`longest_wait`: each member is looked at so often (s of `clock`), as its own thread would."""
        self.wake = Bell()
        self._clock = clock
        self._storing = storing
        self._longest_wait = longest_wait
        self._lock = Lock()  # whoever has it owns all members
        self._poll = select.epoll()
        self._poll.register(self.wake, select.EPOLLIN)
        self._coming: deque[tuple[Lender, PromptBus, float]] = deque()
        self._members: dict[int, _Member] = {}  # by file descriptor
        self._due: list[tuple[float, int, _Member]] = []  # a heap: when who rests is looked at again (boottime)
        self._order = count()
        self._asking = 0  # members whose turn is under way
        self._deadline = math.inf  # no answer is late before it (monotonic)
        self._wishing: list[tuple[_Member, Request]] = []
        self._ripe: list[_Member] = []
        self._ripe_since = 0.0  # monotonic, of the oldest
        self._closed = False

    def lend(self, driver: Lender, bus: PromptBus, due: float) -> None:
        """The loop does its turns from `due` (boottime) on. By its own thread."""
        self._coming.append((driver, bus, min(due, self._clock.now().boottime + self._longest_wait)))
        self.wake.set()

    def give_back(self, driver: Lender) -> None:
        """When it returns, the loop has nothing to do with the driver any more. By its own thread."""
        with self._lock:
            self._come()
            for member in self._members.values():
                if member.driver is driver:
                    self._break_off(member)
                    return

    def unstored(self, driver: Lender) -> Sequence[Reading | Rejected]:
        """What it has read while it was lent and still waits for the store, to go before what it reads next. By its own thread."""
        return self._storing.take(driver.name)

    def step(self, now: Now) -> float:
        """Do what is due, until nobody is asked any more, or for a second."""
        end = monotonic() + LONGEST_STEP
        with self._lock:
            self._come()
            self._begin(now)
            self._ask()
            self._store()
        while self._asking and monotonic() < end:
            heard = self._poll.poll(self._patience(now))
            now = self._clock.now()
            with self._lock:
                self._hear(heard, now)
                self._give_up()
                self._come()
                self._begin(now)
                self._ask()
                self._store()
        if self._asking:
            return now.boottime
        return self._due[0][0] if self._due else math.inf

    def close(self) -> None:
        """All go back to their own threads; never raises, may be called twice."""
        with self._lock:
            self._come()
            for member in list(self._members.values()):
                self._break_off(member)
            if not self._closed:
                self._poll.close()
            self._closed = True

    def _come(self) -> None:
        while self._coming:
            driver, bus, due = self._coming.popleft()
            if self._closed:
                driver.break_off(None, None)
                continue
            member = _Member(driver, bus, bus.fileno())
            self._members[member.fd] = member
            self._poll.register(member.fd, select.EPOLLIN)
            self._rest(member, due)

    def _rest(self, member: _Member, due: float) -> None:
        heappush(self._due, (due, next(self._order), member))

    def _begin(self, now: Now) -> None:
        """Begin the turns that are due."""
        while self._due and self._due[0][0] <= now.boottime:
            _, _, member = heappop(self._due)
            if not member.gone:
                member.turn = member.driver.turn(now)
                self._asking += 1
                self._go_on(member, None, now)

    def _go_on(self, member: _Member, heard: Heard | None, now: Now) -> None:
        """Tell the turn what it has asked for; what it wants next."""
        assert member.turn is not None
        member.deadline = math.inf
        try:
            member.wish = member.turn.send(heard)
        except StopIteration as end:
            member.turn = member.wish = None
            self._asking -= 1
            if member.driver.ripe:
                self._ripe_since = self._ripe_since if self._ripe else monotonic()
                self._ripe.append(member)
            self._rest(member, min(end.value, now.boottime + self._longest_wait))
            return
        if isinstance(member.wish, Request):
            self._wishing.append((member, member.wish))
        else:
            self._break_off(member)

    def _ask(self) -> None:
        """Send what is wanted, one right after the other: whoever is behind several connections is woken once."""
        wishing, self._wishing = self._wishing, []
        for member, request in wishing:
            if member.bus.begin(request):
                member.deadline = member.bus.deadline
                self._deadline = min(self._deadline, member.deadline)
            else:
                self._break_off(member)

    def _hear(self, heard: Sequence[tuple[int, int]], now: Now) -> None:
        for fd, _ in heard:
            member = self._members.get(fd)
            if member is None:
                self.wake.hush()
                continue
            # what was asked nothing was closed as idle, mostly
            answer = None if member.turn is None else member.bus.at_hand()
            if answer is None:
                self._break_off(member)
            else:
                self._go_on(member, Heard(answer, now), now)

    def _give_up(self) -> None:
        """Those that have been silent for their whole timeout; after a look at what was heard."""
        now = monotonic()
        if now < self._deadline:
            return
        for member in [each for each in self._members.values() if each.deadline <= now]:
            self._break_off(member)
        self._deadline = min((member.deadline for member in self._members.values()), default=math.inf)

    def _break_off(self, member: _Member) -> None:
        """Back to its own thread, which finishes the turn and delivers what is gathered."""
        member.gone = True
        del self._members[member.fd]
        self._poll.unregister(member.fd)
        turn, member.turn = member.turn, None
        self._asking -= turn is not None
        member.driver.break_off(turn, member.wish)

    def _store(self) -> None:
        """What the turns have gathered, once for all of them."""
        if not self._ripe or (self._asking and monotonic() - self._ripe_since < TOGETHER):
            return
        ripe, self._ripe = self._ripe, []
        gathered = (Batch(member.driver, member.driver.batch()) for member in ripe if not member.gone)
        batches: list[Batch] = []
        try:
            batches.extend(batch for batch in gathered if batch.readings)
        finally:  # what cannot be understood ends the process, and must not take the others' along
            if batches:
                self._storing.put(batches, len(self._members))

    def _patience(self, now: Now) -> float:
        """Seconds for which to wait for an answer."""
        soonest = min(LONGEST_LOOK, self._deadline - monotonic())
        return max(0.0, min(soonest, self._due[0][0] - now.boottime) if self._due else soonest)
