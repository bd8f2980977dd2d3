"""From a message's bytes to an exact number and its time: what is read, and what is refused with which reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import Now
from drivers.mqtt.payload import Body, PayloadError, Sample, extract, mapping_of, printable
from drivers.mqtt.source import Source

WALL = datetime(2026, 3, 2, 9, 55, tzinfo=UTC)
NOW = Now(1000.0, WALL, trusted=True)
UNTRUSTED = NOW._replace(trusted=False)


def look(payload: bytes | str, now: Now = NOW, **settings) -> Sample:
    source = Source(connection="hall", topic="t", unit="kWh", **settings)
    data = payload.encode() if isinstance(payload, str) else payload
    (found,) = extract(Body(data), mapping_of(source), now)
    if isinstance(found, PayloadError):
        raise found
    return found


def refusal(payload: bytes | str, now: Now = NOW, **settings) -> PayloadError:
    with pytest.raises(PayloadError) as caught:
        look(payload, now, **settings)
    return caught.value


def time_of(stamp: object, now: Now = NOW, **settings) -> datetime | None:
    return look(json.dumps({"v": 1, "t": stamp}), now, value="v", time="t", **settings).at


def time_refusal(stamp: object, now: Now = NOW, **settings) -> PayloadError:
    return refusal(json.dumps({"v": 1, "t": stamp}), now, value="v", time="t", **settings)


# --- the whole payload is the number ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "number"),
    [
        ("0", "0"),
        ("24776.3", "24776.3"),
        ("-12.50", "-12.50"),
        ("+5", "5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("1.5e3", "1500"),
        ("  12\r\n", "12"),
        ("00704.529", "704.529"),  # leading zeros: a camera or radio reading of a water meter's drum
        ("2740.000000", "2740"),  # vzlogger prints with std::to_string
        (b"12.5\0", "12.5"),  # C programs send the terminating zero too
        (b"\xef\xbb\xbf12", "12"),  # a byte order mark
    ],
)
def test_a_bare_number_is_read_exactly(payload: bytes | str, number: str):
    """A raw payload gives the number as it is written."""
    assert look(payload) == Sample(Decimal(number), None)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty payload"),  # Victron: the device is gone; also a cleared retained topic
        (b" \r\n\0", "empty payload"),
        (b"nan", "not a number"),  # ESPHome before its first reading
        (b"NaN", "not a number"),
        (b"inf", "not a number"),
        (b"-Infinity", "not a number"),
        (b"unavailable", "not a number"),  # Home Assistant statestream
        (b"unknown", "not a number"),
        (b"true", "not a number"),
        (b"ON", "not a number"),
        (b"null", "not a number"),
        (b"1,5", "not a number"),
        (b"1.234,5", "not a number"),
        (b"1 234", "not a number"),
        (b"1_234", "not a number"),
        (b"12 kWh", "not a number"),
        (b"0x10", "not a number"),
        (b"--5", "not a number"),
        (b"1e", "not a number"),
        (b".", "not a number"),
        (b'"12"', "not a number"),
        (b"[12]", "not a number"),
        ("١٢".encode(), "not a number"),
        (b"\xff\xfe1\x002\x00", "not text"),
        (b"\x01\x80", "not text"),
        (b"1e18", "number too large"),
        (b"1e9999", "number too large"),
        (b"1e99999", "not a number"),
        (b"9" * 100_000, "number too large"),
        (b"1e-31", "number too small"),
        (b"1e-9999", "number too small"),
        (b"1" * (256 * 1024 + 1), "payload too large"),
    ],
)
def test_what_is_not_a_number_is_refused_with_a_reason(payload: bytes, reason: str):
    """Nothing that is not plainly a decimal number becomes one, least of all 0."""
    assert refusal(payload).reason == reason


@pytest.mark.parametrize("digits", ["1.4E-45", "4.9e-324", "-2.3e-41"])
def test_an_integer_that_a_device_read_as_a_float_is_not_zero(digits: str):
    """A denormal float is a register of another type: it must not be rounded to a reading of 0."""
    assert refusal(digits).reason == "number too small"
    assert refusal(f'{{"v": {digits}}}', value="v").reason == "number too small"


def test_the_noise_of_a_device_that_subtracts_floats_is_a_number():
    """0.1 + 0.2 - 0.3 in binary is 5.6e-17, an honest nothing."""
    assert look("5.551115123125783e-17").value == Decimal("5.551115123125783e-17")


def test_the_detail_names_the_case_and_stays_short():
    """The detail of a refusal shows what arrived, cut."""
    assert refusal(b"unavailable").detail == "unavailable"
    assert refusal(b"\xff").detail == "byte 1 is not UTF-8"
    assert refusal(b"9" * 300).detail == "10^299"
    assert refusal(b"x" * 300).detail == "x" * 40


# --- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "path", "number"),
    [
        ('{"total_m3": 123.529}', "total_m3", "123.529"),  # wmbusmeters, Sensus iPERL
        ('{"ENERGY": {"Total": 3.185}}', "ENERGY.Total", "3.185"),  # Tasmota, Sonoff POW
        ('{"params": {"em:0": {"total": 12.50}}}', 'params."em:0".total', "12.50"),  # Shelly Gen2
        ('{"energy_import|kWh": 5}', '"energy_import|kWh"', "5"),  # modpoll
        ('{"reading": "001234.567"}', "reading", "1234.567"),  # rtlamr2mqtt
        ('{"value": " 11.234 "}', "value", "11.234"),
        ('[{"id": "101", "val": 7}, {"id": "102", "val": 8}]', "[?id=='102'].val | [0]", "8"),  # Siemens S7 Connector
        ('{"EnergyTotal": {"Total": [2.092, 243.196]}}', "EnergyTotal.Total[1]", "243.196"),  # Tasmota, three phases
        ('{"HCHC": 1200, "HCHP": 34}', "sum([HCHC, HCHP])", "1234"),  # Tasmota Teleinfo, two tariffs
        ('{"d1": "1234.5", "d2": "2.25"}', "sum([to_number(d1), to_number(d2)])", "1236.75"),  # DSMR-reader
        ('{"v": 0.1000000000000000055511151231257827}', "v", "0.1000000000000000055511151231257827"),
        ('{"v": 99999999999.999999}', "v", "99999999999.999999"),  # more digits than a float holds
        ('{"v": 1.5E+2}', "v", "150"),
        ('{"v": -0.0}', "v", "0"),
    ],
)
def test_a_number_in_json_is_found_and_keeps_its_digits(payload: str, path: str, number: str):
    """JMESPath finds the number, in quotes or not; no digit is lost to binary floating point."""
    assert look(payload, value=path).value == Decimal(number)


def test_a_payload_that_is_one_json_number_needs_no_path():
    """`format = "json"` without `value` takes the whole document."""
    assert look('"12.5"', format="json").value == Decimal("12.5")
    assert look("12.5", format="json").value == Decimal("12.5")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ('{"v": true}', "not a number"),
        ('{"v": [1]}', "not a number"),
        ('{"v": {"a": 1}}', "not a number"),
        ('{"v": "1,5"}', "not a number"),
        ('{"v": ""}', "not a number"),  # AI-on-the-edge-device with an error
        ('{"v": "NaN"}', "not a number"),
        ('{"v": "\\ud800"}', "not a number"),
        ('{"v": NaN}', "not a number"),
        ('{"v": -Infinity}', "not a number"),
        ('{"v": 1e999}', "number too large"),
        ('{"v": 1e-400}', "number too small"),
        ('{"v": 1e999999999}', "not a number"),
        ('{"v": 1000000000000000000}', "number too large"),
        ('{"v": ' + "9" * 5000 + "}", "not JSON"),
        ("{'v': 1}", "not JSON"),
        ('{"v": 1', "not JSON"),
        ('{"v": 1} {"v": 2}', "not JSON"),
        ("<html>", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"v":' * 20_000 + "1" + "}" * 20_000, "not JSON"),
    ],
)
def test_what_is_no_number_in_json_is_refused_with_a_reason(payload: str, reason: str):
    """Booleans, containers, other texts, numbers out of all bounds and broken documents are no readings."""
    refused = refusal(payload, value="v")
    assert refused.reason == reason
    assert not refused.expected


@pytest.mark.parametrize(
    "payload",
    [
        "{}",
        '{"v": null}',  # Victron: the value is invalid
        '{"params": {"ts": 1788945292.88, "switch:0": {"apower": 11.5}}}',  # Shelly Gen3: only what has changed
        "[]",
        "12",
        '"v"',
    ],
)
def test_a_message_without_the_value_is_a_matter_of_course(payload: str):
    """Partial messages happen on healthy topics: refused, but nothing to worry about."""
    refused = refusal(payload, value="v")
    assert (refused.reason, refused.expected) == ("no value at the path", True)


@pytest.mark.parametrize("settings", [{}, {"value": "v"}], ids=["raw", "json"])
def test_an_empty_payload_is_a_matter_of_course(settings: dict[str, str]):
    """Victron says with it that a device is gone; a retained message is cleared with it."""
    refused = refusal("", **settings)
    assert (refused.reason, refused.expected) == ("empty payload", True)


def test_an_index_into_a_scalar_is_no_value():
    """The same Tasmota meter sends a scalar in one message and an array in the other."""
    assert refusal('{"Total": 436.786}', value="Total[0]").reason == "no value at the path"


@pytest.mark.parametrize("payload", ['{"e": []}', '{"e": [{}]}', '{"e": [{"id": "7", "kwh": 3}]}'])
def test_the_sum_of_nothing_is_no_reading_of_zero(payload: str):
    """A filter or projection that finds nothing gives no value; sum() of it is not 0."""
    refused = refusal(payload, value="sum(e[?id=='8'].kwh)")
    assert (refused.reason, refused.expected) == ("no value at the path", True)


def test_a_sum_with_a_part_missing_is_refused():
    """A message that lacks one of two tariffs is no reading of the other one."""
    refused = refusal('{"HCHC": 1200}', value="sum([HCHC, HCHP])")
    assert (refused.reason, refused.detail) == ("expression failed", "sum() does not take null")


@pytest.mark.parametrize(
    "payload",
    ['{"v": 1, "v": 2}', '{"v": true, "v": 1}', '{"v": 1, "v": true}', '{"v": 0, "v": 5}', '{"v": {}, "v": 1}'],
)
def test_a_key_that_is_there_twice_with_different_values_is_no_value(payload: str):
    """RFC 8259 does not say which one counts, so none does."""
    assert refusal(payload, value="v").reason == "not a number"


def test_a_key_that_is_there_twice_says_so():
    """The detail names the trouble, also below an object."""
    assert refusal('{"a": {"v": 1, "v": 2}}', value="a.v").detail == "the key is there twice"
    assert refusal('{"v": 1, "t": "a", "t": "b"}', value="v", time="t").detail == "the key is there twice"


def test_a_key_that_is_there_twice_harms_nobody_else():
    """Repeated keys with one value, and repeated keys elsewhere, are no trouble."""
    assert look('{"v": 1, "v": 1.0}', value="v").value == 1
    assert look('{"x": 1, "x": 2, "v": 3}', value="v").value == 3


def test_the_scale_is_exact():
    """The scale multiplies in decimal."""
    assert look("98547500", scale="0.000001").value == Decimal("98.5475")
    assert look("3", scale="0.1").value == Decimal("0.3")
    assert refusal("999999999999999999", scale="10").reason == "number too large"


def test_one_message_is_decoded_once_for_all_its_sources():
    """The document is the same object for every source."""
    body = Body(b'{"a": 1.5}')
    assert body.document is body.document


# --- source times -----------------------------------------------------------------------------------------------------

TEN = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "stamp",
    [
        "2026-03-02T08:00:00Z",
        "2026-03-02T10:00:00+02:00",
        "2026-03-02 10:00:00+0200",
        "2026-03-02T08:00:00.000000000Z",  # The Things Stack, ChirpStack: nanoseconds
        " 2026-03-02T08:00Z\n",
        "20260302T080000Z",
        1772438400,
        1772438400.0,
        1772438400000,
        "1772438400",
        "1772438400000",
        "1772438400.0",
    ],
    ids=repr,
)
def test_a_time_is_read_in_every_usual_form(stamp: object):
    """ISO 8601 with its zone, and epoch seconds or milliseconds by their size."""
    assert time_of(stamp) == TEN


def test_fractions_of_a_second_stay():
    """Shelly's `params.ts` counts in hundredths."""
    assert time_of(1772438400.88) == TEN + timedelta(milliseconds=880)
    assert time_of("2026-03-02T08:00:00.880Z") == TEN + timedelta(milliseconds=880)


