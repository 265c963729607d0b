"""The writes: create, delete, setData, setACL, check, and the end of a session.

Each function first decides, then changes: ``Refused`` is raised before anything was touched. The
order of the checks is ZooKeeper's (``PrepRequestProcessor``), because a request that is wrong in
two ways must be answered the same way. None of them knows frames or replies.

The caller moves ``state.zxid`` on when a write has succeeded; a write that was refused takes no
number.
"""

from __future__ import annotations

from typing import Final

from quorate.protocol.zookeeper import (
    CONTAINER_OWNER,
    TTL_MS_MAX,
    TTL_OWNER,
    ErrorCode,
    EventType,
    Permission,
)
from quorate.tree.acl import OPEN_ACL, Acl, Entry, resolve_acl
from quorate.tree.paths import is_valid_name, is_valid_path
from quorate.tree.refused import Refused
from quorate.tree.sessions import Session
from quorate.tree.state import ROOT, UNDELETABLE, State, Transaction, count_child_change
from quorate.tree.watching import fire_created, fire_deleted
from quorate.tree.znode import VERSION_MAX, VERSION_MIN, Znode, next_version

# Plain ints: an enum member costs a hot path more than the comparison it is used in.
_READ: Final = int(Permission.READ)
_WRITE: Final = int(Permission.WRITE)
_CREATE: Final = int(Permission.CREATE)
_DELETE: Final = int(Permission.DELETE)
_ADMIN: Final = int(Permission.ADMIN)
_DATA_CHANGED: Final = int(EventType.DATA_CHANGED)

_EPHEMERAL: Final = 1
_SEQUENTIAL: Final = 2
_CONTAINER: Final = 4
_TTL: Final = 5
_TTL_SEQUENTIAL: Final = 6


def require(acl: Acl, permission: int, session: Session | None) -> None:
    """Refuse with NO_AUTH unless ``session`` has ``permission``; the system itself may do all."""
    if acl is OPEN_ACL or session is None:
        return
    if not acl.permits(permission, session.identities):
        raise Refused(ErrorCode.NO_AUTH)


def missing(path: bytes) -> Refused:
    """Why a path that the client named leads nowhere: it is malformed, or nothing is there."""
    return Refused(ErrorCode.NO_NODE if is_valid_path(path) else ErrorCode.BAD_ARGUMENTS)


def set_data(
    state: State, txn: Transaction, path: bytes, data: bytes | None, version: int
) -> Znode:
    """Replace a znode's data. Changes nothing at its parent.

    Raises:
        Refused: BAD_ARGUMENTS, NO_NODE, NO_AUTH or BAD_VERSION; nothing happened.
    """
    znode = state.znodes.get(path)
    if znode is None:
        raise missing(path)
    acl = znode.acl
    if acl is not OPEN_ACL:
        require(acl, _WRITE, txn.session)
    present = znode.version
    if version not in (-1, present):
        raise Refused(ErrorCode.BAD_VERSION)
    # State.touch and next_version, written out: this is the hottest path there is.
    if state.capture is not None:
        state.capture.keep_znode(path, znode)
    state.digest_notes.znodes.setdefault(path, znode.folded)
    znode.data = data
    znode.mzxid = txn.zxid
    znode.mtime = txn.time_ms
    znode.version = present + 1 if present != VERSION_MAX else VERSION_MIN
    watches = txn.watches
    if path in watches.data or watches.recursive:
        watches.fire(watches.data, _DATA_CHANGED, path, txn.zxid, acl)
    return znode


def ephemeral_owner(flags: int, ttl_ms: int | None, session: Session | None) -> int:
    """What a create's flags make of ``ephemeralOwner``.

    Args:
        flags: the request's create mode.
        ttl_ms: the TTL, ``None`` when the request has no such field.
        session: who asks; only a session can own an ephemeral.

    Raises:
        Refused: BAD_ARGUMENTS; nothing happened.
    """
    if not 0 <= flags <= _TTL_SEQUENTIAL:
        raise Refused(ErrorCode.BAD_ARGUMENTS)
    if flags >= _TTL:
        if ttl_ms is None or not 0 < ttl_ms <= TTL_MS_MAX:
            raise Refused(ErrorCode.BAD_ARGUMENTS)
        return TTL_OWNER + ttl_ms
    if ttl_ms is not None and ttl_ms >= 0:  # a TTL for a znode that lives otherwise
        raise Refused(ErrorCode.BAD_ARGUMENTS)
    if flags == _CONTAINER:
        return CONTAINER_OWNER
    if not flags & _EPHEMERAL:
        return 0
    if session is None:
        raise Refused(ErrorCode.BAD_ARGUMENTS)
    return session.session_id


