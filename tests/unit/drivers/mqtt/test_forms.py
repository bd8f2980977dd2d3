"""Payloads other than one number or one JSON value: rows, lines, items of arrays, sums, series, offsets."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from drivers.base import Now
from drivers.mqtt.payload import MOST_ITEMS, Body, Found, PayloadError, Sample, extract, mapping_of
from drivers.mqtt.source import Source

WALL = datetime(2026, 3, 2, 9, 55, tzinfo=UTC)
NOW = Now(1000.0, WALL, trusted=True)
EIGHT = datetime(2026, 3, 2, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)


def found(payload: object, now: Now = NOW, **settings) -> list[Found]:
    source = Source(connection="hall", topic="t", unit="kWh", **settings)
    text = payload if isinstance(payload, str) else json.dumps(payload)
    return extract(Body(text.encode()), mapping_of(source), now)


def values(payload: object, **settings) -> list[str]:
    """Numbers as they were written, or reasons."""
    return [str(each.value) if isinstance(each, Sample) else each.reason for each in found(payload, **settings)]


def times(payload: object, **settings) -> list[datetime | None]:
    return [each.at for each in found(payload, **settings) if isinstance(each, Sample)]


# --- sums and offsets -------------------------------------------------------------------------------------------------


def test_a_list_of_paths_is_their_exact_sum():
    """DSMR-reader's tariffs are decimals in quotes; in binary floating point their sum would end in ...0000002."""
    assert values({"a": "1234.567", "b": "2345.678"}, value=["a", "b"]) == ["3580.245"]
    assert values({"a": 0.1, "b": 0.2}, value=["a", "b"]) == ["0.3"]


@pytest.mark.parametrize("payload", [{"a": 1}, {"a": 1, "b": None}])
def test_a_sum_with_a_part_missing_is_no_reading(payload: object):
    """R2: not the sum of what is there, and nothing to worry about."""
    (refused,) = found(payload, value=["a", "b"])
    assert isinstance(refused, PayloadError)
    assert (refused.reason, refused.expected) == ("no value at the path", True)


def test_a_sum_with_a_part_that_is_no_number_is_told():
    """A text where a number belongs is a mistake in the mapping."""
    assert values({"a": 1, "b": "x"}, value=["a", "b"]) == ["not a number"]


def test_an_offset_is_added_after_the_scale():
    """Lansen: 1000 kWh stood on the meter when its pulses began, 0.1 kWh each."""
    assert values({"a": 4711}, value="a", scale="0.1", offset="1000") == ["1471.1"]
    assert values("4711", scale="0.1", offset="-0.1") == ["471.0"]


def test_a_value_beyond_all_bounds_after_the_offset_is_refused():
    """The bounds hold for the result."""
    assert values("999999999999999999", offset="1") == ["number too large"]


# --- where ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "where", "said"),
    [
        ({"v": 1, "status": "OK"}, "status=='OK'", "1"),
        ({"v": 1, "status": "TEMPORARY_ERROR"}, "status=='OK'", "where is not met"),
        ({"v": 1}, "status=='OK'", "where is not met"),
        ({"v": 1, "q": 192}, "q==`192`", "1"),
        ({"v": 1, "q": 192.0}, "q==`192`", "1"),
        ({"v": 1, "valid": True}, "valid", "1"),
        ({"v": 1}, "valid", "where is not met"),
        ({"v": 1, "valid": 0}, "valid", "where is neither true nor false"),  # JMESPath takes 0 for true
        ({"v": 1, "valid": "no"}, "valid", "where is neither true nor false"),
        ({"v": 1, "a": 5}, "contains(a, 'x')", "expression failed"),
    ],
)
def test_a_condition_must_be_true(payload: object, where: str, said: str):
    """Quality and status beside the value; what is neither true nor false says so instead of guessing."""
    assert values(payload, value="v", where=where) == [said]


def test_a_condition_that_is_not_met_is_a_matter_of_course():
    """It is counted, and recorded now and then."""
    (refused,) = found({"v": 1}, value="v", where="a=='b'")
    assert isinstance(refused, PayloadError)
    assert refused.expected


# --- each -------------------------------------------------------------------------------------------------------------

