"""Watches the disk: how long every write of the log takes, and whether one hangs right now.

It stands between the disk thread and the store, so that it sees each write from begin to end, on
whichever thread that is; ``look`` runs on the loop and sees the write that has not ended. A disk
that takes longer than ``slow_disk`` for one write is an event and is counted. Whether a slow disk
costs this node leadership is decided elsewhere, by the engine, from what is durable.

Invariant: a write that takes too long is told of once while it lasts and once when it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from quorate.consensus.entry import Persist
from quorate.node.events import DISK_RECOVERED, DISK_SLOW, DISK_STALLED
from quorate.node.measures import Measures


class DiskWatch:
    """Measures ``persist``.

    Args:
        persist: makes a list of steps durable; blocks; ``Store.persist``.
        measures: where times and stalls are counted.
        slow_ms: longer than this is a stall.
    """

    def __init__(
        self, persist: Callable[[list[Persist]], None], measures: Measures, slow_ms: int
    ) -> None:
        self._persist = persist
        self._measures = measures
        self._slow_seconds = slow_ms / 1000
        self._begun_seconds = 0.0  # 0: no write is under way
        self._is_told = False  # of the stall under way

    def persist(self, steps: list[Persist]) -> None:
        """Carry the steps out, and see how long that takes.

        Raises:
            StorageError: as the store does; whether it happened is what the store says.
        """
        begin = self._begun_seconds = monotonic()
        self._persist(steps)
        self._begun_seconds = 0.0
        seconds = monotonic() - begin
        self._measures.disk_write.observe(seconds)
        if seconds > self._slow_seconds:
            self._measures.disk_stalls += 1
            DISK_SLOW.say(milliseconds=round(seconds * 1000))

    @property
    def busy_seconds(self) -> float:
        """How long the write that is under way has taken so far; 0 when there is none."""
        begun = self._begun_seconds
        return max(0.0, monotonic() - begun) if begun else 0.0

    @property
    def is_stalled(self) -> bool:
        """Whether a write is under way that takes too long."""
        return self.busy_seconds > self._slow_seconds

    def look(self) -> None:
        """Tell of a write that hangs, and of the end of that; on the loop, now and then."""
        busy = self.busy_seconds
        if busy > self._slow_seconds and not self._is_told:
            self._is_told = True
            DISK_STALLED.say(milliseconds=round(busy * 1000))
        elif self._is_told and busy <= self._slow_seconds:
            self._is_told = False
            DISK_RECOVERED.say()
