"""From "no order exists" to the few operations that show it.

Given an object without an order, in four steps:

1. **End.** The first return at which it became inexplicable: how far a search can get only shrinks
   as more returns are demanded, so the border is found by doubling and halving.
2. **Begin.** The latest earlier return such that what is open then or called later is inexplicable
   already, from every state the object can be in then. What took effect before in some of the
   orders only is demanded in none: more is allowed than was possible, so that nothing stays
   inexplicable because of it.
3. **Leave out.** An operation is left out when the rest is inexplicable whatever became of it: a
   read, because the rest lacks an order without it; a change, because the rest lacks one although
   it may take effect at any time after its call, or never. (To leave out a change and be left with
   no order would prove nothing: the order may need it.) And only while the rest without the last
   return has an order, so that the end stays the end.
4. **Tell.** The longest order of a part of the window, and what could not come next.

All searches here are bounded; where a bound is met the window stays larger than it had to be, and
right. Knows nothing of pictures (``explain.py``, ``timeline.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, NamedTuple

from quorate.checking.history import UNKNOWN_RETURN, Operation
from quorate.checking.model import ILLEGAL, Model
from quorate.checking.search import Problem, depth_first, frontier, just_in_time
from quorate.checking.verdict import Counterexample

QUESTION_MAX: Final = 40_000
"""Configurations for one question while cutting down."""

TOTAL_MAX: Final = 50_000
"""Configurations for all questions about one object together."""

STATES_MAX: Final = 4
"""A window that may begin in more states than this is hard to follow; a longer one is tried."""

Place = tuple[int, Any]  # which of the window are done, as a mask; the state

SHORT: Final = 60
"""Operations of a window that is made longer in order to tell more."""

TELL_MAX: Final = 20_000
"""Configurations visited in search of the longest order."""


def counterexample(
    model: Model,
    key: Hashable,
    operations: Sequence[Operation],
    reached: int,
    is_over: Callable[[], bool] | None = None,
) -> Counterexample:
    """Cut an object that has no order down to a window.

    Args:
        model: the model that cannot explain it.
        key: the object.
        operations: all of the object's operations.
        reached: how many returns a search got past; 0 when not known.
        is_over: the budget's; when it says True the window found so far is the answer.
    """
    cutter = _cut(model, key, operations, reached, is_over)
    window, states = cutter.sorted_window(), cutter.states
    longest, stuck = _tell(model, window, states)
    return Counterexample(
        key=key,
        operations=window,
        before=" or ".join([model.describe_state(state) for state in states]),
        longest=longest,
        stuck=stuck,
        last=cutter.last,
    )


def cut_down(
    model: Model,
    key: Hashable,
    operations: Sequence[Operation],
    reached: int,
    is_over: Callable[[], bool] | None = None,
) -> tuple[list[Operation], list[Hashable]]:
    """The window by the order of calls, and the states it may begin in."""
    cutter = _cut(model, key, operations, reached, is_over)
    return cutter.sorted_window(), cutter.states


def _cut(
    model: Model,
    key: Hashable,
    operations: Sequence[Operation],
    reached: int,
    is_over: Callable[[], bool] | None,
) -> _Cutter:
    cutter = _Cutter(model, key, operations, is_over)
    cutter.find_end(reached)
    cutter.find_beginning()
    cutter.leave_out()
    return cutter


class _Beginning(NamedTuple):
    """A window that could be shown."""

    window: list[Operation]
    loose: list[Operation]
    states: list[Hashable]


class _Cutter:
    """The window while it is cut down; ``loose`` of it may have happened at any time, or never."""

    def __init__(
        self,
        model: Model,
        key: Hashable,
        operations: Sequence[Operation],
        is_over: Callable[[], bool] | None,
    ) -> None:
        self.model = model
        self.states: list[Hashable] = [model.initial(key)]
        self.window = list(operations)
        self.loose: list[Operation] = []
        self.last = max(_known(operations), key=lambda operation: operation.returned)
        self._left = TOTAL_MAX
        self._is_over = is_over

    def sorted_window(self) -> list[Operation]:
        """The window by the order of calls."""
        return sorted(self.window, key=lambda operation: operation.invoked)

    def find_end(self, reached: int) -> None:
        """Drop what was called after the first inexplicable return."""
        known = sorted(_known(self.window), key=lambda operation: operation.returned)
        possible = reached
        impossible = len(known)
        stride = 1
        while impossible - possible > 1:
            middle = min(possible + stride, (possible + impossible + 1) // 2)
            stride *= 2
            answer = self._has_order(self.window, self.states, middle)
            if answer is None:
                break
            if answer:
                possible = middle
            else:
                impossible = middle
        self.last = known[impossible - 1]
        end = self.last.returned
        self.window = [operation for operation in self.window if operation.invoked < end]

    def find_beginning(self) -> None:
        """Go back from the end, twice as far each time, until the window is inexplicable.

        And while it is short, a little further: to where the last operation would have fitted, so
        that the window shows what came between.
        """
        known = sorted(_known(self.window), key=lambda operation: operation.returned)
        last = known.index(self.last)
        back = 0
        best: _Beginning | None = None
        while back < last and self._left > 0:
            begin = last - back
            back = back * 2 + 1
            found = self._begin_at(begin)
            if found is None:
                continue
            if best is None or (len(found.window) <= SHORT and self._fits(found.states)):
                best = found
            if self._fits(best.states) or len(found.window) > SHORT:
                break
        if best is not None:
            self.window, self.loose, self.states = best

    def _begin_at(self, begin: int) -> _Beginning | None:
        """The window after so many returns, if it is inexplicable from every state then."""
        problem = Problem(self.model, self.window, self.states, begin, look_ahead=True)
        ends = frontier(problem, min(QUESTION_MAX, self._left))
        self._left -= problem.visited
        if not ends:
            return None
        states = list(dict.fromkeys([problem.state(end[2]) for end in ends]))
        if len(states) > STATES_MAX:
            return None
        always, sometimes = problem.placed(ends)
        rest = [operation for operation in self.window if operation.invoked not in always]
        loose = [operation for operation in rest if operation.invoked in sometimes]
        firm = [operation for operation in rest if operation.invoked not in sometimes]
        if self.last not in firm:
            return None
        goal = self._goal(firm)
        if self._has_order(firm + _loosened(loose), states, goal) is not False:
            return None
        if not self._has_order(firm, states, goal - 1):
            return None
        return _Beginning(firm, loose, states)

    def _fits(self, states: Sequence[Hashable]) -> bool:
        step = self.model.step
        return any(step(state, self.last) is not ILLEGAL for state in states)

    def leave_out(self) -> None:
        """One after the other, reads first: whatever the rest is inexplicable without."""
        model = self.model
        order = sorted(self.window, key=lambda operation: operation.invoked)
        order.sort(key=lambda operation: not model.only_reads(operation))
        for operation in order:
            if operation is self.last:
                continue
            if self._left <= 0 or (self._is_over is not None and self._is_over()):
                return
            rest = [other for other in self.window if other is not operation]
            loose = self.loose if model.only_reads(operation) else [*self.loose, operation]
            goal = self._goal(rest)
            if self._has_order(rest + _loosened(loose), self.states, goal) is not False:
                continue
            if self._has_order(rest, self.states, goal - 1):
                self.window, self.loose = rest, loose

    def _goal(self, operations: Sequence[Operation]) -> int:
        """How many returns there are up to the last one."""
        end = self.last.returned
        return sum(1 for operation in operations if operation.returned <= end)

    def _has_order(
        self, operations: Sequence[Operation], states: Sequence[Hashable], goal: int
    ) -> bool | None:
        """Whether the first ``goal`` returns can be explained; None: not found out."""
        for search in (depth_first, just_in_time):
            if self._left <= 0:
                return None
            problem = Problem(self.model, operations, states, goal, look_ahead=True)
            running = search(problem)
            try:
                next(running)
                running.send(min(QUESTION_MAX, self._left))
            except StopIteration as end:
                self._left -= problem.visited
                return bool(end.value)
            self._left -= problem.visited
        return None


def _known(operations: Sequence[Operation]) -> list[Operation]:
    return [operation for operation in operations if operation.returned != UNKNOWN_RETURN]


def _loosened(operations: Sequence[Operation]) -> list[Operation]:
    """The same operations as if nobody had been told what became of them."""
    return [operation._replace(returned=UNKNOWN_RETURN, result=None) for operation in operations]


def _tell(
    model: Model, window: list[Operation], states: Sequence[Hashable]
) -> tuple[list[tuple[Operation, str]], list[tuple[Operation, str]]]:
    """The longest order found, with the state after each, and what could not come next.

    A plain search on its own: it shares no code with the searches whose verdict it illustrates.
    """
    origin: dict[Place, tuple[Place, int] | None] = {}
    stack: list[Place] = []
    for state in states:
        origin[0, state] = None
        stack.append((0, state))
    best = stack[0]
    while stack and len(origin) < TELL_MAX:
        place = stack.pop()
        done, state = place
        if done.bit_count() > best[0].bit_count():
            best = place
        for index in reversed(_next(window, done)):
            after = model.step(state, window[index])
            following = (done | 1 << index, after)
            if after is ILLEGAL or following in origin:
                continue
            if after == state and window[index].is_unknown:
                continue
            origin[following] = (place, index)
            stack.append(following)
    longest: list[tuple[Operation, str]] = []
    place = best
    while (step := origin[place]) is not None:
        longest.append((window[step[1]], model.describe_state(place[1])))
        place = step[0]
    longest.reverse()
    stuck = [
        (window[index], _why(model, best[1], window[index]))
        for index in _next(window, best[0])
        if not window[index].is_unknown
    ]
    return longest, stuck


def _next(window: list[Operation], done: int) -> list[int]:
    """Whose turn it can be: nobody still without a place returned before the call."""
    waiting = [index for index in range(len(window)) if not done >> index & 1]
    deadline = min([window[index].returned for index in waiting], default=UNKNOWN_RETURN)
    return [index for index in waiting if window[index].invoked < deadline]


def _why(model: Model, state: Any, operation: Operation) -> str:
    if model.step(state, operation) is ILLEGAL:
        return f"it does not fit: the state is {model.describe_state(state)}"
    return "it fits, but the order that takes it was not followed to its end"
