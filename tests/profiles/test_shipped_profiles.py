"""Every shipped profile, held against the list of registers it was made from, and fed with words.

`meter-registers.csv` is the list: what documents and programs say of each register, with its source and whether two
independent sources agree (`agree`). `cases.csv` holds, for every point of every profile, words as they stand on the wire and
what the meter's display then shows; its last column says where the words come from. "A=W W" is register A and what follows.
For SunSpec, registers count from the model's ID register, as in both files.
"""

from __future__ import annotations

import csv
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from drivers.modbus.decode import NoValue
from drivers.modbus.plan import Block, Place, Shape, plan
from drivers.modbus.profile import Point, Profile, load, names
from drivers.modbus.source import Source
from drivers.modbus.sunspec import Model
from drivers.modbus.target import Target, parts_of, placed, target_of

HERE = Path(__file__).parent
MODEL_AT = 40_070  # where the simulated device has its SunSpec model
TABLES = {"3": "holding", "4": "input"}

FAMILIES = {  # profile -> manufacturer and models in the list
    "abb-b21": ("ABB", "B21"),
    "abb-b23": ("ABB", "B23/B24, A43/A44"),
    "acrel-adw300": ("Acrel", "ADW300"),
    "algodue-upm": ("Algodue", "UPM / UEM"),
    "aquametro-calec-st": ("Aquametro", "CALEC ST"),
    "artemes-am2": ("Artemes", "AM2"),
    "bernecker-mpm3pm": ("Bernecker Engineering", "MPM3PM"),
    "bg-etech-drt428m": ("B+G E-Tech", "DRT428M-2"),
    "bg-etech-ds100": ("B+G E-Tech", "DS100"),
    "bg-etech-ws100": ("B+G E-Tech", "WS100"),
    "carlo-gavazzi-em111": ("Carlo Gavazzi", "EM111/EM112/ET112"),
    "carlo-gavazzi-em111-b10": ("Carlo Gavazzi", "EM111/EM112 (firmware b.10+)"),
    "carlo-gavazzi-em112-b25": ("Carlo Gavazzi", "EM112 (firmware b.25+)"),
    "carlo-gavazzi-em24": ("Carlo Gavazzi", "EM24 RS485"),
    "carlo-gavazzi-em24-ethernet": ("Carlo Gavazzi", "EM24 Ethernet (EM24DIN..E1)"),
    "carlo-gavazzi-em330": ("Carlo Gavazzi", "EM330/EM340/EM341/ET330/ET340", "ET330/ET340"),
    "carlo-gavazzi-em340": ("Carlo Gavazzi", "EM330/EM340/EM341/ET330/ET340", "ET330/ET340"),
    "carlo-gavazzi-em530": ("Carlo Gavazzi", "EM530/EM540"),
    "carlo-gavazzi-em580": ("Carlo Gavazzi", "EM580"),
    "chint-dtsu666": ("Chint", "DTSU666"),
    "diehl-sharky-775": ("Diehl", "Sharky 775"),
    "dzg-dvh4013": ("DZG", "DVH4013/DVH4014"),
    "eastron-sdm120": ("Eastron", "SDM120"),
    "eastron-sdm230": ("Eastron", "SDM230"),
    "eastron-sdm230-2t": ("Eastron", "SDM230-2T"),
    "eastron-sdm54": ("Eastron", "SDM54"),
    "eastron-sdm630": ("Eastron", "SDM630"),
    "eastron-sdm72d-m": ("Eastron", "SDM72D-M (v1)"),
    "eastron-sdm72d-m-v2": ("Eastron", "SDM72D-M v2"),
    "elseta-conmod": ("Elseta", "ConMod P1Modbus (smart meter P1 port to Modbus)"),
    "eltako-dsz15dzmod": ("Eltako", "DSZ15DZMOD/DSZ16 (integer format)"),
    "finder-7m24": ("Finder", "7M.24"),
    "finder-7m38": ("Finder", "7M.38"),
    "garo-gnm3d": ("Garo", "GNM3D/GNM3T"),
    "hager-ecr140d": ("Hager", "ECR140D/ECR180D"),
    "hager-ecr180t": ("Hager", "ECR180T (three single-phase meters)"),
    "hager-ecr380d": ("Hager", "ECR380D/ECR310D/ECR300C"),
    "inepro-pro380": ("Inepro", "PRO380"),
    "iskra-wm3m4": ("Iskra", "WM3M4"),
    "itron-cf-echo-ii": ("Itron", "CF Echo II / CF51 / CF55"),
    "janitza-umg604": ("Janitza", "UMG 604"),
    "janitza-umg806": ("Janitza", "UMG 806"),
    "janitza-umg96rm": ("Janitza", "UMG 96RM/96RM-E, B-series"),
    "kamstrup-multical-403": ("Kamstrup", "MULTICAL 403/603/803 module HC-003-67 (RTU) / -82 (TCP), datagram 300"),
    "kamstrup-multical-601": ("Kamstrup", "MULTICAL 601/602/801 legacy module, datagram 301"),
    "kamstrup-multical-603": ("Kamstrup", "MULTICAL 403/603/803 module HC-003-67 (RTU) / -82 (TCP), datagram 300"),
    "kdk-2pu-ct": ("KDK", "2PU-CT"),
    "klefr-693x": ("Klefr", "693x/694x"),
    "lovato-dmg610": ("Lovato", "DMG610"),
    "orno-we504": ("Orno", "WE-504"),
    "orno-we514": ("Orno", "WE-514/WE-515"),
    "orno-we516": ("Orno", "WE-516/WE-517"),
    "orno-we525": ("Orno", "WE-525/WE-526"),
    "phoenix-contact-eem": ("Phoenix Contact", "EMpro EEM"),
    "saia-ale3": ("Saia-Burgess Controls", "ALE3 / AxxX3 Modbus"),
    "saia-pcd7-h104d": ("Saia-Burgess Controls", "PCD7.H104D S0 pulse counter"),
    "schneider-iem3155": ("Schneider Electric", "iEM3155/iEM3255/iEM3355 (3000 block)"),
    "schneider-pm3255": ("Schneider Electric", "PM3255"),
    "schneider-powertag": ("Schneider Electric", "PowerTag Link / Acti9 SmartLink (per sensor block)"),
    "siemens-pac1600": ("Siemens", "PAC1600/7KT1665"),
    "siemens-pac2200": ("Siemens", "PAC2200 (SENTRON PAC; PAC3200 not checked separately)"),
    "socomec-countis-e14": ("Socomec", "Countis E14"),
    "socomec-countis-e23": ("Socomec", "Countis E23/E24"),
    "socomec-countis-e34": ("Socomec", "Countis E34/E44"),
    "socomec-diris-a10": ("Socomec", "Diris A10"),
    "socomec-diris-a14": ("Socomec", "Diris A14"),
    "socomec-diris-b30": ("Socomec", "Diris B30"),
    "solaredge-se-mtr-3y": ("SolarEdge", "SE-MTR-3Y / WattNode F32LE"),
    "sontex-supercal-531": ("Sontex", "Supercal 531"),
    "sunspec-meter": (
        "SunSpec",
        "model 203 (3ph wye, integer + scale factor; 201-204 share the layout)",
        "model 201 (1ph, integer + scale factor; 201-204 share the layout)",
    ),
    "sunspec-meter-float": (
        "SunSpec",
        "model 213 (3ph wye, float32; 211-214 share the layout)",
        "model 211 (1ph, float32; 211-214 share the layout)",
    ),
    "wago-879": ("WAGO", "879-30xx"),
    "weidmueller-em525": ("Weidmueller", "EM525"),
    "ziehl-efr4001ip": ("Ziehl", "EFR4001IP"),
}
MAIN = {  # the register whose agreement decides, where it is not energy_import_total
    "algodue-upm": "power_active_total",
    "aquametro-calec-st": "heat_energy_total",
    "carlo-gavazzi-em112-b25": "energy_import_total_64",
    "diehl-sharky-775": "heat_energy_total",
    "hager-ecr180t": "energy_import_m1",
    "itron-cf-echo-ii": "heat_energy_total",
    "kamstrup-multical-403": "heat_energy_total",
    "kamstrup-multical-601": "heat_energy_total_int",
    "kamstrup-multical-603": "heat_energy_total",
    "orno-we504": "energy_sum_total",
    "orno-we514": "energy_sum_total",
    "saia-pcd7-h104d": "pulse_counter_1",
    "schneider-powertag": "energy_delivered_total",
    "sontex-supercal-531": "heat_energy_total",
}
LIMITS = {  # registers in one request, where documents or practice say something
    "carlo-gavazzi-em111": 50,
    "carlo-gavazzi-em330": 50,
    "carlo-gavazzi-em340": 50,  # register 0x2004 reports it
    "eastron-sdm120": 20,  # in practice, whatever the manual says
    "eastron-sdm230-2t": 60,
    "eastron-sdm630": 80,  # 40 values, says the manual
    "eastron-sdm72d-m": 10,
    "eastron-sdm72d-m-v2": 10,
    "garo-gnm3d": 50,
    "itron-cf-echo-ii": 22,
    "schneider-iem3155": 60,
}
RATED = {  # kWh in an hour that the type plate allows; all others come with current transformers, or nobody is sure
    "abb-b21": 18,
    "carlo-gavazzi-em340": 60,
    "eastron-sdm120": 14,
    "eastron-sdm230": 28,
    "eastron-sdm230-2t": 28,
    "eastron-sdm72d-m": 83,
    "eastron-sdm72d-m-v2": 83,
}
REQUESTS = {  # start and count of each: all points of a meter, as it takes them on a line at 9600 baud
    "abb-b23": [(0x5000, 8), (0x5460, 24), (0x5B14, 2)],
    "carlo-gavazzi-em340": [(0x28, 42), (0x60, 6)],
    "eastron-sdm120": [(0x0C, 2), (0x48, 8), (0x156, 4)],
    "eastron-sdm630": [(0x34, 28), (0x156, 22)],
    "eastron-sdm72d-m": [(0x34, 2), (0x48, 4), (0x156, 2)],
    "iskra-wm3m4": [(140, 2), (414, 8)],
    "kamstrup-multical-603": [(4, 18), (48, 32)],
    "schneider-iem3155": [(3059, 2), (3203, 24), (3517, 12), (45119, 6)],
    "socomec-diris-b30": [(18476, 2), (19843, 6)],
    "sunspec-meter": [(MODEL_AT + 18, 87)],
}
POINTS = [(name, point) for name in names() for point in load(name).points]


