"""Is there an order of the operations that explains every result, and respects real time?

``check`` splits a history by object (linearizability is local: Herlihy & Wing 1990, theorem 1;
Horn & Kroening 2015), searches each object alone (``search.py``), and lets two search orders race
where one does not get there soon (Knossos calls it a competition; here they take turns in one
thread, so the race has the same winner every time). What cannot be explained is cut down to what
a person can follow (``counterexample.py``).

It reads no clock: a budget counts configurations, and a caller with a deadline hands in
``Budget.is_over``. When the budget ends first the verdict is *undecided*; an object without an
order decides all, so a hard object never hides a broken one that was reached.

Cost: about 3 microseconds for each operation and 3 to 7 for each configuration visited; an object
whose results pin their order needs about one configuration per operation. Memory: 100 to 200 bytes
for each configuration remembered.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

from quorate.checking.counterexample import counterexample
from quorate.checking.history import History, Operation
from quorate.checking.model import Model
from quorate.checking.search import Problem, Search, depth_first, just_in_time
from quorate.checking.verdict import Answer, Budget, Counterexample, Verdict
from quorate.errors import BadInput, UsageError

DEPTH_FIRST: Final = "depth-first"
JUST_IN_TIME: Final = "just-in-time"
SEARCHES: Final = {DEPTH_FIRST: depth_first, JUST_IN_TIME: just_in_time}
AUTO: Final = "auto"

SLICE: Final = 4096
"""Configurations between two looks at the budget."""

DEFAULT_BUDGET: Final = Budget()

HEAD_START: Final = 4 * SLICE
"""What the depth-first search may visit on one object before the other search joins in."""


class _Racer:
    """One search over one object."""

    def __init__(self, name: str, model: Model, key: Hashable, operations: list[Operation]) -> None:
        self.name = name
        self.problem = Problem(model, operations, [model.initial(key)], look_ahead=True)
        self._search: Search = SEARCHES[name](self.problem)
        self._is_started = False

    def run(self, configurations: int) -> Answer:
        """Visit about so many more; UNDECIDED means that it is not at its end."""
        try:
            if not self._is_started:
                self._is_started = True
                next(self._search)
            self._search.send(configurations)
        except StopIteration as end:
            return Answer.LINEARIZABLE if end.value else Answer.NOT_LINEARIZABLE
        return Answer.UNDECIDED


class _Check:
    """One call of ``check``: what is spent, and which objects are still open."""

    def __init__(self, history: History, model: Model, budget: Budget, search: str) -> None:
        self.model = model
        self.budget = budget
        self.first, self.second = (
            (DEPTH_FIRST, JUST_IN_TIME) if search == AUTO else (search, search)
        )
        self.operations = len(history.operations)
        self.objects = _split(history, model)
        self.visited = 0
        self.decided_by = self.first

    def run(self) -> Verdict:
        """A head start for the first search on every object, then turns on those still open."""
        open_objects: list[tuple[Hashable, list[_Racer]]] = []
        undecided: list[Hashable] = []
        for key, operations in self.objects.items():
            racer = _Racer(self.first, self.model, key, operations)
            answer = self._advance(racer, HEAD_START)
            if answer is Answer.NOT_LINEARIZABLE:
                return self._broken(key, racer)
            if answer is Answer.UNDECIDED:
                open_objects.append((key, [racer]))
        quota = HEAD_START
        while open_objects:
            still_open = []
            for key, racers in open_objects:
                if len(racers) == 1 and self.second != self.first:
                    racers.append(_Racer(self.second, self.model, key, self.objects[key]))
                answer = Answer.UNDECIDED
                for racer in reversed(racers):
                    answer = self._advance(racer, quota)
                    if answer is Answer.NOT_LINEARIZABLE:
                        return self._broken(key, racer)
                    if answer is Answer.LINEARIZABLE:
                        self.decided_by = racer.name
                        break
                if answer is Answer.UNDECIDED:
                    still_open.append((key, racers))
            open_objects = still_open
            quota *= 2
            if self._is_spent():
                undecided = [key for key, _ in open_objects]
                break
        answer = Answer.UNDECIDED if undecided else Answer.LINEARIZABLE
        return self._verdict(answer, undecided=undecided)

    def _advance(self, racer: _Racer, quota: int) -> Answer:
        """Let it run in slices until its turn, or the budget, is over."""
        while quota > 0 and not self._is_spent():
            left = self.budget.configurations_max - self.visited
            before = racer.problem.visited
            answer = racer.run(min(SLICE, left))
            spent = racer.problem.visited - before
            self.visited += spent
            quota -= max(spent, 1)
            if answer is not Answer.UNDECIDED:
                return answer
        return Answer.UNDECIDED

    def _is_spent(self) -> bool:
        budget = self.budget
        if self.visited >= budget.configurations_max:
            return True
        return budget.is_over is not None and bool(budget.is_over())

    def _broken(self, key: Hashable, racer: _Racer) -> Verdict:
        self.decided_by = racer.name
        shown = counterexample(
            self.model, key, self.objects[key], racer.problem.furthest, self.budget.is_over
        )
        return self._verdict(Answer.NOT_LINEARIZABLE, shown=shown)

    def _verdict(
        self,
        answer: Answer,
        *,
        shown: Counterexample | None = None,
        undecided: Sequence[Hashable] = (),
    ) -> Verdict:
        return Verdict(
            answer=answer,
            model=self.model.name,
            operations=self.operations,
            partitions=len(self.objects),
            configurations=self.visited,
            search=self.decided_by,
            counterexample=shown,
            undecided=list(undecided),
        )


def _split(history: History, model: Model) -> dict[Hashable, list[Operation]]:
    """The operations of each object; raises BadInput for one that the model does not know."""
    objects: dict[Hashable, list[Operation]] = {}
    partition = model.partition
    check_operation = model.check_operation
    hashed: set[Operation] = set()
    for operation in history.operations:
        wrong = check_operation(operation)
        if wrong is None:
            try:
                hashed.clear()
                hashed.add(operation)
            except TypeError:
                wrong = f"{operation.argument!r} or {operation.result!r} cannot be hashed"
        if wrong is not None:
            raise BadInput(history.source or "history", operation.line, wrong)
        key = partition(operation)
        found = objects.get(key)
        if found is None:
            objects[key] = [operation]
        else:
            found.append(operation)
    return objects


def check(
    history: History, model: Model, *, budget: Budget = DEFAULT_BUDGET, search: str = AUTO
) -> Verdict:
    """Decide whether the history is linearizable.

    Args:
        history: what clients asked and were told.
        model: what a correct object would do.
        budget: when to give up; the verdict is then undecided, never a guess.
        search: "depth-first", "just-in-time", or "auto": the first alone for a while, then both
            by turns, each turn twice as long as the one before.

    Returns:
        The verdict; with a counterexample when the history is not linearizable.

    Raises:
        BadInput: an operation that the model does not know, named by file and line.
        UsageError: an unknown ``search``.
    """
    if search != AUTO and search not in SEARCHES:
        known = ", ".join([AUTO, *sorted(SEARCHES)])
        raise UsageError(f"there is no search {search!r}; there are {known}")
    return _Check(history, model, budget, search).run()
