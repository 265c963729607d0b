"""Bytes of the write-ahead log: segment headers, groups and records.

Pure functions between values and bytes; docs/wal-format.md draws them byte by byte. This module
opens no file and knows no policy: whether bytes that fail to parse are a torn write or damage is
decided by ``recovery.py``.

What the format must make possible:
    * one persist call is one *group*: a header that carries a sequence number and the group's
      length, then records. A group is there as a whole or not at all.
    * every record's CRC continues the CRC before it, through all groups and segments, so records
      cannot be swapped, repeated or left out unnoticed
    * a group's header can be recognised alone, without the chain before it, so that groups
      *behind* a bad one can be found: they prove that the bad one had been acknowledged
    * recycled files are full of older groups. A segment's ``key`` (from directory id and segment
      number) is part of each group header, so an old group never looks like a new one; and as no
      client knows the key, no payload can pretend to be a group.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, TypeAlias
from zlib import crc32

VERSION = 1

SEGMENT_MAGIC = b"QUORAWAL"
GROUP_MAGIC = b"QGRP"

_SEGMENT = struct.Struct(">8sI16s16sQQQQQI4x")
_GROUP = struct.Struct(">4sIQIII")
_BODY = struct.Struct(">IBBxxQQ")
_CRC = struct.Struct(">I")
_U64 = struct.Struct(">Q")

SEGMENT_HEADER_BYTES = _SEGMENT.size + _CRC.size
GROUP_HEADER_BYTES = _GROUP.size + _CRC.size
RECORD_HEADER_BYTES = _CRC.size + _BODY.size
assert (SEGMENT_HEADER_BYTES, GROUP_HEADER_BYTES, RECORD_HEADER_BYTES) == (96, 32, 28)

GROUP_BYTES_MAX = (1 << 32) - 1


class RecordKind(IntEnum):
    """What a record says."""

    ENTRY = 1  # an entry of the replicated log
    HARD_STATE = 2  # the engine's private state, replaced as a whole
    TRUNCATE = 3  # entries at and after ``index`` are gone
    COMPACT = 4  # entries up to ``index`` may be forgotten: a snapshot covers them
    RESET = 5  # the log is empty and continues after the snapshot at ``index``


Record: TypeAlias = tuple[int, int, int, int, bytes]
"""``(kind, entry kind, epoch, index, payload)``; a plain tuple because there are many."""


class Stamp(NamedTuple):
    """Who owns a write-ahead log; in every segment's header."""

    cluster_id: bytes
    directory_id: bytes
    node_id: int


class SegmentHeader(NamedTuple):
    """The state of the log just before a segment's first group, so that reading may begin here."""

    number: int
    first_sequence: int  # of the segment's first group
    next_index: int  # index that the next entry must have
    floor: int  # entries up to here may be forgotten
    chain: int  # CRC at the end of the previous segment


class Group(NamedTuple):
    """A group that parsed: its records, where it ends, and the CRC the next one continues."""

    records: list[Record]
    end: int
    chain: int


def segment_key(stamp: Stamp, number: int) -> int:
    """The 32 bits that tell this segment's groups from everything else."""
    return crc32(_U64.pack(number), crc32(stamp.directory_id))


def encode_segment_header(stamp: Stamp, header: SegmentHeader) -> tuple[bytes, int]:
    """Return the header's bytes and the CRC that the first group continues."""
    body = _SEGMENT.pack(
        SEGMENT_MAGIC,
        VERSION,
        stamp.cluster_id,
        stamp.directory_id,
        stamp.node_id,
        header.number,
        header.first_sequence,
        header.next_index,
        header.floor,
        header.chain,
    )
    chain = crc32(body)
    return body + _CRC.pack(chain), chain


class DecodedHeader(NamedTuple):
    """A segment header whose CRC is right."""

    version: int
    stamp: Stamp
    header: SegmentHeader
    chain: int  # the CRC that the first group continues


