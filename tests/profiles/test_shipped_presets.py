"""Every sample message of a device, and every preset: the reading that it gives, or the reason why it gives none.

`tests/mqtt_samples/index.csv` says of each message what it is, where it was seen and where its number stands.
"""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from drivers.base import Now
from drivers.mqtt import preset as presets
from drivers.mqtt.config import Connection, check, describe, pace
from drivers.mqtt.port import Message
from drivers.mqtt.source import Source
from drivers.mqtt.sparkplug import Metric, decode, rebirth_request
from drivers.mqtt.translator import Translator
from drivers.reading import Reading, Rejected
from gateway.units import AMOUNTS, RATES

SAMPLES = Path(__file__).parents[1] / "mqtt_samples"
WALL = datetime(2026, 11, 26, 2, tzinfo=UTC)
NOW = Now(1000.0, WALL, trusted=True)
BROKER = Connection(driver="mqtt", url="mqtt://192.0.2.20")
HELSINKI = "Europe/Helsinki"
PARIS = "Europe/Paris"


def index() -> dict[str, dict[str, str]]:
    with (SAMPLES / "index.csv").open(encoding="utf-8") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


INDEX = index()


class Case(NamedTuple):
    """A source, and what it says to one message: readings as (value, unit, time or "" for arrival), or a reason."""

    source: dict[str, Any]
    readings: tuple[tuple[str, str, str], ...] = ()
    reason: str = ""
    kind: str = "counter"
    before: tuple[tuple[str, str], ...] = ()  # (topic, file) of messages that came before it


def one(value: str, unit: str, at: str = "", /, *, shows: str = "counter", **source) -> Case:
    return Case(source, ((value, unit, at),), kind=shows)


def none(reason: str, /, *, shows: str = "counter", **source) -> Case:
    return Case(source, reason=reason, kind=shows)


PLANT = "spBv1.0/group/+/edge1/#"
BORN = (
    ("spBv1.0/group/NBIRTH/edge1", "sparkplug-nbirth.bin"),
    ("spBv1.0/group/DBIRTH/edge1/meter1", "sparkplug-dbirth.bin"),
)
METER = {"preset": "sparkplug", "topic": PLANT, "device": "meter1"}
IMPORT = METER | {"metric": "Energy/Active Import", "unit": "Wh"}
AXIOMA_DELTAS = "0 0 0 0 0 14 8 21 14 21 1 18 2 9 0 8 0 0 0 0 0 0 0"  # litres
PRO3EM = {"preset": "shelly-gen2-em", "device": "shellypro3em-AABBCCDDEEFF"}
EM3 = {"preset": "shelly-gen1-em", "device": "shellyem3-AABBCCDDEEFF", "channel": 0}


def axioma() -> tuple[tuple[str, str, str], ...]:
    """24 hourly readings that end at the uplink's own time with the current volume."""
    end = datetime(2026, 9, 2, 23, 9, 34, tzinfo=UTC)
    litres = [5938]
    for delta in AXIOMA_DELTAS.split():
        litres.append(litres[-1] + int(delta))
    return tuple(
        (f"{Decimal(each) / 1000:.3f}", "m3", (end - timedelta(hours=23 - at)).isoformat())
        for at, each in enumerate(litres)
    )


