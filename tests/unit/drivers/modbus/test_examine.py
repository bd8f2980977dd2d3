"""What a device is, by its answers. No bus: registers in a dictionary, as the meters of our profiles have them."""

from __future__ import annotations

from collections.abc import Mapping

from drivers.modbus import profile
from drivers.modbus.decode import Encoding, encode
from drivers.modbus.examine import SILENCES, Examination
from drivers.modbus.source import Source
from drivers.modbus.target import target_of
from drivers.modbus.wire import ILLEGAL_ADDRESS, Answer, ExceptionAnswer, NoAnswer

PROFILES = {name: profile.load(name) for name in profile.names()}

Registers = dict[tuple[str, int], int]


def meter(name: str, values: Mapping[str, float], *, rest: float = 0) -> Registers:
    """The registers of a profile: its plain points (`values` by point, `rest` in the others), and numbers that identify it."""
    registers: Registers = {}
    for point in PROFILES[name].points:
        target = target_of("", Source.model_validate({"connection": "", "device": 1, "profile": name, "point": point}))
        if target.place.width == target.encoding.width:
            words = encode(round(values.get(point, rest) / float(target.scale), 3), target.encoding)
            registers |= {(target.place.table, target.place.register + at): word for at, word in enumerate(words)}
    for each in PROFILES[name].identification:
        if each.kind == "number":
            registers |= {(each.table, each.register + at): 1650 for at in range(each.count)}
    return registers


