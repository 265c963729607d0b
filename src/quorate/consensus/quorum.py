"""Quorums: when have enough voters agreed, for a simple or a joint configuration.

One question in three dresses: which *index* has a quorum stored, which *round* has a quorum
answered, at which *time* was a quorum last heard. All are "the largest value that enough voters
have reached", so there is one function, ``committed``.

This module knows no engine, no log and no time: numbers and ids only.

Invariants:
    * a joint configuration decides only what both halves decide (Raft dissertation §4.3)
    * learners and strangers never count, whatever the caller passes in
    * a voter counts once, because answers are kept per voter
    * an empty quorum has everything committed and every vote won: the neutral element, so that a
      half without voters needs no special case
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from quorate.consensus.membership import Configuration

EVERYTHING = (1 << 63) - 1
"""What an empty quorum has committed: larger than any index."""


class VoteResult(Enum):
    """Where a vote stands."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


class Quorum:
    """The sets of voters of one configuration whose agreement decides."""

    __slots__ = ("_halves", "configuration")

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        halves = (configuration.voters, configuration.outgoing)
        self._halves = tuple(half for half in halves if half)

    def committed(self, acks: Mapping[int, int]) -> int:
        """Return the largest value that a quorum has reached; voters not in ``acks`` reached 0."""
        result = EVERYTHING
        for half in self._halves:
            values = [acks.get(voter, 0) for voter in half]
            values.sort()
            # Of n values in ascending order, the one at (n - 1) // 2 has n // 2 + 1 values at or
            # above it (itself included): a majority, for even n too.
            value = values[(len(values) - 1) >> 1]
            result = min(result, value)
        return result

    def vote_result(self, votes: Mapping[int, bool]) -> VoteResult:
        """Say whether a vote is won, lost or still open; voters not in ``votes`` are pending."""
        result = VoteResult.WON
        for half in self._halves:
            answers = [votes[voter] for voter in half if voter in votes]
            granted = sum(answers)
            refused = len(answers) - granted
            needed = len(half) // 2 + 1
            if len(half) - refused < needed:
                return VoteResult.LOST
            if granted < needed:
                result = VoteResult.PENDING
        return result

    def describe(self, acks: Mapping[int, int]) -> str:
        """Draw one bar per voter and the committed value, for people.

        The bars show the order of the voters' values, not their size::

            n1 ====> 7
            n2 ==>   5  <- committed
            n3 >     2
        """
        lines: list[str] = []
        for half in self._halves:
            values = {voter: acks.get(voter, 0) for voter in half}
            decided = sorted(values.values())[(len(half) - 1) >> 1]
            order = sorted(half, key=lambda voter: (values[voter], voter))
            rank = {voter: 2 * position for position, voter in enumerate(order)}
            width = 2 * len(half)
            marked = False
            for voter in half:
                bar = ("=" * rank[voter] + ">").ljust(width)
                line = f"n{voter} {bar} {values[voter]}"
                if values[voter] == decided and not marked:
                    line += "  <- committed"
                    marked = True
                lines.append(line)
        return "\n".join(lines) if lines else "no voters: everything is committed"
