"""What is wrong with a source beyond its single keys, and what an operator should look at twice. Pure."""

from __future__ import annotations

import difflib
import re
from itertools import pairwise
from typing import TYPE_CHECKING

from drivers.modbus import profile as profiles
from drivers.modbus.decode import WIDTHS
from drivers.modbus.plan import MOST_REGISTERS, REGISTERS, USUAL_REGISTERS
from drivers.modbus.profile import BadProfile, UnknownProfile
from drivers.modbus.target import parts_of, target_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from drivers.modbus.profile import Point, Profile
    from drivers.modbus.source import Source

MOST_NAMES = 12  # in one sentence
BESIDE = ("fraction_register", "exponent_register", "factor_register")
OF_A_REGISTER = ("register", "registers", "table", "type", "sunspec", "fraction_type", "fraction_scale", *BESIDE)

_PART = re.compile(r"(.+)_(?:(total)|([a-z])[0-9]+)")  # energy_import_total, its tariffs _t1, its phases _l1

Found = tuple[str, str]  # the key and what to say of it


def source_faults(source: Source) -> Iterator[Found]:
    """Every mistake in what a source says of its registers."""
    named = (source.profile, source.point, source.points)
    found = list(_profile_faults(source) if any(each is not None for each in named) else _register_faults(source))
    yield from found
    if source.pulse_weight is not None and source.unit is None:
        yield "unit", "missing: what pulse_weight counts, such as kWh"
    if not found:
        yield from _width_faults(source)
    if source.instance > 1 and not found and not target_of("", source).sunspec:
        yield "instance", "is only for SunSpec: with sunspec, or with a profile of SunSpec models"


def caution_of(source: Source) -> str:
    """Why to compare this source with the meter's display before anything is sent; "" where nothing is in doubt."""
    if not source.profile:
        return ""
    profile = profiles.load(source.profile)
    look = 'compare what "meter-gateway read" shows with the meter\'s display before you push it'
    if profile.status == "experimental":
        return f"{source.profile} is experimental: no two sources agree on its registers yet; {look}"
    doubtful = [name for name in _points(source) if profile.points[name].agreement == "no"]
    if doubtful:
        return f"{source.profile}: sources contradict each other about {', '.join(doubtful)}; {look}"
    return ""


def _points(source: Source) -> Sequence[str]:
    return source.points or ((source.point,) if source.point else ())


def _profile_faults(source: Source) -> Iterator[Found]:
    for key in OF_A_REGISTER:
        if getattr(source, key) is not None:
            yield key, "comes from the profile: leave it out, or leave out profile and point"
    if source.profile is None:
        yield "profile", f"is needed beside point; there are: {_some(profiles.names())}"
        return
    try:
        profile = profiles.load(source.profile)
    except UnknownProfile:
        yield "profile", _unknown_profile(source.profile)
        return
    except BadProfile as error:
        yield "profile", f"{source.profile} {error}"
        return
    if source.point is not None and source.points is not None:
        yield "points", "is there instead of point: write one of them"
        return
    if not _points(source):
        yield "point", f"is needed beside profile; {source.profile} has: {', '.join(profile.points)}"
        return
    yield from _point_faults(source, profile)


def _point_faults(source: Source, profile: Profile) -> Iterator[Found]:
    key = "point" if source.point is not None else "points"
    names = _points(source)
    unknown = [name for name in names if name not in profile.points]
    for name in unknown:
        yield key, _unknown("point", name, profile.points)
    if unknown:
        return
    points = [profile.points[name] for name in names]
    if source.unit is None and any(point.unit is None for point in points):
        note = next(point.note for point in points if point.unit is None)
        yield (
            "unit",
            f"is set in the meter itself, the profile cannot know it: look at the display and write it. {note}".rstrip(),
        )
    for name, point in zip(names, points, strict=True):
        last = REGISTERS - WIDTHS[point.type]
        if point.register > last:
            yield (
                key,
                f"{name} is at register {point.register}: {point.type} takes {WIDTHS[point.type]}, so at most {last}",
            )
    yield from _sum_faults(names, points)


