"""The write-ahead log: groups of records appended to segment files that are written again.

It writes what it is told, in order, and makes it durable; it keeps no entries in memory and knows
neither snapshots' contents nor the engine. Reading at start is ``recovery.py``, bytes are
``record.py``, the format is described in docs/wal-format.md.

One append is one write and one sync. Whatever can be done beside that path, is: zeros that
preallocate the blocks behind a group travel in the same write as the group; files that are free
are renamed to be the next segments, and that made durable, when they become free.

Invariants:
    * after a failed write or sync nothing is ever written again (``DiskFailed`` for ever)
    * group k+1 is not written before the sync of group k returned: ``recovery.py`` rests on it
    * each group holds the hard state, so older segments may be dropped, oldest first, when their
      entries lie at or below ``floor``, and damage in the middle never leaves a vote in doubt
"""

from __future__ import annotations

from collections.abc import Sequence

from quorate.errors import DiskFailed
from quorate.storage.disk import Disk, File
from quorate.storage.record import (
    SEGMENT_HEADER_BYTES,
    Record,
    RecordKind,
    SegmentHeader,
    Stamp,
    encode_group,
    encode_segment_header,
    group_size,
    segment_key,
)
from quorate.storage.recovery import LogState, Scan, SegmentUse, note_use, segment_name
from quorate.storage.settings import StorageSettings


