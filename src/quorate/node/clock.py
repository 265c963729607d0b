"""The two clocks of a node.

Decisions about time (elections, leases) use the monotonic clock; its origin means nothing. The
wall clock only stamps entries, where the leader keeps it from going back.
"""

from __future__ import annotations

import time


class Clock:
    """Monotonic and wall time in whole milliseconds."""

    def now_ms(self) -> int:
        """Monotonic time."""
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000
