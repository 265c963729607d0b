"""What ZooKeeper's client protocol says on the wire: numbers, layouts and small records.

Sources: ``zookeeper.jute``, ``ZooDefs`` and ``KeeperException.Code`` of Apache ZooKeeper 3.8, read
for facts and measured against a running server. This module gives the numbers names and turns
records into bytes and back; what they *do* is decided in ``tree/`` and by the client service.

Layout of everything: a frame is a 4-byte length and that many bytes. A request is
``int xid, int opcode`` and a body; a reply ``int xid, long zxid, int error`` and a body, which is
absent when the error is not zero (multi excepted).
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final, NamedTuple

from quorate.errors import RemoteProtocolError
from quorate.protocol.jute import INT, Reader, encode_buffer


class OpCode(IntEnum):
    """Kinds of requests."""

    CREATE = 1
    DELETE = 2
    EXISTS = 3
    GET_DATA = 4
    SET_DATA = 5
    GET_ACL = 6
    SET_ACL = 7
    GET_CHILDREN = 8
    SYNC = 9
    PING = 11
    GET_CHILDREN2 = 12
    CHECK = 13
    MULTI = 14
    CREATE2 = 15
    RECONFIG = 16
    CHECK_WATCHES = 17
    REMOVE_WATCHES = 18
    CREATE_CONTAINER = 19
    DELETE_CONTAINER = 20
    CREATE_TTL = 21
    MULTI_READ = 22
    AUTH = 100
    SET_WATCHES = 101
    SASL = 102
    GET_EPHEMERALS = 103
    GET_ALL_CHILDREN_NUMBER = 104
    SET_WATCHES2 = 105
    ADD_WATCH = 106
    WHO_AM_I = 107
    CLOSE_SESSION = -11
    ONCE = 0x71750001  # ours ("qu", 1): wraps a write, see docs/exactly-once.md


WRITES: Final = frozenset(
    {
        OpCode.CREATE,
        OpCode.CREATE2,
        OpCode.CREATE_CONTAINER,
        OpCode.CREATE_TTL,
        OpCode.DELETE,
        OpCode.SET_DATA,
        OpCode.SET_ACL,
        OpCode.MULTI,
        OpCode.CLOSE_SESSION,
        OpCode.ONCE,
    }
)
"""Requests that go through the log."""

READS: Final = frozenset(
    {
        OpCode.EXISTS,
        OpCode.GET_DATA,
        OpCode.GET_ACL,
        OpCode.GET_CHILDREN,
        OpCode.GET_CHILDREN2,
        OpCode.MULTI_READ,
        OpCode.GET_EPHEMERALS,
        OpCode.GET_ALL_CHILDREN_NUMBER,
        OpCode.WHO_AM_I,
    }
)
"""Requests that one replica answers from its own tree."""


class Xid(IntEnum):
    """Request numbers with a meaning of their own."""

    EVENT = -1
    PING = -2
    AUTH = -4
    SET_WATCHES = -8


class ErrorCode(IntEnum):
    """``KeeperException.Code``: what the error field of a reply says."""

    OK = 0
    SYSTEM_ERROR = -1
    RUNTIME_INCONSISTENCY = -2
    CONNECTION_LOSS = -4
    MARSHALLING_ERROR = -5
    UNIMPLEMENTED = -6
    OPERATION_TIMEOUT = -7
    BAD_ARGUMENTS = -8
    NEW_CONFIG_NO_QUORUM = -13
    RECONFIG_IN_PROGRESS = -14
    NO_NODE = -101
    NO_AUTH = -102
    BAD_VERSION = -103
    NO_CHILDREN_FOR_EPHEMERALS = -108
    NODE_EXISTS = -110
    NOT_EMPTY = -111
    SESSION_EXPIRED = -112
    INVALID_CALLBACK = -113
    INVALID_ACL = -114
    AUTH_FAILED = -115
    SESSION_MOVED = -118
    NOT_READ_ONLY = -119
    EPHEMERAL_ON_LOCAL_SESSION = -120
    NO_WATCHER = -121
    REQUEST_TIMEOUT = -122
    RECONFIG_DISABLED = -123
    SESSION_CLOSED_REQUIRE_SASL_AUTH = -124
    QUOTA_EXCEEDED = -125
    THROTTLED_OP = -127
    # Ours, and only ever told to clients that ask for exactly once.
    SERIAL_SETTLED = -7001
    SERIAL_REUSED = -7002
    RESULTS_FULL = -7003


class EventType(IntEnum):
    """What a watch event reports. Types 5 to 7 are made by client libraries, never sent."""

    CREATED = 1
    DELETED = 2
    DATA_CHANGED = 3
    CHILDREN_CHANGED = 4


class WatchType(IntEnum):
    """Which watches ``checkWatches`` and ``removeWatches`` mean."""

    CHILDREN = 1
    DATA = 2
    ANY = 3
    PERSISTENT = 4
    PERSISTENT_RECURSIVE = 5


class AddWatchMode(IntEnum):
    """The mode of ``addWatch``."""

    PERSISTENT = 0
    PERSISTENT_RECURSIVE = 1


class KeeperState(IntEnum):
    """The state field of a watch event."""

    DISCONNECTED = 0
    SYNC_CONNECTED = 3
    AUTH_FAILED = 4
    EXPIRED = -112


class Permission(IntFlag):
    """Bits of an ACL entry."""

    READ = 1
    WRITE = 2
    CREATE = 4
    DELETE = 8
    ADMIN = 16
    ALL = 31


ANY_VERSION: Final = -1
"""The expected version that matches every version."""

CONTAINER_OWNER: Final = -(2**63)
"""``ephemeralOwner`` of a container."""

TTL_OWNER: Final = -(2**56)
"""``ephemeralOwner`` of a znode with a TTL is this (top byte 0xFF) plus the TTL in ms."""

TTL_MS_MAX: Final = 2**40 - 1
"""The longest TTL, in ms, that fits its five bytes of ``ephemeralOwner``."""

PASSWORD_SIZE: Final = 16
"""Bytes in a session's password."""

