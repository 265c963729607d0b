"""Rebuilding a tree from a snapshot; the format is in ``snapshot.py``.

Children, ephemerals and containers are not in a snapshot: they follow from the znodes, and are
rebuilt and thereby checked. Piece boundaries mean nothing. Whatever is wrong with the bytes is
reported as ``CorruptData`` with the offset of the block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import error as struct_error
from zlib import crc32

from quorate.errors import CorruptData, RemoteProtocolError
from quorate.protocol.jute import Reader
from quorate.tree.acl import OPEN_ACL, intern_acl, read_acl
from quorate.tree.digest import decode_session
from quorate.tree.paths import is_valid_path, parent_of
from quorate.tree.results import decode_results
from quorate.tree.snapshot import (
    BLOCK,
    BLOCK_SIZE_MAX,
    END,
    HEAD,
    KIND_END,
    KIND_HEAD,
    KIND_RESULTS,
    KIND_SESSIONS,
    KIND_ZNODES,
    MAGIC,
    RESULTS_COUNT,
    VERSION,
)
from quorate.tree.state import ROOT, UNDELETABLE, State
from quorate.tree.znode import RECORD, Znode

_NAME = "snapshot"


class _Damaged(Exception):
    """The content of a block makes no sense; becomes a ``CorruptData`` with its offset."""


def restore_state(state: State, chunks: Iterable[bytes]) -> None:
    """Replace the whole of ``state`` by what a snapshot holds.

    Raises:
        CorruptData: the bytes are no (whole) snapshot; ``state`` is undefined.
    """
    state.reset()
    expected: tuple[int, int] | None = None
    with_results = 0
    is_begun = False
    offset = 0
    for offset, payload in _read_blocks(chunks):
        kind = payload[0]
        try:
            if is_begun != (kind != KIND_HEAD) or expected is not None:
                raise _Damaged(f"a block of kind {kind} is out of place")
            if kind == KIND_HEAD:
                _read_head(state, payload)
                is_begun = True
            elif kind == KIND_SESSIONS:
                _read_sessions(state, payload)
            elif kind == KIND_RESULTS:
                with_results = _read_results(state, payload)
            elif kind == KIND_ZNODES:
                _read_znodes(state, payload)
            elif kind == KIND_END:
                expected = END.unpack_from(payload, 1)
            else:
                raise _Damaged(f"a block of kind {kind} is unknown")
        except (_Damaged, struct_error, UnicodeDecodeError, RemoteProtocolError) as damage:
            raise CorruptData(_NAME, offset, f"{damage}; use another snapshot") from damage
    found = (len(state.znodes), len(state.sessions))
    if expected != found:
        reason = "it is cut off" if expected is None else f"expected {expected}, found {found}"
        raise CorruptData(_NAME, offset, f"{reason} (znodes, sessions); use another snapshot")
    found_results = sum(each.results is not None for each in state.sessions.values())
    if with_results != found_results:
        reason = f"results of {found_results} sessions of {with_results}; use another snapshot"
        raise CorruptData(_NAME, offset, reason)
    try:
        _link(state)
    except _Damaged as damage:
        raise CorruptData(_NAME, offset, f"{damage}; use another snapshot") from damage


def _read_blocks(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and payload of each block, whatever the pieces they come in."""
    buffer = bytearray()
    offset = 0
    for chunk in chunks:
        buffer += chunk
        at = 0
        while len(buffer) - at >= BLOCK.size:
            size, checksum = BLOCK.unpack_from(buffer, at)
            if not 0 < size <= BLOCK_SIZE_MAX:
                raise CorruptData(_NAME, offset, f"a block of {size} bytes; use another snapshot")
            begin = at + BLOCK.size
            if len(buffer) - begin < size:
                break
            payload = bytes(buffer[begin : begin + size])
            if crc32(payload) != checksum:
                raise CorruptData(_NAME, offset, "wrong checksum; use another snapshot")
            yield offset, payload
            at = begin + size
            offset += BLOCK.size + size
        del buffer[:at]
    if buffer:
        raise CorruptData(_NAME, offset, "the last block is cut off; use another snapshot")


