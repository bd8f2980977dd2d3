"""Presets and templates: what a source gets from them, what wins, and what an operator is told."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from drivers.mqtt import preset as presets
from drivers.mqtt.config import Connection, check, describe
from drivers.mqtt.source import Source

BROKER = Connection(driver="mqtt", url="mqtt://192.0.2.20")
PRO3EM = {"preset": "shelly-gen2-em", "device": "shellypro3em-1"}


def source(**settings) -> Source:
    return Source.model_validate({"connection": "hall", **settings})


def said(**settings) -> dict[str | int, str]:
    """What `check` says, by key."""
    return {fault.path[1]: fault.message for fault in check(BROKER, {"m": source(**settings)})}


def wrong(**settings) -> str:
    """What the model says of the one wrong key."""
    with pytest.raises(ValidationError) as caught:
        source(**settings)
    (error,) = caught.value.errors()
    return f"{error['loc'][0]} {error['msg'].removeprefix('Value error, ')}"


# --- what a source gets -----------------------------------------------------------------------------------------------


def test_a_preset_fills_in_what_is_not_written():
    """Topic, path, unit, pace; the first point unless another one is named."""
    made = source(**PRO3EM)
    assert (made.topic, made.value, made.unit) == ("shellypro3em-1/status/emdata:0", "total_act", "Wh")
    assert made.expected_every == 300
    power = source(**PRO3EM, point="power_active_total")
    assert (power.topic, power.kind, power.unit, power.expected_every) == (
        "shellypro3em-1/status/em:0",
        "power",
        "W",
        60,
    )


def test_what_is_written_wins_key_by_key():
    """A source may override each key of its preset."""
    made = source(**PRO3EM, topic="other/topic", unit="kWh", scale="0.001", expected_every="10s")
    assert (made.topic, made.value, made.unit, made.expected_every) == ("other/topic", "total_act", "kWh", 10)


def test_a_preset_brings_how_a_counter_begins_anew_and_how_it_reports():
    """DESIGN 5: `reset` and `report` come from what is known of the device."""
    assert source(preset="shelly-gen1-plug", device="p", channel=0).reset == "zero"
    assert source(preset="zigbee2mqtt", device="p").report == "on_change"


def test_a_template_serves_many_meters():
    """Topic and expressions with the device put in its place; numbers are taken, too."""
    made = source(
        topic="site/{device}/data", each="vals[?id=='{device}']", value='"{device}".{channel}', device=7, channel="e"
    )
    assert (made.topic, made.each, made.value) == ("site/7/data", "vals[?id=='7']", '"7".e')


def test_braces_of_an_expression_stay():
    """JMESPath has its own, for objects."""
    assert source(topic="t", value="{a: x, device: y}.a", device="d").value == "{a: x, device: y}.a"


def test_two_devices_of_one_template_are_two_registers():
    """DESIGN 5: another device is another counter, wherever it stands in the mapping."""
    template = {"topic": "site/batch", "format": "json", "each": "[?id=='{device}']", "value": "kwh", "unit": "kWh"}
    assert describe(source(**template, device="a")).register != describe(source(**template, device="b")).register
    where = {"topic": "site/batch", "where": "id=='{device}'", "value": "kwh", "unit": "kWh"}
    assert describe(source(**where, device="a")).register != describe(source(**where, device="b")).register
    s7 = {"preset": "siemens-s7", "device": "1516", "unit": "kWh"}
    assert describe(source(**s7, channel="101")).register != describe(source(**s7, channel="102")).register
    by_hand = {"topic": "site/batch", "value": "kwh", "unit": "kWh"}
    assert (
        describe(source(**by_hand, where="id=='a'")).register != describe(source(**by_hand, where="id=='b'")).register
    )


def test_a_preset_and_the_same_words_written_out_are_one_register():
    """Who moves to a preset, or whose preset has a new condition on quality, gets no new epoch."""
    by_hand = source(topic="shellypro3em-1/status/emdata:0", value="total_act", unit="Wh")
    assert (
        describe(source(**PRO3EM)).register
        == describe(by_hand).register
        == "shellypro3em-1/status/emdata:0, total_act x 1"
    )
    water = {"preset": "wmbusmeters", "device": "Roof"}
    assert describe(source(**water)).register == describe(source(**water, where="status=='OK'")).register


def test_an_offset_is_part_of_the_register():
    """Another offset would be energy out of nothing."""
    base = {"topic": "t", "unit": "kWh"}
    assert describe(source(**base, offset="1000")).register == "t x 1 + 1000"
    assert describe(source(**base)).register == "t x 1"


# --- what an operator is told -----------------------------------------------------------------------------------------


def test_an_unknown_preset_or_point_is_told_what_there_is():
    """With the one that was probably meant."""
    found = said(preset="tasmota-enrgy", device="pow1")
    assert list(found) == ["preset"]  # and nothing of what it would have known
    assert found["preset"].endswith('; did you mean "tasmota-energy"?')
    assert said(**PRO3EM, topic="t", point="energy")["point"] == (
        'unknown point "energy"; there are: energy_import_total, energy_export_total, power_active_total'
    )
    assert said(topic="t", point="energy") == {"point": "needs preset beside it"}


def test_a_device_that_is_missing_is_asked_for():
    """With the key that has a place for it."""
    assert said(preset="shelly-gen2-em") == {"device": "missing: topic holds {device}, write what stands there"}
    assert said(preset="shelly-gen1-em") == {
        "device": "missing: topic holds {device}, write what stands there",
        "channel": "missing: topic holds {channel}, write what stands there",
    }
    assert said(topic="t", value="{device}.x") == {"device": "missing: value holds {device}, write what stands there"}


def test_what_a_device_cannot_say_is_asked_for():
    """Tasmota's times have no zone."""
    assert said(preset="tasmota-energy", device="pow1") == {
        "tz": "missing: the zone that the device is set to, as its messages name none"
    }


