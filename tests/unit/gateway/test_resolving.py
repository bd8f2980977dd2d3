"""From a meter as written to one that can be collected: units, kinds and pace."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from gateway.config import ConfigFaults, Meter, load

CONNECTIONS = """\
[connections.main]
driver = "modbus"
url = "tcp://192.0.2.1"
poll = "30s"
[connections.hall]
driver = "mqtt"
url = "mqtt://192.0.2.2"
"""
REGISTER = 'connection = "main", device = 1, register = 0, type = "u32"'
TOPIC = 'connection = "hall", topic = "x", value = "v", time = "t"'


def meter(tmp_path: Path, source: str, unit: str = "kWh", more: str = "") -> Meter:
    """The only meter of a configuration."""
    path = tmp_path / "config.toml"
    path.write_text(
        f'{CONNECTIONS}[[meters]]\nname = "m"\npush = "off"\nunit = "{unit}"\n{more}\nsource = {{ {source} }}\n'
    )
    return load(path).meters[0]


def said(tmp_path: Path, source: str, unit: str = "kWh", more: str = "") -> list[str]:
    """What is wrong with it, from the key on."""
    with pytest.raises(ConfigFaults) as caught:
        meter(tmp_path, source, unit, more)
    return [str(fault).partition(": meters.m.")[2] for fault in caught.value.faults]


def test_a_reading_times_the_factor_is_in_the_meters_unit(tmp_path: Path):
    """Exactly, whatever the two units are."""
    assert meter(tmp_path, f'{REGISTER}, unit = "GJ"', "MWh").factor == Fraction(10, 36)
    assert meter(tmp_path, f'{TOPIC}, unit = "W", kind = "power"').factor == Fraction(1, 1000)


def test_a_profile_brings_unit_and_kind(tmp_path: Path):
    """What the operator writes comes on top."""
    source = 'connection = "main", device = 1, profile = "eastron-sdm630", point = "energy_import_total"'
    found = meter(tmp_path, source, "MWh")
    assert (found.reading_unit, found.kind, found.factor) == ("kWh", "counter", Fraction(1, 1000))
    assert meter(tmp_path, source, "MWh", "max_rate = 0.25").max_rate == Decimal("0.25")


def test_the_pace_is_the_operators_else_the_polls_else_a_quarter_of_an_hour(tmp_path: Path):
    """What decides what a gap is (DESIGN 5)."""
    assert meter(tmp_path, f'{REGISTER}, unit = "kWh"').expected_every == 30
    assert meter(tmp_path, f'{REGISTER}, unit = "kWh", expected_every = "10m"').expected_every == 600
    assert meter(tmp_path, f'{TOPIC}, unit = "kWh"').expected_every == 900


def test_power_is_integrated_over_three_readings_and_at_least_a_minute(tmp_path: Path):
    """A longer silence adds no energy, unless the operator says so."""
    power = f'{TOPIC}, unit = "W", kind = "power"'
    assert meter(tmp_path, f'{power}, expected_every = "5s"').max_gap == 60
    assert meter(tmp_path, f'{power}, expected_every = "1m"').max_gap == 180
    assert meter(tmp_path, f'{power}, max_gap = "2h"').max_gap == 7200


@pytest.mark.parametrize(
    ("source", "unit", "words"),
    [
        (
            f'{REGISTER}, unit = "m3"', "kWh",
            ("source.unit: m3 (volume) cannot become kWh (energy), the meter's unit; write one of J, kJ, MJ, GJ, Wh, kWh, "
            "MWh, GWh, Wmin"),
        ),
        (
            f'{REGISTER}, unit = "kWh"', "m3",
            "source.unit: kWh (energy) cannot become m3 (volume), the meter's unit; write one of l, L, dm3, hl, m3, m³",
        ),
        (
            f'{TOPIC}, unit = "W", kind = "power"', "t",
            "source.unit: W (energy) cannot become t (mass), the meter's unit; nothing of kind \"power\" can",
        ),
        (
            REGISTER, "kWh",
            ("source.unit: missing: one of J, kJ, MJ, GJ, Wh, kWh, MWh, GWh, Wmin, varh, kvarh, Mvarh, l, L, dm3, hl, m3, m³, kg, "
            "t, pulse, count"),
        ),
        (
            f'{REGISTER}, unit = "kW"', "kWh",
            'source.unit: is an amount per time: write kind = "power" beside it, or the unit of the register',
        ),
        (
            f'{TOPIC}, unit = "kWh", kind = "power"', "kWh",
            'source.unit: is an amount; kind = "power" takes W, kW, MW, l/s, l/min, l/h, m3/h, m³/h',
        ),
        (
            f'{TOPIC}, unit = "kw", kind = "power"', "kWh",
            'source.unit: unknown unit "kw"; there are: W, kW, MW, l/s, l/min, l/h, m3/h, m³/h; did you mean "kW"?',
        ),
        (
            f'{TOPIC}, unit = "kWh", kind = "interval", stamp = "end"', "kWh",
            'source.period: missing: kind = "interval" needs the time that one value covers, such as "15m"',
        ),
        (
            f'{TOPIC}, unit = "kWh", kind = "interval", period = "1h"', "kWh",
            'source.stamp: missing: kind = "interval" needs "start" or "end"',
        ),
        (
            f'{REGISTER}, unit = "kWh", period = "1h"', "kWh",
            'source.period: is only for kind = "interval", and this is a counter',
        ),
        (
            f'{REGISTER}, unit = "kWh", max_gap = "1h"', "kWh",
            'source.max_gap: is only for kind = "power", and this is a counter',
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_told_with_what_would(tmp_path: Path, source: str, unit: str, words: str):
    """One sentence each, and nothing that follows from it."""
    assert said(tmp_path, source, unit) == [words]


def test_a_start_value_is_for_sources_without_a_register(tmp_path: Path):
    """A counter has its own."""
    assert said(tmp_path, f'{REGISTER}, unit = "kWh"', more="start_value = 5") == [
        "start_value: is only for kinds interval and power: a counter has its own register"
    ]
    power = f'{TOPIC}, unit = "W", kind = "power"'
    assert meter(tmp_path, power, more="start_value = 5").start_value == Decimal(5)


def test_two_unknown_units_are_two_mistakes(tmp_path: Path):
    """The meter's and the source's."""
    assert [words.partition(";")[0] for words in said(tmp_path, f'{REGISTER}, unit = "kwh"', "mwh")] == [
        'unit: unknown unit "mwh"',
        'source.unit: unknown unit "kwh"',
    ]


def test_what_is_known_of_a_register_comes_from_its_type_and_the_operator(tmp_path: Path):
    """In the meter's unit: step and end of an unsigned register by themselves, all else as written (DESIGN 5)."""
    found = meter(tmp_path, f'{REGISTER}, unit = "kWh", scale = "0.1"', "MWh")
    assert (found.resolution, found.rollover, found.reset) == (Decimal("0.0001"), Decimal(2**32) / 10_000, "never")
    assert not found.float32
    signed = meter(tmp_path, f'{REGISTER.replace("u32", "s32")}, unit = "kWh", rollover = 1000000, reset = "zero"')
    assert (signed.resolution, signed.rollover, signed.reset) == (1, 10**6, "zero")
    single = meter(tmp_path, f'{REGISTER.replace("u32", "f32")}, unit = "kWh", resolution = "0.01"')
    assert (single.resolution, single.rollover, single.float32) == (Decimal("0.01"), None, True)
    topic = meter(tmp_path, f'{TOPIC}, unit = "kWh"')
    assert (topic.resolution, topic.rollover, topic.float32) == (None, None, False)