class Case(NamedTuple):
    """One row of `cases.csv`."""

    profile: str
    point: str
    table: str
    image: str
    reading: str  # or "none": the meter says that it has no value
    unit: str
    kind: str
    words_from: str

    def __str__(self) -> str:
        return f"{self.profile}-{self.point}-{self.reading}"


def rows(name: str) -> list[dict[str, str]]:
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


CASES = [Case(**row) for row in rows("cases.csv")]


@cache
def listed() -> dict[tuple[str, str], list[dict[str, str]]]:
    families: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows("meter-registers.csv"):
        families.setdefault((row["manufacturer"], row["model"]), []).append(row)
    return families


def row_of(name: str, *quantities: str) -> dict[str, str]:
    """The list's row of a profile's quantity, under the first of these names that is there."""
    manufacturer, *models = FAMILIES[name]
    there = {row["quantity"]: row for model in reversed(models) for row in listed()[manufacturer, model]}
    return next(there[each] for each in quantities if each in there)


def target(name: str, point: str) -> Target:
    keys = {
        "connection": "main",
        "device": 1,
        "profile": name,
        "point": point,
        "unit": load(name).points[point].unit or "kWh",
    }
    found = target_of(point, Source.model_validate(keys))
    return placed(found, [Model(model, MODEL_AT, 124) for model in found.sunspec]) or found


