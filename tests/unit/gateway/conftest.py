"""Gateways without threads and sockets, in the test's own directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import control
from tests.fakes.small_gateway import Make, small_gateways
from tests.waiting import SOON


@pytest.fixture(autouse=True, scope="module")
def _patient() -> Iterator[None]:
    """A busy machine is no service that hangs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control, "ANSWER_WITHIN", SOON)
        yield


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """See `small_gateways`; a file that needs another beginning has a `make` over this one."""
    with small_gateways(tmp_path) as opened:
        yield opened
