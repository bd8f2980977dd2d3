"""What a topic's messages may be read as: for each number that looks like a meter's a source, and why. Pure.

A preset that fits comes first. Else the name of the number and whether it rises decide. Whatever is proposed is a guess about
a device that nobody has described: a person compares value and unit with the meter's display.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from drivers.mqtt.births import Births
from drivers.mqtt.body import Body, Form
from drivers.mqtt.figures import Figure, figures, form_of, is_usable
from drivers.mqtt.naming import NAMED, Guess, guess
from drivers.mqtt.payload import Sample, extract, mapping_of
from drivers.mqtt.recognising import Fit, fits, source_of
from drivers.mqtt.source import Source, kind_of, paths
from drivers.mqtt.sparkplug import NAMESPACE, number_in, topic_of
from drivers.mqtt.stamps import believed, from_epoch
from drivers.mqtt.values import PayloadError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from drivers.base import Now
    from drivers.mqtt.births import Told
    from drivers.mqtt.sparkplug import Topic

MOST = 12  # proposals for one topic
RISING, FALLING = 3, -4  # points of a number that rose, or fell, from one message to another
LEVELS = 3  # of a topic that may say what a number is, from its end
USUAL = {"counter": "kWh", "power": "W"}  # the unit where nothing tells one
EPOCH = range(1_400_000_000, 2_300_000_000)  # seconds; a number in it that nothing names is rather a time
NO_BIRTH = "Sparkplug names its values in BIRTH messages, and none was heard: they come when the node connects"
COMMON_LEVELS = {  # that every device of a sender has
    "sensor", "json", "status", "up", "telemetry", "reading", "raw", "result", "event", "events", "rpc", "tele", "stat",
}  # fmt: skip
SAYS_NOTHING = {"value", "val", "v", "state", "data", "values", "fields", "payload", "current_value"}

KINDS = ("counter", "power")  # points of presets whose values have names of their own
WORDLESS = 10  # likeness that a number loses whose name says nothing

RUNNING = {  # words that no amount of a period has
    "total", "totals", "cumulative", "accumulated", "counter", "register", "index", "lifetime",
}  # fmt: skip
NEW_AFTER = 10  # a counter that rises by a tenth of itself while somebody listens is as new as that
UNIT_GUESSED = "the unit is a guess: compare with the meter's display"
ZONE_GUESSED = "tz is this machine's zone: is it the device's, too?"
PERIOD_HINT = 'if each value is the amount of one period, write kind = "interval" and period'


class Heard(NamedTuple):
    """What came on a topic: the newest payload, and an earlier one if there was one.

    `births`: topic and payload of the BIRTH messages of a Sparkplug node, the node's own first. `unit`: what a neighbouring
    topic says of it, as Home Assistant and Homie have it. `messages`: how many came from the earlier one, or from the first,
    to the newest; 1 where nothing is known of what others said.
    """

    topic: str
    newest: bytes
    earlier: bytes | None = None
    births: Sequence[tuple[str, bytes]] = ()
    unit: str = ""
    messages: int = 1


class Proposal(NamedTuple):
    """One number and the source that reads it: `keys` as an operator writes them, without `connection`."""

    keys: dict[str, Any]
    name: tuple[str, ...]  # words that the meter may be called by
    value: Decimal | None  # None where the newest message is no reading; `doubts` says why
    unit: str
    kind: str
    at: datetime | None  # its own time
    reasons: tuple[str, ...]
    doubts: tuple[str, ...]
    likeness: int  # comparable within one topic


class Proposed(NamedTuple):
    """All of one topic, the likeliest first. `remark`: what is missing where nothing can be proposed."""

    proposals: list[Proposal]
    remark: str = ""


def propose(heard: Heard, now: Now, zone: str) -> Proposed:
    """What the topic may be read as; never raises. `zone`: this machine's, for times that name none."""
    if heard.topic.startswith(f"{NAMESPACE}/"):
        return _of_sparkplug(heard, now)
    said = _Said(heard, now)
    fitting = [each for fit in fits(heard.topic, said.newest, now, zone) if (each := _of_fit(fit, said))]
    units_are_known = any(each.value is not None and UNIT_GUESSED not in each.doubts for each in fitting)
    guessed = [each for each in _of_names(said, zone) if not (units_are_known and UNIT_GUESSED in each.doubts)]
    return Proposed(_best([*fitting, *guessed]))


