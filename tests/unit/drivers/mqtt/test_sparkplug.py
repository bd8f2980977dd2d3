"""Sparkplug B: the wire format, the types of numbers, the alias tables, and what a hostile node may send."""

from __future__ import annotations

import json
import math
import struct
from decimal import Decimal

import pytest

from drivers.mqtt.births import MEMORY, MOST_ALIASES, Births, refusal
from drivers.mqtt.sparkplug import MOST_METRICS, Metric, Topic, decode, number_in, rebirth_request, topic_of
from drivers.mqtt.values import PayloadError
from tests.fakes.clock import FakeClock
from tests.fakes.driver_ports import FakePorts

INT8, INT16, INT32, INT64, UINT8, UINT32, UINT64, FLOAT, DOUBLE, BOOLEAN, STRING = 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12


def varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def field(number: int, content: float | bytes) -> bytes:
    if isinstance(content, bytes):
        return varint(number << 3 | 2) + varint(len(content)) + content
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 5) + struct.pack("<f", content)


def metric(
    *, name: str = "", alias: int | None = None, datatype: int | None = None, at: int = 5, value: bytes = b""
) -> bytes:
    parts = [field(1, name.encode()) if name else b"", b"" if alias is None else field(2, alias), field(3, at)]
    parts += [b"" if datatype is None else field(4, datatype), value]
    return field(2, b"".join(parts))


def payload(*metrics: bytes, seq: int | None = None) -> bytes:
    return field(1, 1_700_000_000_000) + b"".join(metrics) + (b"" if seq is None else field(3, seq))


def reason(data: bytes) -> str:
    with pytest.raises(PayloadError) as caught:
        decode(data)
    return caught.value.reason


# --- the wire format --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",  # a number that never comes
        b"\x08" + b"\xff" * 11,  # a number that never ends
        b"\x12\x05\x08",  # shorter than it says
        b"\x12\xff\xff\xff\xff\x0f",  # four gigabytes, it says
        b"\x0b",  # a group: wire type 3
        b"\x00\x00",  # field 0
        b"\x0d\x00\x00\x00\x00",  # the timestamp as a float
        b"\x10\x05",  # a metric that is a number
        field(2, b"\x08\x05"),  # a name that is a number
        field(2, b"\x62\x01x"),  # a float that is a text
        field(2, field(1, b"\xff")),  # a name that is not UTF-8
        field(2, field(16, 5)),  # bytes that are a number
        field(2, b"") * (MOST_METRICS + 1),
    ],
)
def test_what_is_no_payload_is_refused(data: bytes):
    """Every wire type is checked, every length is bounded."""
    assert reason(data) == "not Sparkplug"


def test_what_nobody_needs_is_skipped():
    """Metadata, properties, data sets and fields of a later specification."""
    data = payload(
        metric(name="a", datatype=INT32, value=field(8, b"x") + field(9, b"y") + field(99, 7) + field(10, 7))
    )
    (found,) = decode(data + field(4, b"uuid") + field(100, 1.5)).metrics
    assert (found.name, found.value) == ("a", 7)


def test_the_last_of_several_values_counts():
    """As protobuf has it for a oneof."""
    (found,) = decode(payload(metric(value=field(10, 7) + field(12, 1.5)))).metrics
    assert (found.field, found.value) == ("float_value", 1.5)
    (found,) = decode(payload(metric(value=field(10, 7) + field(17, b"set")))).metrics
    assert (found.field, found.value) == ("dataset_value", None)


def test_an_empty_payload_has_no_metrics():
    """As protobuf has it."""
    assert decode(b"").metrics == ()


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("datatype", "content", "number"),
    [
        (INT8, field(10, 0xFFFF_FFFF), "-1"),
        (INT8, field(10, 0xFF), "-1"),
        (INT8, field(10, 0x7F), "127"),
        (INT16, field(10, 0xFFFF_8000), "-32768"),
        (INT32, field(10, 4_294_967_253), "-43"),
        (INT32, field(10, (1 << 64) - 1), "-1"),  # ten bytes, as some encoders write it
        (INT64, field(11, (1 << 64) - 5), "-5"),
        (UINT8, field(10, 255), "255"),
        (UINT32, field(10, 4_294_967_295), "4294967295"),
        (UINT32, field(10, (1 << 64) - 1), "4294967295"),  # protobuf keeps 32 bits of it
        (UINT64, field(11, 999_999_999_999_999_999), "999999999999999999"),
        (FLOAT, field(12, 0.1), "0.1"),
        (FLOAT, field(12, 1234.5), "1234.5"),
        (FLOAT, field(12, 16777216.0), "16777216"),
        (DOUBLE, b"\x69" + struct.pack("<d", 1234.567), "1234.567"),
        (None, field(12, -15.25), "-15.25"),
    ],
)
def test_a_number_is_read_by_its_datatype(datatype: int | None, content: bytes, number: str):
    """Signed ones are two's complement, floats the shortest decimal that is this float."""
    (found,) = decode(payload(metric(datatype=datatype, value=content))).metrics
    assert number_in(found) == Decimal(number)


