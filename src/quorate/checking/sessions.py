"""What ZooKeeper promises about local reads: every session sees one history, and only forwards.

A follower answers reads from its own state, so reads may be old; they need not be linearizable.
What must hold (ZooKeeper, Hunt et al. 2010, section 2.3: linearizable writes, and FIFO order of
each client) is this. There is one total order of all writes. Each session stands at a point of it,
and its operations, in the order of its calls, never move it backwards:

    * a write moves its session to the write's own place, which lies after where the session stood
      (read your writes, writes in the order of calls)
    * a read sees the state at some point at or after where the session stands (monotonic reads,
      over all keys together)
    * a write that returned before another was called lies before it (writes are linearizable)
    * a read does not see the future: whatever lies at or before its point was called before the
      read returned
    * a sync moves its session behind every write that had returned when the sync was called

The order of the writes is not searched for: operations tell their places (a zxid, a log index, a
position), so one pass decides. A session takes the earliest point that its read allows. That is
always right: from an earlier point everything can be reached that can be from a later one.

Operations are those of a history with these functions, where ``place`` is a whole number above 0:

    write   argument: the new value (null: deleted); result: the place
    read    result: [value, place of the write that left it]; [null, 0] when never written
    sync    no argument, no result

A process is a session. Of a write of unknown outcome nobody knows the place until somebody reads
what it wrote; then the read tells it. A node that keeps no places for deleted keys answers a read
with [null, 0]; it is taken for the earliest deletion that fits.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from quorate.checking.history import History, Operation
from quorate.checking.verdict import Answer
from quorate.errors import BadInput

FUNCTIONS: Final = ("read", "write", "sync")
FIELDS_OF_READ: Final = 2
NEVER_WRITTEN: Final = 0


@dataclass(frozen=True, slots=True)
class SessionVerdict:
    """What was found about sessions.

    Attributes:
        answer: LINEARIZABLE is read as "every session sees one history, and only forwards";
            never UNDECIDED.
        operations: how many were checked.
        sessions: how many sessions they belong to.
        problem: what is wrong, in words; empty when nothing is.
        pair: the two operations that contradict each other, the earlier one first; the earlier
            one is None when an operation is wrong by itself.
    """

    answer: Answer
    operations: int
    sessions: int
    problem: str = ""
    pair: tuple[Operation | None, Operation] | None = None


class _ContradictionError(Exception):
    """Two operations that cannot both be right."""

    def __init__(self, earlier: Operation | None, later: Operation, problem: str) -> None:
        super().__init__(problem)
        self.earlier = earlier
        self.later = later


def check_sessions(history: History) -> SessionVerdict:
    """Decide whether each session saw one history, and only forwards.

    Raises:
        BadInput: an operation is none of read, write and sync as described above, named by line.
    """
    for operation in history.operations:
        wrong = _wrong_shape(operation)
        if wrong is not None:
            raise BadInput(history.source or "history", operation.line, wrong)
    sessions: dict[int | str, list[Operation]] = {}
    for operation in history.operations:
        sessions.setdefault(operation.process, []).append(operation)
    answer, problem, pair = Answer.LINEARIZABLE, "", None
    try:
        order = _Order(history.operations)
        for operations in sessions.values():
            _walk(order, operations)
    except _ContradictionError as found:
        answer, problem = Answer.NOT_LINEARIZABLE, str(found)
        pair = (found.earlier, found.later)
    return SessionVerdict(answer, len(history.operations), len(sessions), problem, pair)


class _Order:
    """The writes by place; refuses two at one place, and an order that contradicts real time."""

    def __init__(self, operations: list[Operation]) -> None:
        self.writes: dict[int, Operation] = {}
        self._lost: dict[tuple[Any, Any], list[Operation]] = {}
        for operation in operations:
            if operation.function != "write":
                continue
            if operation.is_unknown:
                self._lost.setdefault((operation.key, operation.argument), []).append(operation)
            else:
                self._put(operation.result, operation)
        reads = [
            operation
            for operation in operations
            if operation.function == "read" and not operation.is_unknown
        ]
        for read in sorted(reads, key=_place_read):
            self._learn(read)
        self.places: dict[Any, list[int]] = {}
        for place in sorted(self.writes):
            self.places.setdefault(self.writes[place].key, []).append(place)
        self._check_real_time()
        self._sorted = sorted(self.writes)
        self._latest_calls: list[Operation] = []
        for place in self._sorted:
            write = self.writes[place]
            if self._latest_calls and self._latest_calls[-1].invoked > write.invoked:
                write = self._latest_calls[-1]
            self._latest_calls.append(write)
        self._returned = sorted(
            (write.returned, place)
            for place, write in sorted(self.writes.items())
            if not write.is_unknown
        )
        self._highest: list[int] = []
        for _, place in self._returned:
            self._highest.append(max(place, self._highest[-1] if self._highest else 0))

    def _put(self, place: int, write: Operation) -> None:
        other = self.writes.get(place)
        if other is not None:
            raise _ContradictionError(
                other, write, f"{_tell(write)} and {_tell(other)} have the same place {place}"
            )
        self.writes[place] = write

    def _learn(self, read: Operation) -> None:
        """A read tells the place of a write of unknown outcome.

        Of several that wrote the same, the one called first gets the first place: it is the one
        that contradicts least, for all of them may take effect at any time after their calls.
        """
        value, place = read.result
        if place == NEVER_WRITTEN or place in self.writes:
            return
        candidates = self._lost.get((read.key, value), [])
        if not candidates:
            raise _ContradictionError(
                None, read, f"{_tell(read)}, and nobody wrote that at place {place}"
            )
        self._put(place, candidates.pop(0))

    def _check_real_time(self) -> None:
        """Going back from the last place: nobody before was called after the return of one here."""
        earliest: Operation | None = None
        for place in sorted(self.writes, reverse=True):
            write = self.writes[place]
            if earliest is not None and earliest.returned < write.invoked:
                problem = (
                    f"{_tell(earliest)} had returned when {_tell(write)} was called, "
                    f"and has the later place all the same"
                )
                raise _ContradictionError(earliest, write, problem)
            if earliest is None or write.returned < earliest.returned:
                earliest = write

    def next_of(self, key: Any, place: int) -> int | None:
        """The place of the next write of this key after a place."""
        places = self.places.get(key, [])
        index = bisect_right(places, place)
        return places[index] if index < len(places) else None

    def called_last(self, point: int) -> Operation:
        """Of the writes up to a place of one of them, the one that was called last."""
        return self._latest_calls[bisect_right(self._sorted, point) - 1]

    def returned_before(self, moment: int) -> int:
        """The highest place of a write that had returned."""
        index = bisect_left(self._returned, (moment, NEVER_WRITTEN))
        return self._highest[index - 1] if index else 0


def _walk(order: _Order, operations: list[Operation]) -> None:
    """Move one session through its operations."""
    ordered = sorted(operations, key=lambda operation: operation.invoked)
    for earlier, later in pairwise(ordered):
        if earlier.returned > later.invoked and not earlier.is_unknown:
            problem = f"{_tell(later)} was called before {_tell(earlier)} returned"
            raise _ContradictionError(earlier, later, f"one session, two calls at once: {problem}")
    point = 0
    mover: Operation | None = None
    for operation in ordered:
        if operation.is_unknown:
            continue
        if operation.function == "sync":
            reached = order.returned_before(operation.invoked)
        elif operation.function == "write":
            reached = operation.result
            if reached <= point:
                problem = f"{_tell(operation)}, but its session was at place {point} already"
                raise _ContradictionError(mover, operation, problem + _because(mover))
        else:
            reached = _read(order, operation, point, mover)
        if reached > point:
            point, mover = reached, operation


def _read(order: _Order, read: Operation, point: int, mover: Operation | None) -> int:
    """Where a read takes its session."""
    value = read.result[0]
    place: int = read.result[1]
    if place == NEVER_WRITTEN:
        return _read_nothing(order, read, point, mover)
    write = order.writes[place]
    if write.key != read.key or write.argument != value:
        raise _ContradictionError(write, read, f"{_tell(read)}, but that is {_tell(write)}")
    overwritten = order.next_of(read.key, place)
    if overwritten is not None and overwritten <= point:
        problem = f"{_tell(read)}, but its session had gone past {_tell(order.writes[overwritten])}"
        raise _ContradictionError(mover, read, problem + _because(mover))
    return _not_the_future(order, read, max(point, place))


def _not_the_future(order: _Order, read: Operation, point: int) -> int:
    """The point, unless it contains a write that nobody had called yet."""
    latest = order.called_last(point)
    if latest.invoked > read.returned:
        problem = (
            f"{_tell(read)}, so it saw everything up to place {point}; but {_tell(latest)} was "
            f"called only after it returned"
        )
        raise _ContradictionError(read, latest, problem)
    return point


def _read_nothing(order: _Order, read: Operation, point: int, mover: Operation | None) -> int:
    """A read that found no key: never written yet, or deleted."""
    places = order.places.get(read.key, [])
    index = bisect_right(places, point)
    if index == 0 or order.writes[places[index - 1]].argument is None:
        return point
    for place in places[index:]:
        write = order.writes[place]
        if write.argument is None and write.invoked < read.returned:
            return place
    problem = (
        f"{_tell(read)}, but its session had gone past {_tell(order.writes[places[index - 1]])}"
    )
    raise _ContradictionError(mover, read, problem + _because(mover))


def _place_read(read: Operation) -> int:
    place: int = read.result[1]
    return place


def _because(mover: Operation | None) -> str:
    return "" if mover is None else f" (since {_tell(mover)})"


def _tell(operation: Operation) -> str:
    """An operation in words."""
    who = f"{operation.process}'s"
    if operation.function == "sync":
        return f"{who} sync"
    key = "" if operation.key is None else f" {operation.key}"
    if operation.function == "write":
        what = f"write of{key} = {operation.argument!r}"
        return f"{who} {what}" + ("" if operation.is_unknown else f" at place {operation.result}")
    value, place = operation.result
    return f"{who} read of{key} returned {value!r} of place {place}"


def _wrong_shape(operation: Operation) -> str | None:
    """What is wrong with the operation, or None."""
    function, result = operation.function, operation.result
    if function not in FUNCTIONS:
        return f"sessions know read, write and sync, not {function!r}"
    if operation.is_unknown or function == "sync":
        return None
    if function == "write":
        if isinstance(result, int) and result > 0:
            return None
        return f"write returns its place, a whole number above 0, not {result!r}"
    if isinstance(result, tuple) and len(result) == FIELDS_OF_READ:
        place = result[1]
        is_nothing = place == NEVER_WRITTEN and result[0] is None
        if isinstance(place, int) and (is_nothing or place > 0):
            return None
    return f"read returns [value, place], or [null, 0] when never written, not {result!r}"
