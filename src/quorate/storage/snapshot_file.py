"""Snapshot files, byte by byte: header, payload, table, trailer; docs/wal-format.md draws them.

The payload lies in one piece, so that a peer can be sent any range of it as it is. In version 2 it
is one zlib stream, in version 1 the plain bytes; both are read. Blocks of the payload have CRCs of
their own, in a table behind it. This module opens no file by name and decides nothing.

Invariants:
    * no byte of payload is handed out before its block's CRC was checked
    * decompressing takes no more memory than a block and a piece, whatever the bytes claim
"""

from __future__ import annotations

import re
import struct
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

from quorate.consensus.entry import SnapshotMeta
from quorate.errors import CorruptData, QuorateError
from quorate.storage.disk import File

BLOCK_BYTES_MIN = 64
BLOCK_BYTES_MAX = 16 << 20
PIECE_BYTES_MAX = 1 << 20
"""Most bytes in one piece of what a compressed payload unfolds to."""

CONFIGURATION_BYTES_MAX = 1 << 20
PLAIN, COMPRESSED = VERSIONS = (1, 2)
SNAPSHOT_NAME = re.compile(r"snapshot-(\d{1,20})-(\d{1,20})\.q")

ADVICE = (
    "replace this node: remove it from the cluster and let it join as a new member with an empty "
    "directory"
)

_MAGIC = b"QUORSNAP"
_END_MAGIC = b"QUORSEND"
_HEAD = struct.Struct(">8sII16sQQI")
_TRAILER = struct.Struct(">8sQII")
_CRC = struct.Struct(">I")
_TRAILER_BYTES = _TRAILER.size + _CRC.size
_IDENTITY = struct.Struct(">IIQI")


def snapshot_name(meta: SnapshotMeta) -> str:
    """Final file name of a snapshot."""
    return f"snapshot-{meta.index:016d}-{meta.epoch:016d}.q"


class PayloadIdentity(NamedTuple):
    """Which bytes exactly a payload is: two snapshots of one index need not be equal bytes.

    ``checksum`` covers header, order and content: it is the CRC of the table of CRCs.
    """

    version: int
    block_bytes: int
    size_bytes: int
    checksum: int

    def encode(self) -> bytes:
        """Opaque bytes, to travel with the payload."""
        return _IDENTITY.pack(*self)

    @classmethod
    def decode(cls, data: bytes) -> PayloadIdentity | None:
        """Inverse of ``encode``; None when these bytes are none."""
        if len(data) != _IDENTITY.size:
            return None
        identity = cls(*_IDENTITY.unpack(data))
        is_known = identity.version in VERSIONS and is_block_size(identity.block_bytes)
        return identity if is_known else None


def is_block_size(size_bytes: int) -> bool:
    """Whether a file may have blocks of this size."""
    return BLOCK_BYTES_MIN <= size_bytes <= BLOCK_BYTES_MAX


def encode_head(cluster_id: bytes, meta: SnapshotMeta, version: int, block_bytes: int) -> bytes:
    """The header of a file."""
    assert len(meta.configuration) <= CONFIGURATION_BYTES_MAX
    assert is_block_size(block_bytes)
    head = _HEAD.pack(
        _MAGIC, version, block_bytes, cluster_id, meta.index, meta.epoch, len(meta.configuration)
    )
    body = head + meta.configuration
    return body + _CRC.pack(crc32(body))


def block_crc(number: int, block: bytes | memoryview, seed: int) -> int:
    """CRC of a block at its place in its file; a block elsewhere never fits."""
    return crc32(block, crc32(_CRC.pack(number), seed))


def pack_table(table: array[int]) -> bytes:
    """The CRCs of all blocks, in order."""
    return struct.pack(f">{len(table)}I", *table)


