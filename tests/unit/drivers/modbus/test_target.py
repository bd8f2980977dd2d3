"""What a source stands for, after the operator's words, its profile and the defaults."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus import profile
from drivers.modbus.decode import Encoding, NoValue
from drivers.modbus.plan import Place
from drivers.modbus.source import Source
from drivers.modbus.sunspec import Model
from drivers.modbus.target import parts_of, placed, target_of

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


# --- more registers than the value's own ------------------------------------------------------------------------------

B30 = {"register": 19843, "type": "u32", "fraction_register": 19845, "fraction_type": "u16", "fraction_scale": "0.0001"}
ISKRA = {"register": 418, "table": "input", "type": "s32", "exponent_register": 414}


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def test_a_whole_number_and_its_fraction_are_one_place_and_one_value():
    """Diris B30: whole kWh, and tenths of a Wh beside them."""
    target = target_of("x", source(**B30))
    assert target.place == Place("holding", 19843, 3)
    assert target.value(words("0000 04D2 1267")) == Decimal("1234.4711")
    assert (target.resolution, target.end) == (Decimal("0.0001"), 2**32)


def test_a_fraction_before_its_number_is_found_as_well():
    """And has its own type or the number's."""
    target = target_of("x", source(register=12, type="u32", fraction_register=8, fraction_scale="0.001"))
    assert target.place == Place("holding", 8, 6)
    assert target.value(words("0000 01F4 DEAD DEAD 0000 0007")) == Decimal("7.5")


@pytest.mark.parametrize(
    ("exponent", "value"), [("0000", "1234"), ("0002", "123400"), ("FFFD", "1.234"), ("FFF4", "0.000000001234")]
)
def test_an_exponent_is_signed_and_comes_from_the_same_request(exponent, value):
    """Read as unsigned, 10^-3 would be 10^65533."""
    target = target_of("x", source(**ISKRA))
    assert target.place == Place("input", 414, 6)
    assert target.value(words(f"{exponent} DEAD DEAD DEAD 0000 04D2")) == Decimal(value)
    assert target.resolution is target.end is None


@pytest.mark.parametrize("exponent", ["8000", "000D", "FFF3", "7FFF"])
def test_an_exponent_that_no_meter_has_is_no_value(exponent):
    """SunSpec's 0x8000 says that there is none; a value without it would be off by a power of ten."""
    with pytest.raises(NoValue):
        target_of("x", source(**ISKRA)).value(words(f"{exponent} DEAD DEAD DEAD 0000 04D2"))


def test_a_factor_multiplies_and_a_factor_of_zero_is_no_value():
    """R2: never 0 for what is no number."""
    target = target_of("x", source(register=6, type="u16", factor_register=7, scale="0.1"))
    assert target.value(words("04D2 0028")) == Decimal("4936.0")
    for factor in ("0000", "FFFF"):
        with pytest.raises(NoValue, match="not available"):
            target.value(words(f"04D2 {factor}"))


def test_swapped_bytes_are_swapped_in_every_register_of_the_value():
    """An exponent of 2 of such a device is 0200 on the wire."""
    target = target_of("x", source(register=10, type="u16", exponent_register=11, byte_order="little"))
    assert target.value(words("D204 0200")) == 123_400


def test_a_value_with_its_fraction_missing_is_no_value():
    """Neither cut off nor filled up with 0."""
    with pytest.raises(NoValue, match="wrong length"):
        target_of("x", source(**B30)).value(words("0000 04D2"))


@given(
    st.lists(st.integers(0, 0xFFFF), max_size=12),
    st.sampled_from(["u32", "f32", "bcd32", "f64", "iskra_t6", "mod10k32"]),
)
def test_whatever_comes_is_a_finite_number_or_no_value(sent, type_):
    """Words of a meter, too few or too many of them, in a value of every part there is: nothing but NoValue is raised."""
    target = target_of(
        "x",
        source(
            register=2, type=type_, fraction_register=6, fraction_scale="0.001", exponent_register=0, factor_register=1
        ),
    )
    with suppress(NoValue):
        assert target.value(sent).is_finite()


# --- sums -------------------------------------------------------------------------------------------------------------


def test_registers_are_added_up_each_read_by_itself():
    """Tariffs of a meter without a total."""
    target = target_of("x", source(registers=[40, 60], type="u32", scale="0.1", unit="kWh"))
    assert [part.place for part in parts_of(target)] == [Place("holding", 40, 2), Place("holding", 60, 2)]
    assert all(part.whole == target for part in parts_of(target))
    assert target.value(words("0000 04D2 0000 000A")) == Decimal("124.4")
    assert target.resolution == Decimal("0.1")
    assert target.end is None  # it falls by what one of them falls
    assert target.where == "holding 40 + holding 60"


def test_points_are_added_up_each_with_its_own_scale(rated):
    """The rating of a sum is what all of them may bring; unknown where one's is."""
    two = target_of("x", source(profile=rated, points=["energy", "special"], kind="counter", unit="kWh"))
    assert two.max_rate is None
    assert two.value(words("000A 0000") + words("803F 0000")) == Decimal("2.0")
    assert target_of("x", source(profile=rated, points=["energy", "energy"])).max_rate == 240


def test_a_list_of_one_is_that_one():
    """A spreadsheet with the column, and a meter that needs no sum; its step, end and identity are its own."""
    assert target_of("x", source(registers=[40], type="u32")) == target_of("x", source(register=40, type="u32"))


