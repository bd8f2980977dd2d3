"""`simulate enerkey` as an operator runs it: a process, its lines, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from buffer.model import Accepted, Refused, Unknown
from gateway.enerkey.client import EnerkeyClient
from gateway.enerkey.contract import Contract
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-m", "gateway", "simulate", "enerkey", "--port", "0"]
BODY = b'[{"timestamp":"2026-03-02T10:00:00Z","value":1.5},{"timestamp":"2026-03-02T11:00:00Z","value":2}]'


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def client_of(line: str) -> EnerkeyClient:
    return EnerkeyClient(re.search(r"http://[0-9.]+:[0-9]+", line)[0], Contract(), read_timeout=60)


def ended(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """What it still says after the signal; it must end well."""
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    return out


def test_it_says_where_it_listens_what_was_pushed_and_at_the_end_how_much():
    with running() as process:
        line = process.stdout.readline()
        assert re.fullmatch(r"EnerKey simulator listening on http://127\.0\.0\.1:\d+ \(any key.*\n", line)
        client = client_of(line)
        assert client.push("consumption", 7, BODY, "k").fate == Accepted(200)
        assert process.stdout.readline() == (
            "meter 7: consumption, 2 items, 2026-03-02 10:00Z to 2026-03-02 11:00Z, 3.5\n"
        )
        assert client.push("cumulative", 8, BODY, "k").fate == Accepted(200)
        assert process.stdout.readline() == ("meter 8: cumulative, 2 items, 2026-03-02 10:00Z to 2026-03-02 11:00Z\n")
        client.close()
        assert ended(process, signal.SIGINT) == "2 pushes with 4 items of 2 meters; 2 requests in 24 h\n"


def test_with_json_every_line_is_a_document():
    with running("--json") as process:
        line = process.stdout.readline()
        assert json.loads(line)["event"] == "listening"
        client = client_of(line)
        client.push("consumption", 7, BODY, "k")
        client.close()
        assert json.loads(process.stdout.readline()) == {
            "event": "push",
            "meter": 7,
            "family": "consumption",
            "items": [["2026-03-02T10:00:00+00:00", "1.500000"], ["2026-03-02T11:00:00+00:00", "2.000000"]],
        }
        assert json.loads(ended(process, signal.SIGTERM)) == {
            "event": "summary", "pushes": 1, "items": 2, "meters": 1, "requests": 1,
        }  # fmt: skip


def test_keys_meters_and_the_file_are_as_asked(tmp_path):
    asked = ("--key", "good", "--meter", "7", "--db", str(tmp_path / "enerkey.db"))
    for again in (1, 2):
        with running(*asked) as process:
            client = client_of(process.stdout.readline())
            assert client.push("consumption", 7, BODY, "good").fate == Accepted(200)
            bad = [client.push("consumption", 7, BODY, "bad").fate, client.push("consumption", 8, BODY, "good").fate]
            assert [fate.why for fate in bad if isinstance(fate, Refused)] == ["key", "meter"]
            client.close()
            assert f"\n{again} pushes" in "\n" + ended(process, signal.SIGINT).splitlines(keepends=True)[-1]


def test_faults_come_when_asked_for():
    with running("--fault", "1:lost-answer") as process:
        client = client_of(process.stdout.readline())
        assert isinstance(client.push("consumption", 7, BODY, "k").fate, Unknown)
        client.close()
        assert "1 pushes" in ended(process, signal.SIGINT)


def test_what_no_public_page_tells_is_as_asked():
    """The second value of an hour, precision, lag and the burst limit."""
    with running("--same-hour", "first-wins", "--decimals", "0", "--lag", "0", "--burst", "3") as process:
        client = client_of(process.stdout.readline())
        assert [client.push("consumption", 7, BODY, "k").fate for _ in range(2)] == [Accepted(200)] * 2
        hour = 494_074  # 2026-05-13T10Z: the year before it holds the hours of BODY
        assert sorted(client.hourly_values(7, hour - 8760, hour, "k").values.values()) == [2_000_000, 2_000_000]
        until(
            lambda: getattr(client.push("consumption", 7, BODY, "k").fate, "limited", False)
        )  # of 10 s: a busy machine
        client.close()
        ended(process, signal.SIGINT)
    with running("--lag", "3600") as process:
        client = client_of(process.stdout.readline())
        client.push("consumption", 7, BODY, "k")
        assert client.hourly_values(7, hour - 8760, hour, "k").values == {}
        client.close()
        ended(process, signal.SIGINT)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--fault", "often:503"), 2, "RATE:KIND"),
        (("--fault", "0.1:fire"), 2, "RATE:KIND"),
        (("--fault", "2:503"), 2, "RATE:KIND"),
        (("--lag", "-1"), 2, "seconds from 0"),
        (("--lag", "nan"), 2, "seconds from 0"),
        (("--port", "70000"), 2, "65535"),
        (("--host", "192.0.2.1"), 1, "cannot listen on 192.0.2.1"),
        (("--db", "/nowhere/at/all.db"), 73, "/nowhere/at/all.db"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(arguments: tuple[str, ...], code: int, words: str):
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
