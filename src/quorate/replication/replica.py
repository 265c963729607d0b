"""One replica: consensus engine + log + state machine, still pure.

The node process and the simulator drive this same class. It turns submitted batches into entries
(on the leader: its own and those that other nodes forward), applies committed entries to the state
machine in order, each batch exactly once, and answers read barriers when their read point has been
applied. It refuses to know what a batch means, which engine decides, what a disk or socket is, and
what time it is except as it is told.

One write through a replica, on the leader and on the origin node:

    submit -> outbox -> (FORWARD) -> intake -> Propose -> engine -> persists, sends
    committed -> applied once -> results of local batches

Batching needs no timer: while an entry is on its way to this disk the next one gathers in the
intake; when the disk is idle, or everything proposed has been committed by the others, what
gathered is proposed at once. A stalled disk of the leader therefore does not stop commits.

Invariants:
    * ``applied_index`` rises by one per entry; an entry is applied only after the engine
      delivered it as committed
    * of each origin incarnation, batches apply once, in order, without gaps
    * entry times never fall
    * messages that must wait for the disk leave only after ``persisted``
    * what is committed is applied at most two turns later, and before any news of leadership
"""

from __future__ import annotations

import heapq
import zlib
from collections import deque
from collections.abc import Callable, Hashable, Iterable

