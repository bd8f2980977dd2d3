"""The deterministic simulation: whole lives of the gateway from seeds, with faults and crashes, counted to the micro.

`checks` says what must hold after each (R1-R24 as far as they can be seen from outside); scripts/simulate runs more.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable

import pytest

from tests.simulation import scenario
from tests.simulation.checks import Outcome
from tests.simulation.plant import Plant
from tests.simulation.planted import PLANTED
from tests.simulation.planted_doubt import DOUBTLESS
from tests.simulation.running import Figures, corpus, lived, scratch
from tests.simulation.world import World

SEEDS = range(12)
WITHIN = (14, 16, 5, 0, 1, 2, 3, 4)  # in which a planted bug must show; the first have crashes and a server that sums


@functools.cache
def run(kind: str, seed: int) -> Outcome:
    return lived(kind, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_hour_arrives_exactly_once_whatever_fails(seed: int):
    """R16: with a random subset of all faults, at random rates."""
    assert run("swarm", seed).good, run("swarm", seed).told()


@pytest.mark.parametrize(
    ("kind", "seed"),
    [
        pytest.param(
            each.kind, each.seed, marks=[pytest.mark.xfail(strict=True, reason=each.fails)] if each.fails else []
        )
        for each in corpus()
    ],
)
def test_what_failed_once_is_right_now(kind: str, seed: int):
    """Every run that was ever wrong; one that still is says why in the corpus."""
    assert run(kind, seed).good, run(kind, seed).told()


def test_a_building_of_twenty_meters_at_the_reference_rates():
    """R16, and what it costs: one request in twenty faulted, at most that many requests more."""
    found = run("reference", 0)
    assert found.good, found.told()
    assert found.hours > 20 * 55
    assert found.crashes > 5


@pytest.mark.parametrize("seed", range(5))
def test_a_box_that_forgets_what_it_sent_sends_nothing_twice(seed: int):
    """R19: disks that lie, old images, empty databases; an hour that was there is found, or held for a person."""
    assert run("forgetful", seed).good, run("forgetful", seed).told()


@pytest.mark.parametrize("seed", range(5))
def test_what_doubles_behind_everybodys_back_is_told_within_a_day(seed: int):
    """R18: proxies, zombies and lags that outlive `settle`; what they did not hit is exact."""
    assert run("doubled", seed).good, run("doubled", seed).told()


@pytest.mark.parametrize("seed", range(5))
def test_registers_may_turn_and_meters_be_replaced(seed: int):
    """R9: rollovers, resets to zero, and replacements of which a person tells; each hour is exact all the same."""
    assert run("turned", seed).good, run("turned", seed).told()


@pytest.mark.parametrize("seed", range(2))
def test_a_share_that_is_too_small_is_kept_across_restarts(seed: int):
    """R22, and in the end everything is there all the same (R24)."""
    assert run("tight", seed).good, run("tight", seed).told()


def test_every_kind_of_fault_happens_in_these_runs():
    """A simulation in which a fault has quietly ceased to happen proves nothing about it."""
    happened: Counter[str] = Counter()
    for seed in SEEDS:
        happened += run("swarm", seed).faults
    kinds = {*scenario.WIRE, *scenario.PROCESS, *scenario.EVENTS, "late", "glitch", "poison", "late-energy"}
    assert kinds - happened.keys() == set()
    for kind, faults in (
        ("forgetful", scenario.FORGETTING),
        ("doubled", scenario.DOUBLING),
        ("turned", scenario.TURNS),
    ):
        happened = sum((run(kind, seed).faults for seed in range(5)), Counter())
        assert faults.keys() - happened.keys() == set()
    assert sum(run("swarm", seed).crashes for seed in SEEDS) > 50


@pytest.mark.parametrize("kind", [scenario.swarm, scenario.forgetful, scenario.doubled, scenario.turned])
def test_a_run_is_repeated_exactly_from_its_seed(kind: Callable[[int], scenario.Scenario]):
    """The same requests at the same milliseconds."""
    traces = []
    for _ in range(2):
        with scratch() as directory:
            world = World(kind(5), directory)
            world.live()
            world.close()
            traces.append(world.trace)
    assert traces[0] == traces[1]
    assert len(traces[0]) > 50


@pytest.mark.parametrize("planted", [*PLANTED, *DOUBTLESS], ids=lambda each: each.name.replace(" ", "-"))
def test_a_planted_bug_is_caught(planted: type[Plant], monkeypatch: pytest.MonkeyPatch):
    """Within a few seeds, all of which are right without it: by hours that are wrong or differ unnoticed, or by the budget."""
    plant = planted()
    plant.patch(monkeypatch)

    def caught(seed: int) -> bool:
        found = lived(plant.kind, seed, plant)
        assert not any("TypeError" in each for each in found.problems), "the plant does not fit what it replaces"
        return bool(found.wrong) or any(each.startswith(("R18", "R22")) for each in found.problems)

    assert any(caught(seed) for seed in (*plant.seeds, *WITHIN))


def test_the_figures_end_with_the_line_that_machines_read():
    """A problem that cost no hour counts as well."""
    figures = Figures()
    figures.add(Outcome(1, hours=100, accepted=10, requests=12, reads=1, faults=Counter({"503": 2})))
    figures.add(Outcome(2, hours=50, problems=["R22"], crashes=3))
    assert figures.told().splitlines() == [
        "2 runs, 3 crashes, 2 faults: 503 2",
        "12 requests for 10 accepted messages; extra 20.0%: 1 reads 10.0%, 1 sent in vain 10.0%",
        "simulate: 150 meter-hours, 1 wrong",
    ]
