"""What was found out of the API sets the rules; what is configured against it is told, with what happens and the fix."""

from __future__ import annotations

import pytest

from buffer.findings import Finding
from gateway.enerkey.client import READ
from gateway.messages import DeliveryRules
from gateway.probed import (
    SHORTEST_SETTLE,
    UNPROBED,
    api_of,
    decimals_of,
    doubts,
    hour_stamp_of,
    probed,
    same_hour_of,
    settle_of,
)
from gateway.sections import EnerkeySection
from tests.fakes.small_gateway import RULES

DAY = 1_772_445_600_000  # 2026-03-02


def section(**keys: object) -> EnerkeySection:
    return EnerkeySection.model_validate(keys)


def known(enerkey: EnerkeySection, **values: str):
    return probed(enerkey, [Finding(name, value, "", api_of(enerkey), DAY) for name, value in values.items()])


@pytest.mark.parametrize(
    ("lag", "settle"), [("0", 600.0), ("12.5", 600.0), ("200", 600.0), ("201", 603.0), ("7200", 21_600.0)]
)
def test_settle_is_three_times_the_lag_and_at_least_ten_minutes(lag: str, settle: float):
    """Reliability 3.1, rule 9."""
    assert settle_of(section(settle="auto"), known(section(), lag=lag)) == settle


def test_the_shortest_settle_is_longer_than_a_request_may_take():
    """Reliability 3.1, rule 9: never less than the read timeout and five minutes."""
    assert SHORTEST_SETTLE >= READ + 300


def test_unprobed_a_doubt_rests_an_hour():
    """Written or not, `auto` is an hour; a duration is used as given."""
    assert settle_of(section(), UNPROBED) == settle_of(section(settle="auto"), UNPROBED) == 3600.0
    assert settle_of(section(settle="20m"), known(section(), lag="7200")) == 1200.0


def test_auto_takes_what_was_found_and_the_default_until_then():
    """For the three keys that know it."""
    auto = section(same_hour="auto", hour_stamp="auto", push_decimals="auto")
    assert (same_hour_of(auto, UNPROBED), hour_stamp_of(auto, UNPROBED), decimals_of(auto, UNPROBED)) == (
        "sum",
        "start",
        6,
    )
    found = known(auto, same_hour="replace", hour_stamp="end", decimals="3")
    assert (same_hour_of(auto, found), hour_stamp_of(auto, found), decimals_of(auto, found)) == ("replace", "end", 3)
    assert doubts(auto, found) == []


def test_what_is_written_counts_more_than_what_was_found():
    """It is told, not overruled."""
    written = section(same_hour="sum", hour_stamp="start", push_decimals=6, settle="10m")
    found = known(written, same_hour="replace", hour_stamp="end", decimals="3", lag="900")
    assert (same_hour_of(written, found), hour_stamp_of(written, found)) == ("sum", "start")
    assert (decimals_of(written, found), settle_of(written, found)) == (6, 600.0)


def test_findings_of_another_api_say_nothing():
    """Another URL, or another contract, is another API; another key is not."""
    one = section(url="https://one.example", api_keys=["file:/a"])
    findings = [Finding("same_hour", "replace", "", api_of(one), DAY)]
    assert probed(one, findings).same_hour == "replace"
    assert probed(section(url="https://one.example", api_keys=["file:/b"]), findings).same_hour == "replace"
    assert probed(section(url="https://two.example"), findings) == UNPROBED
    other = section(url="https://one.example", contract={"value_key": "v"})
    assert probed(other, findings) == UNPROBED


@pytest.mark.parametrize(
    ("keys", "found", "key", "fix"),
    [
        ({"same_hour": "sum"}, {"same_hour": "replace"}, "same_hour", 'write same_hour = "replace", or "auto"'),
        ({"same_hour": "replace"}, {"same_hour": "sum"}, "same_hour", 'write same_hour = "sum", or "auto"'),
        ({"same_hour": "auto"}, {"same_hour": "first-wins"}, "same_hour", "ask EnerKey"),
        ({"same_hour": "replace"}, {"same_hour": "reject"}, "same_hour", "ask EnerKey"),
        ({"hour_stamp": "start"}, {"hour_stamp": "end"}, "hour_stamp", 'hour_stamp = "end", or "auto"'),
        ({"hour_stamp": "end"}, {"hour_stamp": "start"}, "hour_stamp", "one hour too late"),
        ({"push_decimals": 6}, {"decimals": "3"}, "push_decimals", 'write push_decimals = 3, or "auto"'),
        ({"max_days": 365}, {"largest_message": "31"}, "max_days", "write max_days = 31"),
        ({"settle": "1h"}, {"lag": "1500"}, "settle", 'Write settle = "auto" (4500 s)'),
    ],
)
def test_a_contradiction_is_told_with_the_date_and_the_fix(keys, found, key, fix):
    """One sentence for the key that is wrong."""
    (doubt,) = doubts(section(**keys), known(section(**keys), **found))
    assert doubt.key == key
    assert fix in doubt.words
    assert "probed 2026-03-02" in doubt.words


@pytest.mark.parametrize(
    "found",
    [{}, {"same_hour": "sum", "hour_stamp": "start", "decimals": "6", "lag": "1200"}, {"hour_stamp": "neither"}],
)
def test_defaults_that_fit_are_not_told(found):
    """Nor what was not found out."""
    assert doubts(section(), known(section(), **found)) == []


def test_a_coarser_precision_widens_the_tolerance():
    """Half a unit of the last digit that EnerKey keeps, however many were sent."""
    assert DeliveryRules(**RULES, kept_decimals=3).tolerance == 500
    assert DeliveryRules(**{**RULES, "decimals": 2}, kept_decimals=3).tolerance == 5000
    assert DeliveryRules(**RULES).tolerance == 1
