"""What most models share: shapes, words and equality.

A model derives from ``BaseModel``, lists its functions, and writes ``step``. Values are compared
as Python compares them, so 1, 1.0 and True are the same value.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar

from quorate.checking.history import UNKNOWN_RETURN, Operation

FIELDS_OF_PAIR = 2


class BaseModel:
    """Defaults: one object for each key, None at first, nothing only reads but "read"."""

    name: str = ""
    functions: dict[str, str] = {}  # noqa: RUF012 - the protocol wants a plain attribute
    reading: ClassVar[frozenset[str]] = frozenset(["read"])
    pairs: ClassVar[dict[str, str]] = {}

    def initial(self, key: Hashable) -> Hashable:  # noqa: ARG002
        """The state before any operation."""
        return None

    def only_reads(self, operation: Operation) -> bool:
        """Whether it never changes the state."""
        return operation.function in self.reading

    def enables(self, change: Operation, waiting: Operation) -> bool:  # noqa: ARG002
        """Anything may make room for anything."""
        return True

    def partition(self, operation: Operation) -> Any:
        """Each key is an object of its own."""
        return operation[2]

    def check_operation(self, operation: Operation) -> str | None:
        """Is the function known, and is the argument a pair where it has to be?"""
        function = operation[1]
        if function not in self.functions:
            known = ", ".join(sorted(self.functions))
            return f"model {self.name} has no function {function!r}; it has {known}"
        if function in self.pairs:
            argument = operation[3]
            if not isinstance(argument, tuple) or len(argument) != FIELDS_OF_PAIR:
                return f"{function} wants {self.pairs[function]}, not {argument!r}"
        return None

    def describe_operation(self, operation: Operation) -> str:
        """Function, argument and result."""
        function, argument = operation.function, operation.argument
        words = [function]
        if function in self.pairs:
            words.append(f"{show(argument[0])} -> {show(argument[1])}")
        elif argument is not None and function not in self.reading:
            words.append(show(argument))
        text = " ".join(words)
        return text + self.describe_result(operation)

    def describe_result(self, operation: Operation) -> str:
        """What came back, with the mark that belongs before it."""
        if operation.returned == UNKNOWN_RETURN:
            return ": outcome unknown"
        if operation.function in self.reading:
            return f" -> {show(operation.result)}"
        if operation.result is False:
            return ": refused"
        return ""

    def describe_state(self, state: Any) -> str:
        """The state as a value."""
        return show(state)


def show(value: Any) -> str:
    """A value as a person writes it."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return value if value and value.isprintable() and value.strip() == value else repr(value)
    if isinstance(value, tuple):
        return "[" + ", ".join([show(item) for item in value]) + "]"
    return str(value)