def requests(name: str) -> list[Block]:
    places = [target(name, point).place for point in load(name).points]
    return plan(places, Shape(load(name).max_registers))


def image_of(case: Case) -> dict[int, int]:
    base = MODEL_AT if load(case.profile).sunspec else 0
    image: dict[int, int] = {}
    at = 0
    for text in case.image.split():
        start, _, word = text.rpartition("=")
        at = base + int(start) if start else at
        image[at] = int(word, 16)
        at += 1
    return image


def exact(row: dict[str, str]) -> Decimal:
    """The list's scale to the unit that the profile uses."""
    return Decimal(row["scale"] or 1) * (Decimal("0.001") if row["unit"] == "mW" else 1)


def test_every_profile_is_of_a_family_in_the_list_and_every_family_has_its_profile():
    """The only row without one is Eastron's serial number."""
    assert set(FAMILIES) == set(names())
    with_profile = {(manufacturer, model) for manufacturer, *models in FAMILIES.values() for model in models}
    assert listed().keys() - with_profile == {("Eastron", "SDM series")}


@pytest.mark.parametrize("name", names())
def test_a_profile_is_stable_where_two_sources_agree_on_its_main_register(name):
    """And experimental everywhere else: one source only, or sources that contradict each other."""
    main = MAIN.get(name, "energy_import_total")
    assert main in load(name).points
    agree = row_of(name, main, f"{main}_int")["agree"]
    assert load(name).status == ("stable" if agree == "yes" else "experimental")


