"""A day on a disk that takes nothing, and then it does: no hour is lost, and nobody has done anything (R27)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.fakes.failing_disk import EIO, ENOSPC, AtLeast, failing_disk
from tests.fulldisk.day import SMALL, Day

pytestmark = pytest.mark.timeout(300)
MORNING = 360  # polls
ROOT = Path(__file__).parents[2]
MOUNT = 'mount -t tmpfs -o size="$1" none "$2" && shift 2 && exec "$@"'


def in_a_small_filesystem(directory: Path, *command: str) -> list[str]:
    """Before a command: a namespace in which the directory is a filesystem of its own, which ends with it."""
    return ["unshare", "-rm", "sh", "-c", MOUNT, "sh", str(SMALL), str(directory), *command]


@cache
def why_not() -> str:
    """Why nothing can be mounted here; "" where it can."""
    if shutil.which("unshare") is None:
        return "unshare is not installed: apt install util-linux"
    tried = subprocess.run(in_a_small_filesystem(Path("/mnt"), "true"), capture_output=True, check=False, timeout=30)
    return "" if tried.returncode == 0 else "no filesystem can be mounted here: the kernel or the container forbids it"


@pytest.mark.parametrize("trouble", ["filled", "greedy", "read-only", "restart"])
def test_after_a_day_on_a_full_disk_every_hour_is_there_once(tmp_path, trouble):
    """R3, R12, R27: others fill it once; again and again; it turns read-only; the service is restarted four times meanwhile."""
    if reason := why_not():
        pytest.skip(reason)
    command = in_a_small_filesystem(tmp_path, sys.executable, "-m", "tests.fulldisk.day", str(tmp_path), trouble)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280, cwd=ROOT)
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
