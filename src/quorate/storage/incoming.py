"""A snapshot that arrives from a peer in pieces, and goes on after a restart where it was.

Once a block is complete, a list of the blocks' CRCs lies beside the temporary file. At a start the
blocks that fit their CRCs are kept and the rest is asked for again, so it does not matter which of
the two files a crash left further behind. Pieces are stored as they come, compressed or not;
whether all of them together are what the sender has is checked before the file gets its name.

    incoming.tmp         the snapshot file as far as it is there
    incoming-list.tmp    magic, sizes, metadata and identity, CRC; then u32 per block

Invariants:
    * pieces are taken in order, without gaps
    * what is kept at a restart belongs to the snapshot whose identity is in the list, and is
      written again: that a file can be read does not mean that its disk has it
    * a snapshot that does not fit its identity never gets a name
"""

from __future__ import annotations

import struct
from array import array
from zlib import crc32

from quorate.consensus.entry import PartialSnapshot, SnapshotChunk, SnapshotMeta
from quorate.errors import CorruptData, InvariantBroken
from quorate.storage.disk import Disk, File
from quorate.storage.snapshot import TEMPORARY_SUFFIX, PayloadWriter, SnapshotShelf
from quorate.storage.snapshot_file import (
    CONFIGURATION_BYTES_MAX,
    PLAIN,
    PayloadIdentity,
    block_crc,
    encode_head,
    snapshot_name,
)

INCOMING_NAME = f"incoming{TEMPORARY_SUFFIX}"
LIST_NAME = f"incoming-list{TEMPORARY_SUFFIX}"

_LIST_MAGIC = b"QUORPART"
_LIST_HEAD = struct.Struct(">8sQQII")  # index, epoch, sizes of configuration and identity
_CRC = struct.Struct(">I")
_IDENTITY_BYTES_MAX = 64


