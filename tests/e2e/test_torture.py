"""Hours of twenty meters over a line that breaks, with a gateway that is killed all the time; scripts/torture is the long way."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.simulator.broker import find_mosquitto
from tests.fakes.mosquitto import SKIPPED
from tests.torture.checks import check
from tests.torture.life import LEAST_KILLS, Life
from tests.torture.told import told

pytestmark = [
    pytest.mark.skipif(find_mosquitto() is None, reason=SKIPPED),
    pytest.mark.timeout(300),  # a machine that does other things too
]


ROOT = Path(__file__).parents[2]


def torture(*words: str) -> subprocess.CompletedProcess[str]:
    """The script as a person runs it; an hour of its meters takes three seconds."""
    command = [sys.executable, str(ROOT / "scripts" / "torture"), "--scale", "1200", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


def test_every_hour_is_there_exactly_once_whatever_is_broken_or_killed(tmp_path: Path) -> None:
    """R3, R12-R17, R25: EnerKey, the ledger, the closed hours and the truth agree to the last digit."""
    life = Life(tmp_path, hours=3, scale=1200.0, seed=3, kill_every=(0.5, 2.0))
    life.live()
    check(life)
    figures = life.figures
    assert figures.good, told(figures)
    assert figures.hours == 60
    assert figures.kills.total() >= LEAST_KILLS
    assert {"lost request", "lost answer", "500 after storing"} <= figures.faults.keys()
    assert figures.messages["verified"], "no fate was ever unknown: nothing was shown"


def test_a_gateway_that_sends_again_what_it_does_not_know_is_caught() -> None:
    """R14: with a naive retry put in, hours are there twice; the script shows which, and exits 1."""
    done = torture("--hours", "1", "--plant", "naive-retry")
    assert (done.returncode, done.stderr) == (1, "")
    assert " is there, " in done.stdout
    assert re.fullmatch(r"torture: 20 meter-hours, [1-9]\d* wrong", done.stdout.splitlines()[-1])


def test_what_cannot_be_meant_is_said() -> None:
    """A time that the meters could not keep up with is refused before anything starts."""
    done = torture("--scale", "1e9")
    assert done.returncode == 2
    assert "must be a number from 60 to 2000" in done.stderr
