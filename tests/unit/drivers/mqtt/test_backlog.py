"""What waited in the broker without a time: only the newest reading of each source counts."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from drivers.base import Now
from drivers.mqtt.backlog import HELD_FOR, LONGEST, QUIET, Backlog, Held
from drivers.mqtt.port import Message
from drivers.reading import Reading

WALL = datetime(2026, 3, 2, 9, 55, tzinfo=UTC)
FLUSH = 0.2
ROOM = 10  # messages that may be held


def message(boottime: float, mid: int = 1) -> Message:
    return Message(1, mid, 1, "t", b"5", False, Now(boottime, WALL, trusted=True))


def held(source: str, of: Message, value: int = 5) -> Held:
    return Held(Reading(source, WALL, Decimal(value), "kWh"), of)


def resumed(boottime: float = 1000.0) -> Backlog:
    backlog = Backlog(FLUSH)
    backlog.begin(boottime, ROOM)
    return backlog


def test_without_a_resumed_session_nothing_has_waited():
    """A new session holds nothing back."""
    assert not Backlog(FLUSH).concerns(message(1000))


def test_what_comes_right_after_a_session_was_resumed_may_have_waited():
    """As long as message follows message."""
    backlog = resumed(1000)
    assert [backlog.concerns(message(1000 + step)) for step in (0, 1, 2.9, 4.8)] == [True] * 4


def test_after_a_moment_of_quiet_everything_is_fresh():
    """The broker has sent what it had; and it stays so."""
    backlog = resumed(1000)
    assert backlog.concerns(message(1000 + QUIET - 0.01))
    assert not backlog.concerns(message(1000 + 2 * QUIET))
    assert not backlog.concerns(message(1000 + 2 * QUIET))


def test_after_some_minutes_everything_is_fresh_in_any_case():
    """A site that never falls quiet must not lose its readings for ever."""
    backlog = resumed(1000)
    times = [1000 + second for second in range(int(LONGEST) + 1)]
    assert [backlog.concerns(message(each)) for each in times] == [True] * int(LONGEST) + [False]


def test_a_session_resumed_again_begins_a_new_backlog():
    """Every outage has its own."""
    backlog = resumed(1000)
    assert not backlog.concerns(message(1010))
    backlog.begin(1020, ROOM)
    assert backlog.concerns(message(1020.5))


def test_a_newer_reading_replaces_the_older_one_of_its_source():
    """Of each source the newest counts, whatever the others say."""
    backlog = resumed()
    first, second, other = message(1000, 1), message(1000, 2), message(1000, 3)
    assert backlog.hold(held("a", first, 1)) == []
    assert backlog.hold(held("b", other, 7)) == []
    assert backlog.hold(held("a", second, 2)) == [held("a", first, 1)]
    assert {reading.value for reading in backlog.release(1000 + HELD_FOR)} == {2, 7}


def test_a_held_reading_counts_when_nothing_newer_comes():
    """After `flush` without any message, or after a second at the latest."""
    backlog = resumed(1000)
    one = message(1000)
    backlog.concerns(one)
    backlog.hold(held("a", one))
    assert backlog.due() == 1000 + FLUSH
    assert backlog.release(1000 + FLUSH - 0.01) == []
    backlog.concerns(message(1000.15))
    backlog.concerns(message(1000.9))
    assert backlog.due() == 1000 + HELD_FOR
    assert [reading.source for reading in backlog.release(1000 + HELD_FOR)] == ["a"]
    assert backlog.due() == float("inf")
    assert backlog.messages() == set()


def test_a_broker_that_waits_for_an_acknowledgement_is_not_quiet():
    """What is held counts a moment after it was told to go on, and its next messages belong to the backlog still."""
    backlog = resumed(1000)
    one = message(1000)
    backlog.concerns(one)
    backlog.hold(held("a", one))
    assert backlog.due(owing=True) == float("inf")
    assert backlog.release(1000 + 2 * QUIET, owing=True) == []
    backlog.acknowledged(1000 + 2 * QUIET)
    assert backlog.due() == 1000 + 2 * QUIET + FLUSH
    backlog.acknowledged(1000 + 2 * QUIET + 0.1)  # of other meters: once is enough
    assert backlog.due() == 1000 + 2 * QUIET + FLUSH
    assert backlog.concerns(message(1000 + 3 * QUIET))
    assert [reading.source for reading in backlog.release(1000 + 2 * QUIET + FLUSH)] == ["a"]


def test_what_replaces_a_reading_waits_for_an_acknowledgement_of_its_own():
    """That of the older one says nothing of it."""
    backlog = resumed(1000)
    older, newer = message(1000, 1), message(1000.1, 2)
    backlog.hold(held("a", older))
    backlog.acknowledged(1000)
    backlog.hold(held("a", newer))
    assert backlog.due(owing=True) == float("inf")


def test_held_messages_are_told_so_that_they_stay_unacknowledged():
    """R3: what is not stored is not acknowledged."""
    backlog = resumed()
    one = message(1000)
    backlog.hold(held("a", one))
    backlog.hold(held("b", one))
    assert backlog.messages() == {id(one)}


def test_more_messages_than_there_is_room_for_are_not_held():
    """A broker stops when too many are unacknowledged: the oldest one gives way, with all its readings."""
    backlog = resumed()
    messages = [message(1000, number) for number in range(ROOM + 1)]
    backlog.hold(held("first", messages[0]))
    backlog.hold(held("second", messages[0]))
    for number in range(1, ROOM):
        assert backlog.hold(held(f"source {number}", messages[number])) == []
    given_up = backlog.hold(held("last", messages[-1]))
    assert [each.reading.source for each in given_up] == ["first", "second"]
    assert len(backlog.messages()) == ROOM
