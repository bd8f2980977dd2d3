"""Which answers may still come, without a wire: devices that answer late, in order, and a bus that must never be fooled."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.awaited import BEYOND, LATEST, NEWEST, Awaited, answered_twice
from drivers.modbus.plan import Block
from drivers.modbus.wire import Request


def asked(device: int = 1, table: str = "holding", start: int = 100, count: int = 4) -> Request:
    return Request(device, Block(table, start, count, ()), 1.0, 0.0)


def test_an_answer_that_came_is_awaited_no_more():
    """Nor is anything older."""
    awaited = Awaited()
    awaited.sent(asked(count=2), 0.0)
    awaited.sent(asked(count=4), 1.0)
    assert awaited.mistakable(asked(count=2), 1.0)
    awaited.answered(asked(count=4))
    assert not awaited.mistakable(asked(count=2), 1.0)
    assert not awaited.mistakable(asked(count=4), 1.0)


def test_answers_to_what_others_have_asked_may_come_until_a_device_was_asked_for_something():
    """Nobody knows of which shape. Once is enough, or a device that gives nothing else would never be read.

    A register by itself is read at once: whether there are others beside it, nobody knows either.
    """
    awaited = Awaited(alone=False)
    assert awaited.mistakable(asked(), 0.0)
    awaited.sent(asked(count=2), 0.0)
    assert not awaited.mistakable(asked(), 0.0)
    awaited.answered(asked(count=2))
    assert not awaited.mistakable(asked(), LATEST)
    assert awaited.mistakable(asked(device=2), LATEST)
    assert not awaited.mistakable(asked(device=2, count=1), LATEST)


def test_only_an_answer_of_the_same_device_table_and_length_can_be_mistaken():
    """The frame says these three."""
    awaited = Awaited()
    awaited.sent(asked(), 0.0)
    assert awaited.mistakable(asked(start=7), 0.0)
    assert not awaited.mistakable(asked(device=2), 0.0)
    assert not awaited.mistakable(asked(table="input"), 0.0)
    assert not awaited.mistakable(asked(count=3), 0.0)


def test_after_half_a_minute_only_the_newest_answers_may_still_come_and_none_by_itself():
    """Some gateways keep them until they are asked again, or connected."""
    awaited = Awaited()
    for count in range(1, NEWEST + 2):
        awaited.sent(asked(count=count), 0.0)
    assert all(awaited.mistakable(asked(count=count), LATEST - 0.001) for count in range(1, NEWEST + 2))
    assert awaited.hurried(asked(count=2), LATEST - 0.001)
    assert [count for count in range(1, NEWEST + 2) if awaited.mistakable(asked(count=count), LATEST)] == [2, 3, 4]
    assert not awaited.hurried(asked(count=2), LATEST)
    awaited.sent(asked(count=5), LATEST)
    assert [count for count in range(1, 6) if awaited.mistakable(asked(count=count), LATEST)] == [3, 4, 5]


def test_a_device_that_was_silent_for_hours_can_always_be_asked_for_something_else():
    """However often it was asked: a register alone has four other lengths."""
    awaited = Awaited()
    for hour in range(10):
        question = awaited.question(asked(count=1), hour * 3600.0)
        assert question is not None
        awaited.sent(question, hour * 3600.0)


def test_an_answer_to_an_older_request_leaves_only_what_was_asked_after_it():
    """By its length it is told apart; one of a length that nobody has asked for tells nothing."""
    awaited = Awaited()
    for count in (4, 2, 6, 2):
        awaited.sent(asked(count=count), 0.0)
    awaited.came(asked(), 5)
    assert awaited.mistakable(asked(count=4), 0.0)
    awaited.came(asked(), 2)
    assert [count for count in (2, 4, 6) if awaited.mistakable(asked(count=count), 0.0)] == [2, 6]


def test_the_question_is_a_part_of_what_was_wanted_where_that_is_possible():
    """Registers that are there, an even number before an odd one, and each answer unlike all that are awaited."""
    awaited = Awaited()
    awaited.sent(asked(count=4), 0.0)
    counts = []
    for _ in range(3 + BEYOND):
        question = awaited.question(asked(count=4), 0.0)
        assert question is not None
        assert (question.device, question.block.table, question.block.start) == (1, "holding", 100)
        counts.append(question.block.count)
        awaited.sent(question, 0.0)
    assert counts == [2, 1, 3, 5, 6, 7, 8]


def test_where_all_lengths_are_taken_one_that_was_asked_later_tells_as_much():
    """Whichever of its requests was answered: nothing that was asked before the first of them can come."""
    awaited = Awaited()
    for count in (4, 2, 1, 3, 5, 6, 7, 8):
        awaited.sent(asked(count=count), 0.0)
    question = awaited.question(asked(count=4), 0.0)
    assert question.block.count == 2
    awaited.sent(question, 0.0)
    awaited.answered(question)
    assert [count for count in range(1, 9) if awaited.mistakable(asked(count=count), 0.0)] == [1, 2, 3, 5, 6, 7, 8]
    awaited.sent(asked(count=4), 0.0)
    assert awaited.question(asked(count=4), 0.0) is None


def test_what_went_out_on_a_closed_connection_is_not_awaited():
    """It is sent again on the next one."""
    awaited = Awaited()
    awaited.sent(asked(count=2), 0.0)
    awaited.sent(asked(count=4), 0.0)
    awaited.unsent(asked(count=4))
    assert awaited.mistakable(asked(count=2), 0.0)
    assert not awaited.mistakable(asked(count=4), 0.0)


def test_a_question_stays_within_the_protocol():
    """125 registers, and none behind the last."""
    awaited = Awaited()
    assert awaited.question(asked(start=65_535, count=1), 0.0) is None
    assert awaited.question(asked(start=65_534, count=1), 0.0).block.count == 2
    for count in range(1, 126):
        awaited.sent(asked(count=count), 0.0)
    assert awaited.question(asked(count=125), 0.0) is None


def test_an_exception_answers_the_oldest_request_at_least():
    """It fits every request, so the younger one's answer may still come."""
    awaited = Awaited()
    awaited.sent(asked(count=4), 0.0)
    awaited.sent(asked(count=2), 1.0)
    awaited.refused(asked(count=2))
    assert not awaited.mistakable(asked(count=4), 1.0)
    assert awaited.mistakable(asked(count=2), 1.0)


