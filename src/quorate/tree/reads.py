"""The reads: answered from this replica's tree, one whole request frame to one whole reply frame.

A read changes nothing that is replicated; it may arm a watch. Whether this replica is fresh enough
to answer is decided before it gets here. ``exists`` is the only read that arms a watch on a path
where nothing is, and the only one that needs no permission.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as struct_error
from typing import Any, Final, TypeAlias

from quorate.errors import RemoteProtocolError
from quorate.protocol.jute import INT, Reader, encode_buffer, encode_strings
from quorate.protocol.zookeeper import (
    MULTI_END,
    MULTI_HEADER,
    REPLY_HEADER,
    REPLY_SIZE,
    STAT,
    STAT_REPLY,
    ErrorCode,
    OpCode,
    Permission,
)
from quorate.tree.acl import OPEN_ACL
from quorate.tree.refused import Refused
from quorate.tree.sessions import Session
from quorate.tree.state import ROOT, State
from quorate.tree.watching import Watches
from quorate.tree.writes import require
from quorate.tree.znode import Znode, encode_stat

_HEAD: Final = Struct(">iiii").unpack_from  # frame length, xid, opcode, length of the path
_DATA_HEAD: Final = Struct(">iiqii").pack  # frame length, xid, zxid, error, length of the data
_STAT_PACK: Final = STAT.pack
_GET_DATA: Final = int(OpCode.GET_DATA)
_READ: Final = int(Permission.READ)
_READ_OR_ADMIN: Final = int(Permission.READ | Permission.ADMIN)
_ADMIN: Final = int(Permission.ADMIN)
_STAT_REPLY_SIZE: Final = REPLY_SIZE + STAT.size


def read(
    state: State,
    watches: Watches,
    session: Session,
    frame: bytes,
    watcher: Any,
) -> bytes:
    """Answer one read request.

    ``watcher`` is armed when the request asks for a watch and it is not ``None``.

    Raises:
        RemoteProtocolError: the frame is no read, or too short to have a header; close the
            connection. Nothing happened.
    """
    try:
        _, xid, opcode, path_size = _HEAD(frame)
    except struct_error:
        xid, opcode, path_size = _short_head(frame)
    try:
        if opcode == _GET_DATA:
            path_end = 16 + path_size
            path = frame[16:path_end]
            znode = state.znodes.get(path)
            if znode is None or path_end >= len(frame):
                raise _refuse_get_data(frame)
            if znode.acl is not OPEN_ACL:
                require(znode.acl, _READ, session)
            if frame[path_end] and watcher is not None:
                watches.add(watches.data, path, watcher)
            return _encode_data(xid, state.zxid, znode)
        handler = _HANDLERS.get(opcode)
        if handler is None:
            raise RemoteProtocolError(f"opcode {opcode} is no read; the client must not send it so")
        return handler(_Request(state, watches, session, watcher, xid), Reader(frame, 12))
    except Refused as refused:
        return REPLY_HEADER.pack(REPLY_SIZE, xid, state.zxid, refused.code)


def _short_head(frame: bytes) -> tuple[int, int, int]:
    """The header of a frame that has no room for a path."""
    reader = Reader(frame)
    reader.int32()
    return reader.int32(), reader.int32(), -1


def _refuse_get_data(frame: bytes) -> Refused:
    try:
        reader = Reader(frame, 12)
        reader.string()
        reader.boolean()
    except RemoteProtocolError:
        return Refused(ErrorCode.MARSHALLING_ERROR)
    return Refused(ErrorCode.NO_NODE)


def _encode_data(xid: int, zxid: int, znode: Znode) -> bytes:
    """A whole getData reply; encode_stat written out, because this is the hottest read."""
    data = znode.data
    children = znode.children
    owner = znode.ephemeral_owner
    if owner < 0:  # containers and TTL znodes show none
        owner = 0
    size = len(data) if data else 0
    stat = _STAT_PACK(
        znode.czxid,
        znode.mzxid,
        znode.ctime,
        znode.mtime,
        znode.version,
        znode.cversion,
        znode.aversion,
        owner,
        size,
        len(children) if children else 0,
        znode.pzxid,
    )
    if data is None:
        return _DATA_HEAD(_STAT_REPLY_SIZE + 4, xid, zxid, 0, -1) + stat
    return _DATA_HEAD(_STAT_REPLY_SIZE + 4 + size, xid, zxid, 0, size) + data + stat


class _Request:
    """What a handler needs besides the body."""

    __slots__ = ("session", "state", "watcher", "watches", "xid")

    def __init__(
        self, state: State, watches: Watches, session: Session, watcher: Any, xid: int
    ) -> None:
        self.state = state
        self.watches = watches
        self.session = session
        self.watcher = watcher
        self.xid = xid

    def reply(self, *body: bytes) -> bytes:
        size = REPLY_SIZE + sum(map(len, body))
        return REPLY_HEADER.pack(size, self.xid, self.state.zxid, 0) + b"".join(body)

    def find(self, path: bytes, permission: int) -> Znode:
        """The znode at ``path``, if the session may.

        Raises:
            Refused: NO_NODE or NO_AUTH.
        """
        znode = self.state.znodes.get(path)
        if znode is None:
            raise Refused(ErrorCode.NO_NODE)
        require(znode.acl, permission, self.session)
        return znode


_Handler: TypeAlias = Callable[[_Request, Reader], bytes]


def _path_and_watch(reader: Reader) -> tuple[bytes, bool]:
    try:
        return reader.string(), reader.boolean()
    except RemoteProtocolError:
        raise Refused(ErrorCode.MARSHALLING_ERROR) from None


def _path(reader: Reader) -> bytes:
    try:
        return reader.string()
    except RemoteProtocolError:
        raise Refused(ErrorCode.MARSHALLING_ERROR) from None


def _exists(request: _Request, reader: Reader) -> bytes:
    path, watch = _path_and_watch(reader)
    if b"\0" in path:
        raise Refused(ErrorCode.BAD_ARGUMENTS)
    if watch and request.watcher is not None:
        request.watches.add(request.watches.data, path, request.watcher)
    znode = request.state.znodes.get(path)
    if znode is None:
        raise Refused(ErrorCode.NO_NODE)
    return encode_stat_reply(request.xid, request.state.zxid, znode)


def _get_acl(request: _Request, reader: Reader) -> bytes:
    znode = request.find(_path(reader), _READ_OR_ADMIN)
    acl = znode.acl
    if not acl.permits(_ADMIN, request.session.identities):
        acl = acl.without_secrets()
    return request.reply(acl.wire, encode_stat(znode))


def _children_of(request: _Request, reader: Reader) -> tuple[Znode, bytes]:
    path, watch = _path_and_watch(reader)
    znode = request.find(path, _READ)
    if watch and request.watcher is not None:
        request.watches.add(request.watches.children, path, request.watcher)
    return znode, encode_strings(child_names(path, znode))


def child_names(path: bytes, znode: Znode) -> list[bytes]:
    """Names (not paths) of a znode's children, in the order they were created."""
    if not znode.children:
        return []
    skip = len(path) + 1 if path != ROOT else 1
    return [child[skip:] for child in znode.children]


