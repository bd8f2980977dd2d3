from __future__ import annotations

import tomllib
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.enerkey.contract import Contract, check_url, endpoint

# The section as the documentation shows it; copied from the design of the contract.
DOCUMENTED = """
push_consumptions        = "POST /api/v2/Values/PushConsumptionsForMeter?meterId={meter}"
push_cumulative_readings = "POST /api/v2/Values/PushCumulativeReadingsForMeter?meterId={meter}"
hourly_values            = "GET /api/v2/Values/Hourly?meterId={meter}&from={from}&to={to}"
values_key = ""
timestamp_key = "timestamp"
value_key = "value"
meter_key = ""
answer_meter_key = "meterId"
"""


def test_the_defaults_are_the_documented_ones():
    documented = tomllib.loads(DOCUMENTED)
    assert Contract(**documented) == Contract()
    assert set(documented) == set(Contract.model_fields)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"push_consumptions": "DELETE /x?m={meter}"}, "POST or PUT"),
        ({"push_consumptions": "/x?m={meter}"}, "POST or PUT"),
        ({"push_consumptions": "POST  /x?m={meter}"}, "one blank"),
        ({"push_consumptions": "POST x?m={meter}"}, 'begins with "/"'),
        ({"push_consumptions": "POST /x y?m={meter}"}, "one blank"),
        ({"push_consumptions": "POST /x?m={meter}#top"}, 'begins with "/"'),
        ({"push_consumptions": "POST /ä?m={meter}"}, 'begins with "/"'),
        ({"push_consumptions": "POST /x?m={meter}&t={from}"}, "{from}; allowed here: {meter}"),
        ({"push_consumptions": "POST /x?m={meter}}"}, "brace"),
        ({"push_consumptions": "POST /x"}, "push_consumptions has no {meter}"),
        ({"push_consumptions": Contract().push_cumulative_readings}, "must differ"),
        ({"hourly_values": "POST /x?m={meter}&f={from}&t={to}"}, "must be GET"),
        ({"hourly_values": "GET /x?m={meter}&f={from}"}, "needs the placeholder {to}"),
        ({"hourly_values": "GET /x?f={from}&t={to}"}, "exactly one"),
        ({"hourly_values": "GET /x?m={meter}&n={meters}&f={from}&t={to}"}, "exactly one"),
        ({"hourly_values": "GET /x?m={meter}&f={from}&t={till}"}, "{meter}, {meters}, {from}, {to}"),
        ({"timestamp_key": " "}, "must name a JSON key"),
        ({"value_key": "timestamp"}, "same name"),
        ({"meter_key": "value"}, "same name"),
        ({"meter_key": "m", "values_key": "m"}, "same name"),
        ({"value_keys": "v"}, "Extra inputs"),
    ],
)
def test_a_mistake_in_the_contract_says_what_is_allowed(keys: dict[str, str], said: str):
    with pytest.raises(ValidationError) as caught:
        Contract(**keys)
    assert said in str(caught.value)


def test_the_meter_may_stand_in_the_body_instead_of_the_path():
    Contract(push_consumptions="POST /consumptions", push_cumulative_readings="POST /readings", meter_key="meterId")


def test_one_name_may_be_a_key_at_two_levels():
    Contract(values_key="value", meter_key="timestamp")


@given(st.text())
def test_a_filled_placeholder_is_read_back_as_it_was(value: str):
    target = endpoint(Contract().hourly_values).filled(meter=value, to="2", **{"from": "1"})
    assert target.isascii()
    assert parse_qs(urlsplit(target).query, keep_blank_values=True)["meterId"] == [value]


def test_times_are_url_encoded():
    target = endpoint(Contract().hourly_values).filled(meter="7", to="2", **{"from": "2017-01-01T00:00:00+02:00"})
    assert "from=2017-01-01T00%3A00%3A00%2B02%3A00" in target


@pytest.mark.parametrize(
    "url",
    [
        "https://api.enerkey.com",
        "https://proxy.example:8443/enerkey",
        "http://localhost:80",
        "http://127.9.9.9:1",
        "http://[::1]:8040",
    ],
)
def test_a_good_url_stays_as_it_is_without_its_last_slash(url: str):
    assert check_url(url) == url
    assert check_url(url + "/") == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://api.enerkey.com", "unencrypted"),
        ("http://192.0.2.1:8040", "unencrypted"),
        ("http://127.0.0.1.example.com", "unencrypted"),
        ("ftp://api.enerkey.com", "https://HOST"),
        ("api.enerkey.com", "https://HOST"),
        ("", "https://HOST"),
        ("https://", "https://HOST"),
        ("https://api.enerkey.com/?x=1", "https://HOST"),
        ("https://api.enerkey.com/#x", "https://HOST"),
        ("https://api.enerkey.com/ x", "https://HOST"),
        ("https://api.enerkey.com\n", "https://HOST"),
        ("https://api.enerkey.com:99999", "no URL"),
        ("https://api..enerkey.com", "no URL"),
        ("https://[::1", "no URL"),
    ],
)
def test_a_bad_url_says_what_is_allowed(url: str, said: str):
    with pytest.raises(ValueError, match=said):
        check_url(url)


def test_a_password_in_a_url_is_refused_without_repeating_it():
    with pytest.raises(ValueError, match="api_keys") as caught:
        check_url("https://user:canary@api.enerkey.com")
    assert "canary" not in str(caught.value)
