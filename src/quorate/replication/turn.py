"""What one turn of a replica asks its driver to do, and the settings of a replica.

The driver (the node process, or the simulator) carries out a Turn in the order of its fields. The
order is chosen for latency, not for safety: everything that must wait for the disk is held inside
the replica until ``persisted`` says so, so a driver cannot get durability wrong by reordering.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from quorate.consensus.engine import (
    ConfigurationInForce,
    Leadership,
    MembershipAnswer,
    ReadSnapshot,
    RoleChange,
)
from quorate.consensus.entry import Persist, SnapshotMeta
from quorate.errors import SettingsError


class Channel(IntEnum):
    """What a message between two replicas is; travels as one byte (0 is the links' own hello)."""

    ENGINE = 1  # for the consensus engine; encoded by it
    FORWARD = 2  # sub-batches for the leader
    NOTICE = 3  # hints of the state machine's owner for the leader (sessions heard from)
    DIGEST = 4  # a state digest at an index


class SnapshotJob(NamedTuple):
    """Write these pieces as the snapshot ``meta``, then call ``snapshot_saved``.

    ``chunks`` is lazy: pull a piece, write it, let the loop turn, pull the next. It raises
    InvariantBroken if pulled after ``Turn.abandon_snapshot``.
    """

    meta: SnapshotMeta
    chunks: Iterator[bytes]


@dataclass(slots=True)
class Turn:
    """Everything to do after one ``take``; see the module docstring.

    Attributes:
        sends: (peer, channel, payload) to hand to the peer links, in order per peer.
        persists: steps for the disk, in order; ``persisted(sequence)`` when durable.
        may_wait_for_disk: nothing else happens to these entries before they are durable here, so
            the driver may as well wait. False on a leader among others: their disks work beside
            its own, and its heartbeats must not wait.
        announce_soon: call ``announce`` in about a millisecond, unless a turn with ``persists``
            comes first (its messages carry the news). Only other nodes' reads and watches gain.
        results: (batch number, result) of local batches applied this turn.
        released: tokens of read barriers whose read point has been applied here.
        leadership: news about who leads; None when nothing changed.
        configuration: who belongs now, with addresses; None when nothing changed. Links to new
            members must be made before ``sends`` are handed over; links to those who left can
            go once what was sent to them has left.
        membership: answers to ``change_membership``, by token.
        install: load this snapshot from storage and call ``Replica.install``.
        abandon_snapshot: stop pulling the running SnapshotJob and drop its file.
        save_snapshot: start writing a snapshot.
        read_snapshot: pieces of a snapshot to read for peers; answer with ``snapshot_read``.
        submitted: number of the newest local batch, when this turn is the first that knows of it;
            0 when there is none. With ``results`` a driver can time batches.
        role_changes: this node asked for votes, won or gave leadership up; for logs.
        again: there is more to decide already: take another turn without waiting for an event.
        fatal: the node must stop now, with this message.
    """

    sends: list[tuple[int, int, bytes]] = field(default_factory=list)
    persists: list[Persist] = field(default_factory=list)
    may_wait_for_disk: bool = False
    announce_soon: bool = False
    results: list[tuple[int, Any]] = field(default_factory=list)
    released: list[Hashable] = field(default_factory=list)
    leadership: Leadership | None = None
    configuration: ConfigurationInForce | None = None
    membership: tuple[MembershipAnswer, ...] = ()
    install: SnapshotMeta | None = None
    abandon_snapshot: bool = False
    save_snapshot: SnapshotJob | None = None
    read_snapshot: list[ReadSnapshot] = field(default_factory=list)
    submitted: int = 0
    role_changes: list[RoleChange] = field(default_factory=list)
    again: bool = False
    fatal: str | None = None


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """Bounds and intervals of a replica.

    Attributes:
        entry_bytes_max: about the most payload in one entry; one larger sub-batch still travels.
        intake_bytes_max: most bytes waiting at the leader to become entries.
        forward_bytes_max: about the most bytes in one FORWARD message.
        resend_ms: unapplied batches go to the leader again after so long without progress. Only
            lost messages need it; a new leader or link is noticed at once.
        digest_interval: replicas compare digests every so many entries; 0 switches it off.
        snapshot_bytes_min: never snapshot for less log than this.
        snapshot_factor: snapshot when the log since the last one exceeds the state's size times
            this (dissertation §5.1.2: by ratio, not by a fixed count) or up to half as much again,
            so that nodes do not all do it at one time. A restart loads the state
            and replays the log, of which a byte takes two to three times as long. Large: restarts
            take long, and the log in memory is large. Small: snapshots all the time.
        snapshot_retry_ms: a snapshot that did not fit on the disk is tried again after this.
    """

    entry_bytes_max: int = 1 << 20
    intake_bytes_max: int = 64 << 20
    forward_bytes_max: int = 4 << 20
    resend_ms: int = 500
    digest_interval: int = 256
    snapshot_bytes_min: int = 8 << 20
    snapshot_factor: float = 0.4
    snapshot_retry_ms: int = 30_000

    def __post_init__(self) -> None:
        if self.intake_bytes_max < self.entry_bytes_max:
            raise SettingsError("intake_bytes_max must be at least entry_bytes_max")
        if self.snapshot_bytes_min < 1 or self.snapshot_factor < 0:
            raise SettingsError("snapshot_bytes_min must be positive, snapshot_factor not negative")
