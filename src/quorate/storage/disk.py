"""The Disk interface: the few file operations that storage needs, so that a simulator can lie.

One Disk is one node's data directory, flat, with short ASCII file names. The real one
(``real_disk.py``) calls the operating system; the simulator's keeps bytes in memory and loses
what was not synced, as a power failure would. One contract test-suite runs against both.

Invariants that callers rely on, and nothing more:
    * ``write`` may be lost, wholly or in part, until ``File.sync`` returned; ``write_through``
      until it returned itself
    * a created, renamed or removed name may be lost until ``sync_directory`` returned
    * bytes that cannot be read (``Unreadable``) are lost, and nothing else is
    * any other call may raise DiskFailed; after that the node must not use the directory again,
      unless it was DiskFull and the file in question can be given up
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple, Protocol

from quorate.errors import Unreadable


class File(Protocol):
    """An open file with positioned reads and writes."""

    def read(self, offset: int, size: int) -> bytes:
        """Read up to ``size`` bytes; fewer at the end of the file."""

    def write(self, offset: int, data: bytes) -> None:
        """Write all of ``data`` at ``offset``, growing the file if needed."""

    def sync(self) -> None:
        """Make data (and size) durable before returning. Never retried after a failure."""

    def write_through(self, offset: int, data: bytes) -> None:
        """``write``, then make these bytes durable as ``sync`` would; in one call where it can be.

        Never retried after a failure.
        """

    def truncate(self, size: int) -> None:
        """Set the file's size."""

    def size(self) -> int:
        """Current size in bytes."""

    def close(self) -> None:
        """Close; durable is only what was synced."""


UNREADABLE_PIECE_BYTES = 4_096


class Holes(NamedTuple):
    """A whole file, zeros where the disk does not give bytes back, and where that is."""

    data: bytes
    holes: list[tuple[int, int]]  # from, to


def read_around_holes(file: File) -> Holes:
    """Read a whole file, as far as the disk gives it back.

    Raises:
        DiskFailed: something else went wrong than bytes that cannot be read.
    """
    size = file.size()
    with suppress(Unreadable):
        return Holes(file.read(0, size), [])
    pieces: list[bytes] = []
    holes: list[tuple[int, int]] = []
    for begin in range(0, size, UNREADABLE_PIECE_BYTES):
        end = min(size, begin + UNREADABLE_PIECE_BYTES)
        try:
            piece = file.read(begin, end - begin)
        except Unreadable:
            piece = b""
            holes.append((begin, end))
        pieces.append(piece.ljust(end - begin, b"\0"))
    return Holes(b"".join(pieces), holes)


class Disk(Protocol):
    """A flat directory of files."""

    def names(self) -> list[str]:
        """All file names, sorted."""

    def open(self, name: str, *, create: bool = False) -> File:
        """Open for reading and writing; ``create`` makes an empty file and fails if it exists."""

    def rename(self, old: str, new: str) -> None:
        """Rename, atomically replacing ``new``."""

    def remove(self, name: str) -> None:
        """Remove a file."""

    def sync_directory(self) -> None:
        """Make creations, renames and removals durable."""

    def free_bytes(self) -> int:
        """How many bytes more could be written now; others may use them before we do."""
