"""What a device is: which registers are read of it, and which profiles its answers fit. Pure.

First the registers that identify, then the SunSpec mark, then the main register of every profile, at last some more of
those profiles that are left. Nothing is asked twice, however many profiles want it. A profile is out when its main register
is refused or holds what no meter says; what speaks for the others is added up, and several may be left.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from drivers.modbus.decode import NoValue, is_float
from drivers.modbus.orders import likely
from drivers.modbus.plan import Place
from drivers.modbus.source import Source
from drivers.modbus.sunspec import Model, Walk
from drivers.modbus.target import Target, parts_of, placed, target_of
from drivers.modbus.wire import Answer, ExceptionAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from drivers.base import AnswerError
    from drivers.modbus.profile import Identification, Profile

MAIN = ("energy_import_total", "heat_energy_total")  # the points that most meters are there for
POINTS = 4  # of a profile are looked at
SILENCES = 3  # after which nothing more is asked: a device that is silent where others refuse costs a timeout each
NAMED, FITS_MODEL, ANSWERS, SILENT_NAME, OTHER_NAME = 50, 30, 5, -3, -100
LIKELY, ZERO, MARKED, POSSIBLE = 10, 3, 4, 2
MORE_LIKELY, MORE_REFUSED, MORE_ODD = 3, -3, -6
EXPERIMENTAL = -1
SHORTEST_NAME = 3  # characters of a model's name that tell something in a text


class Value(NamedTuple):
    """What a point shows, to be compared with the display."""

    point: str
    value: Decimal
    unit: str | None


class Suggestion(NamedTuple):
    """A profile that fits, with what speaks for it and against it.

    `point`: the one that a configuration would take; `register`: where and how that is read, the same text for two profiles
    that read it alike.
    """

    profile: str
    score: int
    reasons: tuple[str, ...]
    point: str
    register: str
    values: tuple[Value, ...]


class Examination:
    """One device's examination: ask what `wanted` says, tell what came with `heard`."""

    def __init__(self, profiles: Mapping[str, Profile], names: Sequence[str] = ()) -> None:
        """Against these profiles. `names`: what the device says it is, where that was asked."""
        self.models: list[int] = []  # of SunSpec, as the device lists them
        self.texts: dict[Place, str] = {}  # what identifies it, for people
        self.cut = False  # too many silences: not everything was asked
        self.wanted: Place | None = None
        self._profiles = profiles
        self._names = " ".join(names)
        self._words: dict[Place, Sequence[int] | None] = {}  # None: refused, or silent
        self._placed: list[Model] = []
        self._known: dict[str, list[tuple[str, Target]]] = {}  # targets of each profile, once SunSpec is settled
        self._silences = 0
        self._course = self._asking()
        self._advance()

    def heard(self, outcome: Answer | AnswerError) -> None:
        """What came for `wanted`."""
        assert self.wanted is not None
        answered = isinstance(outcome, Answer)
        self._words[self.wanted] = outcome.words if isinstance(outcome, Answer) else None
        self._silences = 0 if answered or isinstance(outcome, ExceptionAnswer) else self._silences + 1
        if self._silences >= SILENCES:
            self.cut, self.wanted = True, None
            return
        self._advance()

    def suggestions(self) -> list[Suggestion]:
        """The profiles that fit, best first."""
        found = [each for name in self._profiles if (each := self._judged(name)) is not None]
        return sorted(found, key=lambda each: (-each.score, each.profile))

    def _advance(self) -> None:
        self.wanted = next(self._course, None)

    def _asking(self) -> Iterator[Place]:
        """Every place that has to be read, one after the other; what came is in `_words` when it goes on."""
        for profile in self._profiles.values():
            for each in profile.identification:
                yield from self._unknown(_place_of(each))
        yield from self._walk()
        for name in self._profiles:
            yield from self._of_points(name, 1)
        for name in [name for name in self._profiles if self._judged(name) is not None]:
            yield from self._of_points(name, POINTS)

    def _walk(self) -> Iterator[Place]:
        walk = Walk()
        while (place := walk.wanted) is not None:
            yield from self._unknown(place)
            words = self._words.get(place)
            if words is None:
                walk.refused()
            else:
                walk.heard(words)
        self._placed = walk.models
        self.models = [model.number for model in walk.models]

    def _of_points(self, name: str, count: int) -> Iterator[Place]:
        for _, target in self._targets(name)[:count]:
            for part in parts_of(target):
                yield from self._unknown(part.place)

    def _unknown(self, place: Place) -> Iterator[Place]:
        if place not in self._words:
            yield place

    def _targets(self, name: str) -> list[tuple[str, Target]]:
        """The first points of a profile, the main one before all; none where its SunSpec model is not there."""
        if name not in self._known:
            self._known[name] = self._found_targets(self._profiles[name], name)
        return self._known[name]

    def _found_targets(self, profile: Profile, name: str) -> list[tuple[str, Target]]:
        counters = [point for point, facts in profile.points.items() if facts.kind == "counter"]
        main = next((point for point in MAIN if point in profile.points), (counters or list(profile.points))[0])
        others = [point for point in profile.points if point != main]
        targets = []
        for point in [main, *others[: POINTS - 1]]:
            target = target_of(
                "", Source.model_validate({"connection": "", "device": 1, "profile": name, "point": point})
            )
            at = placed(target, self._placed) if target.sunspec else target
            if at is not None:
                targets.append((point, at))
        return targets

    # --- judging ------------------------------------------------------------------------------------------------------

    def _judged(self, name: str) -> Suggestion | None:
        profile, targets = self._profiles[name], self._targets(name)
        if not targets:
            return None
        named, reasons = self._named(profile)
        if profile.sunspec:
            named += FITS_MODEL
            reasons.append(f"it lists the SunSpec model {next(m for m in self.models if m in profile.sunspec)}")
        main = self._weight(targets[0][1])
        if main is None or main < 0 or named <= OTHER_NAME:
            return None
        more = {point: self._weight(target) for point, target in targets[1:] if target.place in self._words}
        score = named + main + sum(_of_further(weight) for weight in more.values())
        score += EXPERIMENTAL if profile.status == "experimental" else 0
        values = tuple(value for point, target in targets if (value := self._value(point, target)) is not None)
        reasons.append(f"{targets[0][1].where} {_words_for(main)}")
        against = [point for point, weight in more.items() if weight is None or weight < 0]
        reasons += [f"{len(more) - len(against)} of {len(more)} more values fit"] if more else []
        reasons += [f"not {', '.join(against)}"] if against else []
        fits = score > 0 or main >= LIKELY
        point, target = targets[0]
        register = f"{target.identity} in {target.unit or 'its own unit'}"
        return Suggestion(name, score, tuple(reasons), point, register, values) if fits else None

    def _named(self, profile: Profile) -> tuple[int, list[str]]:
        """What the identifying registers say of a profile; OTHER_NAME: it is another meter."""
        score, reasons = 0, []
        if self._names and _model_in(profile, self._names):
            score, reasons = NAMED, [f'it calls itself "{self._names}"']
        for each in profile.identification:
            place = _place_of(each)
            words = self._words.get(place)
            if words is None:
                score += SILENT_NAME if place in self._words else 0
                continue
            text = _text(words) if each.kind == "text" else _number(words)
            about = each.note.partition(",")[0] or "identification"
            self.texts[place] = text if each.kind == "text" else f"{about} {text}"
            if each.expect and not text.startswith(each.expect):
                return OTHER_NAME, []
            fits = bool(each.expect) or (each.kind == "text" and _named_in(profile, text))
            score += NAMED if fits else ANSWERS
            reasons.append(f'it says "{text}"' if each.kind == "text" else f"{about} {text}")
        return score, reasons

    def _weight(self, target: Target) -> int | None:
        """How well the words of a target fit a meter; None where it gave none."""
        words = self._words.get(target.place)
        if words is None:
            return None
        try:
            value = target.value(words)
        except NoValue as error:
            return MARKED if error.reason == "not available" else MORE_ODD
        if value < 0 and target.kind == "counter":
            return MORE_ODD
        if not value:
            return ZERO
        if target.place.width == target.encoding.width and not likely(words, target.encoding):
            return MORE_ODD if is_float(target.encoding.type) else POSSIBLE
        return LIKELY

    def _value(self, point: str, target: Target) -> Value | None:
        words = self._words.get(target.place)
        try:
            return None if words is None else Value(point, target.value(words), target.unit)
        except NoValue:
            return None


