"""Late answers of every length: a short run of what `scripts/late-answers` does 10 000 times on each kind of line."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.fakes.telling_meters import TRANSPORTS
from tests.torture.late_answers import run

READS = 200


def test_no_late_answer_is_ever_taken_for_another_one():
    """Whenever it comes, on all three at once; and no line needs a restart."""
    with ThreadPoolExecutor() as threads:
        for outcome in threads.map(lambda transport: run(transport, READS), TRANSPORTS):
            assert not outcome.wrong, outcome.transport
            assert outcome.timeouts >= READS / 20
            assert outcome.recovered, outcome.transport
