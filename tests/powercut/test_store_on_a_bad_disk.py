"""A store's process under strace, with syncs that fail or never happen: what it acknowledges is on the disk (R3, R25, R26)."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from buffer.store import DATABASE, Store
from tests.fakes import strace
from tests.powercut.disk import Disk, found, lay_down
from tests.powercut.trace import read

ROUNDS = 12
PROCESS = """
import os, sys
from pathlib import Path
from buffer.store import DATABASE, Store, StoreError, read_only
directory, looking = Path(sys.argv[1]), sys.argv[2] == "looking"
store = Store(directory, threaded=False)

def put(number):
    # as a reading that is delivered twice: what is there already changes nothing
    store.write(lambda db: db.execute("INSERT INTO meta VALUES (?, 'x') ON CONFLICT DO NOTHING", (f"{number:05}",)))

def put_while_somebody_looks(number):
    with read_only(directory / DATABASE) as reader:
        reader.execute("SELECT count(*) FROM meta").fetchone()
        put(number)

for number in range(int(sys.argv[3])):
    while True:
        try:
            put_while_somebody_looks(number) if looking else put(number)
            break
        except StoreError:
            pass
    os.write(1, b"ACK %d" % number)
os._exit(0)  # without the checkpoint of an orderly end
"""


@pytest.fixture(autouse=True)
def _traceable():
    strace.needed()


@pytest.fixture
def data(tmp_path):
    """A database at rest."""
    (tmp_path / "data").mkdir()
    Store(tmp_path / "data", threaded=False).close()
    return tmp_path / "data"


def live(data: Path, log: Path, *fault: str, looking: bool = False, rounds: int = ROUNDS) -> int:
    """One life of the process; its exit code."""
    words = [sys.executable, "-c", PROCESS, str(data), "looking" if looking else "alone", str(rounds)]
    done = subprocess.run([*strace.tracing(log, *fault), *words], capture_output=True, check=False, timeout=60)
    strace.wait_for_end(log)
    return done.returncode


def keys(image: dict[str, bytes], directory: Path) -> set[int]:
    """What a plain SQLite finds after the cut."""
    directory.mkdir()
    lay_down(image, directory)
    with closing(sqlite3.connect(directory / DATABASE)) as db:
        db.execute("PRAGMA synchronous = OFF")  # this image is looked at once
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {int(key) for (key,) in db.execute("SELECT key FROM meta")}


def broken_promises(tmp_path: Path, before: dict[str, bytes], *logs: Path) -> list[int]:
    """Numbers that were acknowledged and not there if the power went right then, or at any of some later points."""
    disk, random = Disk(tmp_path / "data", before), Random(1)
    acknowledged: set[int] = set()
    broken = set()
    for index, event in enumerate(read(logs)):
        said = event.call.name == "write" and event.when == "begin" and event.call.place().fd == 1
        if said:
            acknowledged.add(int(event.call.data().removeprefix(b"ACK ")))
            broken |= acknowledged - keys(disk.image(), tmp_path / f"least-{index}")
        elif random.random() < 0.1:
            broken |= acknowledged - keys(disk.image(random), tmp_path / f"torn-{index}")
        disk.take(event)
    assert acknowledged == set(range(max(acknowledged) + 1))
    return sorted(broken)


def test_a_disk_that_works_keeps_what_was_acknowledged(tmp_path, data):
    """The same process without a fault, so that the others say something; the image at its end is what is really there."""
    before = found(data)
    assert live(data, tmp_path / "log") == 0
    assert broken_promises(tmp_path, before, tmp_path / "log") == []
    disk = Disk(data, before)
    for event in read([tmp_path / "log"]):
        disk.take(event)
    there = {name: content for name, content in found(data).items() if not name.endswith("-shm")}
    assert disk.image() | {"buffer.lock": b""} == there | {"buffer.lock": b""}, "the disk is not what it was made from"


@pytest.mark.parametrize("looking", [False, True])
@pytest.mark.parametrize("fault", ["when=2", "when=3", "when=3..4", "when=3..6", "when=3+2"])
def test_a_sync_that_fails_is_not_made_good_by_the_next_one(tmp_path, data, fault, looking):
    """R26: after the error the kernel calls the pages clean; only writing them again brings them to the disk."""
    before = found(data)
    assert live(data, tmp_path / "log", f"fdatasync:error=EIO:{fault}", looking=looking) == 0
    assert broken_promises(tmp_path, before, tmp_path / "log") == []


@pytest.mark.parametrize("when", [1, 2, 5])
def test_what_a_killed_process_wrote_and_never_synced_is_synced_before_it_is_believed(tmp_path, data, when):
    """R3, R25: the next process finds it in the log, changes nothing, and must not acknowledge it for that."""
    before = found(data)
    logs = [tmp_path / "log-1", tmp_path / "log-2"]
    assert live(data, logs[0], f"fdatasync:signal=KILL:when={when}") == -9
    assert live(data, logs[1]) == 0
    assert broken_promises(tmp_path, before, *logs) == []
