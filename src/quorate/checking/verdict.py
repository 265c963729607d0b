"""Verdicts: linearizable, not, or undecided; and what a person needs to believe it.

Knows nothing of how the verdict was found (``linearizability.py``) or is shown
(``explain.py``, ``timeline.py``).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from quorate.checking.history import Operation


class Answer(Enum):
    """Whether an order of the operations exists that explains every result."""

    LINEARIZABLE = "linearizable"
    NOT_LINEARIZABLE = "not linearizable"
    UNDECIDED = "undecided"  # the budget ended first; neither is known


@dataclass(frozen=True, slots=True)
class Budget:
    """When to give up. A search that gives up says so; it never guesses.

    Attributes:
        configurations_max: most (operations done, state) pairs remembered over all partitions;
            bounds time and memory alike, and, unlike seconds, gives the same verdict everywhere.
            A million take some seconds and up to 200 MB.
        is_over: asked now and then; True ends the search. How a caller bounds seconds or bytes
            without the checker reading a clock. None: never asked.
    """

    configurations_max: int = 5_000_000
    is_over: Any = None  # Callable[[], bool] | None


@dataclass(frozen=True, slots=True)
class Counterexample:
    """The shortest window that has no explanation.

    Attributes:
        key: the object concerned.
        operations: the operations of the window: no order of them explains their results, and
            without the last return one exists. By order of calls.
        before: state in which the window begins, in words.
        longest: the longest order found of a part of the window, with the state after each
            operation, in words.
        stuck: the operations that could have come next, and why none can, in words.
        last: the operation whose return made the window inexplicable; None when not known.
    """

    key: Hashable
    operations: list[Operation]
    before: str
    longest: list[tuple[Operation, str]]
    stuck: list[tuple[Operation, str]]
    last: Operation | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a checker found.

    Attributes:
        answer: see Answer.
        model: name of the model.
        operations: how many were checked.
        partitions: how many objects they were about.
        configurations: how many (done, state) pairs the search visited.
        search: which search decided: "depth-first" or "just-in-time".
        counterexample: only when not linearizable.
        undecided: keys of the objects for which the budget ended.
    """

    answer: Answer
    model: str
    operations: int
    partitions: int
    configurations: int
    search: str
    counterexample: Counterexample | None = None
    undecided: list[Hashable] = field(default_factory=list)
