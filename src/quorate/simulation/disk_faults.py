"""What a failing disk does beside losing power: rot, lies, unreadable sectors, no space.

``DiskFaults`` holds the faults that are armed on one ``VirtualDisk`` and knows the truth about
the lies it told; ``disk.py`` asks it before it acts. It draws nothing of its own: each choice comes
from a ``draw`` handed in.

What is spared, and why. Damage of exactly the newest group of a log cannot be told from a torn
write (docs/wal-format.md), so a node would lose it without knowing. Rot and misdirected writes
therefore never hit the newest durable write of a log file. A *lost* write that a power failure
finds to be the newest one cannot be spared: it is the fault. ``is_silent`` says so, and whoever
drives the node must not let it vote again with this directory.

Invariants:
    * an armed lie strikes one write and is then disarmed
    * the same calls and draws give the same damage
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeAlias

from quorate.errors import DiskFailed, DiskFull, Unreadable
from quorate.simulation.inode import Draw, Inode, Span, Write

Where: TypeAlias = str | Callable[[str], bool]
"""Which files: one of ``KINDS``, or a test of the name."""

LANDINGS_TRIED = 8


def is_log(name: str) -> bool:
    """Whether the newest write of this file has nothing that vouches for it."""
    return name.startswith("wal-")


KINDS: dict[str, Callable[[str], bool]] = {
    "any": bool,  # no file has an empty name
    "wal": is_log,
    "snapshot": lambda name: name.startswith("snapshot-"),
    "identity": lambda name: name.startswith("identity."),
    "directory": lambda name: not name,  # the directory itself, for syncs
}


class FaultCounts(NamedTuple):
    """How often each fault struck."""

    rotten: int
    misdirected: int
    lost: int
    decayed: int
    unreadable: int
    failed_syncs: int
    no_space: int


class DiskFaults:
    """The armed faults of one disk, and the truth about them.

    Attributes:
        is_armed: whether a write could be struck; the only thing that a healthy disk looks at.
        is_silent: a power failure found that the newest write of the log was a lie.
        capacity_bytes: size of the disk; None: endless.
    """

    def __init__(self) -> None:
        self.is_armed = False
        self.is_silent = False
        self.capacity_bytes: int | None = None
        self._counts = dict.fromkeys(FaultCounts._fields, 0)
        self._lose: Callable[[str], bool] | None = None
        self._misdirect: tuple[Draw, Callable[[str], bool]] | None = None
        self._refuse_sync: Callable[[str], bool] | None = None
        self._refuse_reads: Callable[[str], bool] | None = None

    # ---- arming --------------------------------------------------------------------------------

    def arm_loss(self, where: Where) -> None:
        """The next write to such a file is acknowledged, synced, and never done."""
        self._lose = _test(where)
        self.is_armed = True

    def arm_misdirection(self, draw: Draw, where: Where) -> None:
        """The next write to such a file lands elsewhere."""
        self._misdirect = draw, _test(where)
        self.is_armed = True

    def arm_sync_failure(self, where: Where) -> None:
        """The next sync of such a file fails."""
        self._refuse_sync = _test(where)

    def arm_read_failure(self, where: Where | None) -> None:
        """Reads of such files fail until called with None."""
        self._refuse_reads = None if where is None else _test(where)

    def disarm(self) -> None:
        """Nothing new goes wrong; damage that was done stays."""
        self._lose = self._misdirect = self._refuse_sync = self._refuse_reads = None
        self.capacity_bytes = None
        self.is_armed = False

    # ---- asked by the disk ---------------------------------------------------------------------

    def divert(self, name: str, inode: Inode, write: Write, names: Mapping[str, Inode]) -> Write:
        """Let an armed lie strike this write; returns the write as it really is."""
        assert write.data is not None
        if self._misdirect is not None and self._misdirect[1](name):
            draw, self._misdirect = self._misdirect[0], None
            self._count("misdirected")
            self._land(draw, inode, write, names)
            write = write._replace(is_lost=True)
        elif self._lose is not None and self._lose(name):
            self._lose = None
            self._count("lost")
            write = write._replace(is_lost=True)
        self.is_armed = self._lose is not None or self._misdirect is not None
        return write

    def check_sync(self, name: str) -> None:
        """Raise DiskFailed when this sync was armed to fail."""
        if self._refuse_sync is not None and self._refuse_sync(name):
            self._refuse_sync = None
            self._count("failed_syncs")
            raise DiskFailed(f"cannot sync {name or 'the directory'}: Input/output error (EIO)")

    def check_read(self, name: str, inode: Inode, span: Span, sector_bytes: int) -> None:
        """Raise Unreadable when this range cannot be read."""
        refused = self._refuse_reads is not None and self._refuse_reads(name)
        if inode.unreadable and not refused:
            first, last = span[0] // sector_bytes, (span[1] - 1) // sector_bytes
            refused = any(first <= sector <= last for sector in inode.unreadable)
        if refused:
            self._count("unreadable")
            raise Unreadable(name, span[0])

    def room(self, inodes: Iterable[Inode]) -> int | None:
        """Bytes that are still free; None: endless."""
        if self.capacity_bytes is None:
            return None
        return max(0, self.capacity_bytes - sum(len(inode.current) for inode in inodes))

    def no_space(self, operation: str, name: str) -> DiskFull:
        """The error of a full disk."""
        self._count("no_space")
        return DiskFull(f"cannot {operation} {name}: No space left on device (ENOSPC)")

    def judge_power_loss(self, names: Mapping[str, Inode]) -> None:
        """After a power failure: was the newest write to the log that is left a lie?"""
        logs = [inode for name, inode in names.items() if is_log(name)]
        lost = max((inode.lost_number for inode in logs), default=0)
        if lost > max((inode.kept_number for inode in logs), default=0):
            self.is_silent = True

    # ---- damage now ----------------------------------------------------------------------------

    def rot(self, draw: Draw, where: Where, names: Mapping[str, Inode]) -> str | None:
        """Flip bits of a drawn durable byte; returns the file's name, None: nothing to hit."""
        eligible = [
            (name, spans)
            for name in _chosen(names, where)
            if (spans := _exposed(name, names[name]))
        ]
        if not eligible:
            return None
        name, spans = eligible[draw(len(eligible))]
        at = draw(sum(end - begin for begin, end in spans))
        for begin, end in spans:
            if at < end - begin:
                names[name].rot(begin + at, 1 + draw(255))
                break
            at -= end - begin
        self._count("rotten")
        return name

    def rot_end_of_log(self, names: Mapping[str, Inode]) -> bool:
        """Damage the newest durable write of the log and the one before; whether there are two.

        The last bytes of both, so that the header of the newest group stays: it tells that the one
        before was acknowledged, and so that this is damage and no torn write.
        """
        logs = [inode for name, inode in names.items() if is_log(name) and inode.newest]
        newest = max(logs, key=lambda inode: inode.kept_number, default=None)
        if newest is None or newest.pending:
            return False
        begin, end = newest.newest[-1]
        if not 0 < begin < end <= len(newest.durable):
            return False
        newest.rot(begin - 1, 0xFF)
        newest.rot(end - 1, 0xFF)
        self._count("rotten")
        return True

    def decay(
        self, draw: Draw, where: Where, names: Mapping[str, Inode], sector_bytes: int
    ) -> str | None:
        """Make a drawn run of sectors unreadable; returns the file's name."""
        eligible = [name for name in _chosen(names, where) if names[name].durable]
        if not eligible:
            return None
        name = eligible[draw(len(eligible))]
        count = -(-len(names[name].durable) // sector_bytes)
        first = draw(count)
        self.make_unreadable(names[name], range(first, min(count, first + 1 + draw(4))))
        return name

    def make_unreadable(self, inode: Inode, sectors: Iterable[int]) -> None:
        """Latent sector errors, until the sectors are written again."""
        self._count("decayed")
        inode.unreadable.update(sectors)

    def counts(self) -> FaultCounts:
        """How often each fault struck so far."""
        return FaultCounts(**self._counts)

    # ---- details -------------------------------------------------------------------------------

    def _count(self, fault: str) -> None:
        self._counts[fault] += 1

    def _land(self, draw: Draw, source: Inode, write: Write, names: Mapping[str, Inode]) -> None:
        """Put a misdirected write's bytes somewhere else; when no place fits, nowhere."""
        assert write.data is not None
        eligible = [name for name in sorted(names) if names[name].durable]
        for _ in range(LANDINGS_TRIED if eligible and write.data else 0):
            name = eligible[draw(len(eligible))]
            target = names[name]
            begin = draw(len(target.durable))
            data = write.data[: len(target.durable) - begin]
            span = begin, begin + len(data)
            taken = target.guarded() if is_log(name) else []
            if target is source:
                taken = [*taken, write.span]
            if not any(_overlap(span, other) for other in taken):
                target.overwrite(begin, data)
                return


def _test(where: Where) -> Callable[[str], bool]:
    return KINDS[where] if isinstance(where, str) else where


def _chosen(names: Mapping[str, Inode], where: Where) -> list[str]:
    test = _test(where)
    return [name for name in sorted(names) if test(name)]


def _overlap(one: Span, two: Span) -> bool:
    return one[0] < two[1] and two[0] < one[1]


def _exposed(name: str, inode: Inode) -> list[Span]:
    """The durable bytes that rot may hit."""
    spans, begin, end = [], 0, len(inode.durable)
    for low, high in sorted(inode.guarded()) if is_log(name) else ():
        if begin < min(low, end):
            spans.append((begin, min(low, end)))
        begin = max(begin, high)
    if begin < end:
        spans.append((begin, end))
    return spans
