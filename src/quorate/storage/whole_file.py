"""Small files that are read and written as a whole: ``identity.q``, ``repair.q``, a log cut short.

It knows neither what is in them nor why; whoever has a format checks what was read.

Invariant: a file that is replaced holds all of the old bytes or all of the new ones, whenever the
power goes.
"""

from __future__ import annotations

from quorate.storage.disk import Disk


def read_whole(disk: Disk, name: str) -> bytes | None:
    """All bytes of a file; None when there is none of this name."""
    if name not in disk.names():
        return None
    file = disk.open(name)
    data = file.read(0, file.size())
    file.close()
    return data


def write_temporary(disk: Disk, name: str, data: bytes) -> None:
    """Make a file with these bytes, in place of a stale one; its bytes are durable on return.

    Raises:
        DiskFailed: what is there under this name means nothing.
    """
    if name in disk.names():
        disk.remove(name)
    file = disk.open(name, create=True)
    file.write(0, data)
    file.sync()
    file.close()


def replace_whole(disk: Disk, name: str, temporary: str, data: bytes) -> None:
    """Give a file other bytes, by way of a temporary one; durable on return.

    Raises:
        DiskFailed: the old bytes or the new ones will be found after a restart.
    """
    write_temporary(disk, temporary, data)
    disk.rename(temporary, name)
    disk.sync_directory()
