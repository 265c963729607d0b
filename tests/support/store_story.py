"""A node's storage life under test: legal calls, and what was promised after each of them.

``Node`` drives a real Store on a virtual disk and remembers what it acknowledged and what was in
flight; whatever comes back at the next start must be one of the states it accepts.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from quorate.consensus.entry import Entry, Persist, Recovered, SnapshotChunk, SnapshotMeta
from quorate.simulation.disk import VirtualDisk
from quorate.simulation.inode import Draw
from quorate.storage.settings import StorageSettings
from quorate.storage.store import Store

CLUSTER = b"c" * 16
DIRECTORY = b"d" * 16
SMALL = StorageSettings(
    segment_bytes=900,
    preallocate_bytes=300,
    spare_segments_max=1,
    snapshot_sync_bytes=100,
    reserve_bytes=0,
)


@dataclass(frozen=True)
class State:
    """What a node was promised: hard state, snapshot, and the entries behind the snapshot."""

    hard_state: bytes | None = None
    snapshot: tuple[int, int] = (0, 0)
    entries: tuple[tuple[int, int, bytes], ...] = ()

    @property
    def next_index(self) -> int:
        return self.entries[-1][0] + 1 if self.entries else self.snapshot[0] + 1

    def epoch_at(self, index: int) -> int:
        return next((e for i, e, _ in self.entries if i == index), 0)

    def with_snapshot(self, index: int, epoch: int) -> State:
        """Raft Fig. 13: keep what follows the snapshot's last entry if the log holds it."""
        if index <= self.snapshot[0]:
            return self
        keep = self.epoch_at(index) == epoch
        entries = tuple(e for e in self.entries if e[0] > index) if keep else ()
        return replace(self, snapshot=(index, epoch), entries=entries)

    @classmethod
    def of(cls, recovered: Recovered) -> State:
        snapshot = recovered.snapshot
        index = snapshot.index if snapshot else 0
        kept = tuple((e.index, e.epoch, e.payload) for e in recovered.entries if e.index > index)
        assert [e.index for e in recovered.entries] == list(
            range(recovered.entries[0].index, recovered.entries[0].index + len(recovered.entries))
            if recovered.entries
            else []
        )
        assert not kept or kept[0][0] == index + 1
        return cls(recovered.hard_state, (index, snapshot.epoch) if snapshot else (0, 0), kept)


def path(state: State, steps: list[Persist]) -> list[State]:
    """The durable states that one persist call passes through, the first is ``state``."""
    durable = [state]
    for step in steps:
        if step.hard_state is not None:
            state = replace(state, hard_state=step.hard_state)
        if step.truncate_from is not None:
            kept = tuple(e for e in state.entries if e[0] < step.truncate_from)
            state = replace(state, entries=kept)
        added = tuple((e.index, e.epoch, e.payload) for e in step.entries)
        state = replace(state, entries=state.entries + added)
        if step.chunk is not None and step.chunk.last:
            durable.append(state)
            state = state.with_snapshot(step.chunk.meta.index, step.chunk.meta.epoch)
            durable.append(state)
    durable.append(state)
    return durable


