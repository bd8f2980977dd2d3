"""Which requests fetch the values: each value exactly once, none split, none too long, together as cheap as possible."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.plan import (
    USUAL_COST,
    Cost,
    Place,
    Shape,
    from_text,
    halved,
    plan,
    split,
    to_text,
    without_holes,
)

WORTH = 20  # registers that cost as much as a request, where a test says nothing else
COST = Cost(WORTH + 0.5, 1.0)

tables = st.sampled_from(["holding", "input"])
widths = st.sampled_from([1, 2, 4])
places = st.builds(Place, tables, st.integers(0, 120), widths)
wanted = st.lists(places, max_size=25)
limits = st.integers(1, 125)
costs = st.builds(Cost, st.floats(0.001, 30), st.floats(0.001, 1), st.sampled_from([0, 3, 125]))


@st.composite
def shapes(draw) -> Shape:
    return Shape(draw(limits), draw(st.frozensets(st.tuples(tables, st.integers(0, 120)), max_size=6)))


@st.composite
def apart(draw) -> list[Place]:
    """Values of one table that do not overlap."""
    laid, register = [], 0
    for _ in range(draw(st.integers(1, 6))):
        register += draw(st.sampled_from([0, 0, 1, 2, 5, 11, 19, 20, 21]))
        laid.append(Place("holding", register, draw(widths)))
        register = laid[-1].end
    return laid


@given(wanted, shapes())
def test_every_value_is_fetched_by_exactly_one_request_and_never_split(values, shape):
    """A value lies wholly inside the one request that names it."""
    blocks = plan(values, shape)
    named = [place for block in blocks for place in block.places]
    assert sorted(named) == sorted(set(values))
    for block in blocks:
        for place in block.places:
            assert place.table == block.table
            assert block.start <= place.register
            assert place.end <= block.start + block.count


@given(wanted, shapes())
def test_no_request_is_above_the_limit_but_for_a_single_value_wider_than_it(values, shape):
    """A value of four registers at a meter said to take two is asked for alone."""
    for block in plan(values, shape):
        assert block.count <= shape.limit or (len(block.places) == 1 and block.count == block.places[0].width)


@given(wanted, shapes(), costs)
def test_nothing_is_read_for_nothing_where_a_second_request_is_cheaper_or_the_meter_takes_no_holes(values, shape, cost):
    """A hole is narrower than what a request is worth; a request begins and ends with a value."""
    for block in plan(values, shape, cost):
        reached = block.start
        for place in block.places:
            hole = place.register - reached
            assert hole <= cost.max_hole
            assert hole * cost.register <= cost.request * 1.000001
            reached = max(reached, place.end)
        assert block.places[0].register == block.start
        assert reached == block.start + block.count


@given(wanted, shapes())
def test_a_request_begins_where_the_device_has_taught_it_to(values, shape):
    """A cut register is read in the middle of a request only inside a value: never as the beginning of one, nor in a hole."""
    for block in plan(values, shape):
        assert not {(block.table, place.register) for place in block.places[1:]} & shape.cuts
        read = set(range(block.start, block.start + block.count))
        held = {register for place in block.places for register in range(place.register, place.end)}
        assert not {(block.table, register) for register in read - held} & shape.cuts


@given(st.integers(0, 5000), widths, st.integers(1, 60), limits)
def test_registers_side_by_side_take_the_fewest_requests(first, width, number, limit):
    """As many whole values as the limit holds go into each."""
    run = [Place("input", first + width * each, width) for each in range(number)]
    assert len(plan(run, Shape(limit))) == ceil(number / max(1, limit // width))


def parted(values: Sequence[Place]) -> Iterator[list[list[Place]]]:
    """Every way to share the values out to requests, whatever lies between."""
    if not values:
        yield []
        return
    for parts in parted(values[1:]):
        yield [[values[0]], *parts]
        for at in range(len(parts)):
            yield [*parts[:at], [values[0], *parts[at]], *parts[at + 1 :]]


def cheapest(values: Sequence[Place], shape: Shape, cost: Cost) -> float:
    """By trying them all. The rules are written down once more here, in other words."""

    def price(part: list[Place]) -> float | None:
        first, end = min(place.register for place in part), max(place.end for place in part)
        held = {register for place in part for register in range(place.register, place.end)}
        holes = "".join("x" if register in held else "." for register in range(first, end)).split("x")
        begun = {place.register for place in sorted(part)[1:]} | (set(range(first, end)) - held)
        if len(part) > 1 and (
            len({place.table for place in part}) > 1
            or end - first > shape.limit
            or max(map(len, holes)) > cost.max_hole
            or any((part[0].table, register) in shape.cuts for register in begun)
        ):
            return None
        return cost.request + cost.register * (end - first)

    prices = ([price(part) for part in parts] for parts in parted(sorted(set(values))))
    return min(sum(each for each in way if each is not None) for way in prices if None not in way)


@given(apart(), shapes(), costs)
def test_no_other_plan_is_cheaper(values, shape, cost):
    """Against every way to share the values out to requests that the rules allow."""
    assert cost.of(plan(values, shape, cost)) == pytest.approx(cheapest(values, shape, cost))


@given(st.lists(st.builds(Place, tables, st.integers(0, 30), st.integers(1, 12)), max_size=6), limits, costs)
def test_no_other_plan_is_cheaper_where_values_overlap(values, limit, cost):
    """As they do that need a common exponent; also for a value that is wider than the limit and holds others."""
    assert cost.of(plan(values, Shape(limit), cost)) == pytest.approx(cheapest(values, Shape(limit), cost))


@given(wanted, shapes(), st.randoms())
def test_the_plan_does_not_depend_on_the_order_of_the_sources(values, shape, random):
    """Nor on a value being wanted twice."""
    shuffled = [*values, *values[:3]]
    random.shuffle(shuffled)
    assert plan(shuffled, shape) == plan(values, shape)


@given(wanted, shapes())
def test_each_value_gets_its_own_words_of_the_answer(values, shape):
    """Words here are their own addresses."""
    for block in plan(values, shape):
        words = range(block.start, block.start + block.count)
        for place in block.places:
            assert list(block.words_of(place, words)) == list(range(place.register, place.end))


@pytest.mark.parametrize(("hole", "requests"), [(0, 1), (WORTH, 1), (WORTH + 1, 2)])
def test_a_hole_is_read_over_up_to_what_a_request_is_worth(hole, requests):
    """The edge of the rule, by hand."""
    at, behind = Place("holding", 0, 2), Place("holding", 2 + hole, 2)
    assert len(plan([at, behind], Shape(60), COST)) == requests


def test_the_limit_cuts_where_the_widest_hole_is_left_out():
    """Filling each request as far as it goes would read both holes: 28 registers instead of 12."""
    values = [Place("input", register, 2) for register in (0, 10, 20, 22, 34, 36)]
    blocks = plan(values, Shape(30), COST)
    assert [(block.start, block.count) for block in blocks] == [(0, 24), (34, 4)]
    assert sum(block.count for block in blocks) < 38


def test_a_meter_that_takes_no_holes_is_asked_for_none():
    """Its profile says so."""
    values = [Place("input", register, 2) for register in (0, 2, 6)]
    blocks = plan(values, Shape(60), COST._replace(max_hole=0))
    assert [(block.start, block.count) for block in blocks] == [(0, 4), (6, 2)]


def test_a_value_that_rests_is_not_read_as_a_hole_either():
    """It was refused alone, so a request over its registers would be refused, too."""
    around = [Place("input", 0, 2), Place("input", 4, 2)]
    assert len(plan(around, Shape(60), COST)) == 1
    assert len(plan(around, Shape(60, frozenset({("input", 2)})), COST)) == 2


def test_holding_and_input_registers_never_share_a_request():
    """They are read by different functions."""
    assert len(plan([Place("holding", 0, 2), Place("input", 2, 2)], Shape(60))) == 2


def test_nothing_wanted_is_nothing_asked():
    """An empty plan."""
    assert plan([], Shape(60)) == []


@pytest.mark.parametrize("smaller", [split, without_holes])
@given(values=st.lists(places, min_size=1, max_size=12), shape=shapes())
def test_what_is_refused_leads_to_smaller_requests_until_each_value_is_alone(smaller, values, shape):
    """It ends, no value is lost on the way, and no plan is cheaper than the one before."""
    for _ in range(2 * len(values) + 1):
        blocks = plan(values, shape)
        several = next((block for block in blocks if len(block.places) > 1), None)
        if several is None:
            break
        learned = smaller(several, shape)
        assert learned is not None
        assert learned.cuts > shape.cuts
        assert USUAL_COST.of(plan(values, learned)) >= USUAL_COST.of(blocks) - 1e-9
        shape = learned
    assert all(len(block.places) == 1 and smaller(block, shape) is None for block in plan(values, shape))


def test_illegal_address_leaves_out_the_widest_hole_first():
    """Values without a hole between them stay together, and so do those around one that the meter reads."""
    values = [Place("input", register, 2) for register in (0, 2, 10, 14)]
    shape = split(plan(values, Shape(60))[0], Shape(60))
    assert shape is not None
    assert [(block.start, block.count) for block in plan(values, shape)] == [(0, 4), (10, 6)]


def test_silence_leaves_out_every_hole_at_once():
    """Each attempt costs a timeout."""
    values = [Place("input", register, 2) for register in (0, 2, 10, 14)]
    shape = without_holes(plan(values, Shape(60))[0], Shape(60))
    assert shape is not None
    assert [(block.start, block.count) for block in plan(values, shape)] == [(0, 4), (10, 2), (14, 2)]


@given(st.integers(2, 60), st.data())
def test_one_register_that_is_not_there_costs_few_requests(number, data):
    """The search for it halves what is refused, so the values beside it are not asked for one by one ever after."""
    values = [Place("holding", 2 * each, 2) for each in range(number)]
    missing = data.draw(st.sampled_from(values))
    shape, refused = Shape(125), 0
    while (
        block := next((block for block in plan(values, shape) if missing in block.places), None)
    ) is not None and len(block.places) > 1:
        refused += 1
        learned = split(block, shape)
        assert learned is not None
        shape = learned
    most = ceil(number).bit_length()
    assert refused <= most
    assert len(plan([value for value in values if value != missing], shape)) <= most + 1


@given(st.lists(places, min_size=1, max_size=12), shapes())
def test_illegal_value_halves_the_request_down_to_its_widest_value(values, shape):
    """It ends, and every step is smaller."""
    for _ in range(10):  # halvings from 125 down to 1, and a few more
        largest = max(plan(values, shape), key=lambda block: block.count)
        smaller = halved(largest, shape)
        if smaller is None:
            break
        assert smaller.limit < largest.count
        shape = smaller
    else:
        raise AssertionError("halved for ever")
    widest = max(place.width for place in largest.places)
    assert largest.count == widest


@given(shapes())
def test_what_a_device_has_taught_survives_a_restart(shape):
    """Through the text in the driver's memory."""
    assert from_text(to_text(shape), 125) == shape


