"""The walk along a device's SunSpec models: what it asks for, what it finds, and that it always ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.plan import REGISTERS
from drivers.modbus.sunspec import BASES, MOST_MODELS, Walk

SUNS = [0x5375, 0x6E53]


def chain(*models: tuple[int, int]) -> list[int]:
    """The registers of a map: "SunS", models of (ID, length) filled with 0x0BAD, and the end."""
    words = list(SUNS)
    for model, length in models:
        words += [model, length, *([0x0BAD] * length)]
    return [*words, 0xFFFF, 0]


def walked(walk: Walk, memory: dict[int, int]) -> list[int]:
    """Let it ask until it has enough; the registers that it asked for."""
    asked = []
    while (place := walk.wanted) is not None:
        asked.append(place.register)
        words = [memory.get(register) for register in range(place.register, place.end)]
        if None in words:
            walk.refused()
        else:
            walk.heard([word for word in words if word is not None])
    return asked


def at(base: int, words: list[int]) -> dict[int, int]:
    return dict(enumerate(words, base))


@pytest.mark.parametrize("base", BASES)
def test_a_model_is_found_behind_the_others_whichever_of_the_three_bases_the_map_has(base):
    """The common model has 66 registers, an inverter 50: the meter begins behind them."""
    walk = Walk()
    walked(walk, at(base, chain((1, 66), (101, 50), (203, 105))))
    assert walk.models == [(1, base + 2, 66), (101, base + 70, 50), (203, base + 122, 105)]


def test_only_ids_and_lengths_are_read():
    """Four requests for two models and the end, and one for the mark."""
    walk = Walk()
    assert walked(walk, at(40_000, chain((1, 66), (203, 105)))) == [40_000, 40_002, 40_070, 40_177]


def test_two_models_of_one_kind_are_both_found():
    """An inverter with two meters."""
    walk = Walk()
    walked(walk, at(0, chain((203, 105), (203, 105))))
    assert walk.models == [(203, 2, 105), (203, 109, 105)]


def test_a_map_without_an_end_is_walked_as_far_as_it_goes():
    """The device refuses what is behind the last model."""
    walk = Walk()
    walked(walk, at(40_000, chain((1, 66), (213, 124))[:-2]))
    assert [model.number for model in walk.models] == [1, 213]


def test_another_map_at_a_base_is_not_taken_for_sunspec():
    """Registers that hold something else are passed over."""
    walk = Walk()
    memory = at(40_000, [1, 2, 3, 4]) | at(50_000, chain((201, 105)))
    assert walked(walk, memory) == [40_000, 50_000, 50_002, 50_109]
    assert walk.models == [(201, 50_002, 105)]


def test_what_was_found_is_told():
    """For the operator who has written the wrong profile, or the wrong device."""
    walk = Walk()
    walked(walk, at(40_000, chain((1, 66), (103, 50))))
    assert walk.found == "this device has the SunSpec models 1, 103"
    nothing = Walk()
    walked(nothing, {})
    assert nothing.found == 'there is no "SunS" at 40000, 50000, 0'


def test_a_base_that_is_silent_does_not_hide_the_others():
    """The next walk begins at the next one."""
    first = [Walk(number).wanted for number in range(4)]
    assert [place.register for place in first if place] == [40_000, 50_000, 0, 40_000]


@given(st.dictionaries(st.integers(0, REGISTERS - 1), st.sampled_from([0, 1, 2, 0x5375, 0x6E53, 0xFFFF, 203])))
def test_a_walk_ends_whatever_the_device_says(extra):
    """No chain of empty models or of nonsense keeps the line busy."""
    walk = Walk()
    asked = walked(walk, dict.fromkeys(range(REGISTERS), 0) | at(40_000, SUNS) | extra)
    assert len(asked) <= MOST_MODELS + len(BASES) + 1
    assert all(0 <= register < REGISTERS - 1 for register in asked)
