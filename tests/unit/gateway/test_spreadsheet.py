"""Meters from a spreadsheet: one a row, and each mistake with its file and row."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.modbus.decode import WIDTHS
from gateway.config import Config, ConfigFaults, load
from gateway.sections import MeterSection
from gateway.spreadsheet import METER_COLUMNS, source_keys, typed

CONNECTIONS = """\
meters_file = "meters.csv"
[connections.main]
driver = "modbus"
url = "tcp://192.0.2.1"
[connections.hall]
driver = "mqtt"
url = "mqtt://192.0.2.2"
"""
HEADER = "name,push,unit,max_rate,connection,device,register,type,topic,source_unit"
HEAT = "heat,off,MWh,0.5,main,7,1024,u32,,kWh"
TYPES = ", ".join(f'"{each}"' for each in WIDTHS)
WATER = "water,off,m3,,hall,,,,site/water,m3"


def loaded(tmp_path: Path, csv: str | bytes) -> Config:
    """The configuration whose meters are this CSV text."""
    (tmp_path / "config.toml").write_text(CONNECTIONS)
    (tmp_path / "meters.csv").write_bytes(csv if isinstance(csv, bytes) else csv.encode())
    return load(tmp_path / "config.toml")


def mistakes(tmp_path: Path, csv: str | bytes) -> list[str]:
    """What is said of this CSV text, with the name of the file and without its directory."""
    with pytest.raises(ConfigFaults) as caught:
        loaded(tmp_path, csv)
    return [str(fault).replace(f"{tmp_path}/", "") for fault in caught.value.faults]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_every_spreadsheet_programs_csv_is_read(tmp_path: Path, separator: str, end: str, mark: bytes):
    """Separators, line ends and the byte order mark of Excel, LibreOffice and an old Mac."""
    text = "\n".join([HEADER, HEAT, "", WATER, "," * 9, ""]).replace(",", separator).replace("\n", end)
    meters = {meter.name: meter for meter in loaded(tmp_path, mark + text.encode()).meters}
    assert set(meters) == {"heat", "water"}
    assert meters["heat"].where == "device 7, holding 1024"
    assert str(meters["heat"].max_rate) == "0.5"
    assert meters["water"].max_rate is None


def test_an_empty_cell_is_a_key_that_is_not_there(tmp_path: Path):
    """So that Modbus and MQTT meters share one sheet."""
    assert [meter.reading_unit for meter in loaded(tmp_path, f"{HEADER}\n{HEAT}\n{WATER}\n").meters] == ["kWh", "m3"]


def test_meters_of_the_file_and_of_the_spreadsheet_come_together(tmp_path: Path):
    """And a name or id is unique over both."""
    (tmp_path / "meters.csv").write_text(f"{HEADER}\n{HEAT}\n")
    meter = '[[meters]]\nname = "{}"\npush = "off"\nunit = "m3"\nsource = {{ connection = "hall", topic = "x", unit = "m3" }}\n'
    path = tmp_path / "config.toml"
    path.write_text(CONNECTIONS + meter.format("other"))
    assert [each.name for each in load(path).meters] == ["other", "heat"]
    path.write_text(CONNECTIONS + meter.format("heat"))
    with pytest.raises(ConfigFaults) as caught:
        load(path)
    assert [str(fault).replace(f"{tmp_path}/", "") for fault in caught.value.faults] == [
        (
            "meters.csv:2: meters.heat.name: is there twice: meters.heat (config.toml:8) has it already; give each meter its "
            "own, its history hangs on it"
        )
    ]


def test_every_mistake_of_every_row_is_reported_with_its_row(tmp_path: Path):
    """Wrong values, units, names and connections."""
    row = "wat er,of,kwh,0,mian,999,-1,u33,,m3"
    assert mistakes(tmp_path, f"{HEADER}\n{HEAT}\n\n{row}\n{HEAT}\n") == [
        (
            'meters.csv:4: meter.name: must be up to 64 letters, digits and "-", "_", ".", beginning with a letter or digit, '
            'not "wat er"'
        ),
        'meters.csv:4: meter.push: must be one of "consumption", "cumulative", "off", not "of"',
        'meters.csv:4: meter.max_rate: must be more than 0, not "0"',
        'meters.csv:4: meter.source.connection: unknown connection "mian"; there are: main, hall; did you mean "main"?',
        "meters.csv:4: meter.source.device: must be at most 255, not 999",
        "meters.csv:4: meter.source.register: must be at least 0, not -1",
        f'meters.csv:4: meter.source.type: must be one of {TYPES}, not "u33"',
        (
            'meters.csv:4: meter.unit: unknown unit "kwh"; there are: J, kJ, MJ, GJ, Wh, kWh, MWh, GWh, Wmin, varh, kvarh, '
            "Mvarh, l, "
            'L, dm3, hl, m3, m³, kg, t, pulse, count; did you mean "kWh"?'
        ),
        (
            "meters.csv:5: meters.heat.name: is there twice: meters.heat (line 2) has it already; give each meter its own, its "
            "history hangs on it"
        ),
    ]


def test_a_bad_column_is_named_once_and_the_rows_are_still_checked(tmp_path: Path):
    """A misspelt one counts as the one that was meant."""
    header = HEADER.replace("push", "Push").replace("device", "devise") + ",colour"
    assert mistakes(tmp_path, f"{header}\n{HEAT.replace('u32', 'u33')},red\n{HEAT.replace('heat', 'b')},red\n") == [
        'meters.csv:1: column Push: unknown column; did you mean "push"?',
        'meters.csv:1: column devise: unknown column; did you mean "device"?',
        "meters.csv:1: column colour: unknown column",
        f'meters.csv:2: meters.heat.source.type: must be one of {TYPES}, not "u33"',
    ]


def test_a_column_under_another_programs_name_is_understood_and_corrected(tmp_path: Path):
    """As a key in the configuration is."""
    header = HEADER.replace("device", "Slave_ID").replace("register", "address")
    assert mistakes(tmp_path, f"{header}\n{HEAT}\n") == [
        'meters.csv:1: column Slave_ID: unknown column; did you mean "device"?',
        'meters.csv:1: column address: unknown column; did you mean "register"?',
    ]


def test_an_address_in_hex_is_a_number_as_in_the_configuration(tmp_path: Path):
    """Many manuals print them so."""
    header = "name,push,unit,max_rate,connection,device,register,type,source_unit"
    for cell, register in (("0x400", 1024), ("0X400", None), ("0x", None), ("0xFFFFF", None)):
        text = f"{header}\nheat,off,kWh,9,main,0x07,{cell},u32,kWh\n"
        if register is None:
            assert any("source.register: must be" in each for each in mistakes(tmp_path, text))
        else:
            (meter,) = loaded(tmp_path, text).meters
            assert (meter.source.device, meter.source.register) == (7, register)


def test_a_missing_column_is_named_once_not_in_every_row(tmp_path: Path):
    """A thousand times the same would hide the rest."""
    header, row = HEADER.replace("unit,max_rate", "max_rate"), HEAT.replace("MWh,", "")
    assert mistakes(tmp_path, f"{header}\n{row}\n{row.replace('heat', 'b')}\n") == [
        "meters.csv:1: column unit: missing; every meter needs it"
    ]


def test_a_column_that_is_there_twice_is_named(tmp_path: Path):
    """Nobody can tell which one counts."""
    assert mistakes(tmp_path, f"{HEADER},name\n{HEAT},x\n") == [
        "meters.csv:1: column name: is there twice; keep one of them"
    ]


def test_a_row_with_more_cells_than_columns_is_named(tmp_path: Path):
    """A decimal comma in a file of commas."""
    assert mistakes(tmp_path, f"{HEADER}\n{HEAT.replace('0.5', '0,5')}\n")[0] == (
        "meters.csv:2: has 11 cells, the header only 10; put quotes around a cell with a separator in it"
    )


def test_a_decimal_comma_in_a_file_of_semicolons_is_named(tmp_path: Path):
    """What a Finnish or German spreadsheet program writes."""
    text = f"{HEADER}\n{HEAT}\n".replace(",", ";").replace("0.5", "0,5")
    assert mistakes(tmp_path, text) == [
        'meters.csv:2: meters.heat.max_rate: must be a number with a decimal point, such as "0.1", not "0,5"'
    ]


@pytest.mark.parametrize(
    ("csv", "said"),
    [
        ("", "meters.csv:1: is empty: write a header row and one meter a row"),
        ("\n\n , \n", "meters.csv:1: is empty: write a header row and one meter a row"),
        (f"{HEADER}\n", "meters.csv:1: has no meters below its header: write one meter a row"),
        (f'{HEADER}\n"heat', 'meters.csv:2: is not CSV: a cell begins with a quote " and never ends'),
        (f'{HEADER}\n"a"b', "meters.csv:2: is not CSV: after the quote that ends a cell there must be a separator"),
        (f"{HEADER}\n{'x' * 200_000}", "meters.csv:2: is not CSV: a cell is longer than 131072 characters"),
        (
            b"name\nK\xe4lte\n",
            'meters.csv:2: is not UTF-8 text; save it as UTF-8: "CSV UTF-8" in a spreadsheet program',
        ),
    ],
    ids=["empty", "blank", "header only", "open quote", "text after quote", "long cell", "latin-1"],
)
def test_a_file_that_is_no_table_of_meters_says_so(tmp_path: Path, csv: str | bytes, said: str):
    """And nothing else."""
    assert mistakes(tmp_path, csv) == [said]


def test_a_file_that_is_not_there_is_reported_where_it_is_named(tmp_path: Path):
    """The operator looks at the configuration first."""
    path = tmp_path / "config.toml"
    for name, reason in (
        ("no.csv", "cannot be read: No such file or directory; write the path of a file that is there"),
        (".", "cannot be read: Is a directory; write the path of a file"),
    ):
        path.write_text(CONNECTIONS.replace("meters.csv", name))
        with pytest.raises(ConfigFaults) as caught:
            load(path)
        assert [str(fault) for fault in caught.value.faults] == [
            f"{path}:1: meters_file: {tmp_path if name == '.' else tmp_path / name} {reason}"
        ]


def test_cells_become_what_their_keys_want():
    """Whole numbers, true and false, lists; anything else stays text, for the model to refuse."""
    assert typed({"enerkey_id": "7", "max_rate": "7", "name": "7", "x": "7"}, MeterSection) == {
        "enerkey_id": 7, "max_rate": "7", "name": "7", "x": "7",
    }  # fmt: skip
    for cell in ("--1", "1.0", "¹", "0x10", "9" * 5000, "+-0"):
        assert typed({"enerkey_id": cell}, MeterSection) == {"enerkey_id": cell}


def test_a_list_is_written_with_blanks(tmp_path: Path):
    """The only list that a source has."""
    config = loaded(tmp_path, f"{HEADER},na\n{HEAT},0xFFFFFFFF 0x80000000\n")
    assert config.meters[0].source.model_dump()["na"] == ("0xFFFFFFFF", "0x80000000")


def test_a_cell_on_two_lines_does_not_shift_the_rows_after_it(tmp_path: Path):
    """Rows are counted as an editor counts lines."""
    text = f'{HEADER}\n"he\nat",off,MWh,1,main,7,0,u32,,kWh\n{HEAT.replace("u32", "u33")}\n'
    assert [said.split(": ")[0] for said in mistakes(tmp_path, text)] == ["meters.csv:2", "meters.csv:4"]


def test_every_key_of_a_meter_and_its_source_has_a_column():
    """None is for the TOML file alone."""
    assert "source" not in METER_COLUMNS
    assert {*METER_COLUMNS, "source"} == set(MeterSection.model_fields)
    assert {"connection", "device", "topic", "unit"} <= source_keys()


def test_of_keys_that_meter_and_source_share_the_source_has_columns_of_its_own(tmp_path: Path):
    """`unit` and `gap` mean one thing for a meter and another for what is read."""
    (meter,) = loaded(tmp_path, f"{HEADER},gap,source_gap\n{HEAT},arrival,80ms").meters
    assert (meter.gap, meter.source.gap) == ("arrival", 0.08)
    assert (meter.unit, meter.source.unit) == ("MWh", "kWh")


def test_a_list_in_a_cell_is_written_with_blanks_and_may_have_one_element(tmp_path: Path):
    """Tariffs that are added up, registers and points; a row of the same column that needs only one."""
    header = "name,push,unit,connection,device,profile,points,registers,type,source_unit"
    rows = (
        "a,off,kWh,main,1,orno-we516,energy_import_t1 energy_import_t2,,,",
        "b,off,kWh,main,2,orno-we516,energy_import_total,,,",
        "c,off,kWh,main,3,,,40 42,u32,kWh",
        "d,off,kWh,main,4,,,40,u32,kWh",
    )
    meters = loaded(tmp_path, "\n".join([header, *rows])).meters
    assert [meter.where for meter in meters] == [
        "device 1, energy_import_t1 (holding 306) + energy_import_t2 (holding 318)",
        "device 2, energy_import_total (holding 264)",
        "device 3, holding 40 + holding 42",
        "device 4, holding 40",
    ]


def test_an_expression_with_blanks_stays_one_expression(tmp_path: Path):
    """`value` takes a list in the file; in a cell it is one path, whatever stands in it."""
    path = "vals[?id=='7'].val | [0]"
    (meter,) = loaded(tmp_path, f"{HEADER},value\n{WATER},{path}\n").meters
    assert meter.source.model_dump()["value"] == path


def test_one_preset_serves_many_rows(tmp_path: Path):
    """A template for many meters: each row says its device and nothing else that the preset knows."""
    header = "name,push,unit,connection,preset,point,device"
    rows = "a,off,m3,hall,wmbusmeters,volume_total,Roof\nb,off,kWh,hall,wmbusmeters,heat_energy_total,33225544\n"
    meters = loaded(tmp_path, f"{header}\n{rows}").meters
    assert [(each.where, each.reading_unit) for each in meters] == [
        ("wmbusmeters/Roof, total_m3", "m3"),
        ("wmbusmeters/33225544, total_energy_consumption_kwh", "kWh"),
    ]
