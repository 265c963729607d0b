"""Several registers that are read and written together, as one object.

A transaction takes effect at one instant or not at all: what it read and what it wrote belong
together. Knossos has the same model under the same name.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

from quorate.checking.history import UNKNOWN_RETURN, Operation
from quorate.checking.model import ILLEGAL
from quorate.checking.models.base import BaseModel, show

READ: Final = ("read", "r")
WRITE: Final = ("write", "w")
FIELDS: Final = 3


class MultiRegister(BaseModel):
    """Knossos' multi-register: a transaction is a list of [read or write, register, value].

    The whole map is one object: transactions join their registers, and objects that are joined
    must not be checked apart. A read whose value is null in the result was not told the value.
    """

    name = "multi-register"
    functions = {  # noqa: RUF012
        "txn": 'argument: [["read", key, null], ["write", key, value] ...]; '
        "result: the same with what was read",
    }

    def __init__(self, first: Hashable = None) -> None:
        self.first = first

    def initial(self, key: Hashable) -> Hashable:  # noqa: ARG002
        """No register was written."""
        return ()

    def partition(self, operation: Operation) -> Any:  # noqa: ARG002
        """All registers together are one object."""
        return None

    def only_reads(self, operation: Operation) -> bool:
        """Transactions without a write."""
        return all(step[0] in READ for step in operation.argument)

    def check_operation(self, operation: Operation) -> str | None:
        """Both lists are well-formed, and about the same steps."""
        wrong = super().check_operation(operation)
        if wrong is not None:
            return wrong
        if not _is_transaction(operation.argument):
            return f"txn wants a list of [read or write, key, value], not {operation.argument!r}"
        if operation.is_unknown or operation.result is None:
            return None
        if not _is_transaction(operation.result):
            return f"txn returns a list of [read or write, key, value], not {operation.result!r}"
        asked = [step[:2] for step in operation.argument]
        if asked != [step[:2] for step in operation.result]:
            return f"the result {operation.result!r} is not about what was asked"
        return None

    def step(self, state: tuple[tuple[Any, Any], ...], operation: Operation) -> Any:
        """One step after the other; a later one sees what an earlier one wrote."""
        registers = dict(state)
        is_told = operation.returned != UNKNOWN_RETURN and operation.result is not None
        steps = operation.result if is_told else operation.argument
        changed = False
        for (function, key, value), asked in zip(steps, operation.argument, strict=True):
            if function in WRITE:
                registers[key] = asked[2]
                changed = True
            elif is_told and value is not None and registers.get(key, self.first) != value:
                return ILLEGAL
        return tuple(sorted(registers.items(), key=_by_name)) if changed else state

    def describe_operation(self, operation: Operation) -> str:
        """Each step in two or three words."""
        is_told = not operation.is_unknown and operation.result is not None
        words = []
        for function, key, value in operation.result if is_told else operation.argument:
            if function in WRITE:
                words.append(f"write {show(key)} = {show(value)}")
            elif is_told:
                words.append(f"read {show(key)} -> {show(value)}")
            else:
                words.append(f"read {show(key)}")
        return ", ".join(words) + (": outcome unknown" if operation.is_unknown else "")

    def describe_state(self, state: tuple[tuple[Any, Any], ...]) -> str:
        """The registers that were written."""
        if not state:
            return f"all {show(self.first)}"
        return ", ".join([f"{show(key)} = {show(value)}" for key, value in state])


def _by_name(item: tuple[Any, Any]) -> str:
    return repr(item[0])


def _is_transaction(value: Any) -> bool:
    if not isinstance(value, tuple):
        return False
    return all(
        isinstance(step, tuple) and len(step) == FIELDS and step[0] in READ + WRITE
        for step in value
    )
