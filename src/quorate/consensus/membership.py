"""Who votes: configurations, simple and joint.

A configuration is membership (options are *settings*). It already has the shape that joint
consensus needs (Raft dissertation §4.3): while ``outgoing`` is not empty, decisions need a
majority of ``voters`` *and* of ``outgoing``. Membership is fixed at bootstrap for now, but all
code asks a Configuration, never a list of ids.

Invariants:
    * members are kept sorted, so that equal configurations are equal bytes everywhere
    * a node is at most one of voter and learner in the incoming half
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from quorate.errors import RemoteProtocolError, UsageError

_COUNT = struct.Struct(">H")


@dataclass(frozen=True, slots=True)
class Configuration:
    """The members of a cluster at some index of the log.

    Args:
        voters: ids (1 ...) of members that vote and store; the new half while joint.
        learners: ids that receive the log and do not vote.
        outgoing: the old half of a joint configuration; empty otherwise.
    """

    voters: tuple[int, ...]
    learners: tuple[int, ...] = ()
    outgoing: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for half in (self.voters, self.learners, self.outgoing):
            if any(node < 1 for node in half):
                raise UsageError(f"node ids start at 1: {half}")
            if list(half) != sorted(set(half)):
                raise UsageError(f"member ids must be sorted and unique: {half}")
        if set(self.voters) & set(self.learners):
            raise UsageError("a node cannot be voter and learner at once")

    @classmethod
    def of(cls, voters: Iterable[int], learners: Iterable[int] = ()) -> Configuration:
        """Build a simple configuration from ids in any order."""
        return cls(tuple(sorted(set(voters))), tuple(sorted(set(learners))))

    @property
    def is_joint(self) -> bool:
        """Whether decisions need both halves."""
        return bool(self.outgoing)

    @property
    def members(self) -> tuple[int, ...]:
        """Everybody who must receive the log, sorted."""
        return tuple(sorted({*self.voters, *self.learners, *self.outgoing}))

    def is_voter(self, node_id: int) -> bool:
        """Whether this node's vote counts in either half."""
        return node_id in self.voters or node_id in self.outgoing

    def encode(self) -> bytes:
        """Stable bytes: three counted lists of unsigned 32-bit ids."""
        parts = []
        for half in (self.voters, self.learners, self.outgoing):
            parts.append(_COUNT.pack(len(half)))
            parts.append(struct.pack(f">{len(half)}I", *half))
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> Configuration:
        """Inverse of ``encode``.

        Raises:
            RemoteProtocolError: these bytes are no configuration; nothing happened.
        """
        halves: list[tuple[int, ...]] = []
        position = 0
        try:
            for _ in range(3):
                (count,) = _COUNT.unpack_from(data, position)
                position += _COUNT.size
                halves.append(struct.unpack_from(f">{count}I", data, position))
                position += 4 * count
        except struct.error as error:
            raise RemoteProtocolError(f"malformed configuration: {error}") from None
        if position != len(data):
            raise RemoteProtocolError("trailing bytes after a configuration")
        try:
            return cls(*halves)
        except UsageError as error:
            raise RemoteProtocolError(f"malformed configuration: {error}") from None
