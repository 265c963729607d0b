"""What the operating system knows about this process: CPU, memory, descriptors, the disk's room.

Read when somebody asks. What a system does not tell is left out rather than guessed.
"""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from quorate.node.process import process_age_seconds

_STARTED_SECONDS = time.time() - process_age_seconds()  # once: it must not waver


class ProcessFigures(NamedTuple):
    """One look; None where the system does not tell."""

    cpu_seconds: float
    resident_bytes: int | None
    open_descriptors: int | None
    descriptors_max: int
    started_seconds: float  # since 1970
    disk_free_bytes: int | None
    disk_size_bytes: int | None


def look_at_process(data: Path) -> ProcessFigures:
    """Read all of them; ``data`` is the directory whose file system is meant."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    resident = descriptors = free = size = None
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        resident = pages * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError):
        descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the names are not needed
    with suppress(OSError):
        room = os.statvfs(data)
        free, size = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    return ProcessFigures(
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        resident_bytes=resident,
        open_descriptors=descriptors,
        descriptors_max=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        started_seconds=_STARTED_SECONDS,
        disk_free_bytes=free,
        disk_size_bytes=size,
    )