class Course(NamedTuple):
    """How a number changed while it was listened to: in words, and in points of a counter.

    `counts`: as only a counter does. The amount of a period may stand still or rise, too, but then by much of itself.
    """

    words: tuple[str, ...]
    points: int
    counts: bool = False


class _Said:
    """What came on a topic, decoded once however often it is looked into."""

    def __init__(self, heard: Heard, now: Now) -> None:
        self.topic = heard.topic
        self.unit = heard.unit
        self.messages = heard.messages
        self.now = now
        self.newest = Body(heard.newest)
        self.earlier = None if heard.earlier is None else Body(heard.earlier)

    def sample(self, source: Source) -> Sample | None:
        """What a source finds in the newest message."""
        return self._sample(source, self.newest)

    def course(self, source: Source, value: Decimal | None) -> Course:
        """How the number changed from one message to another."""
        if self.earlier is None:
            return _course(value, value, self.messages)
        before = self._sample(source, self.earlier)
        return _course(before.value if before else None, value, self.messages)

    def _sample(self, source: Source, body: Body) -> Sample | None:
        found = extract(body, mapping_of(source), self.now)
        return next((each for each in reversed(found) if isinstance(each, Sample)), None)


def _course(before: Decimal | None, value: Decimal | None, messages: int) -> Course:
    if before is None or value is None:
        return Course((), 0)
    change = value - before
    if not change:
        return Course((f"it was the same in the first and the last of {messages} messages",) if messages > 1 else (), 0)
    words = (f"it {'rose' if change > 0 else 'fell'} by {abs(change)} meanwhile",)
    return Course(words, RISING if change > 0 else FALLING, counts=0 < change * NEW_AFTER < value)


def _best(proposals: Sequence[Proposal]) -> list[Proposal]:
    """Of each number the likeliest way to read it."""
    best: dict[str, Proposal] = {}
    for each in sorted(proposals, key=lambda proposal: -proposal.likeness):
        best.setdefault(_place(each.keys), each)
    return list(best.values())[:MOST]


def _place(keys: Mapping[str, Any]) -> str:
    """Where in the message a source finds its number."""
    source = Source.model_validate({"connection": "broker", "unit": "kWh", **keys})
    chosen = source.where if source.each or source.format in {"csv", "influx"} else None
    return repr((source.each, chosen, paths(source.value), source.metric))


# --- presets ----------------------------------------------------------------------------------------------------------


def _of_fit(fit: Fit, heard: _Said) -> Proposal | None:
    """A preset that fits, unless the name says that the number is something else."""
    kind = kind_of(fit.source)
    generic = not fit.own_unit or fit.source.point in KINDS or (fit.source.point is None and kind == "power")
    own = [part.strip('"') for path in paths(fit.source.value)[:1] for part in reversed(path.split("."))]
    point = fit.source.point if fit.source.point and not generic else ""
    said = guess(_telling([*own, *_levels(heard.topic), point or ""]), fit.unit or heard.unit)
    value = fit.sample.value if fit.sample else None
    course = heard.course(fit.source, value)
    if generic and (said.refused or not _is_of_kind(fit, said, value, rising=course.points > 0)):
        return None
    if fit.chosen and not said.words and len(own[0]) < 2:
        return None
    if kind == "counter" and value is not None and value < 0:
        return None
    doubts = [fit.problem] if fit.problem else []
    keys = dict(fit.keys)
    if not fit.own_unit:
        keys["unit"], guessed = _unit(said, kind)
        doubts += guessed
    doubts += [ZONE_GUESSED] if "tz" in keys else []
    how = "its topic and keys are" if fit.by_topic else "its keys are, though not its topic,"
    reasons = (f"{how} those of the preset {fit.source.preset}", *course.words)
    name = [str(keys[key]) for key in ("device", "channel", "point") if key in keys and keys[key] not in KINDS]
    name = name if {"device", "channel"} & set(keys) else [_called(heard.topic), *name]
    at = fit.sample.at if fit.sample else None
    likeness = fit.likeness + (course.points if kind == "counter" else 0) - WORDLESS * (fit.chosen and not said.words)
    unit = keys.get("unit") or fit.source.unit or ""
    return Proposal(keys, tuple(name), value, unit, kind, at, reasons, tuple(doubts), likeness)


