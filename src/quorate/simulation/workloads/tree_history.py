"""The history of a tree's clients, for the linearizability checker: what they asked and were told.

Only what must be linearizable is in it: writes, and reads behind a sync, or all reads where they
are asked to be. A multi becomes one
operation for each of its parts, all at the same time; that is weaker than the truth and lets each
path be searched alone. Paths where a znode was ever ephemeral are left out, because sessions end
without a call; ``judges/sessions.py`` judges those by their zxids.

Knows nothing of logs and zxids: only calls and returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from quorate.checking.history import UNKNOWN_RETURN, History, Operation
from quorate.protocol.zookeeper import ANY_VERSION, ErrorCode, Stat
from quorate.simulation.sessions import Request
from quorate.simulation.workloads.tree_words import EPHEMERAL, SEQUENTIAL, WRITES, Ask

_REFUSALS: Final = {
    ErrorCode.NO_NODE: "no-node",
    ErrorCode.NODE_EXISTS: "node-exists",
    ErrorCode.BAD_VERSION: "bad-version",
    ErrorCode.NOT_EMPTY: "not-empty",
}
_TOO_LATE: Final = (ErrorCode.SESSION_EXPIRED, ErrorCode.SESSION_MOVED)
_PROCESSES: Final = 1_000_000
_LANES: Final = 1_000


def history_of(
    requests: Iterable[Request], last: Iterable[Operation], *, is_fresh: bool = False
) -> History:
    """The history of these requests, by the order of their calls.

    Args:
        requests: all that were sent.
        last: reads of what each replica holds in the end.
        is_fresh: every read must be linearizable.
    """
    sent = list(requests)
    volatile = {
        ask.path for request in sent for ask in (request.ask, *request.ask.parts) if ask.flags
    }
    operations: list[Operation] = []
    for request in sent:
        operations += [
            operation
            for operation in _operations(request, is_fresh=is_fresh)
            if not _is_below(operation.key.encode(), volatile)
        ]
    operations.sort(key=lambda operation: operation.invoked)
    operations += [each for each in last if not _is_below(each.key.encode(), volatile)]
    return History(operations)


def _is_below(path: bytes, volatile: set[bytes]) -> bool:
    """Whether the path was asked for with flags, or is a sequential znode of such a one.

    Or whether it is there from the beginning, which the checker's znodes are not.
    """
    if path == b"/" or path.startswith(b"/zookeeper"):
        return True
    return any(path.startswith(each) for each in sorted(volatile))


def _operations(request: Request, *, is_fresh: bool) -> Iterator[Operation]:
    ask, reply = request.ask, request.reply
    if request.serial and reply is not None and reply.error in _TOO_LATE:
        reply = None  # of a copy; what became of the command is not said
    if ask.verb in WRITES:
        if ask.flags & (EPHEMERAL | SEQUENTIAL) or ask.verb == "close":
            return
        if reply is None:
            for part in ask.parts or (ask,):
                if part.verb != "check":
                    yield _operation(request, part, None, is_unknown=True)
        elif reply.error == ErrorCode.THROTTLED_OP:
            return  # refused before the log: the judges of the log see that it did not happen
        elif ask.verb == "multi":
            yield from _parts(request)
        elif reply.error == 0 or reply.error in _REFUSALS:
            result: Any = _REFUSALS.get(ErrorCode(reply.error))
            if ask.verb == "set" and result is None:
                result = reply.stat().version
            yield _operation(request, ask, result)
    elif (request.sync or is_fresh) and reply is not None and ask.verb in ("get", "exists"):
        if reply.error:
            result = "no-node" if ask.verb == "get" else None
        elif ask.verb == "get":
            result = (_text(reply.data()), reply.stat().version)
        else:
            result = reply.stat().version
        yield _operation(request, ask, result, request.sync.invoked if request.sync else 0)


def _parts(request: Request) -> Iterator[Operation]:
    """A multi that happened, as its parts; one that was refused says nothing."""
    assert request.reply is not None
    for part, (opcode, _, value) in zip(request.ask.parts, request.reply.results(), strict=True):
        if opcode == -1:
            return
        result: Any = value.version if isinstance(value, Stat) else None
        if part.verb != "check":
            yield _operation(request, part, result)
        elif part.version != ANY_VERSION:
            yield _operation(request, part._replace(verb="exists"), part.version)


def _operation(
    request: Request, ask: Ask, result: Any, invoked: int = 0, *, is_unknown: bool = False
) -> Operation:
    argument: Any = None
    if ask.verb == "create":
        argument = _text(ask.value)
    elif ask.verb == "set":
        argument = (_text(ask.value), ask.version)
    elif ask.verb == "delete":
        argument = ask.version
    process = request.client + _LANES * request.lane + _PROCESSES * request.process
    return Operation(
        process,
        ask.verb,
        ask.path.decode(),
        argument,
        result,
        invoked or request.invoked,
        UNKNOWN_RETURN if is_unknown else request.returned or UNKNOWN_RETURN,
        request.invoked_us * 1000,
        request.returned_us * 1000,
    )


def _text(data: bytes | None) -> str | None:
    return data.decode() if data is not None else None
