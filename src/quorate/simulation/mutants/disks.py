"""Mutants of storage and of driving it: what is durable, what is believed, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from quorate.consensus.entry import Persist, SnapshotChunk
from quorate.consensus.raft import engine, repair
from quorate.consensus.raft.messages import Append, AppendReply, RepairQuery, VoteRequest
from quorate.consensus.raft.state import RaftState
from quorate.errors import DiskFailed
from quorate.protocol import peer
from quorate.simulation import cluster, links
from quorate.simulation.disk import VirtualDisk
from quorate.simulation.host import SMALL_STORAGE, Host
from quorate.simulation.mutants.mutant import Group as MutantGroup
from quorate.simulation.mutants.mutant import Patches
from quorate.storage import record, recovery, snapshot_file, store
from quorate.storage.record import (
    GROUP_HEADER_BYTES,
    RECORD_HEADER_BYTES,
    Group,
    Record,
    RecordKind,
    decode_group_header,
)
from quorate.storage.recovery import LogState
from quorate.storage.snapshot import PayloadWriter
from quorate.storage.space import SpaceGauge
from quorate.storage.store import Store
from quorate.storage.wal import Wal

GROUP = MutantGroup("disks")


# ---- becoming durable ----------------------------------------------------------------------------


@GROUP.mutant("Raft Fig. 2; known bug of PySyncObj")
def confirms_before_the_fsync(patches: Patches) -> None:
    """The node says that a step is durable after the disk said so, not before."""

    def pump(self: Host) -> None:
        if self._disk_busy or not self._queue:
            return
        self._soon(0, partial(early, self, self._queue[-1].sequence))
        original(self)

    def early(self: Host, sequence: int) -> None:
        self._court.durability.on_confirmed(self.node_id, sequence)
        self.core.persisted(sequence)
        self.drive()

    original = patches.put(Host, "_pump_disk", pump)


@GROUP.mutant("Pillai et al. 2014")
def writes_the_log_without_fsync(patches: Patches) -> None:
    """A group of the write-ahead log is synced before it counts."""

    def write(self: Any, records: Sequence[Record], header: bytes, chain: int) -> None:
        file, self._file = self._file, _Unsynced(self._file)
        try:
            original(self, records, header, chain)
        finally:
            self._file = file

    original = patches.put(Wal, "_write", write)


class _Unsynced:
    """A file that is written and not synced."""

    def __init__(self, file: Any) -> None:
        self.write_through = file.write


@GROUP.mutant("Pillai et al. 2014")
def never_syncs_the_directory(patches: Patches) -> None:
    """A file that was made or renamed has its name durably before anybody relies on it."""
    patches.put(VirtualDisk, "sync_directory", lambda self: self.enter("write", ""))


@GROUP.mutant("Pillai et al. 2014")
def never_syncs_the_names_of_segments(patches: Patches) -> None:
    """A new segment of the log has its name durably before the group in it counts."""
    patches.put(Wal, "_sync_directory", lambda _self: None)


@GROUP.mutant("Pillai et al. 2014")
def writes_snapshots_without_fsync(patches: Patches) -> None:
    """A snapshot gets its final name after its bytes are durable."""

    def build(self: Any, *arguments: Any) -> None:
        original(self, *arguments)
        self.file.sync = _nothing

    original = patches.put(PayloadWriter, "__init__", build)


def _nothing() -> None:
    """Nothing is done."""


@GROUP.mutant("Raft Fig. 2; known bug of PySyncObj")
def never_writes_the_hard_state(patches: Patches) -> None:
    """Term and vote go to the disk with everything else."""

    def persist(self: Store, steps: Sequence[Persist]) -> None:
        original(self, [replace(step, hard_state=None) for step in steps])

    original = patches.put(Store, "_persist", persist)


@GROUP.mutant("known bug of openraft")
def drops_the_log_before_the_snapshot_is_durable(patches: Patches) -> None:
    """The log forgets what a snapshot covers only after the snapshot is durable."""

    def persist_chunk(self: Store, chunk: SnapshotChunk, records: list[Record]) -> list[Record]:
        index, epoch = chunk.meta.index, chunk.meta.epoch
        if chunk.last:
            self._wal.append(records)
            is_gone = chunk.discard_log or index >= self._wal.state.next_index
            kind = RecordKind.RESET if is_gone else RecordKind.COMPACT
            self._wal.append([(kind, 0, epoch, index, b"")])
            records = []
        rest: list[Record] = original(self, chunk, records)
        return rest

    original = patches.put(Store, "_persist_chunk", persist_chunk)


@GROUP.mutant("docs/wal-format.md")
def recycles_segments_that_are_needed(patches: Patches) -> None:
    """A segment is used again when a durable snapshot covers all its entries."""

    def drop(self: Wal) -> None:
        for segment in self._segments[:-1]:
            segment.last_index = 0
        original(self)

    original = patches.put(Wal, "drop_unneeded", drop)


@GROUP.mutant("Rebello et al. 2020 (fsync failures)")
def tries_a_failed_fsync_again(patches: Patches) -> None:
    """After a failed fsync nothing that was written counts: the node stops."""

    def write(self: Any, records: Sequence[Record], header: bytes, chain: int) -> None:
        file, self._file = self._file, _Stubborn(self._file)
        try:
            original(self, records, header, chain)
        finally:
            self._file = file

    original = patches.put(Wal, "_write", write)


class _Stubborn:
    """A file that is synced until it works."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write_through(self, offset: int, data: bytes) -> None:
        self._file.write(offset, data)
        try:
            self._file.sync()
        except DiskFailed:
            self._file.sync()


