"""Requests about watches: setWatches, addWatch, checkWatches, removeWatches.

They change nothing that is replicated, so the node that holds the connection answers them alone.
setWatches comes from a client that reconnected: what it missed is told at once, the rest is armed.
The tree says what was missed; this module says it to the client.

An event about what was missed belongs to no transaction, so its zxid is -1, as in ZooKeeper.
"""

from __future__ import annotations

from typing import Final

from quorate.protocol.jute import Reader
from quorate.protocol.zookeeper import (
    REQUEST_HEADER,
    AddWatchMode,
    ErrorCode,
    EventType,
    OpCode,
    Permission,
    WatchType,
    decode_set_watches,
    encode_event,
    encode_reply,
)
from quorate.tree.client import Client
from quorate.tree.tree import Tree
from quorate.tree.watches import ClientWatches, Kind

_NO_ERROR_RESPONSE: Final = bytes(4)
"""addWatch answers with a body, an ``ErrorResponse`` of 0; clients check lengths."""

_MODES: Final = {
    int(AddWatchMode.PERSISTENT): Kind.PERSISTENT,
    int(AddWatchMode.PERSISTENT_RECURSIVE): Kind.RECURSIVE,
}


def answer_watch_request(client: Client, frame: bytes, tree: Tree, watches: ClientWatches) -> bytes:
    """Carry out one request about watches; give the reply. Missed events are queued before it.

    Raises:
        RemoteProtocolError: the frame is malformed; close the connection.
    """
    _length, xid, opcode = REQUEST_HEADER.unpack_from(frame)
    error = ErrorCode.OK
    body = b""
    if opcode in (OpCode.SET_WATCHES, OpCode.SET_WATCHES2):
        _set_watches(client, frame, tree, watches, extended=opcode == OpCode.SET_WATCHES2)
    else:
        reader = Reader(frame, REQUEST_HEADER.size)
        path, number = reader.string(), reader.int32()
        if opcode == OpCode.ADD_WATCH:
            kind = _MODES.get(number)
            if kind is None or not path.startswith(b"/"):
                error = ErrorCode.BAD_ARGUMENTS
            else:
                watches.arm(kind, path, client)
                body = _NO_ERROR_RESPONSE
        elif number not in tuple(WatchType):
            error = ErrorCode.BAD_ARGUMENTS
        elif opcode == OpCode.CHECK_WATCHES:
            if not watches.holds_any(number, path, client):
                error = ErrorCode.NO_WATCHER
        else:
            assert opcode == OpCode.REMOVE_WATCHES
            if not watches.remove_all(number, path, client):
                error = ErrorCode.NO_WATCHER
    return encode_reply(xid, tree.zxid, error, body)


def _set_watches(
    client: Client, frame: bytes, tree: Tree, watches: ClientWatches, *, extended: bool
) -> None:
    request = decode_set_watches(frame, REQUEST_HEADER.size, extended=extended)
    since = request.relative_zxid
    deleted: set[bytes] = set()  # told once, however many watches the client had there
    for path in request.data:
        event = tree.needs_data_event(path, since)
        _tell_or_arm(client, path, Kind.DATA, event, tree, watches, deleted)
    for path in request.exists:
        event = tree.needs_exists_event(path)
        _tell_or_arm(client, path, Kind.DATA, event, tree, watches, deleted)
    for path in request.children:
        event = tree.needs_children_event(path, since)
        _tell_or_arm(client, path, Kind.CHILDREN, event, tree, watches, deleted)
    for path in request.persistent:
        watches.arm(Kind.PERSISTENT, path, client)
    for path in request.recursive:
        watches.arm(Kind.RECURSIVE, path, client)


def _tell_or_arm(
    client: Client,
    path: bytes,
    kind: Kind,
    event: int,
    tree: Tree,
    watches: ClientWatches,
    deleted: set[bytes],
) -> None:
    if event == EventType.DELETED:
        if path not in deleted:
            deleted.add(path)
            client.notify(encode_event(event, path))
    elif event and _may_read(client, path, tree):
        client.notify(encode_event(event, path))
    else:
        watches.arm(kind, path, client)


def _may_read(client: Client, path: bytes, tree: Tree) -> bool:
    """Who may not read a znode is not told of it; the watch stays, as if nothing were known."""
    acl = tree.acl_of(path)
    assert client.session is not None
    return acl is None or acl.permits(Permission.READ, client.session.identities)
