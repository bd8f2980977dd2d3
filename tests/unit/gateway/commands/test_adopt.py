"""`adopt`: with the service or without it, once, and harmless where nothing is to be adopted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway import machine
from tests.fakes.site import MACHINE, Site

OTHER = "6" * 32


@pytest.fixture
def moved(site: Site, tmp_path: Path, monkeypatch) -> Site:
    """The database was bound to one machine; this is another one."""
    site.make()
    path = tmp_path / "machine-id"
    path.write_text(f"{OTHER}\n")
    monkeypatch.setattr(machine, "MACHINE_ID", path)
    return site


def meta(site: Site) -> dict[str, str]:
    return site.write(lambda db: dict(db.execute("SELECT key, value FROM meta").fetchall()))


def looks(site: Site) -> list[int | None]:
    return [row[0] for row in site.write(lambda db: db.execute("SELECT look_after FROM meter").fetchall())]


def test_without_a_service_it_binds_the_database_to_this_machine(moved: Site, meter_gateway):
    """Each meter is read before anything of it is sent, from `settle` on; a second time changes nothing."""
    moved.write(lambda db: db.execute("UPDATE meter SET look_after = NULL"))
    before = meta(moved)["machine"]
    done = meter_gateway("adopt")
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "the database belongs to this machine now. Each meter is read at EnerKey before anything of it is sent.\n"
    )
    assert meta(moved)["machine"] != before
    assert None not in looks(moved)
    again = meter_gateway("adopt", "--json")
    assert json.loads(again.out) == {"adopted": False, "reads_before_sending": True}


def test_the_running_service_adopts_for_its_own_machine(moved: Site, meter_gateway):
    """It belongs there already: the service knows, whatever this process reads."""
    with moved.running():
        done = meter_gateway("adopt")
    assert done.out == "the database belongs to this machine already; nothing was changed\n"
    assert meta(moved)["machine"]


def test_status_says_that_nothing_is_sent_and_how_to_end_it(moved: Site, meter_gateway):
    """R20: one problem; gone once adopted."""
    moved.write(lambda db: db.execute("INSERT INTO meta VALUES ('stranger', 'other')"))
    told = " ".join(meter_gateway("status", columns=80).out.split())
    assert (
        "this database belongs to another machine, so nothing is sent: where that one is stopped for good: meter-gateway adopt"
    ) in told
    assert json.loads(meter_gateway("status", "--json").out)["stranger"] == "other"
    meter_gateway("adopt")
    assert "another machine" not in meter_gateway("status").out


def test_where_nothing_can_be_read_before_sending_it_says_what_that_means(moved: Site, meter_gateway):
    """`on_unknown = "hold"`: the operator has to know."""
    moved.config.write_text(moved.config.read_text().replace('settle = "1s"', 'settle = "1s"\non_unknown = "hold"'))
    assert "what the other machine sent since the copy was made is sent again" in meter_gateway("adopt").out


def test_before_the_first_run_there_is_nothing_to_adopt(site: Site, meter_gateway):
    """Exit code 69; no database is made."""
    assert meter_gateway("adopt").code == 69
    assert not site.data.exists()
    assert MACHINE != OTHER