class Wal:
    """An open write-ahead log. Used from one thread at a time."""

    def __init__(
        self, disk: Disk, stamp: Stamp, settings: StorageSettings, scan: Scan | None
    ) -> None:
        """Continue after ``scan``, or with None begin an empty log.

        The first ``append`` must follow at once: only then the log is what Store.open says it is.
        """
        self._disk = disk
        self._stamp = stamp
        self._settings = settings
        self._zeros = memoryview(bytes(settings.preallocate_bytes))
        self._is_broken = False
        self.fsyncs = 0
        self.directory_syncs = 0
        self.bytes_written = 0
        if scan is None:
            self.state = LogState()
            self._segments: list[SegmentUse] = []
            self._spares: list[int] = []
            self._file: File | None = None
            self._offset = self._filled = self._chain = self._key = 0
            self._sequence = 1
            self._must_rotate = True
        else:
            self.state = scan.image.state
            self._segments = scan.segments
            self._spares = scan.spares
            number = self._segments[-1].number
            self._file = disk.open(segment_name(number))
            self._offset, self._filled = scan.offset, self._file.size()
            self._chain, self._key = scan.chain, segment_key(stamp, number)
            self._sequence = scan.sequence
            self._must_rotate = scan.must_rotate
            self._renew_tail(scan.tail)

    @property
    def is_usable(self) -> bool:
        """False after a failure and after ``close``."""
        return not self._is_broken

    def fail(self) -> None:
        """Refuse everything from now on: something beside the log went wrong."""
        self._is_broken = True

    @property
    def segment_count(self) -> int:
        """Segments that hold part of the log."""
        return len(self._segments)

    def segment_numbers(self) -> list[int]:
        """Numbers of the segments that hold part of the log, ascending. For any thread."""
        return [segment.number for segment in list(self._segments)]

    @property
    def spare_count(self) -> int:
        """Files that wait to become segments."""
        return len(self._spares)

    def has_space_for(self, size_bytes: int) -> bool:
        """Whether a group of so many bytes goes where the file was filled before."""
        end = self._offset + size_bytes
        return not self._must_rotate and end <= min(self._filled, self._settings.segment_bytes)

    def append(self, records: Sequence[Record]) -> None:
        """Write one group and make it durable. An empty group vouches for all before it.

        Raises:
            DiskFailed: the group may or may not be there after a restart, as a whole.
            InvariantBroken: a record does not fit; nothing was written.
        """
        if self._is_broken:
            raise DiskFailed("the write-ahead log failed earlier; restart the node")
        self._is_broken = True  # until all of this went well
        after = self.state.after(records)
        if after.hard_state is not None and after.hard_state is self.state.hard_state:
            # In every group, so that damage elsewhere never leaves term and vote in doubt.
            records = [(RecordKind.HARD_STATE, 0, 0, 0, after.hard_state), *records]
        if self._must_rotate or (
            self._offset + group_size(records) > self._settings.segment_bytes
            and self._offset > SEGMENT_HEADER_BYTES
        ):
            self._begin_segment(records)
        else:
            self._write(records, b"", self._chain)
        self.state = after
        self._is_broken = False
        note_use(self._segments, records)

    def drop_unneeded(self) -> None:
        """Recycle or remove the segments whose entries may all be forgotten.

        Raises:
            DiskFailed: the log itself is durable and untouched, but the node must stop.
        """
        assert not self._is_broken
        segments = self._segments
        count = 0
        while count < len(segments) - 1 and segments[count].last_index <= self.state.floor:
            count += 1
        if count == 0:
            return
        self._is_broken = True
        for segment in segments[:count]:
            self._recycle(segment_name(segment.number))
        del segments[:count]
        self._sync_directory()
        self._is_broken = False

    def close(self) -> None:
        """Close the file; the log must not be used afterwards."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._is_broken = True

    # ---- details -------------------------------------------------------------------------------

    def _renew_tail(self, begin: int) -> None:
        """Write the newest group once more, and sync it.

        The process before us may have died between its write and its sync, or of a failed sync.
        Then we have read the group from the page cache, it is on no disk, and the kernel may
        think that it is. Before anybody builds on it, it must be durable for certain.
        """
        assert self._file is not None
        self._file.write(begin, self._file.read(begin, self._offset - begin))
        self._file.sync()
        self.fsyncs += 1

    def _recycle(self, name: str) -> None:
        """Give a file that is no longer needed its next name, or remove it."""
        file = self._disk.open(name)
        size = file.size()
        file.close()
        # One huge group may have made a huge file; that space must come back.
        is_usual = size <= 2 * self._settings.segment_bytes
        if is_usual and len(self._spares) < self._settings.spare_segments_max:
            number = self._segments[-1].number + len(self._spares) + 1
            self._disk.rename(name, segment_name(number))
            self._spares.append(number)
        else:
            self._disk.remove(name)

    def _begin_segment(self, records: Sequence[Record]) -> None:
        """Start the next file with a header and ``records``, in one write."""
        number = self._segments[-1].number + 1 if self._segments else 1
        name = segment_name(number)
        is_new = not self._spares
        if is_new:
            file = self._disk.open(name, create=True)
        else:
            assert self._spares[0] == number
            del self._spares[0]
            file = self._disk.open(name)
        if self._file is not None:
            self._file.close()
        self._file, self._filled, self._offset = file, file.size(), 0
        self._key = segment_key(self._stamp, number)
        state = self.state
        header, chain = encode_segment_header(
            self._stamp,
            SegmentHeader(number, self._sequence, state.next_index, state.floor, self._chain),
        )
        self._write(records, header, chain)
        if is_new:
            self._sync_directory()
        self._segments.append(SegmentUse(number))
        self._must_rotate = False

    def _write(self, records: Sequence[Record], header: bytes, chain: int) -> None:
        """Write a group, behind ``header`` if there is one, and sync."""
        file = self._file
        assert file is not None
        parts, chain = encode_group(records, key=self._key, sequence=self._sequence, chain=chain)
        if header:
            parts.insert(0, header)
        end = self._offset + len(header) + group_size(records)
        ahead = 0
        if end > self._filled and end < self._settings.segment_bytes:
            ahead = min(self._settings.segment_bytes - end, len(self._zeros))
            data = b"".join((*parts, self._zeros[:ahead]))
        else:
            data = b"".join(parts)
        file.write_through(self._offset, data)
        self.fsyncs += 1
        self.bytes_written += len(data)
        self._filled = max(self._filled, end + ahead)
        self._offset, self._chain = end, chain
        self._sequence += 1

    def _sync_directory(self) -> None:
        self._disk.sync_directory()
        self.directory_syncs += 1
