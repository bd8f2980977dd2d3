"""What to try where a configured meter gives no value."""

from __future__ import annotations

import pytest

from gateway.commands.advice import advice


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        ("no answer within 1 s", "meter-gateway scan URL finds who is there"),
        ("illegal address (exception 0x02)", "from 1 (a manual's 40053 is register 52)"),
        ("gives no value: exception 0x0B", "the device behind it is silent"),
        ("no connection: 192.0.2.1:502: Connection refused", "nothing listens at this address and port"),
    ],
)
def test_what_is_wrong_is_followed_by_what_to_try(problem: str, words: str):
    """Once, however many meters have it."""
    (told,) = advice([problem, problem])
    assert words in told


def test_what_nobody_has_advice_for_is_left_alone():
    """The problem itself stands in the meter's row."""
    assert advice(["nothing heard", "not available: 0x7FFFFFFF is this meter's mark for no value", ""]) == []
