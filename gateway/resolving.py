"""From the draft of one meter to the meter: what its source gives, how that becomes the meter's unit, how often to expect it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal, cast

from buffer.model import from_micro
from drivers import registry
from drivers.fields import Kind, SourceBase
from drivers.registry import SourceFacts
from gateway import units
from gateway.drafting import MeterDraft
from gateway.faults import Findings
from gateway.sections import MeterSection
from gateway.validating import Checked

SHORTEST_MAX_GAP = 60.0  # s
COUNTERS = (("resolution", "counter"), ("rollover", "counter"), ("reset", "counter"))
GAP_POLLS = 3  # power is integrated over silences of up to three expected readings


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter ready to be collected.

    A reading in `reading_unit` x `factor` is in `unit` (kind power: in `unit` per hour). Times are seconds: `hold` is how long a value
    holds that is reported only when it changes, `lateness` how long an hour rests. `max_rate` is in `unit` per hour, `resolution` and
    `rollover` in `unit`. `where` says for people what is read on the connection; `register` names what makes it this register
    and no other, `caution` why an operator should look twice.
    """

    name: str
    enerkey_id: int | None
    push: Literal["consumption", "cumulative", "off"]
    account: str  # of EnerKey; "" is [enerkey] itself
    unit: str
    max_rate: Decimal | None
    resolution: Decimal | None
    float32: bool
    rollover: Decimal | None
    reset: Literal["never", "zero"]
    gap: Literal["spread", "arrival", "hole"] | None
    late: Literal["delta", "next_hour", "alarm"]
    net: bool
    start_value: Decimal
    source: SourceBase
    kind: Kind
    reading_unit: str
    factor: Fraction
    expected_every: float
    hold: float
    lateness: float | None
    max_gap: float
    period: float | None
    stamp: Literal["start", "end"] | None
    where: str
    register: str
    caution: str = ""


def resolve(draft: MeterDraft, findings: Findings, *, driver_content: bool) -> Meter | None:
    """The meter; None where a fault stands in the way (reported here or before). `driver_content`: its driver found no fault."""
    section, source = draft.section.value, draft.source
    if section is not None:
        _check_unit(draft.section, findings)
    if section is None or source is None or source.value is None:
        return None
    described = driver_content and draft.connection is not None and draft.connection.driver is not None
    facts = _described(draft, source.value) if described else _as_written(source.value)
    if described or source.value.kind:
        _check_kind(source, facts.kind, findings)
        _check_rules(draft.section, facts.kind, findings)
    factor = _factor(draft, facts, findings) if described or facts.unit else None
    if not described or factor is None or facts.unit is None:
        return None
    return _meter(draft, facts, facts.unit, factor)


def _described(draft: MeterDraft, source: SourceBase) -> SourceFacts:
    if draft.connection is None or draft.connection.driver is None:
        raise AssertionError("asked only where the driver is known")
    return registry.config_of(draft.connection.driver).describe(source)


def _as_written(source: SourceBase) -> SourceFacts:
    return SourceFacts(source.unit, source.kind or "counter", "")


def _check_unit(section: Checked[MeterSection], findings: Findings) -> None:
    unit = section.written(("unit",))
    if isinstance(unit, str) and unit not in units.AMOUNTS:
        message, suggestion = _unknown_unit(unit, "counter")
        section.add(findings, ("unit",), message, suggestion)


def _unknown_unit(unit: str, kind: str) -> tuple[str, str]:
    """What to say of a unit that this kind does not know, and the one that was probably meant."""
    if kind == "power" and unit in units.AMOUNTS:
        return f'is an amount; kind = "power" takes {", ".join(units.allowed(kind))}', ""
    if kind != "power" and unit in units.RATES:
        return 'is an amount per time: write kind = "power" beside it, or the unit of the register', ""
    there = ", ".join(units.allowed(kind))
    return f'unknown unit "{unit}"; there are: {there}', units.nearest(unit, kind) or ""


