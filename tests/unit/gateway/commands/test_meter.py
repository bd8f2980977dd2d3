"""`meter`: a person's word reaches the buffer, with the service or without it, and is refused in one sentence."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pytest

from tests.fakes.failing_disk import EIO, FromTheSyncOn, failing_disk
from tests.fakes.site import Site

SWAP = datetime(2026, 11, 2, 10, 30, tzinfo=UTC)
SAID = ("--at", "2026-11-02T10:30Z", "--old-final", "1234.5", "--new-initial", "37")


def epochs(site: Site) -> list[tuple]:
    find = "SELECT old_final, new_initial, author FROM epoch"
    return [tuple(row) for row in site.write(lambda db: db.execute(find).fetchall())]


@pytest.fixture
def swapped(site: Site) -> Site:
    """The chiller's meter said 1234 before and 38 after."""
    site.make()
    site.read("chiller", "1234", SWAP - timedelta(minutes=1))
    site.read("chiller", "38", SWAP + timedelta(minutes=1))
    return site


def test_without_a_service_it_is_written_into_the_buffer(swapped: Site, meter_gateway, monkeypatch):
    """The person behind sudo is the author; the answer says what was understood."""
    monkeypatch.setenv("SUDO_USER", "ada")
    done = meter_gateway("meter", "replaced", "chiller", *SAID)
    assert (done.code, done.err) == (0, "")
    assert " ".join(done.out.split()) == (
        "chiller: meter replaced at 2026-11-02 10:30:00Z: the old one stood at 1234.5, the new one began at 37"
    )
    assert epochs(swapped) == [(1_234_500_000, 37_000_000, "ada")]


def test_the_running_service_is_asked_to_do_it(swapped: Site, meter_gateway):
    """It holds the database; the answer is the same."""
    with swapped.running():
        done = meter_gateway("meter", "replaced", "chiller", *SAID, "--json")
    assert json.loads(done.out)["meter"] == "chiller"
    assert [row[:2] for row in epochs(swapped)] == [(1_234_500_000, 37_000_000)]


@pytest.mark.parametrize("running", [False, True])
def test_what_the_readings_contradict_is_refused(swapped: Site, meter_gateway, running):
    """Exit code 1 and both numbers; nothing is written."""
    wrong = ("--at", "2026-11-02T10:30Z", "--old-final", "1233", "--new-initial", "37")
    if running:
        with swapped.running():
            done = meter_gateway("meter", "replaced", "chiller", *wrong)
    else:
        done = meter_gateway("meter", "replaced", "chiller", *wrong)
    assert done.code == 1
    assert "the last reading was 1234 (2026-11-02 10:29:00Z), more than the final 1233" in done.err
    assert epochs(swapped) == []


def test_values_may_be_given_in_the_unit_of_the_display(swapped: Site, meter_gateway):
    """A display in MWh, a meter in kWh."""
    said = ("--at", "2026-11-02T10:30Z", "--old-final", "1.2345", "--new-initial", "0.037", "--unit", "MWh")
    assert meter_gateway("meter", "replaced", "chiller", *said).code == 0
    assert [row[:2] for row in epochs(swapped)] == [(1_234_500_000, 37_000_000)]
    assert "l cannot become kWh" in meter_gateway("meter", "replaced", "chiller", *said[:-1], "l").err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("replaced", "chilller", *SAID), 1, 'did you mean "chiller"?'),
        (("replaced", "chiller", "--at", "yesterday"), 2, '"yesterday" is not an ISO date or time'),
        (("replaced", "chiller", *SAID[:-1], "-3"), 2, "--new-initial"),
        (("retire", "chiller", "--at", "2026-11-02T10:30Z", "--final", "nan"), 2, '"nan" must be a number'),
        (("replaced", "chiller"), 2, "--at"),
        ((), 2, "WHAT"),
        (("estimate", "chiller", "--from", "2026-11-02T11:10Z", "--to", "2026-11-02T12:00Z", "--total", "3"), 1, "full hours"),
    ],
)  # fmt: skip
def test_wrong_words_are_answered_in_one_line(swapped: Site, meter_gateway, words, code, said):
    """Nothing is written, and the line says what is allowed."""
    done = meter_gateway("meter", *words)
    assert (done.code, done.out) == (code, "")
    assert said in " ".join(done.err.split())
    assert epochs(swapped) == []


@pytest.mark.parametrize("running", [False, True])
def test_when_the_disk_fails_nobody_is_told_that_nothing_was_recorded(swapped: Site, meter_gateway, tmp_path, running):
    """Exit code 74 and what to do: a commit that fails may be there all the same, and said twice it would count twice."""
    with failing_disk(tmp_path) as disk, swapped.running() if running else nullcontext():
        disk.fail(FromTheSyncOn(disk), EIO)
        done = meter_gateway("meter", "replaced", "chiller", *SAID)
        assert disk.failed
        disk.heal()
    assert done.code == 74
    assert "Traceback" not in done.err
    words = "the disk failed (disk I/O error), and nobody knows whether it was recorded: look at `meter-gateway hours chiller`"
    assert words in " ".join(done.err.split())


def test_parked_energy_is_shown_until_somebody_books_it(swapped: Site, meter_gateway):
    """`status` says how; one command, and it is an adjustment."""
    insert = "INSERT INTO parked (meter, hour, amount, reason, at) VALUES (?, 480000, 1500000, 'gap', 0)"
    number = swapped.number("chiller")
    swapped.write(lambda db: db.execute(insert, (number,)))
    with swapped.running():
        shown = " ".join(meter_gateway("status").out.split())
        assert "chiller: 1.5 kWh are parked: meter-gateway meter book chiller, or drop" in shown
        assert meter_gateway("meter", "book", "chiller").code == 0
        assert "parked" not in meter_gateway("status").out
        assert meter_gateway("meter", "drop", "chiller").code == 1
