"""Rebuilding a tree from a snapshot; the format is in ``snapshot.py``.

Children, ephemerals and containers are not in a snapshot: they follow from the znodes, and are
rebuilt and thereby checked, in the same pass: a znode always comes behind its parent. Piece
boundaries mean nothing. Whatever is wrong with the bytes is reported as ``CorruptData`` with the
offset of the block.

The digest is rebuilt here too, from the records as they come. It is not in the snapshot: then it
would say what the tree should be and not what was made of it.

Cost: about 3 us for each znode, a quarter of it for the digest. Hashing later, when first asked,
takes three times as long, because each record would have to be built again, and all of it falls
into one turn of a node that serves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from struct import error as struct_error
from zlib import crc32

from quorate.errors import CorruptData, RemoteProtocolError
from quorate.protocol.jute import Reader
from quorate.tree.acl import OPEN_ACL, Acl, intern_acl, read_acl
from quorate.tree.digest import decode_session, hash_session
from quorate.tree.paths import is_valid_name
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
from quorate.tree.znode import RECORD, Znode, encode_record, hash_record

_NAME = "snapshot"


class _Damaged(Exception):
    """The content of a block makes no sense; becomes a ``CorruptData`` with its offset."""


def restore_state(state: State, chunks: Iterable[bytes]) -> None:
    """Replace the whole of ``state`` by what a snapshot holds.

    Raises:
        CorruptData: the bytes are no (whole) snapshot; ``state`` is undefined.
    """
    state.reset()
    with_results = 0
    is_begun = False
    expected: tuple[int, int] | None = None
    total = 0  # of the hashes that make the digest
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
                total += _read_sessions(state, payload)
            elif kind == KIND_RESULTS:
                with_results, change = _read_results(state, payload)
                total += change
            elif kind == KIND_ZNODES:
                total += _read_znodes(state, payload)
            elif kind == KIND_END:
                expected = END.unpack_from(payload, 1)
            else:
                raise _Damaged(f"a block of kind {kind} is unknown")
        except (_Damaged, struct_error, UnicodeDecodeError, RemoteProtocolError) as damage:
            raise CorruptData(_NAME, offset, f"{damage}; use another snapshot") from damage
    state.digest_notes.begin_with(total)
    found = (len(state.znodes), len(state.sessions))
    if expected != found:
        reason = "it is cut off" if expected is None else f"expected {expected}, found {found}"
        raise CorruptData(_NAME, offset, f"{reason} (znodes, sessions); use another snapshot")
    if any(path not in state.znodes for path in sorted(UNDELETABLE)):
        raise CorruptData(_NAME, offset, "a system znode is missing; use another snapshot")
    found_results = sum(each.results is not None for each in state.sessions.values())
    if with_results != found_results:
        reason = f"results of {found_results} sessions of {with_results}; use another snapshot"
        raise CorruptData(_NAME, offset, reason)


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


def _read_sessions(state: State, payload: bytes) -> int:
    """Add a block of sessions; returns the sum of their hashes."""
    total = 0
    at = 1
    while at < len(payload):
        session, at = decode_session(payload, at)
        if session.session_id in state.sessions:
            raise _Damaged(f"session 0x{session.session_id:x} comes twice")
        state.sessions[session.session_id] = session
        session.folded = hash_session(session)
        total += session.folded
    return total


def _read_results(state: State, payload: bytes) -> tuple[int, int]:
    """Read answers that sessions may still ask for.

    Returns how many sessions have some altogether, and by how much the sum of hashes changes.
    """
    change = 0
    (count,) = RESULTS_COUNT.unpack_from(payload, 1)
    at = 1 + RESULTS_COUNT.size
    while at < len(payload):
        session_id, results, at = decode_results(payload, at)
        session = state.sessions.get(session_id)
        if session is None or session.results is not None:
            raise _Damaged(f"results of session 0x{session_id:x} come twice or of no session")
        session.results = results
        before, session.folded = session.folded, hash_session(session)
        change += session.folded - before
    return int(count), change


def _read_znodes(state: State, payload: bytes) -> int:
    """Add a block of znodes; returns the sum of their hashes.

    A loop without calls where that can be had: a million times through here is what a restart of
    a large tree consists of.
    """
    znodes, acls, zxid_max = state.znodes, state.acls, state.zxid
    record_at, fixed_size, new, hash_of = RECORD.unpack_from, RECORD.size, Znode.__new__, blake2b
    from_bytes, size = int.from_bytes, len(payload)
    parent_path, siblings = b"", {}
    total = 0
    count = len(znodes)
    at = 1
    while at < size:
        path_size, data_size, acl_size, czxid, mzxid, pzxid, *others = record_at(payload, at)
        path_at = at + fixed_size
        data_at = path_at + path_size
        acl_at = data_at + data_size if data_size > 0 else data_at
        end = acl_at + acl_size
        if path_size < 1 or data_size < -1 or acl_size < 0 or end > size:
            raise _Damaged("a znode is larger than its block")
        path = payload[path_at:data_at]
        if czxid > zxid_max or mzxid > zxid_max or pzxid > zxid_max:
            raise _Damaged(f"the znode {path!r} comes from the future")
        znode = new(Znode)
        znode.data = payload[data_at:acl_at] if data_size >= 0 else None
        znode.children = None
        znode.czxid = czxid
        znode.mzxid = mzxid
        znode.pzxid = pzxid
        (
            znode.ctime,
            znode.mtime,
            znode.version,
            znode.cversion,
            znode.aversion,
            znode.sequence,
            znode.ephemeral_owner,
        ) = others
        if acl_size:
            znode.acl = _read_acl(path, Reader(payload, acl_at, end), acls)
            znode.folded = hash_record(encode_record(path, znode))
        else:
            znode.acl = OPEN_ACL
            znode.folded = from_bytes(hash_of(payload[at:end], digest_size=8).digest())
        total += znode.folded
        slash = path.rfind(b"/")
        if path[:slash] != parent_path or slash <= 0:
            parent_path = path[:slash]
            siblings = _siblings(state, path, slash)
        if not is_valid_name(path[slash + 1 :]) and path != ROOT:
            raise _Damaged(f"the path {path!r} is no path")
        siblings[path] = None
        if znode.ephemeral_owner:
            _link_owner(state, path, znode.ephemeral_owner)
        znodes[path] = znode
        count += 1
        at = end
    if len(znodes) != count:
        raise _Damaged("a znode comes twice")
    return total


def _read_acl(path: bytes, reader: Reader, interned: dict[bytes, Acl]) -> Acl:
    entries = read_acl(reader)
    if not entries:
        raise _Damaged(f"the ACL of {path!r} is empty or no text")
    return intern_acl(entries, interned)


def _siblings(state: State, path: bytes, slash: int) -> dict[bytes, None]:
    """The children of the parent of ``path``. A parent was made before, so it comes before."""
    if path == ROOT:
        return {}
    parent = state.znodes.get(path[:slash] or ROOT) if slash >= 0 else None
    if parent is None or parent.ephemeral_owner > 0:
        raise _Damaged(f"the parent of {path!r} is missing or ephemeral")
    if parent.children is None:
        parent.children = {}
    return parent.children


def _link_owner(state: State, path: bytes, owner: int) -> None:
    if owner < 0:
        state.containers[path] = None
        return
    session = state.sessions.get(owner)
    if session is None:
        raise _Damaged(f"the owner 0x{owner:x} of {path!r} is no session")
    session.ephemerals.add(path)
