"""What looks like a meter among the messages of an unknown broker, and what does not."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drivers.base import Now
from drivers.mqtt.body import Body
from drivers.mqtt.config import Connection, check
from drivers.mqtt.figures import MOST_FIGURES, figures, form_of
from drivers.mqtt.naming import guess
from drivers.mqtt.proposing import MOST, NO_BIRTH, PERIOD_HINT, UNIT_GUESSED, ZONE_GUESSED, Heard, Proposal, propose
from drivers.mqtt.source import Source

NOW = Now(1000.0, datetime(2026, 11, 26, 2, tzinfo=UTC), trusted=True)
BROKER = Connection(driver="mqtt", url="mqtt://192.0.2.20")
ZONE = "Europe/Helsinki"
SAMPLES = sorted((Path(__file__).parents[3] / "mqtt_samples").iterdir())


def proposed(topic: str, newest: object, earlier: object = None, unit: str = "") -> list[Proposal]:
    """Of one topic; what is no text is sent as JSON."""
    return propose(
        Heard(topic, sent(newest), None if earlier is None else sent(earlier), unit=unit), NOW, ZONE
    ).proposals


def sent(payload: object) -> bytes:
    if isinstance(payload, bytes):
        return payload
    return payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()


def only(topic: str, newest: object, earlier: object = None, unit: str = "") -> Proposal:
    (one,) = proposed(topic, newest, earlier, unit)
    return one


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "unit"),
    [
        ("total_kwh", "counter", "kWh"),
        ("energyTotalMWh", "counter", "MWh"),
        ("Total_m3", "counter", "m3"),
        ("volume_l", "counter", "l"),
        ("heat_energy_gj", "counter", "GJ"),
        ("pulses", "counter", "pulse"),
        ("import|kWh", "counter", "kWh"),
        ("power_w", "power", "W"),
        ("flow_m3h", "power", "m3/h"),
        ("current_volume_m3", "counter", "m3"),
    ],
)
def test_a_name_tells_the_kind_and_the_unit(name: str, kind: str, unit: str):
    """In whatever way the words are joined."""
    one = only("site/x", {name: 12.5})
    assert (one.kind, one.unit) == (kind, unit)
    assert UNIT_GUESSED not in one.doubts


@pytest.mark.parametrize(
    "name",
    [
        "temperature", "voltage_l1", "rssi", "energy_today", "consumption_this_month", "meter_id", "serial", "timestamp",
        "flow_temperature", "max_power_kw", "power_factor", "reactive_power", "uptime", "target_energy_kwh", "price_per_kwh",
        "energy_error", "yesterday_kwh",
    ],
)  # fmt: skip
def test_another_quantity_or_the_amount_of_a_day_is_no_meter(name: str):
    """It would be pasted by somebody in a hurry."""
    assert proposed("site/x", {name: 12.5}) == []


def test_the_words_around_a_number_count_less_than_its_own():
    """An object that is named energy holds its today as well as its total."""
    found = proposed("site/x", {"energy": {"today": 5, "total": 1234.5}})
    assert [each.keys["value"] for each in found] == ["energy.total"]
    assert guess(["total", "energy"]).points < guess(["energy_total"]).points


def test_a_number_alone_is_named_by_its_topic():
    """The last levels are what people put the words into."""
    one = only("building7/heat/energy_total_kwh", "123.5")
    assert one.keys == {"topic": "building7/heat/energy_total_kwh", "unit": "kWh"}
    assert one.value == Decimal("123.5")


def test_a_unit_beside_the_number_is_believed():
    """In the same object, or on a topic of its own as Home Assistant and Homie have it."""
    assert only("a/b", {"reading": 5, "unit": "MWh"}).unit == "MWh"
    told = only("homeassistant/sensor/main_energy/state", "5", unit="MWh")
    assert (told.unit, told.keys["preset"], told.doubts) == ("MWh", "ha-statestream", ())
    assert UNIT_GUESSED in only("homeassistant/sensor/main_energy/state", "5").doubts


# --- what changes from one message to another ---------------------------------------------------------------------------


def test_a_number_that_rises_is_taken_for_a_counter_whatever_its_name():
    """With how much it rose; the unit is a guess and says so."""
    one = only("a/b", {"x7": 104.5}, {"x7": 104})
    assert (one.kind, one.reasons, one.doubts) == ("counter", ("it rose by 0.5 meanwhile",), (UNIT_GUESSED,))
    assert proposed("a/b", {"x7": 104.5}, {"x7": 104.5}) == []


def test_a_number_that_stands_still_may_be_the_amount_of_each_period():
    """An empty building's counter looks the same: what was seen is said, and what it may be instead."""
    still = json.dumps({"consumption": 0.25, "unit": "m3"}).encode()
    (one,) = propose(Heard("site/water", still, messages=4), NOW, ZONE).proposals
    assert one.kind == "counter"
    assert one.reasons[-1] == "it was the same in the first and the last of 4 messages"
    assert one.doubts == (PERIOD_HINT,)
    back = Heard("site/water", still, still.replace(b"m3", b"m3 "), messages=9)
    assert (
        propose(back, NOW, ZONE).proposals[0].reasons[-1] == "it was the same in the first and the last of 9 messages"
    )


