"""Units by name and the exact factors between them.

A factor is a `Fraction`: a joule in kilowatt-hours (1/3 600 000) has no finite decimal. Each value is rounded once, in `to_micro`.
"""

from __future__ import annotations

import difflib
from decimal import ROUND_HALF_UP, Context, Decimal, DecimalException, Inexact, Overflow
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from buffer.model import INT64, MICRO, round_half_up

if TYPE_CHECKING:
    from collections.abc import Callable


class Unit(NamedTuple):
    """What a unit measures, and how many of that quantity's smallest base unit it holds."""

    quantity: str
    size: Fraction


_JOULE = Fraction(1)
_WATT_HOUR = 3600 * _JOULE

AMOUNTS: dict[str, Unit] = {
    "J": Unit("energy", _JOULE),
    "kJ": Unit("energy", 10**3 * _JOULE),
    "MJ": Unit("energy", 10**6 * _JOULE),
    "GJ": Unit("energy", 10**9 * _JOULE),
    "Wh": Unit("energy", _WATT_HOUR),
    "kWh": Unit("energy", 10**3 * _WATT_HOUR),
    "MWh": Unit("energy", 10**6 * _WATT_HOUR),
    "GWh": Unit("energy", 10**9 * _WATT_HOUR),
    "Wmin": Unit("energy", 60 * _JOULE),
    "varh": Unit("reactive energy", Fraction(1)),
    "kvarh": Unit("reactive energy", Fraction(10**3)),
    "Mvarh": Unit("reactive energy", Fraction(10**6)),
    "l": Unit("volume", Fraction(1)),
    "L": Unit("volume", Fraction(1)),
    "dm3": Unit("volume", Fraction(1)),
    "hl": Unit("volume", Fraction(100)),
    "m3": Unit("volume", Fraction(1000)),
    "m³": Unit("volume", Fraction(1000)),
    "kg": Unit("mass", Fraction(1)),
    "t": Unit("mass", Fraction(1000)),
    "pulse": Unit("pulses", Fraction(1)),
    "count": Unit("counts", Fraction(1)),
}
"""What counters, intervals and meters count."""

RATES: dict[str, Unit] = {
    "W": Unit("energy", _WATT_HOUR),
    "kW": Unit("energy", 10**3 * _WATT_HOUR),
    "MW": Unit("energy", 10**6 * _WATT_HOUR),
    "l/s": Unit("volume", Fraction(3600)),
    "l/min": Unit("volume", Fraction(60)),
    "l/h": Unit("volume", Fraction(1)),
    "m3/h": Unit("volume", Fraction(1000)),
    "m³/h": Unit("volume", Fraction(1000)),
}
"""What a source of kind "power" may give; the size is what gathers in an hour."""


def factor(source_unit: str, meter_unit: str, kind: str) -> Fraction | None:
    """The exact number by which a reading becomes the meter's unit; None where no such number exists.

    For kind "power" it turns the source's rate into the meter's unit per hour.
    """
    source = (RATES if kind == "power" else AMOUNTS).get(source_unit)
    meter = AMOUNTS.get(meter_unit)
    if source is None or meter is None or source.quantity != meter.quantity:
        return None
    return source.size / meter.size


def quantity(name: str, kind: str) -> str:
    """What a known unit of a source of this kind measures."""
    return (RATES if kind == "power" else AMOUNTS)[name].quantity


def allowed(kind: str, measured: str | None = None) -> list[str]:
    """The names of units that a source of this kind may use, of one quantity or of all."""
    table = RATES if kind == "power" else AMOUNTS
    return [name for name, unit in table.items() if measured in {None, unit.quantity}]


def nearest(name: str, kind: str) -> str | None:
    """The unit that was probably meant: another spelling of the same letters first, then the closest one."""
    names = allowed(kind)
    alike = [known for known in names if known.casefold() == name.strip().casefold()]
    return next(iter(alike or difflib.get_close_matches(name, names, n=1)), None)


LARGEST = 40  # powers of ten: far beyond what int64 holds at any factor of the tables above
SMALLEST = -60  # below this a value is 0 at any factor of the tables above


def to_micro(value: Decimal, by: Fraction) -> int:
    """`value` x `by` in micro, rounded half up (away from zero) once; OverflowError beyond int64.

    `value` is finite. Exponents are looked at first: a hostile "1E+999999999" must not become an integer of that length.
    """
    if value and value.adjusted() > LARGEST:
        raise OverflowError(f"{value} is beyond what a counter can hold")
    if not value or value.adjusted() < SMALLEST:
        return 0
    above, below = value.as_integer_ratio()  # by hand: once for every reading, and Fraction's arithmetic costs tenfold
    micro = round_half_up(above * by.numerator * MICRO, below * by.denominator)
    if abs(micro) > INT64:
        raise OverflowError(f"{value} is beyond what a counter can hold")
    return micro


_EXACT = Context(  # what does not fit is no product
    prec=60, rounding=ROUND_HALF_UP, Emax=99, Emin=-99, clamp=0, traps=[Inexact, Overflow]
)


def micro_by(by: Fraction) -> Callable[[Decimal], int]:
    """`to_micro` for one factor, the same to the last micro.

    Where the factor has a finite decimal the product is one exact multiplication; it is checked to be exact, and what is
    not goes the long way.
    """
    try:
        factor = _EXACT.divide(Decimal(by.numerator * MICRO), Decimal(by.denominator)).normalize(_EXACT)
    except DecimalException:
        return lambda value: to_micro(value, by)

    times, rounded = _EXACT.multiply, _EXACT.to_integral_value  # looked up once, not for every value

    def micro(value: Decimal) -> int:
        try:
            found = int(rounded(times(value, factor)))
        except DecimalException:
            return to_micro(value, by)
        return found if -INT64 <= found <= INT64 else to_micro(value, by)

    return micro
