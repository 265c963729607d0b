"""VirtualDisk: a data directory in memory that forgets what was not synced.

It implements ``quorate.storage.disk.Disk`` and keeps two worlds: what running programs see, and
what a power failure would leave. ``crash`` moves from the first to the second and lets a drawn
number decide the fate of everything in between. It knows nothing of what is stored in it.

The failure model (Pillai et al., OSDI '14; LazyFS, VLDB '24):
    * un-synced writes of a file survive wholly, not at all, torn, or in any order among each
      other; the unit is the sector, which is old or new but never half
    * a size grows when a sector beyond it survives; the hole reads as zeros
    * un-synced creations, renames and removals survive as a prefix or as any subset that makes
      sense, independent of the files' contents
    * what was synced stays, exactly

Faults that no power failure explains (CORDS, FAST '17; TigerBeetle's simulator) are calls of their
own, and strike only when called: rot, lost and misdirected writes, unreadable sectors, failing
syncs, a full disk, a wiped one. ``disk_faults.py`` decides whom they strike.

Invariants: the same calls and the same draws give the same bytes; handles opened before a crash
are dead after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from quorate.errors import DiskFailed
from quorate.simulation.disk_faults import DiskFaults, FaultCounts, Where
from quorate.simulation.inode import Draw, Inode, Write

Hook: TypeAlias = Callable[[str, str], None]
"""Called as ``hook(operation, name)`` before each operation; it may raise DiskFailed.

