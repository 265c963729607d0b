"""Whether a disk counts as full, and what may still be written to it.

A disk that is really full leaves half-written files and no way back. So a node stops taking writes
while there is still a *reserve*, and spends that on what keeps it in the cluster:

    free space            what is written
    above the reserve     everything
    below it              votes, terms, configurations; no clients' writes, no snapshots
    below an eighth       votes and terms only; whatever else was on its way waits in memory

It knows numbers only: who looks at the disk, and when, is the driver's affair.

Invariant: a disk that is full stays so until a quarter more than the reserve is free, so that a
node does not change its mind with every file that somebody writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from quorate.consensus.entry import Persist

MARGIN_DIVISOR = 8
"""This part of the reserve is kept for votes and terms."""

_GROUP_BYTES = 256
"""More than the headers of a new segment and of a group take, and the hard state in it."""

_STEP_BYTES = 160
"""More than hard state, truncation and compaction of one step take."""

_RECORD_BYTES = 32
_CHUNK_BYTES = 2_048
"""More than a piece of a snapshot costs beside its bytes."""


class SpaceGauge:
    """Judges the free space of one disk.

    Attributes:
        is_full: as of the last look.
        free_bytes: as of the last look.
    """

    __slots__ = ("_reserve_bytes", "free_bytes", "is_full")

    def __init__(self, reserve_bytes: int) -> None:
        self._reserve_bytes = reserve_bytes
        self.is_full = False
        self.free_bytes = 0

    def look(self, free_bytes: int) -> bool:
        """So much is free now; whether ``is_full`` changed by that."""
        was_full, self.free_bytes = self.is_full, free_bytes
        enough = self._reserve_bytes
        if was_full:
            enough += enough // 4
        self.is_full = free_bytes < enough
        return self.is_full is not was_full


class Need(NamedTuple):
    """How much space steps of persistence take, at most."""

    log_bytes: int
    beside_log_bytes: int  # for a snapshot that comes in
    is_small: bool  # nothing but votes, terms, and what makes files smaller


def need_of(steps: Sequence[Persist]) -> Need:
    """How much space these steps take, at most."""
    log, beside, is_small = _GROUP_BYTES, 0, True
    for step in steps:
        log += _STEP_BYTES
        for entry in step.entries:
            log += _RECORD_BYTES + len(entry.payload)
            is_small = False
        if step.chunk is not None:
            beside += _CHUNK_BYTES + len(step.chunk.data)
            is_small = False
    return Need(log, beside, is_small)
