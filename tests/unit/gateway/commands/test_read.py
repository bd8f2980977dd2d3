"""`read`: from the wire while nobody runs, else from the service, whose bus is never opened."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.clock import ScaledClock
from gateway.simulator.building import bus, devices_on_the_bus
from gateway.simulator.modbus import ModbusSimulator
from tests.fakes.command_line import INTERRUPTIBLE, command_bound_by_permissions, environment
from tests.fakes.site import Site

THEN = datetime(2026, 11, 26, 10, tzinfo=UTC)  # of the meters: what they have counted, and may be, depends on the year


@pytest.fixture
def line() -> Iterator[ModbusSimulator]:
    """A Modbus line with the site's two meters."""
    simulator = ModbusSimulator(devices_on_the_bus(bus(2, push="off")), ScaledClock(THEN, 1.0))
    yield simulator
    simulator.stop()


@pytest.fixture
def site(tmp_path: Path, line: ModbusSimulator) -> Site:
    """A site with its Modbus line, and no broker."""
    return Site(tmp_path, bus=line.url)


def rows(out: str) -> dict[str, dict]:
    """Each meter's row of the document."""
    return {row["meter"]: row for row in json.loads(out)["meters"]}


def test_every_meter_with_value_place_and_words(meter_gateway):
    """Exit code 0 when each gave a value; what EnerKey or the log would hide is there: the raw words."""
    done = meter_gateway("read", "chiller", "main-electricity")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert re.fullmatch(r"chiller: [\d.]+ kWh", lines[0])
    assert lines[1].startswith("  main, device 2, energy_import_total (holding 52), ")
    assert len(lines[2].split()) == 2
    assert all(len(word) == 4 and int(word, 16) >= 0 for word in lines[2].split())
    assert lines[3].startswith("main-electricity: ")


def test_as_json_with_where_it_comes_from(meter_gateway):
    """`from` is the wire; instants are ISO 8601, values are texts; what is not known is null."""
    done = meter_gateway("read", "chiller", "--json")
    assert json.loads(done.out)["from"] == "wire"
    row = rows(done.out)["chiller"]
    assert (row["connection"], row["unit"], row["problem"]) == ("main", "kWh", None)
    assert isinstance(row["value"], str)
    assert row["at"][10] == "T"


def test_one_meter_that_fails_is_told_in_its_row(meter_gateway):
    """Exit code 1; the others are read all the same, and no log line stands between the rows."""
    done = meter_gateway("read", "--wait", "0.2")
    assert (done.code, done.err) == (1, "")
    assert "cold-water: FAIL nothing heard\n  hall, site/water, total\n" in done.out
    assert done.out.count(" kWh\n") == 2


def test_a_line_that_cannot_be_reached_is_told_in_its_row(tmp_path: Path, meter_gateway):
    """With the address and the system's own word."""
    refused = Site(tmp_path)
    done = meter_gateway("read", "chiller", "-c", str(refused.config))
    assert done.code == 1
    assert done.out.startswith("chiller: FAIL no connection: 127.0.0.1:1: Connection refused")


def test_what_the_service_holds_is_not_opened(site: Site, line: ModbusSimulator, meter_gateway):
    """The service is asked for what it read last: a second master would disturb the first."""
    site.make()
    with site.running() as gateway:
        driver = gateway.drivers["main"]
        assert meter_gateway("read", "chiller").out.startswith("chiller: FAIL not read yet\n")
        driver.poll(gateway.clock.now())
        requests = line.requests
        done = meter_gateway("read", "chiller", "--json")
        assert line.requests == requests
        driver.close()
    assert done.code == 0
    assert json.loads(done.out)["from"] == "service"
    assert rows(done.out)["chiller"]["at"][10] == "T"


def test_a_service_that_does_not_answer_is_not_passed_by(site: Site, line: ModbusSimulator, meter_gateway):
    """Exit code 69: better no value than a second master."""
    site.make()
    with site.running():
        (site.data / "control.sock").unlink()
        done = meter_gateway("read", "chiller")
    assert (done.code, done.out, line.requests) == (69, "", 0)
    assert done.err.startswith(
        f"meter-gateway: process {os.getpid()} holds the meters' connections but does not answer"
    )


