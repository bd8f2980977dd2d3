"""scripts/simulate as a person runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)  # a machine that does other things too
ROOT = Path(__file__).parents[2]


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "simulate"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.parametrize("kind", ["swarm", "tight"])
def test_one_run_ends_with_what_it_came_to(kind: str):
    """Nothing wrong is exit 0."""
    done = simulate("--seed", "3", "--kind", kind)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"simulate: [1-9]\d* meter-hours, 0 wrong", done.stdout.splitlines()[-1])


def test_the_long_run_goes_on_until_there_are_enough_hours():
    """Whole runs of one building are added until then."""
    done = simulate("--hours", "1000", "--jobs", "1", "--first", "7")
    assert done.returncode == 0, done.stdout
    assert 1000 <= int(re.search(r"simulate: (\d+) meter-hours", done.stdout)[1]) < 2000


def test_what_cannot_be_meant_is_said():
    """Two ways of asking exclude each other."""
    done = simulate("--seed", "3", "--hours", "5")
    assert done.returncode == 2
    assert "not allowed with" in done.stderr
