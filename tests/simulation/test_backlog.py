"""A year of backlog, a few meters of it; scripts/backlog does the same with 200."""

from __future__ import annotations

import pytest

from gateway.enerkey.contract import Contract
from tests.simulation.backlog import Backlog, Drained
from tests.simulation.running import scratch
from tests.simulation.scenario import SEVERAL

PER_METER = {"40 000 a day": 200, "3 000 a day": 15}  # requests of the published limits, for one of 200 meters


def drained(meters: int, share: int, hours: int, contract: Contract | None = None) -> Drained:
    with scratch() as directory:
        backlog = Backlog(directory, meters, share=share, hours=hours, contract=contract)
        try:
            return backlog.drain()
        finally:
            backlog.close()


@pytest.mark.parametrize("contract", [Contract(), Contract(hourly_values=SEVERAL)], ids=["one", "several"])
def test_a_year_of_backlog_takes_thirteen_pushes_and_one_read_of_a_meter(contract: Contract):
    """R22 at 40 000 requests a day for 200 meters, and no live hour waits for it."""
    found = drained(4, 4 * PER_METER["40 000 a day"], 8760, contract)
    assert found.wrong == 0, found.told()
    assert found.pushes <= 13, found.told()
    assert found.reads == 1, found.told()
    assert found.refused == 0, found.told()
    assert found.latest < found.cadence == 1, found.told()


def test_where_the_day_is_short_the_backlog_takes_days_and_live_hours_wait_no_longer_for_it():
    """R22 at 3 000 requests a day for 200 meters: a cadence of 2 h, kept while the backlog drains with what is left."""
    found = drained(6, 6 * PER_METER["3 000 a day"], 2400)
    assert found.wrong == 0, found.told()
    assert found.pushes <= 5, found.told()
    assert found.most_in_a_day <= 6 * PER_METER["3 000 a day"], found.told()
    assert found.refused == 0, found.told()
    assert found.cadence == 2
    assert found.latest < 2.1, found.told()  # an hour that ends with a slot goes with the next one
    # One for the backlog, one for what grew old behind it (R19), and the daily audits.
    assert found.reads <= 2 + found.hours / 20, found.told()
