"""TOML read for people: lines, columns, and what is left to check around a mistake."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tomlfile import DEEPEST, UNREADABLE, KeyPath, key_lines, parse, without_unreadable

EVERYTHING = '''\
top = 1 # = [not a table]
"quoted.key" = 'a # b'
a.b.c = "x\\"=["

[table]
list = [
    1,
    [2, 3], # comment ]
    { x = 1, y = [4] },
]
long = """
text = "no key"
[no table]
"""
after = true

[table.below]
k = 1979-05-27T07:32:00Z

[[many]]
n = 1
[[many]]
n = 2
[many.inside]
z = """one line"""
'''


def test_every_key_table_and_element_has_its_line():
    """Strings, comments and brackets inside values lead nowhere."""
    lines = key_lines(EVERYTHING)
    expected: dict[KeyPath, int] = {
        ("top",): 1,
        ("quoted.key",): 2,
        ("a",): 3,
        ("a", "b", "c"): 3,
        ("table",): 5,
        ("table", "list"): 6,
        ("table", "list", 0): 7,
        ("table", "list", 1, 1): 8,
        ("table", "list", 2): 9,
        ("table", "list", 2, "y", 0): 9,
        ("table", "long"): 11,
        ("table", "after"): 15,
        ("table", "below", "k"): 18,
        ("many",): 20,
        ("many", 0, "n"): 21,
        ("many", 1): 22,
        ("many", 1, "n"): 23,
        ("many", 1, "inside", "z"): 25,
    }
    assert {path: lines.get(path) for path in expected} == expected
    assert ("table", "text") not in lines


def _paths(value: Any, at: KeyPath = ()) -> set[KeyPath]:
    if isinstance(value, dict):
        return {at}.union(*(_paths(each, (*at, key)) for key, each in value.items()))
    if isinstance(value, list):
        return {at}.union(*(_paths(each, (*at, number)) for number, each in enumerate(value)))
    return {at}


def test_the_scanner_and_the_parser_see_the_same_document():
    """Nothing of the document is without a line, and no line is of something else."""
    assert set(key_lines(EVERYTHING)) == _paths(tomllib.loads(EVERYTHING)) - {()}


VALUES = st.sampled_from(
    ["1", '"a"', "'b]'", "[1, 2]", "[ [ ], [\n'x' ] ]", "{ k = 1, m.n = [ ] }", '"""\n=\n"""', "-0.5"]
)


@given(st.lists(VALUES, max_size=6), st.lists(st.tuples(st.booleans(), VALUES), max_size=4))
@settings(max_examples=80)
def test_no_valid_document_confuses_the_lines(top: list[str], tables: list[tuple[bool, str]]):
    """The scanner agrees with tomllib whatever is written."""
    text = "".join(f"k{number} = {value}\n" for number, value in enumerate(top))
    text += "".join(
        f"[[many]] # [x]\nkey = {value}\n" if many else f"[t{number}.sub]\nkey={value}\n"
        for number, (many, value) in enumerate(tables)
    )
    lines = key_lines(text)
    assert set(lines) == _paths(tomllib.loads(text)) - {()}
    for path, line in lines.items():
        if isinstance(path[-1], str) and path[-1].startswith("k") and path[-1] != "k":
            assert path[-1] in text.split("\n")[line - 1]


def test_a_value_without_quotes_spoils_one_line_only():
    """The rest is still checked, and the mistake has its line and column."""
    file = parse('a = 60s\nb = "x"\nc = tcp://h:1\n')
    assert file.content == {"a": UNREADABLE, "b": "x", "c": UNREADABLE}
    assert [(fault.line, fault.column) for fault in file.faults] == [(1, 7), (3, 5)]
    assert all("texts and durations are written in quotes" in fault.message for fault in file.faults)
    assert without_unreadable(file.content) == ({"b": "x"}, {"a", "c"})


def test_a_key_that_is_there_twice_keeps_its_first_value():
    """And says that one has to go."""
    file = parse("[t]\na = 1\na = 2\nb = 3\n")
    assert file.content == {"t": {"a": 1, "b": 3}}
    assert [(fault.line, fault.message) for fault in file.faults] == [(3, "is there twice; keep one of them")]


def test_a_table_implied_by_another_one_has_the_line_of_its_own_header():
    """`[a.b]` before `[a]`: people look for `a` at `[a]`."""
    assert key_lines("[a.b]\nx = 1\n") == {("a",): 1, ("a", "b"): 1, ("a", "b", "x"): 2}
    assert key_lines("[a.b]\n[a]\n")["a",] == 2


def test_a_line_that_is_wrong_and_there_twice_does_not_end_the_reading():
    """Both of it is stepped over."""
    file = parse("a = 1\na = x\nb = y\n")
    assert [fault.line for fault in file.faults] == [2, 3]
    assert file.content == {"a": 1, "b": UNREADABLE}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[a]\n[a]\n", 2, "the table [a] is there twice: put its keys together"),
        ("a = 1\n[b\n", 2, "is a section that is not closed with ]"),
        ("a: 1\n", 1, "must be written as name = value"),
        ('{"a": 1}\n', 1, "is neither name = value nor a [section]"),
        ("a = { b = 1, b = 2 }\n", 1, "has the key b twice; keep one of them"),
        ('a = "C:\\d"\n', 1, "holds a backslash in double quotes: write it twice, or use single quotes"),
        ("a = True\n", 1, "is not a value; write true or false"),
        ("a = \u201cx\u201d\n", 1, 'is not a value; write straight quotes: "'),
        ("a = 1, 2\n", 1, "has more on the line than a value"),
        ("a = [1, 02]\n", 1, "holds a list that goes wrong here: a comma or ] is missing"),
        ("a = [1,\n", 2, "ends too early: a value, a ] or a } is missing"),
        ("a = [1\nb = 2\n", 2, "holds a list that goes wrong here: a comma or ] is missing"),
        ("a = { b = 1\n", 1, "holds a table in { } that goes wrong here: a comma or } is missing"),
        ('a = "x\nb = 1\n', 1, "holds a text that is not closed with quotes"),
        ('a = """x\nb = 1\n', 3, "holds a text that is not closed with quotes"),
        ("a = 2026-02-30\n", 1, "is not TOML: invalid date"),
    ],
)
def test_a_mistake_has_a_line_and_a_sentence(text: str, line: int, said: str):
    """Whatever cannot be stepped over ends the reading, with one clear sentence."""
    fault = parse(text).faults[0]
    assert fault.line == line
    assert fault.column is not None
    assert fault.message.startswith(said)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5000 + "]" * 5000,
        "a = " + "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1),
        "[" + "a." * 5000 + "a]\nb = 1\n",
        "a." * 3000 + "a = 1\n",
    ],
)
def test_deep_nesting_is_refused_before_anything_walks_into_it(text: str):
    """Brackets and dotted keys alike."""
    file = parse(text)
    assert file.content is None
    assert "nested too deeply" in file.faults[-1].message


