"""What holds for all tests."""

from __future__ import annotations

import pytest

LIVES = {"fulldisk", "powercut", "simulation"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole lives of a gateway reach no line that the tests of its parts do not; being measured would double their time."""
    for item in items:
        if item.path.parent.name in LIVES:
            item.add_marker(pytest.mark.no_cover)