def test_a_register_that_ends_beyond_every_number_has_no_end(tmp_path: Path):
    """64 bits of kWh are never reached."""
    assert meter(tmp_path, f'{REGISTER.replace("u32", "u64")}, unit = "kWh"').rollover is None


def test_a_register_is_another_one_when_its_number_means_something_else(tmp_path: Path):
    """Address, type, orders, scale and units tell; what the connection is called and where it is do not."""
    same = meter(tmp_path, f'{REGISTER}, unit = "kWh"').register
    assert meter(tmp_path, f'{REGISTER}, unit = "kWh", expected_every = "10m", timeout = "2s"').register == same
    others = [
        meter(tmp_path, source).register
        for source in (
            f'{REGISTER}, unit = "MWh"', f'{REGISTER}, unit = "kWh", scale = 40', f'{REGISTER}, unit = "kWh", word_order = "little"',
            f'{REGISTER.replace("device = 1", "device = 2")}, unit = "kWh"', f'{REGISTER.replace("u32", "s32")}, unit = "kWh"',
            f'{REGISTER.replace("register = 0", "register = 2")}, unit = "kWh"', f'{TOPIC}, unit = "kWh"',
            f'{REGISTER}, unit = "kWh", ct_ratio = "150/5"', f'{REGISTER}, unit = "kWh", pulse_weight = "1/1000"',
            f'{REGISTER}, unit = "kWh", exponent_register = 2', f'{REGISTER}, unit = "kWh", sunspec = 203',
            f'{REGISTER.replace("register = 0", "registers = [0, 2]")}, unit = "kWh"',
        )
    ]  # fmt: skip
    assert len({same, *others}) == 13


def test_a_source_that_speaks_on_change_holds_its_value(tmp_path: Path):
    """At the latest after `expected_every` it speaks again."""
    assert (
        meter(tmp_path, f'{TOPIC}, unit = "W", kind = "power", report = "on_change", expected_every = "5m"').hold == 300
    )
    assert meter(tmp_path, f'{TOPIC}, unit = "W", kind = "power", expected_every = "5m"').hold == 0


@pytest.mark.parametrize(
    ("source", "more", "words"),
    [
        (
            f'{TOPIC}, unit = "W", kind = "power"',
            'gap = "hole"',
            'gap: is only for kind = "counter", and this is a power',
        ),
        (f'{TOPIC}, unit = "kWh", direction = "net"', "", "source.direction: is only for kinds interval and power"),
        (f'{TOPIC}, unit = "kWh"', 'late = "alarm"', "late: is only for kinds interval and power"),
        (f'{TOPIC}, unit = "W", kind = "power", reset = "zero"', "", 'source.reset: is only for kind = "counter"'),
        (f'{TOPIC}, unit = "W", kind = "power", rollover = 100', "", 'source.rollover: is only for kind = "counter"'),
    ],
)
def test_a_rule_for_another_kind_is_a_mistake(tmp_path: Path, source: str, more: str, words: str):
    """It would be silently without effect."""
    (mistake,) = said(tmp_path, source, more=more)
    assert mistake.startswith(words)
