"""Looks at the free space of the data directory, and tells the server when it runs out.

What that means is decided elsewhere (``storage/space.py``, ``consensus/raft/space.py``); here is
only the looking, ten times a second, and the words for people.
"""

from __future__ import annotations

from collections.abc import Callable

from quorate.errors import DiskFailed
from quorate.node.events import DISK_FULL, DISK_HAS_SPACE
from quorate.storage.space import SpaceGauge


class SpaceWatch:
    """Watches the space of one disk.

    Args:
        free_bytes: asks the operating system; ``Store.free_bytes``.
        reserve_bytes: less than this is full.
        changed: told whether the disk is full now, when that changes.
        failed: called with what went wrong when the operating system does not say.
    """

    def __init__(
        self,
        free_bytes: Callable[[], int],
        reserve_bytes: int,
        changed: Callable[[bool], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._free_bytes = free_bytes
        self._reserve_bytes = reserve_bytes
        self._changed = changed
        self._failed = failed
        self._gauge = SpaceGauge(reserve_bytes)

    @property
    def is_full(self) -> bool:
        """As of the last look."""
        return self._gauge.is_full

    def look(self) -> None:
        """Look at the disk; on the loop."""
        gauge = self._gauge
        try:
            free = self._free_bytes()
        except DiskFailed as error:
            self._failed(error)
            return
        if not gauge.look(free):
            return
        if gauge.is_full:
            DISK_FULL.say(free_bytes=free, reserve_bytes=self._reserve_bytes)
        else:
            DISK_HAS_SPACE.say(free_bytes=free)
        self._changed(gauge.is_full)
