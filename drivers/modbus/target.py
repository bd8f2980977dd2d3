"""What a source stands for: its registers, their meaning and its device's limits, after profile and defaults. Pure.

A value may need more than its own registers: a fraction beside the whole number, an exponent or a factor that the meter
keeps elsewhere. One `Place` then spans them all, so that they come from one request: read apart, a factor that has just
changed makes a spike (tjko/sunspec-monitor 4). A sum of several values is read as its terms, each a target of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from drivers.modbus.decode import Encoding, NoValue, decode, decoder, end_of, is_float
from drivers.modbus.plan import REGISTERS, Place
from drivers.modbus.profile import Point, Profile, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from drivers.modbus.source import Source
    from drivers.modbus.sunspec import Model

LARGEST_EXPONENT = 12  # SunSpec knows -10 to 10; 10^300 is a misread register
EXPONENT, FACTOR = Encoding("s16", na=("0x8000",)), Encoding("u16", na=("0xFFFF",))


class Fraction(NamedTuple):
    """What is added to the whole number: so many registers from the place's first one, times `scale` in `unit`."""

    at: int
    encoding: Encoding
    scale: Decimal


@dataclass(frozen=True, slots=True)
class Target:
    """One value to read, and what it becomes.

    `at`, `exponent_at` and `factor_at` count from the first register of `place`. `sunspec`: the place counts from the ID
    register of one of these models, the `instance`th that the device has. `terms`: the value is the sum of these; then `whole` and
    `nth` of a term say to what it belongs.
    """

    source: str
    device: int
    place: Place
    encoding: Encoding
    scale: Decimal
    unit: str | None
    kind: str
    point: str = ""
    max_rate: Decimal | None = None
    rollover: Decimal | None = None
    step: Decimal | None = None  # as a profile says it, in `unit`
    at: int = 0
    fraction: Fraction | None = None
    exponent_at: int | None = None
    factor_at: int | None = None
    sunspec: tuple[int, ...] = ()
    instance: int = 1
    terms: tuple[Target, ...] = ()
    whole: Target | None = None
    nth: int = 0
    accumulates: bool = field(init=False, repr=False, compare=False, default=False)  # 0 may mean "no counter" (SunSpec)
    _plain: Callable[[Sequence[int]], Decimal] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        """Most values are a number times a factor: for these the decoder is chosen once."""
        accumulates = any(each.encoding.type.startswith("acc") for each in self.terms or (self,))
        object.__setattr__(self, "accumulates", accumulates)
        if self._moving or self.terms or self.fraction is not None or self.place.width != self.encoding.width:
            return
        object.__setattr__(self, "_plain", decoder(self.encoding))

    def value(self, words: Sequence[int]) -> Decimal:
        """The number in the words of `place`, in `unit`; for a sum, in those of its terms one after the other.

        Raises NoValue where any part of it is none.
        """
        if self._plain is not None:
            return self._plain(words) * self.scale
        if self.terms:
            return sum((term.value(part) for term, part in self._shares(words)), Decimal(0))
        if self.place.width != self.encoding.width and len(words) != self.place.width:
            raise NoValue("wrong length", f"{len(words)} registers where this value takes {self.place.width}")
        number = decode(self._part(words, self.at, self.encoding), self.encoding) * self.scale
        if self.fraction is not None:
            at, encoding, scale = self.fraction
            number += decode(self._part(words, at, encoding), encoding) * scale
        if self.factor_at is not None:
            encoding = replace(FACTOR, byte_order=self.encoding.byte_order)
            factor = decode(self._part(words, self.factor_at, encoding), encoding)
            if not factor:
                raise NoValue("not available", "the register of the factor holds 0")
            number *= factor
        return number if self.exponent_at is None else number.scaleb(self._exponent(words, self.exponent_at))

    @property
    def float32(self) -> bool:
        """Whether its smallest step grows with its value."""
        return any(each.encoding.type == "f32" for each in self.terms or (self,))

    @property
    def resolution(self) -> Decimal | None:
        """The register's smallest step, in its unit; None for floats and where the meter keeps the factor."""
        if self.terms:
            steps = [term.resolution for term in self.terms]
            return max((step for step in steps if step is not None), default=None) if None not in steps else None
        if self.step is not None:
            return self.step
        if is_float(self.encoding.type) or self._moving:
            return None
        return abs(self.scale if self.fraction is None else self.fraction.scale)

    @property
    def end(self) -> Decimal | None:
        """Where the register begins again at 0: what is known of the meter, else the end of its type.

        None for a sum: it falls by what one of its terms falls, wherever the others stand.
        """
        if self.rollover is not None or self.terms or self._moving:
            return self.rollover
        counts = end_of(self.encoding.type)
        return None if counts is None else counts * abs(self.scale)

    @property
    def identity(self) -> str:
        """What makes it this register and no other."""
        if self.terms:
            return " + ".join(term.identity for term in self.terms)
        text = f"device {self.device}, {self._register} {_coded(self.encoding)} x {self.scale.normalize():f}"
        if self.fraction is not None:
            at, encoding, scale = self.fraction
            text += f" + {self._offset(at)} {_coded(encoding)} x {scale.normalize():f}"
        if self.factor_at is not None:
            text += f" x {self._offset(self.factor_at)}"
        return text if self.exponent_at is None else f"{text} x 10^{self._offset(self.exponent_at)}"

    @property
    def where(self) -> str:
        """For people: "holding 1024" or "energy_import_total (input 72)"."""
        if self.terms:
            return " + ".join(term.where for term in self.terms)
        return f"{self.point} ({self._register})" if self.point else self._register

    @property
    def _moving(self) -> bool:
        return self.exponent_at is not None or self.factor_at is not None

    @property
    def _register(self) -> str:
        return self._offset(self.at)

    def _offset(self, at: int) -> str:
        if self.sunspec:
            models = "/".join(map(str, self.sunspec)) + (f" no. {self.instance}" if self.instance > 1 else "")
            return f"SunSpec {models} + {self.place.register - REGISTERS + at}"
        return f"{self.place.table} {self.place.register + at}"

    def _shares(self, words: Sequence[int]) -> Iterable[tuple[Target, Sequence[int]]]:
        at = 0
        for term in self.terms:
            yield term, words[at : at + term.place.width]
            at += term.place.width

    def _exponent(self, words: Sequence[int], at: int) -> int:
        encoding = replace(EXPONENT, byte_order=self.encoding.byte_order)
        exponent = int(decode(self._part(words, at, encoding), encoding))
        if abs(exponent) > LARGEST_EXPONENT:
            raise NoValue("not a number", f"the register of the exponent holds {exponent}")
        return exponent

    def _part(self, words: Sequence[int], at: int, encoding: Encoding) -> Sequence[int]:
        return words if self.place.width == encoding.width else words[at : at + encoding.width]