def decode_segment_header(data: bytes) -> DecodedHeader | None:
    """Parse a header; None when the bytes are none (zeros, torn, damaged)."""
    if len(data) < SEGMENT_HEADER_BYTES or not data.startswith(SEGMENT_MAGIC):
        return None
    (crc,) = _CRC.unpack_from(data, _SEGMENT.size)
    if crc != crc32(data[: _SEGMENT.size]):
        return None
    _, version, cluster, directory, node, *rest = _SEGMENT.unpack_from(data)
    return DecodedHeader(version, Stamp(cluster, directory, node), SegmentHeader(*rest), crc)


def group_size(records: Sequence[Record]) -> int:
    """Size of the encoded group in bytes."""
    payloads = sum(len(record[4]) for record in records)
    return GROUP_HEADER_BYTES + RECORD_HEADER_BYTES * len(records) + payloads


def encode_group(
    records: Sequence[Record], *, key: int, sequence: int, chain: int
) -> tuple[list[bytes], int]:
    """Return the pieces of a group, to be joined once, and the CRC that the next one continues."""
    length = group_size(records) - GROUP_HEADER_BYTES
    assert length <= GROUP_BYTES_MAX
    header = _GROUP.pack(GROUP_MAGIC, key, sequence, length, len(records), chain)
    chain = crc32(header)
    pack_crc = _CRC.pack
    pack_body = _BODY.pack
    parts = [header, pack_crc(chain)]
    for kind, entry_kind, epoch, index, payload in records:
        body = pack_body(len(payload), kind, entry_kind, epoch, index)
        chain = crc32(payload, crc32(body, chain))
        parts += (pack_crc(chain), body, payload)
    return parts, chain


class GroupHeader(NamedTuple):
    """A group header whose CRC and key are right."""

    sequence: int
    length: int  # bytes of records that follow
    record_count: int
    before: int  # the chain's CRC before this group
    chain: int  # its own CRC, which the first record continues


def decode_group_header(data: bytes, offset: int, key: int) -> GroupHeader | None:
    """Recognise a group header of the segment with this key; needs nothing before it."""
    if offset + GROUP_HEADER_BYTES > len(data):
        return None
    magic, found, sequence, length, count, before = _GROUP.unpack_from(data, offset)
    if magic != GROUP_MAGIC or found != key:
        return None
    (crc,) = _CRC.unpack_from(data, offset + _GROUP.size)
    if crc != crc32(data[offset : offset + _GROUP.size]):
        return None
    return GroupHeader(sequence, length, count, before, crc)


def decode_group(data: bytes, offset: int, *, key: int, sequence: int, chain: int) -> Group | None:
    """Parse the group with this sequence number at ``offset``; None unless all of it is right."""
    header = decode_group_header(data, offset, key)
    if header is None or header.sequence != sequence or header.before != chain:
        return None
    position = offset + GROUP_HEADER_BYTES
    end = position + header.length
    if end > len(data):
        return None
    chain = header.chain
    records: list[Record] = []
    for _ in range(header.record_count):
        start = position + RECORD_HEADER_BYTES
        if start > end:
            return None
        length, kind, entry_kind, epoch, index = _BODY.unpack_from(data, position + _CRC.size)
        if start + length > end:
            return None
        payload = data[start : start + length]
        expected = crc32(payload, crc32(data[position + _CRC.size : start], chain))
        (chain,) = _CRC.unpack_from(data, position)
        if chain != expected:
            return None
        records.append((kind, entry_kind, epoch, index, payload))
        position = start + length
    if position != end:
        return None
    return Group(records, end, chain)


def find_later_group(data: bytes, offset: int, *, key: int, sequence: int) -> int:
    """Offset of any group header at or behind ``offset`` with a higher sequence; -1 if none."""
    tag = GROUP_MAGIC + _CRC.pack(key)
    position = data.find(tag, offset)
    while position >= 0:
        header = decode_group_header(data, position, key)
        if header is not None and header.sequence > sequence:
            return position
        position = data.find(tag, position + 1)
    return -1
