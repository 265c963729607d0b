"""A tiny in-memory cluster of Raft engines: explicit messages, explicit persistence, one clock.

Nothing happens by itself: messages wait in ``network`` until they are delivered or dropped, steps
of persistence wait in each node until they are confirmed (unless ``instant_disk``), and time
passes only by ``advance``. The invariants run after every step, every message goes through the
codec, and every read point is compared with what was committed anywhere when the read was asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from zlib import crc32

from quorate.consensus.change import Change, MemberRole, NewMember
from quorate.consensus.engine import (
    ChangeMembership,
    ChangeOutcome,
    Clock,
    Effects,
    Event,
    Leadership,
    MembershipAnswer,
    PeerClosed,
    PeerOpened,
    Persisted,
    Propose,
    ReadBarrier,
    Received,
    SnapshotRead,
    SnapshotSaved,
    Tick,
    TransferLeadership,
)
from quorate.consensus.entry import (
    Damage,
    Entry,
    EntryKind,
    PartialSnapshot,
    Persist,
    Recovered,
    SnapshotChunk,
    SnapshotMeta,
)
from quorate.consensus.membership import Configuration
from quorate.consensus.raft import invariants
from quorate.consensus.raft.codec import encode_hard_state
from quorate.consensus.raft.engine import RaftEngine
from quorate.consensus.raft.messages import RaftMessage
from quorate.consensus.raft.state import RaftState, Role
from quorate.consensus.registry import EngineSettings


class Generator:
    """A small linear congruential generator: the same numbers on every Python, for ever."""

    def __init__(self, seed: int) -> None:
        self._state = (seed * 2654435761 + 1) & 0xFFFFFFFFFFFFFFFF

    def draw(self, n: int) -> int:
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self._state >> 24) % n


def add(*nodes: int, role: MemberRole = MemberRole.VOTER) -> Change:
    """A change that adds nodes."""
    return Change(add=tuple([NewMember(node, role) for node in nodes]))


def remove(*nodes: int) -> Change:
    """A change that removes nodes."""
    return Change(remove=nodes)


def replace(old: int, new: int) -> Change:
    """A change that puts one node in the place of another."""
    return Change(add=(NewMember(new),), remove=(old,))


def identity_of(data: bytes) -> bytes:
    """Equal for equal bytes, as storage tells it."""
    return crc32(data).to_bytes(4)


@dataclass
class MemoryDisk:
    """What one node's disk durably holds."""

    hard_state: bytes | None = None
    snapshot: SnapshotMeta | None = None
    snapshot_data: bytes = b""
    entries: list[Entry] = field(default_factory=list)
    incoming: bytes = b""
    partial: SnapshotChunk | None = None  # the last piece of what is incoming
    damage: Damage | None = None

    def lose(self, entries: int, *, hard_state: bytes | None = None) -> None:
        """Damage: only so many entries are left; with a hard state, only this old one."""
        self.entries = self.entries[:entries]
        if hard_state is not None:
            self.hard_state = hard_state
        self.damage = Damage(is_hard_state_known=hard_state is None, words="planted damage")

    def carry_out(self, persist: Persist) -> None:
        """Make one step durable, in the order of its fields."""
        if persist.hard_state is not None:
            self.hard_state = persist.hard_state
        if persist.truncate_from is not None:
            self.entries = [e for e in self.entries if e.index < persist.truncate_from]
        for entry in persist.entries:
            if self.entries:
                assert entry.index == self.entries[-1].index + 1, "the log on disk has no gaps"
            self.entries.append(entry)
        chunk = persist.chunk
        if chunk is not None:
            if chunk.offset == 0:
                self.incoming = b""
            assert chunk.offset == len(self.incoming), "pieces of a snapshot follow each other"
            self.incoming += chunk.data
            self.partial = None if chunk.last else chunk
            if chunk.last:
                self.save_snapshot(chunk.meta, self.incoming)
                if chunk.discard_log:
                    self.entries = []
        if persist.compact_to is not None:
            assert self.snapshot is not None, "compaction without a snapshot"
            assert persist.compact_to <= self.snapshot.index, "compaction beyond the snapshot"
            self.entries = [e for e in self.entries if e.index > persist.compact_to]
        if persist.is_repaired:
            self.damage = None

    def save_snapshot(self, meta: SnapshotMeta, data: bytes) -> None:
        self.snapshot, self.snapshot_data = meta, data

    def recovered(self) -> Recovered:
        """What the node finds at start; a log that ends before the snapshot is dropped."""
        meta = self.snapshot
        if meta is not None and self.entries and self.entries[-1].index < meta.index:
            self.entries = []
        partial = None
        if self.partial is not None and self.partial.identity:
            last = self.partial
            partial = PartialSnapshot(last.meta, last.identity, len(self.incoming))
        return Recovered(self.hard_state, meta, list(self.entries), partial, self.damage)


