"""Reading the write-ahead log at start: what it says, where it ends, whether it can be trusted.

Reads and decides; changes nothing on disk. What comes out is a ``Scan`` from which ``Wal`` goes on
writing.

The rule that tells a torn write from damage (CTRL, FAST '18; docs/wal-format.md):

    The log's groups carry consecutive sequence numbers, and group k+1 is only ever written after
    the sync of group k returned. So if group k does not parse and *any* header of a later group
    exists, group k had been acknowledged: that is damage, and nothing may be cut. If there is no
    later group, group k may be one that the last crash tore before it was acknowledged: cut it.

A segment's header is written with the segment's first group, in one write, and shares its fate. A
clean close and every start write a group of their own, so only the last group before a crash is
ever open to doubt.

Invariants of what is accepted: indexes without gaps from ``LogImage.first``; each segment
continues the CRC, sequence and index of the one before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from quorate.consensus.entry import Entry
from quorate.errors import (
    CorruptData,
    InvariantBroken,
    UnknownFormat,
    Unreadable,
    WrongDirectory,
)
from quorate.storage.disk import Disk, read_around_holes
from quorate.storage.record import (
    SEGMENT_HEADER_BYTES,
    VERSION,
    DecodedHeader,
    Record,
    RecordKind,
    Stamp,
    decode_group,
    decode_segment_header,
    find_later_group,
    segment_key,
)

ADVICE = (
    "this is not a write torn by a crash, so nothing was cut; keep a copy of the directory, then "
    "replace this node: remove it from the cluster and let it join as a new member with an empty "
    "directory"
)

_SEGMENT_NAME = re.compile(r"wal-(\d{1,20})\.q")


def segment_name(number: int) -> str:
    """File name of a segment."""
    return f"wal-{number:016d}.q"


def segment_numbers(disk: Disk) -> list[int]:
    """Numbers of all segment files, ascending."""
    matches = (_SEGMENT_NAME.fullmatch(name) for name in disk.names())
    return sorted(int(match[1]) for match in matches if match)


@dataclass(frozen=True, slots=True)
class LogState:
    """Where the log stands: all that writing on needs to know about it."""

    next_index: int = 1
    floor: int = 0
    hard_state: bytes | None = None

    def after(self, records: Sequence[Record]) -> LogState:
        """The state after these records.

        Raises:
            InvariantBroken: a record does not fit; nothing was written.
        """
        next_index, floor, hard_state = self.next_index, self.floor, self.hard_state
        for kind, _, _, index, payload in records:
            if kind == RecordKind.ENTRY:
                if index != next_index:
                    raise InvariantBroken(f"entry {index} where {next_index} must follow")
                next_index += 1
            elif kind == RecordKind.HARD_STATE:
                hard_state = payload
            elif kind == RecordKind.TRUNCATE:
                if not floor < index <= next_index:
                    raise InvariantBroken(
                        f"truncation at {index} outside of the log {floor + 1} .. {next_index}"
                    )
                next_index = index
            elif kind == RecordKind.COMPACT:
                if index >= next_index:
                    raise InvariantBroken(f"compaction to {index} beyond the log's end")
                floor = max(floor, index)
            elif kind == RecordKind.RESET:
                if index < floor:
                    raise InvariantBroken(f"reset to {index}, before the compacted {floor}")
                next_index, floor = index + 1, index
            else:
                raise InvariantBroken(f"unknown kind of record {kind}")
        return LogState(next_index, floor, hard_state)


@dataclass(slots=True)
class LogImage:
    """The log as the files hold it.

    ``entries`` start at ``first`` and may reach below ``state.floor``: compaction is a
    permission to forget, and what is still there can rescue a damaged snapshot.
    """

    state: LogState
    first: int
    entries: list[Entry] = field(default_factory=list)

    def add(self, records: Sequence[Record]) -> None:
        """Apply one group.

        Raises:
            InvariantBroken: the group does not fit to what came before.
        """
        self.state = self.state.after(records)
        for kind, entry_kind, epoch, index, payload in records:
            if kind == RecordKind.ENTRY:
                self.entries.append(Entry(index, epoch, entry_kind, payload))
            elif kind == RecordKind.TRUNCATE:
                self.first = min(self.first, index)
                del self.entries[index - self.first :]
            elif kind == RecordKind.RESET:
                self.first = index + 1
                self.entries.clear()
        assert self.first + len(self.entries) == self.state.next_index

    def epoch_at(self, index: int) -> int | None:
        """Epoch of an entry, None when the image does not hold it."""
        if self.first <= index < self.state.next_index:
            return self.entries[index - self.first].epoch
        return None

    def from_index(self, index: int) -> list[Entry]:
        """The entries at and after ``index``."""
        return self.entries[max(index - self.first, 0) :]


@dataclass(slots=True)
class SegmentUse:
    """How much of the log a segment still carries."""

    number: int
    last_index: int = 0  # highest index among its entries that are still part of the log


def note_use(segments: Sequence[SegmentUse], records: Sequence[Record]) -> None:
    """Keep ``last_index`` right after writing ``records`` to the last of the segments."""
    for kind, _, _, index, _ in records:
        if kind == RecordKind.ENTRY:
            segments[-1].last_index = index
        elif kind == RecordKind.TRUNCATE:
            for segment in segments:
                segment.last_index = min(segment.last_index, index - 1)
        elif kind == RecordKind.RESET:
            for segment in segments:
                segment.last_index = 0


@dataclass(slots=True)
class Scan:
    """What was found, and where writing goes on."""

    image: LogImage
    segments: list[SegmentUse]  # consecutive, the last one is written on
    tail: int  # where in the last segment the newest group begins; 0 with the segment's header
    offset: int  # where in the last segment the next group goes
    sequence: int  # of the next group
    chain: int
    spares: list[int]  # consecutive files behind the last segment, free to be written
    leftovers: list[int]  # files that are not needed and should be removed
    must_rotate: bool  # the first spare already has a header and must be used next


class _Reader:
    """Walks through the segments once."""

    def __init__(self, disk: Disk, stamp: Stamp) -> None:
        self._disk = disk
        self._stamp = stamp
        self._headers: dict[int, DecodedHeader] = {}
        self._unreadable: dict[int, Unreadable] = {}  # headers

    def scan(self) -> Scan:
        numbers = self._read_headers()
        if not self._headers:
            self._raise_unreadable(numbers)
            name = segment_name(numbers[0]) if numbers else segment_name(1)
            raise CorruptData(name, 0, f"no write-ahead log segment has a valid header; {ADVICE}")
        run = self._last_run(numbers)
        result = self._begin(run[0])
        for number in run:
            self._read_segment(number, result, is_last=number == run[-1])
        self._classify_rest(numbers, run, result)
        return result

    def prefix(self) -> Scan | None:
        """What can be read from the log's beginning on, up to the first damage."""
        numbers = self._read_headers()
        if not self._headers:
            return None
        last = max(self._headers)
        block = [last]
        while block[0] - 1 in numbers:
            block.insert(0, block[0] - 1)
        first = next(number for number in block if number in self._headers)
        result = self._begin(first)
        with suppress(CorruptData):
            while first in self._headers:
                self._read_segment(first, result, is_last=False)
                first += 1
        return result if result.segments else None

    def _read_headers(self) -> list[int]:
        numbers = segment_numbers(self._disk)
        for number in numbers:
            if (header := self._read_header(number)) is not None:
                self._headers[number] = header
        return numbers

    def _begin(self, number: int) -> Scan:
        """A scan that begins with this segment."""
        first = self._headers[number].header
        image = LogImage(LogState(first.next_index, first.floor), first.next_index)
        return Scan(image, [], 0, 0, first.first_sequence, first.chain, [], [], False)

    def _read_header(self, number: int) -> DecodedHeader | None:
        """A segment's header, None when it has none of its own (spare, torn or damaged)."""
        name = segment_name(number)
        file = self._disk.open(name)
        decoded = None
        try:
            decoded = decode_segment_header(file.read(0, SEGMENT_HEADER_BYTES))
        except Unreadable as error:
            self._unreadable[number] = error
        file.close()
        if decoded is None or (
            decoded.header.number != number and decoded.stamp == self._stamp
        ):  # nothing, or a recycled file that still carries its old header
            return None
        if decoded.version != VERSION:
            raise UnknownFormat(
                name,
                8,
                f"format version {decoded.version} where this program writes {VERSION}; start "
                "the version of quorate that wrote it",
            )
        if decoded.stamp != self._stamp:
            raise WrongDirectory(
                f"{name} was written by node {decoded.stamp.node_id} of another data directory: "
                "files must not be moved between data directories; put back the file that "
                "belongs here, or replace this node"
            )
        return decoded

    def _raise_unreadable(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            if number in self._unreadable:
                raise self._unreadable[number]

    def _last_run(self, numbers: Sequence[int]) -> list[int]:
        """The consecutive segments that end with the newest; nothing damaged between them."""
        last = max(self._headers)
        for number in numbers:
            if number < last and number not in self._headers:
                self._raise_unreadable([number])
                raise CorruptData(segment_name(number), 0, f"damaged segment header; {ADVICE}")
        run = [last]
        while run[0] - 1 in self._headers:
            run.insert(0, run[0] - 1)
        return run

    def _read_segment(self, number: int, result: Scan, *, is_last: bool) -> None:
        """Add a segment's groups to the image and find where they end."""
        name = segment_name(number)
        decoded = self._headers[number]
        self._check_continues(name, decoded, result)
        file = self._disk.open(name)
        data, holes = read_around_holes(file)
        file.close()
        key = segment_key(self._stamp, number)
        offset, chain, sequence = SEGMENT_HEADER_BYTES, decoded.chain, result.sequence
        segments = [*result.segments, SegmentUse(number)]
        tail = 0
        while group := decode_group(data, offset, key=key, sequence=sequence, chain=chain):
            try:
                result.image.add(group.records)
            except InvariantBroken as error:
                raise CorruptData(name, offset, f"{error}; {ADVICE}") from error
            note_use(segments, group.records)
            tail = offset if sequence > decoded.header.first_sequence else 0
            offset, chain, sequence = group.end, group.chain, sequence + 1
        is_torn_first = sequence == decoded.header.first_sequence
        if not is_torn_first:
            result.segments, result.tail = segments, tail
            result.offset, result.chain, result.sequence = offset, chain, sequence
        if holes:  # what was there may have been acknowledged: no torn write
            raise Unreadable(name, holes[0][0], ADVICE)
        later = find_later_group(data, offset, key=key, sequence=sequence)
        if later >= 0:
            raise CorruptData(
                name, offset, f"a bad record with good ones behind it (at byte {later}); {ADVICE}"
            )
        if is_torn_first:
            if not is_last or not result.segments:
                raise CorruptData(name, offset, f"the segment's first group is bad; {ADVICE}")
            result.must_rotate = True  # torn while it was begun: begin it again

    def _check_continues(self, name: str, decoded: DecodedHeader, result: Scan) -> None:
        """A segment must begin where the one before it ended."""
        header = decoded.header
        before = result.segments[-1] if result.segments else None
        if header.first_sequence > result.sequence and before is not None:
            raise CorruptData(
                segment_name(before.number),
                result.offset,
                f"a bad record with good ones behind it (in {name}); {ADVICE}",
            )
        found = (header.first_sequence, header.chain, header.next_index)
        expected = (result.sequence, result.chain, result.image.state.next_index)
        if found != expected:
            raise CorruptData(
                name,
                0,
                f"the segment does not continue the one before it: sequence, CRC and index "
                f"{found} where {expected} must follow; {ADVICE}",
            )

    def _classify_rest(self, numbers: Sequence[int], run: Sequence[int], result: Scan) -> None:
        """Sort the files around the run: spares behind it, leftovers of a clean-up elsewhere."""
        follow = result.segments[-1].number + 1
        for number in numbers:
            if number < run[0]:
                result.leftovers.append(number)
            elif number >= follow:
                if number not in self._headers:
                    self._check_unused(number, result.sequence)
                if number == follow + len(result.spares):
                    result.spares.append(number)
                else:
                    result.leftovers.append(number)

    def _check_unused(self, number: int, sequence: int) -> None:
        """A file without a header must not hold acknowledged groups of its own number.

        The whole file is searched: if the disk lost the write that began the segment, nothing
        tells where the groups behind it are.
        """
        name = segment_name(number)
        key = segment_key(self._stamp, number)
        file = self._disk.open(name)
        data, holes = read_around_holes(file)
        file.close()
        if holes:
            raise Unreadable(name, holes[0][0], ADVICE)
        later = find_later_group(data, 0, key=key, sequence=sequence)
        if later >= 0:
            raise CorruptData(
                name, 0, f"bad header with good records behind it (byte {later}); {ADVICE}"
            )


def scan_log(disk: Disk, stamp: Stamp) -> Scan:
    """Read all segments of a data directory.

    Raises:
        CorruptData: bytes are damaged in a way that no crash explains; nothing was changed.
        WrongDirectory: a segment belongs to another node or cluster; nothing was changed.
    """
    return _Reader(disk, stamp).scan()


def scan_prefix(disk: Disk, stamp: Stamp) -> Scan | None:
    """Read a damaged log from its beginning up to the damage; None: nothing can be read.

    Only what is before the damage is in it, and nothing of what is behind.

    Raises:
        WrongDirectory: a segment belongs to another node or cluster.
        UnknownFormat: a segment was written by another version.
    """
    return _Reader(disk, stamp).prefix()
