"""What commands print."""

from __future__ import annotations

import json
import sys

import pytest

from gateway import terminal

HEADER = ("meter", "last reading", "held")
ROWS = [("main", "12 kWh", "0"), ("water", "7 m3", "12")]


def test_columns_are_as_wide_as_their_content(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert terminal.table(HEADER, ROWS, right=(2,)) == (
        "meter  last reading  held\nmain   12 kWh           0\nwater  7 m3            12"
    )


def test_on_a_narrow_terminal_each_row_is_a_block(monkeypatch):
    monkeypatch.setenv("COLUMNS", "25")
    assert terminal.fits(HEADER, ROWS)
    monkeypatch.setenv("COLUMNS", "24")
    assert not terminal.fits(HEADER, ROWS)
    shown = terminal.table(HEADER, ROWS)
    assert shown.splitlines()[:4] == ["main", "  last reading: 12 kWh", "  held: 0", "water"]
    assert terminal.table(HEADER, [("main", "", "0")]) == "main\n  held: 0", "nothing is said of an empty cell"


def test_long_lines_break_between_words_and_go_on_indented(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    text = "1. boiler: no answer from tcp://127.0.0.1:502/a-very-long-name\n\n  2 x pulse-1: not a number"
    assert terminal.wrapped(text, "   ") == (
        "1. boiler: no answer from\n   tcp://127.0.0.1:502/a-very-long-name\n\n  2 x pulse-1: not a number"
    )


def test_lines_into_a_pipe_are_never_broken(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert terminal.wrapped("word " * 500 + "end", "  ") == "word " * 500 + "end"


def test_a_pipe_has_no_width(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert terminal.width() > 1000


@pytest.mark.parametrize(
    ("tty", "environ", "coloured"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),  # no-color.org: when present and not empty
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colour_only_where_it_is_wanted(monkeypatch, tty: bool, environ: dict[str, str], coloured: bool):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: tty)
    assert terminal.coloured("FAIL", "FAIL") == ("\033[31mFAIL\033[0m" if coloured else "FAIL")


def test_what_a_device_sent_cannot_steer_the_terminal(capsys):
    """Escape sequences, also the one-byte kind, become question marks; our colours and other scripts stay."""
    terminal.show("clear\033[2J bell\a title\033]0;x\x07 csi\x9b1m \033[31mFAIL\033[0m m³ 水\n\tmore")
    assert capsys.readouterr().out == "clear?[2J bell? title?]0;x? csi?1m \033[31mFAIL\033[0m m³ 水\n\tmore\n"


def test_a_document_is_one_line_of_json(capsys):
    terminal.document({"unit": "m³", "at": None})
    assert json.loads(capsys.readouterr().out) == {"unit": "m³", "at": None}


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-3, "0 s"), (59, "59 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_spans_are_told_in_the_unit_that_a_person_would_use(seconds: float, shown: str):
    assert terminal.ago(seconds) == shown


def test_a_screen_is_drawn_in_the_place_of_the_one_before(capsys, monkeypatch):
    """As many lines up as were drawn; what does not fit is counted, and no line is wider than the terminal."""
    monkeypatch.setenv("COLUMNS", "10")
    monkeypatch.setenv("LINES", "6")
    screen = terminal.Screen()
    screen.draw("one\ntwo")
    screen.draw("1234567890123\n2\n3\n4\n5\n6")
    first, second = capsys.readouterr().out.split("\033[2F\033[J")
    assert first == "one\ntwo\n"
    assert second.splitlines() == ["1234567890", "2", "3", "... 3 more"]
    assert not screen.redraws
