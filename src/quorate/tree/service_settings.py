"""What the client service can be told.

Invariant: every bound on what one client, or all of them, may cost a node is a field here, so
that a reader can add them up.
"""

from __future__ import annotations

from dataclasses import dataclass

from quorate.errors import SettingsError
from quorate.protocol.zookeeper import FRAME_SIZE_MAX
from quorate.tree.watches import WATCHES_PER_CONNECTION_MAX


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Settings of the service for ZooKeeper clients.

    Attributes:
        session_timeout_min_ms: shortest session timeout granted (ZooKeeper: two ticks).
        session_timeout_max_ms: longest session timeout granted (ZooKeeper: twenty ticks).
        handshake_timeout_ms: how long a connection may stay without a handshake.
        notice_interval_ms: how often a follower tells the leader which sessions it heard.
        reap_interval_ms: how often the leader looks for empty containers and znodes out of time.
        frame_bytes_max: longest request (``jute.maxbuffer``).
        connections_max: connections at once.
        connections_per_address_max: the same from one address.
        connection_outstanding_bytes_max: requests of one connection that wait, before it is
            not read any more.
        outstanding_bytes_max: the same for all connections together.
        output_bytes_max: answers to reads queued on one connection before others wait.
        batch_bytes_max: aim for the size of a batch; a single run may exceed it.
        watches_per_connection_max: a connection that asks for more is closed.
        fresh_reads: every read waits for a read point, so that it is linearizable (docs/reads.md).
        super_digest: ``user:base64(sha1(user:password))`` of the superuser; empty for none.
    """

    session_timeout_min_ms: int = 4_000
    session_timeout_max_ms: int = 40_000
    handshake_timeout_ms: int = 10_000
    notice_interval_ms: int = 500
    reap_interval_ms: int = 60_000
    frame_bytes_max: int = FRAME_SIZE_MAX
    connections_max: int = 10_000
    connections_per_address_max: int = 10_000
    connection_outstanding_bytes_max: int = 4 << 20
    outstanding_bytes_max: int = 64 << 20
    output_bytes_max: int = 1 << 20
    batch_bytes_max: int = 4 << 20
    watches_per_connection_max: int = WATCHES_PER_CONNECTION_MAX
    fresh_reads: bool = False
    super_digest: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.session_timeout_min_ms <= self.session_timeout_max_ms:
            raise SettingsError(
                "session timeouts must be positive and the minimum not above the maximum: "
                f"{self.session_timeout_min_ms} and {self.session_timeout_max_ms} ms are given"
            )
        if self.frame_bytes_max > self.connection_outstanding_bytes_max:
            raise SettingsError(
                "a connection must be allowed one request of full length: raise "
                "connection_outstanding_bytes_max to at least frame_bytes_max"
            )
        if self.super_digest and ":" not in self.super_digest:
            raise SettingsError("super_digest must have the form user:base64(sha1(user:password))")

    def negotiate_timeout_ms(self, wanted_ms: int) -> int:
        """The session timeout granted to a client that would like this one."""
        return min(max(wanted_ms, self.session_timeout_min_ms), self.session_timeout_max_ms)

    @property
    def notice_every_ms(self) -> int:
        """Interval of notices; an eighth of the shortest timeout leaves room for their journey."""
        return max(1, min(self.notice_interval_ms, self.session_timeout_min_ms // 8))

    @property
    def stall_ms(self) -> int:
        """A tick that comes later than this after the one before: the process stood still.

        An eighth of the shortest timeout leaves room for a long hiccup; the rest of such a gap is
        no time in which a session could have been heard.
        """
        return max(1, self.session_timeout_min_ms // 8)

    @property
    def clock_bucket_ms(self) -> int:
        """Granularity of expiry: a small part of the shortest timeout."""
        return max(1, min(100, self.session_timeout_min_ms // 20))