@pytest.mark.parametrize("device", ["", "  ", "a+b", "#", "a'b", 'a"b', "a`b", "a{b", "a\\b", "a\nb", "x" * 201])
def test_a_device_cannot_break_out_of_its_place(device: str):
    """Neither a topic gets wider by it, nor an expression another one."""
    assert wrong(topic="t/{device}", value="[?id=='{device}']", device=device).startswith(
        "device must be 1 to 200 characters"
    )


@pytest.mark.parametrize("device", ["a/b", "0x00158d0001", "Kitchen plug", "Äyräpää", "1-0:1.8.0"])
def test_any_usual_name_is_a_device(device: str):
    """Zigbee2MQTT's friendly names may have slashes and blanks."""
    assert source(topic="t/{device}", device=device).topic == f"t/{device}"


@pytest.mark.parametrize("preset", [7, None, ["a"], ""])
def test_a_preset_that_is_no_name_breaks_nothing(preset: object):
    """The model says what it takes."""
    if isinstance(preset, str | None):
        assert said(preset=preset, topic="t").keys() == ({"preset"} if preset is not None else set())
    else:
        assert wrong(preset=preset, topic="t").startswith("preset ")


def test_a_broken_preset_file_names_itself():
    """Only a developer sees this."""
    with pytest.raises(ValueError, match="preset x: "):
        presets.parse("device = ", "x")
    with pytest.raises(ValueError, match="preset x: "):
        presets.parse('device = "d"', "x")


# --- what does not go together ----------------------------------------------------------------------------------------

JSON_VALUE = {"topic": "t", "value": "v"}
SERIES = {**JSON_VALUE, "time": "t", "deltas": "d", "step": "1h"}
PLANT = {"topic": "spBv1.0/g/+/n/#", "format": "sparkplug", "metric": "m"}


@pytest.mark.parametrize(
    "settings",
    [
        JSON_VALUE,
        SERIES,
        PLANT,
        {**PLANT, "rebirth": True},
        {"topic": "t", "format": "csv", "value": "[0]", "header": False},
    ],
    ids=str,
)
def test_what_goes_together_has_no_fault(settings: dict[str, object]):
    """The usual ones."""
    assert said(**settings) == {}


