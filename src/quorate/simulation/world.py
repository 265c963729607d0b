"""Virtual time and dice: one queue of things to happen, one seed for every choice.

Everything in a simulated run happens because it was scheduled here, in an order that the seed
fixes. Time is an integer in microseconds and moves only from event to event, so a minute of
cluster life takes as long as its events take to compute.

Choices come from dice with names. Each name is a stream of its own, so that taking one fault or
one request out of a run does not change what all others draw: that is what lets a failing run be
made smaller and stay a failing run.

Invariants:
    * events at the same time happen in the order in which they were scheduled
    * every choice comes from a Dice of this seed; nothing reads a clock or another source
    * neither the hash seed nor the process changes anything
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from typing import TypeVar
from zlib import crc32

from quorate.errors import InvariantBroken

_T = TypeVar("_T")
EVENTS_MAX = 2_000_000
"""Some forty times what a minute of a busy cluster takes."""


class Dice:
    """A named stream of choices.

    Args:
        seed: of the run.
        name: which stream.
    """

    __slots__ = ("_bits", "_random")

    def __init__(self, seed: int, name: str) -> None:
        generator = random.Random(f"{seed}/{name}")  # noqa: S311 - repeatable on purpose
        self._random = generator.random
        self._bits = generator.getrandbits

    def draw(self, n: int) -> int:
        """Return an integer in ``0 .. n-1``."""
        assert n > 0
        return int(self._random() * n)

    def chance(self, probability: float) -> bool:
        """Return True with this probability; a certain answer draws nothing."""
        return probability > 0 and self._random() < probability

    def between(self, low: int, high: int) -> int:
        """Return an integer in ``low .. high``, a duration for example."""
        return low + int(self._random() * (high - low + 1))

    def bytes(self, n: int) -> bytes:
        """Return ``n`` drawn bytes."""
        return self._bits(8 * n).to_bytes(n, "big") if n else b""

    def pick(self, things: Sequence[_T]) -> _T:
        """Return one of the things."""
        return things[int(self._random() * len(things))]

    def some(self, things: Sequence[_T], count: int) -> list[_T]:
        """Return ``count`` different things, in a drawn order."""
        rest = list(things)
        return [rest.pop(int(self._random() * len(rest))) for _ in range(min(count, len(rest)))]


class World:
    """Clock, event queue and dice of one run.

    Attributes:
        now_us: virtual time.
        events: how many things have happened.
        events_max: a run with more of them is taken for one that never ends, and stopped.
        trace: checksum over everything that was marked so far: equal runs, equal traces.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now_us = 0
        self.events = 0
        self.events_max = EVENTS_MAX
        self.trace = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._scheduled = 0
        dice = Dice(seed, "world")
        self.draw = dice.draw
        self.chance = dice.chance
        self.between = dice.between
        self.bytes = dice.bytes

    @property
    def now_ms(self) -> int:
        """Virtual time in whole milliseconds."""
        return self.now_us // 1000

    def dice(self, name: str) -> Dice:
        """A stream of choices of its own."""
        return Dice(self.seed, name)

    def mark(self, data: bytes) -> None:
        """Make something that happened part of the run's trace."""
        self.trace = crc32(data, self.trace)

    def after(self, delay_us: int, action: Callable[[], None]) -> None:
        """Schedule an action."""
        assert delay_us >= 0
        self._scheduled = number = self._scheduled + 1
        heapq.heappush(self._queue, (self.now_us + delay_us, number, action))

    def at(self, time_us: int, action: Callable[[], None]) -> None:
        """Schedule an action at a time, or now if that has passed."""
        self.after(max(0, time_us - self.now_us), action)

    def run(self, duration_us: int) -> None:
        """Let everything scheduled within the next ``duration_us`` happen.

        Raises:
            InvariantBroken: there is no end to it.
        """
        end = self.now_us + duration_us
        queue = self._queue
        pop = heapq.heappop
        count, count_max = 0, self.events_max - self.events
        try:
            while queue and queue[0][0] <= end:
                self.now_us, _, action = pop(queue)
                count += 1
                if count > count_max:
                    raise InvariantBroken(f"no end after {self.events_max} events")
                action()
        finally:
            self.events += count
        self.now_us = end
