"""One Raft node's whole state, and the few changes that everything else is made of.

The modules beside this one hold the rules (election, leader, follower, reads, snapshots) as
functions over this state; ``engine.py`` decides which function an event goes to. What is written
here are the operations that several of them need and that must not be done in two ways: changing
term and role, changing the log, and handing work to the disk.

Durability in one paragraph: memory is ahead of the disk. ``handed_index`` is how much of the log
was given to the disk, ``durable_index`` how much the disk has confirmed. Each step of persistence
remembers the end of the log it made durable; a truncation lowers what all unconfirmed steps will
be worth, so that a late confirmation never speaks for entries that are gone.

Invariants (all of them checked by ``invariants.py`` after every step of every test):
    * term and vote reach the disk before any message that reveals them (``send``)
    * ``delivered_index <= commit_index <= log.last_index``, ``durable_index <= handed_index``
    * the configuration in force is the latest in the log, committed or not (dissertation §4.1)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from quorate.consensus.engine import (
    NO_LEADER,
    ConfigurationInForce,
    Draw,
    Effects,
    Leadership,
    RoleChange,
)
from quorate.consensus.entry import (
    Entry,
    EntryKind,
    Persist,
    Recovered,
    SnapshotChunk,
    SnapshotMeta,
)
from quorate.consensus.log import Log, agrees_with_snapshot
from quorate.consensus.membership import Configuration
from quorate.consensus.progress import Progress
from quorate.consensus.quorum import Quorum
from quorate.consensus.raft.codec import decode_hard_state, encode_hard_state
from quorate.consensus.raft.configurations import Configurations
from quorate.consensus.raft.leases import Lease, Promise, lease_ms
from quorate.consensus.raft.messages import Append, RaftMessage, ReadReply
from quorate.consensus.raft.under_way import ChangeUnderWay, HandOver
from quorate.consensus.registry import EngineSettings
from quorate.errors import CorruptData, InvariantBroken

if TYPE_CHECKING:
    from quorate.consensus.raft.repair import Repair
_CAMPAIGN_CAUSES = (
    *("cold start", "connection of the leader closed", "election timeout"),
    "leadership handed over",
)
ROLE_CHANGES = (
    *(("candidate", cause) for cause in _CAMPAIGN_CAUSES),
    *(("leader", cause) for cause in _CAMPAIGN_CAUSES),
    ("follower", "no majority answers"),
    ("follower", "another node has a newer epoch"),
    ("follower", "leadership handed over"),
    ("follower", "removed from the cluster"),
)
"""Counted from 0: a counter that appears with its first event hides that event from a rate."""


class Role(Enum):
    """What a node is in its term."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre_candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(slots=True)
class IncomingSnapshot:
    """A snapshot of which the beginning is here; ``sender`` is whoever sent the last piece."""

    meta: SnapshotMeta
    identity: bytes
    term: int  # of the last piece
    sender: int
    next_offset: int = 0


@dataclass(slots=True)
class Installing:
    """A complete snapshot on its way to the disk; until then the log stands still."""

    meta: SnapshotMeta
    sequence: int  # the persistence step that completes it
    discard_log: bool
    sender: int


