"""What holds for all tests."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# on one that does other things too 200 ms for an example are over, and so are some seconds for making the first ten
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

LIVES = {"fulldisk", "powercut", "simulation"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole lives of a gateway reach no line that the tests of its parts do not; being measured would double their time."""
    for item in items:
        if item.path.parent.name in LIVES:
            item.add_marker(pytest.mark.no_cover)
