"""The Engine interface: events in, effects out, and the order of effects.

An engine makes replicas agree on one order of entries. It is a pure machine: no clock, no I/O, no
randomness of its own (draws are handed in), the same events give the same effects. Whoever drives
it (``replication/``, for the node and for the simulator alike) does

    engine.step(event)      any number of times: the only way in
    effects = engine.take() once per turn: the only way out

and then carries out the effects. What an engine promises is *primary-order atomic broadcast* (the
six properties of ZAB, Junqueira et al. 2011 §II): integrity, total order, agreement, local and
global primary order, primary integrity. In particular ``leadership.established`` becomes true only
after everything of earlier epochs was delivered, and nothing may be proposed before.

Nothing here names Raft. An *epoch* is a leadership's number (Raft: term).

The order of effects
====================

==========================  ====================================================================
effect                      may happen
==========================  ====================================================================
messages                    at once, before anything of the same turn is durable
persist                     in ``sequence`` order; one or several steps per fsync
messages_after_persist      only when the persist of the same turn (if none: all persists of
                            earlier turns) is durable, i.e. after its ``Persisted``
configuration               before ``messages`` of the same turn: it says where they go to
committed                   at once, in index order, each entry exactly once; entries may be
                            delivered before this node's own disk has them
barriers                    a read may be answered when the applied index reaches ``index``
read_snapshot               any time; answered by ``SnapshotRead``
install                     after the persist that completed the snapshot is durable (the engine
                            emits it then) and before any ``committed`` of the same turn
leadership                  after ``committed`` of the same turn
role_changes                any time; nothing depends on them
membership                  after ``committed`` of the same turn: a change that is done is applied
==========================  ====================================================================

Everything not forbidden here may be reordered; the simulator does. If you add an effect: update
this table, ``replication/replica.py``, and ARCHITECTURE.md.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, Protocol, TypeAlias

from quorate.consensus.change import Change
from quorate.consensus.entry import Entry, Persist, SnapshotMeta
from quorate.consensus.membership import Configuration

NO_LEADER = 0
"""Neutral node id: node ids start at 1, so "no leader" needs no ``None`` checks."""

Draw: TypeAlias = Callable[[int], int]
"""Source of randomness, handed in: ``draw(n)`` gives an integer in ``0 .. n-1``."""

Message: TypeAlias = Any
"""An engine's own message; outside the engine only ``encode`` and ``decode`` know its shape.

One that says that its sender's disk lost something has ``tells_of_loss = True``: judges count what
a node once stored until then."""


# ---- events ------------------------------------------------------------------------------------


class Tick(NamedTuple):
    """Time passed. ``now_ms`` is monotonic, in milliseconds; its origin means nothing."""

    now_ms: int


class Clock(NamedTuple):
    """What the monotonic clock shows, read *after* every event stepped before this one came in.

    No timer runs by it; a lease is judged by it. Whoever never looks gets no reads by leases.
    """

    now_ms: int


class Received(NamedTuple):
    """A message of another node's engine arrived (perhaps late, twice or out of order)."""

    sender: int
    message: Message


class Propose(NamedTuple):
    """Append this payload as a BATCH entry. Ignored (counted) unless leadership is established."""

    payload: bytes


class Persisted(NamedTuple):
    """Persistence step ``sequence`` and all before it are durable."""

    sequence: int


class ReadBarrier(NamedTuple):
    """Ask for a linearizable read point. Answered by ``barriers`` or ``barriers_failed``.

    May be asked of any node; a follower's engine asks its leader (Raft dissertation §6.4).
    """

    token: Hashable


class PeerOpened(NamedTuple):
    """A connection to this peer stands (again): a hint to probe it now instead of at a timer."""

    peer: int


class PeerClosed(NamedTuple):
    """The operating system closed this peer's connection: a hint that its process is gone.

    May start a pre-vote at once and lets voters drop their refusal for that leader. Never needed
    for safety, and it may be wrong.
    """

    peer: int


class Announce(NamedTuple):
    """Tell the members now what is committed.

    With ``EngineSettings.announce_at_once`` off a leader leaves that to its next message or tick,
    because a message that carries nothing else costs as much as one that carries a batch.
    Whoever knows that somebody waits for the news asks for it.
    """


class TransferLeadership(NamedTuple):
    """Hand leadership to ``to`` (0: the most up-to-date voter). Ignored when not leading.

    A leader also hands over by itself: to a member of higher priority that has caught up, and
    when its own disk stands still while the others' go on.
    """

    to: int = 0


class ChangeMembership(NamedTuple):
    """Change the membership. Answered by ``Effects.membership``, under ``token``.

    Only an established leader takes it, one change at a time; it is carried out in steps, each an
    entry of the log, and proposals go on meanwhile. If leadership is lost the next leader goes on,
    or knows nothing of it: ask for the configuration then.
    """

    token: Hashable
    change: Change


class SnapshotSaved(NamedTuple):
    """Our own snapshot at ``meta.index`` is durable; the log before it may be compacted."""

    meta: SnapshotMeta
    size_bytes: int


class SnapshotRead(NamedTuple):
    """Answer to ``ReadSnapshot``. ``data is None``: that snapshot is gone; start over.

    ``identity`` is opaque and equal only for pieces of equal bytes.
    """

    peer: int
    meta: SnapshotMeta
    offset: int
    data: bytes | None
    last: bool
    identity: bytes = b""


Event: TypeAlias = (
    Tick
    | Clock
    | Received
    | Propose
    | Persisted
    | ReadBarrier
    | PeerOpened
    | PeerClosed
    | Announce
    | TransferLeadership
    | ChangeMembership
    | SnapshotSaved
    | SnapshotRead
)


