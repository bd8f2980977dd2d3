"""A TOML file read for people: the line of every key, and what is still readable around a syntax mistake.

`tomllib` says where a document is malformed but not where a key stands; `key_lines` adds that (TOML 1.0, toml.io/en/v1.0.0). The
commonest mistake, a value that needs quotes (`poll = 60s`), spoils one line only: it is reported and the rest is still checked.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

KeyPath = tuple[str | int, ...]

UNREADABLE = "\0cannot be read\0"  # stands for a value that could not be read; nobody writes it on purpose
DEEPEST = 32  # tables in lists in tables: a configuration needs five

TOO_DEEP = f"is nested too deeply: more than {DEEPEST} tables and lists in one another"

_MOST_MISTAKES = 20
_UNREADABLE_TEXT = '"\\u0000cannot be read\\u0000"'
_ENDLESS = re.compile(r"[0-9_]{4000,}")
_AT = re.compile(r"\s*\(at line (\d+), column (\d+)\)$|\s*\(at end of document\)$")
_ASSIGNMENT = re.compile(
    r"""\s*(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*'))*\s*=(?!=)"""
)
_BARE = re.compile(r"[A-Za-z0-9_.:/+ -]+")
_TRUTHS = ("true", "false", "yes", "no", "on", "off")
_KEY_TWICE = re.compile(r"Duplicate inline table key '([A-Za-z0-9_-]+)'")
_SENTENCES = {
    "Expected newline or end of document after a statement": "has more on the line than a value",
    "Expected '=' after a key in a key/value pair": "must be written as name = value",
    "Invalid statement": "is neither name = value nor a [section]",
    "Expected ']' at the end of a table declaration": "is a section that is not closed with ]",
    "Expected ']]' at the end of an array declaration": "is a section that is not closed with ]]",
    "Unescaped '\\' in a string": "holds a backslash in double quotes: write it twice, or use single quotes",
    "Invalid value": "is not a value",
    "Cannot overwrite a value": "is there twice; keep one of them",
    "Unclosed array": "holds a list that goes wrong here: a comma or ] is missing",
    "Unclosed inline table": "holds a table in { } that goes wrong here: a comma or } is missing",
    "Unterminated string": "holds a text that is not closed with quotes",
    "Illegal character '\\n'": "holds a text that is not closed with quotes",
}
_ABOUT_VALUES = {"has more on the line than a value", "is not a value"}
_TWICE = _SENTENCES["Cannot overwrite a value"]
_TABLE_TWICE = re.compile(r"Cannot declare \((.*?),?\) twice")


class SyntaxFault(NamedTuple):
    """A place that is not TOML; line and column from 1, None where nothing tells."""

    line: int | None
    column: int | None
    message: str


@dataclass(frozen=True, slots=True)
class TomlFile:
    """A parsed file. `content` is None where a syntax mistake leaves nothing to check."""

    text: str
    content: dict[str, Any] | None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    faults: tuple[SyntaxFault, ...] = ()


def parse(text: str) -> TomlFile:
    """Parse; lines that cannot be read become the value UNREADABLE, as long as each is one `key = value`."""
    lines = text.split("\n")
    faults: dict[int, SyntaxFault] = {}  # by line
    while True:
        readable = "\n".join(lines)
        try:
            content = tomllib.loads(readable)
        except tomllib.TOMLDecodeError as error:
            fault = _fault(str(error), lines)
        except RecursionError:
            return TomlFile(text, None, {}, (*faults.values(), SyntaxFault(None, None, TOO_DEEP)))
        except ValueError:  # int() of a text beyond sys.get_int_max_str_digits(); tomllib does not say where
            fault = _endless_number(lines)
        else:
            if _is_deep(content):
                return TomlFile(text, None, {}, (*faults.values(), SyntaxFault(None, None, TOO_DEEP)))
            return TomlFile(text, content, key_lines(readable), tuple(faults.values()))
        again = (fault.line or 0) in faults and fault.message != _TWICE
        faults.setdefault(fault.line or 0, fault)
        if again or len(faults) > _MOST_MISTAKES or not _step_over(lines, fault):
            return TomlFile(text, None, {}, tuple(faults.values()))


def _fault(words: str, lines: list[str]) -> SyntaxFault:
    match = _AT.search(words)
    line, column = (int(match[1]), int(match[2])) if match and match[1] else (len(lines), 1)
    said = _AT.sub("", words)
    if match and not match[1] and said == "Invalid value":
        return SyntaxFault(line, column, "ends too early: a value, a ] or a } is missing")
    twice = _TABLE_TWICE.match(said)
    if twice:
        name = ".".join(part.strip(" '\"") for part in twice[1].split(","))
        return SyntaxFault(line, column, f"the table [{name}] is there twice: put its keys together")
    key_twice = _KEY_TWICE.match(said)
    if key_twice:
        return SyntaxFault(line, column, f"has the key {key_twice[1]} twice; keep one of them")
    message = _SENTENCES.get(said, f"is not TOML: {said[:1].lower()}{said[1:]}")
    if message in _ABOUT_VALUES:
        message += _advice(lines[line - 1])
    return SyntaxFault(line, column, message)


def _advice(line: str) -> str:
    """What would be right instead of the value on this line, where that can be told."""
    value = line.partition("=")[2].partition("#")[0].strip()
    if value.casefold() in _TRUTHS:
        return "; write true or false"
    if any(quote in value for quote in "\u201c\u201d\u201e\u2018\u2019"):
        return '; write straight quotes: "'
    if _BARE.fullmatch(value) and any(sign.isalpha() for sign in value):
        return "; texts and durations are written in quotes"
    return ""


