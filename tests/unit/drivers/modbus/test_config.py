"""What `check` says of a Modbus connection and its sources: every mistake, each at its key."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from drivers import registry
from drivers.modbus import config
from drivers.modbus.config import Connection, Source, check, describe, exclusive, pace
from drivers.registry import Fault


def connection(**keys) -> Connection:
    return Connection.model_validate({"driver": "modbus", "url": "tcp://192.0.2.10:502"} | keys)


def source(**keys) -> Source:
    return Source.model_validate({"connection": "main", "device": 7} | keys)


def plain(**keys) -> Source:
    return source(register=10, type="u32", **keys)


def faults(to: Connection | None = None, **sources: Source) -> dict[tuple[str | int, ...], str]:
    return {fault.path: fault.message for fault in check(to or connection(), sources)}


def test_a_connection_needs_only_its_url():
    """The rest has defaults; None is decided by the line's kind."""
    defaults = connection()
    assert (defaults.poll, defaults.pause_after_connect, defaults.local_echo) == (60.0, 0.0, False)
    assert defaults.timeout is defaults.gap is defaults.ca_file is None


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("url", "192.0.2.10", "must look like"),
        ("url", "rtu://ttyUSB0", "three slashes"),
        ("poll", "500ms", "greater than or equal to 1"),
        ("poll", "2h", "less than or equal to 3600"),
        ("poll", 60, "duration in quotes"),
        ("timeout", "10ms", "greater than or equal to 0.05"),
        ("gap", "-1s", "duration in quotes"),
        ("pause_after_connect", "1m", "less than or equal to 30"),
        ("local_echo", "yes", "valid boolean"),
        ("ca_file", "", "at least 1 character"),
        ("baudrate", 9600, "not permitted"),
    ],
)
def test_a_mistake_in_a_connection_names_its_key_and_what_is_allowed(key, value, said):
    """One mistake, one message."""
    with pytest.raises(ValidationError) as refused:
        connection(**{key: value})
    (error,) = refused.value.errors()
    assert error["loc"] == (key,)
    assert said in error["msg"]


def test_nothing_is_said_of_a_configuration_without_mistakes():
    """By register and by profile, on one connection."""
    good = {"a": plain(), "b": source(profile="eastron-sdm630", point="energy_import_total")}
    assert check(connection(), good) == []


@pytest.mark.parametrize(
    ("keys", "at", "said"),
    [
        ({"register": 10}, "type", "missing: one of u16, s16"),
        ({"type": "u32"}, "register", "missing: write register and type, or profile and point"),
        ({"register": 65_533, "type": "u64"}, "register", "must be at most 65532: u64 takes 4 registers"),
        ({"register": 1, "type": "u64", "max_registers": 2}, "max_registers", "must be at least 4"),
        ({"profile": "eastron-sdm630"}, "point", "has: power_active_total, energy_import_total"),
        ({"point": "energy_import_total"}, "profile", "is needed beside point"),
        ({"profile": "eastron-sdm63", "point": "x"}, "profile", 'did you mean "eastron-sdm630"?'),
        ({"profile": "zzz", "point": "x"}, "profile", 'unknown profile "zzz"; there are: abb-b21, abb-b23'),
        ({"profile": "abb-b23", "point": "energy_import"}, "point", 'did you mean "energy_import_total"?'),
        ({"profile": "kamstrup-multical-403", "point": "heat_energy_total"}, "unit", "look at the display"),
        ({"profile": "abb-b23", "point": "energy_import_total", "max_registers": 3}, "max_registers", "at least 4"),
        ({"profile": "abb-b23", "points": ["energy_import_l1", "energy_import_12"]}, "points", '"energy_import_l2"?'),
        ({"profile": "abb-b23", "points": ["energy_import_l1", "energy_import_l1"]}, "points", "twice"),
        ({"profile": "abb-b23", "points": ["energy_import_l1", "energy_import_total"]}, "points", "would count twice"),
        ({"profile": "orno-we516", "points": ["energy_import_t1", "energy_import_l1"]}, "points", "would count twice"),
        ({"profile": "abb-b23", "point": "energy_import_l1", "points": ["a", "b"]}, "points", "write one of them"),
        ({"points": ["energy_import_l1", "energy_import_l2"]}, "profile", "is needed beside point"),
        ({"profile": "/nowhere/own.toml", "point": "x"}, "profile", "/nowhere/own.toml cannot be read: No such file"),
        ({"profile": "own.toml", "point": "x"}, "profile", 'unknown profile "own.toml"'),
        ({"registers": [40, 42]}, "type", "missing: one of u16"),
        ({"registers": [40, 40], "type": "u32"}, "registers", "has 40 twice"),
        ({"registers": [40, 65_535], "type": "u32"}, "registers", "must be at most 65534"),
        ({"register": 1, "registers": [40, 42], "type": "u32"}, "registers", "write one of them"),
        ({"registers": [40, 42], "type": "u32", "exponent_register": 44}, "exponent_register", "goes with register"),
        ({"register": 1, "type": "u32", "fraction_register": 3}, "fraction_scale", "missing: what one count"),
        (
            {"register": 1, "type": "u32", "fraction_scale": "0.1"},
            "fraction_scale",
            "fraction_register, which is missing",
        ),
        (
            {"register": 1, "type": "u32", "fraction_type": "u16"},
            "fraction_type",
            "fraction_register, which is missing",
        ),
        ({"register": 1, "type": "u32", "exponent_register": 90}, "max_registers", "nor read apart from its fraction"),
        ({"register": 1, "type": "u32", "factor_register": 90, "max_registers": 80}, "max_registers", "at least 90"),
        ({"register": 46, "type": "acc32", "sunspec": 203, "table": "input"}, "table", "SunSpec knows no input"),
        ({"register": 46, "type": "u32", "instance": 2}, "instance", "only for SunSpec"),
        ({"profile": "abb-b23", "point": "energy_import_l1", "instance": 2}, "instance", "only for SunSpec"),
        ({"register": 46, "type": "u32", "pulse_weight": "1/1000"}, "unit", "what pulse_weight counts"),
    ],
)
def test_a_source_that_leads_to_no_register_is_told_what_is_missing(keys, at, said):
    """Exactly one fault each, at the key to change."""
    (found,) = faults(heat=source(**keys)).items()
    assert found[0] == ("heat", at)
    assert said in found[1]


