"""Maps: a value for each key, and each key an object of its own.

``cas-map`` has what a coordination service offers for one key; ``kv`` is the string map that
Porcupine and the MIT course use, where a key that was never put is the empty string.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from quorate.checking.history import UNKNOWN_RETURN, Operation
from quorate.checking.model import ILLEGAL
from quorate.checking.models.base import BaseModel
from quorate.checking.models.register import Register


class CasMap(Register):
    """Registers that can be deleted and appended to."""

    name = "cas-map"
    functions = {  # noqa: RUF012
        **Register.functions,
        "delete": "no argument; result: false when there was nothing",
        "append": "argument: text that is put behind the value",
    }

    def only_reads(self, operation: Operation) -> bool:
        """Reads, and what was refused."""
        if operation.function == "delete":
            return operation.result is False and operation.returned != UNKNOWN_RETURN
        return super().only_reads(operation)

    def check_operation(self, operation: Operation) -> str | None:
        """As for registers; append wants text."""
        if operation[1] == "append" and not isinstance(operation[3], str):
            return f"append wants text, not {operation[3]!r}"
        return super().check_operation(operation)

    def enables(self, change: Operation, waiting: Operation) -> bool:
        """As for registers; what is left by delete is None, and by append ends with the text."""
        if change.function not in ("append", "delete"):
            return waiting.function == "delete" or super().enables(change, waiting)
        if waiting.function == "read":
            wanted = waiting.result
        elif waiting.function == "cas" and waiting.result is not False:
            wanted = waiting.argument[0]
        else:
            return True
        if change.function == "delete":
            return wanted is None
        return isinstance(wanted, str) and wanted.endswith(change.argument)

    def step(self, state: Any, operation: Operation) -> Any:
        """Append, delete, or what a register does."""
        function = operation[1]
        if function == "append":
            if state is not None and not isinstance(state, str):
                return ILLEGAL
            return (state or "") + operation[3]
        if function != "delete":
            return super().step(state, operation)
        if operation[6] == UNKNOWN_RETURN:
            return None
        refused = operation[4] is False
        told = refused or operation[4] is True
        if told and (state is None) is not refused:
            return ILLEGAL
        return None


class StringMap(BaseModel):
    """Porcupine's kv: get, put, append; the empty string at first."""

    name = "kv"
    functions = {  # noqa: RUF012
        "get": "no argument; result: the text, empty when nothing was put",
        "put": "argument: the new text",
        "append": "argument: text that is put behind",
    }
    reading = frozenset(["get"])

    def initial(self, key: Hashable) -> Hashable:  # noqa: ARG002
        """Every key begins empty."""
        return ""

    def check_operation(self, operation: Operation) -> str | None:
        """Arguments are text."""
        wrong = super().check_operation(operation)
        if wrong is None and operation[1] != "get" and not isinstance(operation[3], str):
            return f"{operation[1]} wants text, not {operation[3]!r}"
        return wrong

    def enables(self, change: Operation, waiting: Operation) -> bool:
        """What a get returned ends with what was put or appended last."""
        if waiting.function != "get" or not isinstance(waiting.result, str):
            return True
        if change.function == "put":
            return bool(change.argument == waiting.result)
        return waiting.result.endswith(change.argument)

    def step(self, state: Any, operation: Operation) -> Any:
        """Compare, replace or extend."""
        _, function, _, argument, result, _, returned, *_ = operation
        if function == "get":
            return state if result == state or returned == UNKNOWN_RETURN else ILLEGAL
        return argument if function == "put" else state + argument
