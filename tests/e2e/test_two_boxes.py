"""A card is cloned and put into a second box: only one of the two sends, until a person has spoken (R19, R20)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from buffer.store import DATABASE
from gateway.simulator.enerkey import EnerkeySimulator
from tests.fakes.command_line import command
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.site import Site, served_enerkey
from tests.waiting import until

HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)


@pytest.fixture
def enerkey() -> Iterator[EnerkeySimulator]:
    """It knows our meters."""
    with served_enerkey(10001, 10002) as simulator:
        yield simulator


def box(tmp_path: Path, name: str, enerkey: EnerkeySimulator) -> tuple[Site, GatewayProcess]:
    """A directory and a process with a machine id of its own."""
    directory = tmp_path / name
    directory.mkdir()
    (directory / "machine-id").write_text(f"{name.encode().hex():f<32}\n")
    site = Site(directory, enerkey=enerkey.url)
    return site, GatewayProcess(site.config, directory / "log", machine=directory / "machine-id")


def test_a_cloned_card_sends_nothing_until_it_is_adopted_and_then_doubles_nothing(tmp_path: Path, enerkey):
    """Both boxes are real processes; `status` of the clone says what to do, `adopt` speaks to the running service."""
    original, first = box(tmp_path, "aa", enerkey)
    clone, second = box(tmp_path, "bb", enerkey)
    with first:
        assert first.stop() == 0
    original.close_hours("chiller", HOUR, 1)
    clone.data.mkdir()
    shutil.copy(original.data / DATABASE, clone.data / DATABASE)
    with first:
        until(lambda: len(enerkey.hourly(10002)) == 1)
        assert first.stop() == 0
    clone.close_hours("chiller", HOUR + timedelta(hours=1), 1)
    asked = enerkey.requests()
    with second:
        refused = "this database belongs to another machine, so nothing is sent"
        until(lambda: refused in second.log.read_text())
        status = command("status", "-c", clone.config)
        assert status.code == 1
        assert refused in status.out
        assert command("run", "-c", clone.config).code == 73
        assert enerkey.requests() == asked
        adopted = command("adopt", "-c", clone.config)
        assert (adopted.code, adopted.err) == (0, "")
        until(lambda: len(enerkey.hourly(10002)) == 2)
        assert refused not in command("status", "-c", clone.config).out
        assert second.stop() == 0
    assert set(enerkey.hourly(10002).values()) == {500_000}
