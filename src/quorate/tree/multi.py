"""Multi: several writes as one transaction, all or nothing.

The parts are applied to the live tree one after another, so later parts see earlier ones without an
overlay, and each leaves behind how to undo it. When a part is refused the earlier ones are undone,
last first. Nobody can look in between: a multi is applied within one call, events are held back
until it has succeeded, and a snapshot under way keeps records of before the first part.

The whole request is read before the first part is applied: what cannot be read changes nothing.
Its size is bounded by the frame, and every part takes at least nine bytes of it.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from quorate.errors import RemoteProtocolError
from quorate.protocol.jute import INT, Reader, encode_buffer
from quorate.protocol.zookeeper import MULTI_END, MULTI_HEADER, ErrorCode, OpCode
from quorate.tree import writes
from quorate.tree.acl import OPEN_ACL, Acl, Entry, read_acl
from quorate.tree.paths import parent_of
from quorate.tree.refused import Refused
from quorate.tree.state import State, Transaction
from quorate.tree.watching import DeferredWatches
from quorate.tree.znode import Znode, encode_stat

_ERROR: Final = -1
"""The type of an error result."""


class Create(NamedTuple):
    """Any of the four create requests."""

    opcode: int
    path: bytes
    data: bytes | None
    acl: Acl | tuple[Entry, ...] | None
    flags: int
    ttl_ms: int | None


class Delete(NamedTuple):
    """``delete``."""

    path: bytes
    version: int


class SetData(NamedTuple):
    """``setData``."""

    path: bytes
    data: bytes | None
    version: int


class Check(NamedTuple):
    """``check``."""

    path: bytes
    version: int


Part: TypeAlias = Create | Delete | SetData | Check

_CREATES: Final = frozenset(
    {OpCode.CREATE, OpCode.CREATE2, OpCode.CREATE_CONTAINER, OpCode.CREATE_TTL}
)


def read_create(reader: Reader, opcode: int) -> Create:
    """Read the body of a create request.

    Raises:
        RemoteProtocolError: malformed; nothing happened.
    """
    path, data, acl = reader.string(), reader.buffer(), read_acl(reader)
    flags = reader.int32()
    ttl_ms = reader.int64() if opcode == OpCode.CREATE_TTL else None
    return Create(opcode, path, data, OPEN_ACL if acl == OPEN_ACL.entries else acl, flags, ttl_ms)


def read_multi(reader: Reader) -> list[Part]:
    """Read the body of a multi up to its end mark.

    Raises:
        RemoteProtocolError: malformed, or a part that a multi cannot have; nothing happened.
    """
    parts: list[Part] = []
    while True:
        opcode, is_end, _ = reader.int32(), reader.boolean(), reader.int32()
        if is_end:
            return parts
        parts.append(_read_part(reader, opcode))


def _read_part(reader: Reader, opcode: int) -> Part:
    if opcode in _CREATES:
        return read_create(reader, opcode)
    if opcode == OpCode.DELETE:
        return Delete(reader.string(), reader.int32())
    if opcode == OpCode.SET_DATA:
        return SetData(reader.string(), reader.buffer(), reader.int32())
    if opcode == OpCode.CHECK:
        return Check(reader.string(), reader.int32())
    raise RemoteProtocolError(f"opcode {opcode} cannot be part of a multi")


# ---- undoing -------------------------------------------------------------------------------------


class _ParentCounters(NamedTuple):
    """What a create or delete changes at the parent, as it was."""

    path: bytes
    cversion: int
    sequence: int
    pzxid: int

    @classmethod
    def of(cls, state: State, child_path: bytes) -> _ParentCounters | None:
        path = parent_of(child_path)
        parent = state.znodes.get(path)
        if parent is None:
            return None
        return cls(path, parent.cversion, parent.sequence, parent.pzxid)

    def put_back(self, state: State) -> Znode:
        parent = state.znodes[self.path]
        parent.cversion, parent.sequence, parent.pzxid = self.cversion, self.sequence, self.pzxid
        return parent


class _UndoCreate(NamedTuple):
    path: bytes
    parent: _ParentCounters

    def undo(self, state: State) -> None:
        state.remove_znode(self.path, state.znodes[self.path], self.parent.put_back(state))


class _UndoDelete(NamedTuple):
    path: bytes
    znode: Znode
    parent: _ParentCounters

    def undo(self, state: State) -> None:
        state.add_znode(self.path, self.znode, self.parent.put_back(state))


class _UndoSetData(NamedTuple):
    path: bytes
    data: bytes | None
    mzxid: int
    mtime: int
    version: int

    @classmethod
    def of(cls, state: State, path: bytes) -> _UndoSetData | None:
        znode = state.znodes.get(path)
        if znode is None:
            return None
        return cls(path, znode.data, znode.mzxid, znode.mtime, znode.version)

    def undo(self, state: State) -> None:
        znode = state.znodes[self.path]
        znode.data, znode.mzxid, znode.mtime = self.data, self.mzxid, self.mtime
        znode.version = self.version


_Undo: TypeAlias = _UndoCreate | _UndoDelete | _UndoSetData


# ---- applying ------------------------------------------------------------------------------------


def apply_multi(state: State, txn: Transaction, parts: list[Part]) -> tuple[bool, bytes]:
    """Apply all parts or none; return whether they were, and the reply's body.

    ``txn.zxid`` is the number of all the parts. Never raises ``Refused``: a refused part is a
    result, and then nothing happened.
    """
    results: list[bytes] = []
    undo_log: list[_Undo] = []
    watches = txn.watches
    deferred = txn.watches = DeferredWatches(watches)
    try:
        for part in parts:
            # Not extend: the length tells how far we got, and extend promises none of that.
            results.append(_apply_part(state, txn, part, undo_log))  # noqa: PERF401
    except Refused as refused:
        for undo in reversed(undo_log):
            undo.undo(state)
        return False, _encode_failure(len(results), refused.code, len(parts))
    finally:
        txn.watches = watches
    deferred.deliver()
    results.append(MULTI_END)
    return True, b"".join(results)


def _apply_part(state: State, txn: Transaction, part: Part, undo_log: list[_Undo]) -> bytes:
    """Apply one part and return its result as it goes over the wire."""
    if isinstance(part, Create):
        return _apply_create(state, txn, part, undo_log)
    if isinstance(part, SetData):
        undo = _UndoSetData.of(state, part.path)
        znode = writes.set_data(state, txn, part.path, part.data, part.version)
        assert undo is not None
        undo_log.append(undo)
        return MULTI_HEADER.pack(OpCode.SET_DATA, False, 0) + encode_stat(znode)
    if isinstance(part, Delete):
        parent = _ParentCounters.of(state, part.path)
        before = state.znodes.get(part.path)
        writes.delete(state, txn, part.path, part.version)
        assert parent is not None
        assert before is not None
        undo_log.append(_UndoDelete(part.path, before, parent))
        return MULTI_HEADER.pack(OpCode.DELETE, False, 0)
    writes.check(state, txn, part.path, part.version)
    return MULTI_HEADER.pack(OpCode.CHECK, False, 0)


def _apply_create(state: State, txn: Transaction, part: Create, undo_log: list[_Undo]) -> bytes:
    parent = _ParentCounters.of(state, part.path)
    path = writes.create(state, txn, part.path, part.data, part.acl, part.flags, part.ttl_ms)
    assert parent is not None
    undo_log.append(_UndoCreate(path, parent))
    # Measured: ZooKeeper answers create2 inside a multi as a plain create, and a container or TTL
    # create as a create2.
    if part.opcode in {OpCode.CREATE, OpCode.CREATE2}:
        return MULTI_HEADER.pack(OpCode.CREATE, False, 0) + encode_buffer(path)
    stat = encode_stat(state.znodes[path])
    return MULTI_HEADER.pack(OpCode.CREATE2, False, 0) + encode_buffer(path) + stat


def _encode_failure(position: int, code: int, count: int) -> bytes:
    """The results of a refused multi: 0 before the refused part, its code, then -2."""
    assert 0 <= position < count
    codes = [0] * position + [code]
    codes += [int(ErrorCode.RUNTIME_INCONSISTENCY)] * (count - position - 1)
    return b"".join([MULTI_HEADER.pack(_ERROR, False, c) + INT.pack(c) for c in codes]) + MULTI_END
