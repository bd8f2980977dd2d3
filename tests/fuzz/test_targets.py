"""What scripts/fuzz calls takes what a run begins with, also without atheris."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.__main__ import SEEDS, begin, targets
from tests.fuzz.modbus import babbler


@pytest.mark.parametrize("name", SEEDS)
def test_a_target_takes_all_that_its_run_begins_with(name: str, tmp_path: Path):
    """So that none of them has been left behind by the code that it calls."""
    begin(tmp_path / "corpus", *SEEDS[name])
    seeds = [path.read_bytes() for path in (tmp_path / "corpus").iterdir()]
    assert seeds
    with babbler() as other:
        called = targets(tmp_path / "file.toml", other)[name]
        for data in seeds:
            called(data)
