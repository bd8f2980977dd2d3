"""Simulated Modbus meters: the energy and power registers of real families, counting while they are read.

Register facts are those of the profiles. A hole between registers is refused with 0x02, a longer read than the family
takes with 0x03, another function than it knows with 0x01.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from gateway.simulator.world import Load

READ_HOLDING, READ_INPUT = 3, 4  # function codes
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3  # exception codes

_FORMATS = {"f32": ">f", "u32": ">I", "s32": ">i", "s64": ">q", "u64": ">Q"}
_ABSENT = {"f32": b"\xff\xc0\0\0", "u32": b"\xff" * 4, "s32": b"\x7f" + b"\xff" * 3}
_ABSENT |= {"s64": b"\x7f" + b"\xff" * 7, "u64": b"\xff" * 8}
_NAN = b"\x7f\xc0\0\0"
_FULL = 10**12  # micro: a million of the truth's unit, where a counter of six digits begins again


class Refused(Exception):  # noqa: N818 - named for what the meter does
    """The meter answers with an exception."""

    def __init__(self, code: int) -> None:
        """`code` as the Modbus application protocol has it, section 7."""
        super().__init__(f"exception {code}")
        self.code = code


class Register(NamedTuple):
    """One number in a meter. `step` is what one count of it means, in micro of the truth's unit (power: per hour)."""

    address: int
    type: Literal["f32", "u32", "s32", "s64", "u64"]
    step: int
    swapped: bool = False  # the word of lower value first (CDAB)

    def words(self, micro: int) -> list[int]:
        """The registers' content; an integer register shows full steps only."""
        return self.pack(micro / self.step if self.type == "f32" else micro // self.step)

    def pack(self, number: float) -> list[int]:
        """The registers that hold a number of counts."""
        return self._ordered(struct.pack(_FORMATS[self.type], number))

    def unpack(self, words: Sequence[int]) -> float:
        """The number of counts in its registers."""
        ordered = words[::-1] if self.swapped else words
        number: float = struct.unpack(_FORMATS[self.type], b"".join(word.to_bytes(2, "big") for word in ordered))[0]
        return number

    def absent(self, *, nan: bool) -> list[int]:
        """How such a register says that it has no value; only floats know NaN."""
        return self._ordered(_NAN if nan and self.type == "f32" else _ABSENT[self.type])

    @property
    def size(self) -> int:
        """In registers of 16 bits."""
        return struct.calcsize(_FORMATS[self.type]) // 2

    @property
    def full(self) -> int:
        """The count at which a counter begins again at 0."""
        return _FULL // self.step

    def _ordered(self, raw: bytes) -> list[int]:
        words = [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]
        return words[::-1] if self.swapped else words


class Meter(Protocol):
    """What answers to one device id."""

    @property
    def device(self) -> int:
        """Its id."""
        ...

    @property
    def counters(self) -> Sequence[Register]:
        """Where its counters are: what a fault of their values changes."""
        ...

    def words(self, function: int, first: int, count: int, at: datetime) -> Sequence[int]:
        """Its registers from `first` on as they are at an instant; raises Refused."""
        ...


class Model(NamedTuple):
    """A meter family. `profile` and `point` are its names in drivers/profiles; `unit` is that of the truth."""

    title: str
    profile: str
    point: str
    unit: str
    functions: tuple[int, ...]
    limit: int  # registers in one request
    energy: Register
    power: Register
    unit_in_profile: bool = True  # else it is set in the meter, and the operator has to say


_KILO, _CENTI = 1_000_000, 10_000  # micro of a kilowatt-hour in a count of 1 kWh and of 0.01 kWh
_TENTH, _WATT = 100_000, 1_000

MODELS: dict[str, Model] = {
    "sdm630": Model(
        "Eastron SDM630", "eastron-sdm630", "energy_import_total", "kWh", (READ_INPUT,), 80,
        Register(72, "f32", _KILO), Register(52, "f32", _WATT),
    ),
    "em340": Model(
        "Carlo Gavazzi EM340", "carlo-gavazzi-em340", "energy_import_total", "kWh", (READ_HOLDING, READ_INPUT), 50,
        Register(52, "s32", _TENTH, swapped=True), Register(40, "s32", _WATT // 10, swapped=True),
    ),
    "b23": Model(
        "ABB B23", "abb-b23", "energy_import_total", "kWh", (READ_HOLDING,), 125,
        Register(20480, "u64", _CENTI), Register(23316, "s32", _WATT // 100),
    ),
    "iem3155": Model(
        "Schneider iEM3155", "schneider-iem3155", "energy_import_total", "kWh", (READ_HOLDING,), 125,
        Register(3203, "s64", _WATT), Register(3059, "f32", _KILO),
    ),
    "multical": Model(
        "Kamstrup MULTICAL 603", "kamstrup-multical-603", "heat_energy_total", "MWh", (READ_INPUT,), 125,
        Register(20, "f32", _KILO), Register(4, "f32", _WATT), unit_in_profile=False,
    ),
}  # fmt: skip


class ModbusMeter(NamedTuple):
    """A meter of one of the families."""

    device: int
    model: Model
    load: Load

    @property
    def counters(self) -> tuple[Register, ...]:
        """The energy."""
        return (self.model.energy,)

    def words(self, function: int, first: int, count: int, at: datetime) -> list[int]:
        """Energy and power at that instant; nothing else is there."""
        if function not in self.model.functions:
            raise Refused(ILLEGAL_FUNCTION)
        if count > self.model.limit:
            raise Refused(ILLEGAL_VALUE)
        held: dict[int, int] = {}
        for register, micro in ((self.model.energy, self.load.register(at)), (self.model.power, self.load.rate(at))):
            held |= enumerate(register.words(micro), register.address)
        return cut_out(held, first, count)


class WordMeter(NamedTuple):
    """A meter whose registers somebody fills: word by word, in both tables alike, whenever they like."""

    device: int
    held: Mapping[int, int]
    counters: tuple[Register, ...] = ()

    def words(self, function: int, first: int, count: int, at: datetime) -> list[int]:  # noqa: ARG002 - a meter's
        """As they are now."""
        if function not in {READ_HOLDING, READ_INPUT}:
            raise Refused(ILLEGAL_FUNCTION)
        return cut_out(self.held, first, count)


def cut_out(held: Mapping[int, int], first: int, count: int) -> list[int]:
    """So many words in a row; raises Refused where one of them is not there."""
    try:
        return [held[register] for register in range(first, first + count)]
    except KeyError:
        raise Refused(ILLEGAL_ADDRESS) from None
