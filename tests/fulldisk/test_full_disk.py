"""A day on a disk that takes nothing, and then it does: no hour is lost, and nobody has done anything (R27)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fakes.failing_disk import EIO, ENOSPC, AtLeast, failing_disk
from tests.fakes.small_filesystem import small_filesystem
from tests.fulldisk.day import SMALL, Day

pytestmark = pytest.mark.timeout(300)
MORNING = 360  # polls


CLEARED = """
import sys
from pathlib import Path
from buffer.room import BALLAST, Room
from buffer.store import Store, StoreError
from tests.fakes.small_filesystem import fill
directory = Path(sys.argv[1])
store = Store(directory, threaded=False, room=Room(directory, None, BALLAST))
put = "INSERT INTO meta VALUES (hex(randomblob(8)), hex(randomblob(20000)))"
for _ in range(100):
    store.write(lambda db: db.execute(put))
fill(directory / "others")
refused = 0
try:
    for _ in range(200):
        store.write(lambda db: db.execute(put))
except StoreError:
    refused += 1
gone = store.write(lambda db: db.execute("DELETE FROM meta WHERE length(value) = 40000").rowcount)
for _ in range(50):
    store.write(lambda db: db.execute(put))
print(refused, gone >= 100, store.room.full, store.failing == "")
"""


def test_on_a_full_disk_deleting_works_and_what_it_frees_is_used(tmp_path):
    """Reliability 2.4: without the ballast's room no DELETE succeeds, either."""
    with small_filesystem(tmp_path, SMALL) as small:
        command = [*small.inside, sys.executable, "-c", CLEARED, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "1 True True True\n", done.stderr[-2000:]


@pytest.mark.parametrize("trouble", ["filled", "greedy", "read-only", "restart"])
def test_after_a_day_on_a_full_disk_every_hour_is_there_once(tmp_path, trouble):
    """R3, R12, R27: others fill it once; again and again; it turns read-only; the service is restarted four times meanwhile."""
    with small_filesystem(tmp_path, SMALL) as small:
        command = [*small.inside, sys.executable, "-m", "tests.fulldisk.day", str(tmp_path), trouble]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not done.stdout, done.stdout[:3000]


@pytest.mark.parametrize("error", [EIO, ENOSPC])
def test_after_a_morning_on_a_broken_disk_every_hour_is_there_once(tmp_path, error):
    """R26, R27: each write, sync and truncate fails for six hours; the boundaries of each hour were kept in memory."""
    with failing_disk(tmp_path) as disk:
        day = Day(tmp_path, (None, 0))
        try:
            lived = day.live(lambda: disk.fail(AtLeast(1), error), lambda _: None, disk.heal, MORNING)
            assert disk.failed
        finally:
            disk.heal()
            day.close()
    assert lived.wrong == []
    assert "failing" in lived.problems
    assert lived.told[-1] == "info: the database can be written again"
    assert lived.most_waiting > 3 * 6 * 2
    assert lived.qualities <= {"measured", "interpolated"}