def describe_message(message: RaftMessage) -> str:
    """One short line: the kind and its fields, entries as index:term."""
    parts = [type(message).__name__]
    for name in message.__slots__:
        value = getattr(message, name)
        if isinstance(value, SnapshotMeta):
            parts.append(f"snapshot={value.index}:t{value.epoch}")
        elif isinstance(value, list):
            parts.append("[" + " ".join(f"{e.index}:t{e.epoch}" for e in value) + "]")
        elif name == "identity":
            parts.append(f"identity={value.hex()}")
        elif isinstance(value, bytes):
            parts.append(f"bytes={len(value)}")
        elif isinstance(value, bool):
            parts.extend([name.removeprefix("is_")] if value else [])
        elif name == "term":
            parts.append(f"t{value}")
        elif name != "number":
            parts.append(f"{name}={value}")
    return " ".join(parts)


@dataclass
class Letter:
    """A message on the network."""

    sender: int
    to: int
    message: RaftMessage

    def __str__(self) -> str:
        return f"n{self.sender}>n{self.to} {describe_message(self.message)}"


@dataclass
class PendingPersist:
    """A step of persistence that the disk has not confirmed, and the messages that wait for it."""

    persist: Persist
    letters: list[Letter] = field(default_factory=list)


class Node:
    """One engine with its disk and a state machine that remembers what it applied."""

    def __init__(self, node_id: int, configuration: Configuration) -> None:
        self.node_id = node_id
        self.configuration = configuration  # what it is told at its first start
        self.disk = MemoryDisk()
        self.engine: RaftEngine | None = None
        self.reset()

    def reset(self) -> None:
        """Forget everything that does not survive a crash."""
        self.engine = None
        self.pending: list[PendingPersist] = []
        self.applied_index = 0
        self.applied: list[str] = []
        self.leadership = Leadership(0, 0, established=False)

    @property
    def is_up(self) -> bool:
        return self.engine is not None

    @property
    def state(self) -> RaftState:
        assert self.engine is not None, f"node {self.node_id} is down"
        return self.engine.state


