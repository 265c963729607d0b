"""The replicated log in memory: a suffix of entries behind a known base.

Every engine keeps its log here. The prefix up to ``base_index`` is gone (a durable snapshot
covers it); of it only the last index and epoch are known, which is what a consistency check
needs. What is on disk, what is committed and who has which entries is not known here.

Invariants:
    * ``entries[i].index == base_index + 1 + i``: no gaps
    * epochs never fall along the log, and none is below ``base_epoch``
    * access to the compacted prefix or beyond the end gives ``None`` or nothing, never a wrong
      entry: every reader must be able to live with compaction (Raft dissertation §5.1.3)
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from quorate.consensus.entry import Entry, SnapshotMeta


def _epoch_of(entry: Entry) -> int:
    return entry.epoch


class Log:
    """A contiguous run of entries; positions are indexes of the replicated log."""

    __slots__ = ("base_epoch", "base_index", "entries", "last_index")

    def __init__(self, base_index: int = 0, base_epoch: int = 0) -> None:
        self.base_index = base_index
        self.base_epoch = base_epoch
        self.entries: list[Entry] = []
        self.last_index = base_index  # kept as a field: the hot path asks for it all the time

    @property
    def first_index(self) -> int:
        """Index of the first entry held (or of the next one, when none is held)."""
        return self.base_index + 1

    @property
    def last_epoch(self) -> int:
        """Epoch of the last entry."""
        return self.entries[-1].epoch if self.entries else self.base_epoch

    def epoch_at(self, index: int) -> int | None:
        """Return the epoch at ``index``, or None where it is not known (compacted or beyond)."""
        offset = index - self.base_index
        if offset <= 0:
            return self.base_epoch if offset == 0 else None
        if offset > len(self.entries):
            return None
        return self.entries[offset - 1].epoch

    def append(self, entry: Entry) -> None:
        """Add the next entry."""
        assert entry.index == self.last_index + 1, "the log has no gaps"
        assert entry.epoch >= self.last_epoch, "epochs never fall along the log"
        self.entries.append(entry)
        self.last_index = entry.index

    def extend(self, entries: Iterable[Entry]) -> None:
        """Add the next entries."""
        for entry in entries:
            self.append(entry)

    def truncate_from(self, index: int) -> None:
        """Remove the entries at and after ``index``: only ever because of a real conflict."""
        assert self.base_index < index <= self.last_index, "nothing there to truncate"
        del self.entries[index - self.base_index - 1 :]
        self.last_index = index - 1

    def compact(self, to: int) -> bool:
        """Forget the entries up to and including ``to``; say whether anything was forgotten."""
        if to <= self.base_index:
            return False
        epoch = self.epoch_at(to)
        assert epoch is not None, "compaction beyond the end of the log"
        del self.entries[: to - self.base_index]
        self.base_index = to
        self.base_epoch = epoch
        assert self.last_index >= self.base_index, "compaction keeps the end of the log"
        return True

    def compactable_to(self, index: int, *, keep_entries: int, keep_bytes: int) -> int:
        """How far to compact so that at most so much stays of the log up to ``index``."""
        assert index <= self.last_index, "compaction beyond the end of the log"
        to, size = index, 0
        first = max(self.base_index, index - keep_entries)
        while to > first:
            size += len(self.entries[to - self.base_index - 1].payload)
            if size > keep_bytes:
                break
            to -= 1
        return to

    def reset(self, base_index: int, base_epoch: int) -> None:
        """Drop everything: a snapshot replaces the log (Raft Fig. 13 rule 7)."""
        self.entries.clear()
        self.base_index = self.last_index = base_index
        self.base_epoch = base_epoch

    def since(self, index: int) -> list[Entry]:
        """Return all entries from ``index`` to the end."""
        assert index > self.base_index, "these entries are compacted"
        return self.entries[index - self.base_index - 1 :]

    def between(self, first: int, last: int) -> list[Entry]:
        """Return the entries ``first .. last``, both included."""
        assert self.base_index < first, "these entries are compacted"
        assert last <= self.last_index, "these entries are not there yet"
        return self.entries[first - self.base_index - 1 : last - self.base_index]

    def slice(self, first: int, bytes_max: int) -> tuple[list[Entry], int]:
        """Return entries from ``first`` on and their payload bytes, at most ``bytes_max``.

        At least one entry is returned if there is one, however large: otherwise an entry above
        the budget could never travel.
        """
        assert first > self.base_index, "these entries are compacted"
        entries = self.entries
        start = position = first - self.base_index - 1
        end = len(entries)
        size = 0
        while position < end:
            grown = size + len(entries[position].payload)
            if grown > bytes_max and position > start:
                break
            size = grown
            position += 1
        return entries[start:position], size

    def first_index_of_epoch_at(self, index: int) -> int:
        """Return the first index held whose epoch equals that of ``index`` (which must be held)."""
        assert self.base_index < index <= self.last_index, "no such entry"
        epoch = self.entries[index - self.base_index - 1].epoch
        return self.base_index + 1 + bisect_left(self.entries, epoch, key=_epoch_of)

    def last_index_of_epoch(self, epoch: int) -> int | None:
        """Return the last index held (or the base) of this epoch, None if there is none."""
        position = bisect_right(self.entries, epoch, key=_epoch_of)
        index = self.base_index + position
        return index if self.epoch_at(index) == epoch else None

    def is_up_to_date(self, last_index: int, last_epoch: int) -> bool:
        """Whether a log that ends so is at least as up to date as this one (Raft §5.4.1).

        The epoch decides; only between equal epochs does the length.
        """
        own = self.last_epoch
        if last_epoch != own:
            return last_epoch > own
        return last_index >= self.last_index

    def describe(self) -> str:
        """Draw the log as runs of equal epochs: ``(3) 4:1-4:2 6:2``."""
        runs: list[list[int]] = []  # epoch, first, last
        for entry in self.entries:
            if runs and runs[-1][0] == entry.epoch:
                runs[-1][2] = entry.index
            else:
                runs.append([entry.epoch, entry.index, entry.index])
        parts = [f"({self.base_index}:t{self.base_epoch})"] if self.base_index else []
        for epoch, first, last in runs:
            parts.append(f"t{epoch}[{first}]" if first == last else f"t{epoch}[{first}-{last}]")
        return " ".join(parts) if parts else "empty"


def agrees_with_snapshot(entries: list[Entry], meta: SnapshotMeta) -> bool:
    """Whether the log found beside a snapshot continues it (Raft Fig. 13 rules 6 and 7)."""
    if not entries or entries[-1].index < meta.index:
        return False
    offset = meta.index - entries[0].index
    if offset < 0:
        return entries[0].index == meta.index + 1
    return entries[offset].epoch == meta.epoch
