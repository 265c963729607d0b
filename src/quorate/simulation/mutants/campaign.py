"""A campaign: all mutants hunted side by side, then the code as it is over the same seeds.

Each mutant has a worker process of its own (a farm of one), because a patch changes the process;
threads here only wait for them. Runs of the code as it is are the same runs that the mutants
failed: same workloads, same faults, as many seeds as the hardest of each kind took.

Invariant: what is found does not depend on the number of jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple

from quorate.simulation.farm import Errand, Farm, cores
from quorate.simulation.mutants.around import path_of
from quorate.simulation.mutants.hunt import UNMUTATED, Caught, Found, Survived, caught
from quorate.simulation.mutants.mutant import Mutant
from quorate.simulation.plan import Wishes
from quorate.simulation.trial import Failure

SECONDS_MAX = 60


class Effort(NamedTuple):
    """How much is tried.

    Attributes:
        duration_us: how long faults act in a run.
        seeds: how many per mutant, at most.
        first_seed: where to begin.
        jobs: how many processes; 0: one for each core.
    """

    duration_us: int = 20_000_000
    seeds: int = 500
    first_seed: int = 1
    jobs: int = 0


@dataclass(slots=True)
class Standing:
    """How far a campaign is.

    Attributes:
        found: by name of the mutant, in the order in which hunts ended.
        runs: so far.
        unmutated: the code as it is: caught means that something is really wrong.
    """

    found: dict[str, Found] = field(default_factory=dict)
    runs: int = 0
    unmutated: Found | None = None

    @property
    def survivors(self) -> list[str]:
        """Mutants that nothing caught."""
        return [name for name, found in self.found.items() if isinstance(found, Survived)]

    @property
    def is_good(self) -> bool:
        """Whether every mutant was caught, and the code as it is was not."""
        return not self.survivors and isinstance(self.unmutated, Survived)


class Campaign:
    """Hunts, and keeps count.

    Args:
        mutants: whom to hunt.
        effort: how hard.
        watch: hears of every run; called by one thread at a time.
    """

    def __init__(
        self, mutants: Sequence[Mutant], effort: Effort, watch: Callable[[Standing], None]
    ) -> None:
        self._mutants = mutants
        self._effort = effort
        self._watch = watch
        self._lock = Lock()
        self.standing = Standing()

    def run(self) -> Standing:
        """Hunt the mutants, then try the code as it is.

        Raises:
            FarmFailed: a worker died.
        """
        with ThreadPoolExecutor(self._effort.jobs or cores()) as pool:
            for done in as_completed([pool.submit(self._hunt, each) for each in self._mutants]):
                done.result()
        self.standing.unmutated = self._run_unmutated()
        return self.standing

    def _hunt(self, mutant: Mutant) -> None:
        wishes = mutant.wishes(self._effort.duration_us)
        errand = Errand(wishes, around=path_of(mutant), seconds_max=SECONDS_MAX)
        found = self._try(mutant.name, errand, self._effort.seeds, jobs=1)
        with self._lock:
            self.standing.found[mutant.name] = found
            self._watch(self.standing)

    def _run_unmutated(self) -> Found:
        seeds: dict[Wishes, int] = {}
        for mutant in self._mutants:
            wishes = mutant.wishes(self._effort.duration_us)
            needed = self.standing.found[mutant.name].seeds
            seeds[wishes] = max(seeds.get(wishes, 0), needed)
        for wishes, count in seeds.items():
            found = self._try(UNMUTATED, Errand(wishes), count, jobs=self._effort.jobs)
            if isinstance(found, Caught):
                return found
        return Survived(UNMUTATED, sum(seeds.values()))

    def _try(self, name: str, errand: Errand, seeds: int, *, jobs: int) -> Found:
        """Try seeds until one fails; of several that do, the first."""
        first_seed = self._effort.first_seed
        failure: Failure | None = None
        with Farm(errand, jobs) as farm:
            for verdict in farm.run(range(first_seed, first_seed + seeds)):
                if isinstance(verdict, Failure):
                    farm.stop()
                    if failure is None or verdict.seed < failure.seed:
                        failure = verdict
                    if jobs == 1:
                        break
                with self._lock:
                    self.standing.runs += 1
                    self._watch(self.standing)
        return Survived(name, seeds) if failure is None else caught(name, failure, first_seed)
