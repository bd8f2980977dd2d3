"""The power fails at any moment of a gateway's life: it opens again, and what it told the world is there."""

from __future__ import annotations

import pytest

from tests.fakes import strace
from tests.powercut.disk import Disk, found
from tests.powercut.recording import Recording, record
from tests.powercut.replay import Replayed, replay
from tests.powercut.trace import read

pytestmark = pytest.mark.timeout(300)  # a machine that does other things too
CUTS = 500


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Recording:
    """The gateway as it is."""
    strace.needed()
    return record(tmp_path_factory.mktemp("recorded"))


def said(replayed: Replayed, recording: Recording) -> str:
    """For whoever has to find out; scripts/powercut --again replays it."""
    wrong = [*replayed.early, *replayed.lost, *replayed.broken]
    return "\n".join([replayed.told, f"in {recording.data.parent}", *map(str, wrong[:10])])


def test_whenever_the_power_fails_nothing_is_lost_that_was_acknowledged_or_sent(recording):
    """R3, R8, R12, R25: no PUBACK and no POST byte before its covering sync; every image opens, whole, with all of it."""
    replayed = replay(recording, CUTS)
    assert recording.wrong == [], "the recorded gateway itself was wrong"
    assert replayed.good, said(replayed, recording)
    assert replayed.acknowledged > 700, "the recording says too little"
    assert replayed.pushed > 10
    assert replayed.syncs > 100


def test_the_disk_that_is_cut_is_the_one_that_was_written(recording):
    """What the model holds at the end, all synced, is byte for byte what lies in the data directory."""
    disk = Disk(recording.data)
    for event in read(recording.logs):
        disk.take(event)
    there = found(recording.data)
    assert disk.image()["buffer.db"] == there["buffer.db"]
    assert there.keys() == {"buffer.db", "buffer.db.outline", "buffer.lock", "buffer.ballast"}


def test_a_cut_amid_a_checkpoint_or_when_the_log_begins_anew_loses_nothing(tmp_path):
    """R25: pages are on their way from the log into the file, and the log is written from its start again."""
    strace.needed()
    recording = record(tmp_path, per_meter=40, module="tests.powercut.checkpointing")
    syncs = [event.call.place().name for event in read(recording.logs) if event.call.name == "fdatasync"]
    assert sum(name.endswith("buffer.db") for name in syncs) > 12, "checkpoints, and not only at the end"
    replayed = replay(recording, 150)
    assert replayed.good, said(replayed, recording)


def test_a_disk_that_only_says_that_it_syncs_is_told_apart(recording):
    """The replay sees what it is made to see: with a device that ignores every sync it finds losses."""
    replayed = replay(recording, 20, lying=True)
    assert replayed.early
    assert replayed.lost


def test_a_store_that_does_not_sync_its_commits_is_caught(tmp_path):
    """The same replay of a gateway with synchronous=NORMAL: acknowledged readings and sent messages are lost, nothing breaks."""
    strace.needed()
    recording = record(tmp_path, per_meter=40, module="tests.powercut.planted")
    replayed = replay(recording, 50)
    assert not replayed.broken, said(replayed, recording)
    assert any("site/" in wrong.what for wrong in replayed.early)
    assert any("intent" in wrong.what for wrong in replayed.early)
    assert replayed.lost
