"""Mutants of snapshots: what they stand for, when they count, and what they replace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from quorate.consensus.entry import SnapshotMeta
from quorate.consensus.raft import engine, snapshots
from quorate.consensus.raft.messages import InstallChunk
from quorate.consensus.raft.state import IncomingSnapshot, RaftState
from quorate.replication import replica
from quorate.replication.origins import AppliedBatches
from quorate.replication.outbox import Outbox
from quorate.simulation.mutants.mutant import Group, Patches
from quorate.simulation.workloads.cells import Cells

GROUP = Group("snapshots")


@GROUP.mutant(
    "Raft Fig. 13, rules 6 and 7; known bug of hashicorp/raft",
    faults=("ambush:half-installed",),
    clients=12,
)
def keeps_a_log_that_disagrees_with_the_snapshot(patches: Patches) -> None:
    """A snapshot from the leader replaces a log that does not lead to it."""

    def store_chunk(state: RaftState, incoming: IncomingSnapshot, message: InstallChunk) -> None:
        store(state, incoming, message)
        if state.installing is not None and state.log.last_index >= message.meta.index:
            state.installing.discard_log = False
            assert state.pending_chunk is not None
            state.pending_chunk = state.pending_chunk._replace(discard_log=False)

    store = patches.put(snapshots, "_store_chunk", store_chunk)


@GROUP.mutant("Raft §7")
def takes_the_state_back_to_an_older_snapshot(patches: Patches) -> None:
    """A snapshot that covers less than what is committed here changes nothing."""

    def on_chunk(state: RaftState, sender: int, message: InstallChunk) -> None:
        commit, state.commit_index = state.commit_index, 0
        try:
            original(state, sender, message)
        finally:
            state.commit_index = commit

    original = patches.put_item(engine._ON_MESSAGE, InstallChunk, on_chunk)


@GROUP.mutant("Raft §7")
def names_snapshots_after_the_next_entry(patches: Patches) -> None:
    """A snapshot is named after the last entry that was applied to it."""

    def meta_at(state: RaftState, index: int) -> SnapshotMeta:
        named: SnapshotMeta = meta(state, index)
        epoch = state.log.epoch_at(index + 1)
        return named if epoch is None else replace(named, index=index + 1, epoch=epoch)

    meta = patches.put(snapshots, "meta_at", meta_at)


@GROUP.mutant("dissertation §6.3")
def leaves_the_applied_table_out_of_snapshots(patches: Patches) -> None:
    """A snapshot carries which batches it holds, so that none of them is applied again."""

    def header(time_ms: int, _applied: AppliedBatches) -> bytes:
        empty: bytes = encode(time_ms, AppliedBatches())
        return empty

    encode = patches.put(replica, "encode_header", header)


@GROUP.mutant("dissertation §5.1")
def lets_later_writes_into_a_snapshot(patches: Patches) -> None:
    """A snapshot shows the state at one index, however long it takes to write."""

    def snapshot(self: Cells) -> Iterator[bytes]:
        yield f"{self._digest}\n".encode()
        for key, value in list(self.values.items()):
            yield f"{key} {value}\n".encode()
        yield b"\n"
        for identity in self.identities:
            yield f"{identity}\n".encode()

    patches.put(Cells, "snapshot", snapshot)


@GROUP.mutant("every request ends (liveness)")
def waits_for_batches_that_a_snapshot_covers(patches: Patches) -> None:
    """What a snapshot from the leader covers is settled: nobody waits for it any more."""
    patches.put(Outbox, "settle", lambda _self, _number: None)
