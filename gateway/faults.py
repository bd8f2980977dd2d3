"""Mistakes in a configuration, as an operator reads them: file, line, key, what is wrong, what is allowed, what was meant.

    config.toml:9: connections.main.pol: unknown key; did you mean "poll"?
        9 | pol = "60s"

Nothing here ever shows a secret: not as a value, not in the excerpt, not inside a sentence.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import Misconfigured
from gateway.tomlfile import KeyPath

HIDDEN = "(hidden)"
LONGEST_VALUE = 60
LONGEST_LINE = 160

_SECRET_WORDS = re.compile(r"pass|pwd|secret|token|api|credential", re.IGNORECASE)
_SECRET_KEYS = ("api_keys", "password")
_USER_INFO = re.compile(r"://[^/\s\"'@]*@")
_ASSIGNED = re.compile(r"""([\w-]+)["']?\s*=\s*""")
_SHORTEST_SECRET = 4  # shorter ones would blank half of every sentence


@dataclass(frozen=True, slots=True)
class Fault:
    """One mistake. `line` is None where there is no line to show; `value` is as written, or "(hidden)"."""

    file: str
    line: int | None
    path: str
    message: str
    value: str = ""
    suggestion: str = ""
    excerpt: str = ""

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        parts = [where, self.path, self.message] if self.path else [where, self.message]
        meant = f'; did you mean "{self.suggestion}"?' if self.suggestion else ""
        return ": ".join(parts) + meant

    def with_excerpt(self) -> str:
        """The sentence and the line it is about."""
        return f"{self}\n{self.line:>5} | {self.excerpt}" if self.excerpt and self.line is not None else str(self)


class ConfigFaults(Misconfigured):
    """Every mistake of a configuration at once."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        """At least one fault."""
        self.faults = tuple(faults)
        super().__init__("\n".join([counted(len(faults), "mistake"), *(fault.with_excerpt() for fault in faults)]))


@dataclass(frozen=True, slots=True)
class Origin:
    """A file that values come from, with the means to point into it."""

    file: str
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    text: Sequence[str] = ()
    fixed_line: int | None = None  # a row of a spreadsheet: every value is on this line
    secrets: tuple[str, ...] = ()  # literal secrets in it, never to be shown

    def line_of(self, keys: KeyPath) -> int | None:
        """The line of a key, or of the nearest table that is there."""
        if self.fixed_line is not None:
            return self.fixed_line
        for length in range(len(keys), 0, -1):
            if keys[:length] in self.lines:
                return self.lines[keys[:length]]
        return None

    def excerpt(self, line: int | None, *, secret: bool = False) -> str:
        """The text of a line without what must not be seen."""
        if line is None or not 0 < line <= len(self.text):
            return ""
        return hidden(self.text[line - 1].strip(), self.secrets, whole=secret)[:LONGEST_LINE]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: its keys in the file, and how people name it."""

    origin: Origin
    keys: KeyPath = ()
    shown: str = ""

    def at(self, key: str | int, shown: str | None = None) -> Place:
        """The place of a key or element below."""
        if shown is None:
            shown = f"{self.shown}[{key}]" if isinstance(key, int) else f"{self.shown}.{key}".lstrip(".")
        return Place(self.origin, (*self.keys, key), shown)

    def below(self, keys: Iterable[str | int]) -> Place:
        """The place several keys below."""
        place = self
        for key in keys:
            place = place.at(key)
        return place

    @property
    def line(self) -> int | None:
        """The line to look at."""
        return self.origin.line_of(self.keys)

    @property
    def secret(self) -> bool:
        """Whether the value here must not be shown."""
        return any(isinstance(key, str) and is_secret(key) for key in self.keys)


_NO_VALUE = object()


