"""The two searches for an order that explains every result, over one object.

Knows nothing of partitions, budgets or words (``linearizability.py``, ``counterexample.py``).

The idea is Wing & Gong's (1993): an operation may come next if no operation still without a place
returned before it was called; try one, go on, come back when stuck. Lowe (2017) adds the memo:
two ways to the same operations done and the same state are one. The operations with a known
outcome are ranked by their returns, so what is done is a number and a mask: ranks below ``head``
are done, ``mask`` says which of ``head``, ``head + 1`` ... are (its lowest bit is never set). The
return of ``head`` is the deadline: whatever was called before it may come next. Both numbers stay
small however long the history is.

A configuration is (head, mask, state, used); ``used`` says which operations of unknown outcome
took effect. The searches walk the same graph of configurations in different orders:

    depth-first      newest first, by deadline: soon at the end when there is one
    just-in-time     everything before one return, then everything before the next (Lowe): forgets
                     what lies behind, and uses as few unknown outcomes as it can

Each rule that leaves out a part of the graph keeps this: *when a configuration can be completed,
then one of the configurations followed from it can, in no more steps, or an at least as good one
was followed before.* So an exhausted search has shown that no order exists.

    Reads first.  An operation that never changes the state, may come next, and fits the state, is
        taken at once. Proof: in any completion it stands somewhere; move it to the front. It fits
        there, it was called early enough, and the others do not notice.
    Reads of unknown outcome are left out: they may never have happened, and nobody noticed.
    An unknown outcome must change the state.  Proof: in a completion in which it does not, strike
        it out.
    Twins in order.  Of two operations that are the same in function, argument and result, the one
        that was both called and returned first goes first. Proof: let a be called before b and
        return before b; where b stands before a, exchange them. a at b's place: later than its
        call because b's place is later than b's call, and earlier than its return because a's
        old place was. b at a's place: later still than b's call, and earlier than a's return,
        so than b's. For unknown outcomes, which return never, the call alone decides.
    Missed moments.  A configuration is given up when an operation that must still get its place
        does not fit now and nothing that enables it is left. Proof: the state changes from one
        where it does not fit to one where it does, and some operation makes that change; it has
        no place yet, it was called before the waiting one returns, and the model says that it
        enables it. Only operations that are open now are looked at, so both overlap.
    More left is better.  Of two configurations that differ in ``used`` alone, the one that used a
        part of what the other used can be completed in every way in which the other can.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Generator, Hashable, Sequence
from typing import Any, Final

from quorate.checking.history import UNKNOWN_RETURN, Operation
from quorate.checking.model import ILLEGAL, Model

Configuration = tuple[int, int, int, int]
Search = Generator[None, int, bool]
"""Yields when it has visited as many configurations as it was sent; returns whether it arrived."""

Level = tuple[dict[int, Any], list[Configuration]]

STATE_BITS: Final = 32
NO_TWIN: Final = -1
LOST: Final[Configuration] = (-1, 0, 0, 0)


class Problem:
    """One object's operations, numbered and ready to be searched.

    Args:
        model: says what each operation does.
        operations: of one object, each known or unknown, in any order.
        starts: the states to begin in, any of them.
        goal: the search arrives when every operation returning among the first ``goal`` has its
            place; None: all of them.
    """

    def __init__(
        self,
        model: Model,
        operations: Sequence[Operation],
        starts: Sequence[Hashable],
        goal: int | None = None,
        *,
        look_ahead: bool = False,
    ) -> None:
        self.known: list[Operation] = []
        self.unknown: list[Operation] = []
        self.kinds: list[int] = []
        self.twins: list[int] = []
        self.unknown_kinds: list[int] = []
        self.readers: list[bool] = []
        self.visited = 0
        self.furthest = 0
        self._returns: list[int] = []
        self._model = model
        self._examples: list[Operation] = []
        self._states: list[Hashable] = []
        self._state_ids: dict[Hashable, int] = {}
        self._rows: list[dict[int, int]] = []
        self._number(operations)
        self.goal = len(self.known) if goal is None else goal
        self._open_at_each_deadline()
        self.look_ahead = look_ahead
        self._enablers: list[tuple[int, int, int] | None] = [None] * len(self.known)
        self._start_ids = [self._state_id(state) for state in starts]

    def _number(self, operations: Sequence[Operation]) -> None:
        """Rank the operations by return, and give those that do the same the same kind."""
        model = self._model
        numbers: dict[tuple[Any, ...], int] = {}
        readers: list[bool] = []
        last: dict[int, int] = {}
        unknown: list[tuple[int, int, Operation]] = []
        for operation in sorted(operations, key=lambda operation: operation[6]):
            _, function, key, argument, result, invoked, returned, *_ = operation
            if returned == UNKNOWN_RETURN:
                name: tuple[Any, ...] = (function, key, argument)
            else:
                # 0 and False are equal, and models tell them apart by identity.
                name = (function, key, argument, result, result.__class__)
            number = numbers.get(name)
            if number is None:
                number = numbers[name] = len(readers)
                readers.append(model.only_reads(operation))
                self._examples.append(operation)
            if returned == UNKNOWN_RETURN:
                if not readers[number]:
                    unknown.append((number, invoked, operation))
                continue
            twin = NO_TWIN
            if not readers[number]:
                twin = last.get(number, NO_TWIN)
                if twin != NO_TWIN and self.known[twin].invoked > invoked:
                    twin = NO_TWIN
                last[number] = len(self.known)
            self.known.append(operation)
            self._returns.append(returned)
            self.kinds.append(number)
            self.twins.append(twin)
            self.readers.append(readers[number])
        unknown.sort(key=lambda entry: entry[:2])
        self.unknown = [operation for _, _, operation in unknown]
        self.unknown_kinds = [number for number, _, _ in unknown]

    def _open_at_each_deadline(self) -> None:
        """For each head: who was called before it returned, as masks relative to the head."""
        known = self.known
        readers = self.readers
        self.open_changers: list[int] = []
        self.open_readers: list[int] = []
        self.open_unknown: list[int] = []
        by_call = sorted(range(len(known)), key=lambda rank: known[rank].invoked)
        unknown_by_call = sorted(
            range(len(self.unknown)), key=lambda index: self.unknown[index].invoked
        )
        position = unknown_position = changers = reading = unknown = 0
        for head, operation in enumerate(known):
            deadline = operation[6]
            while position < len(by_call) and known[by_call[position]][5] < deadline:
                rank = by_call[position]
                if rank >= head:
                    if readers[rank]:
                        reading |= 1 << (rank - head)
                    else:
                        changers |= 1 << (rank - head)
                position += 1
            while unknown_position < len(unknown_by_call):
                index = unknown_by_call[unknown_position]
                if self.unknown[index][5] > deadline:
                    break
                unknown |= 1 << index
                unknown_position += 1
            self.open_changers.append(changers)
            self.open_readers.append(reading)
            self.open_unknown.append(unknown)
            changers >>= 1
            reading >>= 1
        self.first_of_kind = sum(
            1 << index
            for index, kind in enumerate(self.unknown_kinds)
            if index == 0 or self.unknown_kinds[index - 1] != kind
        )

    def _state_id(self, state: Hashable) -> int:
        number = self._state_ids.get(state)
        if number is None:
            number = self._state_ids[state] = len(self._states)
            self._states.append(state)
            self._rows.append({})
        return number

    def placed(self, ends: Sequence[Configuration]) -> tuple[set[int], set[int]]:
        """Which operations are done in all of the configurations, and which in some only.

        Returns:
            Two sets of positions of calls.
        """
        done = [((1 << head) - 1 | mask << head, used) for head, mask, _, used in ends]
        always: set[int] = set()
        sometimes: set[int] = set()
        for field, operations in ((0, self.known), (1, self.unknown)):
            for number, operation in enumerate(operations):
                count = sum(entry[field] >> number & 1 for entry in done)
                if count == len(done):
                    always.add(operation.invoked)
                elif count:
                    sometimes.add(operation.invoked)
        return always, sometimes

    def state(self, number: int) -> Hashable:
        """The state that a configuration's number stands for."""
        return self._states[number]

    def _step(self, number: int, kind: int) -> int:
        """Ask the model; -1 when it says ILLEGAL. The answer is kept in the state's row."""
        after = self._model.step(self._states[number], self._examples[kind])
        answer = -1 if after is ILLEGAL else self._state_id(after)
        self._rows[number][kind] = answer
        return answer

    def _find_enablers(self, rank: int) -> tuple[int, int, int]:
        """Which operations can make the one of this rank fit, of those that overlap it.

        Returns:
            A rank, the known ones as a mask relative to it, and the unknown ones as a mask.
        """
        waiting = self.known[rank]
        enables = self._model.enables
        first = bisect_right(self._returns, waiting.invoked)
        overlapping = [other for other in range(first, rank) if not self.readers[other]]
        later = self.open_changers[rank] & ~1
        while later:
            overlapping.append(rank + later.bit_length() - 1)
            later ^= 1 << later.bit_length() - 1
        known = unknown = 0
        for other in overlapping:
            if enables(self.known[other], waiting):
                known |= 1 << other - first
        pending = self.open_unknown[rank]
        while pending:
            index = pending.bit_length() - 1
            pending ^= 1 << index
            if enables(self.unknown[index], waiting):
                unknown |= 1 << index
        answer = self._enablers[rank] = (first, known, unknown)
        return answer

    def _is_lost(self, rank: int, head: int, mask: int, used: int) -> bool:
        """Whether an operation that does not fit now can never fit again."""
        first, known, unknown = self._enablers[rank] or self._find_enablers(rank)
        return not (known >> head - first & ~mask or unknown & ~used)

    def beginning(self) -> list[Configuration]:
        """Where a search starts: nothing done, in each of the start states."""
        settle = self.settler()
        settled = [settle(0, 0, state, 0) for state in self._start_ids]
        return [configuration for configuration in settled if configuration is not LOST]

    def settler(self) -> Callable[[int, int, int, int], Configuration]:
        """A function that takes every read that fits, and moves the head over what is done."""
        open_readers = self.open_readers
        kinds = self.kinds
        rows = self._rows
        step = self._step
        goal = self.goal
        look_ahead = self.look_ahead
        is_lost = self._is_lost

        def settle(head: int, mask: int, state: int, used: int) -> Configuration:
            while True:
                if mask & 1:
                    done = (~mask & (mask + 1)).bit_length() - 1
                    mask >>= done
                    head += done
                if head >= goal:
                    return head, mask, state, used
                reading = open_readers[head] & ~mask
                if not reading:
                    return head, mask, state, used
                row = rows[state]
                while reading:
                    bit = reading & -reading
                    reading ^= bit
                    kind = kinds[head + bit.bit_length() - 1]
                    after = row.get(kind)
                    if after is None:
                        after = step(state, kind)
                    if after >= 0:
                        mask |= bit
                    elif look_ahead:
                        rank = head + bit.bit_length() - 1
                        if rank < goal and is_lost(rank, head, mask, used):
                            return LOST
                if not mask & 1:
                    return head, mask, state, used

        return settle

    def expander(self) -> Callable[[int, int, int, int], list[Configuration]]:
        """A function that answers what may follow a settled configuration, best one last."""
        settle = self.settler()
        open_changers, open_unknown = self.open_changers, self.open_unknown
        kinds, twins, unknown_kinds = self.kinds, self.twins, self.unknown_kinds
        rows = self._rows
        step = self._step
        first_of_kind = self.first_of_kind
        goal = self.goal
        look_ahead = self.look_ahead
        is_lost = self._is_lost

        def expand(head: int, mask: int, state: int, used: int) -> list[Configuration]:
            following = []
            row = rows[state]
            pending = open_unknown[head] & ~used
            if pending:
                pending &= (used << 1) | first_of_kind
                while pending:
                    index = pending.bit_length() - 1
                    pending ^= 1 << index
                    kind = unknown_kinds[index]
                    after = row.get(kind)
                    if after is None:
                        after = step(state, kind)
                    if after >= 0 and after != state:
                        following.append(settle(head, mask, after, used | 1 << index))
            changers = open_changers[head] & ~mask
            while changers:
                offset = changers.bit_length() - 1
                bit = 1 << offset
                changers ^= bit
                rank = head + offset
                kind = kinds[rank]
                after = row.get(kind)
                if after is None:
                    after = step(state, kind)
                if after >= 0:
                    twin = twins[rank] - head
                    if twin < 0 or mask >> twin & 1:
                        following.append(settle(head, mask | bit, after, used))
                elif look_ahead and rank < goal and is_lost(rank, head, mask, used):
                    return []
            return following

        return expand