@pytest.mark.parametrize(
    ("datatype", "content", "said"),
    [
        (INT8, field(10, 0x8000), "not a number"),
        (UINT8, field(10, 256), "not a number"),
        (UINT64, field(11, (1 << 64) - 1), "number too large"),
        (FLOAT, field(12, math.nan), "not a number"),
        (FLOAT, field(12, math.inf), "not a number"),
        (FLOAT, b"\x65\xff\xff\x7f\x7f", "number too large"),  # the largest there is
        (FLOAT, b"\x65\x01\x00\x00\x00", "number too small"),  # the smallest
        (DOUBLE, b"\x69" + struct.pack("<d", -math.inf), "not a number"),
        (BOOLEAN, field(14, 1), "not a number"),
        (INT32, field(14, 1), "not a number"),
        (STRING, field(15, b"12.5"), "not a number"),
        (13, field(11, 1_700_000_000_000), "not a number"),  # a date
        (INT32, field(12, 1.5), "not a number"),
        (99, field(10, 5), "not a number"),
        (INT32, field(17, b"set"), "not a number"),
        (None, field(10, 4_294_967_295), "datatype not known"),  # -1 or four billion
        (INT32, field(7, 1), "no value at the path"),
        (INT32, b"", "no value at the path"),
    ],
)
def test_what_is_no_number_is_refused(datatype: int | None, content: bytes, said: str):
    """R2: no truth value, text or date becomes a reading, and nothing becomes 0."""
    (found,) = decode(payload(metric(datatype=datatype, value=content))).metrics
    with pytest.raises(PayloadError) as caught:
        number_in(found)
    assert caught.value.reason == said


# --- topics -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("spBv1.0/g/NDATA/n", Topic("g", "NDATA", "n", "")),
        ("spBv1.0/g/DDATA/n/d", Topic("g", "DDATA", "n", "d")),
        ("spBv1.0/STATE/host", None),
        ("spBv1.0/g/DDATA/n/", None),
        ("spBv1.0/g/DDATA/n/d/x", None),
        ("spAv1.0/g/NDATA/n", None),
        ("site/meter", None),
    ],
)
def test_a_topic_has_a_group_a_kind_a_node_and_perhaps_a_device(text: str, topic: Topic | None):
    """Specification, chapter 4."""
    assert topic_of(text) == topic


# --- births -----------------------------------------------------------------------------------------------------------

EDGE = "g/n"
BORN = metric(name="Energy", alias=1, datatype=INT32, value=field(10, 5))
DATA = metric(alias=1, value=field(10, 4_294_967_295))


def topic(kind: str, device: str = "d") -> Topic:
    return Topic("g", kind, "n", device if kind.startswith("D") else "")


def births(memory: FakePorts | None = None) -> Births:
    return Births(memory or FakePorts(FakeClock()), [EDGE])


def energy(made: Births, device: str = "d") -> Decimal | str:
    """What a DATA message with the alias alone says."""
    told = made.take(topic("DDATA", device), payload(DATA))
    return number_in(told.metrics["Energy"][0]) if "Energy" in told.metrics else refusal(told, "Energy").reason


def test_an_alias_means_what_the_birth_said():
    """Name and type; each device has its own."""
    made = births()
    made.take(topic("DBIRTH"), payload(BORN))
    assert energy(made) == -1
    assert energy(made, "other") == "alias not known"


def test_a_restart_of_the_gateway_understands_at_once():
    """The table lives in the driver's memory."""
    memory = FakePorts(FakeClock())
    births(memory).take(topic("DBIRTH"), payload(BORN))
    assert json.loads(memory.memory[MEMORY + EDGE]) == {"d": {"1": ["Energy", INT32]}}
    assert energy(births(memory)) == -1


@pytest.mark.parametrize("stored", ["", "x", "[]", "5", '{"d": 5}', '{"d": {"1": 5}}', '{"d": {"1": []}}'])
def test_a_memory_that_holds_nonsense_is_empty(stored: str):
    """An older release, a hand in the database."""
    memory = FakePorts(FakeClock(), {MEMORY + EDGE: stored})
    assert energy(births(memory)) == "alias not known"


@pytest.mark.parametrize("kind", ["NDEATH", "NBIRTH"])
def test_a_node_that_begins_anew_takes_all_its_aliases_with_it(kind: str):
    """Specification, chapter 6: aliases hold from one birth to the next."""
    made = births()
    made.take(topic("DBIRTH"), payload(BORN))
    made.take(topic(kind), payload())
    assert energy(made) == "alias not known"


def test_a_device_that_dies_takes_its_own_aliases_with_it():
    """And no other's."""
    made = births()
    for device in ("d", "e"):
        made.take(topic("DBIRTH", device), payload(BORN))
    made.take(topic("DDEATH"), payload())
    assert (energy(made, "d"), energy(made, "e")) == ("alias not known", -1)


