"""The search for devices: what is asked next, and what answers and silences say. No bus."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.modbus import profile
from drivers.modbus.address import Serial
from drivers.modbus.plan import Place
from drivers.modbus.scan import LIKELY, MORE_KNOCKS, Search, ids_of, in_words, likely_lines, lines_of
from drivers.modbus.wire import EXCEPTIONS, Answer, BadAnswer, ExceptionAnswer, NoAnswer

SILENCE = NoAnswer("no answer within 0.3 s")
FAST, SLOW, EVEN = Serial(19_200), Serial(9600), Serial(9600, "E")


def searching(search: Search, answers: dict, late: set | None = None) -> list[tuple]:
    """Run it to the end: `answers` by (line, device) or device, silence for all others; what was asked, in order."""
    asked = []
    while (knock := search.wanted) is not None:
        asked.append((knock.line, knock.device, knock.timeout))
        said = answers.get((knock.line, knock.device), answers.get(knock.device, SILENCE))
        said = said.pop(0) if isinstance(said, list) else said
        search.heard(said, late=knock.device in (late or set()) and not knock.again)
    return asked


def network(devices, **kwargs) -> Search:
    """A search on a line without a speed."""
    return Search([None], list(devices), 0.3, **({"longest": 1.0} | kwargs))


@pytest.mark.parametrize("code", sorted(set(EXCEPTIONS) - {0x04, 0x0A, 0x0B}))
def test_any_answer_proves_a_device(code: int):
    """A refusal comes from somebody, as a value does."""
    search = network(range(1, 4))
    searching(search, {2: ExceptionAnswer(code), 3: Answer((7,), 0.02)})
    assert [found.device for found in search.found] == [2, 3]
    assert search.found[1].took == 0.02
    assert search.silent == {(None, 1)}


@pytest.mark.parametrize("code", [0x0A, 0x0B])
def test_a_gateways_word_that_nobody_is_there_counts_as_silence(code: int):
    """0x0A and 0x0B come from the gateway itself."""
    search = network([1])
    searching(search, {1: ExceptionAnswer(code)})
    assert (search.found, search.silent) == ([], {(None, 1)})


def test_device_failure_is_told_apart():
    """Some gateways say 0x04 for ids that are not there, so it proves nothing."""
    search = network([1, 2])
    searching(search, {1: ExceptionAnswer(0x04), 2: Answer((0,), 0.01)})
    assert search.failing == [(None, 1)]
    assert [found.device for found in search.found] == [2]


def test_a_late_answer_makes_the_search_ask_again_with_more_patience():
    """What the bus discards before the request to 3 may be the answer of 1 or 2: both are asked once more."""
    search = network([1, 2, 3, 4])
    asked = searching(search, {2: [SILENCE, Answer((1,), 0.7)], 3: Answer((1,), 0.01)}, late={3})
    assert [device for _, device, _ in asked] == [1, 2, 3, 1, 2, 4]
    assert [timeout for _, _, timeout in asked] == [0.3, 0.3, 0.3, 1.0, 1.0, 1.0]
    assert sorted(found.device for found in search.found) == [2, 3]
    assert search.silent == {(None, 1), (None, 4)}


def test_the_last_of_a_round_is_given_more_time():
    """There is no request after it during which a late answer would be noticed."""
    search = Search([FAST, SLOW], [5, 6, 50], 0.3, longest=1.0)
    asked = searching(search, {})
    assert [(line, device) for line, device, timeout in asked if timeout == 1.0] == [
        (FAST, 6), (SLOW, 6), (FAST, 50), (SLOW, 50),
    ]  # fmt: skip


def test_what_is_no_answer_is_asked_about_once_more():
    """A late answer of another one, mostly; if it stays so there are two devices of one id, or noise."""
    search = network([5, 6])
    asked = searching(search, {6: BadAnswer("babble")})
    assert [device for _, device, _ in asked] == [5, 6, 5, 6]
    assert search.garbled == [(None, 6)]
    assert search.found == []


def test_likely_ids_are_tried_at_every_speed_before_the_others():
    """So that the usual line is found in minutes."""
    search = Search([FAST, SLOW], range(1, 21), 0.3, longest=1.0)
    asked = [(line, device) for line, device, _ in searching(search, {})]
    assert asked[:20] == [(line, device) for line in (FAST, SLOW) for device in LIKELY]
    assert len(set(asked)) == len(asked) == 40


def test_where_somebody_answers_the_search_stays():
    """A line has one speed for all its meters."""
    search = Search([FAST, SLOW, EVEN], [3, 100], 0.3, longest=1.0)
    asked = searching(search, {(SLOW, 3): Answer((1,), 0.02), (SLOW, 100): Answer((1,), 0.02)})
    assert [(line, device) for line, device, _ in asked] == [(FAST, 3), (SLOW, 3), (SLOW, 100)]
    assert [(found.line, found.device) for found in search.found] == [(SLOW, 3), (SLOW, 100)]


def test_a_thorough_search_goes_on_and_asks_more_of_the_silent():
    """Some devices are silent at a register that they do not have; at an id that has answered no other knock is needed."""
    search = Search([FAST, SLOW], [3], 1.0, longest=1.0, knocks=MORE_KNOCKS, everywhere=True)
    asked = searching(search, {(FAST, 3): [SILENCE, Answer((1,), 0.02)]})
    assert [line for line, _, _ in asked] == [FAST, FAST, SLOW, SLOW, SLOW]
    assert search.silent == {(SLOW, 3)}


def test_settings_that_the_port_cannot_have_are_left_out():
    """And told; the others are tried all the same."""
    search = Search([EVEN, SLOW], [1, 2, 30], 0.3, longest=1.0)
    assert search.wanted.line == EVEN
    search.refused()
    assert [(line, device) for line, device, _ in searching(search, {})] == [(SLOW, 1), (SLOW, 2), (SLOW, 30)]
    assert search.unusable == [EVEN]


def test_a_device_that_answers_to_every_id_is_noticed():
    """Many TCP meters do not look at the id."""
    search = network(range(1, 248))
    searching(search, dict.fromkeys(range(1, 248), Answer((1,), 0.01)))
    assert search.everybody
    few = network(range(1, 9))
    searching(few, dict.fromkeys(range(1, 9), Answer((1,), 0.01)))
    assert not few.everybody


def test_the_time_left_follows_what_requests_take():
    """And what a silence costs, the more so the less was asked: the first ids are those that answer, and quickly."""
    search = network(range(1, 101))
    assert search.seconds_left(0.0, 0.4) == pytest.approx(40)
    for _ in range(10):
        assert search.wanted
        search.heard(SILENCE)
    assert (search.asked, search.left, search.total) == (10, 90, 100)
    assert search.seconds_left(4.0, 0.4) == pytest.approx(36)
    assert search.seconds_left(0.0, 0.3) == pytest.approx(9), "ten answers at once do not mean that nobody is silent"


def test_a_knock_is_one_small_read():
    """One register, with the timeout of the search."""
    request = network([7, 8]).wanted.request(0.1)
    assert (request.device, request.timeout, request.gap) == (7, 0.3, 0.1)
    assert request.block.places == (Place("holding", 0, 1),)


def test_the_likeliest_settings_are_those_that_meters_leave_the_factory_with():
    """The profiles' word counts, then what is usual; each setting once."""
    lines = likely_lines(profile.load(name) for name in profile.names())
    assert {(line.baudrate, line.parity) for line in lines[:3]} == {(19_200, "E"), (9600, "N"), (9600, "E")}
    assert len(set(lines)) == len(lines)
    hints = [profile.load("kamstrup-multical-603")] * 9
    assert likely_lines(hints)[0] == Serial(19_200, "E")


