"""Several Modbus TCP connections with all their threads, as the service runs them, on meters that tell what they were asked.

For minutes instead of seconds:

    PYTHONPATH=. python -m tests.e2e.test_modbus_shared SECONDS [SEED [CONNECTIONS]]
"""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter, defaultdict
from random import Random

import pytest

from drivers.modbus import loop
from drivers.reading import Reading
from gateway.simulator.faults import KINDS, Fault
from tests.fakes.shared_service import Limits, SharedService
from tests.fakes.telling_meters import PLACES

BEGIN_AGAIN = ("counter-reset", "rollover")  # nothing is wrong with what they tell
MET = [kind for kind, what in KINDS.items() if "tcp" in what.on and kind not in BEGIN_AGAIN]
SHAKEN_FOR = 2.5  # s
FAULTS = 5  # at least
LATE = 0.2  # s, and in time
REQUESTS = 4  # to each device in a round
STOPS_WITHIN = 30.0  # s; longer than what is under way takes, on a machine that does other things too


def test_all_connections_are_polled_at_their_slots_and_stored_together(monkeypatch):
    """Four connections of two meters: a slot is one delivery, which speaks for all of them."""
    monkeypatch.setattr(loop, "TOGETHER", 30.0)  # a busy machine is no slow gateway
    with SharedService(connections=4, scale=10, poll="5s") as site:
        site.until(site.all_lent)
        before = len(site.store.batches)
        site.until(lambda: len(site.store.batches) >= before + 8)
        assert site.service.late() == []
        assert site.stop(STOPS_WITHIN)
    site.check()
    deliveries: dict[float, set[int]] = defaultdict(set)  # of each slot
    sizes: Counter[int] = Counter()
    for nth, batch in enumerate(site.store.batches[before : before + 8]):
        sizes[len(batch)] += 1
        for item in batch:
            deliveries[item.at.timestamp() // 5.0].add(nth)
    together = sum(len(each) == 1 for each in deliveries.values())
    assert together >= 0.7 * len(deliveries), deliveries  # but where the machine was busy with something else
    assert sizes.most_common(1)[0][0] == len(site.meters) * len(PLACES)
    assert site.store.notes == []


def test_a_silent_connection_holds_up_no_other_and_comes_back():
    """Each of its polls costs a timeout, as long as twenty polls of the others: they have had more polls than it timeouts."""
    with SharedService(connections=3, scale=10, poll="1s", hasty="2s", devices=1) as site:

        def timeouts() -> int:
            return site.drivers[0].health().counts["timeouts"]

        site.until(site.all_lent)
        site.lines[0].mute(1)
        site.until(lambda: timeouts() >= 1)
        passed, before = timeouts(), [site.polled(line) for line in range(3)]
        site.until(lambda: all(site.polled(line) >= before[line] + 10 for line in (1, 2)))
        passed = timeouts() - passed
        assert all(site.polled(line) - before[line] > passed for line in (1, 2))
        assert site.polled(0) == before[0]
        site.until(lambda: site.store.spoken_for[-1] == 2)
        site.lines[0].calm()
        site.until(site.all_lent)
        assert site.stop(STOPS_WITHIN)
    site.check()
    assert [level for level, *_ in site.store.notes] in ([], ["warning", "info"])


def test_a_connection_closed_between_two_polls_is_opened_anew_and_nobody_is_told():
    """As often as it happens."""
    with SharedService(connections=3, scale=10, poll="10s") as site:
        for times in (1, 2):
            site.until(site.all_lent)
            count = len(site.store.batches)
            site.until(lambda count=count: len(site.store.batches) > count)
            site.lines[0].hang_up()
            site.until(lambda times=times: site.drivers[0].health().counts["reconnects"] == times)
        site.until(site.all_lent)
        assert site.stop(STOPS_WITHIN)
    site.check()
    assert site.store.notes == []
    assert [driver.health().counts["reconnects"] for driver in site.drivers] == [2, 0, 0]
    assert max(site.polled(line) for line in range(3)) <= site.polled(0) + 1


def test_a_full_store_gets_everything_once_when_there_is_room_again():
    """In the order in which it was read; meanwhile every connection says what is wrong."""
    with SharedService(connections=3, scale=50, poll="5s") as site:
        site.until(site.all_lent)
        site.store.full = True
        site.until(lambda: site.store.refused >= 3)
        site.until(lambda: all(driver.health().state == "trouble" for driver in site.drivers))
        site.store.full = False
        site.until(site.all_lent)
        assert site.stop(STOPS_WITHIN)
    site.check()
    for source in {reading.source for reading in site.store.readings}:
        instants = [reading.at for reading in site.store.of(source)]
        assert instants == sorted(instants)


def test_a_store_that_hangs_delays_no_poll_and_whoever_hangs_is_seen_by_the_watchdog():
    """First the thread that stores, then the loop; nobody else, and no longer than it lasts."""
    with SharedService(connections=3, scale=10, poll="1s", limits=Limits(0.1, 0.4)) as site:
        site.until(site.all_lent)
        site.store.let_go.clear()
        site.until(lambda: site.service.late() == [site.storing.name])
        polls = [driver.health().counts["polls"] for driver in site.drivers]
        site.until(lambda: all(driver.health().counts["polls"] > polls[n] for n, driver in enumerate(site.drivers)))
        site.store.let_go.set()
        site.until(lambda: site.service.late() == [])
        with site.loop._lock:
            site.until(lambda: site.service.late() == [site.loop.name])
        site.until(lambda: site.service.late() == [])
        site.until(site.all_lent)
        assert site.stop(STOPS_WITHIN)
    site.check()


def test_a_stop_in_the_middle_of_a_round_ends_soon_and_delivers_what_was_read():
    """The device that is being asked is asked to its end, and the next one no more."""
    with SharedService(connections=4, scale=10, poll="5s") as site:
        site.until(site.all_lent)
        for line in site.lines:
            line.late(LATE, LATE)
            line.suffer(Fault("late", 1))
        asked = [driver.health().counts["requests"] for driver in site.drivers]
        site.until(lambda: all(driver.health().counts["requests"] > asked[n] for n, driver in enumerate(site.drivers)))
        looked = time.monotonic()
        asked = [driver.health().counts["requests"] for driver in site.drivers]
        site.service.stopping.set()
        for worker in (*site.drivers, site.loop, site.storing):
            worker.wake.set()
        meanwhile = (time.monotonic() - looked) / LATE  # until all were told the machine may have let some pass
        assert site.stop(STOPS_WITHIN)
        more = [driver.health().counts["requests"] - asked[n] for n, driver in enumerate(site.drivers)]
        assert max(more) <= REQUESTS + meanwhile, f"of the {2 * REQUESTS} of a round"
        assert not any(driver._bus.is_open for driver in site.drivers)
    site.check()
    newest = {item.source: item.at for item in site.store.readings}
    assert len(newest) == len(site.meters) * len(PLACES)


# --- at random --------------------------------------------------------------------------------------------------------


class Shaken:
    """A site to which something happens all the time."""

    def __init__(self, site: SharedService, seed: int) -> None:
        self.site = site
        self._chance = Random(seed)
        self.happened: Counter[str] = Counter()

    def shake(self, seconds: float) -> None:
        """For so long, and until something was wrong with the wire some times."""
        end = time.monotonic() + seconds
        while time.monotonic() < end or self.happened["fault"] < FAULTS:
            assert not self.site.service.failed
            assert self.site.service.late() == []
            self._once()
            time.sleep(self._chance.uniform(0.0, 0.08))

    def calm(self) -> None:
        """From now on all is as usual."""
        self.site.store.full, self.site.store.slow = False, 0.0
        for line in self.site.lines:
            line.calm()

    def _once(self) -> None:
        chance, store = self._chance, self.site.store
        line = chance.choice(self.site.lines)
        what = chance.choice(
            ["fault"] * 8 + ["calm"] * 8 + ["mute", "hang up", "vanish", "restart", "full", "slow", "stored"]
        )
        self.happened[what] += 1
        if what == "fault":
            kind, device = chance.choice(MET), chance.choice([None, *(meter.device for meter in line.meters)])
            self.happened[kind] += 1
            line.suffer(Fault(kind, chance.choice([1, 2, 3, 10]), device))
        elif what == "calm":
            line.calm()
        elif what == "mute":
            line.mute(chance.choice(line.meters).device)
        elif what == "hang up":
            line.hang_up()
        elif what == "vanish" and not line.gone:
            line.vanish()
        elif what == "restart":
            line.restart()
        elif what in {"full", "slow", "stored"}:
            store.full = what == "full"
            store.slow = chance.uniform(0.0, 0.3) if what == "slow" else 0.0


def shaken(seconds: float, seed: int, *, calm: bool, connections: int = 6) -> Shaken:
    """So many connections live through it; a stop in the middle of it, unless they are left to recover before."""
    with SharedService(connections, scale=600, poll="60s", timeout="60ms") as site:
        shaken = Shaken(site, seed)
        shaken.shake(seconds)
        if calm:
            shaken.calm()
            at = site.clock.now().wall
            recovered = {meter.device: len(PLACES) for meter in site.meters}
            site.until(site.all_lent)
            site.until(lambda: newer(site, at) == recovered)
        site.store.full = False
        assert site.stop(STOPS_WITHIN)
    site.check()
    return shaken


def newer(site: SharedService, at) -> dict[int, int]:
    """Of how many registers of each device a reading has come since."""
    sources = {
        item.source for batch in site.store.batches for item in batch if isinstance(item, Reading) and item.at > at
    }
    return dict(Counter(int(source.split("/")[0]) for source in sources))


@pytest.mark.parametrize(("seed", "calm"), [(1, True), (2, False)])
def test_whatever_happens_no_value_is_wrong_or_lost_every_connection_recovers_and_all_threads_end(
    seed: int, calm: bool
):
    """R2, R3: faults of the wire, gateways that vanish, a store that is full or slow, all at once."""
    assert shaken(SHAKEN_FOR, seed, calm=calm).happened["fault"] >= FAULTS


if __name__ == "__main__":
    logging.disable()
    seconds = float(sys.argv[1])
    seed, connections = (*map(int, sys.argv[2:]), *(0, 6)[len(sys.argv) - 2 :])
    while seconds > 0:
        began = time.monotonic()
        lived = shaken(min(seconds, 20.0), seed, calm=bool(seed % 2), connections=connections)
        print(
            seed, f"{time.monotonic() - began:.1f} s", lived.site.store.stored.total(), "readings", dict(lived.happened)
        )
        seconds, seed = seconds - 20.0, seed + 1
