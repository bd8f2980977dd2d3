"""The demo as a person runs it: a process that shows hours beside the truth, and ends as its last line says."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from gateway.simulator.broker import find_mosquitto

COMMAND = [sys.executable, "-m", "gateway", "demo"]
METERS = 8
WRONG = r'accepted, [1-9]\d* wrong|"wrong": [1-9]'  # as its last line says it
FAST, PATIENT = 600, 60  # times as fast: an hour in six seconds, or in a minute
ENDS_WITHIN = 60  # s, on a machine that does other things too
ENDS_PATIENTLY_WITHIN = 200  # s, the same

BROKERS = [
    pytest.param("mosquitto", marks=pytest.mark.skipif(not find_mosquitto(), reason="no mosquitto here")),
    pytest.param("amqtt", marks=pytest.mark.skipif(not find_spec("amqtt"), reason="no amqtt here")),
]


def demo(*arguments: str, within: float = ENDS_WITHIN, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True, text=True, timeout=within, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def an_hour(*arguments: str, directory: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """How a fast demo ends after an hour of every meter. Where an hour is wrong, how one ends that is ten times as slow.

    A machine that stands still between a register and its time for a tenth of a second has moved it by a minute there.
    """
    words = ["--hours", "1", "--exit", *arguments]
    if directory:
        words += ["--dir", str(directory)]
    done = demo(*words, "--scale", str(FAST), **environment)
    if not re.search(WRONG, done.stdout):
        return done
    if directory:
        shutil.rmtree(directory)
    return demo(*words, "--scale", str(PATIENT), within=ENDS_PATIENTLY_WITHIN, **environment)


@pytest.mark.parametrize("broker", BROKERS)
def test_an_hour_of_every_meter_arrives_and_is_right(broker: str, tmp_path: Path):
    done = an_hour("--broker", broker, directory=tmp_path / "demo", COLUMNS="80")
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert lines[-1] == f"demo: {METERS} meter-hours accepted, 0 wrong"
    assert f"{broker}, MQTT {'5' if broker == 'mosquitto' else '3.1.1'}" in done.stdout
    rows = [line for line in lines if re.match(r"\d\d:00 ", line)]
    assert len(rows) == METERS
    assert all(re.fullmatch(r"\d\d:00 \S+ +[\d.]+ +[\d.]+ ok +(kWh|m3) +(consumption|cumulative)", row) for row in rows)
    assert {row.split()[-1] for row in rows} == {"consumption", "cumulative"}
    assert (tmp_path / "demo" / "buffer.db").exists()
    assert "Traceback" not in (tmp_path / "demo" / "gateway.log").read_text()


def test_with_json_every_line_is_a_document():
    done = an_hour("--json")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told[-1] == {"event": "summary", "hours": METERS, "wrong": 0}
    assert [each["event"] for each in told] == ["started", *["hour"] * METERS, "summary"]
    assert not Path(told[0]["config"]).exists()  # a temporary place is left as it was found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_what_came_and_leaves_nothing_behind(number: signal.Signals):
    with subprocess.Popen([*COMMAND, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        process.send_signal(number)
        out, errors = process.communicate(timeout=ENDS_WITHIN)
    assert (process.returncode, errors) == (0, "")
    assert json.loads(out) == {"event": "summary", "hours": 0, "wrong": 0}
    assert not Path(started["config"]).parent.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--hours", "0"), 2, "1 to 8760"),
        (("--hours", "many"), 2, "1 to 8760"),
        (("--scale", "0"), 2, "1 to 3600"),
        (("--scale", "nan"), 2, "1 to 3600"),
        (("--broker", "emqx"), 2, "mosquitto"),
        (("--dir", "/proc/nowhere"), 73, "/proc/nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(arguments: tuple[str, ...], code: int, words: str):
    done = demo(*arguments)
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (code, "", False)
    assert words in done.stderr


def test_a_directory_with_something_in_it_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").touch()
    done = demo("--dir", str(tmp_path))
    assert done.returncode == 73
    assert "not empty" in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]
