"""What to try where a meter of the configuration gives no value, by what its driver says of it. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SIGNS = {  # in what a driver says: what it means, and what to try
    "no answer within": "no answer: is it the right id, and is the device on? On a serial line speed, parity, A and B must fit, "
    "too. meter-gateway scan URL finds who is there",
    "exception 0x01": 'exception 0x01: the device does not know this table: try the other one (table = "input" or "holding")',
    "exception 0x02": "exception 0x02: the device has no such registers: another model, the other table, or addresses that count "
    "from 1 (a manual's 40053 is register 52)",
    "exception 0x04": "exception 0x04: a fault in the device, or a gateway that has no device of this id",
    "exception 0x0A": "exception 0x0A: the gateway has no way to this id: look at its settings",
    "exception 0x0B": "exception 0x0B: the gateway is well, the device behind it is silent: its id, its power, speed and parity",
}
_REFUSED = re.compile(r"no connection: .*refused$")


def advice(problems: Iterable[str]) -> list[str]:
    """Each piece of advice once, in the order of the problems."""
    told: list[str] = []
    for problem in problems:
        told += [words for sign, words in _SIGNS.items() if sign in problem]
        if _REFUSED.search(problem):
            told.append("no connection: nothing listens at this address and port, or it takes no more connections")
    return list(dict.fromkeys(told))