class RaftState:
    """Everything one node knows, and the primitive changes."""

    def __init__(
        self,
        *,
        node_id: int,
        configuration: Configuration,
        recovered: Recovered,
        settings: EngineSettings,
        draw: Draw,
        now_ms: int,
    ) -> None:
        assert node_id >= 1, "node ids start at 1"
        self.node_id = node_id
        self.settings = settings
        self.draw = draw
        self.now_ms = now_ms
        self.is_stalled = False  # the last tick came after a long pause of this process
        self.out = Effects()
        self.ignored: dict[str, int] = {}
        self.role_changes = dict.fromkeys(ROLE_CHANGES, 0)

        # Hard state: must be durable before it is revealed.
        self.term = 0
        self.voted_for = 0
        self.is_hard_dirty = False  # changed since the last persistence step
        self.hard_sequence = 0  # the step that carries the latest hard state

        # The log, and how far the disk is.
        self.log = Log()
        self.commit_index = 0
        self.delivered_index = 0
        self.handed_index = 0
        self.durable_index = 0
        self.sequence = 0
        self.persisted_sequence = 0
        self.unconfirmed: deque[list[int]] = deque()  # [sequence, last index it makes durable]
        self.truncate_from: int | None = None
        self.compact_to: int | None = None
        self.snapshot: SnapshotMeta | None = None  # the newest durable snapshot here
        self.repair: Repair | None = None  # the disk lost something that it had vouched for
        self.is_repair_done = False  # to be told to the disk

        # Configurations in the log: (index, configuration), the first one is the base.
        self.configurations = Configurations([(0, configuration)])
        self.quorum = Quorum(configuration)
        self.removed_index = 0  # a committed configuration without us, as others told us

        self._init_elections(now_ms)
        self._init_following()
        self._init_leading()

        # Reads: (0, token) of our own driver, (peer, number) of a follower.
        self.reads_waiting: list[tuple[int, Hashable]] = []
        self.read_rounds: deque[tuple[int, int, list[tuple[int, Hashable]]]] = deque()
        self.reads_unsent: list[Hashable] = []  # to be forwarded at the next take
        self.reads_forwarded: dict[int, tuple[int, list[Hashable]]] = {}  # number -> deadline
        # A number of an earlier life must never match: the answer to it may be outdated.
        self.read_number = draw(1 << 62)

        self.announced: Leadership | None = None
        self._recover(recovered)
        self.reset_election_timer()
        if self.configuration.voters == (node_id,) and not self.configuration.outgoing:
            self.election_deadline_ms = now_ms  # nobody to wait for, nobody to disturb
        else:
            self.promise.give()  # an earlier life of this process may have promised

    # ---- start ---------------------------------------------------------------------------------

    def _init_elections(self, now_ms: int) -> None:
        """Role, votes and timers."""
        self.role = Role.FOLLOWER
        self.leader = NO_LEADER
        self.is_leader_gone = False  # the operating system says that its process ended
        self.heard_leader_ms = now_ms
        self.is_fresh = True  # no leader was ever heard in this life of the process
        self.votes: dict[int, bool] = {}
        self.hurry = 0  # rounds left with short timeouts
        self.hurry_ms = 0  # how short the next of them is, at least
        self.is_campaign_forced = False
        self.campaign_cause = ""  # why this node asks for votes, in words
        self.election_timeout_ms = 0
        self.election_deadline_ms = 0
        promised_ms = self.settings.election_timeout_ms if self.settings.lease_reads else 0
        self.promise = Promise(promised_ms, now_ms)

    def _init_following(self) -> None:
        """As a follower: what the leader of this term has shown us."""
        self.verified_index = 0  # our log equals the leader's up to here
        self.leader_commit = 0
        self.acknowledged_index = 0
        self.is_ack_due = False
        self.incoming: IncomingSnapshot | None = None
        self.installing: Installing | None = None
        self.pending_chunk: SnapshotChunk | None = None

    def _init_leading(self) -> None:
        """As a leader: what the members have, and what is due to them."""
        self.progress: dict[int, Progress] = {}
        self.peers: list[Progress] = []
        self.matches: dict[int, int] = {}  # node -> durable index, own included
        self.actives: dict[int, int] = {}  # node -> when it last answered
        self.rounds: dict[int, int] = {}  # node -> latest heartbeat round it echoed
        self.shared_append: tuple[Append, int] | None = None  # of this turn, with its size
        self.round = 0  # never reused while this process lives
        self.is_heartbeat_due = False
        self.is_announce_due = False
        self.heartbeat_deadline_ms = 0
        self.term_start_index = 0
        self.is_term_committed = False
        self.transfer_target = 0
        self.transfer_deadline_ms = 0
        self.is_transfer_sent = False
        settings = self.settings
        self.lease = Lease(
            lease_ms(settings.election_timeout_ms, settings.clock_drift_percent)
            if settings.lease_reads
            else 0
        )
        self.promised: dict[int, int] = {}  # node -> latest round it echoed with a promise
        self.change = ChangeUnderWay()
        self.hand_over = HandOver()
        self.snapshots_waiting: dict[int, None] = {}  # members whose next piece is throttled
        self.snapshot_budget_millibytes = self.settings.snapshot_send_bytes_per_second * 100
        self.snapshot_budget_ms = self.now_ms

    def _recover(self, recovered: Recovered) -> None:
        """Take over what the disk held; a snapshot's index is committed and applied."""
        if recovered.hard_state is not None:
            decoded = decode_hard_state(recovered.hard_state)
            if decoded is None:
                raise CorruptData("hard state", 0, "it is no Raft term and vote; rebuild this node")
            self.term, self.voted_for = decoded
        entries = recovered.entries
        meta = recovered.snapshot
        if meta is not None:
            self.snapshot = meta
            if meta.epoch > self.term:
                # A snapshot of applied entries can be durable before our own log and term are. A
                # vote of that term would have been on disk before anybody learned of it.
                self.set_vote(meta.epoch, 0)
            base = self.configurations
            base[0] = (meta.index, Configuration.decode(meta.configuration))
            self.commit_index = self.delivered_index = meta.index
            if not agrees_with_snapshot(entries, meta):
                entries = []  # stopped between storing a snapshot and dropping what it replaces
            if not entries or entries[0].index == meta.index + 1:
                self.log.reset(meta.index, meta.epoch)
            elif entries[0].index > 1:
                # The epoch before the first entry is not known: let that entry be the base.
                self.log.reset(entries[0].index, entries[0].epoch)
                entries = entries[1:]
        for entry in entries:
            if entry.index != self.log.last_index + 1 or entry.epoch < self.log.last_epoch:
                reason = f"entry {entry.index} after {self.log.last_index}; rebuild this node"
                raise CorruptData("log", 0, reason)
            self.log.append(entry)
            if entry.kind == EntryKind.CONFIGURATION and entry.index > self.commit_index:
                self.configurations.append((entry.index, Configuration.decode(entry.payload)))
        if recovered.damage is not None and self.log.last_epoch > self.term:
            assert not recovered.damage.is_hard_state_known, "a known term is as high as the log's"
            self.set_vote(self.log.last_epoch, 0)
        if self.log.last_epoch > self.term:
            reason = f"term {self.term} below the log's last epoch {self.log.last_epoch}"
            raise CorruptData("hard state", 0, reason + "; a vote may be lost, rebuild this node")
        if (partial := recovered.partial) is not None:
            self.incoming = IncomingSnapshot(
                partial.meta, partial.identity, self.term, NO_LEADER, partial.size_bytes
            )
        self.quorum = Quorum(self.configurations[-1][1])
        self.handed_index = self.durable_index = self.log.last_index
        assert self.commit_index <= self.log.last_index, "a snapshot beyond the log"

    # ---- small questions -----------------------------------------------------------------------

    @property
    def configuration(self) -> Configuration:
        """The configuration in force: the latest in the log."""
        return self.configurations[-1][1]

    @property
    def is_told_removed(self) -> bool:
        """Whether others know a later configuration, committed, that has no place for us."""
        return self.removed_index > self.configurations[-1][0]

    def configuration_at(self, index: int) -> Configuration:
        """The configuration in force at ``index``."""
        return self.configurations.at(index)[1]

    @property
    def is_hard_durable(self) -> bool:
        """Whether term and vote as they are now are on disk."""
        return not self.is_hard_dirty and self.persisted_sequence >= self.hard_sequence

    @property
    def is_established(self) -> bool:
        """Whether proposals are welcome."""
        return self.role is Role.LEADER and self.is_term_committed and not self.transfer_target

    def ignore(self, reason: str) -> None:
        """Count an event or message that has no effect; the reasons show up in statistics."""
        self.ignored[reason] = self.ignored.get(reason, 0) + 1

    def note_role(self, role: str, cause: str) -> None:
        """Count and tell why this node's part in leadership changed."""
        self.role_changes[role, cause] = self.role_changes.get((role, cause), 0) + 1
        self.out.role_changes.append(RoleChange(role, self.term, cause))

    # ---- messages ------------------------------------------------------------------------------

    def send(self, to: int, message: RaftMessage) -> None:
        """Send, but never before the term and vote that the message reveals are durable."""
        if self.is_hard_dirty or self.persisted_sequence < self.hard_sequence:
            self.out.messages_after_persist.append((to, message))
        else:
            self.out.messages.append((to, message))

    # ---- terms and roles -----------------------------------------------------------------------

    def reset_election_timer(self) -> None:
        """Start waiting anew, for a freshly drawn time, [T, 2T) unless set otherwise (§5.2)."""
        timeout = self.settings.election_timeout_ms
        spread = self.settings.election_timeout_spread_ms
        if spread is None:
            spread = timeout
        self.election_timeout_ms = timeout + (self.draw(spread) if spread else 0)
        self.election_deadline_ms = self.now_ms + self.election_timeout_ms

    def set_vote(self, term: int, voted_for: int) -> None:
        """Change term and vote together: they are one value on disk."""
        assert term >= self.term, "terms never fall"
        if term == self.term:
            assert self.voted_for in (0, voted_for), "one vote per term"
        self.term = term
        self.voted_for = voted_for
        self.is_hard_dirty = True

    def set_leader(self, leader: int) -> None:
        """Note who leads; reads that were on their way to another leader fail."""
        if leader == self.leader:
            return
        self.leader = leader
        self.is_leader_gone = False
        self.fail_forwarded_reads()

    def become_follower(
        self, term: int, leader: int, cause: str = "another node has a newer epoch"
    ) -> None:
        """Follow: because of a newer term, a live leader, or a lost majority.

        Keeps the election timer, which only a current leader, a granted vote or an own campaign
        may reset; except for a deposed leader, which had none. ``cause`` says why a leader ceased.
        """
        assert term >= self.term, "terms never fall"
        was_leader = self.role is Role.LEADER
        if was_leader and self.transfer_target and self.is_transfer_sent and term > self.term:
            cause = "leadership handed over"
        if term > self.term:
            self.set_vote(term, 0)
            self.forget_leaders_word()
            self.fail_forwarded_reads()
            self.is_leader_gone = False
        self.role = Role.FOLLOWER
        self.votes.clear()
        self.is_campaign_forced = False
        self.set_leader(leader)
        if was_leader:
            self.note_role("follower", cause)
            self._drop_leadership()

    def forget_leaders_word(self) -> None:
        """What an earlier leader showed us means nothing in a new term."""
        self.verified_index = 0
        self.leader_commit = 0
        self.acknowledged_index = 0
        self.is_ack_due = False

    def _drop_leadership(self) -> None:
        self.progress.clear()
        self.peers.clear()
        self.matches.clear()
        self.actives.clear()
        self.rounds.clear()
        self.promised.clear()
        self.lease.begin_term()
        self.is_heartbeat_due = False
        self.is_announce_due = False
        self.is_term_committed = False
        self.transfer_target = 0
        self.out.membership += self.change.lost()
        self.change = ChangeUnderWay()
        self.hand_over = HandOver()
        self.snapshots_waiting.clear()
        waiting = self.reads_waiting
        for _, _, readers in self.read_rounds:
            waiting.extend(readers)
        self.reads_waiting = []
        self.read_rounds.clear()
        for reader in waiting:
            self.fail_read(reader)
        self.reset_election_timer()

    # ---- reads that fail -----------------------------------------------------------------------

    def fail_read(self, reader: tuple[int, Hashable]) -> None:
        """Tell a waiting reader to ask again."""
        peer, token = reader
        if peer:
            assert isinstance(token, int), "a follower's reads are numbered"
            self.send(peer, ReadReply(self.term, token, 0))
        else:
            self.out.barriers_failed.append(token)

    def fail_forwarded_reads(self) -> None:
        """The leader we asked is not our leader any more: the driver asks again."""
        failed = self.out.barriers_failed
        failed.extend(self.reads_unsent)
        self.reads_unsent.clear()
        for _, tokens in self.reads_forwarded.values():
            failed.extend(tokens)
        self.reads_forwarded.clear()

    # ---- the log -------------------------------------------------------------------------------

    def append_entry(self, entry: Entry) -> None:
        """Add one entry at the end of the log in memory; ``take`` hands it to the disk."""
        self.log.append(entry)
        if entry.kind == EntryKind.CONFIGURATION:
            self._adopt(entry.index, Configuration.decode(entry.payload))

    def truncate(self, index: int) -> None:
        """Remove a conflicting suffix: from the log, and from what the disk may confirm."""
        if index <= self.commit_index:
            raise InvariantBroken(
                f"node {self.node_id} would truncate at {index}, below its commit index "
                f"{self.commit_index} in term {self.term}"
            )
        self.log.truncate_from(index)
        end = index - 1
        if self.handed_index > end:
            self.handed_index = end
            before = self.truncate_from
            self.truncate_from = index if before is None else min(before, index)
        self.durable_index = min(self.durable_index, end)
        for step in self.unconfirmed:
            step[1] = min(step[1], end)
        if self.configurations.roll_back(end):
            self._act_on_configuration()

    def _adopt(self, index: int, configuration: Configuration) -> None:
        """The latest configuration in the log counts, committed or not."""
        assert index > self.configurations[-1][0], "configurations come in log order"
        self.configurations.append((index, configuration))
        self._act_on_configuration()

    def restart_configurations(self, meta: SnapshotMeta) -> None:
        """A snapshot replaces the log, and with it all configurations that it held (§7)."""
        self.configurations[:] = [(meta.index, Configuration.decode(meta.configuration))]
        self._act_on_configuration()

    def _act_on_configuration(self) -> None:
        """Another configuration is in force now: count by it, and tell the driver."""
        index, configuration = self.configurations[-1]
        if configuration != self.quorum.configuration:
            self.out.configuration = ConfigurationInForce(index, configuration)
        self.quorum = Quorum(configuration)
        self.lease.drop()  # it was given by another quorum

    def compact(self, to: int) -> None:
        """Forget the log up to ``to``, which a durable snapshot covers."""
        assert to <= self.delivered_index, "only what was delivered may be forgotten"
        if self.log.compact(to):
            self.compact_to = to
            self.configurations.forget_before(to)

    # ---- effects -------------------------------------------------------------------------------

    def hand_to_disk(self) -> None:
        """Gather what changed since the last turn into one step of persistence."""
        last = self.log.last_index
        handed = self.handed_index
        if (
            last == handed
            and not self.is_hard_dirty
            and self.truncate_from is None
            and self.pending_chunk is None
            and self.compact_to is None
            and not self.is_repair_done
        ):
            return
        self.sequence += 1
        persist = Persist(self.sequence)
        if last > handed:
            persist.entries = self.log.since(handed + 1)
            self.handed_index = last
        if self.is_hard_dirty:
            persist.hard_state = encode_hard_state(self.term, self.voted_for)
            self.is_hard_dirty = False
            self.hard_sequence = self.sequence
        persist.truncate_from = self.truncate_from
        persist.chunk = self.pending_chunk
        persist.compact_to = self.compact_to
        persist.is_repaired = self.is_repair_done
        self.truncate_from = self.pending_chunk = self.compact_to = None
        self.is_repair_done = False
        self.unconfirmed.append([self.sequence, last])
        self.out.persist = persist

    def deliver(self) -> None:
        """Hand out what became committed, in order, each entry once."""
        delivered = self.delivered_index
        if self.commit_index > delivered:
            self.out.committed = self.log.between(delivered + 1, self.commit_index)
            self.delivered_index = self.commit_index

    def is_settled(self) -> bool:
        """Whether all that was decided has been handed out."""
        told = self.announced
        if (
            self.commit_index != self.delivered_index
            or self.handed_index != self.log.last_index
            or self.is_hard_dirty
            or self.truncate_from is not None
            or self.compact_to is not None
            or self.pending_chunk is not None
            or self.is_repair_done
            or told is None
            or told.epoch != self.term
            or told.leader != self.leader
            or told.established != self.is_established
        ):
            return False
        out = self.out
        return not (
            out.messages
            or out.messages_after_persist
            or out.barriers
            or out.barriers_failed
            or out.read_snapshot
            or out.committed
            or out.leadership
            or out.configuration
            or out.membership
            or out.install
            or out.persist
            or out.role_changes
        )

    def announce(self) -> None:
        """Tell the driver who leads, when that changed."""
        established = self.is_established
        told = self.announced
        if (
            told is None
            or told.established != established
            or told.leader != self.leader
            or told.epoch != self.term
        ):
            self.announced = self.out.leadership = Leadership(self.term, self.leader, established)
