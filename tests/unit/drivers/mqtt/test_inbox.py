"""The messages between the network thread and the driver: bounded, in order, and never lost at QoS 1."""

from __future__ import annotations

from threading import Thread

from drivers.mqtt import inbox as module
from drivers.mqtt.inbox import Inbox
from drivers.mqtt.port import Message
from tests.fakes.clock import FakeClock

NOW = FakeClock().now()
WITHIN = 60.0  # s


def message(mid: int, qos: int = 1) -> Message:
    return Message(1, mid, qos, "t", b"5", False, NOW)


def mids(inbox: Inbox) -> list[int]:
    return [each.mid for each in inbox.take(1000)]


def test_messages_are_taken_in_the_order_of_their_arrival():
    """No more than asked for, and none twice."""
    inbox = Inbox(10)
    for number in range(5):
        inbox.put(message(number))
    assert [each.mid for each in inbox.take(3)] == [0, 1, 2]
    assert mids(inbox) == [3, 4]
    assert mids(inbox) == []


def test_a_full_inbox_throws_away_the_oldest_message_of_qos_0():
    """Counters make up for it with the next one; what is QoS 1 stays."""
    inbox = Inbox(3)
    for number, qos in enumerate([1, 0, 0, 1, 0]):
        inbox.put(message(number, qos))
    assert mids(inbox) == [0, 3, 4]
    assert inbox.dropped == 2


def test_a_full_inbox_holds_up_the_network_until_there_is_room(monkeypatch):
    """A broker such as mosquitto 2.0.11 sends more than the window of MQTT 3.1.1: the rest must wait at the broker."""
    monkeypatch.setattr(module, "HELD_UP_FOR", WITHIN)  # a busy machine may take its time to make room
    inbox = Inbox(2)
    network = Thread(target=lambda: [inbox.put(message(number)) for number in range(20)], daemon=True)
    network.start()
    taken: list[int] = []
    longest = 0
    while len(taken) < 20:
        longest = max(longest, len(inbox._waiting))
        taken += [each.mid for each in inbox.take(1)]
    network.join(WITHIN)
    assert taken == list(range(20))
    assert longest <= 2


def test_an_inbox_that_nobody_empties_does_not_stop_the_network_for_ever():
    """A line that is held up for long would die; the message is kept although there is no room."""
    inbox = Inbox(1)
    for number in range(2):
        inbox.put(message(number))
    assert mids(inbox) == [0, 1]
    assert inbox.dropped == 0
