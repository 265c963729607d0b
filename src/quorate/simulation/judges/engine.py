"""The judge of engines: Raft's Fig. 3 and ZAB's broadcast contract, at every effect.

Stated on the Engine interface, so it judges any engine: an observer wraps each node's engine and
sees what goes in and what comes out. The judge knows everything that any node ever said, restarts
included.

The five of the Raft paper's Fig. 3: election safety, leader append-only, log matching (by
induction: two entries with equal index and epoch have equal content and equal predecessors),
leader completeness, state machine safety.

The six of ZAB (Junqueira et al. 2011, §II) in terms of indexes: everybody delivers the same entry
at an index, without gaps. From that total order and agreement follow; integrity, the two primary
orders and primary integrity are checked on top, against what each primary was asked to broadcast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from zlib import crc32

from quorate.consensus.engine import (
    Effects,
    Engine,
    EngineStatistics,
    Event,
    Leadership,
    Message,
    Propose,
    ReadBarrier,
    Received,
    SnapshotSaved,
)
from quorate.consensus.entry import Entry, EntryKind, Persist, Recovered, SnapshotMeta
from quorate.consensus.membership import Configuration
from quorate.simulation.ambush import ASKS, COMMITS, ELECTED, INSTALLS, PROMISES, SAVES
from quorate.simulation.judges.logs import (
    UNKNOWN_EPOCH,
    Fingerprint,
    ShadowLog,
    fingerprint,
    is_same,
)
from quorate.simulation.judges.membership import MembershipJudge
from quorate.simulation.properties import safety

FIG_3 = "Raft Fig. 3"
ZAB = "ZAB §II"


class _Broadcast:
    """What one primary was asked to broadcast, what it did, and how much has been delivered."""

    __slots__ = ("asked", "delivered", "sent", "start", "used")

    def __init__(self, start: int) -> None:
        self.start = start  # what its node had delivered when it began
        self.asked: list[int] = []
        self.used = 0  # of what was asked: an engine may ignore some, never reorder
        self.sent: list[int] = []
        self.delivered = 0  # of what was sent


class EngineJudge:
    """Judge of one simulated cluster's engines.

    Attributes:
        on_moment: hears what a node has come to, as ``on_moment(moment, node)``.
    """

    def __init__(self, membership: MembershipJudge | None = None) -> None:
        self.membership = membership
        self.on_moment: Callable[[str, int], None] = lambda _moment, _node: None
        self.leaders: dict[int, int] = {}  # epoch -> node
        self.delivered: dict[int, Fingerprint] = {}  # index -> entry
        self.delivered_last = 0
        self._committed_in: list[int] = [0]  # by index: an epoch in which it was committed
        self.entries: dict[tuple[int, int], tuple[Fingerprint, int]] = {}
        self.logs: dict[int, ShadowLog] = {}
        self.elections = 0
        self._began_with: dict[int, int] = {}  # epoch -> its leader's last index when elected
        self._broadcasts: dict[int, _Broadcast] = {}  # epoch -> of its primary
        self._epoch_delivered = 0
        self._clocks: dict[int, tuple[Engine, Callable[[], int]]] = {}  # of living nodes

    def observe(
        self,
        node_id: int,
        engine: Engine,
        recovered: Recovered,
        clock_ms: Callable[[], int] | None = None,
    ) -> ObservedEngine:
        """Wrap a node's engine (again after each restart); ``clock_ms`` is the node's clock."""
        if clock_ms is not None:
            self._clocks[node_id] = (engine, clock_ms)
        self.logs[node_id] = ShadowLog(recovered)
        if self.membership is not None:
            self.membership.on_start(node_id, recovered, engine.configuration())
        delivered = recovered.snapshot.index if recovered.snapshot is not None else 0
        return ObservedEngine(node_id, engine, self, delivered)

    # ---- what happens --------------------------------------------------------------------------

    def on_persist(self, node_id: int, step: Persist, epoch: int, *, leads: bool) -> None:
        """A node in this epoch asks for a persistence step."""
        log = self.logs[node_id]
        index = step.truncate_from
        if index is not None and index <= log.last:
            self.leader_append_only(node_id, index, leads)
            self.delivered_entries_stay(node_id, index, log, epoch)
            log.truncate(index)
        for entry in step.entries:
            mark = fingerprint(entry)
            is_new = (entry.index, entry.epoch) not in self.entries
            self.log_matching(node_id, entry, mark, log)
            log.entries.append(mark)
            if is_new and entry.kind == EntryKind.BATCH:
                self.integrity(node_id, entry, mark[2])
        if step.hard_state is not None:
            self.on_moment(PROMISES, node_id)
        chunk = step.chunk
        if chunk is not None and chunk.last:
            self.on_moment(INSTALLS, node_id)
            log.reset(chunk.meta, discard=chunk.discard_log)

    def on_propose(self, node_id: int, epoch: int, payload: bytes, delivered: int) -> None:
        """An established primary is asked to broadcast."""
        broadcast = self._broadcasts.get(epoch)
        if broadcast is None:
            broadcast = self._broadcasts[epoch] = _Broadcast(delivered)
            self.primary_integrity(epoch, delivered, node_id)
        broadcast.asked.append(crc32(payload))

    def on_committed(self, node_id: int, entries: list[Entry], previous: int, epoch: int) -> int:
        """A node in this epoch delivers entries; returns the last index."""
        if entries[-1].index > self.delivered_last:
            self.on_moment(COMMITS, node_id)
        for entry in entries:
            self.state_machine_safety(node_id, entry, previous)
            previous = entry.index
            if previous > self.delivered_last:
                self.delivered_last = previous
                self._committed_in.append(epoch)
                self._on_first_delivery(node_id, entry, epoch)
            elif epoch < self._committed_in[previous]:
                self._committed_in[previous] = epoch
        return previous

    def _on_first_delivery(self, node_id: int, entry: Entry, epoch: int) -> None:
        self.later_leaders_have_it(node_id, entry, epoch)
        self.global_primary_order(entry)
        self._epoch_delivered = entry.epoch
        self.deliveries_precede_later_primaries(entry)
        if entry.kind == EntryKind.BATCH:
            self.local_primary_order(entry)

    def on_down(self, node_id: int) -> None:
        """A node is down, and answers no reads."""
        self._clocks.pop(node_id, None)

    def on_leadership(self, node_id: int, news: Leadership) -> None:
        """A node says who leads."""
        if not news.leader:
            return
        if news.established:
            self.leases_end_before_another_leads(node_id, news.epoch)
        self.election_safety(node_id, news)
        if news.leader == node_id and not news.established:
            self.elections += 1
            self.on_moment(ELECTED, node_id)
            self.leader_completeness(node_id, news.epoch)
            self._note_election(node_id, news.epoch)

    def _note_election(self, node_id: int, epoch: int) -> None:
        log = self.logs[node_id]
        last = log.last
        while (mark := log.at(last)) is not None and mark[0] == epoch:
            last -= 1
        self._began_with[epoch] = last

    # ---- Raft, Fig. 3 --------------------------------------------------------------------------

    @safety(FIG_3)
    def election_safety(self, node_id: int, news: Leadership) -> str | None:
        """At most one leader is elected in an epoch, ever."""
        known = self.leaders.setdefault(news.epoch, news.leader)
        if known == news.leader:
            return None
        return f"node {node_id} says {news}, but node {known} leads epoch {news.epoch}"

    @safety(FIG_3)
    def leader_append_only(self, node_id: int, index: int, leads: bool) -> str | None:
        """A leader never deletes or overwrites entries of its own log."""
        return f"node {node_id} leads and truncates from index {index}" if leads else None

    @safety(FIG_3)
    def log_matching(
        self, node_id: int, entry: Entry, mark: Fingerprint, log: ShadowLog
    ) -> str | None:
        """Two entries with the same index and epoch are equal, and so are their predecessors."""
        if entry.index != log.last + 1:
            return f"node {node_id} appends index {entry.index} after {log.last}"
        before = log.epoch_before(entry.index)
        known, known_before = self.entries.setdefault((entry.index, entry.epoch), (mark, before))
        if not is_same(known, mark):
            return (
                f"node {node_id}: entry {entry.index} of epoch {entry.epoch} is not the known one"
            )
        if UNKNOWN_EPOCH not in (known_before, before) and known_before != before:
            return (
                f"node {node_id}: entry {entry.index} of epoch {entry.epoch} follows epoch "
                f"{before} here and epoch {known_before} elsewhere"
            )
        return None

    @safety(FIG_3)
    def leader_completeness(self, node_id: int, epoch: int) -> str | None:
        """An entry committed in an epoch is in the logs of the leaders of all later epochs."""
        log = self.logs[node_id]
        for index in range(log.base + 1, self.delivered_last + 1):
            if self._committed_in[index] < epoch and log.at(index) != self.delivered[index]:
                return f"node {node_id} leads epoch {epoch} without delivered entry {index}"
        return None

    @safety(FIG_3)
    def later_leaders_have_it(self, node_id: int, entry: Entry, epoch: int) -> str | None:
        """An entry that is committed late, in an old epoch, was given to all later leaders too."""
        for later in reversed(self._began_with):
            if later <= epoch:
                return None
            if self._began_with[later] < entry.index:
                return (
                    f"node {node_id} delivers {entry.index} in epoch {epoch}; node "
                    f"{self.leaders[later]} was elected in {later} without it"
                )
        return None

    @safety("dissertation §6.4.1; acceptance RA-8")
    def leases_end_before_another_leads(self, node_id: int, epoch: int) -> str | None:
        """When a leader has committed in its epoch, no earlier one would still read by a lease.

        By its own clock: a process that stands still looks at it when it goes on.
        """
        for other, (engine, clock_ms) in self._clocks.items():
            statistics = engine.statistics()
            if statistics.epoch < epoch and statistics.lease_until_ms > clock_ms():
                return (
                    f"node {node_id} leads epoch {epoch}; node {other} holds a lease of epoch "
                    f"{statistics.epoch} until {statistics.lease_until_ms}, and it is {clock_ms()}"
                )
        return None

    @safety(FIG_3)
    def state_machine_safety(self, node_id: int, entry: Entry, previous: int) -> str | None:
        """All nodes deliver the same entry at an index, each index once and in order."""
        if entry.index != previous + 1:
            return f"node {node_id} delivers {entry.index} after {previous}"
        mark = fingerprint(entry)
        known = self.delivered.setdefault(entry.index, mark)
        if is_same(known, mark):
            return None
        return f"node {node_id} delivers {mark} at {entry.index}, where another delivered {known}"

    @safety("Raft §5.3")
    def delivered_entries_stay(
        self, node_id: int, index: int, log: ShadowLog, epoch: int
    ) -> str | None:
        """No node deletes an entry that was committed in its epoch or an earlier one.

        Before it hears of the epoch in which an older entry was committed, it may have to: for the
        leader of an epoch between, who does not have it.
        """
        covered = self.delivered.get(index)
        held = log.at(index)
        if covered is None or held is None or not is_same(held, covered):
            return None
        if self._committed_in[index] > epoch:
            return None
        return f"node {node_id} truncates from {index}, which was delivered"

    # ---- ZAB, §II ------------------------------------------------------------------------------

    @safety(ZAB)
    def integrity(self, node_id: int, entry: Entry, checksum: int) -> str | None:
        """What enters a log was broadcast once, by the primary of its epoch, who was asked to."""
        broadcast = self._broadcasts.get(entry.epoch)
        if broadcast is None or self.leaders.get(entry.epoch) != node_id:
            return f"node {node_id} has entry {entry.index} of epoch {entry.epoch} from nobody"
        try:
            broadcast.used = broadcast.asked.index(checksum, broadcast.used) + 1
        except ValueError:
            return f"node {node_id} broadcasts entry {entry.index} that it was not asked for"
        broadcast.sent.append(checksum)
        return None

    @safety(ZAB)
    def local_primary_order(self, entry: Entry) -> str | None:
        """A primary's broadcasts are delivered in its order, none left out."""
        broadcast = self._broadcasts[entry.epoch]
        expected = broadcast.sent[broadcast.delivered : broadcast.delivered + 1]
        broadcast.delivered += 1
        if expected == [crc32(entry.payload)]:
            return None
        return f"entry {entry.index} is not broadcast {broadcast.delivered} of epoch {entry.epoch}"

    @safety(ZAB)
    def global_primary_order(self, entry: Entry) -> str | None:
        """Broadcasts of an earlier primary are delivered before those of a later one."""
        if entry.epoch >= self._epoch_delivered:
            return None
        return (
            f"entry {entry.index} of epoch {entry.epoch} comes after epoch {self._epoch_delivered}"
        )

    @safety(ZAB)
    def primary_integrity(self, epoch: int, delivered: int, node_id: int) -> str | None:
        """A primary broadcasts only after it delivered all that earlier primaries delivered."""
        if delivered >= self.delivered_last or self._epoch_delivered >= epoch:
            return None
        return (
            f"node {node_id} broadcasts in epoch {epoch} having delivered {delivered}; "
            f"{self.delivered_last} was delivered before"
        )

    @safety(ZAB)
    def deliveries_precede_later_primaries(self, entry: Entry) -> str | None:
        """Nothing of an earlier epoch is delivered that a broadcasting later primary had not."""
        for epoch in reversed(self._broadcasts):
            if epoch <= entry.epoch:
                return None
            if self._broadcasts[epoch].start < entry.index:
                return f"entry {entry.index} of epoch {entry.epoch} comes too late for {epoch}"
        return None


