"""What several of these files need."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from drivers.modbus.address import address_of
from drivers.modbus.bus import PymodbusBus
from drivers.modbus.connection import Connection


@pytest.fixture
def bus() -> Iterator[Callable[..., PymodbusBus]]:
    """Opens the wire of a Modbus connection alone, without the driver above it."""
    opened: list[PymodbusBus] = []

    def open_(url: str, **keys) -> PymodbusBus:
        settings = {"driver": "modbus", "url": url, "poll": "1s", "timeout": "300ms"}
        opened.append(PymodbusBus(Connection.model_validate(settings | keys), address_of(url)))
        opened[-1].open()
        return opened[-1]

    yield open_
    for each in opened:
        each.close()
