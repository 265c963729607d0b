"""Power failures at every operation of the data directory, under many fates of what was in flight.

The claim, for every workload, crash point and draw: what comes back is the state that was last
acknowledged, or one of the states that the call in flight passes through, and nothing else.
"""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.consensus.entry import Entry, Persist, Recovered, SnapshotChunk, SnapshotMeta
from quorate.errors import DiskFailed, QuorateError
from quorate.simulation.disk import VirtualDisk, VirtualFile
from quorate.storage import store
from quorate.storage.settings import StorageSettings
from quorate.storage.snapshot import SnapshotWriter
from quorate.storage.store import Store
from quorate.storage.wal import Wal

CLUSTER = b"c" * 16
DIRECTORY = b"d" * 16
SMALL = StorageSettings(
    segment_bytes=900, preallocate_bytes=300, spare_segments_max=1, snapshot_sync_bytes=100
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
    """Drives a Store and remembers what it acknowledged and what was in flight."""

    def __init__(self, disk: VirtualDisk, options: StorageSettings = SMALL) -> None:
        self.disk = disk
        self.options = options
        self.acceptable = [State()]
        self.incarnation = 0
        self.peers: dict[int, bytes] = {}
        self.sequence = 0
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
        assert found in self.acceptable, (found, self.acceptable)
        assert self.store.identity.incarnation > self.incarnation
        for peer, directory in self.peers.items():
            assert (peer, directory) in self.store.identity.peers
        assert not [name for name in self.disk.names() if name.startswith("damaged-")]
        if recovered.snapshot is not None:
            data = b"".join(self.store.open_snapshot(recovered.snapshot))
            assert data == snapshot_payload(recovered.snapshot.index)
        self.incarnation = self.store.identity.incarnation
        self.acceptable = [found]

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
        assert writer.finish() == len(payload)
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


def full_story(node: Node) -> None:
    """Appends, truncation, votes, rotation, both kinds of snapshots, compaction, recycling."""
    node.open()
    node.persist(node.step(hard_state=b"term 1"))
    node.append(3, 1)
    node.persist(
        node.step(hard_state=b"term 2", entries=[Entry(4, 2, 1, b"four")]),
        node.step(entries=[Entry(5, 2, 1, b"five")]),
    )
    node.append(2, 3, truncate=4)
    node.meet(2)
    node.append(4, 3)
    node.append(5, 3)
    node.snapshot(8)
    node.append(3, 3)
    node.compact(7)
    node.append(1, 3, size=1500)
    node.append(6, 4)
    node.store.close()
    node.open()
    node.snapshot(node.state.next_index - 2)
    node.compact(node.state.snapshot[0])
    node.append(8, 4)
    conflict = node.state.next_index - 3
    node.install(conflict, 9, discard=True, with_vote=b"term 9")
    node.append(4, 9)
    node.install(conflict + 2, 9, discard=False, with_vote=b"term 10")
    node.append(4, 10)
    node.install(conflict + 50, 11, discard=True, with_vote=b"term 11")
    node.append(3, 11)
    node.append(2, 12, truncate=node.state.next_index - 1)
    node.store.close()
    node.open()


def run_until_failure(node: Node, story) -> None:
    with suppress(DiskFailed):
        story(node)


def go_down(node: Node, draw) -> None:
    if draw(2):
        node.disk.crash(draw)
    else:
        node.disk.restart()


def recover_and_go_on(node: Node, draw) -> None:
    """Go down, start (going down once more on the way), write on, and start again.

    Going down is a power failure, or the death of the process alone: then a start sees bytes and
    names that are not durable yet, and must make them so before it shows them to anybody.
    """
    go_down(node, draw)
    node.disk.fail_after(draw(16))
    with suppress(DiskFailed):
        node.open()
    go_down(node, draw)
    node.open()
    node.disk.crash(draw)
    node.open()
    node.append(2, 20)
    node.append(7, 20)
    node.store.close()
    node.disk.crash(draw)
    node.open()


def operations_of(story) -> int:
    node = Node(VirtualDisk(sector_bytes=64))
    story(node)
    return node.disk.counts().operations


def explore(story, draws: int, make_disk=lambda: VirtualDisk(sector_bytes=64)) -> None:
    for operations in range(operations_of(story) + 1):
        node = Node(make_disk())
        node.disk.fail_after(operations)
        run_until_failure(node, story)
        for number in range(draws):
            twin = Node(node.disk.clone())
            twin.acceptable, twin.incarnation = list(node.acceptable), 0
            twin.peers, twin.sequence = dict(node.peers), 1000
            recover_and_go_on(twin, random.Random(operations * 1000 + number).randrange)


def test_a_crash_at_every_operation_loses_nothing_acknowledged_ra_4():
    """Whatever the crash leaves of un-synced bytes and names, acknowledged state comes back."""
    explore(full_story, draws=6)


def random_story(seed: int):
    """A workload of legal calls drawn from a seed."""

    def story(node: Node) -> None:
        draw = random.Random(seed).randrange
        node.open()
        epoch = 1
        for _ in range(4 + draw(14)):
            state = node.state
            first, last = state.snapshot[0] + 1, state.next_index - 1
            choice = draw(9)
            epoch += draw(3) == 0
            if choice < 4:
                node.append(1 + draw(5), epoch, size=draw(3) * 90 + 20)
            elif choice == 4 and last >= first:
                epoch += 1
                node.append(1 + draw(2), epoch, truncate=first + draw(last - first + 1))
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
                epoch += 1
                index = first + draw(last - first + 5)
                node.install(index, epoch, discard=True, with_vote=b"epoch %d" % epoch)
            if draw(8) == 0:
                node.store.close()
                node.open()

    return story


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(0, 1 << 32))
def test_random_workloads_survive_a_crash_anywhere_ra_4(seed, fate):
    """Drawn workloads, drawn crash point, drawn fate of everything in flight."""
    story = random_story(seed)
    draw = random.Random(fate).randrange
    node = Node(VirtualDisk(sector_bytes=64))
    node.disk.fail_after(draw(operations_of(story) + 1))
    run_until_failure(node, story)
    recover_and_go_on(node, draw)