def test_what_earlier_versions_remembered_is_still_known():
    """The text as it stands in databases."""
    text = '{"limit": 30, "cuts": [["holding", 12], ["input", 4]]}'
    assert from_text(text, 60) == Shape(30, frozenset({("holding", 12), ("input", 4)}))


def test_a_lower_limit_in_the_configuration_wins_over_what_was_remembered():
    """The operator has lowered it since."""
    assert from_text(to_text(Shape(60)), 20).limit == 20
    assert from_text(to_text(Shape(10)), 20).limit == 10


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "7",
        "{}",
        '{"limit": 5}',
        '{"limit": null, "cuts": []}',
        '{"limit": "many", "cuts": []}',
        '{"limit": Infinity, "cuts": []}',
        '{"limit": 5, "cuts": 3}',
        '{"limit": 5, "cuts": [["holding"]]}',
        '{"limit": 5, "cuts": [[["holding"], 1]]}',
    ],
)
def test_a_memory_that_is_not_ours_teaches_nothing(text):
    """A damaged text costs the learning, not the driver."""
    assert from_text(text, 40) == Shape(40)


@given(st.recursive(st.none() | st.integers() | st.floats() | st.text(max_size=3), st.lists, max_leaves=5))
def test_no_stored_text_stops_the_driver(junk):
    """Whatever JSON stands there."""
    assert from_text(json.dumps({"limit": junk, "cuts": junk}), 40).limit <= 40