# ---- effects -----------------------------------------------------------------------------------


class Leadership(NamedTuple):
    """Who leads, as far as this node knows.

    ``established`` is only ever true on the leader itself: everything of earlier epochs has been
    delivered and proposals are welcome.
    """

    epoch: int
    leader: int
    established: bool


class RoleChange(NamedTuple):
    """This node asked for votes, won, or gave leadership up: for logs and metrics only.

    ``role`` as in ``EngineStatistics``: "candidate" asks, "leader" won, "follower" led until now.
    ``cause`` is one of a few phrases of the engine, fit for a label.
    """

    role: str
    epoch: int
    cause: str


class ChangeOutcome(Enum):
    """How far a change of membership has come."""

    ACCEPTED = "accepted"  # its first entry is in the leader's log; another answer follows
    DONE = "done"  # its last configuration is committed, at ``index``
    REFUSED = "refused"  # it did not happen and never will
    GIVEN_UP = "given up"  # taken back: the members are those from before
    UNKNOWN = "unknown"  # this node does not lead any more: it may or may not happen


@dataclass(frozen=True, slots=True)
class MembershipAnswer:
    """Answer to a ``ChangeMembership``. ``reason`` is for people; empty when all went well."""

    token: Hashable
    outcome: ChangeOutcome
    index: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ConfigurationInForce:
    """The configuration that this node acts on now, and the entry it comes from.

    Engines that act on a configuration before it is committed (Raft) may go back to an earlier
    one: then ``index`` is lower than the time before.
    """

    index: int
    configuration: Configuration


class ReadSnapshot(NamedTuple):
    """Read a piece of our newest snapshot for ``peer``; answer with ``SnapshotRead``."""

    peer: int
    meta: SnapshotMeta
    offset: int
    size_bytes: int


@dataclass(slots=True)
class Effects:
    """Everything that one turn decided; see the table above for the order."""

    messages: list[tuple[int, Message]] = field(default_factory=list)
    persist: Persist | None = None
    messages_after_persist: list[tuple[int, Message]] = field(default_factory=list)
    install: SnapshotMeta | None = None
    committed: list[Entry] = field(default_factory=list)
    leadership: Leadership | None = None
    configuration: ConfigurationInForce | None = None  # when it changed
    membership: tuple[MembershipAnswer, ...] = ()  # rare, so no list is made for it
    barriers: list[tuple[Hashable, int]] = field(default_factory=list)
    barriers_failed: list[Hashable] = field(default_factory=list)
    read_snapshot: list[ReadSnapshot] = field(default_factory=list)
    role_changes: list[RoleChange] = field(default_factory=list)


class PeerStatistics(NamedTuple):
    """What a leader knows about one member."""

    node_id: int
    match_index: int
    is_active: bool  # answered within the last election timeout
    state: str  # "probe", "replicate", "snapshot"


class CatchUp(NamedTuple):
    """A member that is to vote and still catches up (dissertation §4.2.1)."""

    node_id: int
    round: int  # from 1
    target_index: int  # the round ends when it has this much
    started_ms: int  # when the round began


@dataclass(frozen=True, slots=True)
class MembershipStatistics:
    """Who belongs, and what is under way."""

    index: int  # of the entry that the configuration in force comes from; 0: bootstrap
    is_committed: bool
    standing: str  # of this node: "voter", "witness", "learner", "joining", "removed"
    under_way: str  # the change under way in words; empty: none
    catching_up: tuple[CatchUp, ...]  # empty unless leading
    last_failure: str  # why this leader last gave a change up; empty: never


NO_MEMBERSHIP = MembershipStatistics(0, True, "voter", "", (), "")
"""What an engine without changes of membership has to say."""


class EngineStatistics(NamedTuple):
    """Engine-neutral numbers for status pages, metrics and tests."""

    engine: str
    role: str  # "leader", "follower", "candidate", "learner", "witness", "repairing" (its disk)
    epoch: int
    leader: int
    commit_index: int
    first_index: int
    last_index: int
    durable_index: int
    peers: tuple[PeerStatistics, ...]  # empty unless leading
    ignored: dict[str, int]  # reason -> count of events and messages ignored
    role_changes: dict[tuple[str, str], int]  # (role, cause) -> count; see RoleChange
    commit_heard: int  # the leader's commit index, as far as this node has heard
    lease_until_ms: int = 0  # on this node's clock: reads need no round before; 0: no lease
    membership: MembershipStatistics = NO_MEMBERSHIP


class Engine(Protocol):
    """One replica's consensus engine."""

    def step(self, event: Event) -> None:
        """Take one event in."""

    def take(self) -> Effects:
        """Hand out everything decided since the last call."""

    def is_quiet(self) -> bool:
        """Whether ``take`` would be empty. A hint that saves work; False is always right."""

    def encode(self, message: Message) -> bytes:
        """Turn one of this engine's messages into bytes for the wire."""

    def decode(self, data: bytes) -> Message:
        """Turn bytes from the wire into a message.

        Raises:
            RemoteProtocolError: the bytes are no message; nothing happened.
        """

    def snapshot_meta(self, index: int) -> SnapshotMeta:
        """Metadata for a snapshot of the state machine at the applied ``index``."""

    def configuration(self) -> Configuration:
        """The configuration in force."""

    def statistics(self) -> EngineStatistics:
        """Numbers for people and programs; never needed for a decision."""

    def describe(self) -> str:
        """A stable multi-line picture of the state, for traces and failure messages."""