def test_as_deep_as_allowed_is_read():
    """The limit is far beyond what a configuration needs."""
    text = "a = " + "[" * (DEEPEST - 1) + "]" * (DEEPEST - 1)
    assert parse(text).content is not None


def test_a_number_of_five_thousand_digits_is_a_mistake_like_any_other():
    """Python itself refuses to read it, with an error that is not about TOML."""
    file = parse("[t]\na = " + "9" * 5000 + "\nb = 1\n")
    assert file.content == {"t": {"a": UNREADABLE, "b": 1}}
    assert (file.faults[0].line, file.faults[0].column) == (2, 5)


def test_the_search_for_mistakes_ends():
    """A file of nothing else is given up after a while."""
    faults = parse("".join(f"a{number} = b\n" for number in range(1000))).faults
    assert 10 < len(faults) < 50


@given(st.text(alphabet="ab\"'=[]{},.#\n\\ 1\t", max_size=40))
@settings(max_examples=200)
def test_no_text_whatever_crashes_the_reader(text: str):
    """It is valid, or it has mistakes on lines that exist."""
    file = parse(text)
    assert file.faults or file.content == tomllib.loads(text)
    assert all(fault.line is None or 1 <= fault.line <= text.count("\n") + 1 for fault in file.faults)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("value", ["x" * 300_000 + "!", "= " * 100_000, "[" + "1," * 100_000, '"' + "\\\\" * 100_000])
def test_a_line_of_any_length_is_looked_at_once(value: str):
    """Where each letter would start the search anew, such a line would take minutes."""
    assert parse(f"a = {value}\n").faults
