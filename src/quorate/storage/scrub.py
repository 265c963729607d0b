"""Reading what nobody reads: closed files of the log, checked while the others still have it all.

Rot is found only by reading, and a log is read only at start; until then it gathers on more and
more disks. So every closed segment is read through now and then, and the newest snapshot too. Cost:
one read of each file per pass, in pieces, with pauses in between that the caller makes.

It reads beside the thread that writes, without a lock. Files of the log that are no longer needed
are renamed and written again; what was found in one of these does not count.

Invariants:
    * nothing is written
    * the newest segment is left alone: its end moves
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from quorate.errors import CorruptData, DiskFailed
from quorate.storage.disk import Disk
from quorate.storage.record import (
    GROUP_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Stamp,
    decode_group,
    decode_group_header,
    decode_segment_header,
    segment_key,
)
from quorate.storage.recovery import segment_name

PIECE_BYTES = 256 << 10


def scrub_segment(
    disk: Disk, stamp: Stamp, number: int, first_after: int
) -> Iterator[CorruptData | None]:
    """Read a closed segment piece by piece: None for each good piece, the damage if there is any.

    Args:
        disk: the directory.
        stamp: whose it is.
        number: of the segment.
        first_after: sequence number of the first group of the segment behind it.

    Raises:
        DiskFailed: it cannot be read, or is not there any more.
    """
    name = segment_name(number)
    file = disk.open(name)
    try:
        decoded = decode_segment_header(file.read(0, SEGMENT_HEADER_BYTES))
        if decoded is None or decoded.stamp != stamp or decoded.header.number != number:
            yield CorruptData(name, 0, "the segment's header is wrong")
            return
        key, offset, chain = segment_key(stamp, number), SEGMENT_HEADER_BYTES, decoded.chain
        since_pause = 0
        for sequence in range(decoded.header.first_sequence, first_after):
            head = file.read(offset, GROUP_HEADER_BYTES)
            header = decode_group_header(head, 0, key)
            size = GROUP_HEADER_BYTES + (header.length if header is not None else 0)
            data = file.read(offset, size)
            group = decode_group(data, 0, key=key, sequence=sequence, chain=chain)
            if group is None:
                yield CorruptData(name, offset, f"group {sequence} is wrong")
                return
            offset, chain, since_pause = offset + size, group.chain, since_pause + size
            if since_pause >= PIECE_BYTES:
                since_pause = 0
                yield None
    finally:
        file.close()


def scrub_log(disk: Disk, stamp: Stamp, numbers: Sequence[int]) -> Iterator[CorruptData | None]:
    """Read all segments but the last of these, which must be consecutive."""
    for number, following in pairwise(numbers):
        try:
            after = disk.open(segment_name(following))
            decoded = decode_segment_header(after.read(0, SEGMENT_HEADER_BYTES))
            after.close()
            if decoded is None or decoded.header.number != following:
                yield CorruptData(segment_name(following), 0, "the segment's header is wrong")
                continue
            yield from scrub_segment(disk, stamp, number, decoded.header.first_sequence)
        except DiskFailed as error:
            yield CorruptData(segment_name(number), 0, str(error))
