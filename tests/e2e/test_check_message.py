"""`meter-gateway check --message`: what a mapping makes of a stored message, as an integrator tries it before the wiring."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fakes.command_line import Done, command, on_terminal

SAMPLES = Path(__file__).parents[1] / "mqtt_samples"

CONFIG = """\
[connections.hall]
driver = "mqtt"
url = "mqtt://192.0.2.20"
[connections.main]
driver = "modbus"
url = "tcp://192.0.2.10"
[[meters]]
name = "water"
push = "off"
unit = "l"
max_rate = 1000
source = { connection = "hall", preset = "wmbusmeters", device = "MyTapWater" }
[[meters]]
name = "plant"
push = "off"
unit = "kWh"
max_rate = 1000
[meters.source]
connection = "hall"
preset = "sparkplug"
topic = "spBv1.0/group/+/edge1/#"
device = "meter1"
metric = "Energy/Net"
unit = "Wh"
[[meters]]
name = "pv"
push = "off"
unit = "kWh"
source = { connection = "hall", preset = "victron", device = "portal", channel = 20, point = "pv_power" }
[[meters]]
name = "heat"
push = "off"
unit = "MWh"
max_rate = 2
source = { connection = "main", device = 7, register = 1024, type = "u32", unit = "GJ" }
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Meters of several kinds."""
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    return path


def check(config: Path, *words: str | Path) -> Done:
    """Run it."""
    return command("check", "-c", config, *words)


def of(name: str) -> tuple[str, Path]:
    """The option for a sample message."""
    return "--message", SAMPLES / name


def test_a_message_becomes_a_reading_in_both_units(config: Path):
    """Value, the meter's unit, and whose time it is."""
    done = check(config, *of("wmbusmeters-iperl-water.json"), "--meter", "water")
    assert done == Done(
        0,
        f"water: {SAMPLES}/wmbusmeters-iperl-water.json on wmbusmeters/MyTapWater\n"
        "  ok counter 123.529 m3 = 123529 l at 2024-03-03 18:37:00Z, its own time\n",
        "",
    )


def test_a_message_that_is_no_reading_says_why(config: Path):
    """With the reason that `status` and the database would show."""
    done = check(config, *of("wmbusmeters-q400-temporary-error.json"), "--meter", "water")
    assert done.code == 1
    assert done.out.endswith("  FAIL where is not met\n")


def test_a_retained_message_is_judged_as_one(config: Path):
    """Its age is not known."""
    words = (*of("victron-value.json"), "--meter", "pv")
    assert check(config, *words).out.endswith("  ok power 936 W = 0.936 kWh/h at its arrival\n")
    done = check(config, *words, "--retained")
    assert (done.code, done.out.splitlines()[1]) == (1, "  FAIL retained without a time: its age is not known")


def test_a_birth_before_the_data_tells_its_names(config: Path):
    """Several messages in their order; a negative counter is refused as it would be."""
    data = of("sparkplug-ddata-alias.bin")
    done = check(config, *of("sparkplug-dbirth.bin"), *data, "--meter", "plant", "--json")
    first, second = json.loads(done.out)["messages"]
    assert first["topic"] == "spBv1.0/group/DBIRTH/edge1/meter1"
    assert second == {
        "message": str(data[1]),
        "topic": "spBv1.0/group/DDATA/edge1/meter1",
        "readings": [],
        "refused": [{"reason": "negative", "detail": "-43 Wh"}],
    }
    assert done.code == 1


def test_a_reading_as_a_json_document(config: Path):
    """For those who show it elsewhere."""
    done = check(config, *of("wmbusmeters-iperl-water.json"), "--meter", "water", "--json")
    (message,) = json.loads(done.out)["messages"]
    assert message["readings"] == [
        {
            "at": "2024-03-03T18:37:00+00:00",
            "stamped": True,
            "value": "123.529",
            "unit": "m3",
            "in_meter": "123529",
            "meter_unit": "l",
        }
    ]


def test_another_topic_is_nobodys(config: Path):
    """`--topic` says where the message came from."""
    done = check(config, *of("victron-value.json"), "--meter", "pv", "--topic", "N/other/x")
    assert (done.code, done.out.splitlines()[1]) == (1, "  FAIL no source for this topic: N/other/x")


def test_a_message_of_another_device_is_told(config: Path):
    """Sparkplug nodes speak for many."""
    done = check(config, *of("sparkplug-dbirth.bin"), "--meter", "plant", "--topic", "spBv1.0/group/DBIRTH/edge1/other")
    assert (done.code, done.out.splitlines()[1]) == (
        1,
        "  FAIL not this meter's message: it is about another device of the same node",
    )


def test_nothing_in_a_message_reaches_the_terminal_raw(config: Path, tmp_path: Path):
    """Control characters of a hostile device are shown as such, at 80 columns."""
    message = tmp_path / "m"
    message.write_bytes(b'{"timestamp": "\\u001b[31mred", "total_m3": 5}')
    done = on_terminal("check", "-c", config, "--message", message, "--meter", "water", NO_COLOR="1")
    assert done.code == 1
    assert "FAIL not a time" in done.out
    assert "\x1b" not in done.out
    assert max(map(len, done.out.splitlines()[1:])) <= 80


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (of("victron-value.json"), 2, "--message needs --meter NAME: 3 meters on MQTT"),
        (("--meter", "pv"), 2, "--message FILE is missing: which stored message to try"),
        (
            (*of("victron-value.json"), "--meter", "heat"),
            1,
            "heat is read over Modbus and has no messages; `meter-gateway read heat` reads it",
        ),
        (
            (*of("victron-value.json"), "--meter", "watr"),
            1,
            'no meter "watr" in the configuration; did you mean "water"?; known: heat, plant, pv, water',
        ),
        ((*of("none"), "--meter", "pv"), 1, f"{SAMPLES}/none: cannot be read: No such file or directory"),
        ((*of("."), "--meter", "pv"), 1, f"{SAMPLES}: cannot be read: Is a directory"),
    ],
    ids=str,
)
def test_what_is_unclear_is_asked_for(config: Path, words: tuple[str | Path, ...], code: int, said: str):
    """One line on stderr."""
    assert check(config, *words) == Done(code, "", f"meter-gateway: {said}\n")


def test_a_configuration_with_mistakes_is_told_first(config: Path):
    """As without a message."""
    config.write_text(CONFIG.replace("wmbusmeters", "wmbusmeter"))
    done = check(config, *of("victron-value.json"), "--meter", "pv")
    assert done.code == 78
    assert 'did you mean "wmbusmeters"?' in done.out