@pytest.mark.parametrize(
    ("newest", "earlier", "doubted"),
    [
        ({"energy_kwh": 104.5}, {"energy_kwh": 104}, False),
        ({"energy_kwh": 0.31}, {"energy_kwh": 0.25}, True),  # no counter that has counted for long rises so
        ({"energy_kwh": 104.5}, None, True),
        ({"energy_kwh": 104.5}, {"status": "up"}, True),
        ({"energy_total_kwh": 104.5}, None, False),
        ({"power_w": 104.5}, None, False),
    ],
)
def test_what_neither_counts_nor_says_so_is_doubted(
    newest: dict[str, Any], earlier: dict[str, Any] | None, doubted: bool
):
    """Heard once, it is a number of which only the name is known."""
    one = only("site/x", newest, earlier)
    assert (PERIOD_HINT in one.doubts) == doubted
    assert not any("the same" in reason for reason in one.reasons)


def test_a_number_that_falls_is_no_counter():
    """However it is named."""
    assert proposed("a/b", {"total": 5, "energy": 1}, {"total": 6, "energy": 2}) == []


def test_a_time_is_no_counter_though_it_rises():
    """Seconds since 1970."""
    assert proposed("a/b", {"x": 1_795_000_060}, {"x": 1_795_000_000}) == []


def test_a_negative_number_is_no_counter():
    """Power may be."""
    assert proposed("a/b", {"energy_kwh": -5}) == []
    assert only("a/b", {"power_w": -5}).kind == "power"


# --- forms ------------------------------------------------------------------------------------------------------------


def test_the_time_nearest_to_the_number_is_taken():
    """Where it names no zone, this machine's is written and doubted."""
    one = only("a/b", {"ts": 1_795_000_000, "data": {"time": "2026-11-25T12:00:00", "total_kwh": 5}})
    assert (one.keys["time"], one.keys["tz"]) == ("data.time", ZONE)
    assert ZONE_GUESSED in one.doubts
    assert one.at == datetime(2026, 11, 25, 10, tzinfo=UTC)


def test_a_time_that_cannot_be_believed_is_left_out():
    """A clock that was never set: the time of arrival is better."""
    assert "time" not in only("a/b", {"time": "1970-01-01T00:00:01Z", "total_kwh": 5}).keys


def test_meters_in_an_array_are_told_apart_by_their_id():
    """One source each; whether it counts or sends amounts, only a person knows."""
    found = proposed("a/b", [{"id": "m1", "kwh": 5}, {"id": "m2", "kwh": 6}])
    assert [(each.keys["where"], each.value) for each in found] == [("id=='m1'", 5), ("id=='m2'", 6)]
    assert all(PERIOD_HINT in each.doubts for each in found)


def test_phases_in_an_array_are_summed():
    """As the preset for such a device would."""
    one = only("a/b", {"energy_total": [1, 2.5, 3]})
    assert (one.value, len(one.keys["value"])) == (Decimal("6.5"), 3)


def test_a_column_of_a_gateway_that_sends_csv_is_proposed_with_its_preset():
    """Elvaco's report, with a decoded column instead of the raw telegram."""
    report = "serial-number;created;energy-kwh\n00000161;2026-11-12 13:00:00;1234.5\n"
    one = only("Base/ecmXv1.0/CMe3100/4002/0016123456/50855417", report)
    assert (one.keys["preset"], one.keys["value"], one.value, one.unit) == (
        "elvaco-cme",
        '"energy-kwh"',
        Decimal("1234.5"),
        "kWh",
    )


def test_a_device_of_a_gateway_for_many_is_named_in_the_message():
    """ThingsBoard's: the key of the device and that of the value."""
    message = {"Device A": [{"ts": 1_795_000_000_000, "values": {"energy": 42.5, "humidity": 80}}]}
    one = only("v1/gateway/telemetry", message)
    assert {"preset": "thingsboard-gateway", "device": "Device A", "channel": "energy"}.items() <= one.keys.items()
    assert one.value == Decimal("42.5")


