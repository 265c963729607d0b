"""The two clocks of a node.

Decisions about time (elections, leases) use a clock that is never set; its origin means nothing. It
goes on while the machine is suspended (``CLOCK_BOOTTIME``): a lease must not last longer because
its leader slept. The wall clock only stamps entries, where the leader keeps it from going back.
"""

from __future__ import annotations

import time


class Clock:
    """Monotonic and wall time in whole milliseconds."""

    def now_ms(self) -> int:
        """Monotonic time, suspension included."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000
