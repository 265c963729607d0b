"""Virtual time: one queue of things to happen, one seed for every choice.

Everything in a simulated run happens because it was scheduled here, in an order that the seed
fixes. Time is an integer in microseconds and moves only from event to event, so a minute of
cluster life takes as long as its events take to compute.

Invariants:
    * events at the same time happen in the order in which they were scheduled
    * every choice is drawn from the one generator; nothing reads a clock or another source
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable


class World:
    """Clock, event queue and dice of one run."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now_us = 0
        self.events = 0
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._scheduled = 0

    @property
    def now_ms(self) -> int:
        """Virtual time in whole milliseconds."""
        return self.now_us // 1000

    def draw(self, n: int) -> int:
        """Return an integer in ``0 .. n-1``."""
        return self._random.randrange(n)

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self._random.random() < probability

    def between(self, low_us: int, high_us: int) -> int:
        """Return a duration in ``low_us .. high_us``."""
        return self._random.randint(low_us, high_us)

    def bytes(self, n: int) -> bytes:
        """Return ``n`` drawn bytes."""
        return self._random.randbytes(n)

    def after(self, delay_us: int, action: Callable[[], None]) -> None:
        """Schedule an action."""
        assert delay_us >= 0
        self._scheduled += 1
        heapq.heappush(self._queue, (self.now_us + delay_us, self._scheduled, action))

    def run(self, duration_us: int) -> None:
        """Let everything scheduled within the next ``duration_us`` happen."""
        end = self.now_us + duration_us
        queue = self._queue
        while queue and queue[0][0] <= end:
            self.now_us, _, action = heapq.heappop(queue)
            self.events += 1
            action()
        self.now_us = end
