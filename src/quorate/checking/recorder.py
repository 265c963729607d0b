"""Recorder: a history out of live calls, for simulations and tests.

A client is whoever calls one operation after the other; a process is a client as the history names
it. A client that is never told what became of a call goes on as another process: the lost call may
take effect at any later time, beside whatever the client does next, and a history in which one
process has two operations open says something impossible.

It knows nothing of models. It keeps order, not time: positions count calls and returns, and what
the caller says about nanoseconds is carried along for pictures.

Invariants:
    * a client has at most one call open
    * no process calls again after an unknown outcome
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final

from quorate.checking.history import UNKNOWN_RETURN, History, Operation
from quorate.errors import UsageError

OPERATIONS_MAX: Final = 1_000_000
"""Most calls that one recorder takes; some 300 bytes each."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was made and has not returned."""

    client: Hashable
    process: int
    function: str
    key: Any
    argument: Any
    invoked: int
    invoked_ns: int


class Recorder:
    """Takes down calls and what became of them; ``history`` may be asked at any time.

    Args:
        model: name of the model to check against, when the history should say so.
    """

    def __init__(self, model: str = "") -> None:
        self._model = model
        self._operations: list[Operation] = []
        self._open: dict[Hashable, Call] = {}
        self._processes: dict[Hashable, int] = {}
        self._process_next = 0
        self._position = 0
        self._failed = 0

    def invoke(
        self,
        client: Hashable,
        function: str,
        key: Any = None,
        argument: Any = None,
        time_ns: int = 0,
    ) -> Call:
        """A client calls. Lists become tuples and dictionaries pairs, as models want them.

        Raises:
            UsageError: the client has a call open, or there are OPERATIONS_MAX calls already.
        """
        if client in self._open:
            raise UsageError(
                f"client {client!r} calls {function} while its {self._open[client].function} is "
                f"open: finish that with ok, fail or unknown first"
            )
        if len(self._operations) + len(self._open) >= OPERATIONS_MAX:
            raise UsageError(f"a recorder takes {OPERATIONS_MAX} calls; use another one")
        process = self._processes.get(client)
        if process is None:
            process = self._processes[client] = self._process_next
            self._process_next += 1
        call = Call(
            client, process, function, frozen(key), frozen(argument), self._position, time_ns
        )
        self._position += 1
        self._open[client] = call
        return call

    def ok(self, call: Call, result: Any = None, time_ns: int = 0) -> None:
        """It happened and returned this."""
        self._close(call)
        self._keep(call, frozen(result), self._position, time_ns)
        self._position += 1

    def fail(self, call: Call) -> None:
        """It certainly did not happen."""
        self._close(call)
        self._failed += 1

    def unknown(self, call: Call, time_ns: int = 0) -> None:
        """Nobody knows; the client goes on as a new process."""
        self._close(call)
        del self._processes[call.client]
        self._keep(call, None, UNKNOWN_RETURN, time_ns)

    def history(self) -> History:
        """All that was recorded; calls still open have unknown outcome."""
        still_open = [_operation(call, None, UNKNOWN_RETURN, 0) for call in self._open.values()]
        operations = sorted(self._operations + still_open, key=lambda found: found.invoked)
        return History(operations, self._failed, self._model)

    def _close(self, call: Call) -> None:
        if self._open.get(call.client) is not call:
            raise UsageError(
                f"the {call.function} that client {call.client!r} called has returned already"
            )
        del self._open[call.client]

    def _keep(self, call: Call, result: Any, returned: int, time_ns: int) -> None:
        self._operations.append(_operation(call, result, returned, time_ns))


def _operation(call: Call, result: Any, returned: int, time_ns: int) -> Operation:
    return Operation(
        call.process,
        call.function,
        call.key,
        call.argument,
        result,
        call.invoked,
        returned,
        call.invoked_ns,
        time_ns,
    )


def frozen(value: Any) -> Any:
    """The same value so that it can be hashed: lists become tuples, dictionaries sorted pairs."""
    if isinstance(value, (list, tuple)):
        return tuple(frozen(item) for item in value)
    if isinstance(value, dict):
        return tuple(sorted(((key, frozen(item)) for key, item in value.items()), key=_by_text))
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    return value


def _by_text(pair: tuple[Any, Any]) -> str:
    return repr(pair[0])
