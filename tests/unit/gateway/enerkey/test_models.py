from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer.model import EPOCH, INT64, from_micro
from gateway.enerkey.contract import Contract
from gateway.enerkey.models import (
    OddAnswer,
    exact_json,
    hourly_target,
    number,
    parse_hourly,
    parse_stamp,
    push_body,
    stamp,
    within,
)

AT = datetime(2017, 1, 1, tzinfo=UTC)
HOUR = int((AT - EPOCH) / timedelta(hours=1))
MICROS = st.integers(-INT64, INT64)
HOURS = st.integers(0, 800_000)
CONTRACTS = st.sampled_from(
    [
        Contract(),
        Contract(values_key="values"),
        Contract(values_key="Werte ä", timestamp_key='t"', value_key="v\\"),
        Contract(meter_key="meterId"),
        Contract(meter_key="meterId", values_key="values"),
    ]
)


def parsed(contract: Contract, body: bytes) -> dict[int, int]:
    """The answer to a read of meter 7 alone."""
    return parse_hourly(contract, body, [7])[7]


def test_a_body_is_compact_and_exact():
    items = [(AT, 1_500_000), (AT + timedelta(hours=1), -1), (AT + timedelta(hours=2), 0)]
    assert push_body(Contract(), 7, items) == (
        b'[{"timestamp":"2017-01-01T00:00:00Z","value":1.5},'
        b'{"timestamp":"2017-01-01T01:00:00Z","value":-0.000001},'
        b'{"timestamp":"2017-01-01T02:00:00Z","value":0}]'
    )


@pytest.mark.parametrize(
    ("contract", "body"),
    [
        (Contract(values_key="values"), {"values": [{"timestamp": "2017-01-01T00:00:00Z", "value": 1}]}),
        (
            Contract(values_key="v", meter_key="m", timestamp_key="t", value_key="q"),
            {"m": 7, "v": [{"t": "2017-01-01T00:00:00Z", "q": 1}]},
        ),
        (Contract(meter_key="meterId"), [{"timestamp": "2017-01-01T00:00:00Z", "value": 1, "meterId": 7}]),
    ],
)
def test_a_body_takes_the_shape_that_the_contract_says(contract: Contract, body: object):
    assert json.loads(push_body(contract, 7, [(AT, 1_000_000)])) == body


@given(CONTRACTS, st.dictionaries(HOURS, MICROS))
def test_what_is_written_is_read_back_to_the_last_digit(contract: Contract, values: dict[int, int]):
    items = [(EPOCH + timedelta(hours=hour), micro) for hour, micro in values.items()]
    assert parsed(contract, push_body(contract, 7, items)) == values


@given(MICROS)
def test_a_number_is_exact_and_plain(micro: int):
    text = number(micro)
    assert Decimal(text) == from_micro(micro)
    assert "e" not in text.lower()
    assert len(text.partition(".")[2]) <= 6
    assert not (("." in text) and text.endswith(("0", ".")))
    assert json.loads(text, parse_float=Decimal, parse_int=Decimal) == from_micro(micro)


def test_a_stamp_is_utc_whatever_the_zone_it_came_in():
    assert stamp(AT.astimezone(timezone(timedelta(hours=2)))) == "2017-01-01T00:00:00Z"


@pytest.mark.parametrize("at", [AT.replace(tzinfo=None), AT.replace(microsecond=1)])
def test_a_stamp_without_zone_or_with_a_fraction_is_a_mistake(at: datetime):
    with pytest.raises(ValueError, match="zone"):
        stamp(at)


def test_the_range_of_a_read_is_half_open_and_encoded():
    assert hourly_target(Contract(), [7], HOUR, HOUR + 24) == (
        "/api/v2/Values/Hourly?meterId=7&from=2017-01-01T00%3A00%3A00Z&to=2017-01-02T00%3A00%3A00Z"
    )