def _of_further(weight: int | None) -> int:
    if weight is None:
        return MORE_REFUSED
    return MORE_LIKELY if weight >= LIKELY else min(weight, 1)


def _words_for(weight: int) -> str:
    return {LIKELY: "looks like a meter's value", ZERO: "is 0", MARKED: 'says "no value"'}.get(weight, "is possible")


def _place_of(each: Identification) -> Place:
    return Place(each.table, each.register, each.count)


def _text(words: Sequence[int]) -> str:
    """Two characters a register, without what cannot be shown."""
    raw = b"".join(word.to_bytes(2, "big") for word in words)
    return "".join(chr(byte) for byte in raw if 0x20 <= byte < 0x7F).strip()


def _number(words: Sequence[int]) -> str:
    """A whole number, the highest word first."""
    return str(int.from_bytes(b"".join(word.to_bytes(2, "big") for word in words), "big"))


def _named_in(profile: Profile, text: str) -> bool:
    """Whether a text holds the maker's name, or one of the model's."""
    return profile.manufacturer.lower() in text.lower() or _model_in(profile, text)


def _model_in(profile: Profile, text: str) -> bool:
    names = profile.model.replace("/", " ").replace(",", " ").split()
    return any(len(name) >= SHORTEST_NAME and name.lower() in text.lower() for name in names)
