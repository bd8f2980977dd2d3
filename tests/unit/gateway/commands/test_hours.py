"""`hours METER`: tables, days on a narrow terminal, CSV, JSON, spans, and meters that are not there."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from buffer.model import EPOCH
from tests.fakes.site import Site

FIRST = datetime(2026, 10, 31, 22, tzinfo=UTC)


@pytest.fixture
def busy_site(site: Site) -> Site:
    """Six hours of the chiller in every state, over the end of a month."""
    site.make()
    site.close_hours("chiller", FIRST, 2, state="accepted")
    site.close_hours("chiller", FIRST.replace(month=11, day=1, hour=0), 1, state="held", quality="estimated")
    site.close_hours("chiller", FIRST.replace(month=11, day=1, hour=1), 1, state="missing", quality="missing")
    site.close_hours("chiller", FIRST.replace(month=11, day=1, hour=2), 2)
    return site


def test_a_table_with_the_points_below_each_other(busy_site: Site, meter_gateway):
    """Hours in UTC and saying so; the coverage of each month at the end."""
    assert meter_gateway("hours", "chiller", "--all", columns=80) == (
        0,
        (
            "hour (UTC)         kWh  boundary  quality    state\n"
            "2026-10-31T22:00Z  0.5    1000.5  measured   accepted\n"
            "2026-10-31T23:00Z  0.5    1001.0  measured   accepted\n"
            "2026-11-01T00:00Z  0.5    1000.5  estimated  held\n"
            "2026-11-01T01:00Z  0.5    1000.5  missing    missing\n"
            "2026-11-01T02:00Z  0.5    1000.5  measured   pending\n"
            "2026-11-01T03:00Z  0.5    1001.0  measured   pending\n"
            "2026-11-01 00:00Z held: held before reasons were noted\n"
            "to decide: meter-gateway resolve chiller\n"
            "open from 2026-11-01T04:00Z on\n"
            "2026-10: 2 of 2 accepted\n"
            "2026-11: 0 of 4 accepted, 1 estimated, 2 pending, 1 held, 1 missing\n"
        ),
        "",
    )


def test_on_a_narrow_terminal_the_hours_stand_under_their_day(busy_site: Site, meter_gateway):
    """40 columns are enough."""
    assert meter_gateway("hours", "chiller", "--all", columns=40).out == (
        "2026-10-31 (UTC, kWh)\n22:00  0.5  accepted\n23:00  0.5  accepted\n"
        "2026-11-01 (UTC, kWh)\n00:00  0.5  held, estimated\n01:00  0.5  missing\n"
        "02:00  0.5  pending\n03:00  0.5  pending\n"
        "2026-11-01 00:00Z held: held before\n  reasons were noted\n"
        "to decide: meter-gateway resolve chiller\n"
        "open from 2026-11-01T04:00Z on\n"
        "2026-10: 2 of 2 accepted\n"
        "2026-11: 0 of 4 accepted, 1 estimated, 2\n  pending, 1 held, 1 missing\n"
    )


def test_csv_holds_the_numbers_as_they_are(busy_site: Site, meter_gateway):
    """One header, one line for each hour, nothing else; line ends as Unix tools expect them."""
    done = meter_gateway("hours", "chiller", "--all", "--csv")
    assert "\r" not in done.out
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert len(rows) == 6
    assert rows[1] == {
        "hour": "2026-10-31T23:00:00Z", "consumption": "0.5", "boundary": "1001", "quality": "measured",
        "state": "accepted", "accepted": "", "adjusted": "", "unposted": "",
        "doubt": "", "ours": "", "shown": "",
    }  # fmt: skip


def test_json_is_one_document(busy_site: Site, meter_gateway):
    """Numbers are texts, so that no reader makes a float of them."""
    document = json.loads(meter_gateway("hours", "chiller", "--all", "--json").out)
    assert (document["meter"], document["unit"], len(document["hours"])) == ("chiller", "kWh", 6)
    assert document["hours"][1]["boundary"] == "1001"
    assert document["coverage"][0] == "2026-10: 2 of 2 accepted"


@pytest.mark.parametrize(
    ("span", "count"),
    [
        (("--from", "2026-11-01"), 4),
        (("--from", "2026-11-01T02:00Z"), 2),
        (("--from", "2026-11-01T02:59Z"), 2),  # within an hour: that hour too
        (("--from", "2026-11-01T03:00+01:00"), 2),
        (("--from", "2026-10-31", "--to", "2026-11-01"), 2),
        (("--from", "2026-10-31", "--to", "2026-11-01T00:01Z"), 3),
        (("--all",), 6),
        (("--all", "--to", "2026-11-01"), 2),
        (("--from", "0001-01-01"), 6),
        (("--from", "9999-12-31"), 0),
        (("--from", "2026-11-02", "--to", "2026-11-01"), 0),
    ],
)
def test_spans_are_hours_that_touch_them(busy_site: Site, meter_gateway, span: tuple[str, ...], count: int):
    """UTC where no zone is given."""
    assert len(json.loads(meter_gateway("hours", "chiller", "--json", *span).out)["hours"]) == count


def test_without_a_span_the_newest_two_days_are_meant(site: Site, meter_gateway):
    """And it is said how to see more."""
    site.make()
    site.close_hours("chiller", datetime(2026, 1, 1, tzinfo=UTC), 5)
    done = meter_gateway("hours", "chiller")
    assert done == (0, "chiller: no closed hour in the last 48 hours (--all shows every one)\n", "")
    assert meter_gateway("hours", "cold-water", "--all").out == "cold-water: no closed hour in this span\n"


def test_a_meter_that_is_not_there_is_named_with_the_nearest(site: Site, meter_gateway):
    """Exit code 1; what is known is listed."""
    site.make()
    assert meter_gateway("hours", "chillr") == (
        1,
        "",
        (
            f'meter-gateway: no meter "chillr" in {site.data}; did you mean "chiller"?;'
            " known: chiller, cold-water, main-electricity\n"
        ),
    )


def test_before_the_first_run_there_is_nothing_to_show(site: Site, meter_gateway):
    """Exit code 69, as `status` has it."""
    done = meter_gateway("hours", "chiller")
    assert (done.code, done.out) == (69, "")
    assert "no gateway has run with" in done.err


def test_the_hours_can_be_seen_while_the_service_runs(busy_site: Site, meter_gateway):
    """R20: the database is only read."""
    with busy_site.running():
        assert meter_gateway("hours", "chiller", "--all").code == 0


@pytest.mark.parametrize("time", ["never", "2026-13-01", "", "12:00"])
def test_a_time_that_is_none_is_wrong_usage(meter_gateway, time: str):
    """Exit code 2, with an example of what is meant."""
    done = meter_gateway("hours", "chiller", "--from", time)
    assert done.code == 2
    assert "is not an ISO date or time such as 2026-03-01T10:00Z" in done.err


def test_bars_show_the_shape_of_a_day(busy_site: Site, meter_gateway):
    """The longest bar fills the room; what is in doubt is said in a word; the width is the terminal's."""
    number = busy_site.number("chiller")
    for hour, consumption in ((0, 0), (2, 250_000), (3, 1_000_000)):
        at = (datetime(2026, 11, 1, hour, tzinfo=UTC) - EPOCH) // timedelta(hours=1)
        update = "UPDATE hour SET consumption = ? WHERE meter = ? AND hour = ?"
        busy_site.write(lambda db, row=(consumption, number, at), change=update: db.execute(change, row))
    done = meter_gateway("hours", "chiller", "--from", "2026-11-01", "--plot", columns=40)
    assert done.out.splitlines()[:5] == [
        "2026-11-01 (UTC, kWh)",
        "00:00  0.00  estimated",
        "01:00  0.50 █████████ missing",
        "02:00  0.25 ████▌",
        "03:00  1.00 ██████████████████",
    ]
    assert max(map(len, done.out.splitlines())) <= 40


