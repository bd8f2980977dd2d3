"""Two API keys, each refused per endpoint family."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.keys import KEY_PAUSE, KeyRing

AT = datetime(2026, 3, 2, tzinfo=UTC)


def test_the_first_key_is_used_until_it_is_refused():
    keys = KeyRing(["one", "two"])
    assert keys.usable("consumption", 0.0) == 0
    assert keys.refused(0, "consumption", 0.0)
    assert keys.usable("consumption", 0.0) == 1
    assert keys.secret(1) == "two"


def test_a_refusal_says_nothing_about_another_family():
    keys = KeyRing(["one", "two"])
    keys.refused(0, "consumption", 0.0)
    assert keys.usable("values", 0.0) == 0


def test_the_key_that_serves_stays_in_use():
    """Otherwise the expired one would be tried again before every message."""
    keys = KeyRing(["one", "two"])
    keys.refused(0, "consumption", 0.0)
    keys.accepted(1, "consumption", AT)
    assert keys.usable("consumption", KEY_PAUSE + 1) == 1
    keys.refused(1, "consumption", KEY_PAUSE + 1)
    assert keys.usable("consumption", KEY_PAUSE + 1) == 0


def test_while_every_key_is_refused_none_is_usable_until_the_pause_is_over():
    keys = KeyRing(["one", "two"])
    keys.refused(0, "values", 0.0)
    keys.refused(1, "values", 60.0)
    assert keys.usable("values", 61.0) is None
    assert keys.again("values") == KEY_PAUSE
    assert keys.usable("values", KEY_PAUSE) == 0


def test_a_refusal_is_news_once():
    keys = KeyRing(["one"])
    assert keys.refused(0, "values", 0.0)
    assert not keys.refused(0, "values", KEY_PAUSE)
    keys.accepted(0, "values", AT)
    assert keys.refused(0, "values", 2 * KEY_PAUSE)


def test_the_status_shows_numbers_and_never_a_key():
    keys = KeyRing(["secret-one", "secret-two"])
    keys.refused(0, "values", 0.0)
    keys.accepted(1, "values", AT)
    shown = keys.snapshot()
    assert shown == [
        {"key": 1, "last_accepted": None, "refused_for": ["values"]},
        {"key": 2, "last_accepted": "2026-03-02T00:00:00+00:00", "refused_for": []},
    ]
    assert "secret" not in repr(shown) + repr(keys)
