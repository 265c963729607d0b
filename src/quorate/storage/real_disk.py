"""RealDisk: the Disk interface on the operating system's files.

Thin on purpose: every method is one or two system calls, nothing is cached, nothing is decided.
It knows no record, no segment and no snapshot.

Invariants:
    * every ``OSError`` becomes ``DiskFailed`` naming the file, the operation and the errno; none
      is retried (ATC '20, "Can applications recover from fsync failures?": after a failed fsync
      the kernel may have marked the lost pages clean)
    * at most one process uses a data directory: it holds an exclusive ``flock`` on ``LOCK``,
      which the kernel releases when the process ends, however it ends
    * a closed file never touches a reused descriptor
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quorate.errors import DiskFailed, DiskFull, Unreadable, WrongDirectory

LOCK_NAME = "LOCK"
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""What a file name may be: short, ASCII, flat; anything else is a bug of the caller."""


_HAS_WRITE_THROUGH = hasattr(os, "pwritev") and hasattr(os, "RWF_DSYNC")

_CLOSED = (1 << 31) - 1
"""Never a descriptor: the kernel answers EBADF, and no reused number can be hit."""


@contextmanager
def _failing(operation: str, name: str) -> Iterator[None]:
    """Turn an OSError of the block into DiskFailed."""
    try:
        yield
    except OSError as error:
        raise _failure(operation, name, error) from error


def _failure(operation: str, name: str, error: OSError) -> DiskFailed:
    code = errno.errorcode.get(error.errno or 0, "?")
    reason = error.strerror or str(error)
    kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else DiskFailed
    return kind(f"cannot {operation} {name}: {reason} ({code})")


class RealFile:
    """An open file; see ``quorate.storage.disk.File``."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._name = name

    def read(self, offset: int, size: int) -> bytes:
        """Read up to ``size`` bytes at ``offset``; fewer only at the end of the file."""
        try:
            data = os.pread(self._descriptor, size, offset)
            if len(data) == size or not data:
                return data
            pieces = [data]
            missing = size - len(data)
            while missing and (
                data := os.pread(self._descriptor, missing, offset + size - missing)
            ):
                pieces.append(data)
                missing -= len(data)
            return b"".join(pieces)
        except OSError as error:
            if error.errno == errno.EIO:
                raise Unreadable(self._name, offset) from error
            raise _failure("read", self._name, error) from error

    def write(self, offset: int, data: bytes) -> None:
        """Write all of ``data``; a short write is continued, an error is final."""
        with _failing("write", self._name):
            written = os.pwrite(self._descriptor, data, offset)
            if written == len(data):
                return
            rest = memoryview(data)
            while written < len(data):
                written += os.pwrite(self._descriptor, rest[written:], offset + written)

    def sync(self) -> None:
        """Make data and size durable (``fdatasync``)."""
        with _failing("sync", self._name):
            os.fdatasync(self._descriptor)

    def write_through(self, offset: int, data: bytes) -> None:
        """Write and make durable with one system call (``RWF_DSYNC``).

        One call instead of two gives up and takes back the interpreter's lock once instead of
        twice; the disk does the same work.
        """
        if not _HAS_WRITE_THROUGH:
            self.write(offset, data)
            self.sync()
            return
        try:  # not ``_failing``: this is on the path of every write of every client
            written = os.pwritev(self._descriptor, (data,), offset, os.RWF_DSYNC)
            while written < len(data):
                rest = memoryview(data)[written:]
                written += os.pwritev(self._descriptor, (rest,), offset + written, os.RWF_DSYNC)
        except OSError as error:
            raise _failure("write", self._name, error) from error

    def truncate(self, size: int) -> None:
        """Set the size."""
        with _failing("truncate", self._name):
            os.ftruncate(self._descriptor, size)

    def size(self) -> int:
        """Current size in bytes."""
        with _failing("stat", self._name):
            return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """Close; closing twice is harmless."""
        descriptor, self._descriptor = self._descriptor, _CLOSED
        if descriptor != _CLOSED:
            with _failing("close", self._name):
                os.close(descriptor)


class RealDisk:
    """A data directory of the operating system, held exclusively until ``close``.

    Args:
        path: the directory; created with mode 0700 when missing, its parent must exist or be
            creatable.

    Raises:
        WrongDirectory: another process holds the directory; nothing was touched.
        DiskFailed: the operating system refused; the message names file and errno.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._create_directory()
        with _failing("open directory", str(self.path)):
            self._directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._lock = -1
        try:
            self._take_lock()
        except BaseException:
            self.close()
            raise

    def _create_directory(self) -> None:
        """Create the directory, private to its owner, and make its own name durable."""
        if self.path.is_dir():
            return
        with _failing("create directory", str(self.path)):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            parent = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)

    def _take_lock(self) -> None:
        """Hold LOCK exclusively, and leave our process id in it for people to read."""
        with _failing("open", LOCK_NAME):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._lock = os.open(LOCK_NAME, flags, 0o600, dir_fd=self._directory)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            raise WrongDirectory(
                f"data directory {self.path} is in use by another process"
                f"{f' (pid {holder})' if holder else ''}: two nodes must never share a "
                "directory; stop that process or choose another directory"
            ) from None
        except OSError as error:
            raise DiskFailed(f"cannot lock {LOCK_NAME}: {error}") from error
        with _failing("write", LOCK_NAME):
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode("ascii"), 0)

    def names(self) -> list[str]:
        """All file names but LOCK, sorted."""
        with _failing("list", str(self.path)):
            names = os.listdir(self._directory)  # noqa: PTH208 - the locked one, wherever it moved
        return sorted(name for name in names if name != LOCK_NAME)

    def open(self, name: str, *, create: bool = False) -> RealFile:
        """Open for reading and writing; ``create`` fails if the file exists."""
        _check_name(name)
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        with _failing("create" if create else "open", name):
            return RealFile(os.open(name, flags, 0o600, dir_fd=self._directory), name)

    def rename(self, old: str, new: str) -> None:
        """Rename, atomically replacing ``new``."""
        _check_name(old)
        _check_name(new)
        with _failing("rename", f"{old} to {new}"):
            os.rename(old, new, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def remove(self, name: str) -> None:
        """Remove a file."""
        _check_name(name)
        with _failing("remove", name):
            os.unlink(name, dir_fd=self._directory)

    def sync_directory(self) -> None:
        """Make creations, renames and removals durable (``fsync`` of the directory)."""
        with _failing("sync directory", str(self.path)):
            os.fsync(self._directory)

    def free_bytes(self) -> int:
        """What the file system has left for us; a quota is not in it."""
        with _failing("stat", str(self.path)):
            found = os.fstatvfs(self._directory)
        return found.f_bavail * found.f_frsize

    def close(self) -> None:
        """Give the directory up to the next process; closing twice is harmless."""
        directory, self._directory = self._directory, -1
        lock, self._lock = self._lock, -1
        for descriptor in (lock, directory):
            if descriptor >= 0:
                os.close(descriptor)


def _check_name(name: str) -> None:
    """Names come from our own code, so a bad one is a bug and not an input error."""
    assert NAME_PATTERN.fullmatch(name), f"bad file name {name!r}"
    assert name != LOCK_NAME
