"""ShadowLog: what one node's log must hold, computed from the persistence steps it asked for.

The judges' own memory of a log, independent of engine and storage. It keeps what two equal entries
share instead of entries.
"""

from __future__ import annotations

from typing import TypeAlias
from zlib import crc32

from quorate.consensus.entry import Entry, EntryKind, Persist, Recovered, SnapshotMeta

Fingerprint: TypeAlias = tuple[int, int, int]
"""(epoch, kind, checksum) of an entry."""

UNKNOWN_EPOCH = -1


def fingerprint(entry: Entry) -> Fingerprint:
    """Reduce an entry to what two equal entries share."""
    return (entry.epoch, entry.kind, crc32(entry.payload))


def is_same(one: Fingerprint, other: Fingerprint) -> bool:
    """Whether two nodes hold the same entry; a witness holds a batch without its payload."""
    if EntryKind.WITHHELD in (one[1], other[1]):
        return one[0] == other[0] and {one[1], other[1]} <= {EntryKind.WITHHELD, EntryKind.BATCH}
    return one == other


class ShadowLog:
    """Fingerprints of a node's log from ``base + 1`` on."""

    def __init__(self, recovered: Recovered) -> None:
        self.base = 0  # index of the last entry that is not here
        self.base_epoch = 0
        if recovered.snapshot is not None:
            self.base = recovered.snapshot.index
            self.base_epoch = recovered.snapshot.epoch
        first = recovered.entries[0].index if recovered.entries else self.base + 1
        if first <= self.base:
            self.base = first - 1
            self.base_epoch = UNKNOWN_EPOCH  # compacted before the restart
        self.entries = [fingerprint(entry) for entry in recovered.entries]

    @property
    def last(self) -> int:
        """Index of the last entry."""
        return self.base + len(self.entries)

    def at(self, index: int) -> Fingerprint | None:
        """Return the entry at ``index``; None when a snapshot covers it or it is not there."""
        if self.base < index <= self.base + len(self.entries):
            return self.entries[index - self.base - 1]
        return None

    def epoch_before(self, index: int) -> int:
        """Epoch of the entry before ``index``; UNKNOWN_EPOCH when nobody knows."""
        if index - 1 == self.base:
            return self.base_epoch
        previous = self.at(index - 1)
        return previous[0] if previous is not None else UNKNOWN_EPOCH

    def truncate(self, index: int) -> None:
        """Drop entries at and after ``index``."""
        del self.entries[max(0, index - self.base - 1) :]

    def reset(self, meta: SnapshotMeta, *, discard: bool) -> None:
        """Take a snapshot's place: keep what lies behind it unless ``discard``."""
        keep = [] if discard else self.entries[meta.index - self.base :]
        self.base, self.base_epoch, self.entries = meta.index, meta.epoch, list(keep)

    def persist(self, step: Persist) -> None:
        """Carry out one step."""
        if step.truncate_from is not None:
            self.truncate(step.truncate_from)
        self.entries += [fingerprint(entry) for entry in step.entries]
        if step.chunk is not None and step.chunk.last:
            self.reset(step.chunk.meta, discard=step.chunk.discard_log)