def test_a_contract_for_several_meters_is_asked_for_one_or_more():
    assert hourly_target(MANY, [7], HOUR, HOUR + 1).startswith("/h?ids=7&f=")
    assert hourly_target(MANY, [7, 10**18, 9], HOUR, HOUR + 1).startswith("/h?ids=7%2C1000000000000000000%2C9&f=")


ROW = b'{"timestamp":"2017-01-01T00:00:00Z","value":1'
SEVERAL = "GET /h?ids={meters}&f={from}&t={to}"
MANY = Contract(hourly_values=SEVERAL)
KEYED = Contract(hourly_values=SEVERAL, answer_meter_key="")


@pytest.mark.parametrize(
    ("contract", "body"),
    [
        (MANY, b"[" + ROW + b',"meterId":7},' + ROW + b',"meterId":"8"}]'),
        (KEYED, b'{"7":[' + ROW + b'}],"8":[' + ROW + b"}]}"),
        (
            Contract(hourly_values=SEVERAL, answer_meter_key="", values_key="v"),
            b'{"v":{"7":[' + ROW + b'}],"8":[' + ROW + b"}]}}",
        ),
    ],
)
def test_the_answer_for_several_meters_says_whose_each_value_is(contract: Contract, body: bytes):
    """In each row, or as keys; a meter that is not named is missing, since nothing is said of it."""
    assert parse_hourly(contract, body, [7, 8, 9]) == {7: {HOUR: 1_000_000}, 8: {HOUR: 1_000_000}}


def test_a_meter_with_an_empty_array_has_nothing():
    """That is said, unlike a meter that is left out."""
    assert parse_hourly(KEYED, b'{"7":[]}', [7, 8]) == {7: {}}
    assert parse_hourly(MANY, b"[]", [7, 8]) == {}


@pytest.mark.parametrize("contract", [MANY, KEYED])
def test_where_one_meter_was_asked_for_rows_without_a_name_are_its_rows(contract: Contract):
    """Nobody else's can be meant; but a name that is there must be the right one."""
    assert parsed(contract, b"[" + ROW + b"}]") == {HOUR: 1_000_000}
    assert parsed(contract, b"[]") == {}


@pytest.mark.parametrize(
    ("contract", "body", "asked"),
    [
        (MANY, b"[" + ROW + b"}]", [7, 8]),
        (MANY, b"[" + ROW + b',"meterId":7},' + ROW + b"}]", [7, 8]),
        (MANY, b"[" + ROW + b',"meterId":9}]', [7, 8]),
        (MANY, b"[" + ROW + b',"meterId":9}]', [7]),
        (MANY, b"[" + ROW + b',"meterId":null}]', [7, 8]),
        (MANY, b"[" + ROW + b',"meterId":true}]', [1, 8]),
        (MANY, b"[" + ROW + b',"meterId":7},' + ROW + b',"meterId":7}]', [7, 8]),
        (MANY, b'{"7":[' + ROW + b"}]}", [7, 8]),
        (KEYED, b"[" + ROW + b"}]", [7, 8]),
        (KEYED, b'{"9":[' + ROW + b"}]}", [7, 8]),
        (KEYED, b'{"7":' + ROW + b"}}", [7, 8]),
        (KEYED, b"{}", [7]),
    ],
)
def test_an_answer_that_does_not_name_the_meters_asked_for_proves_nothing(
    contract: Contract, body: bytes, asked: list[int]
):
    """One row in the wrong account would count energy twice (R15)."""
    with pytest.raises(OddAnswer):
        parse_hourly(contract, body, asked)


