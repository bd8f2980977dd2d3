"""Mistakes as an operator reads them: where, what, which value, what is allowed, and never a secret."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.faults import (
    ConfigFaults,
    Fault,
    Findings,
    Origin,
    Place,
    counted,
    hidden,
    is_secret,
    listing,
    literal_secrets,
    nearest,
    some,
    value_text,
    visible,
)

CANARY = "canary-3f9a"


def only(findings: Findings) -> Fault:
    """The one fault."""
    (fault,) = findings
    return fault


def found(place: Place, message: str, *value: object, suggestion: str = "") -> Fault:
    """What becomes of one finding."""
    findings = Findings("c.toml")
    findings.add(place, message, *value, suggestion=suggestion)
    return only(findings)


def test_a_fault_says_where_what_and_what_was_meant():
    """File, line, key path, sentence, suggestion, in this order."""
    origin = Origin("c.toml", {("connections", "main", "pol"): 9}, [""] * 8 + ['  pol = "60s"'])
    fault = found(Place(origin).below(("connections", "main", "pol")), "unknown key", suggestion="poll")
    assert str(fault) == 'c.toml:9: connections.main.pol: unknown key; did you mean "poll"?'
    assert listing([fault]) == f'{fault}\n    9 | pol = "60s"'


def test_the_value_follows_what_it_must_be_and_stands_before_what_to_do():
    """Only a sentence that begins with "must" needs it: the others name what they are about."""
    place = Place(Origin("c.toml")).at("scale")
    assert found(place, "must be a number", "abc").message == 'must be a number, not "abc"'
    assert found(place, "must be large; 0 loses all", 0).message == "must be large, not 0; 0 loses all"
    assert found(place, "is there twice", 5).message == "is there twice"
    assert found(place, "must be a table", {"a": 1}).message == "must be a table"


def test_a_line_that_several_faults_are_about_is_shown_once():
    """A meter's source is one long line with many keys."""
    origin = Origin("c.toml", fixed_line=1, text=["source = { a = 1 }"])
    findings = Findings("c.toml")
    findings.add(Place(origin, ("a",), "a"), "must be 2", 1)
    findings.add(Place(origin, ("b",), "b"), "missing")
    assert listing(list(findings)) == (
        "c.toml:1: a: must be 2, not 1\nc.toml:1: b: missing\n    1 | source = { a = 1 }"
    )


def test_on_a_narrow_terminal_sentences_and_lines_break_between_words():
    """What continues is indented, and every line fits."""
    origin = Origin(
        "c.toml", fixed_line=12, text=[""] * 11 + ["source = { connection = 'main', device = 1, register = 2 }"]
    )
    fault = found(Place(origin, ("a",), "meters.heat.source"), "must be one of these four or five words", "other")
    assert listing([fault], 40) == (
        "c.toml:12: meters.heat.source: must be\n"
        "    one of these four or five words, not\n"
        '    "other"\n'
        "   12 | source = { connection = 'main',\n"
        "      | device = 1, register = 2 }"
    )


def test_faults_come_in_the_order_of_files_and_lines():
    """The configuration first, then its spreadsheet."""
    findings = Findings("z.toml")
    for file, line in (("a.csv", 2), ("z.toml", 9), ("a.csv", 1), ("z.toml", 3)):
        findings.add(Place(Origin(file, fixed_line=line)), "is wrong")
    assert [(fault.file, fault.line) for fault in findings] == [
        ("z.toml", 3),
        ("z.toml", 9),
        ("a.csv", 1),
        ("a.csv", 2),
    ]


def test_one_value_is_complained_about_once_a_missing_key_and_a_table_as_often_as_needed():
    """A second fault of a value follows from the first."""
    findings = Findings("c.toml")
    place = Place(Origin("c.toml")).at("x")
    findings.add(place, "must be a number", "a")
    findings.add(place, "must be small", "a")
    findings.add(place, "needs y beside it")
    findings.add(place, "needs z beside it")
    assert [fault.message for fault in findings] == [
        'must be a number, not "a"',
        "needs y beside it",
        "needs z beside it",
    ]


def test_a_fault_without_a_line_shows_none():
    """A key that is missing altogether, or a file that could not be read."""
    fault = found(Place(Origin("c.toml")), "cannot be read")
    assert listing([fault]) == "c.toml: cannot be read"


def test_a_missing_key_is_shown_at_its_table():
    """The nearest table that is there."""
    origin = Origin("c.toml", {("meters",): 3, ("meters", 0): 3}, ["", "", "[[meters]]"])
    assert found(Place(origin).below(("meters", 0, "name")), "missing").line == 3


def test_all_mistakes_are_one_error_with_exit_code_78():
    """A unit must not restart on it."""
    error = ConfigFaults([Fault("c.toml", 1, "a", "missing"), Fault("c.toml", 2, "b", "missing")])
    assert error.code == 78
    assert str(error) == "2 mistakes in the configuration\nc.toml:1: a: missing\nc.toml:2: b: missing"


@pytest.mark.parametrize(
    "key",
    ["api_keys", "api-key", "apikeys", "password", "passwrd", "pasword", "PASSWORD", "pw", "key", "keys", "private-key",
     "token", "client_secret", "authorization", "credential"],
)  # fmt: skip
def test_a_key_that_may_hold_a_secret_is_known_however_it_is_spelt(key: str):
    """Misspelt keys are where secrets would be shown."""
    assert is_secret(key)


@pytest.mark.parametrize(
    "key",
    ["name", "poll", "username", "timestamp_key", "value_key", "key_file", "ca_file", "point", "gap", "keepalive"],
)
def test_an_ordinary_key_is_shown(key: str):
    """Hiding everything would help nobody."""
    assert not is_secret(key)