def test_a_stated_format_is_kept_to():
    """With `time_format` set, nothing is guessed."""
    assert time_of(1772438400, time_format="epoch_s") == TEN
    assert time_of("1772438400000", time_format="epoch_ms") == TEN
    assert time_of("2026-03-02T08:00:00Z", time_format="iso") == TEN
    assert time_refusal(1772438400, time_format="iso").reason == "not a time"
    assert time_refusal("2026-03-02T08:00:00Z", time_format="epoch_s").reason == "not a number"
    assert time_refusal(1772438400, time_format="epoch_ms").reason == "time before 2015"
    assert time_refusal(1772438400000, time_format="epoch_s").reason == "not a time"


def test_a_time_without_a_zone_needs_the_operator_to_name_it():
    """Tasmota, AI-on-the-edge and Elvaco send local times without a zone."""
    refused = time_refusal("2026-03-02T10:00:00")
    assert (refused.reason, refused.detail) == ("time without a zone", "2026-03-02T10:00:00: set tz")
    assert time_of("2026-03-02T10:00:00", tz="Europe/Helsinki") == TEN
    assert time_of("2026-03-02 10:00", tz="Europe/Helsinki") == TEN
    assert time_of("2026-03-02T08:00:00Z", tz="Europe/Helsinki") == TEN  # its own zone wins


