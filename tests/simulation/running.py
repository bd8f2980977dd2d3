"""Runs seeds, several processes at a time, and adds up what they came to: what the tests and scripts/simulate share."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tests.simulation.checks import Outcome, outcome
from tests.simulation.plant import Plant
from tests.simulation.scenario import Scenario, doubled, forgetful, reference, several, swarm, tight, turned

CORPUS = Path(__file__).with_name("corpus.txt")
KINDS: dict[str, Callable[[int], Scenario]] = {
    "swarm": swarm,
    "tight": tight,
    "reference": reference,
    "several": several,
    "forgetful": forgetful,
    "doubled": doubled,
    "turned": turned,
}
MIXED = ("swarm", "forgetful", "swarm", "doubled", "swarm", "turned")
MEMORY = Path(
    "/dev/shm"
)  # a run commits thousands of times, and no power is cut: what a disk's sync costs proves nothing


class Kept(NamedTuple):
    """A line of the corpus: a run that failed once, and why it still does."""

    kind: str
    seed: int
    fails: str


def corpus() -> list[Kept]:
    """The runs that failed once: KIND SEED, and behind "fails:" why one still does; the rest of a line is a comment."""
    found = []
    for line in CORPUS.read_text().splitlines():
        words = line.partition("#")[0].partition("fails:")
        if words[0].split():
            kind, seed = words[0].split()
            found.append(Kept(kind, int(seed), words[2].strip()))
    return found


def keep(kind: str, seed: int) -> None:
    """Put a run that failed into the corpus."""
    if all((each.kind, each.seed) != (kind, seed) for each in corpus()):
        with CORPUS.open("a") as file:
            file.write(f"{kind} {seed}\n")


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory for one run, in memory where there is such a place."""
    where = tempfile.mkdtemp(prefix="simulate-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None)
    try:
        yield Path(where)
    finally:
        shutil.rmtree(where, ignore_errors=True)


def lived(kind: str, seed: int, plant: Plant | None = None) -> Outcome:
    """One run; whatever it raises is a problem of its own."""
    with scratch() as directory:
        try:
            return outcome(KINDS[kind](seed), directory, plant)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            told = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
            return Outcome(seed, problems=[told])


@dataclass
class Figures:
    """All runs together."""

    hours: int = 0
    wrong: int = 0
    runs: int = 0
    crashes: int = 0
    requests: int = 0
    accepted: int = 0
    reads: int = 0
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, run: Outcome) -> None:
        self.runs += 1
        self.hours += run.hours
        self.wrong += len(run.wrong) or bool(run.problems)  # a problem without a wrong hour is one as well
        self.crashes += run.crashes
        self.requests += run.requests
        self.accepted += run.accepted
        self.reads += run.reads
        self.faults += run.faults

    def told(self) -> str:
        """For people; the last line for machines as well."""
        kinds = ", ".join(f"{fault} {count}" for fault, count in sorted(self.faults.items()))
        again = self.requests - self.accepted - self.reads
        return (
            f"{self.runs} runs, {self.crashes} crashes, {self.faults.total()} faults: {kinds}\n"
            f"{self.requests} requests for {self.accepted} accepted messages; extra {self._share(self.reads + again)}:"
            f" {self.reads} reads {self._share(self.reads)}, {again} sent in vain {self._share(again)}\n"
            f"simulate: {self.hours} meter-hours, {self.wrong} wrong"
        )

    def _share(self, requests: int) -> str:
        return f"{requests / max(self.accepted, 1):.1%}"


def kind_of(seed: int) -> str:
    """What a seed is about where nobody says."""
    return MIXED[seed % len(MIXED)]


def _quietly(kind: str, seed: int) -> Outcome:
    logging.disable(logging.CRITICAL)  # thousands of warnings of faults that were meant
    return lived(kind, seed)


def many(runs: Iterable[tuple[str, int]], jobs: int) -> Iterator[tuple[str, Outcome]]:
    """The outcomes, in order, of as many runs as the caller takes."""
    waiting: list[tuple[str, Future[Outcome]]] = []
    source = iter(runs)
    with ProcessPoolExecutor(jobs) as pool:
        try:
            while True:
                for kind, seed in islice(source, 2 * jobs - len(waiting)):
                    waiting.append((kind, pool.submit(_quietly, kind, seed)))
                if not waiting:
                    return
                kind, future = waiting.pop(0)
                yield kind, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
