"""Why strangers' connections were refused, in the log, without letting them fill it."""

from __future__ import annotations

from quorate.node.events import CONNECTION_REFUSED

_COMPLAINTS_MAX = 256


class Complaints:
    """Says why connections were refused, without letting strangers fill the log.

    The same words about the same host are said the 1st, 2nd, 4th, 8th ... time.

    Args:
        door: what was connected to, for people.
    """

    def __init__(self, door: str) -> None:
        self._door = door
        self._counts: dict[tuple[str, str], int] = {}
        self.refused = 0

    def say(self, host: str, reason: str) -> None:
        """A connection from this host was refused."""
        self.refused += 1
        count = self._counts.pop((host, reason), 0) + 1
        if len(self._counts) >= _COMPLAINTS_MAX:
            del self._counts[next(iter(self._counts))]
        self._counts[host, reason] = count
        if count & (count - 1) == 0:
            times = f" ({count} times so far)" if count > 1 else ""
            CONNECTION_REFUSED.say(host=host, door=self._door, reason=reason, times=times)