def test_where_the_output_knows_no_blocks_bars_are_of_plain_characters(busy_site: Site, meter_gateway, monkeypatch):
    """A serial console speaks ASCII."""
    monkeypatch.setattr("gateway.terminal._BLOCKS", "\udcff")  # nothing can encode it
    out = meter_gateway("hours", "chiller", "--all", "--plot", columns=40).out
    assert "22:00  0.5 ###################" in out.splitlines()


def test_adjustments_are_shown_beside_the_hours(busy_site: Site, meter_gateway):
    """R8: the closed hour keeps its number; what was added later is said."""
    number = busy_site.number("chiller")
    hour = (FIRST - EPOCH) // timedelta(hours=1)
    insert = (
        "INSERT INTO adjustment (meter, hour, amount, reason, author, at) VALUES (?, ?, 1400000, 'replaced', 'ada', 0)"
    )
    busy_site.write(lambda db: db.execute(insert, (number, hour)))
    assert (
        "2026-10-31T22:00Z: adjusted by 1.4 kWh, 1.4 still to be posted\n"
        in meter_gateway("hours", "chiller", "--all").out
    )
    document = json.loads(meter_gateway("hours", "chiller", "--all", "--json").out)
    assert document["hours"][0]["adjusted"] == "1.4"
    assert document["open_from"] == "2026-11-01T04:00:00Z"


def test_hours_of_a_meter_that_is_not_pushed_are_closed_and_wait_for_nothing(site: Site, meter_gateway):
    """Where push is off, collecting is all."""
    site.make()
    site.close_hours("cold-water", FIRST, 1)
    assert " closed\n" in meter_gateway("hours", "cold-water", "--all", columns=80).out