class ObservedEngine:
    """An engine with the judge looking over its shoulder."""

    def __init__(self, node_id: int, engine: Engine, judge: EngineJudge, delivered: int) -> None:
        self.inner = engine
        self._node_id = node_id
        self._judge = judge
        self._delivered = delivered
        self._leads = False
        self._established = False
        self._epoch = self._delivered_epoch = 0
        # without a detour, because these are called for every message
        self.is_quiet: Callable[[], bool] = engine.is_quiet
        self.encode: Callable[[Message], bytes] = engine.encode
        self.decode: Callable[[bytes], Message] = engine.decode

    def step(self, event: Event) -> None:
        """Pass the event in."""
        judge = self._judge
        if self._established and type(event) is Propose:
            judge.on_propose(self._node_id, self._epoch, event.payload, self._delivered)
        elif type(event) is Received and getattr(event.message, "tells_of_loss", False):
            if judge.membership is not None:
                judge.membership.on_told(self._node_id, event.sender)
        elif type(event) is ReadBarrier and not self._leads:
            judge.on_moment(ASKS, self._node_id)
        elif type(event) is SnapshotSaved:
            judge.on_moment(SAVES, self._node_id)
        self.inner.step(event)

    def take(self) -> Effects:
        """Pass the effects out, judged."""
        effects = self.inner.take()
        judge, node_id, news = self._judge, self._node_id, effects.leadership
        if news is not None:
            self._leads = news.leader == node_id
        epoch = self._epoch if news is None else news.epoch
        if effects.persist is not None:
            judge.on_persist(node_id, effects.persist, epoch, leads=self._leads)
        if effects.install is not None:
            self._delivered = effects.install.index
        if effects.committed:
            self._delivered = judge.on_committed(node_id, effects.committed, self._delivered, epoch)
            self._delivered_epoch = effects.committed[-1].epoch
        if news is not None:
            judge.on_leadership(node_id, news)
            self._established, self._epoch = news.established, news.epoch
        if judge.membership is not None:
            judge.membership.on_turn(node_id, effects, self._delivered, self._delivered_epoch)
        return effects

    def snapshot_meta(self, index: int) -> SnapshotMeta:
        """Pass through."""
        return self.inner.snapshot_meta(index)

    def configuration(self) -> Configuration:
        """Pass through."""
        return self.inner.configuration()

    def statistics(self) -> EngineStatistics:
        """Pass through."""
        return self.inner.statistics()

    def describe(self) -> str:
        """Pass through."""
        return self.inner.describe()

    def __getattr__(self, name: str) -> Any:
        """Let tests reach the engine behind."""
        return getattr(self.inner, name)
