"""The loop on real sockets, stepped in one thread and in virtual time: what it does, and what goes back to a connection's own."""

from __future__ import annotations

import gc
import os
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import permutations

import pytest

from drivers.base import Now
from drivers.modbus import loop as loop_module
from drivers.modbus.bus import FRESH
from drivers.modbus.line import monotonic
from drivers.modbus.loop import Bell, Loop
from drivers.modbus.plan import Block, Place
from drivers.modbus.storing import Storing
from drivers.modbus.wire import Asking, Request, Wish
from drivers.reading import Rejected
from tests.fakes.clock import START, FakeClock
from tests.fakes.shared_lines import LONGEST_WAIT, PATIENT, WITHIN, OddGateway, Piece, SharedLines, Silence, framed
from tests.fakes.wire_time import WireTime, wire_time

TIMEOUT = 0.5  # s, where it is to pass
HASTY = "500ms"
LONG = 30.0  # s: PATIENT
WRONG = b"\x03\x04\0\0\xff\xff"  # no answer says that
FAR = 1100  # file descriptors: more than select(2) knows


class LookedAtClock(FakeClock):
    """Each look at it is counted; the machine may do something else before the next one returns."""

    def __init__(self) -> None:
        super().__init__()
        self.held_up: Callable[[], None] | None = None  # once
        self.looks = 0

    def now(self) -> Now:
        self.looks += 1
        held_up, self.held_up = self.held_up, None
        if held_up:
            held_up()
        return super().now()


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> WireTime:
    return wire_time(monkeypatch)


@contextmanager
def shared(
    count: int = 2, *, wire: WireTime | None = None, **keys
) -> Iterator[tuple[SharedLines, Sequence[OddGateway]]]:
    """So many connections, polled each second, of which all have been lent. `wire`: where somebody is to be silent."""
    gateways = [OddGateway() for _ in range(count)]
    for gateway in gateways:
        gateway.__enter__()
        if wire:
            gateway.timeout_passes = partial(wire.elapse, 2 * TIMEOUT)
    lines = SharedLines(*(gateway.url for gateway in gateways), **{"polls": ["1s"] * count} | keys)
    try:
        lines.run(0.5)
        assert lines.values(0) == [1]
        yield lines, gateways
    finally:
        lines.close()
        for gateway in gateways:
            gateway.__exit__()


def own_steps(lines: SharedLines, seconds: float, line: int = 0) -> int:
    """How often the connection's own thread would have run, while so much time passes."""
    before = lines.steps[f"line{line}"]
    lines.run(seconds)
    return lines.steps[f"line{line}"] - before


# --- as usual ---------------------------------------------------------------------------------------------------------


def test_polls_of_all_connections_are_one_delivery_for_each_slot_and_no_thread_is_woken(monkeypatch):
    """Each connection has two requests a poll; the delivery speaks for all of them."""
    monkeypatch.setattr(loop_module, "TOGETHER", 30.0)  # a busy machine is no slow gateway
    with shared(3) as (lines, _):
        before = len(lines.store.batches)
        assert [own_steps(lines, 10.0, line) for line in range(3)] == [0, 0, 0]
        assert lines.store.spoken_for == [3] * 30
        assert [len(batch) for batch in lines.store.batches[before:]] == [6] * 30
        assert lines.values(1) == list(range(1, 63, 2))
        assert lines.store.notes == []


def test_a_connection_with_a_long_poll_is_looked_at_now_and_then_beside_short_ones():
    """It keeps its own slots: 09:55, then the hour."""
    with shared(2, polls=["1s", "1h"]) as (lines, (_, slow)):
        lines.run(360)
        assert [reading.at for reading in lines.store.of("line1/10")] == [START, START + timedelta(minutes=5)]
        assert len(slow.told) == 4
        assert len(lines.values(0)) == 361


