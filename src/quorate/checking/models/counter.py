"""A counter: numbers are added, and the sum comes back.

It catches what registers cannot show: an addition that was applied twice, or lost.
Each key is a counter of its own; sums have no bound.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from quorate.checking.history import UNKNOWN_RETURN, Operation
from quorate.checking.model import ILLEGAL
from quorate.checking.models.base import BaseModel


class Counter(BaseModel):
    """A sum for each key; 0 at first. An addition whose result is null was not told the sum."""

    name = "counter"
    functions = {  # noqa: RUF012
        "add": "argument: a whole number, also negative; result: the new sum, or null",
        "read": "no argument; result: the sum",
    }

    def initial(self, key: Hashable) -> Hashable:  # noqa: ARG002
        """Nothing was added."""
        return 0

    def check_operation(self, operation: Operation) -> str | None:
        """Only whole numbers are added."""
        if operation[1] == "add" and not isinstance(operation[3], int):
            return f"add wants a whole number, not {operation[3]!r}"
        return super().check_operation(operation)

    def step(self, state: Any, operation: Operation) -> Any:
        """Add and compare."""
        _, function, _, argument, result, _, returned, *_ = operation
        after = state if function == "read" else state + argument
        if returned == UNKNOWN_RETURN or result == after:
            return after
        return after if result is None and function == "add" else ILLEGAL

    def describe_result(self, operation: Operation) -> str:
        """Both functions tell the sum."""
        if operation.is_unknown or operation.result is None:
            return super().describe_result(operation)
        return f" -> {operation.result}"
