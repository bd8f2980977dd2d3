"""What an operator writes about a topic: a meter's `source` on an MQTT connection. Imports neither paho nor jmespath."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from drivers.fields import LARGEST, LONGEST, Duration, Exact, SourceBase, Words
from drivers.mqtt import preset as presets
from drivers.mqtt.body import Format
from drivers.mqtt.sparkplug import topic_of
from drivers.mqtt.stamps import form_fault, zone_of
from drivers.mqtt.topics import filter_fault


def _topic(value: str) -> str:
    fault = filter_fault(value)
    if fault:
        raise ValueError(fault)
    return value


def _expression(value: str) -> str:
    from drivers.mqtt.expressions import compile_expression  # noqa: PLC0415 - a Modbus-only box never loads jmespath

    compile_expression(presets.emptied(value))
    return value


def _expressions(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    for each in paths(value):
        _expression(each)
    return value


def _zone(value: str) -> str:
    zone_of(value)
    return value


def _time_format(value: str) -> str:
    fault = form_fault(value)
    if fault:
        raise ValueError(fault)
    return value


def _identifier(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _placed(value: str) -> str:
    fault = presets.filling_fault(value)
    if fault:
        raise ValueError(fault)
    return value


PATH = Words("a JMESPath expression in quotes")
Expression = Annotated[str, AfterValidator(_expression), PATH]
Expressions = Annotated[
    str | Annotated[tuple[str, ...], Field(strict=False, min_length=1, max_length=100)],
    AfterValidator(_expressions),
    Words("a JMESPath expression in quotes, or a list of them"),
]
Filling = Annotated[str, BeforeValidator(_identifier), AfterValidator(_placed), Words("a name in quotes")]


class Source(SourceBase):
    """A meter's `source` on an MQTT connection: a preset and its device, or a topic and where in it the number is."""

    preset: str | None = Field(
        None, description="Known sender of messages: fills in the keys below; what stands here as well, wins."
    )
    point: str | None = Field(None, description="Which of the preset's values. Default: its first.")
    device: Filling | None = Field(
        None, description="What stands for `{device}` in `topic` and in the expressions, of the preset or written here."
    )
    channel: Filling | None = Field(None, description="What stands for `{channel}` there.")
    topic: Annotated[str, AfterValidator(_topic), Words("a topic in quotes")] = Field(
        description="Topic of the meter's messages; most presets know it. With `+` or `#`, all topics that match are "
        "this one meter."
    )
    format: Literal["auto", "raw", "json", "csv", "influx", "sparkplug"] = Field(
        "auto",
        description="`raw`: the payload is one number. `json`, `csv`, `influx` (line protocol), `sparkplug` (B). "
        "`auto`: `json` where `value` is given, else `raw`.",
    )
    header: bool = Field(
        True,  # noqa: FBT003 - pydantic's default
        description='Only for `csv`: whether the first row names the columns. Then `value = "energy"` is a column, else '
        '`"[3]"` the fourth one.',
    )
    separator: Literal[",", ";", "tab"] | None = Field(
        None, description="Only for `csv`: what stands between two columns. Default: the commonest in the first row."
    )
    each: Expression | None = Field(
        None,
        description="JMESPath of an array: every item is looked into by itself, with `value`, `time` and `where` from "
        "there. Of `csv` the items are the rows, of `influx` the lines.",
    )
    where: Expression | None = Field(
        None,
        description="JMESPath that must be true, else it is no reading: `status=='OK'`, ``qc==`3` ``, `id=='{device}'`.",
    )
    value: Expressions | None = Field(
        None,
        description="JMESPath of the number; a number in quotes is taken too. Keys with `:` `.` `-` or blanks need double "
        "quotes: `'\"em:0\".total'`. A list: the sum of several, of which none may be missing. Of `influx`: `fields.NAME`.",
    )
    metric: str | None = Field(
        None, min_length=1, description="Only for `sparkplug`, and needed there: the metric's name."
    )
    time: Expression | None = Field(
        None,
        description="JMESPath of the reading's time; of `influx`: `time`. Without it a reading gets the time of its "
        "arrival. Sparkplug metrics bring their own.",
    )
    time_format: Annotated[str, AfterValidator(_time_format), Words('a time format such as "iso"')] = Field(
        "auto",
        description="`iso`, `epoch_s`, `epoch_ms`, `epoch_ns`, or `strptime:` and a format of Python's, such as "
        "`strptime:%Y.%m.%d %H:%M:%S`. `auto` takes text for ISO 8601 and numbers for one of the three by their size.",
    )
    tz: Annotated[str, AfterValidator(_zone), Words('a time zone such as "Europe/Helsinki" or "+02:00"')] | None = (
        Field(
            None,
            description="Zone of times that name none: an IANA name, or a fixed offset such as `+02:00` for meters that keep "
            "standard time all year. Without it such times are rejected.",
        )
    )
    offset: Annotated[Exact, Field(ge=-LARGEST, le=LARGEST)] = Field(
        default=Decimal(0), description="Added to the scaled value, in `unit`: what stood on the meter at pulse 0."
    )
    deltas: Expressions | None = Field(
        None,
        description="For uplinks that bring several readings at once: JMESPath of the increments that follow `value`, an "
        "array or a list of paths. They become counter readings, each `step` after the one before.",
    )
    step: Annotated[Duration, Field(gt=0, le=LONGEST)] | None = Field(
        None, description="Only for `deltas`, and needed there: the time between two of them."
    )
    time_marks: Literal["first", "last"] = Field(
        "last", description="Only for `deltas`: whether `time` is the instant of `value` or that of the last increment."
    )
    use_retained: bool = Field(
        False,  # noqa: FBT003 - pydantic's default
        description="Whether a retained message without a time of its own is a reading of the moment of its arrival; "
        "only for counters.",
    )
    accept_double_count: bool = Field(
        False,  # noqa: FBT003 - pydantic's default
        description='Allows `kind = "interval"` without `time`, although MQTT may deliver a message twice and it then '
        "counts twice.",
    )
    rebirth: bool = Field(
        False,  # noqa: FBT003 - pydantic's default
        description="Only for `sparkplug`: whether the edge node may be asked to introduce itself anew when something "
        "of it was missed, at most every 5 minutes. This publishes a command to the plant.",
    )
    poke_topic: Annotated[str, AfterValidator(_topic), Words("a topic in quotes")] | None = Field(
        None, description="Topic to publish to every so often, for devices that fall silent else (Victron)."
    )
    poke_payload: str = Field("", description="What to publish there; the first one after connecting is empty.")
    poke_every: Annotated[Duration, Field(ge=5, le=3600)] = Field(30.0, description="How often.")

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, table: Any) -> Any:  # noqa: ANN401 - whatever was written
        return presets.filled(table) if isinstance(table, dict) else table


def format_of(source: Source) -> Format:
    """How the payload is written."""
    if source.format == "auto":
        return "raw" if source.value is None else "json"
    return source.format


def kind_of(source: Source) -> str:
    """The kind of a source's number."""
    return source.kind or "counter"


def paths(written: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """A path or several as several."""
    return (written,) if isinstance(written, str) else written or ()


def mark_of(source: Source) -> str:
    """What tells this meter's messages from others on its topic: the rest of a sentence that begins with "none that"."""
    if source.format == "sparkplug":
        return f'has metric "{source.metric}"' + (f' of device "{source.device}"' if source.device else "")
    if source.where is not None:
        return f"meets where ({source.where})"
    within = f" in {source.each}" if source.each else ""
    return f"has a number at {' + '.join(paths(source.value))}{within}" if source.value else f"is a number{within}"


def edge_of(source: Source) -> str:
    """The Sparkplug edge node that it is read from, GROUP/NODE; "" where it is none."""
    topic = topic_of(source.topic) if source.format == "sparkplug" else None
    return topic.edge if topic else ""