# ---- running full --------------------------------------------------------------------------------

_SPACE = ("disk", "crash")


@GROUP.mutant("charybdefs; docs/disks.md", _SPACE)
def writes_without_asking_for_room(patches: Patches) -> None:
    """Nothing of a group is written before there is space for all of it, and for the next vote."""
    patches.put(Store, "has_room", lambda _self, _steps: True)


@GROUP.mutant("docs/disks.md", _SPACE)
def never_notices_that_there_is_space_again(patches: Patches) -> None:
    """A disk that was full is looked at again, and the node goes on by itself."""

    def look(self: SpaceGauge, free_bytes: int) -> bool:
        return not self.is_full and original(self, free_bytes)

    original: Callable[[SpaceGauge, int], bool] = patches.put(SpaceGauge, "look", look)


@GROUP.mutant("docs/disks.md", _SPACE)
def skips_batches_for_which_there_is_no_space(patches: Patches) -> None:
    """A full follower acknowledges only what it has stored, and nothing behind a hole."""

    def on_append(state: RaftState, sender: int, message: Append) -> None:
        original(state, sender, message)
        if state.is_disk_full and state.leader == sender:
            match = message.prev_index + len(message.entries)
            state.send(sender, AppendReply(state.term, match))

    original = patches.put_item(engine._ON_MESSAGE, Append, on_append)


# ---- believing at start --------------------------------------------------------------------------


@GROUP.mutant("Rebello et al. 2020 (fsync failures)")
def trusts_what_only_the_page_cache_holds(patches: Patches) -> None:
    """The newest group, which a killed process may not have synced, is written anew at start."""
    patches.put(Wal, "_renew_tail", lambda _self, _begin: None)


@GROUP.mutant("Raft Fig. 2")
def reads_the_oldest_hard_state(patches: Patches) -> None:
    """The newest term and vote in the log count."""

    def after(self: LogState, records: Sequence[Record]) -> LogState:
        if self.hard_state is not None:
            records = [known for known in records if known[0] != RecordKind.HARD_STATE]
        state: LogState = original(self, records)
        return state

    original = patches.put(LogState, "after", after)