def _is_of_kind(fit: Fit, said: Guess, value: Decimal | None, *, rising: bool) -> bool:
    """Whether this point is the one of the number's kind, where a preset has one for each kind."""
    kind = kind_of(fit.source)
    if value is not None and value < 0:
        return kind == "power"
    if said.words or rising:
        return kind == said.kind
    return fit.source.point in {None, *(() if kind == "power" else KINDS)} or value is None


def _unit(said: Guess, kind: str) -> tuple[str, list[str]]:
    """The unit to write, and the doubt about it."""
    fits_kind = said.kind == kind and said.unit
    unit = said.unit if fits_kind else USUAL[kind]
    return unit, [] if fits_kind and said.told else [UNIT_GUESSED]


# --- numbers by their names -------------------------------------------------------------------------------------------


def _of_names(heard: _Said, zone: str) -> list[Proposal]:
    decoded = form_of(heard.newest)
    if decoded is None:
        return []
    form, document = decoded
    return [each for figure in figures(form, document, heard.now) if (each := _of_figure(figure, form, heard, zone))]


def _of_figure(figure: Figure, form: Form, heard: _Said, zone: str) -> Proposal | None:
    names = _telling([*figure.names, *_levels(heard.topic)])
    said = guess(names, figure.unit or heard.unit)
    if said.refused or (said.kind == "counter" and figure.number < 0):
        return None
    keys, doubts = _written(figure, form, heard.topic, said, zone)
    source = source_of(keys)
    sample = heard.sample(source) if source else None
    if not source or not sample:
        return None
    course = heard.course(source, sample.value)
    points = said.points + (course.points if said.kind == "counter" else 0)
    if points < NAMED or (not said.words and int(figure.number) in EPOCH):
        return None
    named = [f"it is named {', '.join(said.words)}"] if said.words else []
    summed = ["the sum of the numbers in an array"] if isinstance(keys.get("value"), list) else []
    nearest = [*names[:1], *_levels(heard.topic)[:1]] if figure.names else _levels(heard.topic)[:2]
    doubts += _amount_doubt(said, counts=course.counts and "each" not in keys)
    reasons, name = (*named, *summed, *course.words), tuple(reversed(nearest))
    return Proposal(keys, name, sample.value, keys["unit"], said.kind, sample.at, reasons, tuple(doubts), points)


def _written(figure: Figure, form: Form, topic: str, said: Guess, zone: str) -> tuple[dict[str, Any], list[str]]:
    """The keys of a source without preset, and what is doubtful about them."""
    unit, doubts = _unit(said, said.kind)
    keys = {"topic": topic, **_form_keys(form, figure), **figure.keys}
    if figure.zone_missing:
        keys["tz"] = zone
        doubts.append(ZONE_GUESSED)
    keys["unit"] = unit
    if said.kind == "power":
        keys["kind"] = "power"
    return keys, doubts


def _amount_doubt(said: Guess, *, counts: bool) -> list[str]:
    """The doubt about a counter that neither shows nor says that it is one."""
    return [] if said.kind != "counter" or counts or RUNNING & {*said.words} else [PERIOD_HINT]


