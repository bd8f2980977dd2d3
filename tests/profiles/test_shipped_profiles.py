"""Every shipped profile, loaded, planned and decoded against registers written by hand.

The words are what a meter puts on the wire, as a person reads them off a bus monitor; the value beside them is what its
display then shows. Where an address comes from stands at each meter, and at each point in the profile itself.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import pytest

from drivers.modbus.decode import NoValue, decode
from drivers.modbus.plan import Block, Shape, plan
from drivers.modbus.profile import load, names
from drivers.modbus.source import Source
from drivers.modbus.target import Target, target_of


class Shown(NamedTuple):
    """One point: where it stands, the words there, and what they mean."""

    table: str
    register: int
    words: str
    value: str
    unit: str | None
    kind: str = "counter"


METERS: dict[str, dict[str, Shown]] = {
    # volkszaehler/mbmd meters/rs485/abb.go; victronenergy/dbus-modbus-client abb.py; openWB/core b23.py
    "abb-b23": {
        "energy_import_total": Shown("holding", 0x5000, "0000 0000 0012 D687", "12345.67", "kWh"),
        "energy_export_total": Shown("holding", 0x5004, "0000 0001 0000 0000", "42949672.96", "kWh"),
        "power_active_total": Shown("holding", 0x5B14, "FFFE 1DC0", "-1234.56", "W", "power"),
    },
    # OpenEMS/openems EM341-Modbus.pdf; volkszaehler/mbmd carlogavazzi-ex3x0.go; victronenergy/dbus-cgwacs
    "carlo-gavazzi-em340": {
        "power_active_total": Shown("holding", 0x28, "CFC7 FFFF", "-1234.5", "W", "power"),
        "energy_import_total": Shown("holding", 0x34, "E240 0001", "12345.6", "kWh"),
        "energy_export_total": Shown("holding", 0x4E, "0001 0000", "0.1", "kWh"),
        "reactive_energy_import_total": Shown("holding", 0x36, "0000 0001", "6553.6", "kvarh"),
        "reactive_energy_export_total": Shown("holding", 0x50, "FFFE 7FFF", "214748364.6", "kvarh"),
    },
    # nmakel/sdm_modbus sdm120_modbus_protocol_v2.5.pdf; volkszaehler/mbmd sdm120.go; openWB/core sdm.py
    "eastron-sdm120": {
        "power_active_total": Shown("input", 0x0C, "C49A 5000", "-1234.5", "W", "power"),
        "energy_import_total": Shown("input", 0x48, "4640 E6B7", "12345.679", "kWh"),
        "energy_export_total": Shown("input", 0x4A, "0000 0000", "0", "kWh"),
        "reactive_energy_import_total": Shown("input", 0x4C, "423C 70A4", "47.11", "kvarh"),
        "reactive_energy_export_total": Shown("input", 0x4E, "3F80 0000", "1", "kvarh"),
        "energy_sum_total": Shown("input", 0x156, "47C3 5000", "100000", "kWh"),
        "reactive_energy_sum_total": Shown("input", 0x158, "4240 70A4", "48.11", "kvarh"),
    },
    # nmakel/sdm_modbus sdm630_modbus_protocol_v2.0.pdf; volkszaehler/mbmd sdm.go; EVerest Eastron_SDM630-V2.yaml
    "eastron-sdm630": {
        "power_active_total": Shown("input", 0x34, "449A 5000", "1234.5", "W", "power"),
        "energy_import_total": Shown("input", 0x48, "4640 E6B7", "12345.679", "kWh"),
        "energy_export_total": Shown("input", 0x4A, "3DCC CCCD", "0.1", "kWh"),
        "reactive_energy_import_total": Shown("input", 0x4C, "423C 70A4", "47.11", "kvarh"),
        "reactive_energy_export_total": Shown("input", 0x4E, "3F80 0000", "1", "kvarh"),
        "energy_sum_total": Shown("input", 0x156, "4640 E71C", "12345.777", "kWh"),
        "reactive_energy_sum_total": Shown("input", 0x158, "4240 70A4", "48.11", "kvarh"),
    },
    # jchidley/heatpump-analysis emon-installation-runbook.md; the unit of the energies is set in the meter
    "kamstrup-multical-403": {
        "heat_energy_total": Shown("input", 0x14, "42F6 E979", "123.456", None),
        "heat_energy_a1": Shown("input", 0x30, "42F6 0000", "123", None),
        "volume_total": Shown("input", 0x34, "451A 52B0", "2469.168", "m3"),
    },
    # the same document and module
    "kamstrup-multical-603": {
        "heat_energy_total": Shown("input", 0x14, "42F6 E979", "123.456", None),
        "heat_energy_a1": Shown("input", 0x30, "42F6 0000", "123", None),
        "volume_total": Shown("input", 0x34, "451A 52B0", "2469.168", "m3"),
    },
    # volkszaehler/mbmd iem3000.go; nightmared02/Modbus_Reading metsepm3255.json; printed register minus 1
    "schneider-iem3155": {
        "power_active_total": Shown("holding", 3059, "3F9E 0419", "1.2345", "kW", "power"),
        "energy_import_total": Shown("holding", 3203, "0000 0000 00BC 614E", "12345678", "Wh"),
        "energy_export_total": Shown("holding", 3207, "0000 0000 0000 0001", "1", "Wh"),
        "reactive_energy_import_total": Shown("holding", 3219, "0000 0001 0000 0000", "4294967296", "varh"),
        "reactive_energy_export_total": Shown("holding", 3223, "FFFF FFFF FFFF FFFF", "-1", "varh"),
    },
}

POINTS = [(meter, point) for meter, points in METERS.items() for point in points]

MARKS = [  # what a meter says when it has no value
    ("abb-b23", "energy_import_total", "FFFF FFFF FFFF FFFF"),
    ("abb-b23", "energy_export_total", "FFFF FFFF FFFF FFFF"),
    ("abb-b23", "power_active_total", "7FFF FFFF"),
    ("carlo-gavazzi-em340", "energy_import_total", "FFFF 7FFF"),  # shown as EEE: overflow
    ("carlo-gavazzi-em340", "power_active_total", "FFFF 7FFF"),
    ("schneider-iem3155", "energy_import_total", "8000 0000 0000 0000"),
    ("schneider-iem3155", "reactive_energy_export_total", "8000 0000 0000 0000"),
    ("schneider-iem3155", "power_active_total", "FFC0 0000"),
    ("eastron-sdm630", "energy_import_total", "7FC0 0000"),
    ("kamstrup-multical-603", "heat_energy_total", "7FC0 0000"),
]

REQUESTS = {  # start and count of each: all points of a meter, as it takes them
    "abb-b23": [(0x5000, 8), (0x5B14, 2)],
    "carlo-gavazzi-em340": [(0x28, 2), (0x34, 4), (0x4E, 4)],
    "eastron-sdm120": [(0x0C, 2), (0x48, 8), (0x156, 4)],
    "eastron-sdm630": [(0x34, 2), (0x48, 8), (0x156, 4)],
    "kamstrup-multical-403": [(0x14, 2), (0x30, 6)],
    "kamstrup-multical-603": [(0x14, 2), (0x30, 6)],
    "schneider-iem3155": [(3059, 2), (3203, 24)],
}


def words_of(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def target(meter: str, point: str) -> Target:
    keys = {"connection": "main", "device": 1, "profile": meter, "point": point}
    return target_of(point, Source.model_validate(keys))


def requests(meter: str) -> list[Block]:
    places = [target(meter, point).place for point in METERS[meter]]
    return plan(places, Shape(load(meter).max_registers))


def test_every_shipped_profile_stands_here_with_every_point():
    """A new one needs its registers written by hand, too."""
    assert {name: set(load(name).points) for name in names()} == {name: set(points) for name, points in METERS.items()}


@pytest.mark.parametrize(("meter", "point"), POINTS)
def test_a_point_is_read_at_its_address_and_means_what_the_display_shows(meter, point):
    """The words go into an image of the meter; what the plan fetches from there is decoded."""
    shown = METERS[meter][point]
    image = {shown.register + at: word for at, word in enumerate(words_of(shown.words))}
    wanted = target(meter, point)
    (block,) = [block for block in requests(meter) if wanted.place in block.places]
    assert block.table == shown.table
    answer = [image.get(register, 0xDEAD) for register in range(block.start, block.start + block.count)]
    words = block.words_of(wanted.place, answer)
    assert decode(words, wanted.encoding) * wanted.scale == Decimal(shown.value)
    assert (wanted.unit, wanted.kind) == (shown.unit, shown.kind)


@pytest.mark.parametrize("meter", sorted(METERS))
def test_a_meters_points_are_read_with_these_requests(meter):
    """As few as its holes and its limit allow, and each of one table."""
    blocks = requests(meter)
    assert [(block.start, block.count) for block in blocks] == REQUESTS[meter]
    assert all(block.count <= load(meter).max_registers for block in blocks)


@pytest.mark.parametrize(("meter", "point", "words"), MARKS)
def test_a_meters_mark_for_no_value_is_no_value(meter, point, words):
    """R2: never 0, and never the largest number of its type."""
    with pytest.raises(NoValue):
        decode(words_of(words), target(meter, point).encoding)


@pytest.mark.parametrize(
    ("meter", "most"),
    [
        ("abb-b23", 60),
        ("carlo-gavazzi-em340", 50),  # register 0x2004 reports it
        ("eastron-sdm120", 20),  # in practice, whatever the manual says
        ("eastron-sdm630", 80),  # 40 values, says the manual
        ("kamstrup-multical-403", 60),
        ("kamstrup-multical-603", 60),
        ("schneider-iem3155", 60),
    ],
)
def test_a_meter_is_asked_for_no_more_than_it_takes(meter, most):
    """Registers in one request."""
    assert load(meter).max_registers == most


@pytest.mark.parametrize("meter", sorted(METERS))
def test_a_profile_says_where_each_address_was_read_and_how_far_it_is_proven(meter):
    """None has been seen on a meter beside its display yet."""
    profile = load(meter)
    assert profile.evidence == "datasheet"
    for point in profile.points.values():
        assert point.source
        assert point.agreement == ("single" if ";" not in point.source else "yes")


@pytest.mark.parametrize("meter", sorted(METERS))
def test_nothing_that_can_be_reset_or_is_a_net_sum_is_offered_as_a_counter(meter):
    """Partial counters are set to zero by hand; a net one falls."""
    assert not [point for point in load(meter).points if {"partial", "resettable", "net"} & set(point.split("_"))]