def test_who_may_not_see_whether_a_service_runs_opens_nothing(site: Site, line: ModbusSimulator):
    """Exit code 77: an ordinary user beside a service whose data is its own."""
    site.make()
    site.data.chmod(0o000)
    try:
        done = command_bound_by_permissions("read", "chiller", "-c", site.config)
        status = command_bound_by_permissions("status", "-c", site.config)
    finally:
        site.data.chmod(0o700)
    assert (done.code, line.requests) == (77, 0)
    assert done.err == (
        f"meter-gateway: {site.data}/buffer.lock: permission denied;"
        " try again with sudo, or as the user that the gateway runs as\n"
    )
    assert status == done


def test_a_meter_that_is_not_there_is_named_with_the_nearest(line: ModbusSimulator, meter_gateway):
    """Exit code 1, before anything is opened."""
    done = meter_gateway("read", "chiller", "main-electricty")
    assert (done.code, done.out, line.requests) == (1, "", 0)
    assert 'no meter "main-electricty" in the configuration; did you mean "main-electricity"?' in done.err


@pytest.mark.parametrize("span", ["nan", "inf", "-1", "soon", "3601"])
def test_a_wait_that_makes_no_sense_is_wrong_usage(meter_gateway, span: str):
    """Exit code 2, with what is allowed."""
    done = meter_gateway("read", f"--wait={span}")
    assert done.code == 2
    assert "must be a number of seconds from 0 to 3600" in done.err


def test_on_a_narrow_terminal_nothing_is_wider_than_it(meter_gateway):
    """40 columns."""
    done = meter_gateway("read", "--wait", "0", columns=40)
    assert max(map(len, done.out.splitlines())) <= 40


def test_interrupted_while_it_listens_it_shows_what_is_there(tmp_path: Path, line: ModbusSimulator):
    """Ctrl-C after the meters on the line have been read: they are not lost to one that is silent."""
    site = Site(tmp_path, bus=line.url)
    terminal, theirs = pty.openpty()
    with subprocess.Popen(
        [*INTERRUPTIBLE, "read", "chiller", "cold-water", "--wait", "60", "-c", site.config],
        stdout=subprocess.PIPE, stderr=theirs, env=environment(),
    ) as process:  # fmt: skip
        assert b"listening to hall" in os.read(terminal, 1000)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    os.close(theirs)
    os.close(terminal)
    assert process.returncode == 1
    assert re.match(rb"chiller: [\d.]+ kWh\n", out)
    assert b"cold-water: FAIL nothing heard\n" in out


def test_in_all_orders_where_that_is_asked_for(meter_gateway):
    """The configured one is named; without --orders or --verbose the rows stay short."""
    done = meter_gateway("read", "chiller", "--orders")
    told = done.out.splitlines()[3]
    assert "CDAB (configured) 1" in told
    assert all(f"{order} " in told for order in ("ABCD", "BADC", "DCBA"))
    assert "ABCD" not in meter_gateway("read", "chiller").out
    row = rows(meter_gateway("read", "chiller", "--json").out)["chiller"]
    assert row["order"] == "CDAB"
    assert row["orders"]["CDAB"] == row["value"]


def test_no_order_is_torn_from_its_value_at_the_end_of_a_line(meter_gateway):
    """Whatever the width: a lone number says nothing."""
    for columns in range(40, 90, 3):
        told = meter_gateway("read", "chiller", "--orders", columns=columns).out
        for row in told[told.index("  ABCD") :].splitlines():
            assert re.match(r"  [ABCD]{4} (\(configured\) )?[-\d.e+]+", row), row


def test_a_meter_without_a_value_is_followed_by_what_to_try(site: Site, meter_gateway):
    """Below all of them."""
    site.config.write_text(site.config.read_text().replace('"carlo-gavazzi-em340"', '"abb-b23"'))
    done = meter_gateway("read", "chiller")
    assert done.code == 1
    assert done.out.splitlines()[-1].startswith("exception 0x02: the device has no such registers: another model")