CASES: dict[str, list[Case]] = {
    "shelly-gen1-3em-emeter0-total.txt": [one("10533.1", "Wh", **EM3)],
    "shelly-gen1-3em-emeter0-total_returned.txt": [one("427.7", "Wh", **EM3, point="energy_export_total")],
    "shelly-gen1-em-emeter0-total.txt": [one("64541.0", "Wh", **EM3 | {"device": "shellyem-AABBCC"})],
    "shelly-gen1-plug-relay0-energy.txt": [
        one("7384", "Wmin", preset="shelly-gen1-plug", device="shellyplug-s-AABBCC", channel="0")
    ],
    "shelly-pro3em-status-emdata0.json": [
        one("20269.29", "Wh", **PRO3EM),
        one("0.00", "Wh", **PRO3EM, point="energy_export_total"),
        one("20269.30", "Wh", **PRO3EM, value=[f"{phase}_total_act_energy" for phase in "abc"]),
    ],
    "shelly-pro3em-status-em0.json": [
        one("3039.524", "W", shows="power", **PRO3EM, point="power_active_total"),
        none("no value at the path", **PRO3EM, topic="shellypro3em-AABBCCDDEEFF/status/em:0"),
    ],
    "shelly-pro3em-events-rpc-emdata0.json": [
        one("20269.29", "Wh", "2023-03-13T09:24:00.900000+00:00", **PRO3EM | {"preset": "shelly-gen2-em-rpc"})
    ],
    "shelly-gen3-1pm-events-rpc-partial.json": [
        none(
            "no value at the path",
            preset="shelly-gen2-em-rpc",
            device="shelly1pmminig3-AABBCCDDEEFF",
            value='params."switch:0".aenergy.total',
        )
    ],
    "shelly-gen3-1pm-status-switch0.json": [
        one("152669.987", "Wh", preset="shelly-gen2-switch", device="shelly1pmminig3-AABBCCDDEEFF", channel="0")
    ],
    "shelly-proem50-status-em1data1.json": [
        one("6644.90", "Wh", preset="shelly-gen2-em1", device="shellyproem50-AABBCCDDEEFF", channel="1"),
        one(
            "2595.26",
            "Wh",
            preset="shelly-gen2-em1",
            device="shellyproem50-AABBCCDDEEFF",
            channel="1",
            point="energy_export_total",
        ),
    ],
    "tasmota-pow-sensor.json": [
        one("6.294", "kWh", "2018-02-15T15:37:10+00:00", preset="tasmota-energy", device="pow1", tz=HELSINKI)
    ],
    "tasmota-status8.json": [
        one(
            "6.404",
            "kWh",
            "2018-11-15T06:54:18+00:00",
            preset="tasmota-status",
            device="pow1",
            channel="STATUS8",
            tz=HELSINKI,
        )
    ],
    "tasmota-statussns-dotted-date.json": [
        none("not a time", preset="tasmota-status", device="sonoff", channel="STATUS10", tz=HELSINKI),
        one(
            "3.185",
            "kWh",
            "2018-02-04T21:17:01+00:00",
            preset="tasmota-status",
            device="sonoff",
            channel="STATUS10",
            tz=HELSINKI,
            time_format="strptime:%Y.%m.%d %H:%M:%S",
        ),
    ],
    "tasmota-2ch-power-array.json": [
        one(
            "0.077",
            "kWh",
            "2023-01-09T16:57:39+00:00",
            preset="tasmota-status",
            device="dual",
            channel="STATUS10",
            tz=HELSINKI,
        ),
        one(
            "8.15",
            "W",
            "2023-01-09T16:57:39+00:00",
            shows="power",
            kind="power",
            unit="W",
            preset="tasmota-status",
            device="dual",
            channel="STATUS10",
            tz=HELSINKI,
            value="StatusSNS.ENERGY.Power[0]",
        ),
        none(
            "not a number",
            preset="tasmota-status",
            device="dual",
            channel="STATUS10",
            tz=HELSINKI,
            value="StatusSNS.ENERGY.Power",
        ),
    ],
    "tasmota-3phase-sensor.json": [
        one("436.786", "kWh", "2023-01-03T09:54:27+00:00", preset="tasmota-energy", device="meter1", tz=HELSINKI),
        none("no value at the path", preset="tasmota-energy", device="meter1", tz=HELSINKI, value="ENERGY.Total[0]"),
    ],
    "tasmota-3phase-energytotal-result.json": [
        one(
            "436.785",
            "kWh",
            topic="stat/meter1/RESULT",
            value=[f"EnergyTotal.Total[{phase}]" for phase in range(3)],
            unit="kWh",
        )
    ],
    "tasmota-sml.json": [
        one(
            "34507.4761",
            "kWh",
            "2022-07-07T11:01:11+00:00",
            topic="tele/sml/SENSOR",
            preset="tasmota-sml",
            device="sml",
            tz=PARIS,
            value="StatusSNS.SML.Total_in",
            time="StatusSNS.Time",
        ),
        one(
            "1.84",
            "m3",
            "2022-07-07T11:01:11+00:00",
            topic="tele/sml/SENSOR",
            preset="tasmota-sml",
            point="gas_volume_total",
            device="sml",
            tz=PARIS,
            value="StatusSNS.Gas.Count",
            time="StatusSNS.Time",
        ),
    ],
    "tasmota-teleinfo.json": [
        one(
            "3196310",
            "Wh",
            "2021-10-26T15:28:45+00:00",
            preset="tasmota-teleinfo",
            topic="emoncms/ch2i/factory/denky_D6C0C0/tele/SENSOR",
            tz=PARIS,
        )
    ],
    "tasmota-clock-not-set-1970.json": [
        none("time before 2015", preset="tasmota-energy", device="tasmota_AABBCC", tz=HELSINKI)
    ],
    "zigbee2mqtt-plug.json": [
        one("0.12", "kWh", preset="zigbee2mqtt", device="N2G_PowerSwitchMeter"),
        one("149", "W", shows="power", preset="zigbee2mqtt", device="N2G_PowerSwitchMeter", point="power_active_total"),
    ],
    "zigbee2mqtt-zlinky-nulls.json": [
        one(
            "4571435",
            "Wh",
            "2021-12-24T11:33:18.695000+00:00",
            preset="zigbee2mqtt-zlinky",
            topic="iot/zigbee/ZLinky",
        ),
        none(
            "no value at the path", preset="zigbee2mqtt-zlinky", topic="iot/zigbee/ZLinky", point="energy_import_tier2"
        ),
    ],
    "dsmr-reader-json.json": [
        one("3580.245", "kWh", "2018-01-01T00:00:00+00:00", preset="dsmr-reader"),
        none("no value at the path", preset="dsmr-reader", point="gas_volume_total"),
    ],
    "dsmr-reader-split.txt": [one("1234.567", "kWh", preset="dsmr-reader-split")],
    "p1-esphome-slimmelezer.txt": [one("12345.678", "kWh", preset="slimmelezer", device="slimmelezer")],
    "esphome-unavailable.txt": [
        none("not a number", preset="esphome", device="esp-meter", channel="total_energy", unit="kWh")
    ],
    "wmbusmeters-iperl-water.json": [
        one("123.529", "m3", "2024-03-03T18:37:00+00:00", preset="wmbusmeters", device="MyTapWater")
    ],
    "wmbusmeters-kamheat.json": [
        one(
            "3781", "kWh", "2023-01-14T07:20:22+00:00", preset="wmbusmeters", device="Heato", point="heat_energy_total"
        ),
        one(
            "344.27", "m3", "2023-01-14T07:20:22+00:00", preset="wmbusmeters", device="Heato", point="heat_volume_total"
        ),
    ],
    "wmbusmeters-lansen-pulse.json": [
        one(
            "1471.1",
            "kWh",
            "2023-01-14T07:25:34+00:00",
            preset="wmbusmeters",
            device="Electricity",
            point="pulses_a",
            scale="0.1",
            offset="1000",
            unit="kWh",
        ),
        one("4711", "pulse", "2023-01-14T07:25:34+00:00", preset="wmbusmeters", device="Electricity", point="pulses_a"),
    ],
    "wmbusmeters-q400-temporary-error.json": [none("where is not met", preset="wmbusmeters", device="Q400Water")],
    "rtlamr2mqtt-state.json": [
        one("1234.567", "m3", "2025-01-15T15:30:00+00:00", preset="rtlamr2mqtt", device="33333333", unit="m3")
    ],
    "vzlogger-raw.txt": [one("1234567.800000", "Wh", preset="vzlogger", channel="0", point="plain")],
    "vzlogger-timestamp.json": [
        one("1234567.8", "Wh", "2023-11-14T22:13:20.123000+00:00", preset="vzlogger", channel="0")
    ],
    "mbmd-import.txt": [one("1234.567", "kWh", preset="mbmd", device="sdm1-1")],
    "modpoll-data.json": [
        one("1234.5", "kWh", "2023-11-14T22:13:20+00:00", preset="modpoll", device="meter1"),
        one(
            "230.1",
            "W",
            "2023-11-14T22:13:20+00:00",
            shows="power",
            preset="modpoll",
            device="meter1",
            point="power_active_total",
        ),
    ],
    "victron-value.json": [
        one("936", "W", shows="power", preset="victron", device="0123456789ab", channel=20, point="pv_power")
    ],
    "victron-null.json": [
        none(
            "no value at the path",
            shows="power",
            preset="victron",
            device="0123456789ab",
            channel=20,
            point="pv_power_l2",
        )
    ],
    "victron-device-gone-empty.bin": [
        none("empty payload", shows="power", preset="victron", device="0123456789ab", channel=20, point="pv_power")
    ],
    "ha-statestream-state.txt": [
        one("1234.56", "kWh", preset="ha-statestream", device="main_meter_energy", unit="kWh")
    ],
    "ha-statestream-unavailable.txt": [
        none("not a number", preset="ha-statestream", device="main_meter_energy", unit="kWh")
    ],
    "ha-statestream-last_updated.txt": [
        none("no source for this topic", preset="ha-statestream", device="main_meter_energy", unit="kWh")
    ],
    "homie-property.txt": [
        one("21.5", "kWh", preset="homie", device="super-car", channel="engine/temperature", unit="kWh")
    ],
    "homie-state-lost.txt": [
        none("no source for this topic", preset="homie", device="super-car", channel="engine/temperature", unit="kWh")
    ],
    "tts-uplink-axioma-w1.json": [
        Case({"preset": "tts-axioma-w1", "device": "dev1"}, axioma()),
        one("6.054", "m3", "2026-09-02T23:09:34+00:00", preset="tts-axioma-w1", device="dev1", point="volume_total"),
    ],
    "tts-uplink-elvaco-cmi4140.json": [
        one("98547500", "Wh", "2021-05-07T01:03:52.500139+00:00", preset="tts", device="heat1", unit="Wh"),
        one(
            "98547.500",
            "kWh",
            "2021-05-07T01:03:52.500139+00:00",
            preset="tts",
            device="heat1",
            unit="kWh",
            scale="0.001",
        ),
    ],
    "chirpstack-up-milesight-em300di.json": [
        one("256", "pulse", "2022-07-18T09:34:15.775023+00:00", preset="chirpstack", device="0101010101010101"),
        none("no value at the path", preset="chirpstack", device="0101010101010101", point="energy", unit="kWh"),
    ],
    "milesight-em300di-history.json": [
        one(
            "256",
            "pulse",
            "2022-10-12T08:02:38+00:00",
            preset="milesight-history",
            device="24e124136b000001",
            each="history",
            topic="application/1/device/24e124136b000001/event/up",
        )
    ],
    "elvaco-cme3100-4001.csv": [
        one(
            "800720000000000",
            "kWh",
            "2009-11-12 12:00:00",
            preset="elvaco-cme",
            topic="Company A/ecmXv1.0/CMe3100/4001/0016123456/50855417",
            value='"mbus-raw-value"',
            unit="kWh",
            tz="+01:00",
        )._replace(readings=(), reason="time before 2015")
    ],
    "amsreader-kamstrup.json": [
        one("1685.334", "kWh", "2024-12-28T17:46:00+00:00", preset="amsreader", device="amsleser")
    ],
    "amsreader-rtc-zero.json": [
        one("1685.329", "kWh", "2024-12-28T17:41:00+00:00", preset="amsreader", device="amsleser"),
        none("time before 2015", preset="amsreader", device="amsleser", time="data.rtc"),
    ],
    "glow-electricitymeter.json": [
        one("6613.405", "kWh", "2022-06-11T20:38:00+00:00", preset="glow", device="XXXXXXYYYYYY"),
        none(
            "where is not met", preset="glow", device="XXXXXXYYYYYY", where="electricitymeter.energy.import.units=='Wh'"
        ),
    ],
    "ai-on-the-edge-water.json": [
        one(
            "704.529",
            "m3",
            "2022-08-25T22:03:18+00:00",
            preset="ai-on-the-edge",
            device="wasserzaehler",
            channel="main",
            tz=PARIS,
        )
    ],
    "ai-on-the-edge-water-v10.json": [
        one(
            "11.234",
            "m3",
            "2026-06-27T08:00:00+00:00",
            preset="ai-on-the-edge",
            device="kiosk1-water",
            channel="main",
            tz=PARIS,
        )
    ],
    "siemens-s7-connector.json": [
        one(
            "20",
            "kWh",
            "2021-03-10T22:23:04.146000+00:00",
            preset="siemens-s7",
            device="1516_S7PLUS",
            channel=102,
            unit="kWh",
        ),
        none("where is not met", preset="siemens-s7", device="1516_S7PLUS", channel="103", unit="kWh"),
    ],
    "advantech-wise.json": [
        none("time before 2015", preset="advantech-wise", device="00D0C9FEFFF5", channel="ai1", unit="kWh"),
        none(
            "where is not met",
            preset="advantech-wise",
            device="00D0C9FEFFF5",
            channel="ai1",
            unit="kWh",
            where="q==`0`",
        ),
    ],
    "thingsboard-gateway-telemetry.json": [
        Case(
            {"preset": "thingsboard-gateway", "device": "Device A", "channel": "temperature", "unit": "kWh"},
            (("42", "kWh", "2017-01-01T00:00:00+00:00"), ("43", "kWh", "2017-01-01T00:00:01+00:00")),
        ),
        none(
            "no value at the path", preset="thingsboard-gateway", device="Device C", channel="temperature", unit="kWh"
        ),
    ],
    "thingsboard-device-telemetry.json": [
        one(
            "1234.5",
            "kWh",
            "2016-01-01T12:00:00.512000+00:00",
            preset="thingsboard-device",
            device="me",
            channel="energy",
            unit="kWh",
        )
    ],
    "emqx-neuron-values.json": [
        one(
            "123",
            "kWh",
            "2022-04-15T07:06:28.943000+00:00",
            preset="emqx-neuron",
            device="modbus",
            channel="tag0",
            unit="kWh",
        ),
        none("no value at the path", preset="emqx-neuron", device="modbus", channel="tag1", unit="kWh"),
        none("where is not met", preset="emqx-neuron", device="other", channel="tag0", unit="kWh"),
    ],
    "cumulocity-smartrest.csv": [
        one(
            "1234.5",
            "kWh",
            "2024-01-15T14:30:00+00:00",
            preset="cumulocity",
            where="[2]=='A+' && [4]=='kWh'",
            unit="kWh",
        ),
        none("where is not met", preset="cumulocity", where="[2]=='A-'", unit="kWh"),
    ],
    "emonhub-node-values.csv": [one("200", "W", shows="power", preset="emonhub-csv", device="10", value="[1]")],
    "emonhub-nodevar.txt": [
        one("100", "W", shows="power", preset="emonhub-nodevar", device="emontx", channel="power1")
    ],
    "emonhub-json.json": [
        one("3120", "pulse", "2023-11-14T22:13:20.123000+00:00", preset="emonhub-json", device="emontx")
    ],
    "openems-channel.txt": [one("12345", "Wh", preset="openems", device="edge0", channel="meter0")],
    "influx-line-protocol.txt": [
        one(
            "1234.567",
            "kWh",
            "2022-05-26T15:32:20.440951+00:00",
            preset="influx",
            topic="sensors/plant1/meter",
            value="fields.energy_kwh",
            where="tags.serial=='{device}'",
            device=12345678,
            unit="kWh",
        ),
        none(
            "where is not met",
            preset="influx",
            topic="sensors/plant1/meter",
            value="fields.energy_kwh",
            where="tags.serial=='87654321'",
            unit="kWh",
        ),
    ],
    "aws-sitewise-put.json": [
        one(
            "4.92",
            "kWh",
            "2020-02-04T21:50:00+00:00",
            preset="sitewise",
            topic="site/sitewise",
            device="/plant/meter1/energy",
            unit="kWh",
        )
    ],
    "batch-array.json": [
        Case(
            {
                "topic": "site/batch",
                "each": "[?id=='{device}']",
                "device": "m1",
                "format": "json",
                "value": "kwh",
                "time": "ts",
                "kind": "interval",
                "period": "1h",
                "stamp": "end",
                "unit": "kWh",
            },
            (("10.5", "kWh", "2024-01-15T11:00:00+00:00"), ("11.0", "kWh", "2024-01-15T12:00:00+00:00")),
            kind="interval",
        )
    ],
    "sparkplug-nbirth.bin": [Case(IMPORT)],  # the node's own, and no meter's
    "sparkplug-dbirth.bin": [
        Case(IMPORT, (("123456789", "Wh", "2023-11-14T22:13:20.010000+00:00"),)),
        Case(METER | {"metric": "Energy/Net", "unit": "Wh"}, (("-42", "Wh", "2023-11-14T22:13:20.010000+00:00"),)),
    ],
    "sparkplug-ddata-alias.bin": [
        Case(IMPORT, (("123456799", "Wh", "2023-11-14T22:14:20+00:00"),), before=BORN),
        Case(
            METER | {"metric": "Energy/Net", "unit": "Wh"}, (("-43", "Wh", "2023-11-14T22:14:20+00:00"),), before=BORN
        ),
        Case(
            METER | {"metric": "Volume/Water", "unit": "m3"},
            (("1234.568", "m3", "2023-11-14T22:14:20+00:00"),),
            before=BORN,
        ),
        Case(
            METER | {"metric": "Power/Active Total", "point": "power", "unit": "W"},
            (("-15.25", "W", "2023-11-14T22:14:20+00:00"),),
            kind="power",
            before=BORN,
        ),
        Case(IMPORT, reason="alias not known"),
    ],
    "sparkplug-ddata-historical-null.bin": [
        Case(
            IMPORT,
            (("123456791", "Wh", "2023-11-14T22:13:40+00:00"), ("123456795", "Wh", "2023-11-14T22:14:00+00:00")),
            before=BORN,
        ),
        Case(METER | {"metric": "Volume/Water", "unit": "m3"}, reason="no value at the path", before=BORN),
    ],
    "sparkplug-ndata-name-no-dtype.bin": [
        Case(
            {"preset": "sparkplug", "topic": PLANT, "metric": "Uptime", "unit": "kWh"},
            reason="datatype not known",
            before=BORN,
        )
    ],
    "sparkplug-ncmd-rebirth.bin": [
        Case(
            {"preset": "sparkplug", "topic": PLANT, "metric": "Node Control/Rebirth", "unit": "kWh"},
        )
    ],
}