ITEMS = [
    {"id": "m1", "v": 1, "t": "2026-03-02T08:00:00Z"},
    {"id": "m2", "v": 2},
    {"id": "m1", "v": 3, "t": "2026-03-02T09:00:00Z"},
]


def test_every_item_of_an_array_is_a_reading_of_its_own():
    """A batch with one time per item, the meter chosen by a filter."""
    settings = {"format": "json", "each": "[?id=='m1']", "value": "v", "time": "t"}
    assert values(ITEMS, **settings) == ["1", "3"]
    assert times(ITEMS, **settings) == [EIGHT, EIGHT + HOUR]


def test_items_that_the_condition_does_not_mean_are_passed_over_in_silence():
    """Other meters of the same batch are no news; none at all is told once."""
    assert values(ITEMS, each="@", value="v", where="id=='m2'") == ["2"]
    assert values(ITEMS, each="@", value="v", where="id=='m9'") == ["where is not met"]


def test_one_bad_item_does_not_spoil_the_others():
    """Each item's outcome is its own."""
    assert values([{"v": 1}, {"v": None}, {"v": "x"}, {}, {"v": 5}], each="@", value="v") == [
        "1", "no value at the path", "not a number", "no value at the path", "5",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ([], "no value at the path"),
        ({"e": None}, "no value at the path"),
        ({"e": 5}, "each is not an array"),
        ({"e": {"v": 1}}, "each is not an array"),
        ({"e": [{"v": 1}] * (MOST_ITEMS + 1)}, "too many items"),
    ],
)
def test_what_is_no_array_of_items_is_refused(payload: object, said: str):
    """A scalar where an array is meant is a mistake; nothing is a matter of course; a flood is bounded."""
    assert values(payload, each="e || @" if payload == [] else "e", value="v") == [said]


def test_items_that_bring_a_series_each_are_bounded_together():
    """However a message multiplies its readings."""
    items = [{"base": 1, "t": "2026-03-02T08:00:00Z", "d": [0] * 60}] * 40
    assert values(items, each="@", value="base", time="t", step="1s", deltas="d") == ["too many items"]


def test_a_meters_name_may_be_the_key_of_an_object():
    """ThingsBoard's gateway API; the device of the meter stands in the expression."""
    payload = {"Device A": [{"ts": 1772438400000, "values": {"e": 42}}], "Device B": [{"ts": 1, "values": {"e": 7}}]}
    settings = {"each": '"{device}"', "value": "values.e", "time": "ts", "device": "Device A"}
    assert found(payload, **settings) == [Sample(Decimal(42), EIGHT)]


# --- series -----------------------------------------------------------------------------------------------------------

SERIES = {"value": "base", "time": "t", "step": "1h", "deltas": "d"}


def test_a_base_and_its_increments_become_counter_readings():
    """A daily uplink with hourly increments: the last one ends at the uplink's time."""
    payload = {"base": 5.938, "t": "2026-03-02T08:00:00Z", "d": [0.014, "0.008", 0]}
    samples = found(payload, **SERIES)
    assert samples == [
        Sample(Decimal("5.938"), EIGHT - 3 * HOUR),
        Sample(Decimal("5.952"), EIGHT - 2 * HOUR),
        Sample(Decimal("5.960"), EIGHT - HOUR),
        Sample(Decimal("5.960"), EIGHT),
    ]


def test_the_time_may_be_that_of_the_first_value():
    """Other devices stamp the begin of the log."""
    payload = {"base": 1, "t": "2026-03-02T08:00:00Z", "d": [1]}
    assert times(payload, **SERIES, time_marks="first") == [EIGHT, EIGHT + HOUR]


