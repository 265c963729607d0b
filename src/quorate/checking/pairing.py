"""Calls and returns, one after the other, joined into operations.

What every reader does once it has understood a line. It knows nothing of formats and models. Each
event takes the next position of the history, so the order of the lines is real-time order.

Invariants, each kept by refusing the event with file, line and what to do about it:
    * a process has at most one call open
    * a return belongs to an open call of the same process and, if it says so, the same function
    * after an unknown outcome a process never calls again (it could still have a call in flight)
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from quorate.checking.history import UNKNOWN_RETURN, History, Operation
from quorate.errors import BadInput

KINDS: Final = ("invoke", "ok", "fail", "unknown")
"""What an event can be: a call, or one of the three things that can become of it."""

DEPTH_MAX: Final = 64
"""Deepest nesting of lists that a value may have."""


class _Open(NamedTuple):
    place: int
    line: int
    function: str
    key: Any


class Pairing:
    """Collects the events of one history.

    Args:
        source: file name, for messages.

    Attributes:
        functions: everything that was called, also what failed, with the line of its first call.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._operations: list[Operation | None] = []
        self._open: dict[int | str, _Open] = {}
        self._gone: dict[int | str, int] = {}  # process -> line of its unknown outcome
        self._position = 0
        self._failed = 0
        self.functions: dict[str, int] = {}

    @property
    def events(self) -> int:
        """How many events have been added."""
        return self._position

    def invoke(
        self,
        line: int,
        process: int | str,
        function: str,
        key: Any,
        argument: Any,
        time_ns: int = 0,
    ) -> None:
        """A process calls a function.

        Raises:
            BadInput: the process has a call open, or one whose outcome nobody knows.
        """
        if process in self._open:
            opened = self._open[process]
            self._refuse(
                line,
                f"process {process} calls {function!r} while its {opened.function!r} of line "
                f"{opened.line} has not returned; a process makes one call after the other: write "
                "the missing return first, or give concurrent calls different processes",
            )
        if process in self._gone:
            self._refuse(
                line,
                f"process {process} calls {function!r} after its call ended as unknown on line "
                f"{self._gone[process]}; that call may still be in flight, so a client that goes "
                "on needs a new process number",
            )
        self.functions.setdefault(function, line)
        self._open[process] = _Open(len(self._operations), line, function, key)
        self._operations.append(
            Operation(
                process,
                function,
                key,
                argument,
                None,
                self._position,
                UNKNOWN_RETURN,
                time_ns,
                0,
                line,
            )
        )
        self._position += 1

    def ok(
        self, line: int, process: int | str, function: str, result: Any, time_ns: int = 0
    ) -> None:
        """The open call of the process returned a result.

        Args:
            line: line of the event, from 1.
            process: who had called.
            function: what the event says was called.
            result: what came back.
            time_ns: time of the return, 0 when not told.

        Raises:
            BadInput: no call of the process is open, or it is one of another function.
        """
        place = self._close(line, process, function, "ok").place
        called = self._operations[place]
        assert called is not None
        self._operations[place] = called._replace(
            result=result, returned=self._position, returned_ns=time_ns
        )
        self._position += 1

    def fail(self, line: int, process: int | str, function: str) -> None:
        """The open call of the process certainly did not happen.

        Raises:
            BadInput: as for ``ok``.
        """
        self._operations[self._close(line, process, function, "fail").place] = None
        self._failed += 1
        self._position += 1

    def unknown(self, line: int, process: int | str, function: str) -> None:
        """Nobody was told what became of the open call; the process calls no more.

        Raises:
            BadInput: as for ``ok``.
        """
        self._close(line, process, function, "unknown")
        self._gone[process] = line
        self._position += 1

    def open_call(self, process: int | str) -> Operation | None:
        """The call that the process waits for, if any."""
        opened = self._open.get(process)
        return None if opened is None else self._operations[opened.place]

    def check_key(self, line: int, process: int | str, key: Any) -> None:
        """Refuse a return about another object than its call.

        Raises:
            BadInput: the open call of the process is about another key.
        """
        opened = self._open.get(process)
        if opened is not None and opened.key != key:
            self._refuse(
                line,
                f"process {process} called {opened.function!r} on key {opened.key!r} (line "
                f"{opened.line}), but this return is about key {key!r}",
            )

    def history(self, model: str = "") -> History:
        """Everything that may have happened; calls still open have an unknown outcome."""
        operations = [operation for operation in self._operations if operation is not None]
        return History(operations, self._failed, model, self._source)

    def _close(self, line: int, process: int | str, function: str, kind: str) -> _Open:
        opened = self._open.pop(process, None)
        if opened is None:
            earlier = "it has already returned, or " if process in self._gone else ""
            self._refuse(
                line,
                f"{kind!r} for process {process}, which has no call open: {earlier}its 'invoke' "
                "is missing above (a return written twice, or the beginning of the file cut off?)",
            )
            raise AssertionError
        if function != opened.function:
            self._refuse(
                line,
                f"process {process} called {opened.function!r} (line {opened.line}), but this "
                f"return is of {function!r}; a return belongs to the last call of its process",
            )
        return opened

    def _refuse(self, line: int, reason: str) -> None:
        raise BadInput(self._source, line, reason)


def freeze(value: Any, depth: int = 0) -> Any:
    """The value with lists as tuples, so that it is hashable and never changes.

    Raises:
        ValueError: a map or a set, or nesting deeper than DEPTH_MAX; in words for a message.
    """
    if isinstance(value, (list, tuple)):
        if depth >= DEPTH_MAX:
            raise ValueError(f"lists nested deeper than {DEPTH_MAX}")
        return tuple([freeze(item, depth + 1) for item in value])
    if isinstance(value, (dict, set, frozenset)):
        name = "map" if isinstance(value, dict) else "set"
        raise ValueError(f"a {name} cannot be a value; write a list or a string")
    return value
