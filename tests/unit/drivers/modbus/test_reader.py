"""Words become readings with an exact value, or a rejection with its reason: never a 0 for what is no number (R2)."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.decode import Encoding, encode
from drivers.modbus.device import Look, Problem
from drivers.modbus.plan import Place
from drivers.modbus.reader import RECORD_EVERY, Reader
from drivers.modbus.target import Target
from drivers.reading import Reading, Rejected
from tests.fakes.clock import FakeClock
from tests.fakes.driver_ports import FakePorts

AT = datetime(2026, 3, 2, 10, tzinfo=UTC)


def target(encoding: Encoding, scale: str = "1") -> Target:
    place = Place("input", 72, encoding.width)
    return Target("main", 7, place, encoding, Decimal(scale), "kWh", "counter", point="energy_import_total")


def look(words, encoding: Encoding = Encoding("u32"), scale: str = "1", problem: Problem | None = None) -> Look:  # noqa: B008 - frozen
    return Look(target(encoding, scale), AT, words, problem, 0.0423)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def reader(clock) -> Reader:
    return Reader(clock, FakePorts(clock).ports.memory)


def test_a_reading_has_its_source_instant_value_and_unit(reader):
    """As the source counts, scaled; the instant is the answer's arrival, so it is not stamped."""
    assert reader.take(look((0, 1234), scale="0.1")) == [Reading("main", AT, Decimal("123.4"), "kWh", stamped=False)]
    assert reader.counts == {"readings": 1}


@given(st.integers(-(2**63), 2**63 - 1), st.decimals(min_value="1e-6", max_value=1000, places=6))
def test_the_factor_is_exact(count, scale):
    """All 64 bits times a factor of six decimals, compared with fractions; no float comes near."""
    encoding = Encoding("s64")
    ((reading),) = Reader(FakeClock(), FakePorts(FakeClock()).ports.memory).take(
        look(encode(count, encoding), encoding, str(scale.quantize(Decimal("1e-6"))))
    )
    assert Fraction(reading.value) == count * Fraction(scale)


def test_an_f32_is_scaled_as_the_decimal_that_it_shows(reader):
    """47.11 times 0.1 is 4.711."""
    ((reading),) = reader.take(look((0x423C, 0x70A4), Encoding("f32"), "0.1"))
    assert str(reading.value) == "4.711"


@pytest.mark.parametrize(
    ("words", "encoding", "reason", "payload"),
    [
        ((0x7FC0, 0), Encoding("f32"), "not a number", "7FC0 0000"),
        ((0xFF80, 0), Encoding("f32"), "not a number", "FF80 0000"),
        ((0xFFFF, 0x7FFF), Encoding("s32", "little", na=("0x7FFFFFFF",)), "not available", "FFFF 7FFF"),
        ((1,), Encoding("u32"), "wrong length", "0001"),
        ((1, 2, 3), Encoding("u32"), "wrong length", "0001 0002 0003"),
        ((), Encoding("u32"), "wrong length", ""),
    ],
)
def test_what_is_no_number_is_rejected_with_its_reason_and_its_words(reader, words, encoding, reason, payload):
    """R2: kept with the raw words, and no reading comes of it."""
    ((rejected),) = reader.take(look(words, encoding))
    assert isinstance(rejected, Rejected)
    assert (rejected.source, rejected.at, rejected.reason, rejected.payload) == ("main", AT, reason, payload)
    assert rejected.detail
    assert reader.counts == {"rejected": 1}
    assert reader.last_reads["main"].value is None
    assert reader.last_reads["main"].problem.startswith(f"{reason}: ")


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (Problem("device busy", "exception 0x06: device busy"), "device busy (exception 0x06)"),
        (Problem("no answer", "no answer within 1.5 s"), "no answer within 1.5 s"),
        (Problem("bad answer", "7 bytes"), "bad answer: 7 bytes"),
    ],
)
def test_no_problem_says_its_reason_twice(reader, problem, said):
    """Who reads it has 80 columns."""
    reader.take(look((), problem=problem))
    assert reader.last_reads["main"].problem == said


def test_a_problem_of_the_line_is_rejected_with_what_came(reader):
    """There are no words to decode."""
    problem = Problem("bad answer", "7 bytes that are no answer", "01 02")
    assert reader.take(look((), problem=problem)) == [
        Rejected("main", AT, "bad answer", "7 bytes that are no answer", "01 02")
    ]


def test_a_lasting_problem_is_recorded_once_an_hour_and_counted_each_time(reader, clock):
    """A dead meter does not fill the table of rejections."""
    silent = look((), problem=Problem("no answer", "no answer within 1 s"))
    records = []
    for _ in range(121):
        records.append(len(reader.take(silent)))
        clock.advance(60)
    assert RECORD_EVERY == 3600
    assert [at for at, number in enumerate(records) if number] == [0, 60, 120]
    assert reader.counts["rejected"] == 121


def test_another_problem_is_recorded_at_once(reader):
    """Each reason has its own hour."""
    assert reader.take(look((), problem=Problem("no answer", "")))
    assert reader.take(look((0x7FC0, 0), Encoding("f32")))
    assert not reader.take(look((), problem=Problem("no answer", "")))


def test_the_newest_look_is_remembered_for_people(reader):
    """Raw words, value, unit, round trip and where to find it in the manual."""
    reader.take(look((0, 1234), scale="0.1"))
    read = reader.last_reads["main"]
    assert (read.at, read.raw, read.value, read.unit, read.problem) == (AT, "0000 04D2", Decimal("123.4"), "kWh", "")
    assert read.took_ms == pytest.approx(42.3)
    assert read.where == "device 7, energy_import_total (input 72)"


def test_a_look_in_vain_is_shown_and_not_counted(reader):
    """Nothing was asked."""
    reader.show(look((), problem=Problem("no connection", "refused"))._replace(took=None))
    assert reader.last_reads["main"].problem == "no connection: refused"
    assert reader.last_reads["main"].took_ms is None
    assert not reader.counts
