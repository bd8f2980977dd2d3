"""A table of the configuration against its pydantic model: every fault of the table, and a value to go on checking with.

One mistake must not hide another. Where a key is wrong, a *stand-in* that the model accepts takes its place, so that everything
else of the table is still checked; `Checked.guessed` names such keys, and nothing that follows from them is reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import UnionType
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from drivers.fields import Words, meant_value
from gateway.faults import Findings, Place, nearest, some
from gateway.tomlfile import KeyPath, without_unreadable

Model = TypeVar("Model", bound=BaseModel)

_STAND_INS: tuple[object, ...] = (
    1,
    "1",
    "1s",
    "stand-in",
    True,
    1.0,
    "https://192.0.2.1",
    "tcp://192.0.2.1:502",
    "mqtt://192.0.2.1:1883",
    [],
    ["1"],
    {},
)


@dataclass(frozen=True, slots=True)
class Checked(Generic[Model]):
    """What became of a table. `value` is None where not even stand-ins make one."""

    value: Model | None
    place: Place
    table: Mapping[str, Any]  # as written, under the keys that were meant
    guessed: frozenset[str] = frozenset()
    spelling: Mapping[str, str] = field(default_factory=dict)  # key that was meant -> key as it was written

    def at(self, keys: Iterable[str | int]) -> Place:
        """The place of something below the table, as the operator spelt it."""
        return self.place.below(
            self.spelling.get(str(key), key) if not number else key for number, key in enumerate(keys)
        )

    def written(self, keys: Iterable[str | int]) -> object:
        """What stands there, or None."""
        value: object = self.table
        for key in keys:
            if isinstance(value, Mapping):
                value = value.get(str(key))
            elif isinstance(value, list) and isinstance(key, int) and key < len(value):
                value = value[key]
        return value

    def add(self, findings: Findings, keys: Sequence[str | int], message: str, suggestion: str = "") -> None:
        """Report a fault found later, unless it is only the echo of a key already reported: about it, or speaking of it."""
        if any(key in keys[:1] or re.search(rf"\b{re.escape(key)}\b", message) for key in self.guessed):
            return
        written = self.written(keys)
        if written is None:
            findings.add(self.at(keys), message, suggestion=suggestion)
        else:
            findings.add(self.at(keys), message, written, suggestion)


def check_table(
    model: type[Model],
    table: Mapping[str, Any],
    place: Place,
    findings: Findings,
    trusted: Mapping[str, Any] | None = None,
) -> Checked[Model]:
    """Validate; every fault goes to `findings`. `trusted` overrides keys whose faults are reported elsewhere."""
    readable, unreadable = without_unreadable(dict(table))
    readable, spelling = _respelt(model, readable, place, findings)
    readable |= trusted or {}
    seen: Checked[Model] = Checked(None, place, readable, frozenset(unreadable | set(trusted or {})), spelling)
    readable, guessed = _nested(model, seen, findings)
    reported = seen.guessed | guessed
    for keys, errors in _grouped(model, readable).items():
        if not (keys and keys[0] in reported):
            guessed |= {str(key) for key in keys[:1]}
            _report(seen, keys, errors, model, findings)
    checked = replace(seen, guessed=seen.guessed | guessed)
    filled = _with_stand_ins(model, readable, (unreadable | guessed) - set(trusted or {}))
    if checked.guessed:
        _report_whole(model, filled, checked, findings)
    return replace(checked, value=_built(model, filled))


def _nested(model: type[BaseModel], checked: Checked[Any], findings: Findings) -> tuple[dict[str, Any], set[str]]:
    """Check the tables below that follow one model each; returns the table with their values, and the keys of faulty ones."""
    table = dict(checked.table)
    guessed: set[str] = set()
    for key, value in checked.table.items():
        annotation = model.model_fields[key].annotation
        models = _models_in(annotation)
        listed = get_origin(annotation) is tuple
        if isinstance(value, dict) and len(models) == 1 and not listed and key not in checked.guessed:
            before = len(findings)
            if get_origin(annotation) is dict:
                table[key] = _named(models[0], value, checked.at((key,)), findings)
            elif (below := check_table(models[0], value, checked.at((key,)), findings)).value is not None:
                table[key] = below.value
            if len(findings) > before:
                guessed.add(key)
    return table, guessed


def _named(model: type[BaseModel], tables: Mapping[str, Any], place: Place, findings: Findings) -> dict[str, Any]:
    """Check tables of one model that stand below a name each; what is none is left for the whole to complain of."""
    checked = dict(tables)
    for name, table in tables.items():
        if isinstance(table, dict):
            checked[name] = check_table(model, table, place.at(name), findings).value or table
    return checked


def _respelt(
    model: type[BaseModel], table: dict[str, Any], place: Place, findings: Findings
) -> tuple[dict[str, Any], dict[str, str]]:
    """Report keys that the model does not know, and take each for the one that was probably meant."""
    known = {key: value for key, value in table.items() if key in model.model_fields}
    spelling: dict[str, str] = {}
    for key in [key for key in table if key not in known]:
        meant, instead = _meant_key(key, model)
        findings.add(place.at(key), f"unknown key{instead}", suggestion=meant)
        if meant and meant not in known:
            known[meant] = table[key]
            spelling[meant] = key
    return known, spelling


def _meant_key(key: str, model: type[BaseModel]) -> tuple[str, str]:
    word = getattr(model, "other_words", {}).get(key.casefold(), "")
    meant = word if word in model.model_fields else "" if word else nearest(key, model.model_fields)
    return meant, "" if meant else f"; {word or f'known here: {some(list(model.model_fields))}'}"


def _errors(model: type[BaseModel], table: Mapping[str, Any]) -> list[Any]:
    try:
        model.model_validate(dict(table))
    except ValidationError as error:
        return list(error.errors(include_url=False))
    return []


def _grouped(model: type[BaseModel], table: Mapping[str, Any]) -> dict[KeyPath, list[Any]]:
    """The errors by the place they are about; an error inside a list or table makes those about the whole of it pointless."""
    groups: dict[KeyPath, list[Any]] = {}
    for error in _errors(model, table):
        groups.setdefault(_cleaned(error, table), []).append(error)
    return {
        keys: errors
        for keys, errors in groups.items()
        if not any(len(other) > len(keys) > 0 and other[: len(keys)] == keys for other in groups)
    }


def _cleaned(error: Mapping[str, Any], table: Mapping[str, Any]) -> KeyPath:
    """An error's location without the type tags that pydantic puts between its keys."""
    keys: list[str | int] = []
    node: Any = table
    for part in error["loc"]:
        if (isinstance(node, dict) and part in node) or (
            isinstance(node, list) and isinstance(part, int) and part < len(node)
        ):
            keys.append(part)
            node = node[part]
    if error["type"] == "missing":
        keys.append(error["loc"][-1])
    return tuple(keys)


