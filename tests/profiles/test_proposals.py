"""What `read mqtt://…` proposes for every sample message of a device."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from drivers.mqtt.config import check
from drivers.mqtt.proposing import Heard, Proposal, propose
from drivers.mqtt.source import Source
from drivers.mqtt.translator import Translator
from drivers.reading import Reading
from tests.profiles.test_shipped_presets import BORN, BROKER, CASES, HELSINKI, NOW, SAMPLES, message, topic_of

NOTHING = {  # messages without a number of a meter, and what they hold instead
    "shelly-gen3-1pm-events-rpc-partial.json": "a part of a message, without the counter",
    "victron-device-gone-empty.bin": "nothing",
    "ha-statestream-last_updated.txt": "a time",
    "homie-property.txt": "a temperature",
    "homie-state-lost.txt": "a state",
    "thingsboard-gateway-telemetry.json": "temperatures",
    "sparkplug-nbirth.bin": "bdSeq",
    "sparkplug-ndata-name-no-dtype.bin": "a number whose type is not told",
    "sparkplug-ncmd-rebirth.bin": "a command",
}
KNOWN = sorted(
    name for name, cases in CASES.items() if any("preset" in case.source for case in cases) and name not in NOTHING
)
UNKNOWN = sorted(set(CASES) - set(KNOWN) - set(NOTHING))


def heard(name: str) -> Heard:
    """The sample as it would come from a broker."""
    payload = (SAMPLES / name).read_bytes()
    if name == "milesight-em300di-history.json":  # the index says: inside the LoRaWAN envelope
        payload = json.dumps({"object": json.loads(payload)}).encode()
    source = Source.model_validate({"connection": "hall", "unit": "kWh", **CASES[name][0].source})
    births = [(topic, (SAMPLES / file).read_bytes()) for topic, file in BORN] if "ddata" in name else []
    return Heard(topic_of(name, source), payload, births=births)


def proposed(name: str) -> list[Proposal]:
    """For the sample."""
    return propose(heard(name), NOW, HELSINKI).proposals


@pytest.mark.parametrize("name", KNOWN)
def test_a_message_of_a_known_sender_is_proposed_with_its_preset_first(name: str):
    """With the number that the golden case expects; where it is no reading now, with the reason."""
    found = proposed(name)
    best = [each for each in found if each.likeness == found[0].likeness]
    wanted = [case for case in CASES[name] if "preset" in case.source]
    assert {case.source["preset"] for case in wanted} & {each.keys.get("preset") for each in best}
    numbers = {Decimal(case.readings[-1][0]) for case in wanted if case.readings}
    if numbers:
        assert numbers & {each.value for each in found if each.keys.get("preset") == wanted[0].source["preset"]}
    else:
        assert {doubt.partition(":")[0] for each in best for doubt in each.doubts} & {case.reason for case in wanted}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_message_of_an_unknown_sender_is_proposed_with_a_path_to_its_number(name: str):
    """By the name of the number; the value is the one that the golden case expects."""
    (case,) = CASES[name]
    assert Decimal(case.readings[-1][0]) in {each.value for each in proposed(name)}


@pytest.mark.parametrize("name", sorted(NOTHING))
def test_a_message_without_a_meters_number_brings_no_counter(name: str):
    """What is proposed is pasted, so what is no meter is left out."""
    assert [each for each in proposed(name) if each.kind == "counter"] == []


@pytest.mark.parametrize("name", sorted(CASES))
def test_whatever_is_proposed_has_no_mistake_and_reads_the_message(name: str):
    """Each of them, not only the first: the source gives the value, unit and time that were shown."""
    told = heard(name)
    for each in proposed(name):
        source = Source.model_validate({"connection": "hall", **each.keys})
        assert check(BROKER, {"meter": source}) == []
        if each.value is None:
            assert each.doubts
            continue
        translator = Translator({"meter": source})
        for topic, payload in told.births:
            translator.translate(message(name, topic)._replace(payload=payload))
        items = translator.translate(message(name, told.topic)._replace(payload=told.newest))
        newest = [item for item in items if isinstance(item, Reading)][-1]
        assert (newest.value, newest.unit) == (each.value, each.unit)
        assert (newest.at if newest.stamped else None) == each.at
