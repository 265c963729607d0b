"""Things in a row: a queue that gives out what came first, and a log that only grows.

The state is the row itself, as a tuple; both are meant for rows of some
thousands of items: each step copies the row.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from quorate.checking.history import UNKNOWN_RETURN, Operation
from quorate.checking.model import ILLEGAL
from quorate.checking.models.base import BaseModel, show


class Queue(BaseModel):
    """First in, first out, for each key; empty at first. It holds anything but null."""

    name = "queue"
    functions = {  # noqa: RUF012
        "enqueue": "argument: the item, not null",
        "dequeue": "no argument; result: the first item, or null when there was none",
    }

    def initial(self, key: Hashable) -> Hashable:  # noqa: ARG002
        """Empty."""
        return ()

    def only_reads(self, operation: Operation) -> bool:
        """Whoever found it empty changed nothing."""
        if operation.function != "dequeue" or operation.returned == UNKNOWN_RETURN:
            return False
        return operation.result is None

    def check_operation(self, operation: Operation) -> str | None:
        """Null is what an empty queue answers, so it cannot be an item."""
        if operation[1] == "enqueue" and operation[3] is None:
            return "enqueue wants an item; null means that the queue is empty"
        return super().check_operation(operation)

    def enables(self, change: Operation, waiting: Operation) -> bool:
        """An item gets to the front when one leaves, or when it joins an empty queue."""
        if waiting.function != "dequeue" or change.function == "dequeue":
            return True
        return waiting.result is not None and bool(change.argument == waiting.result)

    def step(self, state: tuple[Any, ...], operation: Operation) -> Any:
        """Join at the end, leave from the front."""
        _, function, _, argument, result, _, returned, *_ = operation
        if function == "enqueue":
            return (*state, argument)
        if returned == UNKNOWN_RETURN:
            return state[1:]
        if not state:
            return state if result is None else ILLEGAL
        return state[1:] if result is not None and result == state[0] else ILLEGAL

    def describe_result(self, operation: Operation) -> str:
        """A dequeue tells what it got."""
        if operation.function == "dequeue" and not operation.is_unknown:
            return f" -> {show(operation.result)}"
        return super().describe_result(operation)


class AppendLog(BaseModel):
    """A log for each key; empty at first. Positions begin at 1."""

    name = "append-log"
    functions = {  # noqa: RUF012
        "append": "argument: the entry; result: its position from 1, or null when not told",
        "read": "no argument; result: all entries, or how many there are",
    }

    def initial(self, key: Hashable) -> Hashable:  # noqa: ARG002
        """Empty."""
        return ()

    def enables(self, change: Operation, waiting: Operation) -> bool:
        """What is read ends with what was appended last; positions follow each other."""
        length = waiting.result
        if isinstance(length, tuple):
            return bool(length) and bool(length[-1] == change.argument)
        if length is None or change.is_unknown or change.result is None:
            return True
        if waiting.function == "append":
            length -= 1
        return bool(change.result == length)

    def check_operation(self, operation: Operation) -> str | None:
        """Positions and lengths are numbers."""
        function, result = operation[1], operation[4]
        if operation.is_unknown or isinstance(result, int):
            return super().check_operation(operation)
        if function == "append" and result is not None:
            return f"append returns a position or null, not {result!r}"
        if function == "read" and not isinstance(result, tuple):
            return f"read returns all entries or how many there are, not {result!r}"
        return super().check_operation(operation)

    def step(self, state: tuple[Any, ...], operation: Operation) -> Any:
        """Append at the end, or compare."""
        _, function, _, argument, result, _, returned, *_ = operation
        if function == "append":
            position = len(state) + 1
            if returned != UNKNOWN_RETURN and result is not None and result != position:
                return ILLEGAL
            return (*state, argument)
        if returned == UNKNOWN_RETURN:
            return state
        seen = state if isinstance(result, tuple) else len(state)
        return state if result == seen else ILLEGAL

    def describe_result(self, operation: Operation) -> str:
        """An append tells the position."""
        known = operation.function == "append" and not operation.is_unknown
        if known and operation.result is not None:
            return f" -> position {operation.result}"
        return super().describe_result(operation)