def _report(
    checked: Checked[Any],
    keys: KeyPath,
    errors: Sequence[Mapping[str, Any]],
    model: type[BaseModel],
    findings: Findings,
) -> None:
    written = checked.written(keys)
    place = checked.at(keys)
    if errors[0]["type"] == "extra_forbidden":
        known = [name for each in _models_at(model, keys[:-1]) for name in each.model_fields]
        findings.add(place, "unknown key", suggestion=nearest(str(keys[-1]), known))
    elif errors[0]["type"] == "missing":
        findings.add(place, f"missing: write {_wanted(model, keys)}")
    else:
        message = joined([sentence(error, written) for error in errors])
        meant = _meant_value(model, keys, written)
        findings.add(place, _table_form(message, place) if message == _A_TABLE else message, written, meant)


def _meant_value(model: type[BaseModel], keys: KeyPath, written: object) -> str:
    fields = [each.model_fields.get(str(keys[-1])) for each in _models_at(model, keys[:-1]) if keys]
    found = (meant_value(Annotated[each.annotation, *each.metadata, None], str(written)) for each in fields if each)
    return next(filter(None, found), "") if isinstance(written, str) else ""


def _table_form(message: str, place: Place) -> str:
    """How a table is written where it stands by itself, and inside another one."""
    outermost = not any(isinstance(key, int) for key in place.keys)
    return f"{message}: [{place.shown}]" if outermost else f"{message} in {{ }}"


def _wanted(model: type[BaseModel], keys: KeyPath) -> str:
    found = [each.model_fields[str(keys[-1])] for each in _models_at(model, keys[:-1]) if keys[-1] in each.model_fields]
    return in_words(found[0].annotation, found[0].metadata) if found else "it"


def _report_whole(model: type[BaseModel], filled: Mapping[str, Any], checked: Checked[Any], findings: Findings) -> None:
    """What the model says of the table as a whole, once single keys have stand-ins."""
    for error in _errors(model, filled):
        if not error["loc"]:
            checked.add(findings, (), sentence(error, filled))


def _models_at(model: type[BaseModel], keys: KeyPath) -> list[type[BaseModel]]:
    """The models that a table below may follow."""
    models = [model]
    for key in keys:
        if isinstance(key, str):
            fields = [each.model_fields[key] for each in models if key in each.model_fields]
            models = [found for field in fields for found in _models_in(field.annotation)]
    return models


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]


def _built(model: type[Model], table: Mapping[str, Any]) -> Model | None:
    try:
        return model.model_validate(dict(table))
    except ValidationError:
        return None


def _with_stand_ins(model: type[BaseModel], table: Mapping[str, Any], guessed: set[str]) -> dict[str, Any]:
    """The table with its wrong keys replaced: by their default where there is one, else by a value that the model accepts."""
    filled = {key: value for key, value in table.items() if key not in guessed}
    for key in (key for key in model.model_fields if key in guessed):
        about = model.model_fields[key]
        if isinstance(table.get(key), BaseModel):
            filled[key] = table[key]
        elif about.is_required() or about.get_default(call_default_factory=True) is None:
            filled |= _stand_in(model, filled, key, about)
    return filled


