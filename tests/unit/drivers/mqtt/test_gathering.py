"""When a batch is stored: few commits where messages come one by one, at once where the broker would wait."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.mqtt.gathering import AT_ONCE, INFINITY, QUIET_AT_MOST, Gathering
from drivers.mqtt.port import Message
from tests.fakes.clock import FakeClock

PATIENCE = 8.0
MOST = 500
NOW = FakeClock().now()


def message(boottime: float, qos: int = 1) -> Message:
    return Message(1, 1, qos, "heat", b"1", retain=False, arrived=NOW._replace(boottime=boottime))


def gathering(window: int = MOST, usual: int | None = None) -> Gathering:
    made = Gathering(PATIENCE, MOST)
    made.window(window, usual)
    return made


class Broker:
    """Sends messages in order, `window` of them ahead of their acknowledgements; a driver of its own stores and acknowledges.

    Everything takes no time but waiting.
    """

    def __init__(self, window: int, assumed: int, usual: int | None = None):
        self.window, self.gathering = window, gathering(assumed, usual)
        self.commits: list[int] = []
        self.waits: list[float] = []

    def run(self, published: list[float]) -> None:
        waiting, now, under_way = sorted(published), 0.0, []
        while waiting or under_way:
            while waiting and waiting[0] <= now and len(under_way) < self.window:
                under_way.append(waiting.pop(0))
                self.gathering.add(message(now))
            due = self.gathering.due(hurry=False)
            if due <= now:
                self.commits.append(len(under_way))
                self.waits += [now - each for each in under_way]
                under_way.clear()
                self.gathering.stored(now)
                now += 0.001
                continue
            now = min(due, waiting[0] if waiting and len(under_way) < self.window else INFINITY)


def test_messages_that_come_one_by_one_are_stored_together():
    """200 meters at 60 s: a commit every 8 s and not one for each message (a page of 4 KiB each)."""
    broker = Broker(window=1000, assumed=500)
    broker.run([number * 0.3 for number in range(2000)])
    assert len(broker.commits) < 2000 * 0.3 / PATIENCE + 2
    assert max(broker.waits) <= PATIENCE + 0.001


@pytest.mark.parametrize("window", [1, 5, 10, 20, 32])
def test_a_broker_with_a_window_of_its_own_never_waits_for_long(window: int):
    """Facts 2.2: 1, 10, 20 or 32 in flight, and it does not say so; what it holds back comes within two patiences."""
    broker = Broker(window, assumed=500)
    broker.run([number * 0.3 for number in range(2000)])
    assert sum(broker.commits) == 2000
    assert max(broker.waits) <= 2 * PATIENCE + 1


@pytest.mark.parametrize("window", [1, 10, 20, 1000])
def test_a_flood_is_taken_at_the_brokers_pace(window: int):
    """Thousands that waited at the broker: at most one patience is spent to learn its window."""
    broker = Broker(window, assumed=500)
    broker.run([0.0] * 5000)
    assert max(broker.waits) <= PATIENCE + 0.001 * len(broker.commits) + 2 * AT_ONCE
    assert len(broker.commits) <= 5000 / min(window, 500) + 2


def test_the_window_of_mqtt_3_1_1_is_not_waited_out():
    """As many as fill half of it are stored at once."""
    made = gathering(window=10)
    for _ in range(9):
        made.add(message(5.0))
    assert made.due(hurry=False) == 5.0 + PATIENCE
    made.add(message(5.0))
    assert made.due(hurry=False) == -INFINITY


@pytest.mark.parametrize("window", [1, 5, 10, 20, 32, 100])
def test_a_broker_of_3_1_1_with_any_window_is_not_kept_waiting(window: int):
    """20 is what most have: one that stopped there waits for a moment only, the others as with MQTT 5."""
    broker = Broker(window, assumed=500, usual=20)
    broker.run([number * 0.3 for number in range(2000)])
    assert sum(broker.commits) == 2000
    assert max(broker.waits) <= (20 * 0.3 + QUIET_AT_MOST + 0.01 if window == 20 else 2 * PATIENCE + 1)
    flooded = Broker(window, assumed=500, usual=20)
    flooded.run([0.0] * 4800)
    learned = AT_ONCE if window >= 20 else PATIENCE
    assert max(flooded.waits) <= learned + 0.001 * len(flooded.commits) + 2 * AT_ONCE


def test_a_broker_of_3_1_1_with_a_wide_window_is_gathered_from_as_one_of_5():
    """Random meters: nearly every batch is as long as the patience."""
    chance = random.Random(7)
    published = [chance.uniform(0, 600) for _ in range(6000)]
    broker = Broker(window=1000, assumed=500, usual=20)
    broker.run(published)
    assert len(broker.commits) < 1.35 * 600 / PATIENCE


def test_a_limit_that_was_learned_is_kept_until_the_next_batch():
    """Messages of one batch may come in several looks."""
    made = gathering()
    for _ in range(10):
        made.add(message(5.0))
    made.stored(5.1)
    for _ in range(9):
        made.add(message(5.15))
        assert made.due(hurry=False) != -INFINITY
    made.add(message(5.15))
    assert made.due(hurry=False) == -INFINITY


def test_messages_of_qos_0_fill_the_batch_but_not_the_window():
    """Nobody waits for their acknowledgement."""
    made = gathering(window=10)
    for _ in range(MOST - 1):
        made.add(message(5.0, qos=0))
    assert made.due(hurry=False) == 5.0 + PATIENCE
    assert made.room == 1
    made.add(message(5.0, qos=0))
    assert made.due(hurry=False) == -INFINITY


def test_in_a_hurry_little_is_waited_for():
    """What comes after a reconnection is stored soon."""
    made = gathering()
    made.add(message(5.0))
    assert made.due(hurry=True) == 5.0 + AT_ONCE


def test_nothing_is_due_while_nothing_waits():
    """And a batch that was stored begins the next one."""
    made = gathering()
    assert made.due(hurry=True) == INFINITY
    made.add(message(5.0))
    made.stored(13.0)
    assert made.due(hurry=True) == INFINITY
    assert made.room == MOST


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 1), st.booleans()), max_size=60), st.integers(1, 40))
def test_no_message_waits_longer_than_the_patience(steps: list[tuple[float, int, bool]], window: int):
    """Whatever came before; and never are so many waiting that the window is full and nothing is due."""
    made, now, first, waiting = gathering(window), 0.0, INFINITY, 0
    for seconds, qos, stored in steps:
        now += seconds
        made.add(message(now, qos))
        first, waiting = min(first, now), waiting + qos
        assert made.due(hurry=False) <= first + PATIENCE
        assert waiting < window or made.due(hurry=False) == -INFINITY
        if stored:
            made.stored(now)
            first, waiting = INFINITY, 0