GOLDEN = [
    pytest.param(name, case, id=f"{name}-{number}")
    for name, cases in CASES.items()
    for number, case in enumerate(cases)
]


def source_of(case: Case) -> Source:
    return Source.model_validate({"connection": "hall", **case.source})


def topic_of(name: str, source: Source) -> str:
    """The message's topic: the index's where it is one, else what the source listens to."""
    written = INDEX[name]["topic"]
    return source.topic if any(mark in written for mark in "<( ") else written


def message(name: str, topic: str) -> Message:
    return Message(1, 1, 1, topic, (SAMPLES / name).read_bytes(), retain=False, arrived=NOW)


def test_every_sample_message_has_a_case():
    """A new message in the index needs what it should give, and every message is in the index."""
    files = {path.name for path in SAMPLES.iterdir()} - {"index.csv", "sparkplug-expected.json"}
    assert set(CASES) == set(INDEX) == files


@pytest.mark.parametrize(("name", "case"), GOLDEN)
def test_a_sample_message_gives_its_reading_or_the_reason_why_not(name: str, case: Case):
    """Value, unit, time and kind; R2: what is no reading is never 0."""
    source = source_of(case)
    assert check(BROKER, {"meter": source}) == []
    translator = Translator({"meter": source})
    for topic, before in case.before:
        translator.translate(message(before, topic))
    items = translator.translate(message(name, topic_of(name, source)))
    found = [
        (str(each.value), each.unit, each.at.isoformat() if each.stamped else "")
        for each in items
        if isinstance(each, Reading)
    ]
    assert found == list(case.readings)
    assert [each.reason for each in items if isinstance(each, Rejected)] == ([case.reason] if case.reason else [])
    facts = describe(source)
    assert (facts.kind, facts.unit) == (case.kind, source.unit)


