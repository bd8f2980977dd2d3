"""Which hours a probe takes: empty ones, old enough, and those of two names in one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer.model import MICRO, hour_of, hour_start, to_ms
from gateway.probing import plan

NOW = datetime(2026, 3, 2, 9, 55, tzinfo=UTC)
THIS = hour_of(to_ms(NOW))


@given(st.dictionaries(st.integers(0, 60), st.sampled_from([0, MICRO]), max_size=12), st.integers(1, 40))
def test_a_quiet_run_is_the_latest_without_values_else_with_zeros(values: dict[int, int], length: int):
    """Whatever is there: no hour with a value in it is ever taken."""
    found = plan.quiet_run(values, 0, 61, length)
    runs = [range(first, first + length) for first in range(61 - length + 1)]
    empty = [run.start for run in runs if not set(run) & set(values)]
    zeros = [run.start for run in runs if not any(values.get(hour) for hour in run)]
    assert found == max(empty or zeros, default=None)


def test_the_run_is_looked_for_between_a_month_and_a_day_ago():
    """What is younger may be somebody's live view."""
    since, until = plan.window(NOW)
    assert (THIS - since, THIS - until) == (31 * 24, 24)


def test_every_question_has_its_hour_inside_the_run_and_neighbours_of_its_own():
    """A stamp that is taken for another hour must not be mistaken for another question's."""
    hours = plan.hours(NOW, 1000, None)
    places = [hours.of(question) for question in plan.QUESTIONS]
    reach = [set(range(place - 1, place + 3)) for place in places]
    assert sum(map(len, reach)) == len(set().union(*reach)) == plan.RUN
    assert set().union(*reach) == set(range(1000, 1000 + plan.RUN))


@pytest.mark.parametrize("zone", ["Europe/Helsinki", "Europe/Berlin", "Europe/Lisbon"])
@given(now=st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)))
def test_the_october_hours_have_one_local_name_in_helsinki(zone: str, now: datetime):
    """00:00Z and 01:00Z of the last change that lies at least two days back; elsewhere the names differ, the change does not."""
    first = hour_start(plan.october(now))
    assert timedelta(days=2) <= now - first < timedelta(days=374)
    before, after = (first + timedelta(hours=hours) for hours in (0, 1.5))
    assert before.astimezone(ZoneInfo(zone)).dst() != after.astimezone(ZoneInfo(zone)).dst()
    if zone == "Europe/Helsinki":
        names = [(first + timedelta(hours=hour)).astimezone(ZoneInfo(zone)).replace(tzinfo=None) for hour in (0, 1)]
        assert names[0] == names[1]


@pytest.mark.parametrize(
    ("values", "back"),
    [
        ({}, 32),
        ({THIS - 200: 0}, 32),
        ({THIS - 30: 0, THIS - 31: 0}, 28),
        ({THIS - 9: 0}, None),
        ({THIS - 300: 1}, None),
    ],
)
def test_a_register_is_probed_behind_everything_that_is_there(values: dict[int, int], back: int | None):
    """An older reading is a question of its own; a meter with energy is somebody's."""
    found = plan.register_run(values, NOW)
    assert (None if found is None else THIS - found) == back


def test_the_same_instant_is_written_abroad():
    """Two hours east of Greenwich."""
    utc, abroad = plan.item(THIS, MICRO)[0], plan.abroad(THIS, MICRO)[0]
    assert abroad.endswith("+02:00")
    assert datetime.fromisoformat(utc) == datetime.fromisoformat(abroad)


def test_the_plan_names_every_question_once_and_fits_the_bound():
    """P10 only where there is a meter for it."""
    names = [step.name for step in plan.steps(cumulative=True)]
    assert sorted(names) == sorted([*(f"P{number}" for number in range(1, 14)), "back"])
    assert [name for name in names if name not in {step.name for step in plan.steps(cumulative=False)}] == ["P10"]
    assert sum(step.pushes + step.reads for step in plan.steps(cumulative=True)) <= plan.MOST_REQUESTS - plan.RESERVE