@pytest.mark.parametrize(
    "keys",
    [
        {"registers": [40, 42], "type": "u32"},
        {"register": 1, "type": "u32", "exponent_register": 90, "max_registers": 90},
        {"profile": "orno-we516", "points": ["energy_import_t1", "energy_import_t2"]},
        {"profile": "orno-we516", "points": ["energy_import_l1", "energy_import_l2", "energy_import_l3"]},
        {"profile": "orno-we516", "points": ["energy_import_total", "energy_export_total"]},
        {"profile": "sunspec-meter", "point": "energy_import_total"},
        {"register": 46, "type": "acc32", "sunspec": 203, "exponent_register": 54, "unit": "Wh", "instance": 2},
        {"profile": "saia-pcd7-h104d", "point": "pulse_counter_1", "pulse_weight": "1/1000", "unit": "kWh"},
    ],
)
def test_a_value_of_several_registers_is_fine(keys):
    """By register as by profile."""
    assert not faults(heat=source(**keys))


def test_points_of_two_units_are_not_added_up(tmp_path):
    """Nor a counter and a power."""
    own = tmp_path / "own.toml"
    point = 'register = {}\ntype = "u32"\nunit = "{}"\nkind = "{}"\n'
    head = 'manufacturer = "M"\nmodel = "1"\nevidence = "datasheet"\nsource = "the manual"\n'
    points = [("a", (1, "kWh", "counter")), ("b", (3, "MWh", "counter")), ("c", (5, "kWh", "interval"))]
    own.write_text(head + "".join(f"[points.{name}]\n{point.format(*each)}" for name, each in points))
    assert (
        "one unit to be added up; these have MWh, kWh"
        in faults(m=source(profile=str(own), points=["a", "b"]))["m", "points"]
    )
    assert "one kind to be added up" in faults(m=source(profile=str(own), points=["a", "c"]))["m", "points"]
    assert not faults(m=source(profile=str(own), point="a"))
    other = tmp_path / "other.toml"
    named = [("in", 1), ("in_b", 3), ("out_b", 5)]
    other.write_text(head + "".join(f"[points.{name}]\n{point.format(at, 'kWh', 'counter')}" for name, at in named))
    assert not faults(m=source(profile=str(other), points=["in", "in_b", "out_b"]))  # names that mean nothing to us


def test_a_slip_in_a_profile_of_the_operators_own_is_told_at_the_key_that_names_it(tmp_path):
    """One line, whatever is wrong with the file."""
    own = tmp_path / "own.toml"
    for text, words in (
        ('manufacturer = "M"\n', "has mistakes, at model, evidence, source, points"),
        ("manufacturer = M", "is no profile: Invalid value (at line 1, column 16)"),
        ("\xff", "is no profile: 'utf-8' codec"),
    ):
        own.write_bytes(text.encode("latin-1"))
        (found,) = faults(m=source(profile=str(own), point="a")).items()
        assert found[0] == ("m", "profile")
        assert words in found[1]
        assert "\n" not in found[1]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"profile": "eastron-sdm630", "point": "energy_import_total"}, ""),
        ({"register": 10, "type": "u32"}, ""),
        ({"profile": "eastron-sdm54", "point": "energy_import_total"}, "eastron-sdm54 is experimental"),
        ({"profile": "bg-etech-ds100", "point": "energy_import_total"}, ""),
        (
            {"profile": "bg-etech-ds100", "point": "energy_export_total"},
            "contradict each other about energy_export_total",
        ),
    ],
)
def test_what_two_sources_do_not_agree_on_is_a_reason_to_look_twice(keys, words):
    """An experimental profile, or a point of a stable one that is in doubt."""
    caution = describe(source(**keys)).caution
    assert words in caution
    assert bool(words) == bool(caution)