class IncomingSnapshot:
    """At most one snapshot from a peer at a time."""

    def __init__(self, shelf: SnapshotShelf) -> None:
        self._shelf = shelf
        self._writer: PayloadWriter | None = None
        self._identity = b""
        self._list: File | None = None
        self._list_start = 0
        self._listed = 0  # blocks whose CRCs are in the list

    # ---- a start -------------------------------------------------------------------------------

    def recover(self, disk: Disk, newer_than: int) -> PartialSnapshot | None:
        """Find what an earlier process left, if it is still of use; remove it if not.

        Args:
            disk: the directory.
            newer_than: index of the newest snapshot here; what is not newer is of no use.
        """
        names = disk.names()
        found = None
        if INCOMING_NAME in names and LIST_NAME in names:
            found = self._recover(disk, newer_than)
        if found is None:
            self._close()
            for name in (INCOMING_NAME, LIST_NAME):
                if name in names:
                    disk.remove(name)
        return found

    def _recover(self, disk: Disk, newer_than: int) -> PartialSnapshot | None:
        self._list = disk.open(LIST_NAME)
        data = self._list.read(0, self._list.size())
        parsed = _parse_list(data)
        if parsed is None:
            return None
        meta, identity_bytes, start = parsed
        identity = PayloadIdentity.decode(identity_bytes)
        if identity is None or meta.index <= newer_than:
            return None
        file = disk.open(INCOMING_NAME)
        block_bytes = identity.block_bytes
        head = encode_head(self._shelf.cluster_id, meta, identity.version, block_bytes)
        if file.read(0, len(head)) != head:
            file.close()
            return None
        # The process before us may have died of a failed sync, after which the kernel still shows
        # pages that it never wrote and never will. What is written again gets to the disk.
        file.write(0, head)
        table = _keep_good_blocks(file, identity, len(head), crc32(head), data[start:])
        self._identity, self._list_start, self._listed = identity_bytes, start, len(table)
        self._writer = PayloadWriter(
            self._shelf, meta, INCOMING_NAME, identity.version, block_bytes, (file, table)
        )
        return PartialSnapshot(meta, identity_bytes, self._writer.size_bytes)

    # ---- service -------------------------------------------------------------------------------

    def add(self, chunk: SnapshotChunk) -> None:
        """Take the next piece. Offset 0 begins (again); a repeated piece is ignored.

        Raises:
            InvariantBroken: a piece is missing between this one and those before.
            DiskFailed: the node must stop.
        """
        if chunk.offset == 0:
            self._begin(chunk.meta, chunk.identity)
        writer = self._writer
        is_same = writer is not None and (writer.meta, self._identity) == (
            chunk.meta,
            chunk.identity,
        )
        have = writer.size_bytes if writer is not None and is_same else 0
        if writer is None or not is_same or chunk.offset > have:
            raise InvariantBroken(
                f"a piece at {chunk.offset} of the snapshot at index {chunk.meta.index}, of which "
                f"only {have} bytes arrived: the engine must begin at 0"
            )
        # Overlap with what already arrived is a retransmission of the same bytes.
        fresh = chunk.data[have - chunk.offset :]
        if fresh:
            self._note_blocks(writer, is_synced=writer.write(fresh))

    def finish(self) -> None:
        """Make the arrived snapshot durable under its final name.

        Raises:
            CorruptData: it is not what the sender has; it was thrown away.
            DiskFailed: it is there as a whole, or not at all, after a restart.
        """
        writer = self._writer
        assert writer is not None
        found = writer.complete()
        if self._identity and found.identity.encode() != self._identity:
            name = snapshot_name(writer.meta)
            self.abandon()
            raise CorruptData(
                name,
                0,
                "it arrived otherwise than it was sent and was thrown away; start this node again, "
                "and test memory and network if this repeats",
            )
        writer.publish(found)
        self._writer = None
        self._drop_list()

    def forget_up_to(self, index: int) -> None:
        """What is at or below ``index`` is not needed any more."""
        if self._writer is not None and self._writer.meta.index <= index:
            self.abandon()

    def abandon(self) -> None:
        """Forget what arrived, and remove it."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None
        self._drop_list()

    def close(self) -> None:
        """Let go of the files; the next process may go on with them."""
        if self._writer is not None:
            self._writer.sync()
            self._note_blocks(self._writer, is_synced=True)
        self._close()

    # ---- details -------------------------------------------------------------------------------

    def _begin(self, meta: SnapshotMeta, identity: bytes) -> None:
        assert len(identity) <= _IDENTITY_BYTES_MAX
        self.abandon()
        known = PayloadIdentity.decode(identity)
        version = known.version if known is not None else PLAIN
        settings = self._shelf.settings
        block_bytes = known.block_bytes if known is not None else settings.snapshot_block_bytes
        self._writer = PayloadWriter(self._shelf, meta, INCOMING_NAME, version, block_bytes)
        self._identity = identity

    def _note_blocks(self, writer: PayloadWriter, *, is_synced: bool) -> None:
        """Add the new blocks to the list; sync it when the file was."""
        fresh = writer.table[self._listed :]
        if not self._identity or not (fresh or self._listed):
            return
        if self._list is None:
            head = _encode_list_head(writer.meta, self._identity)
            self._list = self._shelf.create_temporary(LIST_NAME)
            self._list.write(0, head)
            self._list_start = len(head)
            self._shelf.sync_names()  # both files are there after a loss of power, or neither is
        if fresh:
            at = self._list_start + self._listed * _CRC.size
            self._list.write(at, struct.pack(f">{len(fresh)}I", *fresh))
            self._listed += len(fresh)
        if is_synced:
            self._list.sync()

    def _drop_list(self) -> None:
        self._listed = 0
        if self._list is not None:
            self._list.close()
            self._list = None
            self._shelf.discard_temporary(LIST_NAME)

    def _close(self) -> None:
        for file in (self._list, self._writer.file if self._writer is not None else None):
            if file is not None:
                file.close()
        self._list = self._writer = None


def _encode_list_head(meta: SnapshotMeta, identity: bytes) -> bytes:
    body = (
        _LIST_HEAD.pack(_LIST_MAGIC, meta.index, meta.epoch, len(meta.configuration), len(identity))
        + meta.configuration
        + identity
    )
    return body + _CRC.pack(crc32(body))


def _parse_list(data: bytes) -> tuple[SnapshotMeta, bytes, int] | None:
    """Metadata, identity, and where the CRCs begin; None when these bytes are no list."""
    if len(data) < _LIST_HEAD.size or not data.startswith(_LIST_MAGIC):
        return None
    _, index, epoch, configuration_bytes, identity_bytes = _LIST_HEAD.unpack_from(data)
    if configuration_bytes > CONFIGURATION_BYTES_MAX or identity_bytes > _IDENTITY_BYTES_MAX:
        return None
    at = _LIST_HEAD.size + configuration_bytes
    end = at + identity_bytes
    if data[end : end + _CRC.size] != _CRC.pack(crc32(data[:end])):
        return None
    meta = SnapshotMeta(index, epoch, data[_LIST_HEAD.size : at])
    return meta, data[at:end], end + _CRC.size


def _keep_good_blocks(
    file: File, identity: PayloadIdentity, start: int, seed: int, listed: bytes
) -> array[int]:
    """Write the whole blocks at the beginning that fit the list again; returns their CRCs."""
    size = identity.block_bytes
    table: array[int] = array("I")
    for number in range(min(len(listed) // _CRC.size, identity.size_bytes // size)):
        (expected,) = _CRC.unpack_from(listed, number * _CRC.size)
        block = file.read(start + number * size, size)
        if len(block) < size or block_crc(number, block, seed) != expected:
            break
        file.write(start + number * size, block)
        table.append(expected)
    return table
