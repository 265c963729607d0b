"""The configurations that a node's log holds, from the latest committed one on.

A node acts on the latest configuration in its log, committed or not (dissertation §4.1). If that
entry is truncated, it goes back to the one before, which may live in a snapshot alone. So all
configurations are kept from the one in force at the base of the log.

Invariants:
    * indexes rise; the first one is the base, which is never rolled back
    * a configuration is kept for every index that is still in the log, and for its base
"""

from __future__ import annotations

from quorate.consensus.membership import Configuration


class Configurations(list[tuple[int, Configuration]]):
    """(index, configuration) in log order."""

    __slots__ = ()

    def at(self, index: int) -> tuple[int, Configuration]:
        """The configuration in force at ``index``, and the index of its entry."""
        for since, configuration in reversed(self):
            if since <= index:
                return since, configuration
        return self[0]

    def roll_back(self, last_index: int) -> bool:
        """Drop those behind the end of the log; say whether there were any."""
        if self[-1][0] <= last_index:
            return False
        while self[-1][0] > last_index:
            self.pop()
        assert self, "the base configuration is never rolled back"
        return True

    def forget_before(self, index: int) -> None:
        """Keep one configuration at or before ``index`` as the base of the others."""
        while len(self) > 1 and self[1][0] <= index:
            del self[0]
