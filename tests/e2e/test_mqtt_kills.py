"""Messages through a gateway that is killed and a broker that restarts; in full: scripts/mqtt-torture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.mosquitto import mosquitto
from tests.torture.mqtt_kills import KILLS, run, sent

pytestmark = pytest.mark.timeout(300)  # a machine that does other things too
MESSAGES = 6000


def test_five_kills_and_a_broker_that_restarts_cost_no_message_and_double_none(tmp_path: Path):
    """R3: every message is stored once, and the database holds it when its acknowledgement passes on the wire."""
    outcome = run(tmp_path, MESSAGES)
    assert outcome.faults == []
    assert outcome.again > KILLS  # the kills came while messages were under way


def test_messages_that_a_broker_left_unanswered_as_it_went_away_are_sent_again(tmp_path: Path):
    """The publisher of the test above, whose end would look like a gateway that stores nothing any more."""
    with mosquitto(tmp_path) as broker:

        def messages() -> Iterator[tuple[str, bytes]]:
            yield "site", b"1"
            broker.stop()
            yield from (("site", b"2") for _ in range(1000))

        assert not sent(broker, messages())
        broker.start()
        assert sent(broker, [("site", b"3")])