def _get_children(request: _Request, reader: Reader) -> bytes:
    return request.reply(_children_of(request, reader)[1])


def _get_children2(request: _Request, reader: Reader) -> bytes:
    znode, names = _children_of(request, reader)
    return request.reply(names, encode_stat(znode))


REPLY_SIZE_MAX: Final = 64 * 1024 * 1024
"""What a multiRead may answer: its parts can name one large znode again and again."""


def _multi_read(request: _Request, reader: Reader) -> bytes:
    """Several getData and getChildren in one request; each part fails alone."""
    results: list[bytes] = []
    size = 0
    try:
        while True:
            opcode, is_end, _ = reader.int32(), reader.boolean(), reader.int32()
            if is_end:
                return request.reply(*results, MULTI_END)
            if opcode not in {OpCode.GET_DATA, OpCode.GET_CHILDREN}:
                raise Refused(ErrorCode.MARSHALLING_ERROR)
            path, _ = reader.string(), reader.boolean()
            part = _read_part(request, opcode, path)
            size += sum(map(len, part))
            if size > REPLY_SIZE_MAX:
                raise Refused(ErrorCode.BAD_ARGUMENTS)
            results += part
    except RemoteProtocolError:
        raise Refused(ErrorCode.MARSHALLING_ERROR) from None


def _read_part(request: _Request, opcode: int, path: bytes) -> tuple[bytes, ...]:
    try:
        znode = request.find(path, _READ)
    except Refused as refused:
        return MULTI_HEADER.pack(-1, False, refused.code), INT.pack(refused.code)
    head = MULTI_HEADER.pack(opcode, False, 0)
    if opcode == OpCode.GET_DATA:
        return head, encode_buffer(znode.data), encode_stat(znode)
    return head, encode_strings(child_names(path, znode))


def _get_ephemerals(request: _Request, reader: Reader) -> bytes:
    prefix = _path(reader)
    paths = [path for path in sorted(request.session.ephemerals) if path.startswith(prefix)]
    return request.reply(encode_strings(paths))


def _get_all_children_number(request: _Request, reader: Reader) -> bytes:
    """How many descendants a znode has; walks them, not the whole tree."""
    path = _path(reader)
    pending = [request.find(path, _READ)]
    count = 0
    while pending:
        children = pending.pop().children
        if children:
            count += len(children)
            pending += [request.state.znodes[child] for child in children]
    return request.reply(INT.pack(count))


def _who_am_i(request: _Request, _: Reader) -> bytes:
    identities = request.session.identities
    parts = [INT.pack(len(identities))]
    for scheme, id_ in identities:
        user = id_.partition(":")[0] if scheme == "digest" else id_
        parts += (encode_buffer(scheme.encode()), encode_buffer(user.encode()))
    return request.reply(*parts)


def encode_stat_reply(xid: int, zxid: int, znode: Znode) -> bytes:
    """A whole reply whose body is a Stat: that of exists, setData and setACL."""
    data = znode.data
    children = znode.children
    owner = znode.ephemeral_owner
    if owner < 0:  # containers and TTL znodes show none
        owner = 0
    return STAT_REPLY.pack(
        _STAT_REPLY_SIZE,
        xid,
        zxid,
        0,
        znode.czxid,
        znode.mzxid,
        znode.ctime,
        znode.mtime,
        znode.version,
        znode.cversion,
        znode.aversion,
        owner,
        len(data) if data else 0,
        len(children) if children else 0,
        znode.pzxid,
    )


_HANDLERS: Final[dict[int, _Handler]] = {
    OpCode.EXISTS: _exists,
    OpCode.GET_ACL: _get_acl,
    OpCode.GET_CHILDREN: _get_children,
    OpCode.GET_CHILDREN2: _get_children2,
    OpCode.MULTI_READ: _multi_read,
    OpCode.GET_EPHEMERALS: _get_ephemerals,
    OpCode.GET_ALL_CHILDREN_NUMBER: _get_all_children_number,
    OpCode.WHO_AM_I: _who_am_i,
}
