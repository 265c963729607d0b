"""Power failures at every operation of the data directory, under many fates of what was in flight.

The claim, for every workload, crash point and draw: what comes back is the state that was last
acknowledged, or one of the states that the call in flight passes through, and nothing else.
"""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_story import Node, random_story

from quorate.consensus.entry import Entry
from quorate.errors import DiskFailed, QuorateError
from quorate.simulation.disk import VirtualDisk, VirtualFile
from quorate.storage import store
from quorate.storage.snapshot import PayloadWriter
from quorate.storage.wal import Wal


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

    def publish(self, found):
        file = self.file
        sync, file.sync = file.sync, lambda: None
        close, file.close = file.close, lambda: None
        original(self, found)
        sync()
        close()

    original = PayloadWriter.publish
    monkeypatch.setattr(PayloadWriter, "publish", publish)
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
