"""The real Modbus driver on simulated lines on which everything goes wrong that does in buildings.

The meters' registers tell whose they are and which request they answer, so no wrong value goes unseen.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count, pairwise
from time import monotonic

import pytest

from buffer.counter import CounterRule, judge
from buffer.model import MICRO, from_ms
from gateway.simulator.faults import KINDS, UNASKED, Fault
from tests.fakes.telling_meters import PLACES, TIMEOUT, TRANSPORTS, lone_meter, telling_line, wire_of
from tests.waiting import SOON

POLL = 10.0  # s, on the clock of the polls
POLLS = 2
MOST_POLLS = 8  # in which the other device is read this often, though a stray answer may spoil a poll of its own
FAULTY, OTHER = 2, 1
BEGIN_AGAIN = ("counter-reset", "rollover")
FULL = 1_000_000 * MICRO  # of the meter's unit, where its counter begins again


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in BEGIN_AGAIN])
def test_a_fault_stores_no_wrong_value_keeps_the_others_and_ends_by_itself(kind):
    """On TCP, on RTU through a serial server and on a serial port, at the same time since each mostly waits.

    One device of two meets it at every second answer, then at each, then no more; nothing is restarted.
    """
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda transport: live_through(kind, transport), transports_of(kind)))


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", BEGIN_AGAIN)
def test_a_counter_that_begins_again_moves_no_energy_that_was_not_used(kind, transport):
    """The driver tells what the meter shows, and the counter's judgement knows what it means (R9).

    What was used between the last reading before a reset and the first after it nobody can know; more is never missing,
    and nothing is made up.
    """
    with lone_meter(transport) as lone:
        lone.simulator.faults = [Fault("rollover")] if kind == "rollover" else []
        samples = lone.read(20)  # over an edge: what came before a first edge would be the glitch
        if kind == "counter-reset":
            lone.simulator.faults = [Fault(kind, every=1)]
        samples += lone.read(1)
        lone.simulator.faults = lone.simulator.faults if kind == "rollover" else []
        samples += lone.read(35)
    assert sum(after < before for (_, before), (_, after) in pairwise(samples)) == 1
    rule = CounterRule(400 * MICRO, lone.meter.model.energy.step, rollover=FULL, reset="zero")
    judged = judge(samples, None, rule)
    (verdict,) = judged.verdicts
    assert verdict.kind == {"counter-reset": "reset", "rollover": "rollover"}[kind]
    begun, ended = (lone.meter.load.register(from_ms(at)) for at, _ in (samples[0], samples[-1]))
    used, booked = ended - begun, judged.good[-1][1] - judged.good[0][1]
    unknown = 2 * used // len(samples) if kind == "counter-reset" else 0
    assert used - unknown - lone.meter.model.energy.step <= booked <= used + lone.meter.model.energy.step


def transports_of(kind: str) -> list[str]:
    return [transport for transport in TRANSPORTS if wire_of(transport) in KINDS[kind].on]


def live_through(kind: str, transport: str) -> None:
    """One line's life."""
    keys = {}
    if kind == "unasked" and wire_of(transport) != "tcp":
        # known by the real answer, which follows within the gap, as RTU has one; and as usual the line rests
        # between two polls, so that not all of one device's stray answers meet the other one
        keys = {"gap": "40ms", "rest": UNASKED[1]}
    with telling_line(transport, **keys) as line:
        line.simulator.line.late = (TIMEOUT * 1.1, TIMEOUT * 4)
        for every in (2, 1):
            before = line.store.stored.copy()
            line.simulator.faults = [Fault(kind, every, FAULTY)]
            end = monotonic() + SOON  # a meter that the machine keeps from answering misses polls that take no time
            for polls in count(1):
                line.run(POLL)
                read = (line.store.stored[OTHER] - before[OTHER]) / len(PLACES)
                if polls >= POLLS and read >= POLLS - 1:
                    break
                late = polls >= MOST_POLLS and monotonic() > end
                assert not late, f"{transport}: the other device was read {read} times in {polls} polls"
        line.simulator.faults = []
        assert line.recovers(POLL), f"{transport}: {line.driver.health()}"
        assert not line.store.wrong, transport
