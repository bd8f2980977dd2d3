"""The real Modbus driver on simulated lines on which everything goes wrong that does in buildings.

The meters' registers tell whose they are and which request they answer, so no wrong value goes unseen.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.simulator.faults import KINDS, Fault
from tests.fakes.telling_meters import PLACES, TIMEOUT, TRANSPORTS, telling_line

POLL = 10.0  # s, on the clock of the polls
POLLS = 2
FAULTY, OTHER = 2, 1
LONGEST_PAUSE = 30  # polls, within which everything that rests is asked for again


@pytest.mark.parametrize("kind", [kind for kind, facts in KINDS.items() if facts.spoil])
def test_a_fault_stores_no_wrong_value_keeps_the_others_and_ends_by_itself(kind):
    """On TCP, on RTU through a serial server and on a serial port, at the same time since each mostly waits.

    One device of two meets it at every second answer, then at each, then no more; nothing is restarted.
    """
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda transport: live_through(kind, transport), transports_of(kind)))


def transports_of(kind: str) -> list[str]:
    return [transport for transport in TRANSPORTS if transport in KINDS[kind].on]


def live_through(kind: str, transport: str) -> None:
    """One line's life."""
    with telling_line(transport) as line:
        line.simulator.line.late = (TIMEOUT * 1.1, TIMEOUT * 4)
        for every in (2, 1):
            before = line.store.stored.copy()
            line.simulator.faults = [Fault(kind, every, FAULTY)]
            line.run(POLLS * POLL)
            polled = (line.store.stored[OTHER] - before[OTHER]) / len(PLACES)
            assert polled >= POLLS - 1, f"{transport}: the other device was read {polled} times in {POLLS} polls"
        line.simulator.faults = []
        assert any(line.reads_all(POLL) for _ in range(LONGEST_PAUSE)), f"{transport}: {line.driver.health()}"
        assert not line.store.wrong, transport