# ---- mutants: the tests above must be able to fail -----------------------------------------------


def assert_caught(make_disk=lambda: VirtualDisk(sector_bytes=64)) -> None:
    with pytest.raises((AssertionError, QuorateError)) as caught:
        explore(full_story, draws=6, make_disk=make_disk)
    assert not isinstance(caught.value, DiskFailed)


def test_mutant_without_fsync_is_caught(monkeypatch):
    """A sync that does nothing loses acknowledged entries, and the exploration sees it."""
    monkeypatch.setattr(VirtualFile, "sync", lambda self: self._enter("sync"))
    assert_caught()


def test_mutant_acknowledging_the_log_before_its_fsync_is_caught(monkeypatch):
    """A log that syncs everything but its groups loses acknowledged entries."""

    def write(self, *arguments):
        self._file.sync, real = (lambda: None), self._file.sync
        original(self, *arguments)
        self._file.sync = real

    original = Wal._write
    monkeypatch.setattr(Wal, "_write", write)
    assert_caught()


def test_mutant_without_directory_sync_is_caught(monkeypatch):
    """A directory sync that does nothing loses files, and the exploration sees it."""
    monkeypatch.setattr(VirtualDisk, "sync_directory", lambda self: self.enter("write", ""))
    assert_caught()


def test_mutant_without_directory_sync_of_the_log_is_caught(monkeypatch):
    """Forgetting only the log's own directory sync is seen too."""
    monkeypatch.setattr(Wal, "_sync_directory", lambda self: None)
    assert_caught()


def test_mutant_renaming_before_fsync_is_caught(monkeypatch):
    """A snapshot that gets its name before its bytes are durable shows up damaged."""

    def finish(self):
        file = self._file
        sync, file.sync = file.sync, lambda: None
        close, file.close = file.close, lambda: None
        size = original(self)
        sync()
        close()
        return size

    original = SnapshotWriter.finish
    monkeypatch.setattr(SnapshotWriter, "finish", finish)
    assert_caught()


def test_mutant_dropping_segments_before_the_log_says_so_is_caught(monkeypatch):
    """Files recycled while they still carry live entries are missed at the next start."""

    def greedy(self):
        for segment in self._segments[:-1]:
            segment.last_index = 0
        original(self)

    original = Wal.drop_unneeded
    monkeypatch.setattr(Wal, "drop_unneeded", greedy)
    assert_caught()


def test_mutant_keeping_a_conflicting_log_beside_a_snapshot_is_caught(monkeypatch):
    """Known bug 45: a crash between the snapshot's rename and the log's reset leaves both."""
    monkeypatch.setattr("quorate.storage.store._contradicts", lambda image, snapshot: False)
    assert_caught()


def test_mutant_trusting_bytes_that_only_the_page_cache_holds_is_caught(monkeypatch):
    """After a killed process the newest group may be readable and not durable."""
    monkeypatch.setattr(Wal, "_renew_tail", lambda self, begin: None)
    assert_caught()


def test_mutant_trusting_names_that_are_not_durable_is_caught(monkeypatch):
    """A recovery that builds on an un-synced rename loses the file in the next power failure."""

    def recover(disk, *arguments):
        disk.sync_directory = lambda: None
        try:
            return original(disk, *arguments)
        finally:
            del disk.sync_directory

    original = store._recover
    monkeypatch.setattr(store, "_recover", recover)
    assert_caught()


@pytest.mark.parametrize("keeps", [False, True], ids=["group lost", "group in the page cache"])
def test_after_a_failed_fsync_a_restart_never_shows_what_a_crash_can_still_take(keeps):
    """The kernel forgot the pages of a failed fsync, yet shows them: start must write them anew."""
    node = Node(VirtualDisk(sector_bytes=64))
    node.open()
    node.append(3, 1)

    def refuse(operation: str, name: str) -> None:
        if operation == "sync":
            raise DiskFailed(f"cannot sync {name}: Input/output error (EIO)")

    node.disk.hook = refuse
    with pytest.raises(DiskFailed):
        node.append(2, 1)
    node.disk.hook = None
    if keeps:
        node.disk.restart()
        node.open()
        assert len(node.state.entries) == 5
    node.disk.crash(lambda n: 0)
    node.open()
    assert len(node.state.entries) == (5 if keeps else 3)