@pytest.mark.parametrize(
    "line",
    [
        f'password = "{CANARY}"',
        f'main = {{ url = "mqtt://h", password = "{CANARY}", poll = 1 }}',
        f'api_keys = ["{CANARY}", "x"] # {CANARY}',
        f'"enerkey"."api_keys" = ["{CANARY}"]',
        f'url = "mqtt://user:{CANARY}@host"',
        f'url = "mqtt://user:a/{CANARY}@b@host"',
    ],
)
def test_a_line_never_shows_a_secret(line: str):
    """Neither under a secret's key nor in a URL."""
    assert CANARY not in hidden(line)


def test_a_secret_is_hidden_wherever_it_is_repeated():
    """In messages, suggestions and excerpts; also escaped, and also where it holds another one."""
    secrets = literal_secrets({"enerkey": {"api_keys": [CANARY, f"{CANARY}-longer"]}, "c": {"password": 'a"b\\c'}})
    assert hidden(f"no {CANARY}-longer and no {CANARY}", secrets) == "no (hidden) and no (hidden)"
    assert hidden('value "a\\"b\\\\c"', secrets) == 'value "(hidden)"'


def test_each_line_of_a_long_secret_is_hidden():
    """A text in three quotes stands on several lines of the file."""
    secrets = literal_secrets({"password": f"first-{CANARY}\nsecond-{CANARY}\n"})
    assert CANARY not in hidden(f'x = """first-{CANARY}', secrets) + hidden(f"second-{CANARY}", secrets)


def test_a_long_url_does_not_lose_its_at_sign_before_its_password_is_hidden():
    """Hidden first, shortened afterwards."""
    place = Place(Origin("c.toml")).at("url")
    fault = found(place, "must be shorter", f"mqtt://user:{CANARY}{'x' * 100}@host")
    assert CANARY not in repr(fault)
    assert fault.value == '"mqtt://(hidden)@host"'


def test_a_secret_value_is_not_shown_and_its_sentence_ends_before_it():
    """The value field of --json says that it is hidden."""
    origin = Origin("c.toml", {("password",): 1}, [f'password = "{CANARY}"'])
    fault = found(Place(origin).at("password"), "must be text in quotes", CANARY)
    assert (fault.message, fault.value, fault.excerpt) == ("must be text in quotes", "(hidden)", "password = (hidden)")


@given(st.text(max_size=30))
@settings(max_examples=100)
def test_nothing_that_a_terminal_would_obey_is_shown(text: str):
    """Colours, cursor movements, line ends, bidirectional marks: in names, keys, values, lines and paths."""
    origin = Origin(text, fixed_line=1, text=[text])
    fault = found(Place(origin, (text,), text), f"must not be {text}", text, suggestion=text)
    assert all(sign.isprintable() for part in (str(fault), fault.excerpt, fault.value) for sign in part)


def test_what_cannot_be_printed_is_shown_as_an_escape():
    """So that one sees what is there."""
    assert visible("a\x1b[31m\u202e\n\udcffé") == "a\\x1b[31m\\u202e\\n\\udcffé"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a", '"a"'),
        (True, "true"),
        (1.5, "1.5"),
        (float("inf"), "inf"),
        (["a", 1], '["a", 1]'),
        ({"a": 1}, "a table"),
        ([{"password": CANARY}], "a list"),
        pytest.param(16**5000, "a number of too many digits", id="endless"),
    ],
)
def test_a_value_is_shown_as_toml_writes_it(value: object, shown: str):
    """Tables and lists of tables only by name: they may hold anything."""
    assert value_text(value) == shown


def test_a_value_of_any_length_leaves_a_readable_sentence():
    """And a readable line."""
    origin = Origin("c.toml", fixed_line=1, text=["x" * 10_000])
    fault = found(Place(origin).at("name"), "must be short", "x" * 10_000)
    assert len(fault.message) < 100
    assert len(fault.excerpt) < 300


@pytest.mark.parametrize(
    ("word", "meant"), [("pol", "poll"), ("POLL", "poll"), ("time-out", "timeout"), ("zzz", ""), ("", "")]
)
def test_the_nearest_known_word_is_found_whatever_its_case(word: str, meant: str):
    """Or none, rather than a wild guess."""
    assert nearest(word, ["poll", "timeout"]) == meant


def test_lists_of_names_have_an_end():
    """Ten thousand connections do not make a useful sentence."""
    assert some(["a", "b", "c"], 2) == "a, b and 1 more"
    assert some(["a", "b"], 2) == "a, b"
    assert (counted(1, "mistake"), counted(0, "mistake")) == ("1 mistake", "0 mistakes")


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    "text", ["x" * 300_000, "://" * 100_000, "a=" * 100_000, " " * 300_000 + "=", "a://b@" * 50_000]
)
def test_a_line_of_any_length_is_searched_for_secrets_once(text: str):
    """Where each letter would start the search anew, such a line would take minutes."""
    assert hidden(text)


def test_a_line_that_is_all_secret_is_not_shown_at_all():
    """An element of a list of keys stands on a line of its own, and may be too short to be looked for."""
    origin = Origin("c.toml", {("api_keys",): 1, ("api_keys", 0): 2}, ["api_keys = [", '  "abc",', "]"])
    assert found(Place(origin).below(("api_keys", 0)), "is empty").excerpt == "(hidden)"


def test_a_secret_is_hidden_also_where_the_file_writes_it_with_escapes():
    """TOML knows other ways to write an ä."""
    origin = Origin("c.toml", fixed_line=1, text=['x = "k\\u00e4se-und-brot"'], secrets=("käse-und-brot",))
    assert found(Place(origin).at("x"), "is odd").excerpt == 'x = "(hidden)"'
