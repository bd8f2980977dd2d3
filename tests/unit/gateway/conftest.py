"""Gateways without threads and sockets, in the test's own directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.small_gateway import Make, small_gateways


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """See `small_gateways`; a file that needs another beginning has a `make` over this one."""
    with small_gateways(tmp_path) as opened:
        yield opened