def test_every_sparkplug_sample_decodes_as_protobuf_does():
    """`sparkplug-expected.json` was written with protobuf and the specification's schema."""
    expected = json.loads((SAMPLES / "sparkplug-expected.json").read_text("utf-8"))
    for name, wanted in expected.items():
        payload = decode((SAMPLES / f"sparkplug-{name}.bin").read_bytes())
        metrics = [dict(_shown(each)) for each in payload.metrics]
        assert {"timestamp": payload.timestamp, "seq": payload.seq, "metrics": metrics} == wanted, name


def _shown(metric: Metric) -> Iterator[tuple[str, object]]:
    for key in ("name", "alias", "timestamp", "datatype"):
        if getattr(metric, key) is not None:
            yield key, getattr(metric, key)
    for key in ("is_historical", "is_null"):
        if getattr(metric, key):
            yield key, True
    if metric.field:
        yield metric.field, metric.value


def test_a_rebirth_request_is_what_a_host_sends():
    """The sample was made with another implementation; only its metadata field differs from none."""
    ours = decode(rebirth_request(1_700_000_000_000))
    assert ours == decode((SAMPLES / "sparkplug-ncmd-rebirth.bin").read_bytes())


# --- the presets themselves -------------------------------------------------------------------------------------------

POINTS = [(name, point) for name in presets.names() for point in presets.load(name).points]
FILLED: dict[str, Any] = {"device": "d", "channel": "c", "tz": "+01:00"}
OWN_WORDS = {"topic": "site/meter", "value": "[0]", "where": "a=='b'", "metric": "m", "unit": "kWh"}