class Node:
    """Drives a Store and remembers what it acknowledged and what was in flight.

    Args:
        may_fall_back: the disk damages files, so a start may set a snapshot aside and use an older
            one, if the log makes up for it.
    """

    def __init__(
        self, disk: VirtualDisk, options: StorageSettings = SMALL, *, may_fall_back: bool = False
    ) -> None:
        self.may_fall_back = may_fall_back
        self.disk = disk
        self.options = options
        self.acceptable = [State()]
        self.incarnation = 0
        self.peers: dict[int, bytes] = {}
        self.sequence = 0
        self.epoch = 1  # of what random_step appends next; never goes back
        self.store: Store | None = None

    @property
    def state(self) -> State:
        return self.acceptable[-1]

    def open(self) -> None:
        self.store, recovered = Store.open(
            self.disk,
            node_id=1,
            cluster_id=CLUSTER,
            new_directory_id=DIRECTORY,
            settings=self.options,
        )
        found = State.of(recovered)
        assert found in self.acceptable or self._fell_back(found), (found, self.acceptable)
        assert self.store.identity.incarnation > self.incarnation
        for peer, directory in self.peers.items():
            assert (peer, directory) in self.store.identity.peers
        damaged = [name for name in self.disk.names() if name.startswith("damaged-")]
        assert self.may_fall_back or not damaged
        if recovered.snapshot is not None:
            data = b"".join(self.store.open_snapshot(recovered.snapshot))
            assert data == snapshot_payload(recovered.snapshot.index)
        self.incarnation = self.store.identity.incarnation
        self.acceptable = [found]

    def _fell_back(self, found: State) -> bool:
        """Whether this is an older snapshot, and a log that leads from it to what was promised."""
        return self.may_fall_back and any(
            found.snapshot[0] < state.snapshot[0] and found.with_snapshot(*state.snapshot) == state
            for state in self.acceptable
        )

    def persist(self, *steps: Persist) -> None:
        self.acceptable = path(self.state, list(steps))
        self.store.persist(steps)
        self.acceptable = self.acceptable[-1:]

    def step(self, **fields) -> Persist:
        self.sequence += 1
        return Persist(self.sequence, **fields)

    def append(self, count: int, epoch: int, size: int = 40, truncate: int | None = None) -> None:
        first = truncate or self.state.next_index
        entries = [
            Entry(i, epoch, 1, f"{i}/{epoch}/{self.sequence}".encode().ljust(size, b"."))
            for i in range(first, first + count)
        ]
        self.persist(self.step(entries=entries, truncate_from=truncate))

    def snapshot(self, index: int) -> None:
        before = self.state
        meta = SnapshotMeta(index, before.epoch_at(index), b"configuration")
        self.acceptable = [before, before.with_snapshot(index, meta.epoch)]
        writer = self.store.begin_snapshot(meta)
        payload = snapshot_payload(index)
        for begin in range(0, len(payload), 70):
            writer.write(payload[begin : begin + 70])
        assert writer.finish() > 0
        self.acceptable = self.acceptable[-1:]

    def install(self, index: int, epoch: int, *, discard: bool, with_vote: bytes) -> None:
        meta = SnapshotMeta(index, epoch, b"configuration")
        payload = snapshot_payload(index)
        half = len(payload) // 2
        first = SnapshotChunk(meta, 0, payload[:half], last=False, discard_log=discard)
        second = SnapshotChunk(meta, half, payload[half:], last=True, discard_log=discard)
        self.persist(self.step(chunk=first))
        self.persist(self.step(hard_state=with_vote, chunk=second))

    def compact(self, index: int) -> None:
        self.persist(self.step(compact_to=index))

    def meet(self, peer: int) -> None:
        self.store.check_peer(peer, bytes([peer]) * 16)
        self.peers[peer] = bytes([peer]) * 16


def snapshot_payload(index: int) -> bytes:
    return f"state at {index} ".encode() * 30


def random_step(node: Node, draw: Draw) -> None:
    """One legal call."""
    state = node.state
    first, last = state.snapshot[0] + 1, state.next_index - 1
    choice = draw(9)
    node.epoch += draw(3) == 0
    if choice < 4:
        node.append(1 + draw(5), node.epoch, size=draw(3) * 90 + 20)
    elif choice == 4 and last >= first:
        node.epoch += 1
        node.append(1 + draw(2), node.epoch, truncate=first + draw(last - first + 1))
    elif choice == 5 and last >= first:
        node.snapshot(first + draw(last - first + 1))
    elif choice == 6 and state.snapshot[0]:
        node.compact(1 + draw(state.snapshot[0]))
    elif choice == 7:
        node.persist(node.step(hard_state=b"vote %d" % draw(1000)))
    elif draw(2) and last >= first:
        index = first + draw(last - first + 1)
        vote = b"vote %d" % draw(1000)
        node.install(index, state.epoch_at(index), discard=False, with_vote=vote)
    else:
        node.epoch += 1
        index = first + draw(last - first + 5)
        node.install(index, node.epoch, discard=True, with_vote=b"epoch %d" % node.epoch)
    if draw(8) == 0:
        node.store.close()
        node.open()


def random_story(seed: int):
    """A workload of legal calls drawn from a seed."""

    def story(node: Node) -> None:
        draw = random.Random(seed).randrange
        node.open()
        for _ in range(4 + draw(14)):
            random_step(node, draw)

    return story