@pytest.mark.parametrize(
    ("settings", "key", "begins"),
    [
        ({"topic": "t", "each": "e"}, "each", "is an expression into JSON"),
        ({"topic": "t", "where": "e"}, "where", "is an expression into JSON"),
        ({"topic": "t", "format": "csv"}, "value", "missing: which column of the csv holds the number"),
        ({"topic": "t", "format": "influx"}, "value", "missing: which field of the influx holds the number"),
        ({**JSON_VALUE, "separator": ";"}, "separator", 'is only for format = "csv"'),
        ({**JSON_VALUE, "header": False}, "header", 'is only for format = "csv"'),
        ({**JSON_VALUE, "step": "1h"}, "step", "needs deltas beside it"),
        ({**JSON_VALUE, "time_marks": "first"}, "time_marks", "needs deltas beside it"),
        ({**JSON_VALUE, "deltas": "d", "time": "t"}, "step", "missing: the time between two of the deltas"),
        ({**JSON_VALUE, "deltas": "d", "step": "1h"}, "time", "missing: deltas need the instant"),
        ({**SERIES, "kind": "power"}, "deltas", "become readings of a counter"),
        ({**JSON_VALUE, "kind": "power", "offset": 5}, "offset", 'is only for kind = "counter"'),
        ({**JSON_VALUE, "metric": "m"}, "metric", 'is only for format = "sparkplug"'),
        ({**JSON_VALUE, "rebirth": True}, "rebirth", 'is only for format = "sparkplug"'),
        ({**JSON_VALUE, "poke_payload": "x"}, "poke_payload", "needs poke_topic beside it"),
        ({**JSON_VALUE, "poke_topic": "a/+"}, "poke_topic", "must be one topic"),
        ({"topic": PLANT["topic"], "format": "sparkplug"}, "metric", "missing: the metric's name"),
        ({**PLANT, "value": "v"}, "value", "is an expression into JSON, and Sparkplug has metrics"),
        ({**PLANT, "topic": "spBv1.0/g/DDATA/n/d"}, "topic", 'must be "spBv1.0/GROUP/+/NODE/#"'),
        ({**PLANT, "topic": "spBv1.0/+/+/n/#"}, "topic", 'must be "spBv1.0/GROUP/+/NODE/#"'),
        ({**PLANT, "topic": "#"}, "topic", 'must be "spBv1.0/GROUP/+/NODE/#"'),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_told(settings: dict[str, object], key: str, begins: str):
    """At the key that must change, and nothing else."""
    found = said(**settings)
    assert list(found) == [key]
    assert found[key].startswith(begins)


def test_sparkplug_intervals_bring_their_own_time():
    """R4: every metric has a timestamp, so a message that comes twice is known."""
    assert said(**PLANT, kind="interval", period="15m", stamp="end") == {}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"time_format": "unix"},
            'time_format must be one of auto, iso, epoch_s, epoch_ms, epoch_ns, or "strptime:" and a format',
        ),
        ({"time_format": "strptime:%H:%M"}, "time_format must hold the year, month, day and hour: %Y %m %d %H"),
        ({"time_format": "strptime:%Y-%m-%d"}, "time_format must hold the year, month, day and hour: %Y %m %d %H"),
        ({"time_format": "strptime:%Q"}, "time_format must be a format of Python's strptime after the colon"),
        ({"tz": "+15:00"}, 'tz must be an offset between "-14:00" and "+14:00"'),
        ({"tz": "+01:60"}, 'tz must be an offset between "-14:00" and "+14:00"'),
        ({"value": ["a", "b."]}, "value must be a JMESPath expression: it ends too early"),
        ({"value": []}, "value Tuple should have at least 1 item after validation"),
    ],
    ids=str,
)
def test_a_wrong_value_of_a_key_is_told_what_is_allowed(settings: dict[str, object], sentence: str):
    """Before any message comes."""
    with pytest.raises(ValidationError) as caught:
        source(**{"topic": "t", **settings})
    assert any(
        f"{error['loc'][0]} {error['msg'].removeprefix('Value error, ')}".startswith(sentence[:70])
        for error in caught.value.errors()
    )