def test_a_local_time_that_never_was_is_refused():
    """In spring an hour is skipped."""
    spring = Now(1000.0, datetime(2026, 3, 29, 6, tzinfo=UTC), trusted=True)
    refused = time_refusal("2026-03-29T03:30:00", spring, tz="Europe/Helsinki")
    assert refused.reason == "no such local time"


def test_a_local_time_that_came_twice_is_the_one_nearer_to_now():
    """In autumn an hour comes twice; without a trusted clock nobody can tell which one is meant."""
    first, second = datetime(2025, 10, 26, 0, 30, tzinfo=UTC), datetime(2025, 10, 26, 1, 30, tzinfo=UTC)
    for meant in (first, second):
        assert time_of("2025-10-26T03:30:00", Now(1.0, meant, trusted=True), tz="Europe/Helsinki") == meant
    unsure = Now(1.0, first, trusted=False)
    assert time_refusal("2025-10-26T03:30:00", unsure, tz="Europe/Helsinki").reason == "ambiguous local time"


@pytest.mark.parametrize(
    "stamp",
    ["1970-01-01T00:33:28Z", "2014-12-31T23:59:59.999Z", 0, 1, -5, "1111-11-11T11:11:11Z", 1420070399],
)
def test_the_time_of_a_clock_that_was_never_set_is_refused(stamp: object):
    """DESIGN 5: a stamp before 2015 is not believed (Tasmota without NTP, amsreader with `rtc` 0)."""
    assert time_refusal(stamp).reason == "time before 2015"