def written(name: str, point: str) -> dict[str, Any]:
    """What an operator writes for a point: what the preset asks for, and the unit where it knows none."""
    preset = presets.load(name)
    known = {**preset.common, **preset.points[point]}
    asked = {key: OWN_WORDS[key] for key in preset.needs if key in OWN_WORDS}
    asked |= {key: OWN_WORDS[key] for key in ("topic", "unit") if key not in known}
    if known.get("format") == "sparkplug":
        asked |= {"topic": PLANT, "metric": "m"}
    if known.get("kind") == "power" and "unit" in asked:
        asked["unit"] = "W"
    fillings = {key: value for key, value in FILLED.items() if key != "tz" or "tz" in preset.needs}
    return {"connection": "hall", "preset": name, "point": point, **fillings, **asked}


def test_every_preset_has_a_sample_message():
    """None is shipped that nothing was ever read with."""
    used = {case.source["preset"] for cases in CASES.values() for case in cases if "preset" in case.source}
    assert used == set(presets.names())


@pytest.mark.parametrize(("name", "point"), POINTS)
def test_a_point_of_a_preset_is_a_whole_source(name: str, point: str):
    """With what it asks the operator for, it has no mistake, a unit that exists, and a pace."""
    source = Source.model_validate(written(name, point))
    assert check(BROKER, {"meter": source}) == []
    assert source.unit in (RATES if source.kind == "power" else AMOUNTS)
    assert source.expected_every
    assert pace(BROKER, source) == source.expected_every


@pytest.mark.parametrize(("name", "point"), POINTS)
def test_a_point_knows_only_keys_of_a_source(name: str, point: str):
    """A misspelt key would be silently without effect, were it not refused."""
    preset = presets.load(name)
    assert {*preset.common, *preset.points[point], *preset.needs} <= set(Source.model_fields) - {
        "connection",
        "preset",
        "point",
    }


@pytest.mark.parametrize("name", presets.names())
def test_what_a_preset_asks_for_is_missed_in_its_words(name: str):
    """The operator learns what the device cannot say."""
    preset = presets.load(name)
    for key, why in preset.needs.items():
        table = {each: value for each, value in written(name, next(iter(preset.points))).items() if each != key}
        said = {fault.path[1]: fault.message for fault in check(BROKER, {"meter": Source.model_validate(table)})}
        assert said[key] == f"missing: {why}"


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_says_where_it_comes_from(name: str):
    """And is plain TOML with the words that the page is made of."""
    preset = presets.load(name)
    assert preset.source
    assert preset.device
    assert tomllib.loads((presets.FOLDER / f"{name}.toml").read_text("utf-8"))