def _check_kind(source: Checked[SourceBase], kind: str, findings: Findings) -> None:
    """Keys that a kind needs, and keys that only another kind has a use for."""
    written = {key: source.written((key,)) for key in ("period", "stamp", "max_gap", "resolution", "rollover", "reset")}
    if kind == "interval":
        for key, what in (("period", 'the time that one value covers, such as "15m"'), ("stamp", '"start" or "end"')):
            if written[key] is None:
                source.add(findings, (key,), f'missing: kind = "interval" needs {what}')
    if source.written(("direction",)) is not None and kind == "counter":
        source.add(findings, ("direction",), "is only for kinds interval and power: a counter never shows less than 0")
    for key, owner in (("period", "interval"), ("stamp", "interval"), ("max_gap", "power"), *COUNTERS):
        if written[key] is not None and kind != owner:
            source.add(findings, (key,), f'is only for kind = "{owner}", and this is a {kind}')


def _check_rules(section: Checked[MeterSection], kind: str, findings: Findings) -> None:
    """Keys of the meter that only some kinds have a use for."""
    if section.written(("gap",)) is not None and kind != "counter":
        section.add(
            findings, ("gap",), f'is only for kind = "counter", and this is a {kind}: nothing is known of its gaps'
        )
    if section.written(("late",)) is not None and kind == "counter":
        section.add(
            findings, ("late",), "is only for kinds interval and power: a counter's next reading carries late energy"
        )
    if section.written(("start_value",)) is not None and kind == "counter":
        section.add(findings, ("start_value",), "is only for kinds interval and power: a counter has its own register")


def _factor(draft: MeterDraft, facts: SourceFacts, findings: Findings) -> Fraction | None:
    """What turns a reading into the meter's unit; None where nothing does (reported)."""
    section, source = draft.section, draft.source
    if source is None or section.value is None:
        raise AssertionError("asked only where both could be read")
    if facts.unit is None:
        source.add(findings, ("unit",), f"missing: one of {', '.join(units.allowed(facts.kind))}")
        return None
    if facts.unit not in (units.RATES if facts.kind == "power" else units.AMOUNTS):
        source.add(findings, ("unit",), *_unknown_unit(facts.unit, facts.kind))
        return None
    meter_unit = section.value.unit
    if "unit" in section.guessed or meter_unit not in units.AMOUNTS:
        return None
    factor = units.factor(facts.unit, meter_unit, facts.kind)
    if factor is None:
        there, here = units.quantity(facts.unit, facts.kind), units.quantity(meter_unit, "counter")
        fits = units.allowed(facts.kind, here)
        hint = f"; write one of {', '.join(fits)}" if fits else f'; nothing of kind "{facts.kind}" can'
        source.add(
            findings, ("unit",), f"{facts.unit} ({there}) cannot become {meter_unit} ({here}), the meter's unit{hint}"
        )
    return factor


def _meter(draft: MeterDraft, facts: SourceFacts, reading_unit: str, factor: Fraction) -> Meter | None:
    section = draft.section.value
    source = draft.source.value if draft.source else None
    connection = draft.connection
    if section is None or source is None or connection is None or connection.checked is None:
        return None
    if connection.driver is None or connection.checked.value is None:
        return None
    every = registry.config_of(connection.driver).pace(connection.checked.value, source)
    kind = cast("Kind", facts.kind)
    return Meter(
        name=section.name,
        enerkey_id=section.enerkey_id,
        push=section.push,
        account=section.account or "",
        unit=section.unit,
        max_rate=_converted(facts.max_rate, facts, factor) if section.max_rate is None else section.max_rate,
        resolution=_converted(facts.resolution, facts, factor),
        float32=facts.float32,
        rollover=_converted(facts.rollover, facts, factor),
        reset=source.reset or "never",
        gap=section.gap,
        late=section.late,
        net=source.direction == "net",
        start_value=section.start_value,
        source=source,
        kind=kind,
        reading_unit=reading_unit,
        factor=factor,
        expected_every=every,
        hold=every if source.report == "on_change" else 0.0,
        lateness=source.lateness,
        max_gap=source.max_gap or max(SHORTEST_MAX_GAP, GAP_POLLS * every),
        period=source.period,
        stamp=source.stamp,
        where=facts.where,
        register=f"{facts.register} x {factor}",
        caution=facts.caution,
    )


def _converted(amount: str | None, facts: SourceFacts, factor: Fraction) -> Decimal | None:
    """An amount of a counter in the meter's unit; None where there is none, or one beyond every value a counter can take."""
    if amount is None or facts.kind != "counter":
        return None
    try:
        return from_micro(units.to_micro(Decimal(amount), factor))
    except OverflowError:
        return None