def test_the_bounds_of_belief_are_exact():
    """DESIGN 5: from 2015 to five minutes ahead of a trusted clock."""
    assert time_of("2015-01-01T00:00:00Z") == datetime(2015, 1, 1, tzinfo=UTC)
    ahead = WALL + timedelta(minutes=5)
    assert time_of(ahead.isoformat()) == ahead
    refused = time_refusal((ahead + timedelta(milliseconds=1)).isoformat())
    assert refused.reason == "time in the future"
    assert "0:05:00.001000 ahead of this gateway's clock" in refused.detail


def test_an_untrusted_clock_calls_no_time_future():
    """A gateway that does not know the time does not judge a meter's."""
    far = WALL + timedelta(days=30)
    assert time_of(far.isoformat(), UNTRUSTED) == far


@pytest.mark.parametrize(
    "stamp",
    [
        "yesterday",
        "",
        "2026-03-02",  # a day is no time
        "20260302",
        "2018.02.04 23:17:01",  # Tasmota, old firmware
        "25:00",
        "2026-02-30T00:00:00Z",
        "0001-01-01T00:00:00+05:00",
        "9999-12-31T23:59:59-05:00",
        True,
        [1772438400],
        {"t": 1},
        10**17,
        -(10**17),
    ],
)
def test_what_is_no_time_is_refused(stamp: object):
    """Texts, types and numbers that name no instant."""
    assert time_refusal(stamp, tz="Europe/Helsinki").reason in {"not a time", "time before 2015"}


