"""A campaign: all mutants hunted side by side, and the code as it is over the same seeds.

A patch lives in one process, so a worker takes one mutant and a few seeds at a time, and puts
everything back before it takes the next. Small portions keep all cores busy to the end and let
the caller show how far it is.

Invariant: verdicts do not depend on the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from typing import NamedTuple

from quorate.simulation.mutants.catalogue import mutant_named
from quorate.simulation.mutants.hunt import UNMUTATED, Caught, Survived, Verdict, hunt
from quorate.simulation.mutants.mutant import Mutant
from quorate.simulation.plan import Wishes

PORTION_SEEDS = 10


class Effort(NamedTuple):
    """How much is tried.

    Attributes:
        wishes: what runs are like.
        seeds: how many per mutant, at most.
        first_seed: where to begin.
        jobs: how many processes.
    """

    wishes: Wishes
    seeds: int = 500
    first_seed: int = 1
    jobs: int = 1


@dataclass(slots=True)
class Standing:
    """How far a campaign is.

    Attributes:
        verdicts: by name of the mutant, in the order in which they came.
        seeds_done: runs so far.
        unmutated: the code as it is: caught means that something is really wrong.
    """

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    seeds_done: int = 0
    unmutated: Verdict | None = None

    @property
    def survivors(self) -> list[str]:
        """Mutants that nothing caught."""
        return [name for name, verdict in self.verdicts.items() if isinstance(verdict, Survived)]

    @property
    def is_good(self) -> bool:
        """Whether every mutant was caught, and the code as it is was not."""
        return not self.survivors and isinstance(self.unmutated, Survived)


Watch = Callable[[Standing], None]


def run_campaign(mutants: Sequence[Mutant], effort: Effort, watch: Watch) -> Standing:
    """Hunt the mutants, then run the code as it is over as many seeds as the hardest one took.

    Args:
        mutants: whom.
        effort: how hard.
        watch: hears of every portion.
    """
    standing = Standing()
    with ProcessPoolExecutor(effort.jobs) as pool:
        _hunt_all([mutant.name for mutant in mutants], effort, pool, standing, watch)
        seeds = max((verdict.seeds for verdict in standing.verdicts.values()), default=0)
        standing.unmutated = _run_unmutated(max(1, seeds), effort, pool, standing, watch)
    return standing


def _hunt_all(
    names: Sequence[str],
    effort: Effort,
    pool: ProcessPoolExecutor,
    standing: Standing,
    watch: Watch,
) -> None:
    """Give each mutant portion after portion until it is caught or its seeds are used up."""
    running = {_submit(pool, name, effort, 0): (name, 0) for name in names}
    while running:
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in sorted(done, key=lambda known: running[known]):
            name, start = running.pop(future)
            verdict = future.result()
            standing.seeds_done += verdict.seeds
            tried = start + verdict.seeds
            if isinstance(verdict, Caught) or tried >= effort.seeds:
                standing.verdicts[name] = verdict._replace(seeds=tried)
            else:
                running[_submit(pool, name, effort, tried)] = (name, tried)
            watch(standing)


def _run_unmutated(
    seeds: int, effort: Effort, pool: ProcessPoolExecutor, standing: Standing, watch: Watch
) -> Verdict:
    limited = effort._replace(seeds=seeds)
    portions = [
        _submit(pool, UNMUTATED, limited, start) for start in range(0, seeds, PORTION_SEEDS)
    ]
    for number, portion in enumerate(portions):
        verdict = portion.result()
        standing.seeds_done += verdict.seeds
        watch(standing)
        if isinstance(verdict, Caught):
            for rest in portions:
                rest.cancel()
            return verdict._replace(seeds=number * PORTION_SEEDS + verdict.seeds)
    return Survived(UNMUTATED, seeds)


def _submit(pool: ProcessPoolExecutor, name: str, effort: Effort, start: int) -> Future[Verdict]:
    count = min(PORTION_SEEDS, effort.seeds - start)
    return pool.submit(_hunt_portion, name, effort.wishes, effort.first_seed + start, count)


def _hunt_portion(name: str, wishes: Wishes, first_seed: int, seeds: int) -> Verdict:
    """In a worker."""
    return hunt(None if name == UNMUTATED else mutant_named(name), wishes, first_seed, seeds)
