"""Model: what a correct object would do, one operation after the other.

A model is a sequential specification. The checker asks it one question, over and over: in this
state, may this operation have returned what it returned, and which state follows? A model knows
nothing of concurrency, histories or search.

Invariants that the checker relies on:
    * states are hashable and never change; equal states behave equally
    * ``step`` is a function: same state and operation, same answer
    * ``step`` of an operation with unknown outcome accepts any result; that it may also never
      happen is the checker's business
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final, Protocol

from quorate.checking.history import Operation


class _Illegal:
    """The one value that is no state."""

    def __repr__(self) -> str:
        return "ILLEGAL"


ILLEGAL: Final = _Illegal()
"""What ``step`` returns when the operation cannot have returned that in this state."""


class Model(Protocol):
    """A sequential specification.

    Attributes:
        name: as on the command line: "register", "cas-map", "lock" ...
        functions: the functions it knows, with a word on argument and result each, for messages.
    """

    name: str
    functions: dict[str, str]

    def initial(self, key: Hashable) -> Hashable:
        """The state of the object ``key`` before any operation."""

    def step(self, state: Any, operation: Operation) -> Hashable:
        """The state after the operation, or ILLEGAL."""

    def only_reads(self, operation: Operation) -> bool:
        """Whether ``step`` answers the state itself or ILLEGAL, in *every* state.

        Reads, and what certainly changed nothing, like a cas whose result is False. The search
        takes such operations as early as it can and forgets those of unknown outcome; False is
        always a right answer, only slower.
        """

    def enables(self, change: Operation, waiting: Operation) -> bool:
        """Whether ``waiting`` can be legal right after ``change``, in some state.

        Lets a search see early that an operation has missed its moment: where it is illegal and
        nothing that enables it is left. True is always a right answer, only slower.
        """

    def partition(self, operation: Operation) -> Hashable:
        """The object that it concerns: operations on different objects are checked apart.

        Right because linearizability is local (Herlihy & Wing 1990, theorem 1); never split
        operations that touch several objects at once (Horn & Kroening 2015: P-compositionality).
        """

    def check_operation(self, operation: Operation) -> str | None:
        """What is wrong with the operation's shape ("cas wants [expected, new]"), or None."""

    def describe_operation(self, operation: Operation) -> str:
        """The operation in few words: ``write 3``, ``cas 1 -> 2: failed``; for pictures."""

    def describe_state(self, state: Any) -> str:
        """The state in few words."""
