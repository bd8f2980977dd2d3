"""`probe` before anything is sent: what it refuses, what it shows first; and what it knows afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from buffer import findings, journal
from buffer.findings import Finding
from buffer.lock import Lock
from buffer.model import to_ms
from gateway.config import load
from gateway.control import ask
from gateway.probed import api_of
from gateway.probing import plan
from gateway.simulator.enerkey import EnerkeySimulator
from gateway.wiring import socket_path
from tests.fakes.command_line import on_terminal
from tests.fakes.site import Site, served_enerkey

TEST_METER = "10099"
DAY = to_ms(datetime(2026, 3, 2, tzinfo=UTC))


@pytest.fixture
def enerkey() -> Iterator[EnerkeySimulator]:
    """It knows our meters and one for tests."""
    with served_enerkey(10001, 10002, 10099) as simulator:
        yield simulator


@pytest.fixture
def site(tmp_path: Path, enerkey: EnerkeySimulator) -> Site:
    """A site that has run before."""
    site = Site(tmp_path, enerkey=enerkey.url)
    site.make()
    return site


def found(site: Site, *rows: tuple[str, str], api: str | None = None) -> None:
    """Findings of the site's API, as a probe stores them."""
    section = load(site.config).enerkey
    known = [Finding(name, value, f"{name} is {value}", api or api_of(section), DAY) for name, value in rows]
    site.write(lambda db: findings.record(db, known))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--meter", TEST_METER], "nobody can be asked here: say --yes"),
        (["--meter", TEST_METER, "--json"], "nobody can be asked here: say --yes"),
        (["--yes"], "--meter ID is missing"),
        (["--meter", "10001", "--yes"], "10001 is the meter main-electricity of the configuration"),
        (["--meter", TEST_METER, "--cumulative-meter", "10002", "--yes"], "10002 is the meter chiller"),
        (["--meter", "5", "--cumulative-meter", "5", "--yes"], "must be two meters"),
        (["--meter", "five", "--yes"], "'five' is no EnerKey id"),
        (["--meter", "5", "--longest-lag", "5"], "from 10 to 86400"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_request(site: Site, enerkey, meter_gateway, words, said):
    """Exit code 2, with what to do."""
    done = meter_gateway("probe", *words)
    assert done.code == 2
    assert said in done.err + done.out
    assert enerkey.requests() == 0


def test_a_meter_that_is_not_pushed_is_a_meter_of_the_configuration_too(site: Site, enerkey, meter_gateway):
    """Its hours may be there from before, and may be pushed again tomorrow."""
    text = site.config.read_text().replace(
        'enerkey_id = 10002\npush = "consumption"', 'enerkey_id = 10002\npush = "off"'
    )
    site.config.write_text(text)
    assert meter_gateway("probe", "--meter", "10002", "--yes").code == 2
    assert enerkey.requests() == 0


def test_before_the_first_run_there_is_no_place_for_findings(tmp_path: Path, meter_gateway, site: Site):
    """A database that root makes would not be the service's."""
    text = site.config.read_text().replace(str(site.data), str(tmp_path / "elsewhere"))
    site.config.write_text(text)
    done = meter_gateway("probe", "--meter", TEST_METER, "--yes")
    assert (done.code, done.err.count("systemctl start meter-gateway")) == (69, 1)


def test_a_meter_that_enerkey_does_not_know_is_told(site: Site, meter_gateway):
    """With EnerKey's words."""
    done = meter_gateway("probe", "--meter", "77", "--yes")
    assert done.code == 1
    assert "meter 77: its hours cannot be read (HTTP 404" in done.err


def test_two_probes_do_not_run_at_once(site: Site, enerkey, meter_gateway):
    """They would take each other's values for EnerKey's doing."""
    other = Lock(site.data / "probe.lock", {"command": "probe"})
    done = meter_gateway("probe", "--meter", TEST_METER, "--yes")
    other.release()
    assert (done.code, enerkey.requests()) == (73, 0)
    assert "another probe is running" in done.err


def test_a_probe_that_the_days_budget_has_no_room_for_does_not_begin(site: Site, enerkey, meter_gateway):
    """R22: the requests are debited before the first of them is made."""
    now = to_ms(datetime.now(UTC))
    site.write(lambda db: journal.spend(db, now, requests=39_995))
    done = meter_gateway("probe", "--meter", TEST_METER, "--yes")
    assert (done.code, enerkey.requests()) == (1, 0)
    assert "39995 of the day's 40000 requests are used" in done.err


def test_the_plan_is_shown_and_no_answer_but_yes_begins(site: Site, enerkey):
    """One read has shown which hours are empty; nothing was sent."""
    done = on_terminal("probe", "-c", site.config, "--meter", TEST_METER, typed="n\n")
    assert done.code == 0
    for step in plan.steps(cumulative=False):
        assert f"\n{step.name} " in done.out
    assert "meter 10099: 20" in done.out
    assert done.out.endswith("nothing was sent\n")
    assert max(len(line) for line in done.out.splitlines()) <= 80
    assert enerkey.pushes == []
    assert enerkey.requests() == 1


def test_what_was_found_is_shown_with_its_date_and_what_contradicts_it(site: Site, meter_gateway):
    """Also as JSON."""
    found(site, ("same_hour", "replace"))
    done = meter_gateway("probe", "--show")
    assert done.code == 0
    assert done.out.startswith("2026-03-02  same_hour: replace; same_hour is replace\n")
    assert "warning: [enerkey] same_hour: " in done.out
    document = json.loads(meter_gateway("probe", "--show", "--json").out)
    assert [each["value"] for each in document["findings"]] == ["replace"]
    assert len(document["contradictions"]) == 1


def test_findings_of_another_api_do_not_count_and_are_told_so(site: Site, meter_gateway):
    """Another URL or contract."""
    found(site, ("same_hour", "replace"), api="0123456789abcdef")
    done = meter_gateway("probe", "--show")
    assert "(of another URL or contract: it does not count)" in done.out
    assert "warning" not in done.out


def test_nothing_probed_is_said(site: Site, meter_gateway):
    """With the words that change it."""
    assert meter_gateway("probe", "--show").out == "nothing was probed yet: meter-gateway probe --meter ID\n"


def test_check_warns_of_what_contradicts_the_findings(site: Site, meter_gateway):
    """It stays a configuration with which the service can start."""
    found(site, ("hour_stamp", "end"))
    done = meter_gateway("check")
    assert done.code == 0
    assert "enerkey.hour_stamp: EnerKey takes a stamp for the end of its hour" in done.out


def test_status_shows_the_findings_and_counts_a_contradiction_as_a_problem(site: Site, meter_gateway):
    """The running service says what contradicts its configuration."""
    found(site, ("same_hour", "replace"), ("lag", "12.0"), ("decimals", "6"))
    with site.running():
        done, document = meter_gateway("status"), json.loads(meter_gateway("status", "--json").out)
    assert done.code == 1
    assert "EnerKey's API as probed 2026-03-02: lag 12.0, same_hour replace, decimals 6" in done.out
    assert [each["name"] for each in document["findings"]] == ["same_hour", "lag", "decimals"]
    assert [text for text in document["problems"] if text.startswith("[enerkey] same_hour: ")]
    assert [text for text in document["problems"] if text.startswith("[enerkey] settle: ")]


def test_the_log_of_run_tells_what_contradicts_the_findings(site: Site, caplog):
    """Once, at the start."""
    found(site, ("same_hour", "replace"))
    with site.running():
        pass
    assert caplog.text.count("[enerkey] same_hour: EnerKey takes a second value") == 1


def test_push_shows_what_the_findings_make_of_it(site: Site, meter_gateway):
    """`auto` is the finding, in the dry run as in the delivery."""
    site.config.write_text(site.config.read_text().replace('settle = "1s"', 'hour_stamp = "auto"'))
    first = datetime(2026, 3, 1, 10, tzinfo=UTC)
    site.close_hours("chiller", first, 1)
    assert "T10:00:00Z" in meter_gateway("push", "--dry-run", "--meter", "chiller").out
    found(site, ("hour_stamp", "end"))
    assert "T11:00:00Z" in meter_gateway("push", "--dry-run", "--meter", "chiller").out


def test_the_running_service_debits_its_budget_and_keeps_the_findings(site: Site):
    """A probe beside it does not touch its database."""
    with site.running() as gateway:
        path = socket_path(gateway.config)
        assert ask(path, {"probe": {"spend": 150}}) == {"done": 150}
        assert ask(path, {"probe": {"findings": [["lag", "3.0", "after 3 s", "api"]]}}) == {"done": 1}
        refused = ask(path, {"probe": {"spend": 40_000}})
        assert refused is not None
        assert "150 of the day's 40000 requests are used" in refused["refused"]
        now = to_ms(datetime.now(UTC))
        assert gateway.store.read(lambda db: journal.spent(db, now)) == 150
    assert [each.value for each in site.write(findings.known)] == ["3.0"]