@pytest.mark.parametrize("before", [0.0, 25.0])
@pytest.mark.parametrize("by", [-1800.5, 120.25, 86_400.0])
def test_when_the_wall_clock_is_set_the_slots_of_a_lent_connection_are_found_anew(by: float, before: float):
    """Within the time after which its own thread would have looked, however long its poll is; `before`: s for which it was lent."""
    with shared(1, polls=["1h"]) as (lines, _):
        lines.run(before)
        lines.clock.step_wall(by)
        lines.run(LONGEST_WAIT)
        edge = lines.clock.wall.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        lines.run((edge - lines.clock.wall).total_seconds() + 1.0)
        assert [reading.at for reading in lines.store.of("line0/10")][1:] == [edge]


def test_file_descriptors_beyond_those_of_select_are_polled_all_the_same():
    """More than a thousand connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * FAR:
        pytest.skip(f"no more than {hard} file descriptors here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * FAR), hard))
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(FAR)]
    try:
        with shared(2) as (lines, (gateway, _)):
            assert own_steps(lines, 10.0) == 0
            gateway.hang_up()
            lines.run(2.0)
            assert gateway.accepted == 2
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- what is unusual --------------------------------------------------------------------------------------------------


def usual(request: bytes, good: bytes) -> Sequence[Piece]:
    return [good]


def in_two(request: bytes, good: bytes) -> Sequence[Piece]:
    return [good[:8], 0.02, good[8:]]


def twice(request: bytes, good: bytes) -> Sequence[Piece]:
    return [good + good]


def of_another(request: bytes, good: bytes) -> Sequence[Piece]:
    """And then the right one."""
    return [framed(request, WRONG, transaction=int.from_bytes(request[:2], "big") - 1), 0.02, good]


def behind_an_old_one(request: bytes, good: bytes) -> Sequence[Piece]:
    return [framed(request, WRONG, transaction=1) + good]


def slow(request: bytes, good: bytes) -> Sequence[Piece]:
    return [0.05, good]


def no_words(request: bytes, good: bytes) -> Sequence[Piece]:
    return [Silence.BROKEN, good]


def refused(request: bytes, good: bytes) -> Sequence[Piece]:
    return [framed(request, b"\x83\x06"), 0.0]


def too_long(request: bytes, good: bytes) -> Sequence[Piece]:
    return [framed(request, b"\x03\x06" + good[9:] + b"\0\0")]


def cut_off(request: bytes, good: bytes) -> Sequence[Piece]:
    return [good[:9], None]


def half_an_answer(request: bytes, good: bytes) -> Sequence[Piece]:
    return [good[:9], Silence.LASTING]


@pytest.mark.parametrize("nth", [0, 1])
@pytest.mark.parametrize("answer", [in_two, behind_an_old_one, slow, of_another, refused])
def test_a_late_or_odd_answer_is_understood_in_the_middle_of_the_turn(answer: Callable, nth: int):
    """To the poll's first or second request. Nothing is asked twice, lost or wrong; then the connection is lent again."""
    with shared() as (lines, (gateway, _)):
        gateway.script += [usual] * nth + [answer]
        lines.run(2.0)
        assert not gateway.script
        assert len(gateway.told) == 2 * 3 + (answer is refused)  # a busy device is asked again
        assert {reading.value for reading in lines.store.readings if "line0" in reading.source} <= {*gateway.told}
        for source in ("line0/10", "line0/100"):
            instants = [reading.at for reading in lines.store.of(source)]
            assert instants == [START + timedelta(seconds=second) for second in range(3)]
        assert own_steps(lines, 10.0) == own_steps(lines, 10.0, 1) == 0
        assert lines.store.notes == []


@pytest.mark.parametrize(
    ("answer", "timeout"),
    [(no_words, HASTY), (half_an_answer, HASTY), (twice, PATIENT), (too_long, PATIENT), (cut_off, PATIENT)],
)
def test_what_is_no_answer_costs_its_own_poll_alone(wire: WireTime, answer: Callable, timeout: str):
    """Nothing wrong is stored, the other connection has all its polls, and all are lent again."""
    with shared(wire=wire, timeouts=[timeout, PATIENT]) as (lines, (gateway, _)):
        gateway.script.append(answer)
        lines.run(20.0)
        assert {*lines.values(0)} <= {*gateway.told}
        assert lines.values(1) == list(range(1, 43, 2))
        assert len(lines.values(0)) >= 15
        assert own_steps(lines, 10.0) == 0