def target_of(name: str, source: Source) -> Target:
    """What a checked source reads. The operator's own words win over the profile's."""
    if source.points:
        return _sum([_by_point(name, source, point) for point in source.points], source)
    if source.registers:
        return _sum([_by_register(name, source, register) for register in source.registers], source)
    if source.profile is not None:
        return _by_point(name, source, source.point or "")
    if source.register is None:
        raise AssertionError("checked before: there is a register without a profile")
    return _by_register(name, source, source.register)


def parts_of(target: Target) -> tuple[Target, ...]:
    """What a device is asked for: the target, or each term of a sum."""
    return tuple(replace(term, whole=target, nth=nth) for nth, term in enumerate(target.terms)) or (target,)


def model_of(target: Target, models: Sequence[Model]) -> Model | None:
    """Which of a device's models holds a target of SunSpec; None where it has none of its kind."""
    alike = [model for model in models if model.number in target.sunspec]
    return alike[target.instance - 1] if len(alike) >= target.instance else None


def placed(target: Target, models: Sequence[Model]) -> Target | None:
    """A target of SunSpec at its register; None where none of the device's models holds it. Behind a model begins the next one."""
    model = model_of(target, models)
    if model is None:
        return None
    place = target.place._replace(register=target.place.register - REGISTERS + model.register)
    return replace(target, place=place, sunspec=()) if place.end <= min(model.end, REGISTERS) else None