def test_what_the_profile_says_cannot_be_said_again():
    """Each key that contradicts is a fault of its own."""
    both = source(profile="abb-b23", point="energy_import_total", register=1, table="input", type="u16")
    assert set(faults(heat=both)) == {("heat", "register"), ("heat", "table"), ("heat", "type")}


@pytest.mark.parametrize(
    ("url", "device", "fine"),
    [
        ("tcp://192.0.2.10", 0, True),
        ("tcp://192.0.2.10", 255, True),
        ("tls://192.0.2.10", 255, True),
        ("rtu:///dev/ttyUSB0", 247, True),
        ("rtu:///dev/ttyUSB0", 0, False),
        ("rtu:///dev/ttyUSB0", 248, False),
        ("rtu+tcp://192.0.2.10", 248, False),
    ],
)
def test_device_ids_are_those_of_the_line(url, device, fine):
    """0 on a serial line is the broadcast that nobody answers."""
    found = faults(connection(url=url), heat=source(register=1, type="u16", device=device))
    assert set(found) == (set() if fine else {("heat", "device")})


@pytest.mark.parametrize(
    ("keys", "at", "said"),
    [
        ({"ca_file": "/nowhere/ca.pem", "url": "tls://192.0.2.10"}, "ca_file", "not there: /nowhere/ca.pem"),
        ({"ca_file": __file__}, "ca_file", "only with tls://"),
        ({"key_file": __file__, "url": "tls://192.0.2.10"}, "key_file", "needs cert_file"),
        ({"local_echo": True}, "local_echo", "RS-485"),
    ],
)
def test_keys_that_do_not_go_together_are_told(keys, at, said):
    """Only where no single key shows it."""
    (found,) = faults(connection(**keys)).items()
    assert found[0] == ("connection", at)
    assert said in found[1]


def test_a_tls_connection_with_its_files_and_an_echoing_line_are_fine():
    """The other side of the same rules."""
    assert not faults(connection(url="tls://x", ca_file=__file__, cert_file=__file__, key_file=__file__))
    assert not faults(connection(url="rtu:///dev/ttyUSB0", local_echo=True))


@pytest.mark.parametrize(
    ("key", "one", "other"), [("timeout", "2s", "3s"), ("gap", "10ms", "20ms"), ("max_registers", 8, 9)]
)
def test_two_sources_that_disagree_about_their_device_are_told_by_name(key, one, other):
    """A device has one timeout; who says nothing agrees, another device may differ."""
    found = faults(a=plain(**{key: one}), b=plain(), c=plain(**{key: other}), d=plain(**{key: one}))
    assert set(found) == {("c", key)}
    assert "device 7" in found["c", key]
    assert '"a"' in found["c", key]
    apart = source(register=10, type="u32", device=8, **{key: other})
    assert not faults(a=plain(**{key: one}), e=apart)


def test_every_mistake_of_a_connection_is_told_at_once():
    """Not one per run of `check`."""
    found = check(
        connection(local_echo=True, ca_file=__file__),
        {"a": source(), "b": source(profile="zzz", point="x"), "c": plain()},
    )
    assert [fault.path for fault in found] == [
        ("connection", "ca_file"),
        ("connection", "local_echo"),
        ("a", "register"),
        ("a", "type"),
        ("b", "profile"),
    ]
    assert all(isinstance(fault, Fault) and fault.message for fault in found)


def test_the_gateway_learns_what_a_source_is_without_opening_it():
    """Unit and kind from the profile, where to look from the address."""
    facts = describe(source(profile="schneider-iem3155", point="power_active_total"))
    assert (facts.unit, facts.kind, facts.where) == ("kW", "power", "device 7, power_active_total (holding 3059)")
    assert facts.max_rate is facts.rollover is None
    assert describe(plain()).where == "device 7, holding 10"
    assert describe(plain()).unit is None


def test_a_source_is_expected_at_each_poll_unless_the_operator_knows_better():
    """A module that refreshes every 15 minutes."""
    assert pace(connection(poll="30s"), plain()) == 30
    assert pace(connection(poll="30s"), plain(expected_every="15m")) == 900


@pytest.mark.parametrize(
    ("url", "claims"),
    [
        ("rtu:///dev/ttyUSB0?baudrate=9600", "the serial port /dev/ttyUSB0"),
        ("tcp://192.0.2.10", "192.0.2.10:502"),
        ("rtu+tcp://192.0.2.10:502", "192.0.2.10:502"),
    ],
)
def test_a_line_has_one_master(url, claims):
    """Two connections with the same claim take each other's answers; settings do not make it another line."""
    assert exclusive(connection(url=url)) == claims


def test_the_registry_finds_this_configuration():
    """By the name that an operator writes."""
    assert registry.config_of("modbus") is config


def test_reading_a_configuration_does_not_load_the_wire_library():
    """`check` and MQTT-only boxes never pay for pymodbus."""
    code = "import sys, drivers.modbus.config; sys.exit(any(name.startswith(('pymodbus', 'serial')) for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
