"""Exactly once: a command that its client may send again, through any node, after any crash.

The request wraps an ordinary write (docs/exactly-once.md)::

    serial i64 | first unanswered serial i64 | opcode i32 of the write | body of the write

The first time, the write is done and its answer kept with the session; every other time, the answer
is given again and nothing happens. Both are decided here, at apply, in log order: a command may be
in the log many times. A write that is refused (BAD_VERSION, say) has an answer like any other, and
keeps it. What is refused *here* was not done and is not kept:

    SERIAL_SETTLED   below what the client said it has answers to: it may have happened, long ago
    SERIAL_REUSED    this serial was another command
    RESULTS_FULL     too many answers kept; say first which have arrived
    UNIMPLEMENTED    the wrapped request is no write; BAD_ARGUMENTS, MARSHALLING_ERROR: malformed

A session that is over, or speaks through another connection, is refused before (``tree.py``), so a
command is never done for a session that cannot remember it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import Struct
from typing import Final, TypeAlias
from zlib import crc32

from quorate.protocol.zookeeper import ErrorCode, OpCode
from quorate.tree.refused import Refused
from quorate.tree.results import Result, Results
from quorate.tree.sessions import Session
from quorate.tree.state import State, Transaction

_HEAD: Final = Struct(">qqi")  # serial, first unanswered serial, opcode
_HEAD_AT: Final = 12  # behind frame length, xid and opcode of the wrapping request
_INNER_AT: Final = 20  # where the frame of the wrapped write would begin, so that its body fits
_COMMAND_AT: Final = _HEAD_AT + 16
_ANSWER_AT: Final = 8  # behind frame length and xid
_REPLY_PACK: Final = Struct(">ii").pack
_REFUSAL_PACK: Final = Struct(">qi").pack  # zxid, error

WRAPPABLE: Final = frozenset(
    {
        OpCode.CREATE,
        OpCode.CREATE2,
        OpCode.CREATE_CONTAINER,
        OpCode.CREATE_TTL,
        OpCode.DELETE,
        OpCode.SET_DATA,
        OpCode.SET_ACL,
        OpCode.MULTI,
    }
)
"""What can be asked exactly once. Not the end of a session, which forgets everything."""

Handler: TypeAlias = Callable[[State, Transaction, bytes, int, int, int, bool], bytes]


def once_handler(handlers: Mapping[int, Handler]) -> Handler:
    """The handler of the wrapping request, given those of the writes that it may wrap."""

    def apply_once(
        state: State,
        txn: Transaction,
        frames: bytes,
        at: int,
        stop: int,
        xid: int,
        with_reply: bool,  # noqa: ARG001  the answer is kept on every node, so it is always built
    ) -> bytes:
        """``serial, first unanswered, opcode, body -> what the write answers``."""
        if stop - at < _HEAD_AT + _HEAD.size:
            raise Refused(ErrorCode.MARSHALLING_ERROR)
        serial, first_unanswered, opcode = _HEAD.unpack_from(frames, at + _HEAD_AT)
        if opcode not in WRAPPABLE:
            raise Refused(ErrorCode.UNIMPLEMENTED)
        if not 1 <= first_unanswered <= serial:
            raise Refused(ErrorCode.BAD_ARGUMENTS)
        assert txn.session is not None
        checksum = crc32(frames[at + _COMMAND_AT : stop])
        answer = find_answer(state, txn.session, serial, first_unanswered, checksum)
        if answer is None:
            inner = (frames, at + _INNER_AT, stop, xid)
            answer = _perform(handlers[opcode], state, txn, inner)
            assert txn.session.results is not None
            txn.session.results.keep(serial, Result(checksum, answer))
        else:
            txn.zxid = state.zxid  # nothing happens
        return _REPLY_PACK(4 + len(answer), xid) + answer

    return apply_once


def find_answer(
    state: State, session: Session, serial: int, first_unanswered: int, checksum: int
) -> bytes | None:
    """The answer that a command got before; None when it may be done now.

    Raises:
        Refused: SERIAL_SETTLED, SERIAL_REUSED or RESULTS_FULL; nothing happened now.
    """
    results = session.results
    if results is not None and serial < results.first_unanswered:
        raise Refused(ErrorCode.SERIAL_SETTLED)
    state.touch_session(session)
    if results is None:
        results = session.results = Results()
    results.settle(first_unanswered)
    known = results.by_serial.get(serial)
    if known is None:
        if results.is_full:
            raise Refused(ErrorCode.RESULTS_FULL)
        return None
    if known.checksum != checksum:
        raise Refused(ErrorCode.SERIAL_REUSED)
    return known.answer


def _perform(
    handler: Handler, state: State, txn: Transaction, inner: tuple[bytes, int, int, int]
) -> bytes:
    """Do the write; its answer from the zxid on, refusals included."""
    frames, at, stop, xid = inner
    try:
        return handler(state, txn, frames, at, stop, xid, True)[_ANSWER_AT:]
    except Refused as refused:
        txn.zxid = state.zxid
        return _REFUSAL_PACK(state.zxid, refused.code)
