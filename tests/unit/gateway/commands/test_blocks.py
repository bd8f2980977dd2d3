"""Blocks that are pasted into a configuration: plain TOML, whatever a device calls itself."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from gateway.commands import blocks
from gateway.sections import NAME

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(value=st.one_of(TEXTS, st.booleans(), st.integers(), st.lists(TEXTS, max_size=3)))
def test_a_value_is_read_as_it_was_written(value: object):
    """Quotes, backslashes, control characters and other scripts."""
    assert tomllib.loads(f"key = {blocks.written(value)}") == {"key": value}


@given(words=st.lists(st.lists(TEXTS, max_size=3), max_size=5))
def test_every_name_is_one_that_a_meter_may_have_and_no_other_has(words: list[list[str]]):
    """Names come from topics, and topics from anybody."""
    taken: set[str] = set()
    names = [blocks.name_of(each, taken) for each in words]
    assert len(set(names)) == len(words)
    assert all(NAME.fullmatch(name) for name in names)


def test_a_meter_gets_the_unit_that_meters_have():
    """A source in Wh, litres or W becomes a meter in kWh or m³; what has no usual unit keeps its own."""
    units = [
        ("Wh", "counter"),
        ("W", "power"),
        ("l", "counter"),
        ("m3/h", "power"),
        ("varh", "counter"),
        ("pulse", "counter"),
    ]
    assert [blocks.meter_unit(*each) for each in units] == ["kWh", "kWh", "m3", "m3", "kvarh", "pulse"]


def test_a_block_holds_its_reasons_above_it():
    """Comments, the meter, its source."""
    text = blocks.meter(
        "heat", {"connection": "broker", "topic": "a/b", "value": '"x y".z'}, "kWh", "counter", ["a/b: 5 kWh"]
    )
    assert text.splitlines()[:2] == ["# a/b: 5 kWh", "[[meters]]"]
    (meter,) = tomllib.loads(text)["meters"]
    assert meter == {
        "name": "heat",
        "push": "off",
        "unit": "kWh",
        "source": {"connection": "broker", "topic": "a/b", "value": '"x y".z'},
    }