def test_two_answers_to_one_request_are_seen_and_registers_are_not_taken_for_one():
    """The one that came first may be an older request's."""
    begin = bytes([1, 3, 8])
    one = begin + bytes([0, 1, *begin, 0, 2, 0]) + b"\xaa\xbb"
    size = len(one)
    assert not answered_twice(begin, size, one)
    assert not answered_twice(begin, size, b"\0" + one + b"\xff\xff")
    assert answered_twice(begin, size, one + one)
    assert answered_twice(begin, size, one + b"\0\0" + begin + bytes(4))
    assert not answered_twice(bytes([2, 3, 8]), size, one + one)
    assert not answered_twice(bytes([1, 3, 6]), size, one + one)


class SlowDevice:
    """Answers in order, each after so many further requests as its lateness says; None: never."""

    def __init__(self, lateness: list[int | None]) -> None:
        self._lateness = deque(lateness)
        self._number = 0
        self._coming: list[tuple[int, int, int, int]] = []  # when, number of the request, start, count

    def ask(self, start: int, count: int) -> list[tuple[int, int]]:
        """What is heard until the timeout: start and count of the requests that are answered."""
        self._number += 1
        late = self._lateness.popleft() if self._lateness else 0
        if late is not None:
            after = max(self._number + late, max((when for when, *_ in self._coming), default=0))
            self._coming.append((after, self._number, start, count))
        heard = [coming for coming in self._coming if coming[0] <= self._number]
        self._coming = [coming for coming in self._coming if coming[0] > self._number]
        return [(start, count) for _, _, start, count in heard]


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=30),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=30),
)
def test_no_answer_is_ever_believed_that_is_another_requests(lateness, wanted):
    """Whatever the lateness: an answer of the right length is that of the request, since the order is kept.

    The first answer that is heard is taken, as a bus does; the others are discarded with the gap that follows.
    """
    believe(lateness, wanted, rest=0.0)


@given(
    st.lists(st.one_of(st.none(), st.integers(0, NEWEST)), max_size=30),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=30),
)
def test_nor_when_the_answers_were_kept_while_nothing_was_asked(lateness, wanted):
    """By a gateway whose line is this many requests behind, for whatever time."""
    believe(lateness, wanted, rest=LATEST)


def believe(lateness: list[int | None], wanted: list[tuple[int, int]], rest: float) -> None:
    """Ask for all that is wanted, with a rest before each; what is believed is what was wanted."""
    device, awaited, now = SlowDevice(lateness), Awaited(), 0.0

    def ask(request: Request) -> bool:
        awaited.sent(request, now)
        heard = device.ask(request.block.start, request.block.count)
        if not heard:
            return False
        if heard[0][1] != request.block.count:
            awaited.came(request, heard[0][1])
            return False
        if [count for _, count in heard].count(request.block.count) > 1:
            return False  # two answers to one request: the bus believes neither
        awaited.answered(request)
        believed.append((heard[0][0], request.block.start))
        return True

    for number, count in wanted:
        now += rest
        believed: list[tuple[int, int]] = []
        request = asked(start=1000 * (number + 1), count=count)
        if awaited.mistakable(request, now):
            question = awaited.question(request, now)
            if question is None or not ask(question):
                continue
            believed.clear()  # nobody wants its value
        if ask(request):
            ((was, should),) = believed
            assert was == should
