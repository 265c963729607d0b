"""What is stored and shipped: entries, snapshots' metadata, and one step of persistence.

Plain values, shared by engines (which decide), storage (which writes) and the drivers between
them. This module knows no engine: ``epoch`` is Raft's term, a Paxos ballot or a ZAB epoch, and an
engine's private durable state travels as opaque bytes.

Invariants:
    * indexes start at 1 and have no gaps; 0 means "before the log"
    * epochs never fall along the log
    * the payload bytes of an entry never change, on any node, from proposal to apply
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple


class EntryKind(IntEnum):
    """What an entry's payload is."""

    NOOP = 0  # a new leadership's first entry; empty payload
    BATCH = 1  # for the state machine; encoded by replication/
    CONFIGURATION = 2  # membership; encoded by consensus/membership.py
    WITHHELD = 3  # a BATCH on a witness, which votes and keeps no data; empty payload


WITHHELD_BODY = b"withheld: this node votes and keeps no data\n"
"""What a witness stores in place of a snapshot's body."""


@dataclass(slots=True, unsafe_hash=True)
class Entry:
    """One position of the replicated log. Never changed once made.

    Not ``frozen`` only because freezing makes building one three times slower.
    """

    index: int
    epoch: int
    kind: int  # an EntryKind
    payload: bytes


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """Identity of a snapshot: the state after applying ``index``, exactly.

    ``configuration`` is the encoded membership as of ``index``: a snapshot replaces the
    configuration entries it covers (Raft §7).
    """

    index: int
    epoch: int
    configuration: bytes


class SnapshotChunk(NamedTuple):
    """A piece of a snapshot that another node sends us, to be written at ``offset``.

    ``last`` completes the file: it must become durable under its final name before the log it
    replaces is dropped. With ``discard_log`` the whole log goes (Raft Fig. 13 rule 7); without,
    the entries after ``meta.index`` stay (rule 6). ``identity`` says of exactly which bytes this is
    a piece: opaque, equal only for equal bytes; empty when the sender's storage tells none.
    """

    meta: SnapshotMeta
    offset: int
    data: bytes
    last: bool
    discard_log: bool
    identity: bytes = b""


class PartialSnapshot(NamedTuple):
    """The beginning of a snapshot from a peer that a start found: ``size_bytes`` are durable."""

    meta: SnapshotMeta
    identity: bytes
    size_bytes: int


@dataclass(slots=True)
class Persist:
    """One step of persistence, carried out in the order of the fields, then fsynced as one.

    Steps are carried out in the order of ``sequence`` (1, 2, 3 ... per process); several may share
    one fsync. ``Persisted(sequence)`` promises that this step and all before it are durable.

    Attributes:
        sequence: number of this step.
        hard_state: the engine's private durable state (Raft: term, vote), replaced as a whole.
        truncate_from: entries at and after this index are removed (a real conflict).
        entries: appended after the truncation; first index = last index + 1.
        chunk: a piece of an incoming snapshot.
        compact_to: entries up to this index may be forgotten: a durable snapshot covers them.
        is_repaired: all that ``Recovered.damage`` took is back; the disk may forget about it.
    """

    sequence: int
    hard_state: bytes | None = None
    truncate_from: int | None = None
    entries: list[Entry] = field(default_factory=list)
    chunk: SnapshotChunk | None = None
    compact_to: int | None = None
    is_repaired: bool = False


@dataclass(frozen=True, slots=True)
class Damage:
    """What a directory that was damaged can no longer vouch for.

    Entries that this node once called durable may be missing from the end of what was recovered.

    Attributes:
        is_hard_state_known: the hard state is the newest that ever was durable. Otherwise it may
            be an older one, and what it promised is forgotten.
        words: what was found where, for people.
    """

    is_hard_state_known: bool
    words: str


@dataclass(slots=True)
class Recovered:
    """What a data directory held at start; an empty directory gives the defaults.

    ``entries`` follow the snapshot without a gap; some may also lie at or before its index.
    ``partial`` is newer than the snapshot, and no part of the state.
    With ``damage`` all of it is true and some of it is missing, until a step with
    ``is_repaired`` was persisted.
    """

    hard_state: bytes | None = None
    snapshot: SnapshotMeta | None = None
    entries: list[Entry] = field(default_factory=list)
    partial: PartialSnapshot | None = None
    damage: Damage | None = None
