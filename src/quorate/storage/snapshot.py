"""Snapshot files: written beside the log, complete or absent, checked whenever they are read.

The payload is opaque and lies in one piece, so that a peer can be sent any range of it. Behind it
comes a table with one CRC per block and a trailer; docs/wal-format.md draws the bytes. This
module does not know when a snapshot is due, nor what the log holds.

Invariants:
    * a file with a final name is complete and was durable before it got that name; the name is
      durable before ``finish`` returns, and before any older snapshot is removed
    * no byte of payload is handed out before its block's CRC was checked
    * a big snapshot is synced every few MiB while it is written, so that its last sync does not
      stall the log's (Chubby, Paxos Made Live: log stalls behind snapshot writes)
"""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from zlib import crc32

from quorate.consensus.entry import SnapshotMeta
from quorate.errors import CorruptData, InvariantBroken, StorageError
from quorate.storage.disk import Disk, File
from quorate.storage.settings import StorageSettings

BLOCK_BYTES = 256 << 10
TEMPORARY_SUFFIX = ".tmp"
CONFIGURATION_BYTES_MAX = 1 << 20

_MAGIC = b"QUORSNAP"
_END_MAGIC = b"QUORSEND"
_VERSION = 1
_HEAD = struct.Struct(">8sII16sQQI")
_TRAILER = struct.Struct(">8sQII")
_CRC = struct.Struct(">I")
_TRAILER_BYTES = _TRAILER.size + _CRC.size
_NAME = re.compile(r"snapshot-(\d{1,20})-(\d{1,20})\.q")

ADVICE = (
    "replace this node: remove it from the cluster and let it join as a new member with an empty "
    "directory"
)


def snapshot_name(meta: SnapshotMeta) -> str:
    """Final file name of a snapshot."""
    return f"snapshot-{meta.index:016d}-{meta.epoch:016d}.q"


def _encode_head(cluster_id: bytes, meta: SnapshotMeta) -> bytes:
    assert len(meta.configuration) <= CONFIGURATION_BYTES_MAX
    head = _HEAD.pack(
        _MAGIC,
        _VERSION,
        BLOCK_BYTES,
        cluster_id,
        meta.index,
        meta.epoch,
        len(meta.configuration),
    )
    body = head + meta.configuration
    return body + _CRC.pack(crc32(body))


def _block_crc(number: int, block: bytes | memoryview, seed: int) -> int:
    """CRC of a block at its place in its file; a block elsewhere never fits."""
    return crc32(block, crc32(_CRC.pack(number), seed))


def _pack_table(table: array[int]) -> bytes:
    return struct.pack(f">{len(table)}I", *table)