def settled(targets: Sequence[Target], floating: Sequence[Target], models: Sequence[Model]) -> list[Target]:
    """A device's targets with those of SunSpec, `floating`, where its models are; the others of them are nowhere."""
    ours = {(target.source, target.nth) for target in floating}
    fixed = [target for target in targets if (target.source, target.nth) not in ours]
    return [*fixed, *(placed(target, models) or target for target in floating)]


def _sum(terms: Sequence[Target], source: Source) -> Target:
    if len(terms) == 1:
        return terms[0]
    rates = [term.max_rate for term in terms if term.max_rate is not None]
    return replace(
        terms[0],
        terms=tuple(terms),
        max_rate=sum(rates, Decimal(0)) if len(rates) == len(terms) else None,
        rollover=source.rollover,
    )


def _by_point(name: str, source: Source, which: str) -> Target:
    profile = load(source.profile or "")
    point = profile.points[which]
    encoding = Encoding(
        point.type,
        source.word_order or point.word_order or profile.word_order,
        source.byte_order or point.byte_order or profile.byte_order,
        source.na if source.na is not None else _markers(point, profile),
    )
    factor = _factor(source)
    fraction = point.fraction
    return _spanning(
        Target(
            name,
            source.device,
            Place(point.table or profile.table, point.register, encoding.width),
            encoding,
            point.scale * factor,
            source.unit or point.unit,
            source.kind or point.kind,
            which,
            _scaled(point.max_rate, factor),
            source.rollover or _scaled(point.rollover, factor),
            _scaled(point.resolution, factor),
            sunspec=profile.sunspec,
            instance=source.instance,
        ),
        (fraction.register, replace(encoding, type=fraction.type), fraction.scale * factor) if fraction else None,
        point.exponent_register,
        point.factor_register,
    )


def _by_register(name: str, source: Source, register: int) -> Target:
    if source.type is None:
        raise AssertionError("checked before: there is a type without a profile")
    encoding = Encoding(source.type, source.word_order or "big", source.byte_order or "big", source.na or ())
    place = Place(source.table or "holding", register, encoding.width)
    factor = _factor(source)
    fraction = None
    if source.fraction_register is not None and source.fraction_scale is not None:
        fraction_encoding = replace(encoding, type=source.fraction_type or source.type)
        fraction = (source.fraction_register, fraction_encoding, source.fraction_scale * factor)
    return _spanning(
        Target(
            name,
            source.device,
            place,
            encoding,
            factor,
            source.unit,
            source.kind or "counter",
            rollover=source.rollover,
            sunspec=() if source.sunspec is None else (source.sunspec,),
            instance=source.instance,
        ),
        fraction,
        source.exponent_register,
        source.factor_register,
    )


def _spanning(
    target: Target, fraction: tuple[int, Encoding, Decimal] | None, exponent: int | None, factor: int | None
) -> Target:
    """The target with a place from the first to the last register that its value needs."""
    table, register, width = target.place
    ends = [(register, width)]
    ends += [(fraction[0], fraction[1].width)] if fraction else []
    ends += [(each, 1) for each in (exponent, factor) if each is not None]
    first = min(begin for begin, _ in ends)
    last = max(begin + wide for begin, wide in ends)
    # registers of a model are none of the device's until the model is found
    begin = first + REGISTERS if target.sunspec else first
    return replace(
        target,
        place=Place(table, begin, last - first),
        at=register - first,
        fraction=Fraction(fraction[0] - first, *fraction[1:]) if fraction else None,
        exponent_at=None if exponent is None else exponent - first,
        factor_at=None if factor is None else factor - first,
    )


def _coded(encoding: Encoding) -> str:
    return f"{encoding.type} {encoding.word_order}/{encoding.byte_order}"


def _factor(source: Source) -> Decimal:
    """By what the operator multiplies."""
    factor = source.scale
    for each in (source.ct_ratio, source.pulse_weight):
        factor = factor if each is None else factor * each
    return factor


def _markers(point: Point, profile: Profile) -> tuple[str, ...]:
    return profile.na if point.na is None else point.na


def _scaled(value: Decimal | None, scale: Decimal) -> Decimal | None:
    """A profile's limit after the operator's own factor (a current transformer's ratio)."""
    return None if value is None else value * abs(scale)