@pytest.mark.parametrize(("name", "point"), POINTS)
def test_a_point_stands_where_the_list_has_it(name, point):
    """Address, function code, type, order, scale, unit, and what its sources agree on."""
    profile, told = load(name), load(name).points[point]
    row = row_of(name, point, f"{point}_int")
    assert (told.register, told.table or profile.table) == (int(row["address"]), TABLES[row["function_code"]])
    assert (told.type, Place("holding", 0, target(name, point).encoding.width).width) == (
        row["type"],
        int(row["registers"]),
    )
    if int(row["registers"]) > 1:
        assert (told.word_order or profile.word_order) == row["word_order"]
    assert (told.byte_order or profile.byte_order) == row["byte_order"]
    assert told.scale == exact(row)
    assert told.unit == {"": None, "by register": None, "mW": "W"}.get(row["unit"], row["unit"])
    assert (told.agreement, told.kind) == (row["agree"], "power" if "power" in point else "counter")
    assert told.source
    in_model = row["address_mode"] == "sunspec_model_offset"
    assert bool(profile.sunspec) == in_model
    if in_model or name == "iskra-wm3m4":
        assert told.exponent_register == (int(row["scale_register"]) if row["scale_register"] else None)
    else:
        assert told.exponent_register is None


FRACTIONS = [(name, point) for name, point in POINTS if load(name).points[point].fraction]


@pytest.mark.parametrize(("name", "point"), FRACTIONS)
def test_a_fraction_stands_where_the_list_has_it(name, point):
    """In the unit of its whole number."""
    fraction = load(name).points[point].fraction
    row = row_of(name, f"{point}_dec", point.replace("_total", "_residual"))
    thousandth = Decimal("0.001") if row["unit"] == "Wh" else 1
    assert fraction
    assert (fraction.register, fraction.type, fraction.scale) == (
        int(row["address"]),
        row["type"],
        Decimal(row["scale"]) * thousandth,
    )


def test_fractions_are_those_of_two_families():
    """The parametrised test above is not empty by mistake."""
    assert {name for name, _ in FRACTIONS} == {"carlo-gavazzi-em111-b10", "socomec-diris-b30"}


def test_every_point_of_every_profile_has_a_case_and_no_case_is_of_another():
    """A new point needs its words, too."""
    assert {(case.profile, case.point) for case in CASES if case.reading != "none"} == set(POINTS)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_words_become_what_the_display_shows_or_no_value(case):
    """The words go into an image of the meter; what the plan fetches from there is decoded. R2: a mark is never 0."""
    image = image_of(case)
    wanted = target(case.profile, case.point)
    (block,) = [block for block in requests(case.profile) if wanted.place in block.places]
    assert block.table == case.table
    answer = [image.get(register, 0xDEAD) for register in range(block.start, block.start + block.count)]
    words = block.words_of(wanted.place, answer)
    if case.reading == "none":
        with pytest.raises(NoValue):
            wanted.value(words)
        return
    assert wanted.value(words) == Decimal(case.reading)
    told: Point = load(case.profile).points[case.point]
    assert (told.unit or "", told.kind) == (case.unit, case.kind)