def _form_keys(form: Form, figure: Figure) -> dict[str, Any]:
    if form.format in {"raw", "json"}:
        return {}
    time = {} if form.format == "csv" or "time" not in figure.keys else {"time_format": "epoch_ns"}
    return {"format": form.format, **({} if form.header or form.format != "csv" else {"header": False}), **time}


def _levels(topic: str) -> list[str]:
    """The levels of a topic that may say what it is about, the nearest first."""
    return [level for level in reversed(topic.split("/")) if level][:LEVELS]


def _called(topic: str) -> str:
    """The level of a topic that is most likely the meter's own name."""
    levels = [level for level in reversed(topic.split("/")) if level]
    return next((level for level in levels if level.lower() not in SAYS_NOTHING | COMMON_LEVELS), "meter")


def _telling(names: Sequence[str]) -> list[str]:
    """Names without those that every message has."""
    return [name for name in names if name and name.lower() not in SAYS_NOTHING]


# --- Sparkplug --------------------------------------------------------------------------------------------------------


def _of_sparkplug(heard: Heard, now: Now) -> Proposed:
    topic = topic_of(heard.topic)
    if topic is None or topic.kind not in {"NBIRTH", "DBIRTH", "NDATA", "DDATA"}:
        return Proposed([])
    births = Births(None, [topic.edge])
    for name, payload in heard.births:
        _told(births, name, payload)
    before = _told(births, heard.topic, heard.earlier) if heard.earlier else None
    told = _told(births, heard.topic, heard.newest)
    if told is None:
        return Proposed([])
    first = before if heard.earlier else told
    courses = {name: _course(_number(first, name), _number(told, name), heard.messages) for name in told.metrics}
    found = [each for name, course in courses.items() if (each := _of_metric(topic, name, told, course, now))]
    return Proposed(_best(found), NO_BIRTH if told.unknown and not found else "")


def _told(births: Births, topic: str, payload: bytes) -> Told | None:
    parts = topic_of(topic)
    try:
        return births.take(parts, payload) if parts else None
    except PayloadError:
        return None


def _number(told: Told | None, name: str) -> Decimal | None:
    try:
        return number_in(told.metrics[name][-1]) if told and name in told.metrics else None
    except PayloadError:
        return None


def _of_metric(topic: Topic, name: str, told: Told, course: Course, now: Now) -> Proposal | None:
    said = guess([name, topic.device])
    value = _number(told, name)
    if value is None or said.refused or not is_usable(name) or (said.kind == "counter" and value < 0):
        return None
    points = said.points + max(course.points, 0)
    if points < NAMED:
        return None
    unit, doubts = _unit(said, said.kind)
    keys: dict[str, Any] = {"preset": "sparkplug", **({"point": "power"} if said.kind == "power" else {})}
    keys |= {
        "topic": f"{NAMESPACE}/{topic.group}/+/{topic.node}/#",
        **({"device": topic.device} if topic.device else {}),
    }
    keys |= {"metric": name, "unit": unit}
    if source_of(keys) is None:
        return None
    reasons = [f"it is a Sparkplug metric named {', '.join(said.words)}" if said.words else "it is a Sparkplug metric"]
    reasons += course.words
    doubts += _amount_doubt(said, counts=course.counts)
    metric = told.metrics[name][-1]
    stamp = metric.timestamp if metric.timestamp is not None else told.payload.timestamp
    at = _instant(stamp, now)
    return Proposal(
        keys,
        (topic.device or topic.node, *name.split("/")[-1:]),
        value,
        unit,
        said.kind,
        at,
        tuple(reasons),
        tuple(doubts),
        100 + points,
    )


def _instant(stamp: int | None, now: Now) -> datetime | None:
    try:
        return None if stamp is None else believed(from_epoch(Decimal(stamp), "epoch_ms"), now)
    except PayloadError:
        return None
