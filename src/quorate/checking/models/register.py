"""Registers: one value that is read, written, and exchanged for another when it is as expected.

Jepsen's and Knossos' register and cas-register, and Porcupine's model of etcd's. A cas that
returned False met another value than it expected and changed nothing; any other result means that
it took effect.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar

from quorate.checking.history import UNKNOWN_RETURN, Operation
from quorate.checking.model import ILLEGAL
from quorate.checking.models.base import BaseModel


class Register(BaseModel):
    """A register for each key; None before the first write."""

    name = "register"
    functions: dict[str, str] = {  # noqa: RUF012
        "read": "no argument; result: the value, or null when nothing was written",
        "write": "argument: the new value",
        "cas": "argument: [expected, new]; result: false when the value was another",
    }
    pairs: ClassVar[dict[str, str]] = {"cas": "[expected, new]"}

    def __init__(self, first: Hashable = None) -> None:
        self.first = first

    def initial(self, key: Hashable) -> Hashable:  # noqa: ARG002
        """None, or what the model was made with."""
        return self.first

    def only_reads(self, operation: Operation) -> bool:
        """Reads, and a cas that was refused."""
        function = operation.function
        if function == "cas":
            return operation.result is False and operation.returned != UNKNOWN_RETURN
        return function == "read"

    def enables(self, change: Operation, waiting: Operation) -> bool:
        """A read or a cas that waits for a value needs one that leaves it."""
        if waiting.result is False and waiting.function == "cas":
            return True
        wanted = waiting.argument[0] if waiting.function == "cas" else waiting.result
        if change.function == "write":
            return bool(change.argument == wanted)
        return change.function != "cas" or bool(change.argument[1] == wanted)

    def step(self, state: Any, operation: Operation) -> Any:
        """Write, compare or compare and write."""
        _, function, _, argument, result, _, returned, *_ = operation
        if function == "read":
            return state if result == state or returned == UNKNOWN_RETURN else ILLEGAL
        if function == "write":
            return argument
        if returned == UNKNOWN_RETURN:
            return argument[1] if state == argument[0] else state
        if (state == argument[0]) is (result is False):
            return ILLEGAL
        return state if result is False else argument[1]


class CasRegister(Register):
    """The same under the name that Knossos gives it."""

    name = "cas-register"
