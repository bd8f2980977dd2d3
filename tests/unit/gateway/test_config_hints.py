"""What was meant: other programs' words for keys and values, blocks that were copied, and profiles of the operator's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import ConfigFaults, load

LINE = '[connections.main]\ndriver = "modbus"\nurl = "{}"\n'
MAIN = LINE.format("tcp://192.0.2.1")
METER = '[[meters]]\nname = "{}"\npush = "off"\nunit = "kWh"\nmax_rate = 9\nsource = {{ connection = "main", {} }}\n'
REGISTER = 'device = 1, register = 52, type = "s32", unit = "kWh"'
PROFILE = (
    'manufacturer = "Own"\nmodel = "M"\nevidence = "datasheet"\nsource = "its manual"\n[points.energy]\nregister = 52\n'
)


def said(tmp_path: Path, text: str) -> list[str]:
    """The mistakes of a configuration, without the directory."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigFaults) as caught:
        load(path)
    return [str(fault).replace(f"{tmp_path}/", "") for fault in caught.value.faults]


def warned(tmp_path: Path, text: str) -> list[str]:
    """What is warned of in one without mistakes."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    return [f"{each.path}: {each.message}" for each in load(path).warnings]


@pytest.mark.parametrize(
    ("there", "written", "words"),
    [
        ("device = 1", "slave = 1", 'slave: unknown key; did you mean "device"?'),
        ("device = 1", "Unit_ID = 1", 'Unit_ID: unknown key; did you mean "device"?'),
        ("register = 52", "address = 52", 'address: unknown key; did you mean "register"?'),
        (
            "register = 52",
            "register = 52, function = 4",
            'function: unknown key; write table = "holding" (function 3) or',
        ),
        ('"s32"', '"int32"', '"acc64", not "int32"; did you mean "s32"?'),
        ('"s32"', '"FLOAT"', '"acc64", not "FLOAT"; did you mean "f32"?'),
        ('"s32"', '"S32"', '"acc64", not "S32"; did you mean "s32"?'),
        ('"s32"', '"s32", word_order = "CDAB"', 'must be one of "big", "little", not "CDAB"; did you mean "little"?'),
        ("register = 52", 'register = "0x34"', 'must be a whole number without quotes, not "0x34"'),
    ],
)
def test_other_programs_words_are_understood_and_corrected(tmp_path: Path, there: str, written: str, words: str):
    """One mistake, which says what it is called here: nothing follows from it."""
    (fault,) = said(tmp_path, MAIN + METER.format("a", REGISTER.replace(there, written)))
    assert words in fault


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("baudrate = 9600", 'it stands in the url: "rtu:///dev/ttyUSB0?baudrate=9600'),
        ('host = "192.0.2.1"', 'it stands in the url: "tcp://192.0.2.10:502"'),
        ('scan_interval = "10s"', 'did you mean "poll"?'),
        ("retries = 3", "known here: driver, url, poll"),
    ],
)
def test_what_stands_in_the_url_is_sent_there(tmp_path: Path, line: str, words: str):
    """Speed, parity, host and port are no keys of their own."""
    (fault,) = said(tmp_path, MAIN + line + "\n" + METER.format("a", REGISTER))
    assert f"unknown key; {words}" in fault


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("em340", 'did you mean "carlo-gavazzi-em340"?'),
        ("SDM 630", 'did you mean "eastron-sdm630"?'),
        ("Carlo_Gavazzi_EM340", 'did you mean "carlo-gavazzi-em340"?'),
        ("my.toml", "one of your own is named with its whole path"),
    ],
)
def test_a_profile_is_found_by_a_part_of_its_name(tmp_path: Path, profile: str, words: str):
    """As it stands on the type plate."""
    (fault,) = said(
        tmp_path, MAIN + METER.format("a", f'device = 1, profile = "{profile}", point = "energy_import_total"')
    )
    assert words in fault


def test_a_mistake_in_an_own_profile_is_told_where_it_stands(tmp_path: Path):
    """Once, by the file, line and key, however many meters have the profile."""
    own = tmp_path / "own.toml"
    own.write_text(f'{PROFILE}type = "int32"\nwordorder = "little"\n')
    source = f'device = 1, profile = "{own}", point = "energy"'
    found = said(tmp_path, MAIN + METER.format("a", source) + METER.format("b", source))
    assert len(found) == 4
    assert found[3] == 'own.toml:8: points.energy.wordorder: unknown key; did you mean "word_order"?'
    assert found[2].startswith('own.toml:7: points.energy.type: must be one of "u16"')
    assert found[2].endswith('not "int32"; did you mean "s32"?')
    assert found[0] == (
        "config.toml:9: meters.a.source.profile: own.toml has mistakes, at points.energy.type, points.energy.wordorder"
    )
    own.write_text(f'{PROFILE}type = "s32"\nword_order = "little"\nunit = "kWh"\n')
    assert len(load(tmp_path / "config.toml").meters) == 2


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("register = 52", "register = 65535", "point: energy is at register 65535: s32 takes 2, so at most 65534"),
        (
            'unit = "kWh"',
            'unit = "kWh"\nfraction = { register = 9000, type = "u16", scale = "0.1" }',
            "point: what belongs to the value is too far from it: one request must read both",
        ),
    ],
)
def test_what_a_bus_cannot_read_of_an_own_profile_is_a_mistake(tmp_path: Path, before: str, after: str, words: str):
    """Each key by itself may be right."""
    own = tmp_path / "own.toml"
    own.write_text(f'{PROFILE}type = "s32"\nunit = "kWh"\n'.replace(before, after))
    (fault,) = said(tmp_path, MAIN + METER.format("a", f'device = 1, profile = "{own}", point = "energy"'))
    assert words in fault


def test_an_own_profile_that_is_not_there_is_told_once(tmp_path: Path):
    """At the key that names it."""
    (fault,) = said(tmp_path, MAIN + METER.format("a", f'device = 1, profile = "{tmp_path}/no.toml", point = "energy"'))
    assert fault.endswith("meters.a.source.profile: no.toml cannot be read: No such file or directory")


def test_registers_that_overlap_are_not_added_up(tmp_path: Path):
    """Halves of one value are no two values."""
    source = 'device = 1, registers = [52, 56, 53], type = "s32", unit = "kWh"'
    (fault,) = said(tmp_path, MAIN + METER.format("a", source))
    assert "registers: must not overlap, not [52, 56, 53]; 52 and 53 do: s32 takes 2 registers" in fault
    assert warned(tmp_path, MAIN + METER.format("a", source.replace("53", "54"))) == []


def test_what_belongs_to_a_value_and_stands_too_far_away_is_named(tmp_path: Path):
    """No max_registers would help."""
    source = f'{REGISTER}, fraction_register = 9000, fraction_type = "u16", fraction_scale = "0.1"'
    (fault,) = said(tmp_path, MAIN + METER.format("a", source))
    assert "source.fraction_register: is too far from register: one request must read both" in fault


def test_a_meter_that_reads_the_same_as_another_is_warned_of(tmp_path: Path):
    """A block that was copied and not changed; another device, register or connection is another meter."""
    one = MAIN + METER.format("a", REGISTER)
    words = 'meters.b.source.device: reads the same as meter "a": is it another device, or another register?'
    assert warned(tmp_path, one + METER.format("b", REGISTER)) == [words]
    assert warned(tmp_path, one + METER.format("b", REGISTER.replace("52", "54"))) == []
    assert warned(tmp_path, one + METER.format("b", REGISTER.replace("device = 1", "device = 2"))) == []


def test_a_transformers_ratio_the_wrong_way_round_is_warned_of(tmp_path: Path):
    """It makes values larger."""
    (words,) = warned(tmp_path, MAIN + METER.format("a", f'{REGISTER}, ct_ratio = "5/200"'))
    assert words.startswith("meters.a.source.ct_ratio: makes values smaller")
    assert warned(tmp_path, MAIN + METER.format("a", f'{REGISTER}, ct_ratio = "200/5"')) == []


def test_a_serial_port_by_two_names_is_one_port(tmp_path: Path):
    """A name in /dev/serial/by-id/ is a link."""
    (tmp_path / "ttyUSB0").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "ttyUSB0")
    other = LINE.replace("main", "other").format(f"rtu://{tmp_path}/by-id")
    (fault,) = said(tmp_path, LINE.format(f"rtu://{tmp_path}/ttyUSB0") + other + METER.format("a", REGISTER))
    assert fault.endswith("ttyUSB0 belongs to [connections.main] already: put all its meters there")