def test_increments_may_be_keys_of_their_own_and_take_the_scale():
    """Axioma: delta_1, delta_2, ...; the offset belongs to the meter, not to each increment."""
    payload = {"base": 10, "t": "2026-03-02T08:00:00Z", "d1": 1, "d2": 2}
    settings = SERIES | {"deltas": ["d1", "d2"], "scale": "0.5", "offset": "100"}
    assert values(payload, **settings) == ["105.0", "105.5", "106.5"]


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"base": 1, "t": "2026-03-02T08:00:00Z", "d": [1, None]}, "an increment is missing"),
        ({"base": 1, "t": "2026-03-02T08:00:00Z"}, "an increment is missing"),
        ({"base": 1, "t": "2026-03-02T08:00:00Z", "d": [1, "x"]}, "not a number"),
        ({"base": None, "t": "2026-03-02T08:00:00Z", "d": [1]}, "no value at the path"),
        ({"base": 1, "d": [1]}, "no time at the path"),
        ({"base": 1, "t": "2026-03-02T08:00:00Z", "d": [0] * (MOST_ITEMS + 1)}, "too many items"),
        ({"base": 1, "t": "2015-01-01T00:00:00Z", "d": [1]}, "time before 2015"),
        ({"base": 1, "t": "2026-03-02T08:00:00Z", "d": [9e17, 9e17]}, "number too large"),
    ],
)
def test_a_series_with_a_hole_is_no_reading(payload: object, said: str):
    """What follows a hole is not known, and the next uplink carries the energy."""
    assert values(payload, **SERIES) == [said]


def test_a_series_into_the_future_is_refused():
    """DESIGN 5: every reading's time must be believable."""
    payload = {"base": 1, "t": "2026-03-02T09:00:00Z", "d": [1, 1]}
    assert values(payload, **SERIES, time_marks="first") == ["time in the future"]


def test_no_length_of_a_series_leaves_the_calendar():
    """The longest steps and the longest array end as a reason, whatever the clock is worth."""
    payload = {"base": 1, "t": "9999-01-01T00:00:00Z", "d": [0] * 100}
    untrusted = NOW._replace(trusted=False)
    (refused,) = found(payload, untrusted, **SERIES | {"step": "366d", "time_marks": "first"})
    assert isinstance(refused, PayloadError)
    assert refused.reason == "not a time"


# --- CSV --------------------------------------------------------------------------------------------------------------


def test_a_column_is_found_by_its_name():
    """With a header; every row is looked into, numbers stay text to the digit."""
    text = "serial;created;energy\n161;2026-03-02 08:00:00;1234.50\n162;2026-03-02 09:00:00;7\n"
    settings = {"format": "csv", "value": "energy", "time": "created", "tz": "+00:00"}
    assert found(text, **settings) == [Sample(Decimal("1234.50"), EIGHT), Sample(Decimal(7), EIGHT + HOUR)]
    assert values(text, **settings, where="serial=='162'") == ["7"]


def test_a_column_is_found_by_its_place():
    """Without a header, counted from 0 as in JMESPath."""
    assert values("100,200,300", format="csv", header=False, value="[2]") == ["300"]
    assert values("200,c8y,A+,5\n200,c8y,A-,6\n", format="csv", header=False, value="[3]", where="[2]=='A-'") == ["6"]


@pytest.mark.parametrize(("separator", "between"), [(None, ";"), (None, ","), (None, "\t"), ("tab", "\t"), (";", ";")])
def test_the_separator_is_the_commonest_or_the_one_that_is_written(separator: str | None, between: str):
    """In the first row."""
    text = f'a{between}b\r\n1{between}"2"\r\n'
    assert values(text, format="csv", value="b", separator=separator) == ["2"]


