"""What an operator writes about a register: a meter's `source` on a Modbus connection."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from drivers.fields import Duration, Scale, SourceBase, Words, parse_decimal
from drivers.modbus.otherwords import SOURCE_KEYS
from drivers.modbus.plan import MOST_REGISTERS, REGISTERS, USUAL_REGISTERS, Table
from drivers.modbus.profile import ByteOrder, Markers, Register, Type, WordOrder

# pydantic takes `register` for ABCMeta.register, which no instance has
warnings.filterwarnings("ignore", 'Field name "register"', UserWarning)


_RATIO = 'must be a number, or two such as "200/5"'


def _ratio(value: object) -> Decimal:
    """A number, or two of them as on a transformer's type plate: "200/5" is 40."""
    above, slash, below = value.partition("/") if isinstance(value, str) else (value, "", "")
    try:
        return parse_decimal(above) / (parse_decimal(below) if slash else 1)
    except (ValueError, ArithmeticError):  # also divided by 0, or beyond every exponent
        raise ValueError(_RATIO) from None


def _cell(value: object) -> object:
    """An address from a spreadsheet's list, which has only texts."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value


def _cells(value: object) -> object:
    """A spreadsheet's list of one address is a number."""
    return [value] if isinstance(value, int) else value


Ratio = Annotated[
    Decimal,
    BeforeValidator(_ratio),
    Field(ge=Decimal("0.000001"), le=1_000_000),
    Words('a number, or two such as "200/5"'),
]
Listed = Annotated[Register, BeforeValidator(_cell)]

Points = Annotated[tuple[str, ...], Field(strict=False, min_length=1), Words('a list such as ["t1", "t2"]')]
Registers = Annotated[
    tuple[Listed, ...],
    Field(strict=False, min_length=1),
    BeforeValidator(_cells),
    Words("a list such as [40, 42]"),
]


class Source(SourceBase):
    """A meter's `source` on a Modbus connection: a profile and its point, or a register and its type."""

    other_words: ClassVar[Mapping[str, str]] = SOURCE_KEYS

    device: int = Field(ge=0, le=255, description="Device (unit) id: 1 to 247 on RTU and ASCII, 0 to 255 on TCP.")
    profile: str | None = Field(
        None, description="Meter family with known registers; see the list of supported meters."
    )
    point: str | None = Field(None, description="Which of the profile's values, such as `energy_import_total`.")
    points: Points | None = Field(
        None,
        description="Instead of `point`: several of the profile's values, added up, such as the tariffs of a meter without a total. "
        "There is a reading when all of them could be read.",
    )
    register: Register | None = Field(
        None,
        description="First register as a zero-based address: manuals that print 40001 or 30001 mean 0, those that "
        "count from 1 mean one less.",
    )
    registers: Registers | None = Field(
        None,
        description="Instead of `register`: several values of one `type` and `scale`, added up. There is a reading when all of "
        "them could be read.",
    )
    sunspec: Annotated[int, Field(gt=0, lt=REGISTERS - 1)] | None = Field(
        None,
        description="Number of a SunSpec model, such as 203: the registers count from its ID register, wherever the device has it.",
    )
    instance: int = Field(
        1, ge=1, le=32, description="Which of several SunSpec models of the kind: 2 is an inverter's second meter."
    )
    table: Table | None = Field(
        None, description="`holding` (function code 3) or `input` (function code 4). Default `holding`."
    )
    type: Type | None = Field(
        None,
        description="What the registers hold, with their bits: integers `u` and `s`, IEEE 754 floats `f`, `bcd` (four decimal digits a "
        "register), `mod1k` and `mod10k` (0 to 999 or 9999 a register), `sm` (sign and magnitude), `iskra_t` (exponent and "
        "mantissa), `acc` (SunSpec accumulator).",
    )
    word_order: WordOrder | None = Field(
        None, description="Which register comes first: `big` the most significant (ABCD), `little` the least (CDAB)."
    )
    byte_order: ByteOrder | None = Field(
        None,
        description="Order of the two bytes in a register: `big` is Modbus; `little` for devices that swap them "
        "(BADC, DCBA).",
    )
    na: Markers | None = Field(
        None,
        description='Raw values by which the meter says "no value", as hex of the whole value: `["0xFFFFFFFF"]`; with a type before '
        'it, of this type only: `["s32:0x80000000"]`. NaN and infinity always do.',
    )
    fraction_register: Register | None = Field(
        None,
        description="Where the meter keeps the fraction of the whole number at `register`; both come from one request, as with "
        "the next keys.",
    )
    fraction_type: Type | None = Field(None, description="What that register holds. Default: the same `type`.")
    fraction_scale: Scale | None = Field(
        None, description="The fraction times this is in the unit of the whole number before `scale`: `0.001`."
    )
    exponent_register: Register | None = Field(
        None, description="Where the meter keeps the power of ten (s16) by which the value is multiplied."
    )
    factor_register: Register | None = Field(
        None, description="Where the meter keeps a factor (u16) by which the value is multiplied."
    )
    ct_ratio: Ratio | None = Field(
        None,
        description='Ratio of the current transformers, `"200/5"` or `40`, where the meter does not apply it itself; most do. Multiplies '
        "like `scale`.",
    )
    pulse_weight: Ratio | None = Field(
        None,
        description='What one pulse stands for, in `unit`: `"1/1000"` for 1000 pulses per kWh. Multiplies like `scale`.',
    )
    timeout: Annotated[Duration, Field(ge=0.05, le=30)] | None = Field(
        None, description="This device's own timeout; the same for all sources of the device."
    )
    gap: Annotated[Duration, Field(ge=0, le=10)] | None = Field(
        None, description="Silence that this device needs before a request; the same for all sources of the device."
    )
    max_registers: Annotated[int, Field(ge=1, le=MOST_REGISTERS)] | None = Field(
        None,
        description=f"Most registers in one request to this device. Default: the profile's, else {USUAL_REGISTERS}.",
    )
