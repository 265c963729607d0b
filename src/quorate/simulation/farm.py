"""A farm: many seeds tried on all cores, one process per core.

Workers (``farm_worker.py``) are fresh interpreters that get lines of JSON on their standard input
and answer with lines of JSON. Nothing is shared and nothing unpickled, so a farm is the same
wherever it is started from: a terminal, a notebook, a test, a program with threads.

What runs is given by words and import paths, because functions do not travel: a user's machine as
``module:NAME``, and whatever should be in place around the runs as ``module:function``.

Invariants:
    * each seed that was handed out gives one verdict, or the farm ends with an error
    * a worker has at most ``AHEAD`` seeds waiting; verdicts not yet asked for are bounded by that
    * no worker outlives the farm: each ends when its standard input does, also when this process
      is killed
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from quorate.errors import QuorateError, UsageError
from quorate.simulation.plan import Wishes, draw_scenario
from quorate.simulation.run import Outcome
from quorate.simulation.scenario import Scenario
from quorate.simulation.trial import Verdict, WorkloadOf, failure_of, workload_of_machine
from quorate.simulation.workloads.catalogue import workload_named
from quorate.simulation.workloads.machines import load_machine_test

AHEAD = 2
SECONDS_MAX = 300
_READ_BYTES = 1 << 16


class FarmFailed(QuorateError):
    """A worker died: the machine is out of memory, or the interpreter crashed.

    The message names the seeds that it had; they gave no verdict.
    """


@dataclass(frozen=True, slots=True)
class Errand:
    """What all runs of a farm have in common; travels as JSON.

    Attributes:
        wishes: what runs should be like.
        machine: ``module:NAME`` or ``file.py:NAME`` of a MachineTest; "": a workload of ours.
        around: ``module:function`` that gives a context manager for each run to happen in. Its
            value is the run's ``wrap_engine``, or None. "": nothing. How mutants are run.
        seconds_max: a run that takes longer in real time counts as one that never ends.
    """

    wishes: Wishes = field(default_factory=Wishes)
    machine: str = ""
    around: str = ""
    seconds_max: int = SECONDS_MAX

    def workload_of(self) -> WorkloadOf:
        """Makes the workloads of the runs.

        Raises:
            UsageError: there is no such machine.
        """
        if not self.machine:
            return workload_named
        return workload_of_machine(load_machine_test(self.machine))

    def scenario(self, seed: int, workload_of: WorkloadOf) -> Scenario:
        """What this seed means here."""
        return draw_scenario(seed, self.wishes, workload_of)

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Errand:
        """Read it back."""
        fields: dict[str, Any] = json.loads(line)
        wishes = fields.pop("wishes")
        if wishes["faults"] is not None:
            wishes["faults"] = tuple(wishes["faults"])
        return cls(wishes=Wishes(**wishes), **fields)


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def verdict_of(answer: dict[str, Any]) -> Verdict:
    """Read a worker's answer.

    Raises:
        UsageError: the worker says that the errand cannot be run.
    """
    if "usage" in answer:
        raise UsageError(answer["usage"])
    if "property" in answer:
        return failure_of(answer)
    return Outcome(**answer)


class _Worker:
    """One process, the seeds it has, and what it said of its next line."""

    def __init__(self, errand: Errand) -> None:
        path = [entry or str(Path.cwd()) for entry in sys.path]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "quorate.simulation.farm_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            start_new_session=True,  # Ctrl-C is for the farm, which ends its workers
        )
        self.seeds: deque[int] = deque()
        self._heard = b""
        self._say(errand.to_json())

    def fileno(self) -> int:
        """For the selector."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def hand_out(self, seed: int) -> None:
        """One more to run."""
        self.seeds.append(seed)
        self._say(str(seed))

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died: reading from it tells
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def answers(self) -> Iterator[Verdict]:
        """What has arrived.

        Raises:
            FarmFailed: the process is gone.
        """
        data = os.read(self.fileno(), _READ_BYTES)
        if not data:
            code = self._process.wait()
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            raise FarmFailed(f"a worker {how} with seeds {', '.join(map(str, self.seeds))}")
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            self.seeds.popleft()
            yield verdict_of(json.loads(line))

    def end(self) -> None:
        """Now, whatever it does."""
        self._process.kill()
        with suppress(BrokenPipeError):
            self._process.communicate()


class Farm:
    """Workers on an errand; a context manager, because they must end.

    Args:
        errand: what the runs have in common.
        jobs: how many processes; 0: one for each core.
    """

    def __init__(self, errand: Errand, jobs: int = 0) -> None:
        self._errand = errand
        self._jobs = jobs or cores()
        self._workers: list[_Worker] = []
        self._stopping = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()
        self._workers = []

    def stop(self) -> None:
        """Hand out no more seeds; what is under way still gives its verdict."""
        self._stopping = True

    def run(self, seeds: Iterable[int]) -> Iterator[Verdict]:
        """Try seeds; verdicts come as they are ready, in no order.

        Raises:
            UsageError: the errand cannot be run.
            FarmFailed: a worker died.
        """
        rest = iter(seeds)
        with selectors.DefaultSelector() as selector:
            for _ in range(self._jobs):
                seed = next(rest, None)
                if seed is None:
                    break
                worker = _Worker(self._errand)
                self._workers.append(worker)
                selector.register(worker, selectors.EVENT_READ)
                worker.hand_out(seed)
            for worker in self._workers:
                self._feed(worker, rest)
            while any(worker.seeds for worker in self._workers):
                for key, _ in selector.select():
                    ready = key.fileobj
                    assert isinstance(ready, _Worker)
                    for verdict in ready.answers():
                        yield verdict
                        self._feed(ready, rest)

    def _feed(self, worker: _Worker, rest: Iterator[int]) -> None:
        while not self._stopping and len(worker.seeds) < AHEAD:
            seed = next(rest, None)
            if seed is None:
                return
            worker.hand_out(seed)