def test_a_message_without_its_time_is_no_reading():
    """Where the operator says that the time is in the message, the moment of arrival is no substitute."""
    refused = refusal('{"v": 1}', value="v", time="t")
    assert (refused.reason, refused.expected) == ("no time at the path", False)
    assert time_refusal(None).reason == "no time at the path"


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "1e999", "1e-400"])
def test_a_time_out_of_all_bounds_is_refused(literal: str):
    """Not even a number that no clock can show crashes anything."""
    assert refusal(f'{{"v": 1, "t": {literal}}}', value="v", time="t").reason


# --- any bytes at all -------------------------------------------------------------------------------------------------

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["v", "t", "e"]), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.fixed_dictionaries(
    {}, optional={"v": ANY_JSON, "e": ANY_JSON, "t": ANY_JSON | st.just("2026-03-02T08:00:00Z") | st.floats(1e9, 2e12)}
)
EXPRESSIONS = ["v", "v.v", "e[0].v", "sum(e[].v)", "sum([v, e])", "max(e)", "v || t", "to_number(v)", "length(e)"]


@settings(max_examples=500)
@given(st.binary(max_size=60) | st.text(alphabet="0123456789.,-+eE nafixX_\0", max_size=12).map(str.encode))
def test_any_bytes_are_a_number_or_a_reason(payload: bytes):
    """No payload raises anything else, and 0 is only read where a zero is written."""
    try:
        value = look(payload).value
    except PayloadError:
        return
    else:
        assert value.is_finite()
        if value == 0:
            mantissa = payload.decode("utf-8-sig").strip(" \t\r\n\0").lower().partition("e")[0]
            assert set(mantissa) <= set("+-0.")
            assert "0" in mantissa


@settings(max_examples=500)
@given(DOCUMENTS | ANY_JSON, st.sampled_from(EXPRESSIONS))
def test_any_document_is_a_sample_or_a_reason(document: object, path: str):
    """Whatever JSON arrives, the outcome can be stored: a finite number within bounds, or a printable reason."""
    try:
        sample = look(json.dumps(document), value=path, time="t", tz="Europe/Helsinki")
    except PayloadError as refused:
        (refused.reason + refused.detail).encode()  # SQLite takes no lone surrogates
    else:
        assert sample.value.is_finite()
        assert abs(sample.value) < 10**18
        assert sample.at is not None
        assert datetime(2015, 1, 1, tzinfo=UTC) <= sample.at <= WALL + timedelta(minutes=5)


@given(st.decimals(min_value=-(10**12), max_value=10**12, places=6, allow_nan=False))
def test_what_a_meter_counts_comes_back_digit_by_digit(number: Decimal):
    """Raw, as a JSON number and as a JSON text alike."""
    assert look(f"{number:f}").value == number
    assert look(f'{{"v": {number:f}}}', value="v").value == number
    assert look(f'{{"v": "{number:f}"}}', value="v").value == number


# --- for people -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (b"12.5", "12.5"),
        (b"a\nb\0c", "a·b·c"),
        (b"\x08\x96\xff", "0896ff"),
        ("ä" * 20, "ä" * 10),
        (b"x" * 100, "x" * 10),
        (b"\xff" * 100, "ffffffffff"),
        (b"", ""),
    ],
)
def test_a_payload_is_shown_printable_and_cut(payload: bytes | str, shown: str):
    """Text with dots for what cannot be printed, or hexadecimal."""
    assert printable(payload.encode() if isinstance(payload, str) else payload, 10) == shown