def text(register: int, words: str, table: str = "holding") -> Registers:
    """Two characters a register."""
    raw = words.encode().ljust(len(words) + len(words) % 2)
    return {(table, register + at): int.from_bytes(raw[2 * at : 2 * at + 2], "big") for at in range(len(raw) // 2)}


def examined(registers: Registers, *, holes: str = "refused", names=()) -> tuple[Examination, list]:
    """The examination of a device with these registers, and every place that was asked for."""
    examination, asked = Examination(PROFILES, names), []
    while (place := examination.wanted) is not None:
        asked.append(place)
        places = [(place.table, register) for register in range(place.register, place.end)]
        if all(each in registers for each in places):
            examination.heard(Answer(tuple(registers[each] for each in places), 0.02))
        else:
            examination.heard(NoAnswer("silent") if holes == "silent" else ExceptionAnswer(ILLEGAL_ADDRESS))
    return examination, asked


def best(registers: Registers) -> list[str]:
    """The profiles that have the highest score."""
    found = examined(registers)[0].suggestions()
    return [each.profile for each in found if each.score == found[0].score]


def _plain(name: str) -> list[str]:
    return [
        point
        for point, facts in PROFILES[name].points.items()
        if not (facts.fraction or facts.exponent_register or facts.factor_register)
    ]


def _main(name: str) -> str:
    points = PROFILES[name].points
    usual = [point for point in ("energy_import_total", "heat_energy_total") if point in points]
    return (usual or [point for point in points if points[point].kind == "counter"] or list(points))[0]


def test_nothing_is_asked_twice():
    """However many profiles have a register: on a serial line each request takes a tenth of a second."""
    _, asked = examined(meter("eastron-sdm630", {"energy_import_total": 12345.6}))
    assert len(asked) == len(set(asked))
    assert len(asked) < 150


def test_no_register_at_all_fits_nothing():
    """A device that refuses everything is there, and is nothing that we know."""
    assert examined({})[0].suggestions() == []


def test_a_meter_that_names_itself_is_found():
    """Its identification says so; another family with the same registers comes after it."""
    registers = meter("abb-b21", {"energy_import_total": 7015.5, "power_active_total": 60}) | text(35168, "B21 ")
    found = examined(registers)[0].suggestions()
    assert found[0].profile == "abb-b21"
    assert 'it says "B21"' in found[0].reasons
    assert all(each.profile != "abb-b21" for each in examined(registers | text(35168, "B23 "))[0].suggestions())


def test_a_name_given_by_the_device_itself_counts():
    """Asked with function 0x2B, which only some know."""
    registers = meter("eastron-sdm72d-m-v2", {"energy_import_total": 12345.6}, rest=7.5)
    named, _ = examined(registers, names=["Eastron", "SDM630 V2"])
    first = named.suggestions()[0]
    assert (first.profile, first.reasons[0]) == ("eastron-sdm630", 'it calls itself "Eastron SDM630 V2"')


def test_meters_that_read_alike_are_all_listed():
    """Nobody can tell an SDM630 from an SDM72 by the registers that both have: both are there, and read the same."""
    registers = meter("eastron-sdm630", {"energy_import_total": 12345.6, "power_active_total": 1800}, rest=7.5)
    found = examined(registers)[0].suggestions()
    alike = {each.profile: each.register for each in found if each.score >= found[0].score - 5}
    assert {"eastron-sdm630", "eastron-sdm72d-m-v2"} <= set(alike)
    assert len(set(alike.values())) == 1
    value = found[0].values[0]
    assert (value.point, str(value.value), value.unit) == ("energy_import_total", "12345.6", "kWh")


def test_the_meters_of_our_profiles_are_recognised():
    """With plausible values in its registers and nothing elsewhere each profile is listed, most among the likeliest."""
    first = []
    plain = [
        name for name in PROFILES if not PROFILES[name].sunspec and meter(name, {}) and _main(name) in _plain(name)
    ]
    for name in plain:
        found = examined(meter(name, {_main(name): 54321.5}, rest=2.5))[0].suggestions()
        assert name in [each.profile for each in found], name
        near = [each.profile for each in found if each.score >= found[0].score - 5]
        first += [name] if name in near else []
    assert len(plain) > 55
    assert len(first) / len(plain) >= 0.95


def test_a_register_with_what_no_meter_says_rules_a_profile_out():
    """A negative counter, a float of 10 to the minus 30: it is another meter's register, or another order."""
    words = encode(-12.5, Encoding("f32"))
    registers = meter("eastron-sdm120", {}) | {("input", 72): words[0], ("input", 73): words[1]}
    assert not any(each.profile.startswith("eastron") for each in examined(registers)[0].suggestions())


def test_an_empty_meter_is_still_possible():
    """A new meter shows 0 everywhere; its profile is listed, with the reason."""
    found = {each.profile: each for each in examined(meter("eastron-sdm120", {}))[0].suggestions()}
    assert "energy_import_total (input 72) is 0" in found["eastron-sdm120"].reasons


def test_a_refused_point_is_told_against_a_profile():
    """By its name, so that it can be looked up."""
    registers = meter("carlo-gavazzi-em340", {"energy_import_total": 48210.5, "power_active_total": 900})
    del registers["holding", 78]
    suggestion = next(e for e in examined(registers)[0].suggestions() if e.profile == "carlo-gavazzi-em340")
    assert any(reason.startswith("not energy_export_total") for reason in suggestion.reasons)


def test_a_device_of_sunspec_is_walked_through():
    """Its models are listed, and a profile of one of them is suggested with the values found there."""
    registers: Registers = dict.fromkeys([("holding", register) for register in range(40_000, 40_200)], 0)
    mark, chain = text(40_000, "SunS"), {40_002: (1, 4), 40_008: (213, 124), 40_134: (0xFFFF, 0)}
    registers |= mark
    for base, header in chain.items():
        registers |= {("holding", base): header[0], ("holding", base + 1): header[1]}
    points = PROFILES["sunspec-meter-float"].points
    words = encode(1234.5, Encoding("f32"))
    at = 40_008 + points["energy_import_total"].register
    registers |= {("holding", at): words[0], ("holding", at + 1): words[1]}
    examination, _ = examined(registers)
    assert examination.models == [1, 213]
    first = examination.suggestions()[0]
    assert first.profile == "sunspec-meter-float"
    assert "it lists the SunSpec model 213" in first.reasons
    assert str(first.values[0].value) == "1234.5"


def test_a_device_that_is_silent_where_others_refuse_is_left_in_peace():
    """After some silences nothing more is asked, and that is said: each costs a timeout and the rest after it."""
    examination, asked = examined({}, holes="silent")
    assert examination.cut
    assert len(asked) == SILENCES
    assert examination.suggestions() == []
