"""Snapshot files of a data directory: written beside the log, complete or absent.

``snapshot_file.py`` knows the bytes. This module knows names, the order in which things become
durable, and how long a file is kept; not when a snapshot is due, nor what the log holds.

Invariants:
    * a file with a final name is complete and was durable before it got that name; the name is
      durable before ``finish`` returns, and before any older snapshot is removed
    * a big snapshot is synced every few MiB while it is written, so that its last sync does not
      stall the log's (Chubby, Paxos Made Live: log stalls behind snapshot writes)
    * a file that a peer is being sent is kept until it has all of it, or another is sent
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator
from threading import Lock
from typing import NamedTuple
from zlib import crc32

from quorate.consensus.entry import SnapshotMeta
from quorate.errors import CorruptData, DiskFull, StorageError
from quorate.storage.disk import Disk, File
from quorate.storage.settings import StorageSettings
from quorate.storage.snapshot_file import (
    COMPRESSED,
    PLAIN,
    SNAPSHOT_NAME,
    SnapshotFile,
    block_crc,
    encode_head,
    read_snapshot_file,
    snapshot_name,
)

TEMPORARY_SUFFIX = ".tmp"
OWN_NAME = f"own{TEMPORARY_SUFFIX}"


class SnapshotPiece(NamedTuple):
    """A range of a payload as it is stored. ``data is None``: that snapshot is gone.

    ``identity`` says of exactly which bytes; pieces with the same one fit together.
    """

    data: bytes | None
    last: bool
    identity: bytes


_GONE = SnapshotPiece(None, False, b"")


class PayloadWriter:
    """Writes payload, as it shall be stored, into a temporary file, block by block."""

    def __init__(
        self,
        shelf: SnapshotShelf,
        meta: SnapshotMeta,
        temporary: str,
        version: int,
        block_bytes: int,
        found: tuple[File, array[int]] | None = None,
    ) -> None:
        """Begin; or with ``found`` go on in this file, behind the blocks with these CRCs, which
        need not be synced.
        """
        self.meta = meta
        self.version = version
        self.block_bytes = block_bytes
        self._shelf = shelf
        self._temporary = temporary
        self._buffer = bytearray()
        head = encode_head(shelf.cluster_id, meta, version, block_bytes)
        self.seed = crc32(head)
        self.start = len(head)
        self.file: File | None
        if found is None:
            self.file, self.table = shelf.create_temporary(temporary), array("I")
            self.file.write(0, head)
        else:
            self.file, self.table = found
        self.size_bytes = len(self.table) * block_bytes  # taken in, whole blocks or not
        self._unsynced = self.size_bytes

    def write(self, data: bytes) -> bool:
        """Append; True when everything but an unfinished block was synced just now.

        Raises:
            DiskFailed: the snapshot will not come to be; the node must stop.
        """
        assert self.file is not None, "the snapshot was finished or abandoned"
        self.size_bytes += len(data)
        self._buffer += data
        whole = len(self._buffer) - len(self._buffer) % self.block_bytes
        if not whole:
            return False
        self._put(bytes(self._buffer[:whole]))
        del self._buffer[:whole]
        if self._unsynced < self._shelf.settings.snapshot_sync_bytes:
            return False
        self.sync()
        return True

    def keep_reserve(self, size_bytes: int) -> None:
        """Refuse to write so much more if that would leave too little space for the log.

        Raises:
            DiskFull: nothing was written.
        """
        self._shelf.keep_reserve(size_bytes)

    def sync(self) -> None:
        """Make durable what was written so far."""
        assert self.file is not None
        self.file.sync()
        self._unsynced = 0

    def complete(self) -> SnapshotFile:
        """Write what is left of the payload; the file could be finished now."""
        if self._buffer:
            self._put(bytes(self._buffer))
            self._buffer.clear()
        return SnapshotFile(
            self.meta,
            self.version,
            self.block_bytes,
            self.start,
            self.size_bytes,
            self.table,
            self.seed,
        )

    def publish(self, found: SnapshotFile) -> None:
        """Make it durable under its final name; older ones are removed after that."""
        file = self.file
        assert file is not None, "the snapshot was finished or abandoned"
        file.write(self.start + self.size_bytes, found.encode_end())
        self.sync()
        file.close()
        self.file = None
        self._shelf.publish(self._temporary, found)

    def abandon(self) -> None:
        """Give it up and remove the temporary file. Harmless when it is finished."""
        if self.file is not None:
            self.file.close()
            self.file = None
            self._shelf.discard_temporary(self._temporary)

    def _put(self, data: bytes) -> None:
        """Write whole blocks (or the last one) and note their CRCs."""
        assert self.file is not None
        size = self.block_bytes
        self.file.write(self.start + len(self.table) * size, data)
        view = memoryview(data)
        for begin in range(0, len(data), size):
            block = view[begin : begin + size]
            self.table.append(block_crc(len(self.table), block, self.seed))
        self._unsynced += len(data)


class SnapshotWriter:
    """Writes one snapshot of our own under a temporary name; ``finish`` makes it count.

    May live on another thread than the log. Get one from ``Store.begin_snapshot``. Compressing
    happens here, 10 ms for each MiB, on the caller's thread.
    """

    def __init__(self, shelf: SnapshotShelf, meta: SnapshotMeta) -> None:
        level = shelf.settings.snapshot_compression
        self.meta = meta
        self._stream = zlib.compressobj(level) if level else None
        version = COMPRESSED if level else PLAIN
        block_bytes = shelf.settings.snapshot_block_bytes
        self._payload = PayloadWriter(shelf, meta, OWN_NAME, version, block_bytes)

    @property
    def size_bytes(self) -> int:
        """Bytes to be stored so far."""
        return self._payload.size_bytes

    def write(self, chunk: bytes) -> None:
        """Append a piece of the state.

        Raises:
            DiskFull: it would leave too little space for the log. Abandon it; all else is well.
            DiskFailed: the snapshot will not come to be; the node must stop.
        """
        self._payload.keep_reserve(len(chunk))
        self._payload.write(chunk if self._stream is None else self._stream.compress(chunk))

    def finish(self) -> int:
        """Make the snapshot durable under its final name; older ones are removed after that.

        Returns:
            Bytes stored, without header and table.

        Raises:
            DiskFull: it does not fit. Abandon it; all else is well.
            DiskFailed: the snapshot is there as a whole, or not at all, after a restart.
        """
        if self._stream is not None:
            self._payload.write(self._stream.flush())
        self._payload.publish(self._payload.complete())
        return self._payload.size_bytes

    def abandon(self) -> None:
        """Give it up and remove the temporary file. Harmless after ``finish``."""
        self._payload.abandon()


class SnapshotShelf:
    """The snapshot files of one data directory. Safe to use from several threads."""

    def __init__(self, disk: Disk, cluster_id: bytes, settings: StorageSettings) -> None:
        self.cluster_id = cluster_id
        self.settings = settings
        self._disk = disk
        self._names_lock = Lock()  # taken first, and for as long as the disk takes
        self._lock = Lock()  # the log's thread asks too: held for moments only
        self._files: dict[tuple[int, int], SnapshotFile] = {}
        self._sending: tuple[int, int] | None = None

    def newest_index(self) -> int:
        """Index of the newest complete snapshot; 0 when there is none."""
        with self._lock:
            return max((index for index, _ in self._files), default=0)

    def newest(self) -> tuple[SnapshotMeta, int, bool] | None:
        """Metadata of the newest complete snapshot, its payload's size as it is stored, and
        whether that is compressed.
        """
        with self._lock:
            if not self._files:
                return None
            found = self._files[max(self._files)]
            return found.meta, found.size_bytes, found.version != PLAIN

    def count(self) -> int:
        """Complete snapshots known."""
        with self._lock:
            return len(self._files)

    def candidates(self) -> list[tuple[int, int, str]]:
        """``(index, epoch, name)`` of all files with a final name, newest first."""
        matches = (SNAPSHOT_NAME.fullmatch(name) for name in self._disk.names())
        return sorted(((int(m[1]), int(m[2]), m[0]) for m in matches if m), reverse=True)

    def load(self, name: str) -> SnapshotMeta:
        """Check every byte of a file and make it known.

        Raises:
            CorruptData: it is damaged; nothing was changed.
        """
        file = self._disk.open(name)
        try:
            found = read_snapshot_file(name, file, self.cluster_id)
        except BaseException:
            file.close()
            raise
        for _ in found.blocks(file):
            pass
        with self._lock:
            self._files[found.meta.index, found.meta.epoch] = found
        return found.meta

    def read(self, meta: SnapshotMeta, offset: int, size_bytes: int) -> SnapshotPiece:
        """Read a range of payload for a peer.

        Raises:
            CorruptData: the file is damaged; nothing of it was handed out.
        """
        key = (meta.index, meta.epoch)
        with self._lock:
            found = self._files.get(key)
            if found is None or offset > found.size_bytes:
                return _GONE
            end = min(offset + size_bytes, found.size_bytes)
            is_last = end == found.size_bytes
            self._sending = None if is_last else key
            file = self._disk.open(snapshot_name(meta))
        identity = found.identity.encode()
        try:
            if end == offset:
                return SnapshotPiece(b"", is_last, identity)
            first = offset // found.block_bytes
            data = found.read_blocks(file, first, (end - 1) // found.block_bytes)
        finally:
            file.close()
        skipped = first * found.block_bytes
        return SnapshotPiece(data[offset - skipped : end - skipped], is_last, identity)

    def open(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """What the state machine wrote, in checked pieces.

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

    # ---- called by writers ---------------------------------------------------------------------

    def keep_reserve(self, size_bytes: int) -> None:
        """Refuse to write so much if less than the reserve would be left.

        Raises:
            DiskFull: nothing was written.
        """
        free = self._disk.free_bytes()
        if free < size_bytes + self.settings.reserve_bytes:
            raise DiskFull(
                f"a snapshot does not fit: {free} bytes are free, {self.settings.reserve_bytes} of "
                "them are kept for the log"
            )

    def create_temporary(self, name: str) -> File:
        """Begin a temporary file, replacing a stale one."""
        assert name.endswith(TEMPORARY_SUFFIX)
        with self._names_lock:
            if name in self._disk.names():
                self._disk.remove(name)
            return self._disk.open(name, create=True)

    def discard_temporary(self, name: str) -> None:
        """Remove a temporary file; a crash may bring it back until the next start."""
        with self._names_lock:
            self._disk.remove(name)

    def sync_names(self) -> None:
        """Make names durable, of temporary files too."""
        self._disk.sync_directory()

    def publish(self, temporary: str, found: SnapshotFile) -> None:
        """Give a synced file its final name, durably; then remove what is older."""
        with self._names_lock:
            self._disk.rename(temporary, snapshot_name(found.meta))
            self._disk.sync_directory()
            with self._lock:
                self._files[found.meta.index, found.meta.epoch] = found
                older = self.candidates()[self.settings.snapshots_kept :]
                doomed = [name for index, epoch, name in older if (index, epoch) != self._sending]
                for index, epoch, name in older:
                    if name in doomed:
                        self._files.pop((index, epoch), None)
            for name in doomed:  # nobody opens them any more; a large file takes its time
                self._disk.remove(name)
