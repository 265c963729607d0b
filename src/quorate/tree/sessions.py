"""Sessions: who holds ephemeral znodes, and through which connection they may speak.

A session belongs to one connection at a time, its *owner*. Attaching is an entry in the log, so
all replicas agree on the owner at every point, and requests that an earlier owner sent but that are
ordered after the change are refused. When a session expires is not decided here: the leader says
so through the log.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import NamedTuple

from quorate.protocol.zookeeper import PASSWORD_SIZE
from quorate.tree.acl import Identities
from quorate.tree.results import Results


class Owner(NamedTuple):
    """One attachment of a session: a connection of one start of one node."""

    node: int
    incarnation: int
    connection: int


class Session:
    """A client's session.

    Attributes:
        session_id: the zxid that created it, so never used twice.
        password: 16 bytes; proves that a connection may attach.
        timeout_ms: how long the session outlives its last sign of life.
        owner: the connection that speaks for it now.
        identities: what the present connection has proved; replaced by every attachment.
        ephemerals: paths of the znodes that go when it goes. Iterate over them sorted.
        results: answers to commands that were asked for exactly once; None when none ever was.
        folded: the session's share of the tree's digest when that was last brought up to date.
    """

    __slots__ = (
        "ephemerals",
        "folded",
        "identities",
        "owner",
        "password",
        "results",
        "session_id",
        "timeout_ms",
    )

    def __init__(
        self,
        session_id: int,
        password: bytes,
        timeout_ms: int,
        owner: Owner,
        identities: Identities,
    ) -> None:
        assert session_id > 0
        assert len(password) == PASSWORD_SIZE
        assert timeout_ms >= 0
        self.session_id = session_id
        self.password = password
        self.timeout_ms = timeout_ms
        self.owner = owner
        self.identities = identities
        self.ephemerals: set[bytes] = set()
        self.results: Results | None = None
        self.folded = 0

    def __repr__(self) -> str:
        return (
            f"Session(0x{self.session_id:x}, timeout_ms={self.timeout_ms}, owner={self.owner}, "
            f"ephemerals={len(self.ephemerals)})"
        )

    def knows(self, password: bytes) -> bool:
        """Whether ``password`` is this session's, compared in constant time."""
        return compare_digest(self.password, password)
