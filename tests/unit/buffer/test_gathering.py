"""Which writes share a commit: threads put, one takes. Nothing here waits for its time but where that is the behaviour."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from buffer import gathering
from buffer.gathering import Gathering, Write

LONG = 60.0  # s: a test that waits for it fails by its timeout


def write(name: str, *, patients: int = 0) -> Write:
    return Write(lambda _: name, Future(), patients)


def names(group: list[Write]) -> list[str]:
    return [each.work(None) for each in group]


class Taking:
    """Somebody who takes the next group, and has taken its first write already."""

    def __init__(self, gathered: Gathering, first: Write):
        gathered.put(first)
        self._pool = ThreadPoolExecutor(1)
        self._group = self._pool.submit(gathered.group)
        while len(gathered):
            threading.Event().wait(0.001)

    def names(self) -> list[str]:
        with self._pool:
            return names(self._group.result(30))


@pytest.fixture
def three() -> Gathering:
    """Three threads write patiently."""
    made = Gathering(LONG)
    made.patients = 3
    return made


def test_what_has_queued_up_is_one_group_in_its_order():
    """Nobody waits where nobody is patient."""
    gathered = Gathering(LONG)
    for name in "abc":
        gathered.put(write(name))
    assert names(gathered.group()) == ["a", "b", "c"]


def test_patient_writes_go_together_as_soon_as_nobody_else_can_come(three):
    """The third of three: all who write patiently wait. And so at every poll."""
    for names_of_a_poll in ("abc", "cab"):
        first, *others = (write(name, patients=1) for name in names_of_a_poll)
        taking = Taking(three, first)
        for each in others:
            three.put(each)
        assert taking.names() == list(names_of_a_poll)


def test_a_write_that_speaks_for_several_waits_only_for_those_it_does_not_speak_for(three):
    """Two connections that one thread polls, and one with a thread of its own; then all three in one."""
    taking = Taking(three, write("a and b", patients=2))
    three.put(write("c", patients=1))
    assert taking.names() == ["a and b", "c"]
    three.put(write("all", patients=3))
    assert names(three.group()) == ["all"]
    taking = Taking(three, write("c", patients=1))
    three.put(write("a and b", patients=2))
    assert taking.names() == ["c", "a and b"]


def test_who_writes_patiently_alone_never_waits():
    """One polled connection has nobody to wait for."""
    gathered = Gathering(LONG)
    gathered.patients = 1
    for name in "ab":
        gathered.put(write(name, patients=1))
        assert names(gathered.group()) == [name]


def test_a_write_that_is_not_patient_takes_along_at_once_all_that_have_gathered(three):
    """R12: an intent does not wait for readings."""
    taking = Taking(three, write("a", patients=1))
    three.put(write("intent"))
    assert taking.names() == ["a", "intent"]


def test_those_who_come_after_a_hurry_gather_again(three):
    """What is not patient costs nobody the next group."""
    three.put(write("intent"))
    assert names(three.group()) == ["intent"]
    taking = Taking(three, write("a", patients=1))
    three.put(write("b", patients=1))
    three.put(write("c", patients=1))
    assert taking.names() == ["a", "b", "c"]


def test_a_patient_write_waits_so_long_and_no_longer():
    """The others of its second may never come."""
    gathered = Gathering(0.01)
    gathered.patients = 2
    gathered.put(write("a", patients=1))
    assert names(gathered.group()) == ["a"]


def test_when_everything_is_to_end_nobody_waits_any_more(three):
    """Neither who waits already nor who comes later."""
    taking = Taking(three, write("a", patients=1))
    three.hurry()
    assert taking.names() == ["a"]
    three.put(write("b", patients=1))
    assert names(three.group()) == ["b"]


def test_the_end_comes_after_all_that_was_put_and_again_and_again(three):
    """Also where somebody waits patiently."""
    taking = Taking(three, write("a", patients=1))
    three.put(write("b", patients=1))
    three.end()
    assert taking.names() == ["a", "b"]
    assert three.group() == []
    assert three.group() == []


def test_a_full_group_leaves_the_rest_to_the_next_one_at_once(three, monkeypatch):
    """Who did not fit has waited already."""
    monkeypatch.setattr(gathering, "GROUP_MOST", 2)
    for name in "abc":
        three.put(write(name, patients=1))
    assert names(three.group()) == ["a", "b"]
    assert names(three.group()) == ["c"]