Operations: ``create open read write sync truncate rename remove sync_directory``.
"""

_READING = frozenset({"open", "read"})
_ENDLESS_BYTES = 1 << 60


class DiskCounts(NamedTuple):
    """What a VirtualDisk was asked to do since it was made."""

    operations: int  # everything that changes something or makes it durable
    writes: int
    bytes_written: int
    syncs: int
    directory_syncs: int


class VirtualFile:
    """An open file of a VirtualDisk; see ``quorate.storage.disk.File``."""

    def __init__(self, disk: VirtualDisk, inode: Inode, name: str) -> None:
        self._disk = disk
        self._inode = inode
        self._name = name
        self._boot = disk.boots
        self._open = True

    def _enter(self, operation: str) -> None:
        if not self._open or self._boot != self._disk.boots:
            raise DiskFailed(f"cannot {operation} {self._name}: the file is closed (EBADF)")
        self._disk.enter(operation, self._name)

    def read(self, offset: int, size: int) -> bytes:
        """Read up to ``size`` bytes; fewer at the end of the file."""
        self._enter("read")
        self._disk.check_read(self._name, self._inode, offset, size)
        return bytes(self._inode.current[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        """Write all of ``data`` at ``offset``; not durable before ``sync``.

        When the disk gets full on the way, what fits was written.
        """
        assert offset >= 0
        self._enter("write")
        self._disk.write(self._name, self._inode, offset, bytes(data))

    def sync(self) -> None:
        """Make everything written so far durable.

        When it fails, the un-synced writes stay readable and are forgotten by every later sync,
        as on Linux after EIO (ATC '20).
        """
        try:
            self._enter("sync")
            self._disk.check_sync(self._name)
        except DiskFailed:
            if not self._disk.is_dead:
                self._inode.pending.clear()
            raise
        self._inode.sync()

    def write_through(self, offset: int, data: bytes) -> None:
        """Write, then sync; a failure may come between the two."""
        self.write(offset, data)
        self.sync()

    def truncate(self, size: int) -> None:
        """Set the size; not durable before ``sync``."""
        assert size >= 0
        self._enter("truncate")
        self._disk.truncate(self._inode, size)

    def size(self) -> int:
        """Current size in bytes."""
        self._enter("read")
        return len(self._inode.current)

    def close(self) -> None:
        """Close; durable is only what was synced."""
        self._open = False


class _NameChange(NamedTuple):
    """An un-synced change of the directory: a name comes, a name goes, or both at once."""

    added: str  # "": none
    removed: str  # "": none
    inode: Inode


def _change(names: dict[str, Inode], change: _NameChange) -> None:
    """Carry out one change; a name that by now belongs to another file is left alone."""
    if change.removed and names.get(change.removed) is change.inode:
        del names[change.removed]
    if change.added:
        names[change.added] = change.inode


class VirtualDisk:
    """A simulated data directory.

    Args:
        sector_bytes: unit in which an un-synced write survives or not.

    Attributes:
        hook: see ``Hook``; the simulator's way to make operations fail. None: never.
        boots: how often ``crash`` or ``restart`` was called.
    """

    def __init__(self, *, sector_bytes: int = 512) -> None:
        assert sector_bytes > 0
        self.hook: Hook | None = None
        self.boots = 0
        self._sector_bytes = sector_bytes
        self._names: dict[str, Inode] = {}
        self._durable_names: dict[str, Inode] = {}
        self._pending: list[_NameChange] = []
        self._budget: int | None = None
        self._dead = ""
        self._writes = 0
        self._faults = DiskFaults()
        self._operations = 0
        self._counts = dict.fromkeys(("write", "bytes", "sync", "sync_directory"), 0)

    # ---- the Disk interface --------------------------------------------------------------------

    def names(self) -> list[str]:
        """All file names, sorted."""
        self._check_alive("list", "the directory")
        return sorted(self._names)

    def open(self, name: str, *, create: bool = False) -> VirtualFile:
        """Open for reading and writing; ``create`` makes an empty file and fails if it exists."""
        if create == (name in self._names):
            reason = "File exists (EEXIST)" if create else "No such file (ENOENT)"
            raise DiskFailed(f"cannot {'create' if create else 'open'} {name}: {reason}")
        self.enter("create" if create else "open", name)
        if create:
            if self._faults.room(self._names.values()) == 0:
                raise self._faults.no_space("create", name)
            self._do(_NameChange(name, "", Inode()))
        return VirtualFile(self, self._names[name], name)

    def rename(self, old: str, new: str) -> None:
        """Rename, atomically replacing ``new``."""
        self._must_exist("rename", old)
        self.enter("rename", old)
        self._do(_NameChange(new, old, self._names[old]))

    def remove(self, name: str) -> None:
        """Remove a file; handles that are open keep working."""
        self._must_exist("remove", name)
        self.enter("remove", name)
        self._do(_NameChange("", name, self._names[name]))

    def sync_directory(self) -> None:
        """Make creations, renames and removals durable."""
        self.enter("sync_directory", "")
        self._faults.check_sync("")
        self._durable_names = dict(self._names)
        self._pending.clear()

    def free_bytes(self) -> int:
        """How much more fits."""
        room = self._faults.room(self._names.values())
        return _ENDLESS_BYTES if room is None else room

    # ---- what only a simulated disk can do -----------------------------------------------------

    def crash(self, draw: Draw) -> None:
        """Lose power and come back: what was not synced survives as ``draw`` decides.

        All handles are dead afterwards; a budget of ``fail_after`` and an earlier failure are
        forgotten, because the machine was restarted.
        """
        survivors = self._survivors(draw)
        self._names = survivors
        self._durable_names = dict(survivors)
        self._pending.clear()
        for name in sorted(survivors):
            survivors[name].settle(draw, self._sector_bytes)
        self._faults.judge_power_loss(survivors)
        self.restart()

    def restart(self) -> None:
        """The process dies and the machine lives on: handles are dead, nothing is lost.

        Nothing is synced either: what a new process reads may still vanish in a crash.
        """
        self.boots += 1
        self._budget = None
        self._dead = ""

    def fail_after(self, operations: int) -> None:
        """Let this many more changing operations succeed; every one after them fails."""
        self._budget = operations

    def wipe(self) -> None:
        """Lose the whole directory, durably; lies of the past are forgotten with it."""
        self._names.clear()
        self._durable_names.clear()
        self._pending.clear()
        self._faults.is_silent = False

    def clone(self) -> VirtualDisk:
        """An independent twin in the same state; no hook, budget, open handle or armed fault."""
        twin = VirtualDisk(sector_bytes=self._sector_bytes)
        inodes = [*self._names.values(), *self._durable_names.values()]
        inodes += [change.inode for change in self._pending]
        twins = {inode: inode.copy() for inode in inodes}
        twin._names = {name: twins[i] for name, i in self._names.items()}
        twin._durable_names = {name: twins[i] for name, i in self._durable_names.items()}
        twin._pending = [c._replace(inode=twins[c.inode]) for c in self._pending]
        twin._writes = self._writes
        twin._faults.is_silent = self._faults.is_silent
        return twin

    def counts(self) -> DiskCounts:
        """Numbers of operations so far."""
        counts = self._counts
        return DiskCounts(
            operations=self._operations,
            writes=counts["write"],
            bytes_written=counts["bytes"],
            syncs=counts["sync"],
            directory_syncs=counts["sync_directory"],
        )

    @property
    def is_dead(self) -> bool:
        """Whether the budget of ``fail_after`` is used up."""
        return bool(self._dead)

    # ---- faults that no power failure explains -------------------------------------------------

    @property
    def silent_damage(self) -> bool:
        """Whether a power failure found a lie in the newest place, where no check can see it.

        Ground truth, kept until ``wipe``: the write was acknowledged and synced, it was lost or
        landed elsewhere, and no later write to the log vouches for it. Such a node must not come
        back to vote with this directory; it would be right by its own lights.
        """
        return self._faults.is_silent

    def flip(self, name: str, offset: int, mask: int = 0xFF) -> None:
        """Rot: change bits of one stored byte, durably, whatever it is."""
        inode = self._names[name]
        assert 0 < mask < 256
        inode.current[offset] ^= mask
        if offset < len(inode.durable):
            inode.durable[offset] ^= mask

    def rot(self, draw: Draw, where: Where = "any") -> str | None:
        """Flip drawn bits of a drawn durable byte; never in the newest write of a log file.

        Args:
            draw: chooses file, byte and bits.
            where: ``wal``, ``snapshot``, ``identity``, ``any``, or a test of the name.

        Returns:
            The name of the file that was hit; None: there is nothing to hit.
        """
        return self._faults.rot(draw, where, self._names)

    def rot_end_of_log(self) -> bool:
        """Damage the newest durable write of the log and the one before; whether there are two."""
        return self._faults.rot_end_of_log(self._names)

    def lose_next_write(self, where: Where = "any") -> None:
        """The next write to such a file is acknowledged and synced, and never done."""
        self._faults.arm_loss(where)

    def misdirect_next_write(self, draw: Draw, where: Where = "any") -> None:
        """The next write to such a file lands elsewhere, in it or in another; all is acknowledged.

        It spares the newest write of each log file, as ``rot`` does.
        """
        self._faults.arm_misdirection(draw, where)

    def fail_next_sync(self, where: Where = "any") -> None:
        """The next sync of such a file gives EIO; its pages are dropped and count as clean.

        ``directory`` means the next sync of the directory; its changes stay as un-synced as before.
        """
        self._faults.arm_sync_failure(where)

    def fail_reads(self, where: Where | None = "any") -> None:
        """Every read of such files gives EIO, until called with None."""
        self._faults.arm_read_failure(where)

    def lose_sectors(self, name: str, offset: int, size: int) -> None:
        """Latent sector errors: reads that touch these bytes' sectors give EIO until rewritten."""
        assert size > 0
        sectors = range(offset // self._sector_bytes, (offset + size - 1) // self._sector_bytes + 1)
        self._faults.make_unreadable(self._names[name], sectors)

    def decay(self, draw: Draw, where: Where = "any") -> str | None:
        """``lose_sectors`` at a drawn place; returns the file's name, None: nothing to hit."""
        return self._faults.decay(draw, where, self._names, self._sector_bytes)

    def fill(self, free_bytes: int = 0) -> None:
        """Leave only this much space; what needs more fails with ENOSPC until ``free``."""
        used = sum(len(inode.current) for inode in self._names.values())
        self._faults.capacity_bytes = used + free_bytes

    def free(self) -> None:
        """Give the disk endless space again."""
        self._faults.capacity_bytes = None

    def calm(self) -> None:
        """Nothing new goes wrong: disarm all, give space back, let every sector be read again.

        Damage done to bytes stays.
        """
        self.hook = None
        self._budget = None
        self._faults.disarm()
        for name in self._names:
            self._names[name].unreadable.clear()

    def fault_counts(self) -> FaultCounts:
        """How often each fault struck so far."""
        return self._faults.counts()

    # ---- called by VirtualFile -----------------------------------------------------------------

    def enter(self, operation: str, name: str) -> None:
        """Count an operation and let hook and budget refuse it.

        Raises:
            DiskFailed: refused; the operation did not take place.
        """
        self._check_alive(operation, name)
        if self.hook is not None:
            self.hook(operation, name)
        if operation in _READING:
            return
        if self._budget is not None:
            if self._budget == 0:
                self._dead = f"cannot {operation} {name}: the simulated disk died (EIO)"
                raise DiskFailed(self._dead)
            self._budget -= 1
        self._operations += 1
        if operation in self._counts:
            self._counts[operation] += 1

    def write(self, name: str, inode: Inode, offset: int, data: bytes) -> None:
        """Carry out a write, or what becomes of it on this disk."""
        faults = self._faults
        end = offset + len(data)
        if faults.capacity_bytes is not None and end > len(inode.current):
            room = faults.room(self._names.values())
            assert room is not None
            if end - len(inode.current) > room:
                fits = data[: max(0, len(inode.current) + room - offset)]
                if fits:
                    self._put(name, inode, offset, fits)
                raise faults.no_space("write", name)
        self._put(name, inode, offset, data)

    def truncate(self, inode: Inode, size: int) -> None:
        """Set a file's size."""
        self._writes += 1
        inode.write(Write(size, None, self._writes))

    def check_read(self, name: str, inode: Inode, offset: int, size: int) -> None:
        """Refuse to read what cannot be read."""
        span = offset, min(offset + size, len(inode.current))
        if span[0] < span[1]:
            self._faults.check_read(name, inode, span, self._sector_bytes)

    def check_sync(self, name: str) -> None:
        """Refuse a sync that was armed to fail."""
        self._faults.check_sync(name)

    # ---- details -------------------------------------------------------------------------------

    def _check_alive(self, operation: str, name: str) -> None:
        if self._dead:
            raise DiskFailed(f"cannot {operation} {name}: earlier, {self._dead}")

    def _must_exist(self, operation: str, name: str) -> None:
        if name not in self._names:
            raise DiskFailed(f"cannot {operation} {name}: No such file (ENOENT)")

    def _put(self, name: str, inode: Inode, offset: int, data: bytes) -> None:
        self._counts["bytes"] += len(data)
        self._writes += 1
        write = Write(offset, data, self._writes)
        if self._faults.is_armed:
            write = self._faults.divert(name, inode, write, self._names)
        inode.write(write)
        if inode.unreadable and data:
            first, last = offset // self._sector_bytes, (write.span[1] - 1) // self._sector_bytes
            inode.unreadable.difference_update(range(first, last + 1))

    def _do(self, change: _NameChange) -> None:
        self._pending.append(change)
        _change(self._names, change)

    def _survivors(self, draw: Draw) -> dict[str, Inode]:
        """Which names a crash leaves: the durable ones and some of the pending changes."""
        names = dict(self._durable_names)
        if not self._pending:
            return names
        if draw(2):  # a journal: the first changes survive, the later ones do not
            kept = self._pending[: draw(len(self._pending) + 1)]
        else:
            kept = [change for change in self._pending if draw(2)]
        for change in kept:
            _change(names, change)
        return names