def _read_head(state: State, payload: bytes) -> None:
    magic, version, zxid = HEAD.unpack_from(payload, 1)
    if magic != MAGIC:
        raise _Damaged(f"it begins with {magic!r}, not {MAGIC!r}")
    if version != VERSION:
        raise _Damaged(f"it has format {version}, this release reads {VERSION}")
    if zxid < 0:
        raise _Damaged(f"its zxid is {zxid}")
    state.zxid = zxid


def _read_sessions(state: State, payload: bytes) -> None:
    at = 1
    while at < len(payload):
        session, at = decode_session(payload, at)
        if session.session_id in state.sessions:
            raise _Damaged(f"session 0x{session.session_id:x} comes twice")
        state.sessions[session.session_id] = session
        state.digest_notes.sessions[session.session_id] = 0


def _read_results(state: State, payload: bytes) -> int:
    """Read answers that sessions may still ask for; how many sessions have some altogether."""
    (count,) = RESULTS_COUNT.unpack_from(payload, 1)
    at = 1 + RESULTS_COUNT.size
    while at < len(payload):
        session_id, results, at = decode_results(payload, at)
        session = state.sessions.get(session_id)
        if session is None or session.results is not None:
            raise _Damaged(f"results of session 0x{session_id:x} come twice or of no session")
        session.results = results
    return int(count)


def _read_znodes(state: State, payload: bytes) -> None:
    at = 1
    while at < len(payload):
        fields = RECORD.unpack_from(payload, at)
        path_size, data_size, acl_size = fields[:3]
        path_at = at + RECORD.size
        data_at = path_at + path_size
        acl_at = data_at + max(data_size, 0)
        end = acl_at + acl_size
        if min(path_size, data_size + 1, acl_size) < 0 or end > len(payload):
            raise _Damaged("a znode is larger than its block")
        path = payload[path_at:data_at]
        if path in state.znodes or not is_valid_path(path):
            raise _Damaged(f"the path {path!r} comes twice or is no path")
        acl = OPEN_ACL
        if acl_size:
            entries = read_acl(Reader(payload, acl_at, end))
            if not entries:
                raise _Damaged(f"the ACL of {path!r} is empty or no text")
            acl = intern_acl(entries, state.acls)
        data = payload[data_at:acl_at] if data_size >= 0 else None
        znode = Znode(data, acl, fields[3], fields[6], fields[12])
        znode.mzxid, znode.pzxid = fields[4], fields[5]
        znode.mtime = fields[7]
        znode.version, znode.cversion, znode.aversion, znode.sequence = fields[8:12]
        if max(znode.czxid, znode.mzxid, znode.pzxid) > state.zxid:
            raise _Damaged(f"the znode {path!r} comes from the future")
        state.znodes[path] = znode
        state.digest_notes.znodes[path] = 0
        at = end


def _link(state: State) -> None:
    """Rebuild what follows from the znodes: children, ephemerals, containers."""
    znodes = state.znodes
    if any(path not in znodes for path in sorted(UNDELETABLE)):
        raise _Damaged("a system znode is missing")
    for path, znode in znodes.items():
        owner = znode.ephemeral_owner
        if owner > 0:
            session = state.sessions.get(owner)
            if session is None:
                raise _Damaged(f"the owner 0x{owner:x} of {path!r} is no session")
            session.ephemerals.add(path)
        elif owner < 0:
            state.containers[path] = None
        if path == ROOT:
            continue
        parent = znodes.get(parent_of(path))
        if parent is None or parent.ephemeral_owner > 0:
            raise _Damaged(f"the parent of {path!r} is missing or ephemeral")
        if parent.children is None:
            parent.children = {}
        parent.children[path] = None
