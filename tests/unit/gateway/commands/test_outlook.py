"""How long a scan still takes."""

from __future__ import annotations

import pytest

from gateway.commands.outlook import USUAL_REQUEST, USUAL_REQUESTS, Outlook


def test_asking_what_devices_are_takes_as_long_as_so_many_answers():
    """What each that was found cost is what each further request of it will."""
    outlook = Outlook(looks=True)
    assert outlook.of_looks(0) == 0
    assert outlook.of_looks(2) == pytest.approx(2 * USUAL_REQUESTS * USUAL_REQUEST), "nobody has answered yet"
    outlook.answered(0.1)
    outlook.answered(0.3)
    assert outlook.of_looks(2) == pytest.approx(2 * USUAL_REQUESTS * 0.2)


def test_what_the_first_devices_took_is_what_the_others_will():
    """Once there is something better to go by."""
    outlook = Outlook(looks=True)
    outlook.answered(0.1)
    outlook.looked(8)
    outlook.looked(10)
    assert outlook.of_looks(3) == pytest.approx(27)


def test_where_nobody_is_asked_what_he_is_it_takes_no_time():
    """--ids-only."""
    outlook = Outlook(looks=False)
    outlook.answered(0.1)
    assert outlook.of_looks(5) == 0


def test_the_rest_of_a_look_goes_as_it_went_so_far():
    """To its usual end, and not below nothing where there is more to ask than usual."""
    outlook = Outlook(looks=True)
    outlook.answered(0.2)
    assert outlook.of_this_look(0, 0.0) == pytest.approx(USUAL_REQUESTS * 0.2)
    assert outlook.of_this_look(USUAL_REQUESTS - 10, USUAL_REQUESTS - 10) == pytest.approx(10)
    assert outlook.of_this_look(USUAL_REQUESTS + 5, 9.0) == 0
