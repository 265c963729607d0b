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

Invariants: the same calls and the same draws give the same bytes; handles opened before a crash
are dead after it. Damage that no crash explains (``flip``, ``wipe``) is a call of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from quorate.errors import DiskFailed

Draw: TypeAlias = Callable[[int], int]
"""``draw(n)`` gives an integer in ``0 .. n-1``."""

Hook: TypeAlias = Callable[[str, str], None]
"""Called as ``hook(operation, name)`` before each operation; it may raise DiskFailed.

Operations: ``create open read write sync truncate rename remove sync_directory``.
"""

_READING = frozenset({"open", "read"})


class DiskCounts(NamedTuple):
    """What a VirtualDisk was asked to do since it was made."""

    operations: int  # everything that changes something or makes it durable
    writes: int
    bytes_written: int
    syncs: int
    directory_syncs: int


class _Write(NamedTuple):
    """An un-synced write, or with ``data is None`` an un-synced change of size to ``offset``."""

    offset: int
    data: bytes | None


class _Inode:
    """A file's bytes in both worlds, whatever its name."""

    __slots__ = ("current", "durable", "pending")

    def __init__(self) -> None:
        self.current = bytearray()
        self.durable = bytearray()
        self.pending: list[_Write] = []

    def copy(self) -> _Inode:
        """An independent twin."""
        twin = _Inode()
        twin.current = bytearray(self.current)
        twin.durable = bytearray(self.durable)
        twin.pending = list(self.pending)
        return twin


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    """Carry out one write or change of size."""
    if data is None:
        if offset < len(content):
            del content[offset:]
        else:
            content.extend(bytes(offset - len(content)))
        return
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class VirtualFile:
    """An open file of a VirtualDisk; see ``quorate.storage.disk.File``."""

    def __init__(self, disk: VirtualDisk, inode: _Inode, name: str) -> None:
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
        return bytes(self._inode.current[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        """Write all of ``data`` at ``offset``; not durable before ``sync``."""
        assert offset >= 0
        self._enter("write")
        data = bytes(data)
        self._disk.count_write(len(data))
        self._inode.pending.append(_Write(offset, data))
        _apply(self._inode.current, offset, data)

    def sync(self) -> None:
        """Make everything written so far durable.

        When the hook refuses, the un-synced writes stay readable and are forgotten by every later
        sync, as on Linux after EIO (ATC '20).
        """
        try:
            self._enter("sync")
        except DiskFailed:
            if not self._disk.is_dead:
                self._inode.pending.clear()
            raise
        for offset, data in self._inode.pending:
            _apply(self._inode.durable, offset, data)
        self._inode.pending.clear()

    def write_through(self, offset: int, data: bytes) -> None:
        """Write, then sync; a failure may come between the two."""
        self.write(offset, data)
        self.sync()

    def truncate(self, size: int) -> None:
        """Set the size; not durable before ``sync``."""
        assert size >= 0
        self._enter("truncate")
        self._inode.pending.append(_Write(size, None))
        _apply(self._inode.current, size, None)

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
    inode: _Inode


def _change(names: dict[str, _Inode], change: _NameChange) -> None:
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
        self._names: dict[str, _Inode] = {}
        self._durable_names: dict[str, _Inode] = {}
        self._pending: list[_NameChange] = []
        self._budget: int | None = None
        self._dead = ""
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
            self._do(_NameChange(name, "", _Inode()))
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
        self._durable_names = dict(self._names)
        self._pending.clear()

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
            inode = survivors[name]
            if inode.pending:
                self._settle(inode, draw)
            inode.current = bytearray(inode.durable)
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

    def flip(self, name: str, offset: int, mask: int = 0xFF) -> None:
        """Rot: change bits of a stored byte, durably, as no crash would."""
        inode = self._names[name]
        assert 0 < mask < 256
        inode.current[offset] ^= mask
        if offset < len(inode.durable):
            inode.durable[offset] ^= mask

    def wipe(self) -> None:
        """Lose the whole directory, durably."""
        self._names.clear()
        self._durable_names.clear()
        self._pending.clear()

    def clone(self) -> VirtualDisk:
        """An independent twin in the same state, without hook, budget and open handles."""
        twin = VirtualDisk(sector_bytes=self._sector_bytes)
        inodes = [*self._names.values(), *self._durable_names.values()]
        inodes += [change.inode for change in self._pending]
        twins = {inode: inode.copy() for inode in inodes}
        twin._names = {name: twins[i] for name, i in self._names.items()}
        twin._durable_names = {name: twins[i] for name, i in self._durable_names.items()}
        twin._pending = [c._replace(inode=twins[c.inode]) for c in self._pending]
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

    def count_write(self, size: int) -> None:
        """Count the bytes of a write."""
        self._counts["bytes"] += size

    # ---- details -------------------------------------------------------------------------------

    def _check_alive(self, operation: str, name: str) -> None:
        if self._dead:
            raise DiskFailed(f"cannot {operation} {name}: earlier, {self._dead}")

    def _must_exist(self, operation: str, name: str) -> None:
        if name not in self._names:
            raise DiskFailed(f"cannot {operation} {name}: No such file (ENOENT)")

    def _do(self, change: _NameChange) -> None:
        self._pending.append(change)
        _change(self._names, change)

    def _survivors(self, draw: Draw) -> dict[str, _Inode]:
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

    def _settle(self, inode: _Inode, draw: Draw) -> None:
        """Decide which un-synced sectors of one file survive."""
        pending, inode.pending = inode.pending, []
        fate = draw(4)
        if fate == 0:
            return
        for number, (offset, data) in enumerate(pending):
            if fate == 1 or (fate == 2 and number < len(pending) - 1):
                _apply(inode.durable, offset, data)
            elif fate == 2 or draw(3):
                self._tear(inode, offset, data, draw)

    def _tear(self, inode: _Inode, offset: int, data: bytes | None, draw: Draw) -> None:
        """Let a run of whole sectors of one write survive, or all but a run."""
        if data is None:
            if draw(2):
                _apply(inode.durable, offset, data)
            return
        sector = self._sector_bytes
        first = offset // sector
        count = (offset + len(data) - 1) // sector - first + 1
        one, two = sorted((draw(count + 1), draw(count + 1)))
        runs = ((0, one), (two, count)) if draw(2) else ((one, two),)
        for begin, end in runs:
            low = max((first + begin) * sector, offset)
            high = min((first + end) * sector, offset + len(data))
            if low < high:
                _apply(inode.durable, low, data[low - offset : high - offset])
