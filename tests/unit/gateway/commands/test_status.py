"""`status`: with and without a service, for people and for scripts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from buffer import journal, key_use, readings
from buffer.key_use import KeyUse
from buffer.model import to_ms
from buffer.readings import Rejection
from gateway.commands import status
from tests.fakes.site import Site

HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
JUST_THREE_MINUTES, JUST_FIVE_MINUTES = timedelta(seconds=155), timedelta(seconds=275)  # rounded; a minute later, too


def test_before_the_first_run_it_says_how_to_start(site: Site, meter_gateway):
    """Exit code 69, in one line, also as JSON."""
    done = meter_gateway("status")
    assert done == (
        69, "", f"meter-gateway: no gateway has run with {site.data} yet: systemctl start meter-gateway\n",
    )  # fmt: skip
    assert not site.data.exists(), "looking makes nothing"
    assert json.loads(meter_gateway("status", "--json").out)["error"]["code"] == 69


def test_without_a_service_it_shows_what_the_buffer_holds(site: Site, meter_gateway):
    """Exit code 69; one problem, because everything else follows from it."""
    site.make()
    site.read("chiller", "12345.678", HOUR)
    done = meter_gateway("status")
    assert done.code == 69
    assert done.out.startswith("not running; what the buffer holds:\n")
    assert "12345.678 kWh" in done.out
    assert done.out.splitlines()[-1] == "1. the service does not run: systemctl status meter-gateway"
    assert done.out.count("no reading yet") == 0


def test_each_meter_is_told_with_its_reading_and_what_became_of_its_hours(site: Site, meter_gateway):
    """The columns are as wide as their content; numbers stand to the right."""
    site.make()
    site.read("chiller", "12345.678", datetime.now(UTC) - JUST_THREE_MINUTES)
    site.close_hours("chiller", HOUR - timedelta(hours=9), 3)
    site.close_hours("chiller", HOUR - timedelta(hours=6), 1, state="held")
    with site.running():
        done = meter_gateway("status")
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines[0].startswith("site-042: running, version ")
    assert lines[1].endswith(", trusted (configured)")
    assert lines[2:7] == [
        "buffer 0.2 MB of 2147 MB",
        "connection main: starting",
        "connection hall: starting",
        "EnerKey: 0 of 40000 requests in 24 h, 4000 kept for reads; each meter is pushed every hour",
        "  API key 1 (enerkey.api_keys[0]): not in use, not taken yet",
    ]
    assert lines[8:12] == [
        "meter             last reading     age  accepted up to  waiting  held",
        "chiller           12345.678 kWh  3 min  -                     3     1",
        "cold-water        none yet           -  off                   0     0",
        "main-electricity  none yet           -  -                     0     0",
    ]
    assert lines[13:] == [
        "1. chiller: 1 h held for a decision: meter-gateway resolve chiller",
        "2. cold-water: no reading yet: meter-gateway read cold-water",
        "3. main-electricity: no reading yet: meter-gateway read main-electricity",
    ]


def test_when_all_is_well_the_last_word_is_ok(site: Site, meter_gateway):
    """Exit code 0."""
    site.make()
    for meter in ("chiller", "cold-water", "main-electricity"):
        site.read(meter, "1", HOUR)
    with site.running():
        done = meter_gateway("status")
        assert (done.code, done.out.splitlines()[-1], done.err) == (0, "ok", "")
        assert json.loads(meter_gateway("status", "--json").out)["problems"] == []


def test_on_a_narrow_terminal_nothing_is_wider_than_it(site: Site, meter_gateway):
    """40 columns: a block for each meter, without what a zero would say."""
    site.make()
    site.read("main-electricity", "1128356.6", datetime.now(UTC) - timedelta(hours=5))
    site.close_hours("main-electricity", HOUR - timedelta(hours=9), 3)
    with site.running():
        done = meter_gateway("status", columns=40)
    assert max(map(len, done.out.splitlines())) <= 40
    shown = "\n".join(done.out.splitlines())
    assert "main-electricity\n  1128356.6 kWh, 5 h ago\n  nothing accepted yet, 3 waiting\n" in shown
    assert "cold-water\n  no reading yet\n  not pushed\n" in shown


def test_rejections_are_counted_and_the_rarest_left_to_json(site: Site, meter_gateway):
    """A site with many kinds of poison still fits on a screen."""
    site.make()
    kinds = [Rejection(0, "hall", f"source-{kind}", "not a number", "", "") for kind in range(12)]
    site.write(lambda db: readings.reject(db, [*kinds, kinds[7]]))
    done = meter_gateway("status")
    told = done.out.partition("not taken as readings:\n")[2].splitlines()
    assert told[0] == "  2 x source-7: not a number"
    assert told[10] == "  and 2 more kinds: status --json"
    assert len(json.loads(meter_gateway("status", "--json").out)["rejected"]) == 12


def test_readings_under_an_untrusted_clock_are_counted(site: Site, meter_gateway):
    """R5: they wait, and it is said."""
    site.make()
    number = site.number("chiller")
    site.write(lambda db: readings.add_unplaced(db, [readings.UnplacedReading("boot", 1, number, 5, None, 1)]))
    assert "1 reading waits for a trusted clock" in meter_gateway("status").out


def test_a_service_that_holds_the_data_and_does_not_answer_is_a_problem(site: Site, meter_gateway):
    """Exit code 1, with its process, and what the buffer holds."""
    site.make()
    with site.running():
        (site.data / "control.sock").unlink()
        done = meter_gateway("status")
    assert done.code == 1
    assert done.out.startswith("does not answer; what the buffer holds:\n")
    assert "holds the data but does not answer: look at its log" in done.out


def test_a_file_that_is_no_database_is_said_in_a_sentence(site: Site, meter_gateway):
    """Exit code 74."""
    site.data.mkdir()
    (site.data / "buffer.db").write_text("no database " * 1000)
    done = meter_gateway("status")
    assert (done.code, done.out) == (74, "")
    assert done.err == f"meter-gateway: {site.data}/buffer.db: file is not a database\n"


def test_an_alarm_of_a_meter_stays_until_somebody_has_said_what_it_was(site: Site, meter_gateway):
    """A meter that was exchanged: nothing is booked across, and the operator is told each time, not only once in a log."""
    site.make()
    site.read("chiller", "38", datetime.now(UTC))
    alarm = "the register fell from 1234 to 37.2 and goes on from there"
    site.write(lambda db: readings.note(db, 0, "error", "chiller", alarm))
    site.write(lambda db: readings.note(db, 0, "warning", "chiller", "a reading of 0 did not fit"))
    assert f"1. chiller: {alarm}" in " ".join(said(site, meter_gateway).split())
    site.write(lambda db: readings.note(db, 0, "info", "chiller", "meter replaced (ada)"))
    assert alarm not in said(site, meter_gateway)


ACCOUNT = """
[enerkey.accounts.north]
api_keys = [{ key = "env:NORTH_KEY", expires = 2999-01-31 }]
requests_per_day = 500
[connections.main]
"""


def test_each_account_is_shown_with_its_requests_and_its_keys(site: Site, meter_gateway, monkeypatch):
    """Which key is in use for what, and when it was taken: also when the service does not run any more."""
    monkeypatch.setenv("NORTH_KEY", "canary-north")
    text = site.config.read_text().replace("[connections.main]", ACCOUNT)
    site.config.write_text(text.replace('name = "chiller"', 'name = "chiller"\naccount = "north"'))
    site.make()
    taken = to_ms(datetime.now(UTC) - JUST_FIVE_MINUTES)
    uses = [KeyUse("values", "env:NORTH_KEY", taken - 60_000), KeyUse("consumption", "env:NORTH_KEY", taken)]
    site.write(lambda db: key_use.remember(db, "north", uses))
    site.write(lambda db: [journal.spend(db, taken, account) for account in ("", "north", "north")])
    shown = "  API key 1 (env:NORTH_KEY): in use for consumption, values, taken 5 min ago, expires 2999-01-31"
    with site.running():
        out = meter_gateway("status").out
        whole = json.loads(meter_gateway("status", "--json").out)
    document, accounts = whole["delivery"], {each["meter"]: each["account"] for each in whole["meters"]}
    assert "EnerKey: 1 of 40000 requests in 24 h, 4000 kept for reads" in out
    assert "EnerKey, account north: 2 of 500 requests in 24 h, 50 kept for reads" in out
    assert f"\n{shown}\n" in out
    assert document["accounts"]["north"]["budget"]["spent"] == 2
    assert accounts == {"chiller": "north", "cold-water": None, "main-electricity": None}
    (key,) = document["accounts"]["north"]["keys"]
    assert (key["key"], key["in_use_for"], key["expires"]) == (1, ["consumption", "values"], "2999-01-31")
    assert "canary" not in out + json.dumps(document)
    out = meter_gateway("status").out
    assert (
        "EnerKey, account north:\n  API key (env:NORTH_KEY): in use for consumption, values, taken 5 min ago\n" in out
    )


def said(site: Site, meter_gateway) -> str:
    with site.running():
        return meter_gateway("status").out


def test_the_budget_is_told_in_full_where_enerkey_asked_for_fewer(monkeypatch, capsys):
    """Share, what of it is in use, what was spent, what EnerKey says is left, what is kept for reads, and the cadence."""
    monkeypatch.setenv("COLUMNS", "80")
    budget = {"share": 3000, "in_use": 1500, "spent": 1200, "remaining": 17, "reserved_for_reads": 300}
    status._show_budget("EnerKey", {"budget": budget, "cadence_hours": 2})
    assert capsys.readouterr().out.splitlines() == [
        "EnerKey: 1200 of 1500 (for now; EnerKey asked for fewer than 3000) requests in",
        "  24 h, 300 kept for reads; EnerKey says 17 are left; each meter is pushed every",
        "  2 h",
    ]
    status._show_budget(
        "EnerKey", {"budget": budget | {"spent": None, "remaining": None, "in_use": 3000}, "cadence_hours": 1}
    )
    assert capsys.readouterr().out.splitlines() == [
        "EnerKey: an unknown number of 3000 requests in 24 h, 300 kept for reads; each",
        "  meter is pushed every hour",
    ]


def test_the_budget_is_in_the_document(site: Site, meter_gateway):
    """For scripts: every number by itself."""
    site.make()
    with site.running():
        delivery = json.loads(meter_gateway("status", "--json").out)["delivery"]
    assert delivery["cadence_hours"] == 1
    assert delivery["budget"] == {
        "share": 40_000, "in_use": 40_000, "spent": 0, "remaining": None, "reserved_for_reads": 4000,
    }  # fmt: skip


MORE_METERS = """
[[meters]]
name = "floor-{number}"
push = "off"
unit = "kWh"
source = {{ connection = "main", device = {number}, profile = "eastron-sdm630", point = "energy_import_total" }}
"""


def with_meters(site: Site, first: int, last: int) -> None:
    """More meters on the Modbus line, and the database of a gateway that knows them."""
    site.config.write_text(
        site.config.read_text() + "".join(MORE_METERS.format(number=n) for n in range(first, last + 1))
    )
    site.make()


def test_what_a_connection_explains_is_said_once_at_the_connection(site: Site, meter_gateway):
    """A page that does not repeat for each meter what is true of the line; meters with something of their own stay."""
    with_meters(site, 11, 30)
    site.read("chiller", "12345.678", datetime.now(UTC) - JUST_THREE_MINUTES)
    site.close_hours("floor-30", HOUR - timedelta(hours=9), 3)
    site.write(
        lambda db: readings.reject(db, [Rejection(0, "main", f"floor-{n}", "no answer", "", "") for n in range(11, 31)])
    )
    with site.running():
        done = meter_gateway("status", columns=80)
        document = json.loads(meter_gateway("status", "--json").out)
    lines = done.out.splitlines()
    assert done.code == 1
    assert lines[3:5] == [
        "connection main: starting",
        "  no reading yet of 20 meters: floor-11, floor-12, floor-13 and 17 more",
    ]
    table = lines[lines.index("") + 1 :]
    assert [line.split()[0] for line in table[: table.index("")]] == ["meter", "chiller", "cold-water", "floor-30"]
    assert "not taken as readings:\n  19 x main: no answer\n  1 x floor-30: no answer\n" in done.out
    assert lines[lines.index("1. connection main: starting; 20 meters have no reading yet") :] == [
        "1. connection main: starting; 20 meters have no reading yet",
        "2. cold-water: no reading yet: meter-gateway read cold-water",
        "3. floor-30: no reading yet: meter-gateway read floor-30",
    ]
    assert len(document["meters"]) == 23, "scripts are told of each meter"
    assert len(document["problems"]) == 22
    assert len(document["rejected"]) == 20


def test_where_a_dead_connection_has_all_meters_there_is_no_table(site: Site, meter_gateway):
    """The line, who waits for it, and what is wrong."""
    text = site.config.read_text()
    site.config.write_text(text[: text.index("[connections.hall]")])
    with_meters(site, 1, 4)
    with site.running():
        out = meter_gateway("status", columns=40).out
    assert "no reading yet of 4 meters: floor-1,\n    floor-2, floor-3 and 1 more\n" in out
    assert "none yet" not in out
    assert "floor-4" not in out


def test_a_connection_counts_in_words(capsys):
    """What has not happened is left out."""
    counts = {"polls": 2, "readings": 1, "timeouts": 0, "reconnects": 1, "dropped_qos0": 3}
    status._show_connections({"main": {"state": "ok", "counts": counts}}, {})
    assert capsys.readouterr().out.splitlines()[1].strip() == "2 polls, 1 reading, 1 reconnect, 3 dropped qos0"


def test_a_meter_whose_readings_wait_for_the_clock_is_not_said_to_have_none(site: Site, meter_gateway):
    """R5: that the clock is not trusted explains it; once it is, a meter without a reading is told."""
    site.make()
    with site.running():
        assert "chiller: no reading yet" in meter_gateway("status").out
    number = site.number("chiller")
    site.write(lambda db: readings.add_unplaced(db, [readings.UnplacedReading("boot", 1, number, 5, None, 1)]))
    with site.running():
        assert "no reading yet: meter-gateway read" not in meter_gateway("status").out