def _stand_in(model: type[BaseModel], table: Mapping[str, Any], key: str, about: FieldInfo) -> dict[str, Any]:
    for candidate in (*_literals(about.annotation), *_STAND_INS):
        trial = {**table, key: candidate}
        if not any(error["loc"][:1] == (key,) for error in _errors(model, trial)):
            return {key: candidate}
    return {}


def _literals(annotation: object) -> list[object]:
    """The values of a Literal, also inside a union."""
    arguments = get_args(annotation)
    plain = [each for each in arguments if isinstance(each, str | int)]
    return plain + [found for each in arguments if not isinstance(each, str | int) for found in _literals(each)]


# --- one sentence per kind of pydantic error -------------------------------------------------------------------------------

_PLAIN = {
    "missing": "missing",
    "extra_forbidden": "unknown key",
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "decimal_type": "must be a number",
    "decimal_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "none_required": "must be left out",
    "list_type": "must be a list in [ ]",
    "tuple_type": "must be a list in [ ]",
    "set_type": "must be a list in [ ]",
    "frozen_set_type": "must be a list in [ ]",
    "dict_type": "must be a table",
    "mapping_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "dataclass_type": "must be a table",
    "path_type": "must be a path in quotes",
}
_BOUNDS = {
    "greater_than": ("gt", "must be more than {}"),
    "greater_than_equal": ("ge", "must be at least {}"),
    "less_than": ("lt", "must be less than {}"),
    "less_than_equal": ("le", "must be at most {}"),
    "multiple_of": ("multiple_of", "must be a multiple of {}"),
    "string_too_short": ("min_length", "must have at least {} characters"),
    "string_too_long": ("max_length", "must have at most {} characters"),
    "too_short": ("min_length", "must have at least {} elements"),
    "too_long": ("max_length", "must have at most {} elements"),
}
_PREFIX = "must be "
_WHOLE = re.compile(r"\s*(-?\d+|0x[0-9a-fA-F]+)\s*")
_A_TABLE = "must be a table"
_TYPES: dict[object, str] = {
    str: "text in quotes",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list in [ ]",
    list: "a list in [ ]",
    dict: "a table in { }",
}


def in_words(annotation: object, metadata: Sequence[object] = ()) -> str:
    """What a field takes, as the end of a sentence: "a whole number", ""start" or "end"", "a duration such as "60s""."""
    words = next((str(each) for each in metadata if isinstance(each, Words)), "")
    origin, arguments = get_origin(annotation), get_args(annotation)
    if words:
        return words
    if origin is Annotated:
        return in_words(arguments[0], annotation.__metadata__)  # type: ignore[attr-defined]
    if origin is Literal:
        quoted = [f'"{each}"' for each in arguments]
        return " or ".join(part for part in (", ".join(quoted[:-1]), quoted[-1]) if part)
    if origin in {Union, UnionType}:
        return " or ".join(dict.fromkeys(in_words(each) for each in arguments if each is not type(None)))
    return _TYPES.get(origin or annotation, "a table in { }")


def sentence(error: Mapping[str, Any], written: object) -> str:
    """What is wrong, in our own words, for one pydantic error. `written` is the value in the file."""
    kind = error["type"]
    context = error.get("ctx", {})
    if kind in _PLAIN:
        quoted = kind == "int_type" and isinstance(written, str) and _WHOLE.fullmatch(written)
        return f"{_PLAIN[kind]} without quotes" if quoted else _PLAIN[kind]
    if kind in _BOUNDS:
        return _bound_sentence(kind, context, written)
    if kind in {"literal_error", "enum"}:
        return f"must be one of {str(context.get('expected', '')).replace(' or ', ', ').replace(chr(39), chr(34))}"
    if kind in {"value_error", "assertion_error"}:
        return str(context.get("error", "")) or "has a value that is not allowed"
    return "has a value that is not allowed"


def joined(sentences: Sequence[str]) -> str:
    """The alternatives that one key offers as one sentence."""
    different = list(dict.fromkeys(sentences))
    if len(different) > 1 and all(each.startswith(_PREFIX) for each in different):
        return _PREFIX + " or ".join(each.removeprefix(_PREFIX) for each in different)
    return "; ".join(different)


def _bound_sentence(kind: str, context: Mapping[str, Any], written: object) -> str:
    name, form = _BOUNDS[kind]
    limit = context.get(name)
    if kind == "less_than" and isinstance(limit, int):
        return f"must be at most {limit - 1}"
    if name == "min_length" and limit == 1:
        return "must not be empty"
    return form.format(_bound(limit, written))


def _bound(limit: object, written: object) -> str:
    """A limit in the form the operator writes: seconds as a duration where the value is one."""
    is_duration = isinstance(written, str) and re.fullmatch(r"\s*[\d.]+\s*(ms|s|m|h|d)\s*", written)
    if is_duration and isinstance(limit, int | float):
        return f'"{duration_text(float(limit))}"'
    return re.sub(r"Decimal\('([^']*)'\)", r"\1", str(limit))  # pydantic gives such limits by their repr


def duration_text(seconds: float) -> str:
    """Seconds in the largest unit that keeps them whole: 5400 -> "90m"."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds * 1000:.0f}ms" if seconds else "0s"