def _step_over(lines: list[str], fault: SyntaxFault) -> bool:
    """Take a malformed `key = value` line out of the way; False where the mistake is of another kind."""
    if fault.line is None:
        return False
    written = lines[fault.line - 1]
    match = _ASSIGNMENT.match(written)
    if not match or any(quotes in written for quotes in ('"""', "'''")):
        return False
    lines[fault.line - 1] = "" if fault.message == _TWICE else f"{match[0]} {_UNREADABLE_TEXT}"
    return True


def _endless_number(lines: list[str]) -> SyntaxFault:
    """The first run of digits that Python refuses to turn into a number."""
    for number, line in enumerate(lines, start=1):
        digits = _ENDLESS.search(line)
        if digits:
            return SyntaxFault(number, digits.start() + 1, "is a number of too many digits")
    return SyntaxFault(None, None, "holds a number of too many digits")


def _is_deep(content: dict[str, Any]) -> bool:
    """Whether tables and lists are nested deeper than anything that reads them here could follow."""
    level: list[object] = [content]
    for _ in range(DEEPEST):
        level = [each for node in level for each in _below(node) if isinstance(each, dict | list)]
    return bool(level)


def _below(node: object) -> Iterable[object]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


def without_unreadable(table: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """The table without its unreadable values, and their keys."""
    bad = {key for key, value in table.items() if value == UNREADABLE}
    return {key: value for key, value in table.items() if key not in bad}, bad


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line (from 1) on which each key, table and list element of a valid TOML document begins."""
    return _Scanner(text).run()


_TOKEN = re.compile(
    r"""
      (?P<long>\"\"\"(?:\\.|[^\\])*?\"{3,5}|'''.*?'{3,5})
    | (?P<text>"(?:\\.|[^"\\\n])*"|'[^'\n]*')
    | (?P<comment>\#[^\n]*)
    | (?P<newline>\n)
    | (?P<blank>[ \t\r]+)
    | (?P<mark>[\[\]{},.=])
    | (?P<bare>[^\s\[\]{},.=\#"']+)
    """,
    re.VERBOSE | re.DOTALL,
)
_WORDS = ("long", "text", "bare")


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


class _Scanner:
    """Walks the tokens of a valid document; it need not check anything."""

    def __init__(self, text: str) -> None:
        self._tokens = [token for token in _tokens(text) if token.kind not in {"blank", "comment"}]
        self._position = 0
        self._lists: dict[KeyPath, int] = {}  # arrays of tables: how many elements so far
        self._found: dict[KeyPath, int] = {}
        self._implied: set[KeyPath] = set()  # [a.b] makes a table a, whose own header may follow

    def run(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._position < len(self._tokens):
            token = self._tokens[self._position]
            if token.kind == "newline":
                self._position += 1
            elif token.text == "[" and token.kind == "mark":
                table = self._header(token.line)
            else:
                self._pair(table)
        return self._found

    def _header(self, line: int) -> KeyPath:
        self._position += 1
        many = self._take_if("[")
        path = self._resolved(self._key())
        self._position += 2 if many else 1
        if many:
            self._note(path, line)
            self._lists[path] = self._lists.get(path, -1) + 1
            path = (*path, self._lists[path])
        for length in range(1, len(path)):
            if path[:length] not in self._found:
                self._implied.add(path[:length])
                self._note(path[:length], line)
        if path in self._implied:
            self._implied.remove(path)
            del self._found[path]
        self._note(path, line)
        return path

    def _resolved(self, keys: list[str]) -> KeyPath:
        """A header's path, through the newest element of each array of tables on the way."""
        path: KeyPath = ()
        for number, key in enumerate(keys):
            path = (*path, key)
            if path in self._lists and number < len(keys) - 1:
                path = (*path, self._lists[path])
        return path

    def _pair(self, table: KeyPath) -> None:
        line = self._tokens[self._position].line
        path = (*table, *self._key())
        self._position += 1  # the "="
        for length in range(len(table) + 1, len(path) + 1):
            self._note(path[:length], line)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        if self._take_if("["):
            self._elements(path)
        elif self._take_if("{"):
            while not self._take_if("}"):
                if not self._take_if(","):
                    self._pair(path)
        else:
            while self._peek() not in {",", "]", "}", "\n", ""}:
                self._position += 1

    def _elements(self, path: KeyPath) -> None:
        number = 0
        while not self._take_if("]"):
            if self._take_if("\n"):
                continue
            if self._take_if(","):
                number += 1
                continue
            self._note((*path, number), self._tokens[self._position].line)
            self._value((*path, number))

    def _key(self) -> list[str]:
        """A dotted key; stops at "=" or "]"."""
        keys = []
        while self._tokens[self._position].kind in _WORDS or self._take_if("."):
            token = self._tokens[self._position]
            if token.kind in _WORDS:
                keys.append(_unquoted(token))
                self._position += 1
        return keys

    def _note(self, path: KeyPath, line: int) -> None:
        self._found.setdefault(path, line)

    def _peek(self) -> str:
        """The mark or newline at this place; a word where there is neither; "" at the end."""
        if self._position >= len(self._tokens):
            return ""
        token = self._tokens[self._position]
        return token.text if token.kind in {"mark", "newline"} else "word"

    def _take_if(self, mark: str) -> bool:
        taken = self._peek() == mark
        self._position += taken
        return taken


def _tokens(text: str) -> Iterator[_Token]:
    line = 1
    for match in _TOKEN.finditer(text):
        yield _Token(str(match.lastgroup), match[0], line)
        line += match[0].count("\n")


def _unquoted(token: _Token) -> str:
    if token.kind == "bare":
        return token.text
    return str(tomllib.loads(f"key = {token.text}")["key"])
