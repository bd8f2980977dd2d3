"""A table against its model: every mistake at once, in our own words, and a value to go on with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, model_validator

from drivers import registry
from drivers.fields import Duration, Exact, Strict
from gateway.enerkey.contract import Contract
from gateway.faults import Findings, Origin, Place
from gateway.sections import ClockSection, EnerkeySection, GatewaySection, HoursSection, MeterSection
from gateway.tomlfile import UNREADABLE
from gateway.validating import Checked, check_table, duration_text, in_words, joined

JARGON = (
    "Input should",
    "valid ",
    "pydantic",
    "extra_forbidden",
    "_type",
    "parsing",
    "Decimal(",
    "validation",
    "literal",
)


class Inner(Strict):
    depth: int = 1


class Table(Strict):
    name: str
    number: int = Field(5, ge=1, le=10)
    port: int = Field(0, lt=65_536)
    every: Annotated[Duration, Field(ge=1, le=3600)] = 60.0
    exact: Annotated[Exact, Field(gt=0)] | None = None
    mode: Literal["auto", "always"] = "auto"
    on: bool = False
    names: tuple[str, ...] = Field((), max_length=2, strict=False)
    inner: Inner = Field(default_factory=Inner)

    @model_validator(mode="after")
    def _name_and_number_differ(self) -> Table:
        if self.name == str(self.number):
            raise ValueError("has the same name and number")
        return self


def checked(table: dict[str, Any], model: type[BaseModel] = Table) -> tuple[Checked[Any], list[str]]:
    """What became of the table, and the mistakes without their file."""
    findings = Findings("c.toml")
    result = check_table(model, table, Place(Origin("c.toml"), (), "t"), findings)
    return result, [str(fault).removeprefix("c.toml: ") for fault in findings]


def said(**table: Any) -> list[str]:
    """The mistakes of a table that has a name otherwise."""
    return checked({"name": "x", **table})[1]


def test_a_right_table_gives_its_model_and_no_words():
    """The common case."""
    result, faults = checked({"name": "x", "number": 7})
    assert faults == []
    assert result.value == Table(name="x", number=7)
    assert not result.guessed


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("name", 5, "must be text in quotes, not 5"),
        ("number", "7", 'must be a whole number without quotes, not "7"'),
        ("number", "seven", 'must be a whole number, not "seven"'),
        ("number", 7.0, "must be a whole number, not 7.0"),
        ("number", True, "must be a whole number, not true"),
        ("number", 0, "must be at least 1, not 0"),
        ("number", 11, "must be at most 10, not 11"),
        ("port", 65_536, "must be at most 65535, not 65536"),
        ("every", 60, 'must be a duration in quotes such as "200ms", "60s", "15m", "1h" or "31d", not 60'),
        ("every", "0s", 'must be at least "1s", not "0s"'),
        ("every", "2h", 'must be at most "1h", not "2h"'),
        ("exact", "0", 'must be more than 0, not "0"'),
        ("exact", float("inf"), "must be a finite number, not inf"),
        ("mode", "Auto", 'must be one of "auto", "always", not "Auto"; did you mean "auto"?'),
        ("mode", 1, 'must be one of "auto", "always", not 1'),
        ("on", "true", 'must be true or false, not "true"'),
        ("on", 1, "must be true or false, not 1"),
        ("names", "x", 'must be a list in [ ], not "x"'),
        ("names", ["a", "b", "c"], 'must have at most 2 elements, not ["a", "b", "c"]'),
        ("inner", 5, "must be a table: [t.inner], not 5"),
    ],
)
def test_a_wrong_value_is_told_what_is_allowed(key: str, value: object, words: str):
    """One sentence of one kind for each."""
    assert said(**{key: value}) == [f"t.{key}: {words}"]


def test_a_missing_key_is_told_what_to_write():
    """Not only that it is missing."""
    assert checked({})[1] == ["t.name: missing: write text in quotes"]


def test_every_mistake_of_a_table_is_reported_at_once():
    """Unknown keys, wrong values, elements of lists, tables below, in the order of the file."""
    assert said(nmber=3, every="1x", names=[1, 2], inner={"depht": 2, "depth": "x"}, bogus=1) == [
        't.nmber: unknown key; did you mean "number"?',
        "t.bogus: unknown key; known here: name, number, port, every, exact, mode, on, names, inner",
        't.inner.depht: unknown key; did you mean "depth"?',
        't.inner.depth: must be a whole number, not "x"',
        't.every: must be a duration in quotes such as "200ms", "60s", "15m", "1h" or "31d", not "1x"',
        "t.names[0]: must be text in quotes, not 1",
        "t.names[1]: must be text in quotes, not 2",
    ]


def test_a_misspelt_key_counts_as_the_one_that_was_meant():
    """So that it is not missing too, and its value is checked."""
    result, faults = checked({"nmae": 5})
    assert faults == ['t.nmae: unknown key; did you mean "name"?', "t.nmae: must be text in quotes, not 5"]
    assert result.written(("name",)) == 5
    assert result.at(("name",)).shown == "t.nmae"


def test_a_misspelt_key_beside_the_right_one_is_only_unknown():
    """The right one counts."""
    result, faults = checked({"name": "x", "nmae": "y"})
    assert faults == ['t.nmae: unknown key; did you mean "name"?']
    assert result.value.name == "x"


def test_with_a_wrong_key_there_is_still_a_value_to_go_on_with():
    """What follows from it is not reported: the key is known as guessed."""
    result, _ = checked({"name": 5, "number": 7})
    assert result.value.number == 7
    assert result.guessed == {"name"}
    findings = Findings("c.toml")
    result.add(findings, ("name",), "is too odd")
    result.add(findings, ("number",), "must be other than the name")
    assert not len(findings)
    result.add(findings, ("number",), "must be even")
    assert len(findings) == 1


def test_an_unreadable_value_is_not_reported_again():
    """Its line is no TOML, which has been said."""
    result, faults = checked({"name": UNREADABLE, "number": UNREADABLE})
    assert faults == []
    assert result.guessed == {"name", "number"}


def test_what_a_model_says_of_the_whole_table_is_said_too():
    """Once, and also where single keys are wrong."""
    assert said(name="7", number=7) == ["t: has the same name and number"]
    assert said(name="7", number=7, on=1) == ["t.on: must be true or false, not 1", "t: has the same name and number"]


def test_alternatives_are_one_sentence():
    """Of a key that takes one of several types."""
    assert joined(["must be true or false", "must be a number"]) == "must be true or false or a number"
    assert joined(["must be a number", "must be a number"]) == "must be a number"
    assert joined(["must be a number", "is odd"]) == "must be a number; is odd"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.05, "50ms"), (1, "1s"), (90, "90s"), (900, "15m"), (3600, "1h"), (5400, "90m"), (86_400, "1d")],
)
def test_a_limit_in_seconds_is_shown_as_a_duration(seconds: float, text: str):
    """In the largest unit that keeps it whole."""
    assert duration_text(seconds) == text


def test_types_are_said_in_words():
    """As "missing" and the reference page need them."""
    words = {key: in_words(field.annotation, field.metadata) for key, field in Table.model_fields.items()}
    assert words == {
        "name": "text in quotes",
        "number": "a whole number",
        "port": "a whole number",
        "every": 'a duration such as "60s"',
        "exact": "a number",
        "mode": '"auto" or "always"',
        "on": "true or false",
        "names": "a list in [ ]",
        "inner": "a table in { }",
    }


MODELS: list[type[BaseModel]] = [GatewaySection, ClockSection, HoursSection, EnerkeySection, Contract, MeterSection]
for _driver in registry.names():
    MODELS += [registry.config_of(_driver).Connection, registry.config_of(_driver).Source]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8) | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model.__module__}.{model.__name__}")
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_whatever_is_written_no_word_of_the_library_reaches_the_operator(model: type[BaseModel], data: st.DataObject):
    """No crash, no jargon, and every fault says something."""
    keys = st.sampled_from(list(model.model_fields)) | st.text(max_size=5)
    table = data.draw(st.dictionaries(keys, VALUES, max_size=6))
    findings = Findings("c.toml")
    check_table(model, table, Place(Origin("c.toml"), (), "t"), findings)
    for fault in findings:
        unquoted = fault.message.partition(", not ")[0]
        assert not any(word in unquoted for word in JARGON), unquoted
        assert not unquoted.endswith("not allowed"), unquoted