def test_a_separator_that_is_written_counts_more_than_the_commonest():
    """A name may be full of commas."""
    assert values("a,in,all;b\n1;2\n", format="csv", value="b", separator=";") == ["2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a;b", "no value at the path"),
        ("a;b\n1", "no value at the path"),
        ("a;b\n1;", "not a number"),
        ("a;b\n1;2;3", "not CSV"),
        ("a;b;b\n1;2;3", "not a number"),  # the column is there twice, with different values
        ("a;b\n1;1,5", "not a number"),
        ("a;b\n\n\n1;2", "2"),
        ("a;b\n1;" + "9" * 140_000, "not CSV"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(text: str, said: str):
    """Too many cells shift the columns; too few are a partial message."""
    assert values(text, format="csv", value="b", separator=";") == [said]


# --- line protocol ----------------------------------------------------------------------------------------------------

LINE = 'meter,serial=1,site=hall\\ 2 kwh=1234.567,w=230i,ok=t,name="a, \\"b\\" c" 1772438400000000000'
INFLUX = {"format": "influx", "value": "fields.kwh", "time": "time", "time_format": "epoch_ns"}


def test_a_field_of_the_line_protocol_is_a_number_with_its_time():
    """Nanoseconds since 1970; digits as written."""
    assert found(LINE, **INFLUX) == [Sample(Decimal("1234.567"), EIGHT)]
    assert values(LINE, **INFLUX | {"value": "fields.w"}) == ["230"]


@pytest.mark.parametrize(
    "where",
    ["measurement=='meter'", "tags.serial=='1'", "tags.site=='hall 2'", "fields.ok", "fields.name=='a, \"b\" c'"],
)
def test_lines_are_chosen_by_measurement_tag_or_field(where: str):
    """Escaped blanks and quotes are what they stand for."""
    other = "other,serial=2 kwh=7,ok=f 1772438400000000000"
    assert values(f"# a comment\n{LINE}\n\n{other}\n", **INFLUX, where=where) == ["1234.567"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("meter kwh=1", "no time at the path"),
        ("meter kwh=t 1772438400000000000", "not a number"),
        ('meter kwh="1" 1772438400000000000', "1"),
        ("meter kwh=NaN 1772438400000000000", "not line protocol"),
        ("meter kwh=1e999 1772438400000000000", "number too large"),
        ("meter kwh= 1772438400000000000", "not line protocol"),
        ("meter kwh=1, 1772438400000000000", "not line protocol"),
        ("meter, kwh=1 1772438400000000000", "not line protocol"),
        ("meter kwh=1 17724384000000000000000", "not line protocol"),
        ("meter kwh=1 1772438400000000000 x", "not line protocol"),
        ("meter kwh=1,kwh=2 1772438400000000000", "not a number"),
        ("meter", "not line protocol"),
        ("1234.5", "not line protocol"),
        ('meter kwh="' + "\\" * 1000, "not line protocol"),
    ],
)
def test_a_line_that_is_none_is_refused(text: str, said: str):
    """With the line and the character, not the content."""
    assert values(text, **INFLUX) == [said]


def test_a_refused_line_is_named():
    """Its number and the character."""
    (refused,) = found(f"{LINE}\nmeter kwh=x 5", **INFLUX)
    assert isinstance(refused, PayloadError)
    assert refused.detail == "line 2, character 11"


# --- times ------------------------------------------------------------------------------------------------------------


def stamp(text: object, **settings) -> list[object]:
    return [
        each.at if isinstance(each, Sample) else each.reason
        for each in found({"v": 1, "t": text}, value="v", time="t", **settings)
    ]


@pytest.mark.parametrize("written", [1772438400000000000, "1772438400000000000", 1772438400000000999], ids=repr)
def test_nanoseconds_are_told_by_their_size_or_by_the_format(written: object):
    """InfluxDB and ROS count so."""
    assert stamp(written) == [EIGHT]
    assert stamp(written, time_format="epoch_ns") == [EIGHT]


def test_a_form_of_its_own_is_read():
    """Old Tasmota firmware, German dates, and one that brings its zone."""
    assert stamp("2026.03.02 10:00:00", time_format="strptime:%Y.%m.%d %H:%M:%S", tz="Europe/Helsinki") == [EIGHT]
    assert stamp("02.03.26 09:00", time_format="strptime:%d.%m.%y %H:%M", tz="+01:00") == [EIGHT]
    assert stamp("02/Mar/2026 10:00 +0200", time_format="strptime:%d/%b/%Y %H:%M %z") == [EIGHT]
    assert stamp("2026-03-02 10:00", time_format="strptime:%d.%m.%Y %H:%M", tz="+01:00") == ["not a time"]
    assert stamp(1772438400, time_format="strptime:%d.%m.%Y %H:%M", tz="+01:00") == ["not a time"]


def test_a_meter_on_standard_time_has_a_fixed_offset():
    """In summer, too: Elvaco's clocks know no summer time."""
    summer = "2025-07-01 12:00:00"
    assert stamp(summer, tz="+01:00") == [datetime(2025, 7, 1, 11, tzinfo=UTC)]
    assert stamp(summer, tz="-0330") == [datetime(2025, 7, 1, 15, 30, tzinfo=UTC)]
    assert stamp(summer, tz="Europe/Berlin") == [datetime(2025, 7, 1, 10, tzinfo=UTC)]
    assert stamp("2025-10-26 02:30:00", tz="+01:00") == [datetime(2025, 10, 26, 1, 30, tzinfo=UTC)]  # no hour twice
