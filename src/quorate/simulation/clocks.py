"""A node's clocks and its disk's pace: how its time differs from the world's.

Everything here is computed from the world's time; nothing runs by itself. Pausing a node is its
driver's business.

Invariants:
    * a monotonic clock never goes back while its node is up, whatever its drift does
    * only the wall clock jumps
"""

from __future__ import annotations

from quorate.simulation.world import World

WALL_ORIGIN_MS = 1_700_000_000_000
"""Where the wall clocks of a simulated world begin (November 2023)."""

DRIFT_PPM_MAX = 100_000
"""10 %: far worse than any quartz, as a virtual machine's clock may be."""

_MILLION = 1_000_000


class VirtualClock:
    """The two clocks of one node.

    Args:
        world: true time.
        drift_ppm: how much faster (above 0) or slower the node's oscillator runs, in millionths.
        wall_offset_ms: how far its wall clock is ahead of the true one.
    """

    def __init__(self, world: World, *, drift_ppm: int = 0, wall_offset_ms: int = 0) -> None:
        self._world = world
        self._drift_ppm = 0
        self._since_us = world.now_us  # since when the drift is what it is
        self._local_us = world.now_us  # what the monotonic clock showed then
        self._wall_offset_ms = WALL_ORIGIN_MS + wall_offset_ms
        self.drift(drift_ppm)

    def now_us(self) -> int:
        """Monotonic time in microseconds."""
        elapsed_us = self._world.now_us - self._since_us
        return self._local_us + elapsed_us * (_MILLION + self._drift_ppm) // _MILLION

    def now_ms(self) -> int:
        """Monotonic time in milliseconds."""
        return self.now_us() // 1000

    def wall_ms(self) -> int:
        """The wall clock: milliseconds since 1970. It drifts as the monotonic one, and may jump."""
        return self._wall_offset_ms + self.now_ms()

    @property
    def drift_ppm(self) -> int:
        """How much faster than the world the clock runs, in millionths."""
        return self._drift_ppm

    def drift(self, ppm: int) -> None:
        """Run faster or slower from now on; what the clock shows does not jump."""
        assert -DRIFT_PPM_MAX <= ppm <= DRIFT_PPM_MAX
        self._local_us, self._since_us = self.now_us(), self._world.now_us
        self._drift_ppm = ppm

    def jump(self, ms: int) -> None:
        """Set the wall clock forward, or back when negative."""
        self._wall_offset_ms += ms

    def reboot(self) -> None:
        """The machine starts anew: its monotonic clock begins at zero, the wall clock goes on."""
        self._wall_offset_ms += self.now_ms()
        self._local_us, self._since_us = 0, self._world.now_us

    def world_us(self, local_us: int) -> int:
        """How long the world takes while this clock moves on by ``local_us``."""
        return local_us * _MILLION // (_MILLION + self._drift_ppm)


class DiskTiming:
    """How long a disk takes for what it is asked.

    Args:
        world: time and dice.
        range_us: shortest and longest sync of the healthy disk.
    """

    def __init__(self, world: World, range_us: tuple[int, int] = (100, 1_000)) -> None:
        assert 0 <= range_us[0] <= range_us[1]
        self._world = world
        self._range_us = range_us
        self._factor = 1
        self._stalled_until_us = 0

    def slow(self, factor: int) -> None:
        """Take this many times as long from now on; 1: healthy."""
        assert factor >= 1
        self._factor = factor

    def stall(self, until_us: int) -> None:
        """Finish nothing that is asked for from now on before this virtual time."""
        self._stalled_until_us = until_us

    def calm(self) -> None:
        """Be healthy again."""
        self._factor, self._stalled_until_us = 1, 0

    def next_us(self) -> int:
        """The duration of the next operation, drawn."""
        low_us, high_us = self._range_us
        duration_us = (low_us + self._world.draw(high_us - low_us + 1)) * self._factor
        return max(0, self._stalled_until_us - self._world.now_us) + duration_us