def test_one_term_without_a_value_leaves_the_sum_without_one():
    """All present, or no reading."""
    target = target_of("x", source(registers=[40, 60], type="u32", na=["0xFFFFFFFF"]))
    with pytest.raises(NoValue, match="not available"):
        target.value(words("0000 04D2 FFFF FFFF"))


# --- identity: what opens a new epoch ---------------------------------------------------------------------------------

PLAIN = {"register": 1024, "type": "u32"}
OTHERS = {
    "register": 1026, "table": "input", "type": "s32", "word_order": "little", "byte_order": "little", "scale": "0.1",
    "ct_ratio": 40, "pulse_weight": "1/1000", "exponent_register": 1030, "factor_register": 1030, "sunspec": 203, "device": 8,
}  # fmt: skip


def test_the_identity_of_a_plain_register_is_what_it_always_was():
    """A new release must not open an epoch in every meter."""
    assert target_of("x", source(**PLAIN, scale="0.10")).identity == "device 7, holding 1024 u32 big/big x 0.1"


@pytest.mark.parametrize("key", sorted(OTHERS))
def test_another_register_type_scale_or_ratio_is_another_register(key):
    """DESIGN 5: no energy is booked across such a change."""
    assert target_of("x", source(**PLAIN | {key: OTHERS[key]})).identity != target_of("x", source(**PLAIN)).identity


@pytest.mark.parametrize(
    "change",
    [{"fraction_register": 19850}, {"fraction_type": "s16"}, {"fraction_scale": "0.001"}, {"ct_ratio": 2}],
)
def test_another_fraction_is_another_register(change):
    """Its place, type and weight."""
    assert target_of("x", source(**B30 | change)).identity != target_of("x", source(**B30)).identity


def test_another_list_of_registers_is_another_register():
    """A tariff more begins a new epoch: its energy of all times must not be booked now."""
    two = target_of("x", source(registers=[40, 60], type="u32")).identity
    assert two == "device 7, holding 40 u32 big/big x 1 + device 7, holding 60 u32 big/big x 1"
    assert target_of("x", source(registers=[40, 60, 80], type="u32")).identity != two


def test_a_ratio_that_is_split_differently_is_the_same_register():
    """A scale of 40 and a ct_ratio of 200/5 mean the same numbers."""
    split = target_of("x", source(**PLAIN, scale="0.1", ct_ratio="200/5"))
    assert split.identity == target_of("x", source(**PLAIN, scale=4)).identity
    assert split.scale == 4


def test_marks_names_and_limits_do_not_make_another_register():
    """Nothing that leaves the numbers as they are."""
    same = target_of("y", source(**PLAIN, na=["0xFFFFFFFF"], timeout="2s", max_registers=8, rollover=1000))
    assert same.identity == target_of("x", source(**PLAIN)).identity


# --- SunSpec ----------------------------------------------------------------------------------------------------------

MODEL = {"sunspec": 203, "register": 46, "type": "acc32", "exponent_register": 54, "unit": "Wh"}


def test_a_register_of_a_model_is_nowhere_until_the_model_is_found():
    """And then counts from its ID register."""
    target = target_of("x", source(**MODEL))
    assert target.place.register >= 65_536
    assert target.where == "SunSpec 203 + 46"
    found = placed(target, [Model(1, 40_002, 66), Model(203, 40_070, 105), Model(203, 40_177, 105)])
    assert found
    assert found.place == Place("holding", 40_116, 9)
    assert found.value(words("0000 04D2 0 0 0 0 0 0 0001")) == 12_340
    assert placed(target, [Model(1, 40_002, 66), Model(201, 40_070, 105)]) is None


def test_the_identity_of_a_model_is_the_same_wherever_firmware_puts_it():
    """No new epoch by an update that moves the map."""
    target = target_of("x", source(**MODEL))
    assert target.identity == "device 7, SunSpec 203 + 46 acc32 big/big x 1 x 10^SunSpec 203 + 54"


def test_the_second_meter_of_an_inverter_is_asked_for_by_its_number():
    """In the order of the chain, whichever of its models each is; it is another register than the first."""
    second = target_of("x", source(profile="sunspec-meter", point="energy_import_total", instance=2))
    models = [Model(1, 2, 66), Model(203, 70, 105), Model(201, 177, 105)]
    found = placed(second, models)
    assert found
    assert found.place.register == 177 + 46
    assert second.where == "energy_import_total (SunSpec 201/202/203/204 no. 2 + 46)"
    assert second.identity != target_of("x", source(profile="sunspec-meter", point="energy_import_total")).identity
    assert placed(second, models[:2]) is None


def test_a_model_at_the_very_end_of_the_registers_is_not_read_beyond_them():
    """A misread chain."""
    assert placed(target_of("x", source(**MODEL)), [Model(203, 65_500, 105)]) is None


# --- a profile of the operator's own ----------------------------------------------------------------------------------


def test_a_profile_of_the_operators_own_is_named_by_its_path(tmp_path):
    """With everything that a shipped one may say."""
    own = tmp_path / "own.toml"
    own.write_text(
        RATED.replace('scale = "0.1"', 'scale = "0.1"\nfraction = { register = 54, type = "u16", scale = "0.001" }')
    )
    target = target_of("x", source(profile=str(own), point="energy", ct_ratio=2))
    assert target.value(words("000A 0000 0005")) == Decimal("2.010")
    assert (target.max_rate, target.rollover) == (240, 200_000)
