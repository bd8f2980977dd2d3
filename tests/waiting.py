"""Waits of the tests: for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

SOON = 60.0  # s, on a machine that does other things too
Reached = TypeVar("Reached")


def until(condition: Callable[[], Reached], instead: Callable[[], str] = lambda: "it never came about") -> Reached:
    """What the condition says as soon as that is true; bounded. `instead` says what was there when it was not."""
    end = time.monotonic() + SOON
    while not (reached := condition()):
        assert time.monotonic() < end, instead()
        time.sleep(0.05)
    return reached
