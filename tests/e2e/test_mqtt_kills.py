"""Messages through a gateway that is killed and a broker that restarts; in full: scripts/mqtt-torture."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.mqtt_kills import KILLS, run

pytestmark = pytest.mark.timeout(300)  # a machine that does other things too
MESSAGES = 6000


def test_five_kills_and_a_broker_that_restarts_cost_no_message_and_double_none(tmp_path: Path):
    """R3: every message is stored once, and the database holds it when its acknowledgement passes on the wire."""
    outcome = run(tmp_path, MESSAGES)
    assert outcome.faults == []
    assert outcome.again > KILLS  # the kills came while messages were under way
