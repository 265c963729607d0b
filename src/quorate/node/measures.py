"""What the process itself measures: times that no pure object can know, in histograms.

Everything else that is exported is counted where it happens and read when somebody asks
(``metric_catalogue.py``). Nothing here is touched per request: an observation is made per fsync,
per batch, per tick, per snapshot or per collection of garbage, and costs a bisection of a dozen
numbers.

Invariant: a histogram never forgets and never overflows; its memory is fixed when it is made.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

FINE_SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0),
)
COARSE_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0)
BATCHES_TIMED_MAX = 10_000


class Histogram:
    """Counts observations by size.

    Args:
        bounds: upper bounds of the buckets, inclusive, rising; one more bucket takes the rest.
    """

    __slots__ = ("bounds", "counts", "maximum", "total")

    def __init__(self, bounds: Sequence[float] = FINE_SECONDS) -> None:
        assert list(bounds) == sorted(set(bounds))
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.maximum = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
        if value > self.maximum:
            self.maximum = value

    @property
    def count(self) -> int:
        """Observations in all."""
        return sum(self.counts)


@dataclass(slots=True)
class Measures:
    """Everything that one process measures.

    Attributes:
        disk_write: one write and sync of the log.
        commit: from handing a batch of this node's clients over to its apply here.
        loop_delay: how late the event loop came to its tick.
        snapshot_write: from beginning a snapshot of our own until it is durable.
        snapshot_load: loading a snapshot of the leader.
        gc_pause: one collection of garbage, in which the process stands still.
        turns: turns of the driver; a process that takes none makes no progress.
        disk_stalls: writes that took longer than ``slow_disk``.
        snapshots_given_up: snapshots of our own for which there was no space.
    """

    disk_write: Histogram = field(default_factory=Histogram)
    commit: Histogram = field(default_factory=Histogram)
    loop_delay: Histogram = field(default_factory=Histogram)
    snapshot_write: Histogram = field(default_factory=lambda: Histogram(COARSE_SECONDS))
    snapshot_load: Histogram = field(default_factory=lambda: Histogram(COARSE_SECONDS))
    gc_pause: Histogram = field(default_factory=Histogram)
    turns: int = 0
    disk_stalls: int = 0
    snapshots_given_up: int = 0


class BatchTimer:
    """Times batches from submission to apply, a few operations per turn."""

    __slots__ = ("_histogram", "_under_way")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        # (newest batch number, when); bounded: the oldest is forgotten, and not timed
        self._under_way: deque[tuple[int, float]] = deque(maxlen=BATCHES_TIMED_MAX)

    def submitted(self, number: int, now_seconds: float) -> None:
        """Batches up to this number are on their way."""
        self._under_way.append((number, now_seconds))

    def applied(self, number: int, now_seconds: float) -> None:
        """Batches up to this number are applied."""
        under_way = self._under_way
        while under_way and under_way[0][0] <= number:
            self._histogram.observe(now_seconds - under_way.popleft()[1])