@GROUP.mutant("docs/wal-format.md; LevelDB and etcd check theirs")
def accepts_torn_records(patches: Patches) -> None:
    """A record whose checksum is wrong was torn by a crash and is cut off."""

    def decode_group(
        data: bytes, offset: int, *, key: int, sequence: int, chain: int
    ) -> Group | None:
        header = decode_group_header(data, offset, key)
        if header is None or (header.sequence, header.before) != (sequence, chain):
            return None
        position, records, chain = offset + GROUP_HEADER_BYTES, list[Record](), header.chain
        end = position + header.length
        while position < min(end, len(data)):
            (chain,) = record._CRC.unpack_from(data, position)
            body = record._BODY.unpack_from(data, position + record._CRC.size)
            start = position + RECORD_HEADER_BYTES
            position = start + body[0]
            records.append((*body[1:], data[start:position]))
        return Group(records, end, chain)

    patches.put(recovery, "decode_group", decode_group)


@GROUP.mutant("protocol-aware recovery, FAST '18")
def cuts_damage_off_as_if_torn(patches: Patches) -> None:
    """Damage before groups that were acknowledged is refused, not cut off with them."""
    patches.put(recovery, "find_later_group", lambda *_, **__: -1)


@GROUP.mutant("CORDS, FAST '17")
def restores_damaged_snapshots(patches: Patches) -> None:
    """A snapshot's bytes are checked before they become state."""
    patches.put(snapshot_file, "crc32", lambda *_: 0)
    # A compressed payload has a checksum of its own.
    patches.put(cluster, "SMALL_STORAGE", replace(SMALL_STORAGE, snapshot_compression=0))


@GROUP.mutant("dissertation §3.8")
def takes_a_wiped_node_back(patches: Patches) -> None:
    """A node that lost its disk does not come back under its old id."""
    patches.put(Store, "check_peer", lambda *_: None)


@GROUP.mutant("dissertation §6.3")
def starts_again_under_the_same_incarnation(patches: Patches) -> None:
    """Each start of a node has a number of its own, higher than all before."""

    def same(thing: Any, **changes: Any) -> Any:
        if "incarnation" in changes:
            changes["incarnation"] = max(1, thing.incarnation)
        return replace(thing, **changes)

    patches.put(store, "replace", same)


@GROUP.mutant("peer protocol")
def delivers_damaged_frames(patches: Patches) -> None:
    """A frame between nodes whose checksum is wrong is never delivered."""
    patches.put(peer, "crc32", lambda *_: 0)
    hello = peer.Hello("simulated", 1, "directory", 1, 1).encode()
    patches.put(links, "_HELLO", b"".join(peer.encode_frame(peer.HELLO_CHANNEL, hello)))


_REPAIRS = ("repair",)
"""Damage must meet what a majority stands on, at that moment."""


# ---- being repaired ------------------------------------------------------------------------------


@GROUP.mutant("protocol-aware recovery, FAST '18", _REPAIRS)
def votes_with_a_damaged_disk(patches: Patches) -> None:
    """A node that lost entries or its vote votes for nobody until they are back."""

    def on_vote_request(state: RaftState, sender: int, message: VoteRequest) -> None:
        kept, state.repair = state.repair, None
        original(state, sender, message)
        state.repair = kept

    original = patches.put_item(engine._ON_MESSAGE, VoteRequest, on_vote_request)


@GROUP.mutant("protocol-aware recovery, FAST '18", _REPAIRS)
def speaks_with_a_lost_vote(patches: Patches) -> None:
    """A node that may have lost its vote follows nobody before it has asked every other voter."""
    patches.put(repair, "may_hear", lambda _state, _kind: True)


@GROUP.mutant("protocol-aware recovery, FAST '18", _REPAIRS)
def says_nothing_of_what_it_lost(patches: Patches) -> None:
    """A node that set damage aside knows that entries are missing."""

    def recover(*arguments: Any, **options: Any) -> Any:
        wal, recovered = original(*arguments, **options)
        recovered.damage = None
        return wal, recovered

    original = patches.put(store, "_recover", recover)


@GROUP.mutant("protocol-aware recovery, FAST '18", _REPAIRS)
def trusts_what_a_damaged_node_acknowledged(patches: Patches) -> None:
    """A leader forgets what a damaged node had acknowledged, and sends it again."""

    def on_query(state: RaftState, sender: int, message: RepairQuery) -> None:
        original(state, sender, replace(message, last_index=1 << 62))

    original = patches.put_item(engine._ON_MESSAGE, RepairQuery, on_query)
