"""When what a device has taught about its requests is put to the test again. Pure.

A meter that starts may refuse what it gives a minute later, so nothing is learned for ever. A test costs a refused request,
or a timeout with a device that is silent where others refuse; so each one that changes nothing makes the next one rarer.
"""

from __future__ import annotations

import json

from drivers.modbus.pace import HOUR

FIRST = HOUR
LONGEST = 30 * 24 * HOUR
BY_SILENCE = (
    3  # what was learned from timeouts counts as confirmed so often: the first test comes after nearly three days
)


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
