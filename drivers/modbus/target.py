"""What a source stands for: its registers, their meaning and its device's limits, after profile and defaults. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drivers.modbus.decode import Encoding
from drivers.modbus.plan import Place
from drivers.modbus.profile import Point, Profile, load

if TYPE_CHECKING:
    from decimal import Decimal

    from drivers.modbus.source import Source


@dataclass(frozen=True, slots=True)
class Target:
    """One value to read, and what it becomes."""

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

    @property
    def resolution(self) -> Decimal | None:
        """The register's smallest step, in its unit; None for floats."""
        return None if self.encoding.type.startswith("f") else abs(self.scale)

    @property
    def end(self) -> Decimal | None:
        """Where the register begins again at 0: what is known of the meter, else the end of an unsigned type."""
        if self.rollover is not None or not self.encoding.type.startswith("u"):
            return self.rollover
        return (1 << 16 * self.encoding.width) * abs(self.scale)

    @property
    def identity(self) -> str:
        """What makes it this register and no other."""
        encoding, place = self.encoding, self.place
        orders = f"{encoding.word_order}/{encoding.byte_order}"
        return f"device {self.device}, {place.table} {place.register} {encoding.type} {orders} x {self.scale.normalize():f}"

    @property
    def where(self) -> str:
        """For people: "holding 1024" or "energy_import_total (input 72)"."""
        register = f"{self.place.table} {self.place.register}"
        return f"{self.point} ({register})" if self.point else register


def target_of(name: str, source: Source) -> Target:
    """What a checked source reads. The operator's own words win over the profile's."""
    if source.profile is None:
        return _by_register(name, source)
    profile = load(source.profile)
    point = profile.points[source.point or ""]
    place = Place(point.table or profile.table, point.register, Encoding(point.type).width)
    encoding = Encoding(
        point.type,
        source.word_order or point.word_order or profile.word_order,
        source.byte_order or point.byte_order or profile.byte_order,
        source.na if source.na is not None else _markers(point, profile),
    )
    return Target(
        name,
        source.device,
        place,
        encoding,
        point.scale * source.scale,
        source.unit or point.unit,
        source.kind or point.kind,
        source.point or "",
        _scaled(point.max_rate, source.scale),
        source.rollover or _scaled(point.rollover, source.scale),
    )


def _by_register(name: str, source: Source) -> Target:
    if source.register is None or source.type is None:
        raise AssertionError("checked before: register and type are there without a profile")
    encoding = Encoding(source.type, source.word_order or "big", source.byte_order or "big", source.na or ())
    place = Place(source.table or "holding", source.register, encoding.width)
    kind = source.kind or "counter"
    return Target(name, source.device, place, encoding, source.scale, source.unit, kind, rollover=source.rollover)


def _markers(point: Point, profile: Profile) -> tuple[str, ...]:
    return profile.na if point.na is None else point.na


def _scaled(value: Decimal | None, scale: Decimal) -> Decimal | None:
    """A profile's limit after the operator's own factor (a current transformer's ratio)."""
    return None if value is None else value * abs(scale)