def create(
    state: State,
    txn: Transaction,
    path: bytes,
    data: bytes | None,
    acl: Acl | tuple[Entry, ...] | None,
    flags: int,
    ttl_ms: int | None = None,
) -> bytes:
    """Create a znode and return its path, which for a sequential one is longer than asked.

    ``acl`` is ``OPEN_ACL`` itself, or entries as the client sent them.

    Raises:
        Refused: BAD_ARGUMENTS, INVALID_ACL, NO_NODE (of the parent), NO_AUTH (CREATE at the
            parent), NODE_EXISTS or NO_CHILDREN_FOR_EPHEMERALS; nothing happened.
    """
    session = txn.session
    owner = ephemeral_owner(flags, ttl_ms, session) if flags or ttl_ms is not None else 0
    slash = path.rfind(b"/")
    if slash < 0 or b"\0" in path:
        raise Refused(ErrorCode.BAD_ARGUMENTS)
    if acl is not OPEN_ACL:
        assert not isinstance(acl, Acl)
        acl = resolve_acl(acl, session.identities if session is not None else (), state.acls)
    parent_path = path[:slash] or ROOT
    parent = state.znodes.get(parent_path)
    if parent is None:
        raise Refused(ErrorCode.NO_NODE)
    if parent.acl is not OPEN_ACL:
        require(parent.acl, _CREATE, session)
    if flags & _SEQUENTIAL and flags != _TTL:
        path = b"%b%010d" % (path, parent.sequence)
    # The parent exists, so what stands before the last slash is valid, unless it is "/" itself.
    if slash == 1 or not is_valid_name(path[slash + 1 :]):
        raise Refused(ErrorCode.NODE_EXISTS if path == ROOT else ErrorCode.BAD_ARGUMENTS)
    if path in state.znodes:
        raise Refused(ErrorCode.NODE_EXISTS)
    if parent.ephemeral_owner > 0:
        raise Refused(ErrorCode.NO_CHILDREN_FOR_EPHEMERALS)
    zxid = txn.zxid
    state.touch(parent_path, parent)
    state.add_znode(path, Znode(data, acl, zxid, txn.time_ms, owner), parent)
    count_child_change(parent, zxid)
    parent.sequence += 1
    fire_created(txn.watches, path, parent_path, zxid, acl, parent.acl)
    return path


def delete(state: State, txn: Transaction, path: bytes, version: int) -> None:
    """Delete a childless znode.

    Raises:
        Refused: BAD_ARGUMENTS (malformed, or a znode that exists for ever), NO_NODE, NO_AUTH
            (DELETE at the parent), BAD_VERSION or NOT_EMPTY; nothing happened.
    """
    slash = path.rfind(b"/")
    if slash < 0 or b"\0" in path or path in UNDELETABLE:
        raise Refused(ErrorCode.BAD_ARGUMENTS)
    parent_path = path[:slash] or ROOT
    parent = state.znodes.get(parent_path)
    if parent is None:
        raise Refused(ErrorCode.NO_NODE)
    if parent.acl is not OPEN_ACL:
        require(parent.acl, _DELETE, txn.session)
    znode = state.znodes.get(path)
    if znode is None:
        raise Refused(ErrorCode.NO_NODE)
    if version not in (-1, znode.version):
        raise Refused(ErrorCode.BAD_VERSION)
    if znode.children:
        raise Refused(ErrorCode.NOT_EMPTY)
    remove(state, txn, path, znode)


def remove(state: State, txn: Transaction, path: bytes, znode: Znode) -> None:
    """Take a childless znode away: what delete, expiry and reaping have in common."""
    parent_path = path[: path.rfind(b"/")] or ROOT
    parent = state.znodes[parent_path]
    state.touch(parent_path, parent)
    state.remove_znode(path, znode, parent)
    count_child_change(parent, txn.zxid)
    fire_deleted(txn.watches, path, parent_path, txn.zxid, znode.acl, parent.acl)


def set_acl(
    state: State, txn: Transaction, path: bytes, entries: tuple[Entry, ...] | None, version: int
) -> Znode:
    """Replace a znode's ACL; ``version`` is compared with its ``aversion``. No watch fires.

    Raises:
        Refused: BAD_ARGUMENTS, INVALID_ACL, NO_NODE, NO_AUTH (ADMIN) or BAD_VERSION; nothing
            happened.
    """
    if not is_valid_path(path):
        raise Refused(ErrorCode.BAD_ARGUMENTS)
    session = txn.session
    acl = resolve_acl(entries, session.identities if session is not None else (), state.acls)
    znode = state.znodes.get(path)
    if znode is None:
        raise Refused(ErrorCode.NO_NODE)
    require(znode.acl, _ADMIN, session)
    if version not in (-1, znode.aversion):
        raise Refused(ErrorCode.BAD_VERSION)
    state.touch(path, znode)
    znode.acl = acl
    znode.aversion = next_version(znode.aversion)
    return znode


def check(state: State, txn: Transaction, path: bytes, version: int) -> None:
    """Verify a version; only meaningful as a part of a multi.

    Raises:
        Refused: BAD_ARGUMENTS, NO_NODE, NO_AUTH (READ) or BAD_VERSION.
    """
    znode = state.znodes.get(path)
    if znode is None:
        raise missing(path)
    require(znode.acl, _READ, txn.session)
    if version not in (-1, znode.version):
        raise Refused(ErrorCode.BAD_VERSION)


def end_session(state: State, txn: Transaction, session: Session) -> None:
    """Close or expire a session: it and its ephemerals go in one transaction."""
    assert state.sessions[session.session_id] is session
    for path in sorted(session.ephemerals):
        remove(state, txn, path, state.znodes[path])
    assert not session.ephemerals
    if state.capture is not None:
        state.capture.keep_session(session)
    state.digest_notes.forget_session(session)
    del state.sessions[session.session_id]
