"""Two API keys, each refused per endpoint family."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from buffer.key_use import KeyUse
from buffer.model import to_ms
from gateway.keys import KEY_PAUSE, LONGEST_KEY_PAUSE, Key, KeyRing, expiry

AT = datetime(2026, 3, 2, tzinfo=UTC)
ONE, TWO = Key("secret-one", "env:ONE"), Key("secret-two", "credential:two")
DAY = timedelta(days=1)


def test_the_first_key_is_used_until_it_is_refused():
    """The order of the configuration is the order of preference."""
    keys = KeyRing([ONE, TWO])
    assert keys.usable("consumption", 0.0) == 0
    assert keys.refused(0, "consumption", 0.0)
    assert keys.usable("consumption", 0.0) == 1
    assert keys.secret(1) == "secret-two"


def test_a_refusal_says_nothing_about_another_family():
    """403 on pushes, and reads go on."""
    keys = KeyRing([ONE, TWO])
    keys.refused(0, "consumption", 0.0)
    assert keys.usable("values", 0.0) == 0


def test_the_key_that_serves_stays_in_use():
    """Otherwise the expired one would be tried again before every message."""
    keys = KeyRing([ONE, TWO])
    keys.refused(0, "consumption", 0.0)
    keys.accepted(1, "consumption", AT)
    assert keys.usable("consumption", KEY_PAUSE + 1) == 1
    keys.refused(1, "consumption", KEY_PAUSE + 1)
    assert keys.usable("consumption", KEY_PAUSE + 1) == 0


def test_while_every_key_is_refused_one_is_tried_after_a_growing_pause():
    """15 min, 30 min, then every hour; the keys in turn."""
    keys = KeyRing([ONE, TWO])
    keys.refused(0, "values", 0.0)
    assert not keys.is_shut("values")
    keys.refused(1, "values", 60.0)
    tried, now = [], 60.0
    for _ in range(5):
        assert keys.usable("values", keys.again("values") - 1) is None
        tried.append((keys.again("values") - now, keys.usable("values", keys.again("values"))))
        now = keys.again("values")
        keys.refused(tried[-1][1] or 0, "values", now)
    pauses = [KEY_PAUSE, 2 * KEY_PAUSE, LONGEST_KEY_PAUSE, LONGEST_KEY_PAUSE, LONGEST_KEY_PAUSE]
    assert tried == list(zip(pauses, [0, 1, 0, 1, 0], strict=True))
    keys.accepted(1, "values", AT)
    assert (keys.usable("values", now), keys.is_shut("values"), keys.shut_for()) == (1, False, [])


def test_a_refusal_is_news_once():
    """Until the key has been taken again."""
    keys = KeyRing([ONE])
    assert keys.refused(0, "values", 0.0)
    assert not keys.refused(0, "values", KEY_PAUSE)
    keys.accepted(0, "values", AT)
    assert keys.refused(0, "values", 2 * KEY_PAUSE)


def test_the_status_shows_numbers_and_names_and_never_a_key():
    """Nor does any repr."""
    keys = KeyRing([ONE, Key("secret-two", "credential:two", date(2027, 1, 31))])
    keys.refused(0, "values", 0.0)
    keys.accepted(1, "values", AT)
    shown = keys.snapshot()
    assert shown == [
        {
            "key": 1, "reference": "env:ONE", "expires": None, "in_use_for": [], "last_accepted": None,
            "refused_for": ["values"],
        },
        {
            "key": 2, "reference": "credential:two", "expires": "2027-01-31", "in_use_for": ["values"],
            "last_accepted": "2026-03-02T00:00:00+00:00", "refused_for": [],
        },
    ]  # fmt: skip
    assert "secret" not in repr(shown) + repr(keys) + repr(ONE)


def test_what_is_to_be_remembered_is_handed_out_once():
    """By name, so that it still fits when the order in the configuration changes."""
    keys = KeyRing([ONE, TWO])
    keys.accepted(1, "values", AT)
    keys.accepted(1, "values", AT + DAY)
    kept = keys.to_remember()
    assert kept == [KeyUse("values", "credential:two", to_ms(AT + DAY))]
    assert keys.to_remember() == []
    assert KeyRing([TWO, ONE], uses=kept).usable("values", 0.0) == 0
    assert KeyRing([ONE, TWO], uses=kept).usable("values", 0.0) == 1
    assert KeyRing([ONE, Key("x", "env:NEW")], uses=kept).usable("values", 0.0) == 0


def test_of_two_remembered_keys_the_one_that_was_taken_last_serves():
    """Each family has its own."""
    uses = [KeyUse("values", "env:ONE", 1), KeyUse("consumption", "env:ONE", 2), KeyUse("values", "credential:two", 3)]
    keys = KeyRing([ONE, TWO], uses=uses)
    assert (keys.usable("values", 0.0), keys.usable("consumption", 0.0)) == (1, 0)


def test_from_its_day_on_an_expired_key_comes_after_the_other_one_and_is_tried_all_the_same():
    """What counts is what the server says."""
    expires = date(2026, 3, 3)
    keys = KeyRing([Key("a", "env:A", expires), TWO])
    keys.accepted(0, "values", AT)
    keys.today(expires - DAY)
    assert keys.usable("values", 0.0) == 0
    keys.today(expires)
    assert keys.usable("values", 0.0) == 1
    keys.refused(1, "values", 0.0)
    assert keys.usable("values", 0.0) == 0


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (31, ""),
        (30, "API key 1 (env:A) expires on 2026-03-31: put a new one in its place before that"),
        (1, "API key 1 (env:A) expires on 2026-03-31: put a new one in its place before that"),
        (0, "API key 1 (env:A) expired on 2026-03-31: put a new one in its place"),
        (-99, "API key 1 (env:A) expired on 2026-03-31: put a new one in its place"),
    ],
)
def test_thirty_days_before_a_key_expires_it_is_said(days: int, words: str):
    """And other words from the day itself on."""
    expires = date(2026, 3, 31)
    assert expiry("API key 1 (env:A)", expires, expires - days * DAY) == words
    assert expiry("API key 1 (env:A)", None, expires) == ""


def test_the_day_is_looked_at_once():
    """Not at every step."""
    keys = KeyRing([Key("a", "env:A", date(2026, 3, 31)), TWO])
    assert len(keys.today(date(2026, 3, 30))) == 1
    assert keys.today(date(2026, 3, 30)) == []