@pytest.mark.parametrize("name", names())
def test_a_meters_points_are_read_within_its_limit_and_none_is_split(name):
    """Each from one request of its own table, with everything that its value needs."""
    blocks = requests(name)
    assert all(block.count <= load(name).max_registers for block in blocks)
    for point in load(name).points:
        (block,) = [block for block in blocks if target(name, point).place in block.places]
        assert block.table == target(name, point).place.table


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_a_meters_points_are_read_with_these_requests(name):
    """As cheap as its limit allows."""
    assert [(block.start, block.count) for block in requests(name)] == REQUESTS[name]


@pytest.mark.parametrize(("name", "most"), sorted(LIMITS.items()))
def test_a_meter_is_asked_for_no_more_than_it_takes(name, most):
    """Registers in one request."""
    assert load(name).max_registers == most


@pytest.mark.parametrize("name", names())
def test_a_rating_is_given_only_where_the_type_plate_is_sure(name):
    """A family that is sold for current transformers, too, has none: what one hour can bring is the site's."""
    for point in load(name).points.values():
        rated = RATED.get(name) if point.kind == "counter" else None
        assert point.max_rate == rated


@pytest.mark.parametrize(("name", "point", "end"), [
    ("hager-ecr380d", "energy_import_total", 10**7),  # its overflow value
    ("siemens-pac1600", "energy_import_total", 2**32),  # Wh
    ("abb-b23", "energy_import_total", 2**64 // 100 + Decimal("0.16")),
    ("carlo-gavazzi-em340", "energy_import_total", None),  # 0x7FFFFFFF is no number
    ("eastron-sdm630", "energy_import_total", None),
    ("iskra-wm3m4", "energy_import_total", None),
])  # fmt: skip
def test_a_register_begins_again_where_a_document_or_its_type_says(name, point, end):
    """In its unit; None where a drop is never a rollover."""
    assert target(name, point).end == end


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("eastron-sdm")])
def test_an_eastron_is_left_in_peace_for_60_ms(name):
    """As its manuals want."""
    assert load(name).gap == 0.060


def test_a_line_is_never_set_by_a_profile_only_the_factory_settings_are_told():
    """Where known."""
    told = {name: load(name).serial for name in names() if load(name).serial}
    assert {name: (each.baudrate, each.parity) for name, each in told.items() if each} == {
        "inepro-pro380": (9600, "E"),
        "orno-we516": (9600, "E"),
        "kamstrup-multical-403": (19200, "E"),
        "kamstrup-multical-603": (19200, "E"),
    }


@pytest.mark.parametrize("name", names())
def test_a_profile_says_how_far_it_is_proven(name):
    """With words that a bus monitor saw, or only from documents; none has been seen on a meter beside its display yet."""
    profile: Profile = load(name)
    captured = any(case.words_from.startswith("captured: ") for case in CASES if case.profile == name)
    assert profile.evidence == ("capture" if captured else "datasheet")
    assert all(len(point.note) + len(point.source or "") < 1000 for point in profile.points.values())


@pytest.mark.parametrize("name", names())
def test_nothing_that_can_be_reset_or_is_a_net_sum_is_offered_as_a_counter(name):
    """Partial counters are set to zero by hand; a net one falls."""
    assert not [point for point in load(name).points if {"partial", "resettable", "net"} & set(point.split("_"))]


def test_the_tariffs_of_a_meter_may_be_added_up():
    """All of them are asked for; the sum has their unit."""
    keys = {
        "connection": "main",
        "device": 1,
        "profile": "orno-we516",
        "points": ["energy_import_t1", "energy_import_t2"],
    }
    found = target_of("m", Source.model_validate(keys))
    assert [part.place.register for part in parts_of(found)] == [306, 318]
    assert found.unit == "kWh"
