"""When what a device has taught about its requests is put to the test again. Pure.

A meter that starts may refuse what it gives a minute later, so nothing is learned for ever. A test costs a refused request,
or a timeout with a device that is silent where others refuse; so each one that changes nothing makes the next one rarer.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING

from drivers.modbus.pace import HOUR

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drivers.modbus.target import Target

FIRST = HOUR
LONGEST = 30 * 24 * HOUR
BY_SILENCE = (
    3  # what was learned from timeouts counts as confirmed so often: the first test comes after nearly three days
)


def shape_key(number: int, targets: Iterable[Target], most: int) -> str:
    """Under which name the driver's memory keeps a device's shape: what was learned of other registers teaches nothing.

    `most`: so many of them in a request, as configured.
    """
    places = repr((sorted({target.place for target in targets}), most))
    return f"shape/{number}/{zlib.crc32(places.encode()):08x}"


def rest(confirmed: int) -> float:
    """Seconds until the next test of what was found to be still so that many times: 1 h, 4 h, 16 h … 30 days."""
    return min(FIRST * 4.0 ** min(confirmed, 16), LONGEST)


def with_confirmed(text: str, confirmed: int) -> str:
    """A shape's text with the number beside it."""
    return json.dumps({**json.loads(text), "confirmed": confirmed})


def confirmed_in(text: str) -> int:
    """The number in such a text; 0 where there is none."""
    try:
        return max(0, int(json.loads(text)["confirmed"]))
    except (ValueError, KeyError, TypeError, OverflowError):
        return 0
