"""What is remembered of a broker's messages: bounded, and with nothing left behind at the broker."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from drivers.base import Now
from drivers.mqtt import listening
from drivers.mqtt.config import Connection
from drivers.mqtt.listening import BEGINNING, BUDGET, LARGEST, LONGEST_NAME, MOST_TOPICS, Listener, Topics
from drivers.mqtt.port import Message
from drivers.mqtt.reasons import Reason
from tests.fakes.clock import FakeClock
from tests.fakes.driver_ports import FakePorts
from tests.fakes.mqtt_session import FakeSession


def message(topic: str, payload: bytes, *, at: float = 0.0, retain: bool = False) -> Message:
    """As it arrived."""
    return Message(1, 1, 1, topic, payload, retain, Now(at, datetime(2026, 3, 2, tzinfo=UTC), trusted=True))


def topics(*messages: Message) -> Topics:
    """After these."""
    found = Topics()
    for each in messages:
        found.add(each)
    return found


def test_each_topic_has_its_newest_payload_its_count_and_its_pace():
    """What the broker had kept counts apart: its age is not known."""
    kept = message("b", b"1", retain=True)
    found = topics(
        kept, *(message("b", str(number).encode(), at=10.0 * number) for number in range(2, 5)), message("a", b"x")
    )
    first, second = found
    assert (first.name, first.live, first.every) == ("a", 1, None)
    assert (second.newest, second.earlier, second.retained, second.live, second.every) == (b"4", b"1", 1, 3, 10.0)


def test_how_many_messages_were_compared_is_known_unless_another_payload_was_let_go():
    """Of those that were all the same none but the newest has to be kept to know that."""
    same = topics(message("a", b"1", retain=True), message("a", b"1"), message("a", b"1"))
    lost = topics(message("b", b"x" * (LARGEST + 1)), message("b", b"1"), message("b", b"1"))
    assert [found.heard(topic).messages for found in (same, lost) for topic in found] == [3, 1]


def test_no_more_topics_are_remembered_than_fit():
    """A broker may have a million; how many messages were left out is counted."""
    found = topics(*(message(f"t/{number}", b"1") for number in range(MOST_TOPICS + 5)), message("", b"1"))
    assert (len(found), found.left_out, found.messages) == (MOST_TOPICS, 6, MOST_TOPICS + 6)


def test_a_topic_that_is_no_text_or_endlessly_long_is_left_out():
    """Its name alone would fill the memory."""
    found = topics(message("", b"1"), message("t" * (LONGEST_NAME + 1), b"1"), message("t" * LONGEST_NAME, b"1"))
    assert (len(found), found.left_out) == (1, 2)


def test_a_payload_larger_than_any_meters_is_remembered_by_its_beginning():
    """And is not taken for a whole one."""
    (only,) = topics(message("a", b"x" * (LARGEST + 1)))
    assert (len(only.newest), only.size, only.whole) == (BEGINNING, LARGEST + 1, False)


def test_all_payloads_together_stay_within_the_budget():
    """However many topics have large ones, and however often they change."""
    found = Topics()
    for turn in range(2):
        for number in range(BUDGET // LARGEST + 50):
            found.add(message(f"t/{number}", bytes([turn]) * LARGEST))
    kept = sum(len(topic.newest) + len(topic.earlier or b"") for topic in found)
    assert BUDGET - 2 * LARGEST < kept <= BUDGET + 60 * BEGINNING
    assert not all(topic.whole for topic in found)
    for topic in found:
        found.add(message(topic.name, b"1"))
    assert all(topic.whole for topic in found)  # what was let go is room again


def test_a_unit_is_looked_for_on_the_topics_beside():
    """Home Assistant, Homie and others publish it there."""
    found = topics(
        message("s/energy/state", b"5"),
        message("s/energy/unit_of_measurement", b'"MWh"'),
        message("h/e", b"1"),
        message("h/e/$unit", b"kWh"),
    )
    units = {topic.name: found.heard(topic).unit for topic in found}
    assert (units["s/energy/state"], units["h/e"]) == ("MWh", "kWh")


def test_a_sparkplug_device_is_heard_with_the_births_of_its_node():
    """In the order in which they must be understood."""
    names = ["spBv1.0/g/DDATA/n/d", "spBv1.0/g/DBIRTH/n/d", "spBv1.0/g/NBIRTH/n", "spBv1.0/g/DBIRTH/n/other"]
    found = topics(*(message(name, b"x") for name in names))
    (data,) = (topic for topic in found if "DDATA" in topic.name)
    assert [name for name, _ in found.heard(data).births] == ["spBv1.0/g/NBIRTH/n", "spBv1.0/g/DBIRTH/n/d"]


@pytest.fixture
def clock() -> FakeClock:
    """Stands still."""
    return FakeClock()


def listener(clock: FakeClock, session: FakeSession) -> Listener:
    """At a broker of the test's own."""
    connection = Connection(driver="mqtt", url="mqtt://192.0.2.20", client_id="the-real-gateway")
    return Listener(connection, ["#"], FakePorts(clock).ports, session)


def test_every_message_is_acknowledged_and_nothing_is_published(clock: FakeClock):
    """The broker keeps nothing for it, and no device hears of it."""
    session = FakeSession(clock)
    ours = listener(clock, session)
    ours.step(clock.now())
    session.accept()
    for number in range(listening.AT_A_TIME + 1):
        session.arrive(f"t/{number}", "1")
    while ours.step(clock.now()) <= clock.now().boottime:
        pass
    assert ours.ready
    assert (len(ours.topics), session.unacknowledged, session.published) == (listening.AT_A_TIME + 1, [], [])
    ours.close()
    assert session.closed == 1


def test_a_broker_that_lets_nobody_in_is_told(clock: FakeClock):
    """In the words that the service would use."""
    session = FakeSession(clock)
    ours = listener(clock, session)
    ours.step(clock.now())
    session.end(Reason("setup", "the broker does not let this gateway in"))
    ours.step(clock.now())
    assert (ours.connects, ours.trouble) == (0, "the broker does not let this gateway in")
