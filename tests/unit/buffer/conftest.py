"""A real store in a temporary directory, written inline, with three meters in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from buffer.readings import MeterRow, register_meters
from buffer.store import Store

METERS = [MeterRow(name, 100 + number, "kWh", "counter", "consumption", "hall") for number, name in enumerate("abc")]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Meters a, b and c are numbers 1, 2 and 3."""
    opened = Store(tmp_path, threaded=False)
    opened.write(lambda db: register_meters(db, METERS))
    yield opened
    opened.close()
