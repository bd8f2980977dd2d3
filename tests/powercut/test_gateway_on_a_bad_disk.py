"""The real gateway while its disk fails under it and works again: it recovers by itself, and keeps every promise meanwhile."""

from __future__ import annotations

import pytest

from tests.fakes import strace
from tests.powercut.recording import record
from tests.powercut.replay import replay
from tests.powercut.trace import read

pytestmark = pytest.mark.timeout(300)  # a machine that does other things too
FAULTS = [  # counted for each thread: no other than the writer's comes so far; after each failure somebody waits a moment
    "fdatasync:error=EIO:when=40..42",
    "pwrite64:error=ENOSPC:when=300..302",
    "pwrite64:error=EIO:when=333",
]
AHEAD = 4  # so that there are commits enough for each of them, also where the gateway is held up in the middle


@pytest.fixture(autouse=True)
def _traceable():
    strace.needed()


@pytest.mark.parametrize("fault", FAULTS)
def test_while_the_disk_fails_nothing_is_believed_and_afterwards_nothing_is_missing(tmp_path, fault):
    """R3, R12, R26, R27: without an operator and without a restart, also if the power fails meanwhile."""
    recording = record(tmp_path, per_meter=40, lives=1, faults=[fault], ahead=AHEAD)
    assert recording.wrong == []
    replayed = replay(recording, 60)
    assert replayed.good, [replayed.told, *replayed.early, *replayed.lost, *replayed.broken][:6]
    log = (tmp_path / "gateway.log").read_text()
    assert "a write failed; the database is opened again" in log
    assert "the database takes writes again" in log
    assert "Traceback" not in log


def test_a_process_that_dies_between_writing_and_syncing_leaves_nothing_unsynced_behind(tmp_path):
    """R3, R25: what the next process finds in the log and is delivered again is on the disk before it is acknowledged."""
    # in the second life: of the first one's syncs most belong to the birth of the database, in another thread
    kill = "fdatasync:signal=KILL:when=8"
    recording = record(tmp_path, per_meter=60, lives=3, faults=[kill], faulty_life=1, ahead=AHEAD)
    assert any(event.call.name == "fdatasync" and event.call.result is None for event in read(recording.logs))
    assert recording.wrong == []
    replayed = replay(recording, 60)
    assert replayed.good, [replayed.told, *replayed.early, *replayed.lost, *replayed.broken][:6]