def test_a_silent_connection_costs_one_timeout_and_holds_up_no_other(wire: WireTime):
    """It is asked once; the other's poll is stored."""
    with shared(wire=wire, timeouts=[HASTY, PATIENT]) as (lines, (gateway, _)):
        gateway.silent = True
        lines.run(1.0)
        assert lines.drivers[0].health().counts["timeouts"] == 1
        assert lines.drivers[0].health().counts["requests"] == 2 + 1
        assert lines.values(1) == [1, 3]
        gateway.silent = False
        lines.run(5.0)
        assert len(lines.values(0)) >= 3
        assert own_steps(lines, 10.0) == 0


def test_while_nobody_answers_the_loop_rests():
    """Also when somebody has woken it meanwhile."""
    with shared(1, clock=LookedAtClock()) as (lines, (gateway,)):

        def woken(request: bytes, good: bytes) -> Sequence[Piece]:
            lines.loop.wake.set()
            return [0.15, good]

        gateway.script.append(woken)
        lines.run(1.0)
        before, began = lines.clock.looks, time.monotonic()
        gateway.script.append(woken)
        lines.run(1.0)
        assert not gateway.script
        assert lines.clock.looks - before < 40 + 2 * (time.monotonic() - began) / loop_module.LONGEST_LOOK
        assert lines.values(0) == [1, 3, 5]


def test_an_answer_that_came_in_time_is_heard_by_a_loop_that_comes_late(wire: WireTime, monkeypatch):
    """The machine did something else for longer than the timeout; the next request has its whole time again."""
    monkeypatch.setattr(loop_module, "LONGEST_LOOK", WITHIN)  # the loop waits for the answer, and is held up then
    with shared(1, clock=LookedAtClock(), wire=wire) as (lines, (gateway,)):

        def while_busy(request: bytes, good: bytes) -> Sequence[Piece]:
            lines.clock.held_up = partial(wire.elapse, 1.25 * LONG)
            return [good]

        lines.run(1.0)
        gateway.script.append(while_busy)
        assert own_steps(lines, 1.0) == 0
        assert not gateway.script
        assert lines.clock.held_up is None
        assert lines.values(0) == [1, 3, 5]


def test_a_connection_closed_between_two_polls_is_opened_anew_and_nobody_is_told():
    """Many gateways close an idle connection."""
    with shared() as (lines, (gateway, _)):
        time.sleep(FRESH)  # real time, as between two polls: then the line is looked at before it is asked
        gateway.hang_up()
        lines.run(3.0)
        assert gateway.accepted == 2
        assert lines.values(0) == [1, 3, 5, 7]
        assert lines.drivers[0].health().counts["reconnects"] == 1
        assert lines.store.notes == []
        assert own_steps(lines, 10.0) == 0


@pytest.mark.parametrize("count", [1, 2])
def test_bytes_that_nobody_asked_for_bring_a_connection_back_once_and_no_further(count: int):
    """They lie there until the next request: no to and fro between its thread and the loop meanwhile."""
    with shared(count, polls=["60s", "1s"][:count]) as (lines, gateways):
        for n in range(2):
            gateways[0].interject(b"stray")
            time.sleep(FRESH)
            assert own_steps(lines, 60.0) <= 4 + 60.0 / LONGEST_WAIT  # and it ticks, while it has the connection
            assert len(lines.values(0)) == n + 2
        assert {*lines.values(0)} <= {*gateways[0].told}
        assert own_steps(lines, 60.0) <= 1
        assert lines.store.notes == []


def test_stray_bytes_before_each_answer_are_never_taken_for_it():
    """They come when the request is on its way already."""
    with shared(1) as (lines, (gateway,)):
        for _ in range(5):
            gateway.script.append(lambda request, good: [framed(request, WRONG, transaction=0), 0.02, good])
            lines.run(1.0)
        assert {*lines.values(0)} <= {*gateway.told}