def _sum_faults(names: Sequence[str], points: Sequence[Point]) -> Iterator[Found]:
    if twice := _twice(names):
        yield "points", f"has {twice} twice: it would count twice"
    for what, values in (("unit", {point.unit for point in points}), ("kind", {point.kind for point in points})):
        if len(values) > 1:
            yield "points", f"must have one {what} to be added up; these have {', '.join(sorted(map(str, values)))}"
    # a total, its tariffs and its phases are the same energy: added up they would count it twice
    groups: dict[str, str] = {}
    for part in filter(None, map(_PART.fullmatch, names)):
        stem, total, group = part.groups()
        if groups.setdefault(stem, total or group) != (total or group):
            yield "points", f"has parts of {stem} beside its total or other parts: the same energy would count twice"
            return


def _register_faults(source: Source) -> Iterator[Found]:
    registers = source.registers or (() if source.register is None else (source.register,))
    if source.register is not None and source.registers is not None:
        yield "registers", "is there instead of register: write one of them"
    elif not registers:
        yield "register", "missing: write register and type, or profile and point"
    if twice := _twice(registers):
        yield "registers", f"has {twice} twice: it would count twice"
    elif source.type and (near := _overlap(registers, WIDTHS[source.type])):
        yield (
            "registers",
            f"must not overlap; {near[0]} and {near[1]} do: {source.type} takes {WIDTHS[source.type]} registers",
        )
    yield from _beside_faults(source)
    if source.type is None:
        yield "type", f"missing: one of {', '.join(WIDTHS)}, as the meter's manual says"
        return
    width = WIDTHS[source.type]
    if any(register + width > REGISTERS for register in registers):
        key = "register" if source.register is not None else "registers"
        yield key, f"must be at most {REGISTERS - width}: {source.type} takes {width} registers"


def _beside_faults(source: Source) -> Iterator[Found]:
    """Keys that say something about others."""
    for key in BESIDE:
        if source.registers is not None and getattr(source, key) is not None:
            yield key, "belongs to one value: it goes with register, not with registers"
    for key in ("fraction_type", "fraction_scale"):
        if source.fraction_register is None and getattr(source, key) is not None:
            yield key, "says something about fraction_register, which is missing"
    if source.fraction_register is not None and source.fraction_scale is None:
        yield "fraction_scale", "missing: what one count of the fraction is, such as 0.001"
    if source.sunspec is not None and source.table == "input":
        yield "table", "must be holding: SunSpec knows no input registers"


def _width_faults(source: Source) -> Iterator[Found]:
    """A value is never split, nor read apart from what belongs to it."""
    target = target_of("", source)
    width = max(part.place.width for part in parts_of(target))
    profile = profiles.load(source.profile) if source.profile else None
    most = source.max_registers or (profile.max_registers if profile else USUAL_REGISTERS)
    if width <= most:
        return
    if width > MOST_REGISTERS:
        key = "point" if profile else next((each for each in BESIDE if getattr(source, each) is not None), "type")
        what = "what belongs to the value is too far from it" if profile else "is too far from register"
        yield key, f"{what}: one request must read both, and takes at most {MOST_REGISTERS} registers, not {width}"
        return
    message = f"must be at least {width}: a value is never split over two requests"
    if width != target.encoding.width:
        message += ", nor read apart from its fraction, exponent or factor"
    if source.max_registers is None:
        message = f"missing: {message}; {width} registers are more than this device is asked for at once ({most})"
    yield "max_registers", message


def _overlap(registers: Sequence[int], width: int) -> tuple[int, int] | None:
    row = sorted(registers)
    return next(((low, high) for low, high in pairwise(row) if high - low < width), None)


def _twice(names: Sequence[object]) -> str:
    return next((str(name) for at, name in enumerate(names) if name in names[:at]), "")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more (docs/meters.md)" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _unknown_profile(name: str) -> str:
    if "/" in name or name.endswith(".toml"):
        return f'unknown profile "{name}"; one of your own is named with its whole path: "/etc/meter-gateway/my-meter.toml"'
    return _unknown_of("profile", name, profiles.names(), profiles.like(name))


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=MOST_NAMES // 2)
    if f"{name}_total" in names:  # rather than its first phase, which differs by fewer letters
        close.insert(0, f"{name}_total")
    return _unknown_of(what, name, names, close)


def _unknown_of(what: str, name: str, names: Sequence[str], close: Sequence[str]) -> str:
    meant = f'; did you mean "{close[0]}"?' if close else ""
    shown = names if len(names) <= MOST_NAMES else [*close, *(each for each in names if each not in close)]
    return f'unknown {what} "{name}"; there are: {_some(shown)}{meant}'