def is_new(memo: dict[int, Any], key: int, used: int) -> bool:
    """Remember a configuration, unless one at least as good is known."""
    seen = memo.get(key)
    if seen is None:
        memo[key] = used
        return True
    if type(seen) is int:
        if not seen & ~used:
            return False
        memo[key] = used if not used & ~seen else (seen, used)
        return True
    for other in seen:
        if not other & ~used:
            return False
    memo[key] = (*[other for other in seen if used & ~other], used)
    return True


def depth_first(problem: Problem) -> Search:
    """Newest configuration first; the memo keeps all that were visited."""
    goal = problem.goal
    head_bits = len(problem.known).bit_length()
    expand = problem.expander()
    memo: dict[int, Any] = {}
    stack: list[Configuration] = []
    for configuration in problem.beginning():
        if configuration[0] >= goal:
            return True
        stack.append(configuration)
    visited = 0
    furthest = max((configuration[0] for configuration in stack), default=0)
    allowed = yield
    while stack:
        if visited >= allowed:
            problem.visited += visited
            problem.furthest = furthest
            visited = 0
            allowed = yield
        for configuration in expand(*stack.pop()):
            head, mask, state, used = configuration
            if head < 0:
                continue
            if head > furthest:
                furthest = head
                if head >= goal:
                    problem.visited += visited
                    return True
            key = (mask << STATE_BITS | state) << head_bits | head
            if key not in memo:
                memo[key] = used
            elif not is_new(memo, key, used):
                continue
            visited += 1
            stack.append(configuration)
    problem.visited += visited
    problem.furthest = furthest
    return False


