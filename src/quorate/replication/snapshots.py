"""When to snapshot, and the part of a snapshot that belongs to replication.

A snapshot is the state machine's bytes behind a header with replication's own replicated state:
the time of the last applied entry and the table of applied batches (the client sessions of Raft
§7 must travel with the snapshot, or a resent batch would be applied again).

    header = magic "QSNP", version u16, time_ms u64, table length u32, table

Invariant: at most one own snapshot is under way; an install gives it up.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import chain
from zlib import crc32

from quorate.consensus.entry import WITHHELD_BODY
from quorate.errors import CorruptData, InvariantBroken, RemoteProtocolError
from quorate.replication.origins import AppliedBatches

_HEADER = struct.Struct(">4sHQI")
_SPREAD = struct.Struct(">QQ")
_MAGIC = b"QSNP"
_VERSION = 1
_TABLE_BYTES_MAX = 1 << 20


class SnapshotPolicy:
    """Decides when the log has grown enough (dissertation §5.1.2), and guards the running one.

    The log is measured against the state, as the state machine writes it: both are what a restart
    has to read. How small storage makes the bytes changes nothing.

    Replicas' logs grow alike, but a majority should not be busy with snapshots at one time: with a
    ``node_id`` each node waits for up to half as much again, differently each time.
    """

    __slots__ = (
        "_bytes_before",
        "_bytes_min",
        "_factor",
        "_is_asked",
        "_node_id",
        "_round",
        "_running",
        "_size_bytes",
        "bytes_since_last",
        "last_size_bytes",
    )

    def __init__(self, bytes_min: int, factor: float, node_id: int = 0) -> None:
        self._bytes_min = bytes_min
        self._factor = factor
        self._node_id = node_id
        self._round = 0
        self._running: object | None = None
        self._size_bytes = 0  # of the one under way
        self._is_asked = False
        self._bytes_before = 0  # of the log, that the one under way makes unneeded
        self.bytes_since_last = 0
        self.last_size_bytes = 0

    @property
    def is_running(self) -> bool:
        """Whether an own snapshot is being written."""
        return self._running is not None

    def is_due(self) -> bool:
        """Whether a snapshot should begin now."""
        if self._running is not None:
            return False
        if self._is_asked:
            return True
        if self.bytes_since_last < self._bytes_min:
            return False
        return self.bytes_since_last >= self.threshold_bytes

    @property
    def threshold_bytes(self) -> int:
        """How much log makes a snapshot due."""
        threshold = max(self._bytes_min, int(self.last_size_bytes * self._factor))
        if self._node_id:
            # Sixteen bits of a checksum are as good as drawn, and the same in every run.
            spread = crc32(_SPREAD.pack(self._node_id, self._round)) >> 16
            threshold += threshold * spread >> 17
        return threshold

    def ask(self) -> None:
        """Somebody wants a snapshot, however little has changed."""
        self._is_asked = True

    def begin(self, header: bytes, body: Iterator[bytes]) -> Iterator[bytes]:
        """Start the snapshot: its pieces, header first, guarded against use after abandoning."""
        assert self._running is None
        ticket = self._running = object()
        self._round += 1
        self._is_asked = False
        self._bytes_before, self.bytes_since_last = self.bytes_since_last, 0
        return self._pieces(ticket, header, body)

    def end(self) -> None:
        """Record that the running snapshot is durable."""
        self._running = None
        self.last_size_bytes = self._size_bytes

    def put_off(self) -> None:
        """Record that the running snapshot came to nothing: it is still due."""
        self._running = None
        self.bytes_since_last += self._bytes_before

    def loading(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Pass the pieces of a snapshot on that is being loaded, and measure it."""
        self.bytes_since_last = 0
        self._size_bytes = 0
        for piece in pieces:
            self._size_bytes += len(piece)
            yield piece
        self.last_size_bytes = self._size_bytes

    def abandon(self) -> bool:
        """Give the running snapshot up; True when there was one."""
        was_running = self._running is not None
        self._running = None
        return was_running

    def _pieces(self, ticket: object, header: bytes, body: Iterator[bytes]) -> Iterator[bytes]:
        self._size_bytes = 0
        for piece in chain((header,), body):
            if self._running is not ticket:
                raise InvariantBroken("an abandoned snapshot was pulled further")
            self._size_bytes += len(piece)
            yield piece
        if self._running is not ticket:
            raise InvariantBroken("an abandoned snapshot was pulled to its end")


def encode_header(time_ms: int, applied: AppliedBatches) -> bytes:
    """Encode replication's part of a snapshot."""
    table = applied.encode()
    return _HEADER.pack(_MAGIC, _VERSION, time_ms, len(table)) + table


def split_header(chunks: Iterable[bytes]) -> tuple[int, AppliedBatches, Iterator[bytes]]:
    """Read the header from pieces of any size; return time, table and the rest.

    Raises:
        CorruptData: these bytes are no snapshot of ours.
    """
    iterator = iter(chunks)
    head = _read(iterator, b"", _HEADER.size)
    magic, version, time_ms, length = _HEADER.unpack_from(head)
    if magic != _MAGIC or version != _VERSION or length > _TABLE_BYTES_MAX:
        raise CorruptData("snapshot", 0, f"unknown header {head[: _HEADER.size]!r}")
    head = _read(iterator, head, _HEADER.size + length)
    try:
        applied = AppliedBatches.decode(head[_HEADER.size : _HEADER.size + length])
    except RemoteProtocolError as error:
        raise CorruptData("snapshot", _HEADER.size, str(error)) from None
    return time_ms, applied, _rest(head[_HEADER.size + length :], iterator)


def split_withheld(chunks: Iterable[bytes]) -> tuple[bool, Iterator[bytes]]:
    """Say whether this is what a witness stores, and return the pieces from their beginning."""
    iterator = iter(chunks)
    head = b""
    while len(head) < len(WITHHELD_BODY):
        piece = next(iterator, None)
        if piece is None:
            break
        head += piece
    return head == WITHHELD_BODY, _rest(head, iterator)


def _read(iterator: Iterator[bytes], head: bytes, size: int) -> bytes:
    while len(head) < size:
        piece = next(iterator, None)
        if piece is None:
            raise CorruptData("snapshot", len(head), "cut short in the header")
        head += piece
    return head


def _rest(first: bytes, iterator: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from iterator
