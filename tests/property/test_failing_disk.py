"""Random lives of a data directory on a disk that rots, lies, refuses and fills up.

The claim, for every workload, every mix of faults and every draw: a start gives back all that was
acknowledged, or it refuses with an error that says why. The one exception is stated by the disk
itself, which knows the truth: the newest write before a power failure was a lie.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_story import Node, random_step

from quorate.errors import CorruptData, DiskFailed, DiskFull, InvariantBroken
from quorate.simulation.disk import VirtualDisk

LIVES_MAX = 6
SHORT_BYTES = 2_000


def arm(disk: VirtualDisk, draw) -> None:
    """Let something go wrong in the life that follows, or nothing."""
    choice = draw(10)
    where = ("any", "wal", "snapshot", "identity")[draw(4)]
    if choice == 0:
        disk.lose_next_write(where if draw(2) else "wal")
    elif choice == 1:
        disk.misdirect_next_write(draw, where if draw(2) else "wal")
    elif choice == 2:
        disk.fail_next_sync("directory" if draw(3) == 0 else where)
    elif choice == 3:
        disk.fill(draw(SHORT_BYTES))
    elif choice == 4:
        disk.rot(draw, where)
    elif choice == 5:
        disk.decay(draw, where)
    elif choice == 6:
        disk.fail_after(draw(20))


def go_on(node: Node, draw) -> None:
    """Live for a few calls, with faults, until the store refuses or the process goes down."""
    for _ in range(1 + draw(8)):
        if draw(6) == 0:
            arm(node.disk, draw)
        random_step(node, draw)


def go_down(node: Node, draw) -> None:
    """Lose the power, or only the process; sometimes a sector rots meanwhile."""
    if draw(3):
        node.disk.crash(draw)
    else:
        node.disk.restart()
    if draw(8) == 0:
        node.disk.rot(draw, ("any", "wal", "snapshot", "identity")[draw(4)])


def live(seed: int) -> tuple[str, VirtualDisk]:
    """Several lives on one disk; returns how they ended, and the disk."""
    draw = random.Random(seed).randrange
    disk = VirtualDisk(sector_bytes=64)
    node = Node(disk, may_fall_back=True)
    node.open()
    try:
        for _ in range(1 + draw(LIVES_MAX)):
            try:
                go_on(node, draw)
            except DiskFailed as error:
                is_short = isinstance(error, DiskFull) and disk.free_bytes() < SHORT_BYTES
                was_wrong = any(disk.fault_counts()) or disk.is_dead or is_short
                assert was_wrong, "nothing was wrong with the disk"
            node.epoch += 1
            go_down(node, draw)
            if disk.silent_damage:
                return "lied", disk
            try:
                node.open()
            except DiskFailed:  # what it was is over now, and what could not be read can be
                disk.calm()
                go_down(node, draw)
                if disk.silent_damage:
                    return "lied", disk
                node.open()
    except CorruptData as error:
        counts = disk.fault_counts()
        assert counts.rotten + counts.misdirected + counts.lost > 0, error
        return "refused", disk
    return "lived", disk


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 1 << 32))
def test_acknowledged_state_comes_back_or_the_start_is_refused_ra_4(seed):
    """Random workloads, random faults: all that was acknowledged is there, or an error says no."""
    live(seed)


def test_the_lives_see_all_ends():
    """Not idle: some lives end well, some are refused, and in some the disk lied unseen."""
    assert {live(seed)[0] for seed in range(100)} == {"lived", "refused", "lied"}


def test_the_same_seed_gives_the_same_disk():
    """Determinism with every fault: the same draws, the same bytes."""
    for seed in range(30):
        (end, one), (again, two) = live(seed), live(seed)
        assert end == again
        assert contents(one) == contents(two)
        assert one.fault_counts() == two.fault_counts()


def contents(disk: VirtualDisk) -> dict[str, bytes]:
    return {name: bytes(inode.durable) for name, inode in disk._names.items()}


# ---- mutants: the lives above must be able to fail -----------------------------------------------


def assert_caught(seeds: int = 400) -> None:
    with pytest.raises((AssertionError, InvariantBroken)):
        for seed in range(seeds):
            live(seed)


def test_mutant_that_takes_damage_for_a_torn_tail_is_caught(monkeypatch):
    """Without the look-out for later groups, acknowledged entries are cut."""
    monkeypatch.setattr("quorate.storage.recovery.find_later_group", lambda *a, **k: -1)
    assert_caught()


def test_mutant_that_does_not_check_snapshots_is_caught(monkeypatch):
    """A snapshot whose blocks are not checked restores rotten state."""
    monkeypatch.setattr("quorate.storage.snapshot.crc32", lambda *a: 0)
    assert_caught()


def test_a_disk_that_does_not_own_up_to_its_lies_is_caught(monkeypatch):
    """The ground truth is needed: without it, a lost newest write looks like a bug of the store."""
    monkeypatch.setattr(VirtualDisk, "silent_damage", False)
    assert_caught()


def test_rot_that_does_not_spare_the_newest_write_is_caught(monkeypatch):
    """The other exception is needed too: damage of the newest group passes for a torn write."""
    monkeypatch.setattr("quorate.simulation.inode.Inode.guarded", lambda self: [])
    assert_caught(2_000)