@pytest.mark.parametrize(
    ("row", "micro"),
    [
        ('{"timestamp":"2017-01-01T00:00:00Z","value":1}', 1_000_000),
        ('{"timestamp":"2017-01-01T02:00:00+02:00","value":1.0}', 1_000_000),
        ('{"timestamp":"2016-12-31T18:30:00-05:30","value":1e-6}', 1),
        ('{"timestamp":"2017-01-01T00:00:00.000Z","value":0.1}', 100_000),
        ('{"timestamp":"2017-01-01T00:00:00.0000000Z","value":1.1000000000000001}', 1_100_000),
        ('{"timestamp":"2017-01-01T00:00:00Z","value":9007199254.740993}', 9_007_199_254_740_993),
        ('{"timestamp":"2017-01-01T00:00:00Z","value":0.0000005,"quality":"ok"}', 1),
        ('{"timestamp":"2017-01-01T00:00:00Z","value":-0.0}', 0),
    ],
)
def test_an_hour_is_read_exactly_whatever_its_spelling(row: str, micro: int):
    assert parsed(Contract(), f"[{row}]".encode()) == {HOUR: micro}


def test_null_is_no_value():
    body = b'[{"timestamp":"2017-01-01T00:00:00Z","value":null},{"timestamp":"2017-01-01T01:00:00Z","value":0}]'
    assert parsed(Contract(), body) == {HOUR + 1: 0}


def test_no_rows_are_no_values_but_an_empty_body_is_odd():
    assert parsed(Contract(), b"[]") == {}
    with pytest.raises(OddAnswer):
        parsed(Contract(), b"")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"null",
        b"{}",
        b"[1]",
        b"[[]]",
        b'{"values":[]}',
        b'[{"timestamp":"2017-01-01T00:00:00Z"}]',
        b'[{"value":1}]',
        b'[{"timestamp":"2017-01-01T00:00:00Z","value":"1"}]',
        b'[{"timestamp":"2017-01-01T00:00:00Z","value":true}]',
        b'[{"timestamp":"2017-01-01T00:00:00Z","value":NaN}]',
        b'[{"timestamp":"2017-01-01T00:00:00Z","value":-Infinity}]',
        b'[{"timestamp":"2017-01-01T00:00:00Z","value":1e99}]',
        b'[{"timestamp":"2017-01-01T00:00:00Z","value":1e99999999999999999999}]',
        b'[{"timestamp":"2017-01-01T00:00:00Z","value":1,"value":2}]',
        b'[{"timestamp":"2017-01-01T00:00:00","value":1}]',
        b'[{"timestamp":"2017-01-01T00:30:00Z","value":1}]',
        b'[{"timestamp":"2017-01-01","value":1}]',
        b'[{"timestamp":"2017-13-01T00:00:00Z","value":1}]',
        b'[{"timestamp":"0001-01-01T00:00:00+05:00","value":1}]',
        b'[{"timestamp":1483228800,"value":1}]',
        b'[{"timestamp":"2017-01-01T00:00:00Z","value":1},{"timestamp":"2017-01-01T02:00:00+02:00","value":1}]',
        b'[{"timestamp":"2017-01-01T00:00:00Z","value":1}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_anything_odd_proves_nothing(body: bytes):
    with pytest.raises(OddAnswer):
        parsed(Contract(), body)


@given(
    st.binary()
    | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(lambda x: json.dumps(x).encode())
)
def test_no_body_leads_to_another_exception(body: bytes):
    """Whatever the contract."""
    for contract in (Contract(), MANY, KEYED):
        try:
            assert isinstance(parse_hourly(contract, body, [7, 8][: 1 + contract.reads_many]), dict)
        except OddAnswer:
            continue


def test_rows_before_the_range_are_left_out_and_rows_after_it_are_odd():
    assert within({9: 1, 10: 2, 11: 3}, 10, 12) == {10: 2, 11: 3}
    with pytest.raises(OddAnswer, match=r"1970-01-01T12:00:00Z.*was its end"):
        within({11: 3, 12: 4}, 10, 12)


def test_a_time_keeps_the_offset_that_was_written():
    assert parse_stamp("2017-01-01T02:00:00+02:00").utcoffset() == timedelta(hours=2)


def test_json_numbers_never_become_floats():
    assert exact_json(b'\xef\xbb\xbf{"a":[0.1,1,1e2]}') == {"a": [Decimal("0.1"), Decimal(1), Decimal("1E+2")]}
    assert exact_json(b"NaN") == "NaN"
