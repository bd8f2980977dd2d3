"""What the loop reads on its way to the store: in order, bounded, each reading once. No threads: whoever is told delivers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import NotStored
from drivers.modbus.storing import ALL_KEPT, KEPT, TRY_AGAIN, Batch, Storing
from drivers.reading import Rejected
from tests.fakes.clock import START, FakeClock

HALF = KEPT // 2 + 1
WITHIN = 60.0  # s for a thread to end, on a machine that does other things too


class Teller:
    """A connection that notes what becomes of its readings."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard: list[str] = []

    def told(self, not_stored: str) -> None:
        self.heard.append(not_stored)


class Site:
    """A store that takes all, unless it is `full` or `broken`; `meanwhile` is done while it takes its time."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.full = self.broken = False
        self.meanwhile: Callable[[], None] = lambda: None
        self.asked: list[list[str]] = []  # of each delivery its connections
        self.connections: list[int] = []
        self.offered: dict[str, set[int]] = defaultdict(set)
        self.stored: dict[str, list[int]] = defaultdict(list)
        self.east, self.west = Teller("east"), Teller("west")
        self.storing = Storing(self._deliver)

    def put(self, driver: Teller, *numbers: int, connections: int = 2) -> None:
        self.storing.put([Batch(driver, [numbered(each) for each in numbers])], connections)

    def step(self) -> float | None:
        """As its thread does when it is woken."""
        self.storing.wake.clear()
        return self.storing.step(self.clock.now())

    def later(self) -> float | None:
        """The same when the time to try again has come."""
        self.clock.advance(TRY_AGAIN)
        return self.step()

    def _deliver(self, batches: Sequence[tuple[str, Sequence[Rejected]]], connections: int) -> None:
        self.asked.append([name for name, _ in batches])
        self.connections.append(connections)
        for name, batch in batches:
            self.offered[name] |= {int(each.reason) for each in batch}
        self.meanwhile()
        if self.broken:
            raise ValueError("poison")
        if self.full:
            raise NotStored("disk full")
        for name, batch in batches:
            self.stored[name] += [int(each.reason) for each in batch]


@cache
def numbered(number: int) -> Rejected:
    return Rejected("a", START, str(number))


@pytest.fixture
def site() -> Site:
    return Site()


def test_all_that_has_come_is_one_delivery_each_connection_in_its_order(site: Site):
    """Also what has come in several parts; it speaks for the connections of the newest."""
    site.put(site.east, 1, 2, connections=2)
    site.put(site.west, 7, connections=2)
    site.put(site.east, 3, connections=1)
    assert site.storing.wake.is_set()
    assert site.step() is None
    assert site.asked == [["east", "west"]]
    assert site.connections == [1]
    assert site.stored == {"east": [1, 2, 3], "west": [7]}
    assert site.east.heard == site.west.heard == [""]


def test_where_nothing_has_come_the_store_is_not_asked(site: Site):
    """Its thread wakes now and then all the same."""
    assert site.step() is None
    site.storing.close()
    assert site.asked == []


def test_what_is_not_stored_is_offered_again_before_what_came_later(site: Site):
    """Nothing is lost, nothing is twice, and the order stays; each connection hears what became of its own."""
    site.full = True
    site.put(site.east, 1, 2)
    assert site.step() == site.clock.boottime + TRY_AGAIN
    site.full = False
    site.put(site.west, 7)
    site.put(site.east, 3)
    assert site.later() is None
    assert site.stored == {"east": [1, 2, 3], "west": [7]}
    assert site.east.heard == ["disk full", ""]
    assert site.west.heard == [""]


def test_what_comes_while_the_store_is_at_work_follows_in_order(site: Site):
    """The store is slow, and refuses at last."""
    site.full = True
    site.put(site.east, 1)
    site.meanwhile = lambda: site.put(site.east, len(site.asked) + 1)
    site.step()
    assert site.storing.wake.is_set()
    site.full, site.meanwhile = False, lambda: None
    site.later()
    assert site.stored == {"east": [1, 2]}


def test_whoever_delivers_for_a_connection_from_now_on_takes_what_waits_of_it(site: Site):
    """Once, in its order, and nothing of others."""
    site.full = True
    site.put(site.east, 1)
    site.put(site.west, 7)
    site.step()
    site.put(site.east, 2)
    assert [each.reason for each in site.storing.take("east")] == ["1", "2"]
    assert site.storing.take("east") == ()
    site.full = False
    site.later()
    assert site.stored == {"west": [7]}


def test_what_is_being_stored_is_waited_for_before_it_is_taken(site: Site):
    """It may be refused, and is then older than what its connection reads next."""
    site.full = True
    taken: list[Sequence[Rejected]] = []
    taking = Thread(target=lambda: taken.append(site.storing.take("east")))

    def take_meanwhile() -> None:
        assert site.storing.take("west") == ()
        taking.start()
        taking.join(0.05)
        assert taken == []

    site.meanwhile = take_meanwhile
    site.put(site.east, 1)
    site.step()
    taking.join(WITHIN)
    assert [each.reason for each in taken[0]] == ["1"]


def test_a_store_that_takes_nothing_is_not_asked_at_each_poll(site: Site):
    """All that waits would be gone through each time."""
    site.full = True
    for number in range(100):
        site.put(site.east, number)
        due = site.step()
        site.clock.advance(1.0)
    assert len(site.asked) == 100 / TRY_AGAIN
    assert due <= site.clock.boottime + TRY_AGAIN
    site.full = False
    site.later()
    assert site.stored["east"] == list(range(100))


def test_whatever_is_read_is_offered_once_before_it_must_go(site: Site):
    """R27: what hours need of it is kept elsewhere, for longer."""
    site.full = True
    site.put(site.west, 7)
    site.step()
    for begin in range(0, 4 * HALF, HALF):
        site.put(site.east, *range(begin, begin + HALF))
        site.step()
    assert site.offered["east"] == set(range(4 * HALF))
    assert len(site.asked) == 3


def test_what_waits_while_the_store_takes_nothing_is_bounded(site: Site):
    """The newest stay: a counter's newest value covers the older ones."""
    site.full = True
    for begin in range(0, 4 * HALF, HALF):
        site.put(site.east, *range(begin, begin + HALF))
        site.later()
    site.full = False
    site.later()
    assert site.stored["east"] == list(range(4 * HALF - KEPT, 4 * HALF))


