"""What `--watch` says of a value: what has changed, and how fast it counts."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from gateway.clock import ScaledClock
from gateway.commands.watching import WINDOW, Change, Changes, table
from gateway.simulator.building import bus, devices_on_the_bus
from gateway.simulator.modbus import ModbusSimulator
from tests.fakes.command_line import INTERRUPTIBLE, environment
from tests.fakes.mosquitto import mosquitto
from tests.fakes.site import Site

START = datetime(2026, 11, 26, 10, tzinfo=UTC)


def row(seconds: float, value: str | None, *, counts: bool = True) -> dict:
    """A look at one meter so many seconds after the start."""
    at = (START + timedelta(seconds=seconds)).isoformat()
    return {"name": "main", "at": at, "value": value, "unit": "kWh", "problem": "", "counts": counts}


def seen(*looks: tuple[float, str | None]) -> list[Change]:
    """What was said of each look."""
    changes = Changes()
    return [changes.of(row(*look)) for look in looks]


def test_a_counter_shows_its_change_and_its_rate_per_hour():
    """From the second look on; exactly."""
    assert seen((0, "100.5"), (60, "101"), (120, "102")) == [
        Change(None, None),
        Change(Decimal("0.5"), Decimal(30)),
        Change(Decimal(1), Decimal(45)),
    ]


def test_a_reading_that_was_there_already_changes_nothing():
    """The service polls when it polls: the rate stays, the change is not told twice."""
    assert seen((0, "100"), (60, "101"), (60, "101"))[2] == Change(None, Decimal(60))


def test_a_rate_is_that_of_the_last_minutes():
    """A load that was switched on long ago must not be hidden by the night before."""
    looks = [(minute * 60.0, str(100 + max(0, minute - 30))) for minute in range(41)]
    assert seen(*looks)[-1].rate == 60
    changes = Changes()
    for look in looks:
        changes.of(row(*look))
    assert len(changes._seen["main"]) <= WINDOW.total_seconds() / 60 + 2


def test_looks_far_apart_still_have_a_rate():
    """Every hour, say: two looks are always kept."""
    assert seen((0, "100"), (3600, "112"), (7200, "130"))[-1].rate == 18


def test_what_is_no_counter_has_no_rate():
    """A power changes, and counts nothing; a look that failed says nothing and loses nothing."""
    changes = Changes()
    changes.of(row(0, "900", counts=False))
    assert changes.of(row(10, "1000", counts=False)) == Change(Decimal(100), None)
    assert seen((0, "1"), (10, None), (20, "2"))[1:] == [Change(None, None), Change(Decimal(1), Decimal(180))]


@pytest.fixture
def line() -> Iterator[ModbusSimulator]:
    """The site's Modbus line."""
    simulator = ModbusSimulator(devices_on_the_bus(bus(2, push="off")), ScaledClock(START, 1.0))
    yield simulator
    simulator.stop()


def test_what_is_wrong_with_a_meter_does_not_take_the_table_apart(monkeypatch):
    """It stands below the table, which keeps its columns."""
    monkeypatch.setenv("COLUMNS", "80")
    good, bad = row(0, "7.5"), row(0, None) | {"name": "lab", "problem": "bad answer: " + "00 " * 30}
    lines = table([(each, Change(None, None)) for each in (good, bad)], START, 2).splitlines()
    assert lines[1].split() == ["meter", "value", "change", "rate", "age"]
    assert [line.split()[:2] for line in lines[2:4]] == [["main", "7.5"], ["lab", "FAIL"]]
    assert lines[4].startswith("lab: FAIL bad answer: 00 00")


def test_what_is_wrong_with_several_meters_is_told_once_below_the_table():
    """With the names of all of them: a line that is down is one sentence."""
    down = [row(0, None) | {"name": name, "problem": "no connection"} for name in ("lab", "heat")]
    other = row(0, None) | {"name": "main", "problem": "no answer"}
    lines = table([(each, Change(None, None)) for each in (down[0], other, down[1])], START, 2).splitlines()
    assert lines[5:] == ["lab, heat: FAIL no connection", "main: FAIL no answer"]


def test_configured_meters_are_watched_on_a_terminal_in_one_place(tmp_path: Path, line: ModbusSimulator):
    """The same table drawn again over the one before; Ctrl-C ends it well. One connection serves all looks."""
    site = Site(tmp_path, bus=line.url)
    terminal, theirs = pty.openpty()
    # half a second between two looks: the interrupt comes between them, not into a half-drawn table
    words = ("read", "chiller", "main-electricity", "--watch", "0.5", "-c", site.config)
    with subprocess.Popen([*INTERRUPTIBLE, *words], stdout=theirs, stderr=theirs, env=environment()) as process:
        os.close(theirs)
        shown = ""
        while len(re.findall(r"main-electricity +\d+\.\d kWh +\+.*\n", shown)) < 2:
            shown += os.read(terminal, 4096).decode()
        process.send_signal(signal.SIGINT)
        process.wait(60)
    with contextlib.suppress(OSError):  # nothing more comes
        while more := os.read(terminal, 4096):
            shown += more.decode()
    os.close(terminal)
    assert process.returncode == 0
    assert "every 0.5 s; Ctrl-C ends it" in shown
    assert shown.endswith("\r\n\r\n"), 'the prompt does not stand behind the "^C"'
    assert re.search(r"meter +value +change +rate +age\r\n", shown)
    assert "\033[4F\033[J" in shown
    assert "kWh/h" in shown


def test_what_the_service_holds_is_watched_through_it(tmp_path: Path, line: ModbusSimulator):
    """It is asked again and again; the line is not opened a second time."""
    site = Site(tmp_path, bus=line.url)
    site.make()
    with site.running() as gateway:
        driver = gateway.drivers["main"]
        driver.poll(gateway.clock.now())
        before = line.requests
        words = ("read", "chiller", "--watch", "0.1", "--json", "-c", site.config)
        with subprocess.Popen(
            [*INTERRUPTIBLE, *words], stdout=subprocess.PIPE, text=True, env=environment()
        ) as process:
            assert process.stdout
            lines = [process.stdout.readline() for _ in range(3)]
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        assert line.requests == before
        driver.close()
    assert process.returncode == 0
    assert all('"from": "service"' in each and '"meter": "chiller"' in each for each in lines)


def test_a_meter_at_a_broker_is_heard_between_two_looks(tmp_path: Path):
    """Nothing is waited for: what comes stands in the next look, with its change."""
    with mosquitto(tmp_path) as broker:
        site = Site(tmp_path, broker=broker.url)
        words = ("read", "cold-water", "--watch", "0.1", "--json", "-c", site.config)
        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        with subprocess.Popen(
            [*INTERRUPTIBLE, *words], stdout=subprocess.PIPE, text=True, env=environment()
        ) as process:
            assert process.stdout
            seen, total = [json.loads(process.stdout.readline())["meters"][0]], 5
            while seen[-1]["change"] is None:
                client.publish("site/water", json.dumps({"total": total}), qos=1)
                total += 1
                seen.append(json.loads(process.stdout.readline())["meters"][0])
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        client.disconnect()
        client.loop_stop()
    assert (seen[0]["value"], seen[0]["problem"]) == (None, "nothing heard")
    assert Decimal(seen[-1]["change"]) >= 1
    assert process.returncode == 0