def frontier(problem: Problem, visited_max: int) -> list[Configuration] | None:
    """Every way to arrive, or None when that takes more than ``visited_max`` configurations."""
    goal = problem.goal
    head_bits = len(problem.known).bit_length()
    expand = problem.expander()
    memo: dict[int, Any] = {}
    arrived: list[Configuration] = []
    waiting = problem.beginning()
    while waiting:
        configuration = waiting.pop()
        head, mask, state, used = configuration
        if head < 0 or not is_new(memo, (mask << STATE_BITS | state) << head_bits | head, used):
            continue
        problem.visited += 1
        if problem.visited > visited_max:
            return None
        if head >= goal:
            arrived.append(configuration)
        else:
            waiting.extend(expand(head, mask, state, used))
    return arrived


def just_in_time(problem: Problem) -> Search:
    """All that is possible before one return, then before the next; keeps only what lies ahead."""
    goal = problem.goal
    expand = problem.expander()
    levels: dict[int, Level] = {}
    for configuration in problem.beginning():
        head, mask, state, used = configuration
        if head >= goal:
            return True
        memo, entries = levels.setdefault(head, ({}, []))
        if is_new(memo, mask << STATE_BITS | state, used):
            entries.append(configuration)
    allowed = yield
    visited = 0
    while levels:
        level = min(levels)
        problem.furthest = level
        memo, here = levels.pop(level)
        here.sort(key=_fewest_unknown)
        for configuration in here:
            if visited >= allowed:
                problem.visited += visited
                visited = 0
                allowed = yield
            for following in expand(*configuration):
                head, mask, state, used = following
                if head < 0:
                    continue
                if head == level:
                    if is_new(memo, mask << STATE_BITS | state, used):
                        visited += 1
                        here.append(following)
                    continue
                if head >= goal:
                    problem.visited += visited
                    return True
                ahead = levels.get(head)
                if ahead is None:
                    ahead = levels[head] = ({}, [])
                if is_new(ahead[0], mask << STATE_BITS | state, used):
                    visited += 1
                    ahead[1].append(following)
    problem.visited += visited
    return False


def _fewest_unknown(configuration: Configuration) -> int:
    return configuration[3].bit_count()