def test_many_connections_share_what_may_wait(site: Site):
    """A full disk must not end the process for want of memory; the newest of each stay."""
    drivers = [Teller(str(number)) for number in range(100)]
    site.full = True
    for begin in range(0, 2 * KEPT, 500):
        for driver in drivers:
            site.put(driver, *range(begin, begin + 500))
        site.later()
    assert all(site.offered[driver.name] == set(range(2 * KEPT)) for driver in drivers)
    site.full = False
    site.later()
    share = ALL_KEPT // len(drivers)
    assert all(site.stored[driver.name] == list(range(2 * KEPT - share, 2 * KEPT)) for driver in drivers)


def test_what_waits_while_the_store_is_slow_is_bounded(site: Site):
    """A card may hang for minutes: meanwhile all connections go on reading."""

    def read_on() -> None:
        site.meanwhile = lambda: None
        for begin in range(1, 4 * HALF, HALF):
            site.put(site.east, *range(begin, begin + HALF))

    site.meanwhile = read_on
    site.put(site.east, 0)
    site.step()
    site.step()
    assert site.stored["east"] == [0, *range(3 * HALF + 1 - KEPT, 4 * HALF + 1)]


def test_the_end_is_a_last_attempt(site: Site):
    """Whatever the time is; a second close finds nothing to do."""
    site.full = True
    site.put(site.east, 1)
    site.step()
    site.full = False
    site.storing.close()
    site.storing.close()
    assert site.stored == {"east": [1]}
    assert len(site.asked) == 2


def test_what_comes_after_the_end_is_stored_at_once(site: Site):
    """The loop may end later than this."""
    site.storing.close()
    site.put(site.east, 1)
    assert site.stored == {"east": [1]}


def test_close_does_not_fail_where_the_store_does(site: Site):
    """Its thread would never be counted as ended."""
    site.full = True
    site.put(site.east, 1)
    site.storing.close()
    assert site.east.heard == ["disk full"]
    site.broken = True
    site.put(site.east, 2)


def test_what_is_wrong_with_a_batch_ends_the_thread_and_not_its_end(site: Site):
    """The others are stored by `deliver_together`; the same batch once more would bring the same."""
    site.broken = True
    site.put(site.east, 1)
    with pytest.raises(ValueError, match="poison"):
        site.step()
    site.storing.close()
    assert len(site.asked) == 1
    assert site.east.heard == []


class Alone:
    """What a driver keeps that stores by itself: a batch that is refused waits before the next one."""

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.stored: list[int] = []

    def read(self, numbers: Sequence[int], *, full: bool) -> None:
        self.waiting += numbers
        if full:
            self.waiting = self.waiting[-KEPT:]
        else:
            self.stored += self.waiting
            self.waiting = []


POLL = st.tuples(st.sampled_from(["east", "west"]), st.sampled_from([1, 2, HALF, KEPT]), st.booleans())


@settings(max_examples=50, deadline=None)
@given(st.lists(POLL, max_size=8))
def test_nothing_is_lost_that_the_driver_alone_would_have_kept(polls: list[tuple[str, int, bool]]):
    """Whatever the order of refusals, each connection's readings reach the store as if its driver had delivered them."""
    site, count = Site(), 0
    alone = {"east": Alone(), "west": Alone()}
    for name, size, full in polls:
        site.full = full
        site.put({"east": site.east, "west": site.west}[name], *range(count, count + size))
        site.later()
        for each, driver in alone.items():
            driver.read(range(count, count + size) if each == name else (), full=full)
        count += size
    for name, driver in alone.items():
        assert site.stored[name] == driver.stored