@dataclass(frozen=True, slots=True, eq=False)
class SnapshotFile:
    """What is known about a complete snapshot file."""

    meta: SnapshotMeta
    version: int
    block_bytes: int
    start: int  # offset of the payload
    size_bytes: int  # of the payload
    table: array[int]
    seed: int

    @property
    def identity(self) -> PayloadIdentity:
        """Which bytes exactly the payload is."""
        return PayloadIdentity(
            self.version,
            self.block_bytes,
            self.size_bytes,
            crc32(pack_table(self.table), self.seed),
        )

    def encode_end(self) -> bytes:
        """Table and trailer, which follow the payload."""
        identity = self.identity
        trailer = _TRAILER.pack(_END_MAGIC, self.size_bytes, len(self.table), identity.checksum)
        return b"".join((pack_table(self.table), trailer, _CRC.pack(crc32(trailer))))

    def read_blocks(self, file: File, first: int, last: int) -> bytes:
        """Read and check the blocks ``first .. last`` inclusive.

        Raises:
            CorruptData: one of them is damaged.
        """
        block_bytes = self.block_bytes
        begin = first * block_bytes
        end = min((last + 1) * block_bytes, self.size_bytes)
        data = file.read(self.start + begin, end - begin)
        view = memoryview(data)
        for number in range(first, last + 1):
            low = number * block_bytes - begin
            block = view[low : low + block_bytes]
            if block_crc(number, block, self.seed) != self.table[number]:
                raise self._damaged(begin + low, "wrong CRC")
        return data

    def blocks(self, file: File) -> Iterator[bytes]:
        """All checked blocks in order, as they are stored; closes the file at the end."""
        try:
            for number in range(len(self.table)):
                yield self.read_blocks(file, number, number)
        finally:
            file.close()

    def pieces(self, file: File) -> Iterator[bytes]:
        """What the state machine wrote, in order; closes the file at the end.

        Raises:
            CorruptData: while iterating; what came before was right.
        """
        blocks = self.blocks(file)
        return blocks if self.version == PLAIN else unfold(blocks, self._damaged)

    def _damaged(self, offset: int, words: str) -> CorruptData:
        return CorruptData(snapshot_name(self.meta), self.start + offset, f"{words}; {ADVICE}")


def unfold(stored: Iterable[bytes], damaged: Callable[[int, str], QuorateError]) -> Iterator[bytes]:
    """What the state machine wrote, from a payload of version 2 in pieces of any size.

    Args:
        stored: the payload as it is stored.
        damaged: makes the error to raise, from an offset into the payload and words.
    """
    stream = zlib.decompressobj()
    offset = 0
    for piece in stored:
        data = piece
        while data and not stream.eof:
            try:
                yield stream.decompress(data, PIECE_BYTES_MAX)
            except zlib.error as error:
                raise damaged(offset, f"not what was compressed: {error}") from error
            data = stream.unconsumed_tail
        offset += len(piece)
    if not stream.eof or stream.unused_data:
        raise damaged(offset, "the compressed bytes end in the wrong place")


def read_snapshot_file(name: str, file: File, cluster_id: bytes) -> SnapshotFile:
    """Read header, table and trailer, and check that they belong together.

    Raises:
        CorruptData: they do not; nothing of the payload was looked at.
    """

    def damaged(offset: int, reason: str) -> CorruptData:
        return CorruptData(name, offset, f"{reason}; {ADVICE}")

    size = file.size()
    meta, version, block_bytes, body = _read_head(name, file, cluster_id)
    start, seed = len(body), crc32(body)
    trailer = file.read(size - _TRAILER_BYTES, _TRAILER_BYTES)
    if _CRC.pack(crc32(trailer[: -_CRC.size])) != trailer[-_CRC.size :]:
        raise damaged(size - _TRAILER_BYTES, "the trailer's CRC is wrong")
    magic, payload_bytes, count, table_crc = _TRAILER.unpack_from(trailer)
    expected_count = -(-payload_bytes // block_bytes)
    expected_size = start + payload_bytes + 4 * expected_count + _TRAILER_BYTES
    if (magic, count, size) != (_END_MAGIC, expected_count, expected_size):
        raise damaged(size - _TRAILER_BYTES, "the trailer does not fit the file")
    packed = file.read(start + payload_bytes, 4 * count)
    if crc32(packed, seed) != table_crc:
        raise damaged(start + payload_bytes, "the table's CRC is wrong")
    table = array("I", struct.unpack(f">{count}I", packed))
    return SnapshotFile(meta, version, block_bytes, start, payload_bytes, table, seed)


def _read_head(name: str, file: File, cluster_id: bytes) -> tuple[SnapshotMeta, int, int, bytes]:
    """Metadata, version, size of blocks, and all bytes of the header."""

    def damaged(offset: int, reason: str) -> CorruptData:
        return CorruptData(name, offset, f"{reason}; {ADVICE}")

    head = file.read(0, _HEAD.size)
    if len(head) < _HEAD.size or not head.startswith(_MAGIC):
        raise damaged(0, "this is no snapshot header")
    _, version, block_bytes, owner, index, epoch, length = _HEAD.unpack(head)
    start = _HEAD.size + length + _CRC.size
    if length > CONFIGURATION_BYTES_MAX or start + _TRAILER_BYTES > file.size():
        raise damaged(0, "the header's length is impossible")
    body = file.read(0, start)
    if _CRC.pack(crc32(body[: -_CRC.size])) != body[-_CRC.size :]:
        raise damaged(0, "the header's CRC is wrong")
    if version not in VERSIONS or not is_block_size(block_bytes) or owner != cluster_id:
        raise damaged(8, f"version {version} or cluster {owner.hex()} is not ours")
    meta = SnapshotMeta(index, epoch, body[_HEAD.size : -_CRC.size])
    if snapshot_name(meta) != name:
        raise damaged(24, "the header does not fit the file's name")
    return meta, version, block_bytes, body