from quorate.consensus.change import Change
from quorate.consensus.engine import (
    NO_LEADER,
    Announce,
    ChangeMembership,
    Clock,
    DiskSpace,
    Effects,
    Engine,
    Leadership,
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
from quorate.consensus.entry import WITHHELD_BODY, Entry, EntryKind, SnapshotMeta
from quorate.consensus.membership import Configuration
from quorate.errors import InvariantBroken, RemoteProtocolError
from quorate.replication.batch import decode_entry, encode_entry
from quorate.replication.digests import DigestAgreement
from quorate.replication.figures import ReplicaFigures, ReplicaStatistics
from quorate.replication.intake import Intake
from quorate.replication.origins import AppliedBatches
from quorate.replication.outbox import Outbox
from quorate.replication.snapshots import (
    SnapshotPolicy,
    encode_header,
    split_header,
    split_withheld,
)
from quorate.replication.state_machine import ApplyContext, StateMachine
from quorate.replication.turn import Channel, ReplicaSettings, SnapshotJob, Turn

__all__ = ["PUT_OFF_MAX", "Replica", "ReplicaStatistics"]

PUT_OFF_MAX = 2
WITHHELD_WEIGHT = 1024
"""So many bytes of log does a witness count for each entry that it holds without its payload."""


class Replica:
    """The replicated state machine of one node.

    Args:
        node_id: this node.
        incarnation: which start of this node, larger at every start (storage counts).
        engine: the consensus engine, already recovered.
        machine: the state machine, already restored if there was a snapshot.
        settings: bounds and intervals.
        new_turn: makes an empty Turn; whoever adds to turns hands a subclass in.
    """

    def __init__(
        self,
        *,
        node_id: int,
        incarnation: int,
        engine: Engine,
        machine: StateMachine,
        settings: ReplicaSettings,
        new_turn: Callable[[], Turn] = Turn,
    ) -> None:
        assert incarnation > 0
        self.node_id = node_id
        self.incarnation = incarnation
        self.engine = engine
        self.machine = machine
        self.settings = settings
        self.applied_index = 0
        self.leadership = Leadership(0, NO_LEADER, established=False)
        # replicated state beside the state machine's
        self._applied = AppliedBatches()
        self._time_ms = 0
        # local state
        self._outbox = Outbox(node_id, incarnation)
        self._intake = Intake(settings.intake_bytes_max)
        self._digests = DigestAgreement(node_id)
        self._snapshots = SnapshotPolicy(
            settings.snapshot_bytes_min, settings.snapshot_factor, node_id
        )
        self._context = ApplyContext()
        self._now_ms = 0
        self._wall_ms = 0
        self._proposed_time_ms = 0
        self._entries_in_flight = 0  # proposed by this leadership, not yet delivered
        self._issued = self._durable = 0  # persistence sequences
        self._waiting_for_disk: deque[tuple[int, int, bytes]] = deque()
        self._barriers_waiting: list[tuple[int, int, Hashable]] = []  # heap by index
        self._barriers_retry: list[Hashable] = []
        self._barrier_count = 0
        self._installing: SnapshotMeta | None = None
        self._committed: list[Entry] = []  # delivered by the engine, not applied yet
        self._put_off = 0  # how many turns they have waited
        self._progress_ms = 0
        self._figures = ReplicaFigures()
        self._is_awaited = False  # another node's clients wait for what was just committed
        self._stepped_again = False  # the engine got events while its effects were carried out
        self._fatal: str | None = None
        self._is_disk_full = False
        self._snapshot_not_before_ms = 0  # the last one did not fit
        self._is_witness = False  # this state is empty: it was withheld
        self._new_turn = new_turn
        self._out = new_turn()

    # ---- start ---------------------------------------------------------------------------------

    def restore(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        """Load the snapshot that was on disk at start, before anything else.

        Raises:
            CorruptData: the bytes are no snapshot; the replica is unusable.
        """
        assert self.applied_index == 0
        self._load(meta, chunks)

    # ---- events --------------------------------------------------------------------------------

    def tick(self, now_ms: int, wall_ms: int) -> None:
        """Time passed: monotonic ``now_ms`` for timers, ``wall_ms`` since 1970 for entries."""
        self._now_ms = now_ms
        self._wall_ms = wall_ms
        self.engine.step(Tick(now_ms))
        if len(self._outbox) and now_ms - self._progress_ms >= self.settings.resend_ms:
            self._progress_ms = now_ms
            self._outbox.resend()
        if self._barriers_retry and self.leadership.leader != NO_LEADER:
            self._retry_barriers()

    def look(self, now_ms: int) -> None:
        """Say what the clock shows, read after everything that came before: leases need it."""
        self.engine.step(Clock(now_ms))

    def submit(self, payload: bytes) -> int:
        """Submit clients' batch. Did it happen? ``Turn.results`` tells, by the number returned."""
        if not len(self._outbox):
            self._progress_ms = self._now_ms
        self._out.submitted = self._outbox.submit(payload)
        return self._out.submitted

    def read_barrier(self, token: Hashable) -> None:
        """Ask for a linearizable read point; ``Turn.released`` says when to read.

        Never fails: it is asked again of every new leader until answered.
        """
        self.engine.step(ReadBarrier(token))

    def peer_received(self, peer: int, channel: int, payload: bytes) -> None:
        """Take in a message of another replica.

        Raises:
            RemoteProtocolError: malformed; close that peer's connection. Nothing wrong happened.
        """
        if channel == Channel.ENGINE:
            self.engine.step(Received(peer, self.engine.decode(payload)))
        elif channel == Channel.FORWARD:
            if self.leadership.leader == self.node_id:
                self._intake.admit(payload)
        elif channel == Channel.DIGEST:
            self._digests.receive(peer, payload)
            self._check_digests()
        else:
            raise RemoteProtocolError(f"unknown channel {channel}")

    def peer_opened(self, peer: int) -> None:
        """Note that the link to this peer stands (again); messages sent before may be lost."""
        self.engine.step(PeerOpened(peer))
        if peer == self.leadership.leader:
            self._outbox.resend()

    def peer_closed(self, peer: int) -> None:
        """Note that the operating system closed the link to this peer."""
        self.engine.step(PeerClosed(peer))

    def persisted(self, sequence: int) -> None:
        """Persistence step ``sequence`` and all before it are durable."""
        assert self._durable <= sequence <= self._issued
        self._durable = sequence
        self.engine.step(Persisted(sequence))
        waiting = self._waiting_for_disk
        while waiting and waiting[0][0] <= sequence:
            _, peer, data = waiting.popleft()
            self._out.sends.append((peer, Channel.ENGINE, data))

    def announce(self) -> None:
        """Tell the others what is committed, a moment after ``Turn.announce_soon`` asked for it."""
        self.engine.step(Announce())

    def transfer_leadership(self, to: int = 0) -> None:
        """Ask the engine to hand leadership over (to the best voter by default)."""
        self.engine.step(TransferLeadership(to))

    def disk_space(self, *, is_full: bool) -> None:
        """The disk is full, or is not any more: then nothing is proposed here, and no snapshot."""
        if self._is_disk_full is not is_full:
            self._is_disk_full = is_full
            self._snapshot_not_before_ms = 0
            self.engine.step(DiskSpace(is_full))

    def ask_for_snapshot(self) -> int:
        """Take a snapshot soon; returns the index that it will have at least."""
        if self.applied_index:
            self._snapshots.ask()
        return self.applied_index

    def change_membership(self, token: Hashable, change: Change) -> None:
        """Ask for other members; ``Turn.membership`` answers under ``token``.

        Only the leader takes it. An accepted change is answered twice: when it is in the log, and
        when it is done, given up or out of this node's hands.
        """
        self.engine.step(ChangeMembership(token, change))

    def snapshot_saved(self, meta: SnapshotMeta, size_bytes: int) -> None:
        """The running SnapshotJob is durable."""
        self._figures.snapshots_saved += 1
        self._snapshots.end()
        self.engine.step(SnapshotSaved(meta, size_bytes))

    def snapshot_failed(self) -> None:
        """The running SnapshotJob was given up: there is too little space. Tried again later."""
        self._snapshots.put_off()
        self._snapshot_not_before_ms = self._now_ms + self.settings.snapshot_retry_ms

    def snapshot_read(self, answer: SnapshotRead) -> None:
        """Answer of storage to a ``Turn.read_snapshot``."""
        self.engine.step(answer)

    def install(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        """Replace the state by the snapshot that ``Turn.install`` named.

        Results of local batches that the snapshot covers are lost: whoever waits for them must be
        told that the outcome is unknown (the state machine sees ``restore``).
        """
        assert self._installing == meta
        self._installing = None
        self._load(meta, chunks)
        self._figures.snapshots_installed += 1
        self._outbox.settle(self._applied.last_number(self.node_id, self.incarnation))
        self._apply_committed(self._out)

    # ---- the way out ---------------------------------------------------------------------------

    def take(self) -> Turn:
        """Decide, and hand out everything to be done since the last call."""
        turn = self._out
        while True:
            self._ship(turn)
            self._maybe_propose()
            self._stepped_again = False
            self._carry_out(self.engine.take(), turn)
            if self._intake and self._may_propose():
                continue
            if self._committed and not self._stepped_again and not self._may_apply_later(turn):
                self._apply_committed(turn)
            if not self._stepped_again:
                break
        self._maybe_snapshot(turn)
        if turn.persists:
            alone = len(self.engine.configuration().members) == 1
            turn.may_wait_for_disk = alone or self.leadership.leader != self.node_id
        turn.fatal = self._fatal
        self._out = self._new_turn()
        return turn

    def is_quiet(self) -> bool:
        """Whether ``take`` would hand out nothing, so that it may be skipped.

        Half of a leader's events (the second acknowledgement, its own disk) decide nothing.
        """
        return not (
            self._out.sends
            or self._out.released
            or self._out.results
            or self._outbox.has_unsent
            or (self._intake and self._may_propose())
            or (self._committed and self._installing is None)
            or self._fatal is not None
            or not self.engine.is_quiet()
        )

    @property
    def number_settled(self) -> int:
        """Local batches up to this number are applied here, with or without a result."""
        return self._outbox.number_settled

    @property
    def bytes_pending(self) -> int:
        """Bytes submitted here and not applied yet; the driver throttles clients by it."""
        return self._outbox.bytes_pending

    def statistics(self) -> ReplicaStatistics:
        """Numbers for people and programs; never needed for a decision."""
        figures = self._figures
        return ReplicaStatistics(
            engine=self.engine.statistics(),
            applied_index=self.applied_index,
            time_ms=self._time_ms,
            batches_pending=len(self._outbox),
            bytes_pending=self._outbox.bytes_pending,
            intake_dropped=self._intake.dropped,
            duplicates_refused=figures.duplicates_refused,
            digest_agreed_index=self._digests.agreed_index,
            snapshot_running=self._snapshots.is_running,
            batches_submitted=self._outbox.number_last,
            batches_applied=figures.batches_applied,
            bytes_applied=figures.bytes_applied,
            leader_changes=figures.leader_changes,
            snapshots_saved=figures.snapshots_saved,
            snapshots_installed=figures.snapshots_installed,
            snapshot_last_bytes=self._snapshots.last_size_bytes,
            log_bytes_since_snapshot=self._snapshots.bytes_since_last,
            snapshot_threshold_bytes=self._snapshots.threshold_bytes,
        )

    def digest(self) -> int:
        """64-bit digest of everything replicated: the machine's state, time, applied batches."""
        own = zlib.crc32(self._applied.encode(), self._time_ms & 0xFFFFFFFF)
        return self.machine.digest() ^ (own * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF)

    # ---- shipping and proposing ----------------------------------------------------------------

    def _ship(self, turn: Turn) -> None:
        leader = self.leadership.leader
        if leader == NO_LEADER or not self._outbox.has_unsent:
            return
        fresh = self._outbox.take_unsent()
        if leader == self.node_id:
            for number, raw in fresh:
                self._intake.admit_own(leader, self.incarnation, number, raw)
            return
        group: list[bytes] = []
        size = 0
        for _, raw in fresh:
            if group and size + len(raw) > self.settings.forward_bytes_max:
                turn.sends.append((leader, Channel.FORWARD, b"".join(group)))
                group, size = [], 0
            group.append(raw)
            size += len(raw)
        turn.sends.append((leader, Channel.FORWARD, b"".join(group)))

    def _may_propose(self) -> bool:
        if not self.leadership.established or self._is_disk_full:
            return False
        return self._durable == self._issued or self._entries_in_flight == 0

    def _maybe_propose(self) -> None:
        if not self._intake or not self._may_propose():
            return
        while self._intake:
            self._proposed_time_ms = max(self._wall_ms, self._proposed_time_ms, self._time_ms)
            batch = self._intake.take(self.settings.entry_bytes_max)
            self.engine.step(Propose(encode_entry(self._proposed_time_ms, batch)))
            self._entries_in_flight += 1

    # ---- effects -------------------------------------------------------------------------------

    def _carry_out(self, effects: Effects, turn: Turn) -> None:
        encode = self.engine.encode
        previous, data = None, b""
        for peer, message in effects.messages:
            if message is not previous:  # members at the same index are sent the same message
                previous, data = message, encode(message)
            turn.sends.append((peer, Channel.ENGINE, data))
        if effects.persist is not None:
            assert effects.persist.sequence == self._issued + 1
            self._issued = effects.persist.sequence
            turn.persists.append(effects.persist)
        for peer, message in effects.messages_after_persist:
            if self._issued == self._durable:
                turn.sends.append((peer, Channel.ENGINE, encode(message)))
            else:
                self._waiting_for_disk.append((self._issued, peer, encode(message)))
        if effects.install is not None:
            self._begin_install(effects.install, turn)
        if effects.committed:
            self._note_committed(effects.committed)
        turn.read_snapshot += effects.read_snapshot
        turn.role_changes += effects.role_changes
        for token, index in effects.barriers:
            self._barrier_count += 1
            heapq.heappush(self._barriers_waiting, (index, self._barrier_count, token))
        self._barriers_retry += effects.barriers_failed
        if effects.configuration is not None:
            turn.configuration = effects.configuration
        if effects.leadership is not None:
            self._apply_committed(turn)
            self._on_leadership(effects.leadership, turn)
        if effects.membership:
            self._apply_committed(turn)
            turn.membership += effects.membership
        if self._barriers_waiting:
            self._release_barriers(turn)

    def _release_barriers(self, turn: Turn) -> None:
        if self._is_witness:
            return  # it has nothing to read from
        waiting = self._barriers_waiting
        while waiting and waiting[0][0] <= self.applied_index:
            turn.released.append(heapq.heappop(waiting)[2])

    def _on_leadership(self, leadership: Leadership, turn: Turn) -> None:
        before, self.leadership = self.leadership, leadership
        turn.leadership = leadership
        self._figures.leads(leadership.leader)
        if leadership[:2] != before[:2]:
            self._outbox.resend()
            self._intake.close()
            self._entries_in_flight = 0
            self._progress_ms = self._now_ms
        if leadership.established and not self._intake.is_open:
            # Not so when a hand-over of leadership was given up: the intake kept what it knows.
            assert leadership.leader == self.node_id
            self._intake.open(self._applied)
        if leadership.leader != NO_LEADER and self._barriers_retry:
            self._retry_barriers()
        self._ship(turn)

    def _retry_barriers(self) -> None:
        retry, self._barriers_retry = self._barriers_retry, []
        for token in retry:
            self.engine.step(ReadBarrier(token))
        self._stepped_again = True

    # ---- apply ---------------------------------------------------------------------------------

    def _note_committed(self, entries: list[Entry]) -> None:
        """Queue entries for apply; a leader may propose the next ones meanwhile."""
        self._committed += entries
        if self._entries_in_flight:
            epoch = self.leadership.epoch
            for entry in entries:
                if entry.epoch == epoch and entry.kind == EntryKind.BATCH:
                    self._entries_in_flight -= 1

    def _may_apply_later(self, turn: Turn) -> bool:
        """Whether others wait for what this turn sends or stores, so that they go first.

        Applying a full batch takes milliseconds, in which the disks could work already. It is put
        off twice at most (once for the step, once for its acknowledgement), never for long.
        """
        if (turn.sends or turn.persists) and self._put_off < PUT_OFF_MAX:
            self._put_off += 1
            turn.again = True
            return True
        return False

    def _apply_committed(self, turn: Turn) -> None:
        """Apply what is queued, unless a snapshot must be loaded first."""
        self._put_off = 0
        if not self._committed or self._installing is not None:
            return
        entries, self._committed = self._committed, []
        self._is_awaited = False
        for entry in entries:
            if entry.index != self.applied_index + 1:
                raise InvariantBroken(
                    f"node {self.node_id}: entry {entry.index} delivered after {self.applied_index}"
                )
            if entry.kind == EntryKind.BATCH and not self._is_witness:
                self._apply(entry)
                self._figures.bytes_applied += len(entry.payload)
                self._snapshots.bytes_since_last += len(entry.payload)
            elif entry.kind == EntryKind.WITHHELD:
                self._is_witness = True
                self._snapshots.bytes_since_last += WITHHELD_WEIGHT
            self.applied_index = entry.index
            interval = self.settings.digest_interval
            if interval and entry.index % interval == 0 and not self._is_witness:
                self._report_digest(entry.index)
        if self._is_witness:
            self._check_role()
        if self.leadership.leader == self.node_id:
            self._announce_commit(turn)
        self._release_barriers(turn)

    def _apply(self, entry: Entry) -> None:
        time_ms, sub_batches = decode_entry(entry.payload)
        assert time_ms >= self._time_ms, "entry times never fall"
        self._time_ms = time_ms
        context = self._context
        context.index = entry.index
        context.time_ms = time_ms
        context.epoch = entry.epoch
        for sub in sub_batches:
            if not self._applied.is_next(sub.node, sub.incarnation, sub.number):
                self._figures.duplicates_refused += 1
                continue
            self._applied.record(sub.node, sub.incarnation, sub.number)
            self._figures.batches_applied += 1
            context.node = sub.node
            context.incarnation = sub.incarnation
            context.number = sub.number
            local = sub.node == self.node_id and sub.incarnation == self.incarnation
            self._is_awaited |= not local
            context.local = local
            result = self.machine.apply(sub.payload, context)
            if local:
                self._outbox.applied(sub.number)
                self._progress_ms = self._now_ms
                self._out.results.append((sub.number, result))

    def _check_role(self) -> None:
        """A witness has nothing to serve from, and never becomes a member that should have."""
        if self.engine.configuration().role(self.node_id) in ("voter", "learner"):
            self._fatal = (
                f"node {self.node_id} was a witness and holds no data, but is now a member that "
                "keeps data; remove it from the cluster and add it with an empty directory"
            )

    def _announce_commit(self, turn: Turn) -> None:
        """See that the others learn of a commit: now if their clients wait for it, else soon."""
        if self._is_awaited:
            self.engine.step(Announce())
            self._stepped_again = True
        else:
            turn.announce_soon = True

    def _report_digest(self, index: int) -> None:
        report = self._digests.report(index, self.digest())
        for member in self.engine.configuration().members:
            if member != self.node_id:
                self._out.sends.append((member, Channel.DIGEST, report))
        self._check_digests()

    def _check_digests(self) -> None:
        if self._fatal is None:
            self._fatal = self._digests.verdict(self.engine.configuration())

    # ---- snapshots -----------------------------------------------------------------------------

    def _maybe_snapshot(self, turn: Turn) -> None:
        is_held_up = self._is_disk_full or self._now_ms < self._snapshot_not_before_ms
        if self._installing is not None or is_held_up or not self._snapshots.is_due():
            return
        meta = self.engine.snapshot_meta(self.applied_index)
        if not Configuration.decode(meta.configuration).members:
            return  # a new node that has not come to the first configuration of the log yet
        if self._is_witness:
            chunks = self._snapshots.begin(WITHHELD_BODY, iter(()))
        else:
            header = encode_header(self._time_ms, self._applied)
            chunks = self._snapshots.begin(header, self.machine.snapshot())
        turn.save_snapshot = SnapshotJob(meta, chunks)

    def _begin_install(self, meta: SnapshotMeta, turn: Turn) -> None:
        self._apply_committed(turn)
        assert meta.index > self.applied_index, "a snapshot never takes the state back"
        self._installing = meta
        turn.install = meta
        turn.abandon_snapshot = self._snapshots.abandon()

    def _load(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        self._is_witness, chunks = split_withheld(self._snapshots.loading(chunks))
        if not self._is_witness:
            time_ms, applied, rest = split_header(chunks)
            self.machine.restore(rest)
            assert time_ms >= self._time_ms
            self._time_ms = time_ms
            self._applied = applied
        self.applied_index = meta.index
