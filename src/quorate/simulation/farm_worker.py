"""One worker of a farm: an errand and seeds come in on standard input, verdicts go out.

    in:   the errand, then a seed in each line
    out:  a verdict in each line, in the same order

Standard output is kept for verdicts: what the code under test prints goes to standard error.

Invariant: it ends when its input ends; a run that takes too long is broken off and reported.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TextIO

from quorate.errors import UsageError
from quorate.simulation.farm import Errand
from quorate.simulation.host import WrapEngine
from quorate.simulation.trial import Overdue, attempt

Around = Callable[[], AbstractContextManager[WrapEngine | None]]


def around_named(where: str) -> Around:
    """Find what should be in place around each run.

    Raises:
        UsageError: there is nothing of that name.
    """
    if not where:
        return nullcontext
    module_name, _, name = where.rpartition(":")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"{where!r}: {error}") from error
    around: Around = found
    return around


class Worker:
    """An errand, ready to be run.

    Raises:
        UsageError: what it names is not there.
    """

    def __init__(self, errand: Errand) -> None:
        self._errand = errand
        self._workload_of = errand.workload_of()
        self._around = around_named(errand.around)

    def answer(self, seed: int) -> dict[str, Any]:
        """One seed, bounded in real time, as a line that the farm reads back."""
        signal.setitimer(signal.ITIMER_REAL, self._errand.seconds_max)
        try:
            scenario = self._errand.scenario(seed, self._workload_of)
            with self._around() as wrap_engine:
                return attempt(
                    scenario, workload_of=self._workload_of, wrap_engine=wrap_engine
                ).as_dict()
        except UsageError as error:
            return {"usage": str(error)}
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def work(lines: TextIO, out: TextIO) -> None:
    """Until the input ends."""
    errand = Errand.from_json(lines.readline())
    try:
        worker, refusal = Worker(errand), ""
    except UsageError as error:
        worker, refusal = None, str(error)
    for line in lines:
        found = worker.answer(int(line)) if worker is not None else {"usage": refusal}
        out.write(json.dumps(found) + "\n")
        out.flush()


def _overdue(*_: object) -> None:
    raise Overdue


def main() -> None:
    """Keep standard output for verdicts and work."""
    signal.signal(signal.SIGALRM, _overdue)
    # Runs make little garbage in cycles and many objects: the default thresholds search all of
    # them again and again, which is a tenth of the time.
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    work(sys.stdin, out)


if __name__ == "__main__":
    main()
