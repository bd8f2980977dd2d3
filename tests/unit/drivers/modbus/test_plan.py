"""Which requests fetch the values: each value exactly once, none split, none too long, as few as possible."""

from __future__ import annotations

import json
from functools import cache
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.plan import WIDEST_HOLE, Block, Place, Shape, from_text, halved, plan, to_text, without_holes

tables = st.sampled_from(["holding", "input"])
widths = st.sampled_from([1, 2, 4])
places = st.builds(Place, tables, st.integers(0, 120), widths)
wanted = st.lists(places, max_size=25)
limits = st.integers(1, 125)


@st.composite
def shapes(draw) -> Shape:
    return Shape(draw(limits), draw(st.frozensets(st.tuples(tables, st.integers(0, 120)), max_size=6)))


@st.composite
def apart(draw) -> list[Place]:
    """Values of one table that do not overlap."""
    laid, register = [], 0
    for _ in range(draw(st.integers(1, 8))):
        register += draw(st.integers(0, WIDEST_HOLE + 2))
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


@given(wanted, shapes())
def test_no_request_reads_more_for_nothing_than_the_widest_hole(values, shape):
    """Up to 8 registers cost less than a second request; it begins and ends with a value."""
    for block in plan(values, shape):
        reached = block.start
        for place in block.places:
            assert place.register - reached <= WIDEST_HOLE
            reached = max(reached, place.end)
        assert block.places[0].register == block.start
        assert reached == block.start + block.count


@given(wanted, shapes())
def test_a_request_begins_where_the_device_has_taught_it_to(values, shape):
    """A cut register is never read in the middle of a request."""
    for block in plan(values, shape):
        assert not {(block.table, place.register) for place in block.places[1:]} & shape.cuts


@given(st.integers(0, 5000), widths, st.integers(1, 60), limits)
def test_registers_side_by_side_take_the_fewest_requests(first, width, number, limit):
    """As many whole values as the limit holds go into each."""
    run = [Place("input", first + width * each, width) for each in range(number)]
    assert len(plan(run, Shape(limit))) == ceil(number / max(1, limit // width))


@given(apart(), limits)
def test_no_other_plan_has_fewer_requests(values, limit):
    """Against all ways to cut the row of values into pieces that the rules allow."""
    allowed = [len(plan(values[a : b + 1], Shape(limit))) == 1 for a in range(len(values)) for b in range(len(values))]

    @cache
    def fewest(start: int) -> int:
        if start == len(values):
            return 0
        ends = [end for end in range(start, len(values)) if allowed[start * len(values) + end]]
        return 1 + min(fewest(end + 1) for end in ends)

    assert len(plan(values, Shape(limit))) == fewest(0)


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


def test_a_hole_of_eight_is_read_over_and_one_of_nine_is_not():
    """The edge of the rule, by hand."""
    at = Place("holding", 0, 2)
    assert plan([at, Place("holding", 10, 2)], Shape(60)) == [
        Block("holding", 0, 12, (at, Place("holding", 10, 2))),
    ]
    assert len(plan([at, Place("holding", 11, 2)], Shape(60))) == 2


def test_holding_and_input_registers_never_share_a_request():
    """They are read by different functions."""
    assert len(plan([Place("holding", 0, 2), Place("input", 2, 2)], Shape(60))) == 2


def test_nothing_wanted_is_nothing_asked():
    """An empty plan."""
    assert plan([], Shape(60)) == []


@given(st.lists(places, min_size=1, max_size=12), shapes())
def test_illegal_address_leads_to_smaller_requests_until_each_value_is_alone(values, shape):
    """First the holes go, then everything; it ends, and no value is lost on the way."""
    for _ in range(2 * len(values) + 1):
        blocks = plan(values, shape)
        several = next((block for block in blocks if len(block.places) > 1), None)
        if several is None:
            break
        smaller = without_holes(several, shape)
        assert smaller is not None
        assert smaller.cuts > shape.cuts
        assert len(plan(values, smaller)) >= len(blocks)
        shape = smaller
    assert all(len(block.places) == 1 and without_holes(block, shape) is None for block in plan(values, shape))


def test_illegal_address_leaves_out_the_hole_first():
    """Values without a hole between them stay together."""
    values = [Place("input", register, 2) for register in (0, 2, 10, 12)]
    shape = without_holes(plan(values, Shape(60))[0], Shape(60))
    assert shape is not None
    assert [(block.start, block.count) for block in plan(values, shape)] == [(0, 4), (10, 4)]


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
