"""scripts/powercut as a person runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "powercut"


def powercut(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--cuts", "0"), "--cuts and --jobs are 1 or more"),
        (("--planted", "--errors"), "not allowed with argument"),
        (("--errors", "--part", "5/4"), "'5/4' is no part: 2/4 is the second of four"),
        (("--part", "1/4"), "--part goes with --errors"),
        (("--again", "/nowhere"), "no recording: /nowhere/recording.json is not there"),
    ],
)
def test_what_cannot_be_meant_is_said(words, told):
    """Exit code 2, in a sentence."""
    done = powercut(*words)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
