"""Looking at a whole write-ahead log, damage and all: every group that can be recognised.

Where ``recovery.py`` walks along the log and stops at the first thing that is wrong, this module
looks at every file from end to end and says what is there: for repair, which needs the newest
term and vote wherever they are, and for people. It believes nothing, decides nothing and writes
nothing.

It rests on the group headers: each can be recognised without what is before it, and carries the
CRC that its first record continues (docs/wal-format.md).

Invariant: a group is reported at most once for each place where its header is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from quorate.storage.disk import Disk, read_around_holes
from quorate.storage.record import (
    GROUP_HEADER_BYTES,
    GROUP_MAGIC,
    SEGMENT_HEADER_BYTES,
    DecodedHeader,
    Record,
    RecordKind,
    Stamp,
    decode_group,
    decode_group_header,
    decode_segment_header,
    segment_key,
)
from quorate.storage.recovery import segment_name, segment_numbers


class GroupFound(NamedTuple):
    """A group whose header is right. ``records`` is None when anything behind it is not."""

    segment: int
    offset: int
    sequence: int
    length: int  # of the whole group in bytes, as its header says
    record_count: int
    records: list[Record] | None


class SegmentFound(NamedTuple):
    """One file of the log. ``header`` is None when it has none of its own.

    ``hole_end`` is where the last place ends that the disk does not give back; 0: all can be read.
    """

    number: int
    size: int
    header: DecodedHeader | None
    groups: list[GroupFound]
    hole_end: int = 0


def survey_log(disk: Disk, stamp: Stamp) -> list[SegmentFound]:
    """Look at all files of the log, in the order of their numbers.

    Raises:
        DiskFailed: something else went wrong than bytes that cannot be read.
    """
    return [_survey(disk, stamp, number) for number in segment_numbers(disk)]


def _survey(disk: Disk, stamp: Stamp, number: int) -> SegmentFound:
    file = disk.open(segment_name(number))
    data, holes = read_around_holes(file)
    file.close()
    decoded = decode_segment_header(data[:SEGMENT_HEADER_BYTES])
    if decoded is not None and (decoded.stamp != stamp or decoded.header.number != number):
        decoded = None  # a recycled file that still carries its old header
    hole_end = holes[-1][1] if holes else 0
    return SegmentFound(number, len(data), decoded, list(_groups(data, stamp, number)), hole_end)


def _groups(data: bytes, stamp: Stamp, number: int) -> Iterator[GroupFound]:
    key = segment_key(stamp, number)
    tag = GROUP_MAGIC + key.to_bytes(4, "big")
    at = data.find(tag)
    while at >= 0:
        after = at + 1
        header = decode_group_header(data, at, key)
        if header is not None:
            whole = decode_group(data, at, key=key, sequence=header.sequence, chain=header.before)
            records = whole.records if whole is not None else None
            size = GROUP_HEADER_BYTES + header.length
            yield GroupFound(number, at, header.sequence, size, header.record_count, records)
            if whole is not None:
                after = whole.end
        at = data.find(tag, after)


def newest_hard_state(segments: Sequence[SegmentFound]) -> tuple[bytes | None, bool]:
    """The newest hard state that can be read, and whether there was certainly none after it.

    Every group holds the hard state (older versions: only those that changed it, and the first of
    each file), so one readable group at the end is enough.
    """
    groups = sorted(
        (group for segment in segments for group in segment.groups),
        key=lambda group: group.sequence,
    )
    begun = (found.header.header.first_sequence for found in segments if found.header is not None)
    newest = max((*begun, *(group.sequence for group in groups)), default=0)
    readable: set[int] = set()
    hard_state, since = None, 1
    for group in groups:
        if group.records is None:
            continue
        readable.add(group.sequence)
        for kind, _, _, _, payload in group.records:
            if kind == RecordKind.HARD_STATE:
                hard_state, since = payload, group.sequence
    is_known = newest > 0 and all(number in readable for number in range(since, newest + 1))
    return hard_state, is_known and not _may_hide_newer(segments, newest)


def _may_hide_newer(segments: Sequence[SegmentFound], newest: int) -> bool:
    """Whether a newer group than this one may be where the disk gives nothing back."""
    at = max(
        (
            (group.segment, group.offset)
            for found in segments
            for group in found.groups
            if group.sequence == newest
        ),
        default=(0, 0),
    )
    return any(found.hole_end and (found.number, found.hole_end) > at for found in segments)
