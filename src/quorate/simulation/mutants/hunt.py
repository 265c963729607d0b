"""Hunting a mutant: seeds, one after the other, until a property is broken.

It measures the strength of everything at once: of the plan (does the fault that matters get drawn,
in time?), of the workload (does anybody ask what would give the mistake away?) and of the judges.
The same hunt over the code as it is must end empty-handed.

A mutant may also break the run in a way that no judge expects (an assertion of the code under
test, an exception): the run reports that as a property too.

Invariant: equal arguments give an equal result, in any process.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple, TypeAlias

from quorate.simulation.mutants.mutant import Mutant
from quorate.simulation.plan import Wishes, draw_scenario
from quorate.simulation.trial import Failure, attempt
from quorate.simulation.workloads.catalogue import workload_named

UNMUTATED = "none"
"""Name of the code as it is, in reports."""


class Caught(NamedTuple):
    """A property was broken.

    Attributes:
        mutant: its name.
        property: name of the property.
        kind: safety or liveness.
        seeds: how many were needed.
        seed: the one that showed it.
        detail: what was seen.
    """

    mutant: str
    property: str
    kind: str
    seeds: int
    seed: int
    detail: str


class Survived(NamedTuple):
    """All properties held in every run: right for the code as it is, and for nothing else."""

    mutant: str
    seeds: int


Found: TypeAlias = Caught | Survived


def hunt(mutant: Mutant | None, wishes: Wishes, first_seed: int, seeds_max: int) -> Found:
    """Run seeds with a rule removed until one shows it, in this process.

    Args:
        mutant: None: the code as it is.
        wishes: what runs are like; ``Mutant.wishes`` gives those that suit it.
        first_seed: where to begin.
        seeds_max: how many to try at most.
    """
    name = mutant.name if mutant is not None else UNMUTATED
    with mutant.applied() if mutant is not None else nullcontext():
        for seed in range(first_seed, first_seed + seeds_max):
            verdict = attempt(draw_scenario(seed, wishes, workload_named))
            if isinstance(verdict, Failure):
                return caught(name, verdict, first_seed)
    return Survived(name, seeds_max)


def caught(name: str, failure: Failure, first_seed: int) -> Caught:
    """A failed run of a hunt that began at ``first_seed``."""
    seed, broken = failure.seed, failure.broken
    seeds = seed - first_seed + 1
    return Caught(name, broken.name, broken.kind.value, seeds, seed, failure.detail)
