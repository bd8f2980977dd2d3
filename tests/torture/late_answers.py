"""Read meters that are late again and again, by every length that matters, and count the values that are not theirs.

The hardest case is the last one: the answer comes when the next request to the same device is out, and looks exactly
like its answer. On RTU nothing in the frame tells them apart.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from gateway.simulator.faults import Fault
from tests.fakes.telling_meters import DRAIN, TIMEOUT, telling_line

POLL = 10.0  # s, on the clock of the polls
EVERY = 7  # answers of each device, of which one is late
LATE = (
    (TIMEOUT, TIMEOUT * 1.1),  # just after the gateway has given up
    (TIMEOUT, TIMEOUT + DRAIN),  # while it discards what comes
    (TIMEOUT + DRAIN, TIMEOUT + DRAIN + 0.02),  # just after that, when the next request goes out
    (TIMEOUT + DRAIN, 2 * (TIMEOUT + DRAIN)),  # while the next request is out
    (2 * (TIMEOUT + DRAIN), 5 * (TIMEOUT + DRAIN)),  # after several requests
)


class Outcome(NamedTuple):
    """What became of the reads of one line."""

    transport: str
    reads: int  # requests that the meters heard
    timeouts: int
    stored: int  # values
    wrong: list[str]
    recovered: bool  # whether every value was read in one poll at the end, when no answer was late any more


def run(transport: str, reads: int, seed: int = 1) -> Outcome:
    """At least so many reads."""
    chance = Random(seed)
    with telling_line(transport) as line:
        simulated = line.simulator.line
        simulated.chance = Random(seed)
        line.simulator.faults = [Fault("late", EVERY)]
        while simulated.heard < reads:
            simulated.late = chance.choice(LATE)
            line.run(POLL)
        line.simulator.faults = []
        recovered = line.recovers(POLL)
        return Outcome(
            transport,
            simulated.heard,
            line.driver.health().counts["timeouts"],
            sum(line.store.stored.values()),
            line.store.wrong,
            recovered,
        )
