"""What a source stands for, after the operator's words, its profile and the defaults."""

from __future__ import annotations

from decimal import Decimal

import pytest

from drivers.modbus import profile
from drivers.modbus.decode import Encoding
from drivers.modbus.plan import Place
from drivers.modbus.source import Source
from drivers.modbus.target import target_of

RATED = """\
manufacturer = "Maker"
model = "M1"
evidence = "datasheet"
source = "the manual"
word_order = "little"
na = ["0x7FFFFFFF"]

[points.energy]
register = 52
type = "s32"
unit = "kWh"
scale = "0.1"
max_rate = "120"
rollover = "100000"

[points.special]
register = 80
table = "input"
type = "f32"
unit = "kW"
kind = "power"
word_order = "big"
byte_order = "little"
na = []
"""


def source(**keys) -> Source:
    return Source.model_validate({"connection": "main", "device": 7} | keys)


@pytest.fixture
def rated(tmp_path, monkeypatch):
    """A profile of the test's own in a folder of its own: no shipped one has a rating yet."""
    (tmp_path / "rated.toml").write_text(RATED)
    monkeypatch.setattr(profile, "FOLDER", tmp_path)
    profile.load.cache_clear()
    yield "rated"
    profile.load.cache_clear()


def test_a_register_by_itself_has_the_defaults():
    """Holding, big end first, a counter, nothing scaled."""
    target = target_of("heat", source(register=1024, type="u32"))
    assert (target.source, target.device) == ("heat", 7)
    assert target.place == Place("holding", 1024, 2)
    assert target.encoding == Encoding("u32")
    assert (target.scale, target.unit, target.kind, target.max_rate, target.rollover) == (
        1,
        None,
        "counter",
        None,
        None,
    )
    assert target.where == "holding 1024"


def test_a_register_by_itself_is_what_the_operator_says():
    """Every key arrives."""
    target = target_of(
        "x",
        source(
            register=10,
            table="input",
            type="f64",
            word_order="little",
            byte_order="little",
            na=["0x7FF8000000000000"],
            scale="0.001",
            unit="m3",
            kind="power",
        ),
    )
    assert target.place == Place("input", 10, 4)
    assert target.encoding == Encoding("f64", "little", "little", ("0x7FF8000000000000",))
    assert (target.scale, target.unit, target.kind) == (Decimal("0.001"), "m3", "power")


def test_a_point_has_what_its_profile_says(rated):
    """The profile's defaults reach its points."""
    target = target_of("x", source(profile=rated, point="energy"))
    assert target.place == Place("holding", 52, 2)
    assert target.encoding == Encoding("s32", "little", "big", ("0x7FFFFFFF",))
    assert (target.scale, target.unit, target.kind) == (Decimal("0.1"), "kWh", "counter")
    assert (target.max_rate, target.rollover) == (120, 100_000)
    assert target.where == "energy (holding 52)"


def test_a_point_may_differ_from_its_profile(rated):
    """Table, orders and marks; an empty list of marks is a word too."""
    target = target_of("x", source(profile=rated, point="special"))
    assert target.place == Place("input", 80, 2)
    assert target.encoding == Encoding("f32", "big", "little", ())
    assert target.kind == "power"


def test_the_operators_words_win_over_the_profiles(rated):
    """An SDM630 may be set to swapped words, and to MWh."""
    target = target_of(
        "x",
        source(profile=rated, point="energy", word_order="big", byte_order="little", na=[], unit="MWh", kind="power"),
    )
    assert target.encoding == Encoding("s32", "big", "little", ())
    assert (target.unit, target.kind) == ("MWh", "power")


def test_a_current_transformers_ratio_multiplies_scale_and_limits_alike(rated):
    """A meter behind 200/5 A counts a fortieth; a reversed one counts down, but its rating is no negative number."""
    target = target_of("x", source(profile=rated, point="energy", scale="-40"))
    assert target.scale == Decimal("-4.0")
    assert (target.max_rate, target.rollover) == (4800, 4_000_000)