FRAME_SIZE_MAX: Final = 1024 * 1024 - 1
"""``jute.maxbuffer``'s default: the longest request body in bytes."""

REQUEST_HEADER: Final = Struct(">iii")
"""Frame length, xid, opcode."""

REPLY_HEADER: Final = Struct(">iiqi")
"""Frame length, xid, zxid, error."""

REPLY_SIZE: Final = 16
"""Bytes of a reply header without its frame length."""

STAT: Final = Struct(">qqqqiiiqiiq")
"""czxid, mzxid, ctime, mtime, version, cversion, aversion, ephemeralOwner, dataLength,
numChildren, pzxid."""

STAT_REPLY: Final = Struct(">iiqiqqqqiiiqiiq")
"""A whole reply whose body is a Stat: reply header and Stat in one go."""

MULTI_HEADER: Final = Struct(">i?i")
"""Type, done, error: stands before every part of a multi and at its end."""

MULTI_END: Final = MULTI_HEADER.pack(-1, True, -1)


class Stat(NamedTuple):
    """The Stat record, for whoever reads replies instead of writing them."""

    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    ephemeral_owner: int
    data_length: int
    num_children: int
    pzxid: int


def decode_stat(body: bytes, at: int = 0) -> Stat:
    """Read the Stat at ``body[at:]``.

    Raises:
        RemoteProtocolError: there are too few bytes; nothing happened.
    """
    if len(body) - at < STAT.size:
        raise RemoteProtocolError(f"a Stat takes {STAT.size} bytes, {len(body) - at} are left")
    return Stat._make(STAT.unpack_from(body, at))


# ---- watches, authentication, small requests -----------------------------------------------------


class AuthRequest(NamedTuple):
    """Body of ``auth``: an identity claimed for the connection."""

    type: int
    scheme: str
    auth: bytes


def decode_auth_request(body: bytes, at: int = 0) -> AuthRequest:
    """Read the body of an ``auth`` request that begins at ``at``.

    Raises:
        RemoteProtocolError: malformed; nothing happened.
    """
    reader = Reader(body, at)
    kind = reader.int32()
    try:
        scheme = reader.string().decode()
    except UnicodeDecodeError:
        raise RemoteProtocolError("the scheme of an auth request is not UTF-8") from None
    return AuthRequest(kind, scheme, reader.buffer() or b"")


class SetWatchesRequest(NamedTuple):
    """Body of ``setWatches`` and ``setWatches2``: watches a reconnecting client still holds."""

    relative_zxid: int
    data: list[bytes]
    exists: list[bytes]
    children: list[bytes]
    persistent: list[bytes]
    recursive: list[bytes]


def decode_set_watches(body: bytes, at: int = 0, *, extended: bool) -> SetWatchesRequest:
    """Read the body of ``setWatches`` (``extended``: of ``setWatches2``) that begins at ``at``.

    Raises:
        RemoteProtocolError: malformed; nothing happened.
    """
    reader = Reader(body, at)
    relative_zxid = reader.int64()
    lists = [reader.strings() for _ in range(5 if extended else 3)]
    if not extended:
        lists += [[], []]
    return SetWatchesRequest(relative_zxid, *lists)


EVENT_STATE: Final = Struct(">iqiii")
"""Reply header of an event (xid, zxid, error), type and state."""


def encode_event(event_type: int, path: bytes, zxid: int = -1) -> bytes:
    """A watch event as a whole frame. ``zxid`` is -1 up to ZooKeeper 3.8, real since 3.9."""
    body = EVENT_STATE.pack(
        Xid.EVENT, zxid, 0, event_type, KeeperState.SYNC_CONNECTED
    ) + encode_buffer(path)
    return INT.pack(len(body)) + body


def encode_reply(xid: int, zxid: int, error: int = 0, body: bytes = b"") -> bytes:
    """A reply as a whole frame."""
    return REPLY_HEADER.pack(REPLY_SIZE + len(body), xid, zxid, error) + body


def encode_request(xid: int, opcode: int, body: bytes = b"") -> bytes:
    """A request as a whole frame: what a client sends."""
    return REQUEST_HEADER.pack(8 + len(body), xid, opcode) + body
