"""Raft messages to bytes and back.

One byte of kind, then fixed big-endian fields; only Append and InstallChunk have a variable part.
Payload bytes are copied, never looked into: what a client sent is what every node stores.

    Append        header, then per entry: epoch u64, kind u8, length u32; then all payloads
    InstallChunk  header, then the identity, the configuration, the data

This module knows nothing of roles or terms beyond what makes a message well-formed. What comes
from the wire is checked here, once, so that the rest may trust it.

Invariants:
    * ``decode(encode(m)) == m``
    * ``decode`` of anything else raises RemoteProtocolError; it never over-reads, never allocates
      more than the input's size, and never returns a message whose entries have falling epochs
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from quorate.consensus.entry import Entry, EntryKind, SnapshotMeta
from quorate.consensus.membership import Configuration
from quorate.consensus.raft.messages import (
    Append,
    AppendRejected,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallChunk,
    InstallReply,
    LeasePromise,
    RaftMessage,
    ReadReply,
    ReadRequest,
    RemovalNotice,
    RepairAnswer,
    RepairQuery,
    TermNotice,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from quorate.errors import RemoteProtocolError

_APPEND, _INSTALL_CHUNK = 3, 11

_APPEND_HEADER = struct.Struct(">BQQQQI")  # kind, term, prev index, prev term, commit, count
_ENTRY_HEADER = struct.Struct(">QBI")  # epoch, kind, payload length
_CHUNK_HEADER = struct.Struct(">BQQQQ?BI")
"""Kind, term, index, epoch, offset, last; lengths of identity and configuration."""

IDENTITY_BYTES_MAX = 64
_CHUNK_FLAG_AT = struct.calcsize(">BQQQQ")

# Messages of fixed fields: kind byte, class, layout after the kind byte, fields in order.
_FIXED: tuple[tuple[int, type[Any], str, tuple[str, ...]], ...] = (
    (1, VoteRequest, "QQQ??", ("term", "last_index", "last_term", "is_pre_vote", "is_forced")),
    (2, VoteReply, "QQ??", ("term", "request_term", "is_pre_vote", "is_granted")),
    (4, AppendReply, "QQ", ("term", "match_index")),
    (5, AppendRejected, "QQQQ", ("term", "rejected_index", "conflict_term", "conflict_index")),
    (6, Heartbeat, "QQQ", ("term", "commit_index", "round")),
    (7, HeartbeatReply, "QQ", ("term", "round")),
    (8, TermNotice, "Q", ("term",)),
    (9, ReadRequest, "QQ", ("term", "number")),
    (10, ReadReply, "QQQ", ("term", "number", "index")),
    (12, InstallReply, "QQQ?", ("term", "index", "next_offset", "is_done")),
    (13, TimeoutNow, "Q", ("term",)),
    (14, RemovalNotice, "QQ", ("term", "index")),
    (15, LeasePromise, "QQI", ("term", "round", "length_ms")),
    (40, RepairQuery, "QQQ", ("term", "number", "last_index")),
    (41, RepairAnswer, "QQQ", ("term", "number", "end_index")),
)


def _fixed_encoder(kind: int, layout: str, fields: tuple[str, ...]) -> Callable[[Any], bytes]:
    pack = struct.Struct(">B" + layout).pack

    def encode_fixed(message: Any) -> bytes:
        return pack(kind, *[getattr(message, name) for name in fields])

    return encode_fixed


def _fixed_decoder(cls: type[Any], layout: str) -> Callable[[bytes], RaftMessage]:
    fixed = struct.Struct(">B" + layout)
    # A bool field accepts any non-zero byte; only 1 is what an encoder writes.
    flags = [position for position, letter in enumerate("B" + layout) if letter == "?"]
    offsets = [struct.calcsize(">" + ("B" + layout)[:position]) for position in flags]

    def decode_fixed(data: bytes) -> RaftMessage:
        if len(data) != fixed.size:
            raise RemoteProtocolError(
                f"{cls.__name__} has {len(data)} bytes, expected {fixed.size}"
            )
        for offset in offsets:
            if data[offset] > 1:
                raise RemoteProtocolError(f"{cls.__name__} has a flag of {data[offset]}")
        message: RaftMessage = cls(*fixed.unpack(data)[1:])
        return message

    return decode_fixed


def _encode_append(message: Append) -> bytes:
    entries = message.entries
    parts = [
        _APPEND_HEADER.pack(
            _APPEND,
            message.term,
            message.prev_index,
            message.prev_term,
            message.commit_index,
            len(entries),
        )
    ]
    pack = _ENTRY_HEADER.pack
    parts.extend([pack(entry.epoch, entry.kind, len(entry.payload)) for entry in entries])
    parts.extend([entry.payload for entry in entries])
    return b"".join(parts)


def _decode_append(data: bytes) -> Append:
    size = len(data)
    if size < _APPEND_HEADER.size:
        raise RemoteProtocolError(f"Append has {size} bytes, less than its header")
    _, term, prev_index, prev_term, commit_index, count = _APPEND_HEADER.unpack_from(data)
    position = _APPEND_HEADER.size
    payload_at = position + count * _ENTRY_HEADER.size
    if payload_at > size:
        raise RemoteProtocolError(f"Append announces {count} entries in {size} bytes")
    entries: list[Entry] = []
    index, epoch_before = prev_index, prev_term
    for _ in range(count):
        epoch, kind, length = _ENTRY_HEADER.unpack_from(data, position)
        position += _ENTRY_HEADER.size
        index += 1
        if not epoch_before <= epoch <= term:
            raise RemoteProtocolError(f"entry {index} has epoch {epoch} after {epoch_before}")
        if kind > EntryKind.WITHHELD:
            raise RemoteProtocolError(f"entry {index} has unknown kind {kind}")
        if payload_at + length > size:
            raise RemoteProtocolError(f"entry {index} announces {length} bytes beyond the end")
        payload = data[payload_at : payload_at + length]
        if kind == EntryKind.CONFIGURATION:
            Configuration.decode(payload)  # refuse it here rather than when it is in the log
        elif kind == EntryKind.WITHHELD and length:
            raise RemoteProtocolError(f"entry {index} is withheld and has {length} bytes")
        entries.append(Entry(index, epoch, kind, payload))
        payload_at += length
        epoch_before = epoch
    if payload_at != size:
        raise RemoteProtocolError("trailing bytes after an Append")
    if prev_term > term:
        raise RemoteProtocolError(f"Append of term {term} follows an entry of term {prev_term}")
    return Append(term, prev_index, prev_term, commit_index, entries)


def _encode_chunk(message: InstallChunk) -> bytes:
    meta = message.meta
    header = _CHUNK_HEADER.pack(
        _INSTALL_CHUNK,
        message.term,
        meta.index,
        meta.epoch,
        message.offset,
        message.is_last,
        len(message.identity),
        len(meta.configuration),
    )
    return b"".join((header, message.identity, meta.configuration, message.data))


def _decode_chunk(data: bytes) -> InstallChunk:
    size = len(data)
    if size < _CHUNK_HEADER.size:
        raise RemoteProtocolError(f"InstallChunk has {size} bytes, less than its header")
    _, term, index, epoch, offset, is_last, identity_length, length = _CHUNK_HEADER.unpack_from(
        data
    )
    configuration_at = _CHUNK_HEADER.size + identity_length
    data_at = configuration_at + length
    if data_at > size:
        raise RemoteProtocolError("InstallChunk announces a configuration beyond its end")
    if identity_length > IDENTITY_BYTES_MAX:
        raise RemoteProtocolError(f"InstallChunk has an identity of {identity_length} bytes")
    if data[_CHUNK_FLAG_AT] > 1:
        raise RemoteProtocolError(f"InstallChunk has a flag of {data[_CHUNK_FLAG_AT]}")
    if index < 1 or not 1 <= epoch <= term:
        raise RemoteProtocolError(f"InstallChunk of term {term} covers {index} of epoch {epoch}")
    configuration = data[configuration_at:data_at]
    Configuration.decode(configuration)
    return InstallChunk(
        term,
        SnapshotMeta(index, epoch, configuration),
        offset,
        data[data_at:],
        is_last,
        data[_CHUNK_HEADER.size : configuration_at],
    )


_ENCODERS: dict[type[Any], Callable[[Any], bytes]] = {
    Append: _encode_append,
    InstallChunk: _encode_chunk,
    **{cls: _fixed_encoder(kind, layout, fields) for kind, cls, layout, fields in _FIXED},
}
_DECODERS: dict[int, Callable[[bytes], RaftMessage]] = {
    _APPEND: _decode_append,
    _INSTALL_CHUNK: _decode_chunk,
    **{kind: _fixed_decoder(cls, layout) for kind, cls, layout, _ in _FIXED},
}


def encode(message: RaftMessage) -> bytes:
    """Turn a message into bytes."""
    return _ENCODERS[type(message)](message)


def decode(data: bytes) -> RaftMessage:
    """Turn bytes into a message.

    Raises:
        RemoteProtocolError: the bytes are no message; nothing happened.
    """
    if not data:
        raise RemoteProtocolError("an empty message")
    decoder = _DECODERS.get(data[0])
    if decoder is None:
        raise RemoteProtocolError(f"unknown kind of message {data[0]}")
    return decoder(data)


_HARD_STATE = struct.Struct(">QI")


def encode_hard_state(term: int, voted_for: int) -> bytes:
    """Term and vote as one value: stored together or not at all."""
    return _HARD_STATE.pack(term, voted_for)


def decode_hard_state(data: bytes) -> tuple[int, int] | None:
    """Inverse of ``encode_hard_state``; None if these bytes are none."""
    if len(data) != _HARD_STATE.size:
        return None
    term, voted_for = _HARD_STATE.unpack(data)
    return term, voted_for


def describe_hard_state(data: bytes) -> str | None:
    """Term and vote in words; None if these bytes are none."""
    decoded = decode_hard_state(data)
    if decoded is None:
        return None
    term, vote = decoded
    return f"term {term}, vote for node {vote}" if vote else f"term {term}, no vote in it"