def test_the_operators_choice_is_tried_in_the_likely_order():
    """Also what is not likely, last."""
    likely = likely_lines([])
    assert lines_of([1200, 9600], ["E", "N", "O"], likely)[:2] == [Serial(9600, "N"), Serial(9600, "E")]
    assert set(lines_of([1200], [], likely)) == {Serial(1200, "N"), Serial(1200, "E")}
    assert lines_of([1200], ["O"], likely) == [Serial(1200, "O")]
    assert in_words(Serial(1200, "E", 2)) == "1200 baud 8E2"


def test_an_ascii_line_is_tried_with_seven_bits_and_with_eight():
    """What the standard wants, what adapters and many meters have, and what the standard wants where there is no parity."""
    lines = likely_lines([], ascii=True)
    assert [in_words(line) for line in lines[:8]] == [
        "9600 baud 7E1", "9600 baud 8N1", "19200 baud 7E1", "19200 baud 8N1",
        "9600 baud 7N2", "19200 baud 7N2", "9600 baud 7O1", "9600 baud 8E1",
    ]  # fmt: skip
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize(
    ("choice", "lines"),
    [
        ({"baudrates": [1200]}, ["1200 baud 7E1", "1200 baud 8N1", "1200 baud 7N2", "1200 baud 7O1", "1200 baud 8E1"]),
        ({"baudrates": [9600], "parities": ["N"]}, ["9600 baud 8N1", "9600 baud 7N2"]),
        ({"parities": ["N"], "bytesize": 8}, ["9600 baud 8N1", "19200 baud 8N1"]),
        ({"baudrates": [300], "parities": ["N"], "bytesize": 7, "stopbits": 1}, ["300 baud 7N1"]),
    ],
)
def test_on_an_ascii_line_what_is_said_holds_and_the_rest_is_tried(choice: dict[str, Any], lines: list[str]):
    """Whoever knows one thing of his line need not know all of it."""
    said = {"baudrates": [], "parities": []} | choice
    likely = likely_lines([], ascii=True)
    tried = lines_of(likely=likely if said["baudrates"] else likely[:8], **said)
    assert [in_words(line) for line in tried] == lines


@pytest.mark.parametrize(
    ("text", "ids"), [("5", [5]), ("1-3,7", [1, 2, 3, 7]), (" 3 , 2-4", [3, 2, 4]), ("247", [247])]
)
def test_ids_are_numbers_and_ranges(text: str, ids: list[int]):
    """In the order in which they are said, each once."""
    assert ids_of(text, range(1, 248)) == ids


@pytest.mark.parametrize("text", ["", "0", "248", "3-1", "a", "1-", "-1", "1,,2", "1-300", "٣", "1-2-3", "1.5"])
def test_ids_that_make_no_sense_are_told_with_what_is_allowed(text: str):
    """As a ValueError."""
    with pytest.raises(ValueError, match=r"must (be an id from 1 to 247|begin with the smaller)"):
        ids_of(text, range(1, 248))
