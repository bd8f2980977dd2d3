"""Any bytes into any mapping: a number that can be stored with a time that can be believed, or a reason. Nothing else."""

from __future__ import annotations

import json
import random
import tracemalloc
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drivers.mqtt.body import LONGEST
from drivers.mqtt.payload import MOST_ITEMS
from drivers.mqtt.translator import Translator
from tests.fuzz.mqtt import EVERY, FEW, SPARKPLUG, outcomes, take

SAMPLES = sorted(
    path
    for path in (Path(__file__).parents[3] / "mqtt_samples").iterdir()
    if path.name not in {"index.csv", "sparkplug-expected.json"}
)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, left out, doubled or put in."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(found) + 1)
        found[at : at + chance.choice((0, 1, 1, 4))] = chance.choice(
            (
                b"",
                bytes([chance.randrange(256)]),
                found[at : at + 8] * 2,
                b"9" * 30,
                b"[",
                b'"',
                b"null",
                b"-1e308",
                b"\xff",
                b"NaN",
                b"\0",
            )
        )
    return bytes(found)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_no_damage_to_a_sample_message_gets_through(sample: Path):
    """Twenty damaged copies of each meet every point of every preset, in the sparkplug decoder five hundred."""
    chance = random.Random(sample.name)
    data = sample.read_bytes()
    if sample.name.startswith("sparkplug"):
        translator = Translator(SPARKPLUG)
        for _ in range(500):
            kind = chance.choice(("NBIRTH", "DBIRTH", "DDATA", "DDATA", "NDEATH", "DDEATH", "NDATA"))
            device = "/meter1" if kind.startswith("D") else ""
            take(
                translator,
                mutated(data, chance) if chance.random() < 0.8 else data,
                f"spBv1.0/group/{kind}/edge1{device}",
            )
    else:
        for _ in range(20):
            take(EVERY, mutated(data, chance))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
@example(b"\x12\x00" * 100)
@example(b"\xff" * 80)
def test_any_bytes_are_a_sparkplug_payload_or_a_reason(data: bytes):
    """The declared error, and numbers that can be stored."""
    for outcome in outcomes(data):
        assert outcome.is_finite() if isinstance(outcome, Decimal) else outcome


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["2026-03-02T08:00:00Z", "1.5"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["v", "t", "d", "a", "b", "c", "vals"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(ANY_JSON)
def test_any_document_is_readings_or_reasons_for_every_mapping(document: object):
    """Whatever JSON arrives."""
    take(FEW, json.dumps(document).encode())


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=' ,;="\\\n\r\tabe1.-ituNn#energy\0\ud7ff', max_size=40))
def test_any_text_is_rows_or_lines_or_a_reason(text: str):
    """CSV and line protocol."""
    take(FEW, text.encode())


FULL = LONGEST
HOSTILE = {
    "deep array": b"[" * FULL,
    "deep object": b'{"v":' * (FULL // 5),
    "deep and whole": b"[" * 900 + b"1" + b"]" * 900,
    "many items": b"[" + b"{}," * (FULL // 3 - 10) + b"{}]",
    "many numbers": b"[" + b"1," * (FULL // 2 - 10) + b"1]",
    "many keys": b"{" + b",".join(b'"k%d":1' % number for number in range(20_000)) + b"}",
    "one key again and again": b"{" + b'"v":1,' * (FULL // 6 - 10) + b'"v":2}',
    "objects in one another, each twice": b'{"v":{},"v":' * 300 + b"1" + b"}" * 300,
    "a number without end": b'{"v":' + b"9" * (FULL - 10) + b"}",
    "a fraction without end": b'{"v":0.' + b"1" * (FULL - 10) + b"}",
    "numbers of thousands of digits": b"[" + (b"9" * 4000 + b",") * 60 + b"1]",
    "a huge exponent": b'{"v":1e999999999,"a":1e-999999999,"t":1e999999999}',
    "digits alone": b"9" * FULL,
    "minus signs": b"-" * FULL,
    "separators": b"," * FULL,
    "lines": b"\n" * FULL,
    "quotes": b'"' * (FULL - 1),
    "backslashes": b"m a=" + b"\\" * (FULL - 10),
    "tags": b"m" + b",a=b" * (FULL // 4 - 10) + b" c=1 1",
    "fields": b"m " + b"a=1," * (FULL // 4 - 10) + b"b=1 1",
    "half a field": b'm a="' + b"x" * (FULL - 10),
    "series": b'{"v":1,"t":"2026-03-02T08:00:00Z","d":[' + b"1," * 100_000 + b"1]}",
    "blanks": b" " * FULL,
    "too long": b"1" * (FULL + 1),
    "empty metrics": b"\x12\x00" * (FULL // 2),
    "metrics of one byte": b"\x12\x02\x10\x01" * (FULL // 4),
}


@pytest.mark.no_cover  # what counts every allocation is slow enough
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_costs_little(name: str):
    """As large as a message may be: it ends, with few items, and within 64 MiB."""
    translator = Translator({**FEW._sources, "raw": EVERY._sources["raw"]})
    sparkplug = Translator(SPARKPLUG)
    tracemalloc.start()
    try:
        assert len(take(translator, HOSTILE[name])) <= len(translator._sources) + 2 * MOST_ITEMS
        assert len(take(sparkplug, HOSTILE[name], "spBv1.0/group/DBIRTH/edge1/meter1")) <= len(SPARKPLUG)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


def test_every_form_is_among_what_is_fuzzed():
    """A new form belongs here, too."""
    formats = {source.format for source in EVERY._sources.values()} | {source.format for source in SPARKPLUG.values()}
    assert formats == {"auto", "raw", "json", "csv", "influx", "sparkplug"}
