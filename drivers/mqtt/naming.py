"""What the name of a number says of it: whether it may be a meter's, its kind and its unit. Pure.

Names come from devices and are only hints: what is proposed by them is compared with the meter's display by a person.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNITS = {  # as devices write them, in small letters
    "wh": "Wh", "kwh": "kWh", "mwh": "MWh", "gwh": "GWh", "kilowatthour": "kWh", "kilowatthours": "kWh",
    "kj": "kJ", "mj": "MJ", "gj": "GJ", "varh": "varh", "kvarh": "kvarh", "wmin": "Wmin",
    "m3": "m3", "m³": "m3", "m^3": "m3", "cbm": "m3", "l": "l", "liter": "l", "liters": "l", "litre": "l", "litres": "l",
    "pulse": "pulse", "pulses": "pulse", "imp": "pulse", "impulse": "pulse", "impulses": "pulse", "pulsecount": "pulse",
    "w": "W", "watt": "W", "watts": "W", "kw": "kW", "mw": "MW",
    "m3h": "m3/h", "m3/h": "m3/h", "m³/h": "m3/h", "lh": "l/h", "l/h": "l/h", "lpm": "l/min", "l/min": "l/min",
}  # fmt: skip
_RATES = {"W", "kW", "MW", "m3/h", "l/h", "l/min"}
_ENDING = re.compile(r"(?:[kmg]wh|kvarh|m3h|m3|pulses)$")  # glued to another word: totalkwh
_QUANTITIES = {  # word -> unit that is meant more often than another where none is told, kind
    "energy": ("kWh", "counter"), "aenergy": ("kWh", "counter"), "electricity": ("kWh", "counter"), "heat": ("kWh", "counter"),
    "volume": ("m3", "counter"), "water": ("m3", "counter"), "gas": ("m3", "counter"),
    "power": ("W", "power"), "apower": ("W", "power"), "demand": ("W", "power"), "load": ("W", "power"), "flow": ("m3/h", "power"),
}  # fmt: skip
_COUNTING = {
    "total", "totals", "sum", "summ", "counter", "count", "cumulative", "accumulated", "register", "reading", "index", "meter",
    "import", "imported", "export", "exported", "consumed", "consumption", "produced", "production", "delivered",
    "returned", "received", "forward", "reverse", "lifetime", "hchc", "hchp", "in", "out",
}  # fmt: skip
_PERIODS = {  # a counter of one of them begins anew with each
    "today", "yesterday", "hour", "hourly", "day", "daily", "week", "weekly", "month", "monthly", "year", "yearly", "minute",
    "previous", "last", "currently", "history", "delta", "set", "avg", "average", "unitrate", "standingcharge", "multiplier",
}  # fmt: skip
_NEVER = {  # other quantities, and what only looks like a number
    "voltage", "volt", "volts", "ampere", "amps", "rms", "rssi", "snr", "lqi", "linkquality", "temperature", "temp", "humidity",
    "battery", "vcc", "frequency", "freq", "pf", "cosphi", "apparent", "aprt", "reactive", "factor", "pressure", "brightness", "angle",
    "id", "ids", "mpan", "serial", "identification", "address", "port", "fcnt", "seq", "sequence", "version", "firmware", "uptime",
    "status", "error", "errors", "flag", "quality", "qos", "time", "timestamp", "date", "datetime", "epoch", "seen", "number",
    "max", "min", "maximum", "minimum", "limit", "target", "price", "cost",
}  # fmt: skip
_RARELY = {  # unless a quantity or unit stands beside it: "current_volume_m3"
    "current", "currents", "amp", "state", "raw", "pre", "up", "on", "ts", "rtc", "speed", "switch", "switched", "bytes", "memory",
    "wifi", "signal", "channel", "size", "code", "progress", "percent", "level", "available", "interval", "period", "qc",
}  # fmt: skip
_LETTERS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_PART = re.compile(r"[^\W_]+")

NAMED = 3  # points from which on a number is worth showing
TOLD, WORD, FARTHER = 3, 2, 1  # points: of a unit or quantity in the name, of a word of counters, of words around it


class Guess(NamedTuple):
    """What names say. `unit` is "" where they say nothing, `told` False where it is only the usual one."""

    kind: str
    unit: str
    told: bool
    points: int
    refused: bool  # certainly no meter's reading
    words: tuple[str, ...]  # what it was read from


def unit_of(text: str) -> str:
    """A unit as devices write it in our spelling; "" where it is none of ours."""
    return _UNITS.get(text.strip().lower(), "")


def guess(names: Sequence[str], unit: str = "") -> Guess:
    """What a number is by its names, the nearest first, and by the `unit` that stands beside it."""
    nearest, *farther = [_words(name) for name in names] or [[]]
    around = [word for words in farther for word in words]
    own = unit_of(unit) or _unit_in(nearest)
    found = own or (_unit_in(around) if not _quantity(nearest) else "")
    quantity = _quantity(nearest) or _quantity(around)
    kind = "power" if found in _RATES or (not found and quantity and quantity[1] == "power") else "counter"
    points = TOLD * bool(own) + (FARTHER * bool(found) if not own else 0)
    points += WORD * bool(_quantity(nearest)) or FARTHER * bool(_quantity(around))
    counting = kind == "counter"
    points += counting * (WORD * bool(_COUNTING & {*nearest}) or FARTHER * bool(_COUNTING & {*around}))
    points += (kind == "power" and bool(_quantity(nearest))) * FARTHER
    usual = quantity[0] if quantity and quantity[1] == kind else ""
    words = tuple(dict.fromkeys(word for word in (*nearest, *around) if _says(word)))
    return Guess(kind, found or usual, bool(found), points, _is_other(nearest, own, kind), words)


def _is_other(nearest: Sequence[str], unit: str, kind: str) -> bool:
    """Whether the name is that of something else: another quantity, or the amount of one period."""
    words = {*nearest}
    if words & _NEVER or (kind == "counter" and words & _PERIODS):
        return True
    return bool(words & _RARELY) and not (unit or _quantity(nearest))


def _words(name: str) -> list[str]:
    """The words of a name in small letters; a unit keeps its digit, `l1` is no litre."""
    found: list[str] = []
    for part in _PART.findall(name[:200]):
        whole = part.lower()
        ending = _ENDING.search(whole)
        if whole in _UNITS or (ending and ending[0] == whole):
            found.append(whole)
            continue
        letters = [word.lower() for word in _LETTERS.findall(part)]
        found += [word for word in letters if len(word) > 1 or word == whole]
        found += [ending[0]] if ending else []
    return found


def _unit_in(words: Sequence[str]) -> str:
    for word in reversed(words):
        unit = _UNITS.get(word) or ((glued := _ENDING.search(word)) and _UNITS[glued[0]])
        if unit:
            return unit
    return ""


def _quantity(words: Sequence[str]) -> tuple[str, str] | None:
    return next((_QUANTITIES[word] for word in words if word in _QUANTITIES), None)


def _says(word: str) -> bool:
    return word in _QUANTITIES or word in _COUNTING or bool(_unit_in([word]))