def test_a_full_store_loses_nothing_and_says_so_in_each_connections_health():
    """In the order in which it was read."""
    with shared() as (lines, _):
        lines.store.full = True
        lines.run(30.0)
        assert [driver.health().state for driver in lines.drivers] == ["trouble", "trouble"]
        assert lines.store.refused <= 5
        lines.store.full = False
        lines.run(20.0)
        assert lines.values(0) == lines.values(1) == list(range(1, 103, 2))
        assert [driver.health().state for driver in lines.drivers] == ["ok", "ok"]


def test_a_connection_that_breaks_off_delivers_what_waits_of_it_before_what_it_reads_next():
    """With a `grace` shorter than the wait, an hour would be closed without the readings before its edge."""
    with shared() as (lines, (gateway, _)):
        lines.store.full = True
        lines.run(5.0)
        lines.store.full = False
        time.sleep(FRESH)  # real time: later the line is looked at before it is asked, and nothing is sent in vain
        gateway.hang_up()
        lines.run(2.0)
        assert lines.values(0) == list(range(1, 14, 2))
        lines.run(20.0)
        assert lines.values(0) == lines.values(1) == list(range(1, 56, 2))


# --- the end, in every order ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(permutations(["line0", "line1", "modbus tcp", "modbus tcp, storing"])))
def test_whoever_ends_first_what_was_read_is_stored_once_and_every_socket_is_closed(order: Sequence[str]):
    """One connection rests, one is in the middle of its turn, and what both have read is not stored yet."""
    with shared() as (lines, (gateway, _)):
        gateway.script.append(lambda request, good: [0.05, good])
        by_name = {each.name: each for each in (*lines.drivers, lines.loop, lines.storing)}
        lines.clock.advance(0.6)
        turn_begun(lines)
        for name in (*order, *order):
            by_name[name].close()
        assert lines.values(0) == lines.values(1) == [1, 3]
        assert not any(driver._bus.is_open for driver in lines.drivers)


def turn_begun(lines: SharedLines) -> None:
    """As `step` begins it, and no further."""
    with lines.loop._lock:
        lines.loop._begin(lines.clock.now())


def test_a_connection_that_was_given_back_is_asked_no_more():
    """Its own thread has closed it, and somebody else may have its file descriptor."""
    with shared() as (lines, (gateway, _)):
        lines.drivers[0].close()
        told = len(gateway.told)
        with OddGateway() as third:
            other = socket.create_connection(("127.0.0.1", int(third.url.rpartition(":")[2])))
            lines._due.pop(lines.drivers[0])
            lines.run(5.0)
            other.close()
            assert third.told == []
        assert len(gateway.told) == told
        assert lines.values(1) == list(range(1, 13, 2))


# --- pieces -----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Lent:
    """A driver that asks nothing, on a line on which nothing is heard."""

    name: str
    readings: list[Rejected] | None = field(default_factory=list)  # None: there is something wrong with them
    rests: float = 1.0
    dies: bool = False
    ripe: bool = True
    turns: int = 0
    broken_off: int = 0
    line: Bell = field(default_factory=Bell)

    def fileno(self) -> int:
        return self.line.fileno()

    def turn(self, now: Now) -> Asking[float]:
        self.turns += 1
        if self.dies:
            raise ValueError(self.name)
        return now.boottime + self.rests
        yield

    def batch(self) -> list[Rejected]:
        assert not self.broken_off, "its own thread may be taking it"
        if self.readings is None:
            raise ValueError(self.name)
        found, self.readings = self.readings, []
        return found

    def break_off(self, turn: Asking[float] | None, wish: Wish | None) -> None:
        self.broken_off += 1

    def told(self, not_stored: str) -> None:
        assert not not_stored


class Silent(Lent):
    """One that has asked something, for `patience` seconds."""

    patience: float = 30.0

    def turn(self, now: Now) -> Asking[float]:
        self.deadline = monotonic() + self.patience
        yield ASKED
        raise AssertionError("nothing is heard")

    def begin(self, request: Request) -> bool:
        return request is ASKED