def test_a_late_will_of_an_older_connection_changes_nothing():
    """The number bdSeq tells which birth a death belongs to."""
    made = births()
    bd_seq = [metric(name="bdSeq", datatype=INT64, value=field(11, number)) for number in (4, 5)]
    made.take(topic("NBIRTH"), payload(bd_seq[1]))
    made.take(topic("DBIRTH"), payload(BORN))
    made.take(topic("NDEATH"), payload(bd_seq[0]))
    assert energy(made) == -1
    made.take(topic("NDEATH"), payload(bd_seq[1]))
    assert energy(made) == "alias not known"


def test_a_birth_without_aliases_tells_the_types_of_its_names():
    """DATA messages then carry names, and need not repeat the type."""
    made = births()
    made.take(topic("DBIRTH"), payload(metric(name="Energy", datatype=INT32, value=field(10, 5))))
    told = made.take(topic("DDATA"), payload(metric(name="Energy", value=field(10, 4_294_967_295))))
    assert number_in(told.metrics["Energy"][0]) == -1


def test_what_cannot_be_stored_is_stored_later():
    """A full disk must not stop the meters; until then only a restart would forget."""
    memory = FakePorts(FakeClock())
    memory.full = True
    made = births(memory)
    made.take(topic("DBIRTH"), payload(BORN))
    assert energy(made) == -1
    memory.full = False
    made.take(topic("DDATA"), payload(DATA))
    assert MEMORY + EDGE in memory.memory


def test_the_same_birth_again_is_not_written_again():
    """Nodes that flap must not wear out the card."""
    memory = FakePorts(FakeClock())
    made = births(memory)
    made.take(topic("DBIRTH"), payload(BORN))
    memory.memory.clear()
    made.take(topic("DBIRTH"), payload(BORN))
    assert memory.memory == {}


def test_nodes_that_no_meter_is_read_from_leave_nothing_behind():
    """A plant may have hundreds."""
    memory = FakePorts(FakeClock())
    made = Births(memory, ["g/other"])
    made.take(topic("DBIRTH"), payload(BORN))
    assert memory.memory == {}
    assert not made.lost


def flood() -> bytes:
    return payload(*[metric(name=f"{number}", alias=number, datatype=INT32) for number in range(MOST_METRICS)])


def test_a_node_with_endlessly_many_aliases_does_not_fill_the_memory():
    """The table has a limit; what came before it is kept, and of a device beyond it nothing that may be out of date."""
    made = births()
    for device in ("d", "e"):
        made.take(topic("DBIRTH", device), payload(BORN))
    for device in range(MOST_ALIASES // MOST_METRICS + 1):
        made.take(topic("DBIRTH", f"flood{device}"), flood())
    assert sum(map(len, made._tables[EDGE].values())) <= MOST_ALIASES
    assert energy(made) == -1
    made.take(topic("DBIRTH", "d"), flood())
    assert "d" not in made._tables[EDGE]
    assert energy(made, "e") == -1


def test_a_gap_in_the_numbers_of_messages_is_noticed():
    """0 to 255 and round again; a birth of the node begins anew."""
    made = births()
    made.take(topic("NBIRTH"), payload(seq=0))
    made.take(topic("DDATA"), payload(seq=1))
    made.take(topic("NBIRTH"), payload(seq=0))
    for seq in range(1, 257):
        made.take(topic("NDATA"), payload(seq=seq % 256))
    assert made.lost[EDGE] == 0
    made.take(topic("DDATA"), payload(seq=2))
    assert made.lost[EDGE] == 1


def test_a_restart_in_the_middle_is_a_gap():
    """Nobody knows whether a birth passed unheard meanwhile; where it is allowed, the node is asked."""
    memory = FakePorts(FakeClock())
    births(memory).take(topic("DBIRTH"), payload(BORN))
    again = births(memory)
    again.take(topic("DDATA"), payload(DATA, seq=17))
    assert again.lost[EDGE] == 1


def test_a_metric_nobody_has_introduced_is_noticed():
    """It is what a rebirth is asked for."""
    made = births()
    made.take(topic("DDATA"), payload(DATA))
    assert made.lost[EDGE] == 1


@pytest.mark.parametrize(("kind", "said"), [("DDEATH", "the device is gone"), ("DDATA", "no value at the path")])
def test_a_message_without_the_metric_is_a_matter_of_course(kind: str, said: str):
    """Only what has changed is sent."""
    told = births().take(topic(kind), payload())
    refused = refusal(told, "Energy")
    assert (refused.reason, refused.expected) == (said, True)


def test_a_rebirth_request_can_be_read():
    """One metric that is true."""
    (asked,) = decode(rebirth_request(1_700_000_000_000)).metrics
    assert asked == Metric(
        "Node Control/Rebirth", None, 1_700_000_000_000, BOOLEAN, False, False, "boolean_value", True
    )
