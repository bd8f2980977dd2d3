"""Mistakes in a configuration, as an operator reads them: file, line, key, what is wrong, what is allowed, what was meant.

    config.toml:9: connections.main.pol: unknown key; did you mean "poll"?
        9 | pol = "60s"

A message reads on from the key: it begins with "must", "missing", "unknown", "is" or another verb, says what is allowed, and
then what to write.
"""

from __future__ import annotations

import difflib
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.errors import GatewayError, Misconfigured, NotPermitted
from gateway.tomlfile import KeyPath

HIDDEN = "(hidden)"
LONGEST_VALUE = 60
LONGEST_LINE = 240
MOST_NAMES = 10  # of known meters that an error lists

_SECRET_WORDS = re.compile(r"pass|pwd|secret|token|api|credential|auth|bearer|^pw$|(^|[_-])keys?$", re.IGNORECASE)
_SECRET_KEYS = ("api_keys", "password")
_NOT_SECRET = ("values_key", "timestamp_key", "value_key", "meter_key")  # names in JSON documents
_WORD = re.compile(r"[^\s\"']+")
_ASSIGNED = re.compile(
    r"""(?<![\w-])([\w-]++)["']?+\s*+=\s*"""
)  # possessive: a line may be one word of a million letters
_REFERENCES = {"env:", "file:", "credential:"}  # what sentences about references quote
_DAY = re.compile(r"\d{4}-\d\d-\d\d")  # what stands beside a key and is none
_SHORTEST_SECRET = 4  # shorter ones would blank half of every sentence


@dataclass(frozen=True, slots=True)
class Fault:
    """One mistake. `line` and `column` are None where nothing tells; `value` is as written, or "(hidden)"."""

    file: str
    line: int | None
    path: str
    message: str
    value: str = ""
    suggestion: str = ""
    excerpt: str = ""
    column: int | None = None

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        parts = [where, self.path, self.message] if self.path else [where, self.message]
        meant = f'; did you mean "{self.suggestion}"?' if self.suggestion else ""
        return ": ".join(parts) + meant

    def shows_line_of(self, other: Fault) -> bool:
        """Whether both are about the same line and show the same of it."""
        return (self.file, self.line, self.excerpt) == (other.file, other.line, other.excerpt)


def listing(faults: Sequence[Fault], width: int | None = None, before: str = "") -> str:
    """Every sentence, and after those about one line of a file that line; wrapped to `width` columns where one is given."""
    shown: list[str] = []
    for number, fault in enumerate(faults):
        shown += _wrapped(f"{before}{fault}", width, "    ")
        last = number + 1 == len(faults) or not fault.shows_line_of(faults[number + 1])
        if last and fault.excerpt and fault.line is not None:
            shown += _wrapped(f"{fault.line:>5} | {fault.excerpt}", width, "      | ")
    return "\n".join(shown)


def _wrapped(text: str, width: int | None, indent: str) -> list[str]:
    if width is None or len(text) <= width:
        return [text]
    return textwrap.wrap(
        text, max(width, 20), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )  # fmt: skip


class ConfigFaults(Misconfigured):
    """Every mistake of a configuration at once; `warnings` are what else was seen."""

    def __init__(self, faults: Sequence[Fault], warnings: Sequence[Fault] = (), *, forbidden: int = 0) -> None:
        """At least one fault; where all of them are files that may not be read, permission is what is missing."""
        self.faults = tuple(faults)
        self.warnings = tuple(warnings)
        if forbidden == len(self.faults):
            self.code = NotPermitted.code
        super().__init__(f"{counted(len(faults), 'mistake')} in the configuration\n{listing(faults)}")


