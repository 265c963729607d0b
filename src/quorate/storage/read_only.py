"""ReadOnlyDisk: somebody else's data directory, looked at and never touched.

For tools that work on the directory of a stopped node, or on a copy of it: it takes no lock, makes
no file, and refuses every change.

Invariant: not one byte, name or time stamp of a modification changes.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from quorate.errors import DiskFailed, UsageError
from quorate.storage.real_disk import LOCK_NAME, NAME_PATTERN


class _ReadOnlyFile:
    """An open file that can only be read."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise DiskFailed(f"cannot open {path.name}: {error.strerror}") from error

    def read(self, offset: int, size: int) -> bytes:
        """Read up to ``size`` bytes; fewer at the end of the file."""
        try:
            self._file.seek(offset)
            return self._file.read(size)
        except OSError as error:
            raise DiskFailed(f"cannot read {self._name}: {error.strerror}") from error

    def size(self) -> int:
        """Current size in bytes."""
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Close."""
        self._file.close()

    def write(self, offset: int, data: bytes) -> None:
        """Refuse."""
        del offset, data
        raise AssertionError("a directory that is only looked at")

    def sync(self) -> None:
        """Refuse."""
        raise AssertionError("a directory that is only looked at")

    def write_through(self, offset: int, data: bytes) -> None:
        """Refuse."""
        del offset, data
        raise AssertionError("a directory that is only looked at")

    def truncate(self, size: int) -> None:
        """Refuse."""
        del size
        raise AssertionError("a directory that is only looked at")


class ReadOnlyDisk:
    """The Disk interface, as far as it reads.

    Args:
        path: a data directory.

    Raises:
        UsageError: it is no directory, or a node is using it now.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise UsageError(f"{path} is no directory; name a node's data directory or a copy")
        _refuse_if_used(path)

    def names(self) -> list[str]:
        """All file names, sorted; names that no node gives are passed over."""
        found = [item.name for item in self.path.iterdir() if item.is_file()]
        return sorted(name for name in found if name != LOCK_NAME and NAME_PATTERN.fullmatch(name))

    def open(self, name: str, *, create: bool = False) -> _ReadOnlyFile:
        """Open for reading."""
        assert not create, "a directory that is only looked at"
        return _ReadOnlyFile(self.path / name)

    def rename(self, old: str, new: str) -> None:
        """Refuse."""
        del old, new
        raise AssertionError("a directory that is only looked at")

    def remove(self, name: str) -> None:
        """Refuse."""
        del name
        raise AssertionError("a directory that is only looked at")

    def sync_directory(self) -> None:
        """Refuse."""
        raise AssertionError("a directory that is only looked at")

    def free_bytes(self) -> int:
        """Refuse."""
        raise AssertionError("a directory that is only looked at")


def _refuse_if_used(path: Path) -> None:
    """A running node's files change while they are read: nothing found would mean anything."""
    try:
        lock = os.open(path / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # a copy without it
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            f"a node is using {path} now; stop it, or look at a copy of the directory"
        ) from None
    finally:
        os.close(lock)