def test_a_preset_is_found_under_a_topic_of_ones_own():
    """By the keys of the message; the topic is written beside it."""
    message = {"Time": "2026-11-25T12:00:00", "ENERGY": {"Total": 5.5, "Power": 100}}
    best = proposed("cellar/plug/tele/SENSOR", message)[0]
    assert best.keys == {"preset": "tasmota-energy", "topic": "cellar/plug/tele/SENSOR", "tz": ZONE}
    assert best.name == ("plug",)


def test_keys_that_a_preset_can_do_without_are_not_looked_for():
    """Such as wmbusmeters, which publishes where its shell command says, and not every meter has a status."""
    water = {"media": "water", "total_m3": 123.5, "timestamp": "2026-11-25T12:00:00Z"}
    assert only("cellar/water", water).keys == {"preset": "wmbusmeters", "topic": "cellar/water"}


def test_a_sparkplug_node_whose_birth_was_missed_says_so():
    """DATA has aliases alone; nothing is asked of the plant."""
    data = next(path for path in SAMPLES if path.name == "sparkplug-ddata-alias.bin").read_bytes()
    found = propose(Heard("spBv1.0/group/DDATA/edge1/meter1", data), NOW, ZONE)
    assert (found.proposals, found.remark) == ([], NO_BIRTH)


# --- anything at all ----------------------------------------------------------------------------------------------------

WORDS = ["total", "energy", "kwh", "id", "time", "ts", "power", "values", "unit", "{device}", "a'b", 'a"b', "é\n"]
KEYS = st.one_of(st.sampled_from(WORDS), st.text(max_size=6))
TEXTS = st.one_of(st.text(max_size=8), st.sampled_from(["1e999999", "12.5", "kWh", "2026-01-01T00:00Z"]))
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS)
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)
OF_SENDERS = ["tele/a/SENSOR", "v1/gateway/telemetry", "s/us", "spBv1.0/g/DDATA/n/d", "N/a/grid/1/Ac/Energy/Forward"]
ODD = st.text(min_size=1, max_size=20).filter(lambda text: not {"+", "#", "\0"} & {*text})
TOPICS = st.one_of(st.sampled_from([*OF_SENDERS, "/", "a/{device}/b"]), ODD)


def hold(found: list[Proposal]) -> None:
    """Bounded, and every one without a mistake."""
    assert len(found) <= MOST
    for each in found:
        source = Source.model_validate({"connection": "hall", **each.keys})
        assert check(BROKER, {"meter": source}) == []
        assert each.kind in {"counter", "power"}


@settings(max_examples=80, deadline=None)
@given(topic=TOPICS, newest=DOCUMENTS, earlier=DOCUMENTS)
@example(topic="a", newest={"kwh": 1, "time": "9999-12-31T23:59:59-14:00"}, earlier=[])
def test_any_json_is_answered_with_sources_that_have_no_mistake(topic: str, newest: Any, earlier: Any):
    """Payloads and topics are anybody's: nothing is raised, and what is proposed can be pasted."""
    hold(proposed(topic, json.dumps(newest), json.dumps(earlier)))


@settings(max_examples=100, deadline=None)
@given(path=st.sampled_from(SAMPLES), seed=st.integers(0, 2**32), topic=TOPICS)
def test_a_damaged_message_of_a_device_raises_nothing(path: Path, seed: int, topic: str):
    """Bytes turned over, cut or doubled."""
    chance = random.Random(seed)
    payload = bytearray(path.read_bytes())
    for _ in range(chance.randrange(8)):
        if payload:
            payload[chance.randrange(len(payload))] = chance.randrange(256)
    hold(proposed(topic, bytes(payload[: chance.randrange(len(payload) + 1)] * chance.choice([1, 1, 2]))))


@pytest.mark.parametrize(
    "payload",
    [
        "\n".join([",".join(map(str, range(300)))] * 50).encode(),
        b"\n".join(b"m,serial=%d energy_kwh=1,b=2,c=3 1653579140440951943" % number for number in range(500)),
        json.dumps([{"id": number, "kwh": 5, "b": [1, 2]} for number in range(2000)]).encode(),
    ],
    ids=["csv", "influx", "json"],
)
def test_only_so_many_numbers_of_a_message_are_tried(payload: bytes):
    """Each of them costs every preset a try."""
    decoded = form_of(Body(payload))
    assert decoded is not None
    assert 0 < len(figures(*decoded, NOW)) <= MOST_FIGURES


def test_a_hostile_document_is_looked_at_only_so_far():
    """Thousands of numbers, or a thousand brackets."""
    many = {f"energy_{number}_kwh": number for number in range(10 * MOST_FIGURES)}
    assert len(proposed("a/b", many)) == MOST
    assert proposed("a/b", "[" * 1000 + "]" * 1000) == []
    deep: dict[str, Any] = {"total_kwh": 1}
    for _ in range(40):
        deep = {"a": deep}
    assert proposed("a/b", deep) == []