class Findings:
    """Collects the faults of one run; the same value is complained about once."""

    def __init__(self, main_file: str) -> None:
        """Faults of `main_file` come first."""
        self._main_file = main_file
        self._faults: dict[tuple[str, KeyPath, str, int | None], Fault] = {}

    def add(self, place: Place, message: str, value: object = _NO_VALUE, suggestion: str = "") -> None:
        """Note a fault. A second one about the same value is a consequence of the first; a table may have several."""
        whole = isinstance(value, dict) or value is _NO_VALUE
        key = (place.origin.file, place.keys, message if whole else "", place.origin.fixed_line)
        shown = "" if whole else HIDDEN if place.secret else value_text(value)
        message = hidden(_with_value(message, shown), place.origin.secrets)
        line = place.line
        fault = Fault(
            file=place.origin.file,
            line=line,
            path=place.shown,
            message=message,
            value=hidden(shown, place.origin.secrets),
            suggestion=hidden(suggestion, place.origin.secrets),
            excerpt=place.origin.excerpt(line, secret=place.secret),
        )
        self._faults.setdefault(key, fault)

    def __iter__(self) -> Iterator[Fault]:
        """In the order of the files and their lines."""

        def order(fault: Fault) -> tuple[bool, str, int]:
            return fault.file != self._main_file, fault.file, fault.line or 0

        return iter(sorted(self._faults.values(), key=order))

    def __len__(self) -> int:
        return len(self._faults)


def _with_value(message: str, shown: str) -> str:
    """The sentence with what was written, where it says what must be and does not quote it already."""
    if not shown or not message.startswith("must ") or shown in message:
        return message
    return f"{message}, not {shown}"


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, or ""."""
    by_case = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), by_case, n=1, cutoff=0.6)
    return by_case[close[0]] if close else ""


def is_secret(key: str) -> bool:
    """Whether a key, misspelt or not, holds a secret."""
    return bool(_SECRET_WORDS.search(key) or difflib.get_close_matches(key.lower(), _SECRET_KEYS, n=1, cutoff=0.75))


def hidden(text: str, secrets: Iterable[str] = (), *, whole: bool = False) -> str:
    """The text of a sentence or line without secrets; `whole`: the line belongs to a secret."""
    for assigned in _ASSIGNED.finditer(text):
        if is_secret(assigned[1]):
            text = text[: assigned.end()] + HIDDEN
            whole = False
            break
    if whole:
        return HIDDEN
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return _USER_INFO.sub(f"://{HIDDEN}@", text)


def literal_secrets(content: object, *, inside: bool = False) -> tuple[str, ...]:
    """Every text under a secret's key, however deep: what no sentence may repeat."""
    if isinstance(content, dict):
        found = [literal_secrets(value, inside=inside or is_secret(str(key))) for key, value in content.items()]
        return tuple(secret for each in found for secret in each)
    if isinstance(content, list):
        return tuple(secret for value in content for secret in literal_secrets(value, inside=inside))
    kept = inside and isinstance(content, str) and len(content) >= _SHORTEST_SECRET
    return (str(content),) if kept else ()


def value_text(value: object) -> str:
    """A value as it would be written in TOML, cut to a readable length."""
    if isinstance(value, dict):
        return "a table"
    plain = isinstance(value, str | bool | int | float | list)
    text = json.dumps(value, ensure_ascii=False, default=str) if plain else str(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 mistake", "3 mistakes"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def some(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


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
    "dict_type": "must be a table in { }",
    "mapping_type": "must be a table in { }",
    "model_type": "must be a table in { }",
    "model_attributes_type": "must be a table in { }",
    "dataclass_type": "must be a table in { }",
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


def sentence(error: Mapping[str, Any], written: object) -> str:
    """What is wrong, in our own words, for one pydantic error. `written` is the value in the file."""
    kind = error["type"]
    context = error.get("ctx", {})
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind in _BOUNDS:
        name, form = _BOUNDS[kind]
        return form.format(_bound(context.get(name), written))
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


def _bound(limit: object, written: object) -> str:
    """A limit in the form the operator writes: seconds as a duration where the value is one."""
    if (
        isinstance(written, str)
        and isinstance(limit, int | float)
        and re.fullmatch(r"\s*[\d.]+\s*(ms|s|m|h|d)\s*", written)
    ):
        return f'"{duration_text(float(limit))}"'
    return str(limit)


def duration_text(seconds: float) -> str:
    """Seconds in the largest unit that keeps them whole: 5400 -> "90m"."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds * 1000:.0f}ms" if seconds else "0s"
