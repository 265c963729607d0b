"""When a snapshot is due: the size of the log against the state's (dissertation §5.1.2)."""

from __future__ import annotations

import pytest

from quorate.errors import InvariantBroken
from quorate.replication.snapshots import SnapshotPolicy


def save(policy: SnapshotPolicy, size: int) -> None:
    for _ in policy.begin(b"", iter([b"x"] * size)):
        pass
    policy.end()


def test_ra_6_5_1_2_a_snapshot_is_due_when_the_log_outgrows_the_state_by_a_factor() -> None:
    """RA-6, §5.1.2: never below the floor; above it by ratio, so that large states rest longer."""
    policy = SnapshotPolicy(bytes_min=100, factor=0.5)
    policy.bytes_since_last = 99
    assert not policy.is_due()
    policy.bytes_since_last = 100
    assert policy.is_due()
    save(policy, 1_000)
    for size, is_due in ((100, False), (499, False), (500, True)):
        policy.bytes_since_last = size
        assert policy.is_due() == is_due
    save(policy, 150)
    policy.bytes_since_last = 100
    assert policy.is_due()


def test_ra_6_what_was_loaded_counts_as_the_last_snapshot() -> None:
    """After a restart, or a snapshot from the leader, the ratio holds from the first entry on."""
    policy = SnapshotPolicy(bytes_min=10, factor=0.5)
    policy.bytes_since_last = 1_000
    assert b"".join(policy.loading([b"x" * 60, b"y" * 40])) == b"x" * 60 + b"y" * 40
    for size, is_due in ((0, False), (49, False), (50, True)):
        policy.bytes_since_last = size
        assert policy.is_due() == is_due


def test_ra_6_log_written_meanwhile_counts_for_the_next_snapshot_and_none_begins_before() -> None:
    """One at a time; what it does not hold is log behind it."""
    policy = SnapshotPolicy(bytes_min=10, factor=0.0)
    policy.bytes_since_last = 10
    pieces = policy.begin(b"head", iter([b"body"]))
    policy.bytes_since_last += 25
    assert not policy.is_due()
    assert list(pieces) == [b"head", b"body"]
    policy.end()
    assert policy.is_due()
    assert policy.last_size_bytes == 8


def test_an_abandoned_snapshot_must_not_be_pulled() -> None:
    """It walks a state that is being replaced."""
    policy = SnapshotPolicy(bytes_min=10, factor=0.0)
    pieces = policy.begin(b"head", iter([b"body"]))
    next(pieces)
    assert policy.abandon()
    with pytest.raises(InvariantBroken):
        next(pieces)


def test_ra_6_nodes_take_their_snapshots_at_different_times() -> None:
    """Their logs grow alike; two in three of them at one time would hold commits up."""
    policies = [SnapshotPolicy(10_000, 0.0, node_id) for node_id in (1, 2, 3)]
    begun: list[list[int]] = [[], [], []]
    for step in range(1, 1_000):
        for policy, at in zip(policies, begun, strict=True):
            policy.bytes_since_last += 100
            if policy.is_due():
                assert 10_000 <= policy.bytes_since_last <= 15_100
                at.append(step)
                list(policy.begin(b"", iter(())))
                policy.end()
    assert all(len(at) >= 6 for at in begun)
    together = set(begun[0]) & set(begun[1]) | set(begun[0]) & set(begun[2])
    assert len(together) < 2


def test_a_snapshot_that_came_to_nothing_is_still_due() -> None:
    """The log that it would have replaced counts again, and what came meanwhile with it."""
    policy = SnapshotPolicy(bytes_min=100, factor=0.5)
    policy.bytes_since_last = 100
    policy.begin(b"", iter([b"x"]))
    policy.bytes_since_last += 7
    policy.put_off()
    assert not policy.is_running
    assert policy.bytes_since_last == 107
    assert policy.is_due()
