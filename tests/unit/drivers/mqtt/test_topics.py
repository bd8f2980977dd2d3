"""Topic filters as MQTT 5.0, section 4.7, has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from drivers.mqtt.topics import covers, filter_fault, minimal


@pytest.mark.parametrize("text", ["a", "a/b", "/", "a//b", "+", "#", "a/#", "+/b/+", "a/+/#", "$SYS/#", "site/äöå/1 2"])
def test_a_plain_filter_has_no_fault(text: str):
    """What the specification allows is allowed."""
    assert filter_fault(text) == ""


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "must not be empty"),
        ("a\0b", "must be plain text of at most 65535 bytes"),
        ("a" * 65_536, "must be plain text of at most 65535 bytes"),
        ("ä" * 40_000, "must be plain text of at most 65535 bytes"),
        ("a\ud800", "must be plain text of at most 65535 bytes"),
        ("a#", 'must have "#" only alone and as the last level, as in "site/#"'),
        ("#/a", 'must have "#" only alone and as the last level, as in "site/#"'),
        ("a/##", 'must have "#" only alone and as the last level, as in "site/#"'),
        ("a/b+", 'must have "+" only as a whole level, as in "site/+/energy"'),
        ("++/a", 'must have "+" only as a whole level, as in "site/+/energy"'),
        (
            "$share/g/a",
            "must not be a shared subscription: it would give some of a meter's messages to another client",
        ),
    ],
)
def test_a_faulty_filter_is_told_what_is_allowed(text: str, fault: str):
    """Every fault ends a sentence that begins with the key."""
    assert filter_fault(text) == fault


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("a/b", "a/b"),
        ("a/+", "a/b"),
        ("+/+", "a/b"),
        ("+/+", "/b"),
        ("a/+/c", "a//c"),
        ("a/#", "a"),
        ("a/#", "a/b/c"),
        ("#", "a/b"),
        ("#", "+/#"),
        ("a/#", "a/+/c"),
        ("a/#", "a/#"),
        ("a/+", "a/+"),
        ("$SYS/#", "$SYS/broker/uptime"),
    ],
)
def test_a_filter_covers_what_it_matches(wide: str, narrow: str):
    """Topics and narrower filters alike."""
    assert covers(wide, narrow)


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("a/b", "a/c"),
        ("a/b", "a"),
        ("a/b", "a/b/c"),
        ("a/+", "a"),
        ("a/+", "a/b/c"),
        ("+", "/a"),
        ("a/+", "a/#"),  # "a/#" also means "a" and "a/b/c"
        ("a/b", "a/+"),
        ("A/b", "a/b"),
        ("#", "$SYS/broker/uptime"),
        ("+/broker", "$SYS/broker"),
        ("#", "$SYS/#"),
    ],
)
def test_a_filter_covers_nothing_else(wide: str, narrow: str):
    """Levels are whole and exact, and a wildcard at the start leaves `$` topics alone."""
    assert not covers(wide, narrow)


LEVELS = st.lists(st.sampled_from(["", "a", "b", "$SYS", "+"]), min_size=1, max_size=4)
FILTERS = st.builds(lambda levels, end: "/".join(levels + end), LEVELS, st.sampled_from([[], ["#"]])).filter(bool)
TOPICS = st.lists(st.sampled_from(["", "a", "b", "$SYS"]), min_size=1, max_size=5).map("/".join).filter(bool)


@given(FILTERS, TOPICS)
def test_matching_agrees_with_the_client_library(wide: str, topic: str):
    """What we route is what paho would route."""
    assert covers(wide, topic) == topic_matches_sub(wide, topic)


@given(FILTERS, FILTERS, TOPICS)
def test_covering_means_matching_everything(wide: str, narrow: str, topic: str):
    """No topic of the narrower filter is lost when only the wider one is subscribed."""
    if covers(wide, narrow) and covers(narrow, topic):
        assert covers(wide, topic)


@given(st.lists(FILTERS, max_size=6), TOPICS)
def test_the_minimal_filters_lose_no_topic(filters: list[str], topic: str):
    """Every topic that some filter matches is matched by one that is left."""
    assert any(covers(each, topic) for each in minimal(filters)) == any(covers(each, topic) for each in filters)


def test_filters_that_another_one_covers_are_not_needed():
    """A broker may send a copy of a message for each subscription that matches it."""
    assert minimal(["a/b", "a/#", "a/+/c", "b", "b"]) == ["a/#", "b"]
    assert minimal(["#", "$SYS/broker/uptime"]) == ["#", "$SYS/broker/uptime"]
    assert minimal(["a/+", "+/b"]) == ["+/b", "a/+"]  # they overlap, but each has topics of its own
    assert minimal([]) == []