class Bench:
    """A loop, and what it gives to the store."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.stored: dict[str, Sequence[Rejected]] = {}
        self.storing = Storing(lambda batches, _: self.stored.update(batches))
        self.loop = Loop(self.clock, self.storing, LONGEST_WAIT)

    def lend(self, *drivers: Lent) -> None:
        for driver in drivers:
            self.loop.lend(driver, driver, 0.0)

    def step(self) -> float:
        return self.loop.step(self.clock.now())


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.loop.close()


ASKED = Request(1, Block("holding", 10, 2, (Place("holding", 10, 2),)), TIMEOUT, 0.0)
SAID = [Rejected("a", START, "said")]


def test_what_one_connection_has_read_is_stored_although_another_ones_cannot_be_understood(bench: Bench):
    """That one ends the process; the others' readings are worth as much as ever."""
    first, bad, last = Lent("first", SAID), Lent("bad", None), Lent("last", SAID)
    bench.lend(first, bad, last)
    with pytest.raises(ValueError, match="bad"):
        bench.step()
    bench.loop.close()
    bench.storing.close()
    assert bench.stored == {"first": SAID}
    assert last.readings == SAID  # its own thread delivers them
    assert last.broken_off == 1


def test_what_is_read_waits_for_no_silent_connection(bench: Bench):
    """It is stored before that one's timeout is over; and its own thread stores what a connection that went back has read."""
    waiting, lost, silent = Lent("waiting", SAID), Lent("lost", SAID), Silent("silent")
    bench.lend(silent, waiting, lost)
    lost.line.set()
    assert bench.step() <= bench.clock.boottime
    assert silent.broken_off == 0
    bench.storing.close()
    assert bench.stored == {"waiting": SAID}
    assert lost.broken_off == 1
    assert lost.readings == SAID


def test_when_a_turn_fails_all_connections_go_back(bench: Bench):
    """The loop's thread ends, and the process with it: each driver closes its own line."""
    drivers = [Lent("a"), Lent("b", dies=True), Lent("c")]
    bench.lend(*drivers)
    with pytest.raises(ValueError, match="b"):
        bench.step()
    for _ in range(2):
        bench.loop.close()
    assert [driver.broken_off for driver in drivers] == [1, 1, 1]


def test_what_is_lent_before_and_after_the_end_goes_back(bench: Bench):
    """No driver waits for a loop that has ended."""
    early, late = Lent("early"), Lent("late")
    bench.lend(early)
    bench.loop.close()
    assert early.broken_off == 1
    bench.lend(late)
    bench.loop.give_back(late)
    assert late.broken_off == 1
    bench.loop.give_back(late)
    assert (early.turns, late.turns, late.broken_off) == (0, 0, 1)


def test_what_is_given_back_before_the_loop_has_seen_it_is_never_asked(bench: Bench):
    """Lent and closed at once."""
    driver = Lent("a")
    bench.lend(driver)
    bench.loop.give_back(driver)
    assert driver.broken_off == 1
    bench.step()
    assert driver.turns == 0


def test_a_file_descriptor_may_come_back_as_another_connection(bench: Bench):
    """Lent, given back, closed; the system gives the lowest number again."""
    gc.collect()
    first = Lent("first")
    bench.lend(first)
    bench.step()
    bench.loop.give_back(first)
    number, first.line = first.fileno(), None
    gc.collect()
    others = [Lent("other")]  # a lower number may be free as well, since somebody else has closed something
    while others[-1].fileno() < number:
        others.append(Lent("other"))
    second = others.pop()
    assert second.fileno() == number
    bench.lend(second)
    bench.step()
    bench.clock.advance(1.0)
    bench.step()
    assert (first.turns, second.turns) == (1, 2)


def test_a_bell_is_an_event_whose_file_descriptor_is_readable_while_it_rings():
    """`hush` ends the ringing, not the event; no child has it."""
    bell, poll = Bell(), select.poll()
    poll.register(bell, select.POLLIN)
    assert not poll.poll(0)
    bell.set()
    bell.set()
    assert poll.poll(0)
    bell.hush()
    assert bell.is_set()
    assert not poll.poll(0)
    bell.set()
    bell.clear()
    assert not bell.is_set()
    assert not poll.poll(0)
    bell.hush()
    assert not os.get_inheritable(bell.fileno())