class SnapshotWriter:
    """Writes one snapshot under a temporary name; ``finish`` makes it count.

    May live on another thread than the log. Get one from ``Store.begin_snapshot``.
    """

    def __init__(self, shelf: SnapshotShelf, meta: SnapshotMeta, temporary: str) -> None:
        self.meta = meta
        self.size_bytes = 0
        self._shelf = shelf
        self._temporary = temporary
        self._table: array[int] = array("I")
        self._buffer = bytearray()
        self._unsynced = 0
        self._file: File | None = shelf.create_temporary(temporary)
        head = _encode_head(shelf.cluster_id, meta)
        self._seed = crc32(head)
        self._start = len(head)
        self._position = len(head)
        self._file.write(0, head)

    def write(self, chunk: bytes) -> None:
        """Append a piece of payload.

        Raises:
            DiskFailed: the snapshot will not come to be; the node must stop.
        """
        assert self._file is not None, "the snapshot was finished or abandoned"
        self.size_bytes += len(chunk)
        self._buffer += chunk
        whole = len(self._buffer) - len(self._buffer) % BLOCK_BYTES
        if whole:
            self._put(bytes(self._buffer[:whole]))
            del self._buffer[:whole]

    def finish(self) -> int:
        """Make the snapshot durable under its final name; older ones are removed after that.

        Returns:
            Size of the payload in bytes.

        Raises:
            DiskFailed: the snapshot is there as a whole, or not at all, after a restart.
        """
        file = self._file
        assert file is not None, "the snapshot was finished or abandoned"
        if self._buffer:
            self._put(bytes(self._buffer))
            self._buffer.clear()
        table = _pack_table(self._table)
        trailer = _TRAILER.pack(
            _END_MAGIC, self.size_bytes, len(self._table), crc32(table, self._seed)
        )
        file.write(self._position, b"".join((table, trailer, _CRC.pack(crc32(trailer)))))
        file.sync()
        file.close()
        self._file = None
        found = _SnapshotFile(self.meta, self._start, self.size_bytes, self._table, self._seed)
        self._shelf.publish(self._temporary, found)
        return self.size_bytes

    def abandon(self) -> None:
        """Give it up and remove the temporary file. Harmless after ``finish``."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._shelf.discard_temporary(self._temporary)

    def _put(self, data: bytes) -> None:
        """Write whole blocks (or the last one) and note their CRCs."""
        assert self._file is not None
        self._file.write(self._position, data)
        self._position += len(data)
        view = memoryview(data)
        for begin in range(0, len(data), BLOCK_BYTES):
            number = len(self._table)
            self._table.append(_block_crc(number, view[begin : begin + BLOCK_BYTES], self._seed))
        self._unsynced += len(data)
        if self._unsynced >= self._shelf.settings.snapshot_sync_bytes:
            self._file.sync()
            self._unsynced = 0


@dataclass(frozen=True, slots=True, eq=False)
class _SnapshotFile:
    """What is known about a complete snapshot file."""

    meta: SnapshotMeta
    start: int  # offset of the payload
    size_bytes: int
    table: array[int]
    seed: int

    def read_blocks(self, file: File, first: int, last: int) -> bytes:
        """Read and check the blocks ``first .. last`` inclusive."""
        begin = first * BLOCK_BYTES
        end = min((last + 1) * BLOCK_BYTES, self.size_bytes)
        data = file.read(self.start + begin, end - begin)
        view = memoryview(data)
        for number in range(first, last + 1):
            low = number * BLOCK_BYTES - begin
            block = view[low : low + BLOCK_BYTES]
            if _block_crc(number, block, self.seed) != self.table[number]:
                raise CorruptData(
                    snapshot_name(self.meta), self.start + begin + low, f"wrong CRC; {ADVICE}"
                )
        return data

    def pieces(self, file: File) -> Iterator[bytes]:
        """All checked blocks in order; closes the file at the end."""
        try:
            for number in range(len(self.table)):
                yield self.read_blocks(file, number, number)
        finally:
            file.close()


class SnapshotShelf:
    """The snapshot files of one data directory. Safe to use from several threads."""

    def __init__(self, disk: Disk, cluster_id: bytes, settings: StorageSettings) -> None:
        self.cluster_id = cluster_id
        self.settings = settings
        self._disk = disk
        self._lock = Lock()
        self._files: dict[tuple[int, int], _SnapshotFile] = {}

    def newest_index(self) -> int:
        """Index of the newest complete snapshot; 0 when there is none."""
        with self._lock:
            return max((index for index, _ in self._files), default=0)

    def newest(self) -> tuple[SnapshotMeta, int] | None:
        """Metadata and payload size of the newest complete snapshot."""
        with self._lock:
            if not self._files:
                return None
            found = self._files[max(self._files)]
            return found.meta, found.size_bytes

    def count(self) -> int:
        """Complete snapshots known."""
        with self._lock:
            return len(self._files)

    def candidates(self) -> list[tuple[int, int, str]]:
        """``(index, epoch, name)`` of all files with a final name, newest first."""
        matches = (_NAME.fullmatch(name) for name in self._disk.names())
        return sorted(((int(m[1]), int(m[2]), m[0]) for m in matches if m), reverse=True)

    def load(self, name: str) -> SnapshotMeta:
        """Check every byte of a file and make it known.

        Raises:
            CorruptData: it is damaged; nothing was changed.
        """
        file = self._disk.open(name)
        try:
            found = self._parse(name, file)
        except BaseException:
            file.close()
            raise
        for _ in found.pieces(file):
            pass
        with self._lock:
            self._files[found.meta.index, found.meta.epoch] = found
        return found.meta

    def read(self, meta: SnapshotMeta, offset: int, size_bytes: int) -> tuple[bytes | None, bool]:
        """Read a range of payload for a peer: ``(data, is last)``; ``(None, False)``: gone.

        Raises:
            CorruptData: the file is damaged; nothing of it was handed out.
        """
        with self._lock:
            found = self._files.get((meta.index, meta.epoch))
            if found is None or offset > found.size_bytes:
                return None, False
            file = self._disk.open(snapshot_name(meta))
        try:
            end = min(offset + size_bytes, found.size_bytes)
            if end == offset:
                return b"", end == found.size_bytes
            first = offset // BLOCK_BYTES
            data = found.read_blocks(file, first, (end - 1) // BLOCK_BYTES)
        finally:
            file.close()
        skipped = first * BLOCK_BYTES
        return data[offset - skipped : end - skipped], end == found.size_bytes

    def open(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """All of the payload in checked pieces.

        Raises:
            StorageError: there is no such snapshot.
            CorruptData: while iterating; what came before was right.
        """
        with self._lock:
            found = self._files.get((meta.index, meta.epoch))
            if found is None:
                raise StorageError(f"there is no snapshot at index {meta.index}")
            return found.pieces(self._disk.open(snapshot_name(meta)))

    def scrub_newest(self) -> Iterator[CorruptData | None]:
        """Read the newest snapshot through: None for each good block, damage if there is any."""
        with self._lock:
            if not self._files:
                return
            found = self._files[max(self._files)]
            file = self._disk.open(snapshot_name(found.meta))
        try:
            for _ in found.pieces(file):
                yield None
        except CorruptData as error:
            yield error

    def set_aside(self, name: str) -> None:
        """Rename a damaged file, so that it never counts again but can be examined."""
        self._disk.rename(name, f"damaged-{name}")

    # ---- called by SnapshotWriter --------------------------------------------------------------

    def create_temporary(self, name: str) -> File:
        """Begin a temporary file, replacing a stale one."""
        assert name.endswith(TEMPORARY_SUFFIX)
        with self._lock:
            if name in self._disk.names():
                self._disk.remove(name)
            return self._disk.open(name, create=True)

    def discard_temporary(self, name: str) -> None:
        """Remove a temporary file; a crash may bring it back until the next start."""
        with self._lock:
            self._disk.remove(name)

    def publish(self, temporary: str, found: _SnapshotFile) -> None:
        """Give a synced file its final name, durably; then remove what is older."""
        with self._lock:
            self._disk.rename(temporary, snapshot_name(found.meta))
            self._disk.sync_directory()
            self._files[found.meta.index, found.meta.epoch] = found
            for index, epoch, name in self.candidates()[self.settings.snapshots_kept :]:
                self._disk.remove(name)
                self._files.pop((index, epoch), None)

    # ---- details -------------------------------------------------------------------------------

    def _parse(self, name: str, file: File) -> _SnapshotFile:
        """Read header, table and trailer."""

        def damaged(offset: int, reason: str) -> CorruptData:
            return CorruptData(name, offset, f"{reason}; {ADVICE}")

        size = file.size()
        head = file.read(0, _HEAD.size)
        if len(head) < _HEAD.size or not head.startswith(_MAGIC):
            raise damaged(0, "this is no snapshot header")
        _, version, block_bytes, cluster_id, index, epoch, length = _HEAD.unpack(head)
        start = _HEAD.size + length + _CRC.size
        if length > CONFIGURATION_BYTES_MAX or start + _TRAILER_BYTES > size:
            raise damaged(0, "the header's length is impossible")
        body = file.read(0, start)
        if _CRC.pack(crc32(body[: -_CRC.size])) != body[-_CRC.size :]:
            raise damaged(0, "the header's CRC is wrong")
        if (version, block_bytes, cluster_id) != (_VERSION, BLOCK_BYTES, self.cluster_id):
            raise damaged(8, f"version {version} or cluster {cluster_id.hex()} is not ours")
        meta = SnapshotMeta(index, epoch, body[_HEAD.size : -_CRC.size])
        if snapshot_name(meta) != name:
            raise damaged(24, "the header does not fit the file's name")
        seed = crc32(body)
        trailer = file.read(size - _TRAILER_BYTES, _TRAILER_BYTES)
        if _CRC.pack(crc32(trailer[: -_CRC.size])) != trailer[-_CRC.size :]:
            raise damaged(size - _TRAILER_BYTES, "the trailer's CRC is wrong")
        magic, payload_bytes, count, table_crc = _TRAILER.unpack_from(trailer)
        expected_count = -(-payload_bytes // BLOCK_BYTES)
        expected_size = start + payload_bytes + 4 * expected_count + _TRAILER_BYTES
        if (magic, count, size) != (_END_MAGIC, expected_count, expected_size):
            raise damaged(size - _TRAILER_BYTES, "the trailer does not fit the file")
        packed = file.read(start + payload_bytes, 4 * count)
        if crc32(packed, seed) != table_crc:
            raise damaged(start + payload_bytes, "the table's CRC is wrong")
        table = array("I", struct.unpack(f">{count}I", packed))
        return _SnapshotFile(meta, start, payload_bytes, table, seed)


class IncomingSnapshot:
    """A snapshot that arrives from a peer in pieces, in order."""

    def __init__(self, shelf: SnapshotShelf) -> None:
        self._shelf = shelf
        self._writer: SnapshotWriter | None = None

    def add(self, meta: SnapshotMeta, offset: int, data: bytes) -> None:
        """Take the next piece. Offset 0 begins (again); a repeated piece is ignored.

        Raises:
            InvariantBroken: a piece is missing between this one and those before.
            DiskFailed: the node must stop.
        """
        if offset == 0:
            self.abandon()
            self._writer = SnapshotWriter(self._shelf, meta, f"incoming{TEMPORARY_SUFFIX}")
        writer = self._writer
        if writer is None or writer.meta != meta or offset > writer.size_bytes:
            have = writer.size_bytes if writer is not None and writer.meta == meta else 0
            raise InvariantBroken(
                f"a piece at {offset} of the snapshot at index {meta.index}, of which only "
                f"{have} bytes arrived: the engine must begin at 0"
            )
        # Overlap with what already arrived is a retransmission of the same bytes.
        fresh = data[writer.size_bytes - offset :]
        if fresh:
            writer.write(fresh)

    def finish(self) -> None:
        """Make the arrived snapshot durable under its final name.

        Raises:
            DiskFailed: it is there as a whole, or not at all, after a restart.
        """
        assert self._writer is not None
        self._writer.finish()
        self._writer = None

    def abandon(self) -> None:
        """Forget what arrived."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None