class RaftCluster:
    """Nodes, a network that keeps every message until told otherwise, and a clock."""

    def __init__(
        self,
        voters: int = 3,
        *,
        learners: int = 0,
        seed: int = 1,
        settings: EngineSettings | None = None,
        instant_disk: bool = True,
        configuration: Configuration | None = None,
    ) -> None:
        if configuration is None:
            ids = range(1, voters + 1)
            configuration = Configuration.of(ids, range(voters + 1, voters + learners + 1))
        self.configuration = configuration
        self.settings = settings or EngineSettings()
        self.seed = seed
        self.instant_disk = instant_disk
        self.now_ms = 1000
        self.network: list[Letter] = []
        self.delivered: list[RaftMessage] = []
        self.blocked: set[tuple[int, int]] = set()
        self.drop_if: Callable[[Letter], bool] = lambda _: False
        self.history = invariants.ClusterHistory()
        self.events: list[str] = []  # messages delivered, for failure messages
        self.notes: list[str] = []  # what drivers were told, for stories
        self.reads: dict[str, tuple[int, int]] = {}  # token -> (node, lowest index allowed)
        self.reads_done: dict[str, int] = {}
        self.reads_failed: list[str] = []
        self.starts = 0
        self.answers: dict[str, list[MembershipAnswer]] = {}  # of changes, by token
        self.nodes = {node: Node(node, configuration) for node in configuration.members}
        for node_id in self.nodes:
            self.start(node_id)

    # ---- life ----------------------------------------------------------------------------------

    def start(self, node_id: int) -> None:
        """Start a node from what its disk holds."""
        node = self.nodes[node_id]
        assert not node.is_up, f"node {node_id} is up"
        self.starts += 1
        generator = Generator(self.seed * 1000 + node_id * 100 + self.starts)
        recovered = node.disk.recovered()
        node.engine = RaftEngine(
            node_id=node_id,
            configuration=node.configuration,
            recovered=recovered,
            settings=self.settings,
            draw=generator.draw,
            now_ms=self.now_ms,
        )
        if recovered.snapshot is not None:
            self._load(node, recovered.snapshot)
        self._turn(node)

    def join(self, node_id: int) -> None:
        """Start a new node with an empty disk: it knows of no configuration."""
        self.nodes[node_id] = Node(node_id, Configuration(()))
        self.start(node_id)

    def prepare(
        self, node_id: int, terms: list[int], *, term: int | None = None, vote: int = 0
    ) -> None:
        """Restart a node with a given log (one term per entry), as the paper's figures need."""
        node = self.nodes[node_id]
        if node.is_up:
            self.crash(node_id)
        node.disk = MemoryDisk(
            hard_state=encode_hard_state(term or max(terms, default=0), vote),
            entries=[
                Entry(index, epoch, EntryKind.BATCH, b"%d.%d" % (epoch, index))
                for index, epoch in enumerate(terms, start=1)
            ],
        )
        self.start(node_id)

    def crash(self, node_id: int, *, keep: int = 0) -> None:
        """Stop a node; of the unconfirmed steps the first ``keep`` reached the disk anyway."""
        node = self.nodes[node_id]
        for pending in node.pending[:keep]:
            node.disk.carry_out(pending.persist)
        node.reset()

    def tell_closed(self, node_id: int, *, only: list[int] | None = None) -> None:
        """The others learn from their operating systems that this one's process is gone."""
        for other in only or list(self.nodes):
            if other != node_id and self.nodes[other].is_up:
                self.step(other, PeerClosed(node_id))

    def tell_opened(self, a: int, b: int) -> None:
        """Both ends learn that a connection stands."""
        for one, other in ((a, b), (b, a)):
            if self.nodes[one].is_up:
                self.step(one, PeerOpened(other))

    # ---- events --------------------------------------------------------------------------------

    def step(self, node_id: int, event: Event) -> None:
        """One event, then one turn; with an instant disk everything is confirmed at once."""
        node = self.nodes[node_id]
        self.step_only(node_id, event)
        if self.settings.lease_reads:  # as drivers do: the clock is read after what came in
            self.step_only(node_id, Clock(self.now_ms))
        self._turn(node)
        while self.instant_disk and node.is_up and node.pending:
            self.persist(node_id)

    def step_only(self, node_id: int, event: Event) -> None:
        """One event without a turn, so that several share one."""
        node = self.nodes[node_id]
        assert node.engine is not None, f"node {node_id} is down"
        before = invariants.snapshot_state(node.engine)
        node.engine.step(event)
        invariants.check_step(before, event, invariants.snapshot_state(node.engine))

    def turn(self, node_id: int) -> None:
        """Take and carry out what is due."""
        self._turn(self.nodes[node_id])

    def propose(self, node_id: int, *payloads: str) -> None:
        for payload in payloads:
            self.step(node_id, Propose(payload.encode()))

    def read(self, node_id: int, token: str) -> None:
        """Ask for a read point; it must not lie below anything committed anywhere by now."""
        up = [node for node in self.nodes.values() if node.is_up]
        self.reads[token] = (node_id, max(node.state.commit_index for node in up))
        self.step(node_id, ReadBarrier(token))

    def transfer(self, node_id: int, to: int = 0) -> None:
        self.step(node_id, TransferLeadership(to))

    def change(self, node_id: int, token: str, change: Change) -> None:
        """Ask a node for other members; ``answers[token]`` fills."""
        self.step(node_id, ChangeMembership(token, change))

    def outcome(self, token: str) -> ChangeOutcome | None:
        """The latest answer to a change."""
        answers = self.answers.get(token)
        return answers[-1].outcome if answers else None

    def persist(self, node_id: int) -> bool:
        """Confirm the oldest unconfirmed step of persistence."""
        node = self.nodes[node_id]
        if not node.pending:
            return False
        pending = node.pending.pop(0)
        node.disk.carry_out(pending.persist)
        self.network.extend(pending.letters)
        self.step_only(node_id, Persisted(pending.persist.sequence))
        self._turn(node)
        return True

    def take_snapshot(self, node_id: int) -> None:
        """Snapshot the state machine as it is now."""
        node = self.nodes[node_id]
        assert node.engine is not None, f"node {node_id} is down"
        meta = node.engine.snapshot_meta(node.applied_index)
        data = json.dumps(node.applied).encode()
        node.disk.save_snapshot(meta, data)
        self.step(node_id, SnapshotSaved(meta, len(data)))

    def advance(self, ms: int, *, only: list[int] | None = None, step_ms: int = 10) -> None:
        """Let time pass on all nodes (or ``only`` some); nothing is delivered meanwhile."""
        end = self.now_ms + ms
        while self.now_ms < end:
            self.now_ms = min(end, self.now_ms + step_ms)
            for node_id, node in self.nodes.items():
                if node.is_up and (only is None or node_id in only):
                    self.step(node_id, Tick(self.now_ms))

    def run_change(self, leader: int, change: Change, *, ms: int = 1000) -> ChangeOutcome | None:
        """Ask for a change and let time pass until it is answered for good."""
        token = f"change {len(self.answers) + 1}"
        self.change(leader, token, change)
        for _ in range(ms // 10):
            self.settle()
            if self.outcome(token) is not ChangeOutcome.ACCEPTED:
                break
            self.run(10)
        return self.outcome(token)

    # ---- network -------------------------------------------------------------------------------

    def isolate(self, *groups: list[int]) -> None:
        """Cut every link between different groups (nodes in no group are alone)."""
        side = {node_id: place for place, group in enumerate(groups) for node_id in group}
        self.blocked = {
            (a, b)
            for a in self.nodes
            for b in self.nodes
            if a != b and side.get(a, -a) != side.get(b, -b)
        }

    def heal(self) -> None:
        self.blocked = set()

    def deliver_one(self, position: int = 0, *, copy: bool = False) -> None:
        """Deliver one message; with ``copy`` it also stays on the network."""
        letter = self.network[position] if copy else self.network.pop(position)
        self.delivered.append(letter.message)
        node = self.nodes.get(letter.to)
        is_lost = (letter.sender, letter.to) in self.blocked or self.drop_if(letter)
        if node is None or not node.is_up or is_lost:
            return
        assert node.engine is not None, "an up node has an engine"
        data = node.engine.encode(letter.message)
        message = node.engine.decode(data)
        assert message == letter.message, "a message survives the wire unchanged"
        self.events.append(str(letter))
        self.step(letter.to, Received(letter.sender, message))

    def settle(self, limit: int = 5000) -> None:
        """Deliver everything, in order, until nobody has anything to say."""
        while self.network:
            limit -= 1
            assert limit > 0, "the cluster does not come to rest: " + "; ".join(self.events[-10:])
            self.deliver_one()

    def run(self, ms: int, *, step_ms: int = 10) -> None:
        """Let time pass, delivering everything at each step."""
        end = self.now_ms + ms
        while self.now_ms < end:
            self.advance(min(step_ms, end - self.now_ms), step_ms=step_ms)
            self.settle()

    def campaign(self, node_id: int) -> None:
        """This node's election timer runs out first; nothing is delivered yet."""
        for other, node in self.nodes.items():
            if node.is_up and node.state.role is not Role.LEADER:
                node.state.election_deadline_ms = self.now_ms + 10_000
                if other == node_id:
                    node.state.election_deadline_ms = self.now_ms + 10
        self.advance(10)
        for other, node in self.nodes.items():
            if node.is_up and other != node_id and node.state.role is not Role.LEADER:
                node.state.reset_election_timer()

    def elect(self, node_id: int) -> None:
        """Make this node the established leader."""
        self.campaign(node_id)
        self.settle()
        if not self.nodes[node_id].leadership.established:
            raise AssertionError(f"node {node_id} was not elected:\n{self.describe()}")

    # ---- looking -------------------------------------------------------------------------------

    def leader(self) -> int:
        """The established leader of the highest term, 0 if there is none."""
        best = (0, 0)
        for node_id, node in self.nodes.items():
            if node.is_up and node.leadership.established:
                best = max(best, (node.leadership.epoch, node_id))
        return best[1]

    def terms(self, node_id: int) -> list[int]:
        """The terms of a node's entries in memory."""
        return [entry.epoch for entry in self.nodes[node_id].state.log.entries]

    def describe(self) -> str:
        lines = []
        for node_id, node in self.nodes.items():
            lines.append(node.engine.describe() if node.engine else f"n{node_id} down")
        return "\n".join(lines)

    # ---- effects -------------------------------------------------------------------------------

    def _turn(self, node: Node) -> None:
        assert node.engine is not None, "only an up node has turns"
        before = invariants.snapshot_state(node.engine)
        was_quiet = node.engine.is_quiet()
        effects = node.engine.take()
        assert not was_quiet or effects == Effects(), f"a quiet engine handed out {effects}"
        after = invariants.snapshot_state(node.engine)
        invariants.check_step(before, "take()", after)
        self._perform(node, effects)
        self.history.observe([after])

    def _perform(self, node: Node, effects: Effects) -> None:
        me = node.node_id
        self.network.extend(Letter(me, to, message) for to, message in effects.messages)
        if effects.persist is not None:
            node.pending.append(PendingPersist(effects.persist))
        waiting = [Letter(me, to, message) for to, message in effects.messages_after_persist]
        if node.pending:
            node.pending[-1].letters.extend(waiting)
        else:
            self.network.extend(waiting)
        if effects.install is not None:
            self._load(node, effects.install)
        for entry in effects.committed:
            assert entry.index == node.applied_index + 1, "entries are delivered in order, once"
            node.applied_index = entry.index
            if entry.kind == EntryKind.BATCH:
                node.applied.append(entry.payload.decode())
                self.notes.append(f"n{me} applies {entry.payload.decode()} at {entry.index}")
        if effects.leadership is not None:
            self._note_leadership(node, effects.leadership)
        if effects.configuration is not None:
            now = effects.configuration
            words = now.configuration.describe()
            self.notes.append(f"n{me} acts on {words} of {now.index}")
        for answer in effects.membership:
            self.answers.setdefault(str(answer.token), []).append(answer)
            where = f" at {answer.index}" if answer.index else ""
            why = f": {answer.reason}" if answer.reason else ""
            self.notes.append(f"n{me} change {answer.token} {answer.outcome.value}{where}{why}")
        for token, index in effects.barriers:
            self._finish_read(str(token), index)
        for token in effects.barriers_failed:
            self.reads_failed.append(str(token))
            self.notes.append(f"n{me} read {token} fails")
        for request in effects.read_snapshot:
            self._read_snapshot(node, request.peer, request.meta, request.offset)

    def _note_leadership(self, node: Node, now: Leadership) -> None:
        node.leadership = now
        if now.leader == node.node_id:
            what = "leads, established" if now.established else "leads"
        else:
            what = f"follows n{now.leader}" if now.leader else "knows no leader"
        self.notes.append(f"n{node.node_id} {what} t{now.epoch}")

    def _finish_read(self, token: str, index: int) -> None:
        node_id, lowest = self.reads[token]
        assert token not in self.reads_done, f"read {token} was answered twice"
        assert index >= lowest, f"stale read: {token} at {index}, {lowest} was committed before"
        self.reads_done[token] = index
        self.notes.append(f"n{node_id} read {token} at {index}")

    def _load(self, node: Node, meta: SnapshotMeta) -> None:
        assert node.disk.snapshot == meta, "an installed snapshot is on disk"
        node.applied = json.loads(node.disk.snapshot_data)
        node.applied_index = meta.index
        self.notes.append(f"n{node.node_id} restores a snapshot at {meta.index}")

    def _read_snapshot(self, node: Node, peer: int, meta: SnapshotMeta, offset: int) -> None:
        if node.disk.snapshot != meta:
            answer = SnapshotRead(peer, meta, offset, None, last=False)
        else:
            end = offset + self.settings.snapshot_chunk_bytes
            data = node.disk.snapshot_data
            answer = SnapshotRead(
                peer, meta, offset, data[offset:end], end >= len(data), identity_of(data)
            )
        self.step_only(node.node_id, answer)
        self._turn(node)
