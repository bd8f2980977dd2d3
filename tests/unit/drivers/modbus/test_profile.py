"""A profile file says what it means, and a slip in it is named by file and key."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from drivers.modbus import profile
from drivers.modbus.profile import BadProfile, UnknownProfile, load, names, parse

GOOD = """\
manufacturer = "Maker"
model = "M1"
evidence = "datasheet"
source = "the manual"
table = "input"
word_order = "little"
na = ["0x7FFFFFFF"]
max_registers = 20
gap = "60ms"
timeout = "2s"

[serial]
baudrate = 9600
parity = "E"

[points.energy]
register = 72
type = "s32"
unit = "kWh"
scale = "0.1"
max_rate = "120"
rollover = "100000"
"""


def test_a_profile_is_read_as_it_is_written():
    """With what is left out at its default."""
    read = parse(GOOD, "maker-m1")
    assert (read.manufacturer, read.table, read.word_order, read.byte_order) == ("Maker", "input", "little", "big")
    assert (read.na, read.max_registers, read.gap, read.timeout) == (("0x7FFFFFFF",), 20, 0.06, 2.0)
    assert read.serial is not None
    assert (read.serial.baudrate, read.serial.parity, read.serial.stopbits) == (9600, "E", 1)
    point = read.points["energy"]
    assert (point.register, point.type, point.unit, point.kind) == (72, "s32", "kWh", "counter")
    assert (point.scale, point.max_rate, point.rollover) == (Decimal("0.1"), 120, 100_000)
    assert point.table is point.word_order is point.na is None


@pytest.mark.parametrize(
    ("line", "instead", "key", "said"),
    [
        ("register = 72", "regster = 72", "points.energy.regster", "not permitted"),
        ("register = 72", "regster = 72", "points.energy.register", "required"),
        ("register = 72", 'register = "72"', "points.energy.register", "valid integer"),
        ("register = 72", "register = 65536", "points.energy.register", "less than 65536"),
        ('type = "s32"', 'type = "int32"', "points.energy.type", "'s32'"),
        ('scale = "0.1"', 'scale = "a tenth"', "points.energy.scale", "must be a number"),
        ('scale = "0.1"', 'scale = "0"', "points.energy.scale", "0 would lose every value"),
        ('max_rate = "120"', 'max_rate = "0"', "points.energy.max_rate", "greater than 0"),
        ('table = "input"', 'table = "coils"', "table", "'holding' or 'input'"),
        ('word_order = "little"', 'word_order = "CDAB"', "word_order", "'big' or 'little'"),
        ('na = ["0x7FFFFFFF"]', 'na = ["7FFFFFFF"]', "na.0", '"0x" and 4, 8, 12 or 16 hex digits'),
        ("max_registers = 20", "max_registers = 126", "max_registers", "less than or equal to 125"),
        ('gap = "60ms"', "gap = 60", "gap", "duration in quotes"),
        ('timeout = "2s"', 'timeout = "0s"', "timeout", "greater than 0"),
        ('parity = "E"', 'parity = "even"', "serial.parity", "'N', 'E' or 'O'"),
        ('evidence = "datasheet"', 'evidence = "hearsay"', "evidence", "'datasheet', 'capture' or 'hardware'"),
        ('manufacturer = "Maker"', "", "manufacturer", "required"),
    ],
)
def test_a_slip_is_told_with_file_key_and_what_is_allowed(line, instead, key, said):
    """A misspelt key, a missing one, a wrong type: never passed over in silence."""
    with pytest.raises(ValueError, match=r"^profile maker-m1: ") as refused:
        parse(GOOD.replace(line, instead), "maker-m1")
    text = str(refused.value)
    assert f"\n{key}\n" in text
    assert said.lower() in text.lower()


def test_a_profile_without_points_is_refused():
    """It would be of no use."""
    with pytest.raises(ValueError, match="points"):
        parse(GOOD.split("[points", maxsplit=1)[0] + "[points]\n", "maker-m1")


def test_a_file_that_is_no_toml_is_refused_with_its_name():
    """With the line, as tomllib tells it."""
    with pytest.raises(ValueError, match=r"profile maker-m1: .*line 1"):
        parse("manufacturer = Maker", "maker-m1")


def test_an_own_file_that_nobody_can_read_to_the_end_is_refused(tmp_path: Path):
    """Python's reader of TOML descends by itself, and gives up in its own way."""
    path = tmp_path / "own.toml"
    path.write_text("a = " + "[" * 3000)
    with pytest.raises(BadProfile, match="nested too deeply"):
        load(str(path))


def test_the_names_are_those_of_the_files():
    """What `check` lists."""
    assert names() == sorted(path.stem for path in profile.FOLDER.iterdir() if path.suffix == ".toml")
    assert "eastron-sdm630" in names()


@pytest.mark.parametrize("name", ["eastron", "../../pyproject", "", "eastron-sdm630.toml"])
def test_a_name_that_is_no_profiles_is_unknown(name):
    """Also one that would lead to another file."""
    with pytest.raises(UnknownProfile):
        load(name)