@dataclass(frozen=True, slots=True)
class Origin:
    """A file that values come from, with the means to point into it."""

    file: str
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    text: Sequence[str] = ()
    fixed_line: int | None = None  # a row of a spreadsheet: every value is on this line
    fixed_column: int | None = None
    secrets: tuple[str, ...] = ()  # literal secrets in it, never to be shown
    doubtful: tuple[str, ...] = ()  # texts under unknown keys near secrets: excerpts leave them out

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
        return cut(
            visible(hidden(self.text[line - 1].strip(), (*self.secrets, *self.doubtful), whole=secret)), LONGEST_LINE
        )


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
        self.forbidden = 0  # faults that are no mistake: files that this user may not read
        self._faults: dict[tuple[str, KeyPath, str, int | None], Fault] = {}

    def add(self, place: Place, message: str, value: object = _NO_VALUE, suggestion: str = "") -> None:
        """Note a fault. A second one about the same value is a consequence of the first; a table may have several."""
        whole = isinstance(value, dict) or value is _NO_VALUE
        key = (place.origin.file, place.keys, message if whole else "", place.origin.fixed_line)
        secrets = place.origin.secrets
        shown = "" if whole else HIDDEN if place.secret else cut(hidden(value_text(value), secrets), LONGEST_VALUE)
        line = place.line
        fault = Fault(
            file=visible(place.origin.file),
            line=line,
            path=visible(place.shown),
            message=visible(_with_value(hidden(message, secrets), shown)),
            value=visible(shown),
            suggestion=visible(hidden(suggestion, secrets)),
            excerpt=place.origin.excerpt(line, secret=place.secret),
            column=place.origin.fixed_column,
        )
        self._faults.setdefault(key, fault)

    def __iter__(self) -> Iterator[Fault]:
        """In the order of the files and their lines."""

        def order(fault: Fault) -> tuple[bool, str, int]:
            return fault.file != visible(self._main_file), fault.file, fault.line or 0

        return iter(sorted(self._faults.values(), key=order))

    def __len__(self) -> int:
        return len(self._faults)


def _with_value(message: str, shown: str) -> str:
    """The sentence with what was written, where it says what must be."""
    if shown in {"", HIDDEN} or not message.startswith("must "):
        return message
    must, semicolon, then = message.partition("; ")
    return f"{must}, not {shown}{semicolon}{then}"


def nearest(word: str, known: Iterable[str], alike: float = 0.6) -> str:
    """The known word that was probably meant, or ""."""
    by_case = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), by_case, n=1, cutoff=alike)
    return by_case[close[0]] if close else ""


def is_secret(key: str) -> bool:
    """Whether a key, misspelt or not, holds a secret."""
    if key in _NOT_SECRET:
        return False
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
    for secret in sorted(secrets, key=len, reverse=True):  # one may hold another
        for form in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
            text = text.replace(form, HIDDEN)
    return _WORD.sub(lambda word: _without_user(word[0]), text)


def _without_user(word: str) -> str:
    """A URL without what stands before its last "@"."""
    scheme, slashes, rest = word.partition("://")
    return f"{scheme}{slashes}{HIDDEN}@{rest.rpartition('@')[2]}" if "@" in rest else word


def literal_secrets(content: object, *, inside: bool = False) -> tuple[str, ...]:
    """Every text under a secret's key, however deep: what no sentence may repeat."""
    if isinstance(content, dict):
        found = [
            literal_secrets(value, inside=inside or is_secret(str(key)))
            for key, value in content.items()
            if not (key == "expires" and _DAY.fullmatch(str(value)))
        ]
        return tuple(secret for each in found for secret in each)
    if isinstance(content, list):
        return tuple(secret for value in content for secret in literal_secrets(value, inside=inside))
    return with_lines(content) if inside and isinstance(content, str) else ()


def with_lines(text: str) -> tuple[str, ...]:
    """A text, and its lines as they stand in a file; what is too short to be a secret is left out."""
    parts = {text, *text.splitlines()} - _REFERENCES
    return tuple(part for part in parts if len(part) >= _SHORTEST_SECRET)


def value_text(value: object) -> str:
    """A value as it would be written in TOML; tables and lists that hold some only by name."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list) and any(isinstance(each, dict | list) for each in value):
        return "a list"
    if isinstance(value, list):
        return f"[{', '.join(value_text(each) for each in value)}]"
    if isinstance(value, str | bool):
        return json.dumps(value, ensure_ascii=False)
    try:
        return str(value)
    except ValueError:  # more digits than Python writes
        return "a number of too many digits"


def cut(text: str, longest: int) -> str:
    """The text, shortened where it is too long to be read in a sentence."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def visible(text: str) -> str:
    """The text with escapes for what a terminal would obey, join or not show."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 mistake", "3 mistakes"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def some(names: Sequence[str], most: int = 12) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def no_meter(name: str, known: Iterable[str], where: str) -> GatewayError:
    """The error for a meter's name that is not there: what was probably meant, and what there is."""
    names = sorted(known)
    meant = nearest(name, names)
    hint = f'; did you mean "{meant}"?' if meant else ""
    return GatewayError(f'no meter "{name}" in {where}{hint}; known: {some(names, MOST_NAMES) or "none yet"}')
