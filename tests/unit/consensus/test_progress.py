"""What a leader knows about one member: states, window, stall detection."""

from __future__ import annotations

import pytest

from quorate.consensus.entry import SnapshotMeta
from quorate.consensus.progress import PROBE, REPLICATE, SNAPSHOT, Progress


def replicating(match: int = 5) -> Progress:
    peer = Progress(2, match + 1)
    peer.acknowledged(match)
    peer.become_replicate()
    return peer


def test_the_window_is_bounded_in_messages_and_bytes() -> None:
    """One message may exceed the bytes, the next has to wait."""
    peer = replicating()
    assert peer.has_room(10, 2)
    peer.sent(6, 100)
    assert not peer.has_room(10, 2)
    assert peer.has_room(1000, 2)
    peer.sent(7, 1)
    assert not peer.has_room(1000, 2)
    peer.acknowledged(6)
    assert peer.has_room(10, 2)


def test_acknowledgements_never_take_back() -> None:
    """An older acknowledgement is no news."""
    peer = replicating(5)
    assert not peer.acknowledged(4)
    assert peer.match_index == 5
    assert peer.acknowledged(9), "even beyond what we remember to have sent"
    assert peer.next_index == 10


def test_a_probe_never_goes_below_what_was_acknowledged() -> None:
    """What is on a member's disk stays there."""
    peer = replicating(5)
    peer.sent(9, 1)
    peer.become_probe(2)
    assert (peer.state, peer.next_index) == (PROBE, 6)


def test_a_stall_is_the_same_message_in_flight_for_two_heartbeats() -> None:
    """Slow is not lost: any acknowledgement starts the wait anew."""
    peer = replicating(5)
    assert not peer.is_stalled()
    peer.sent(6, 1)
    peer.sent(7, 1)
    assert not peer.is_stalled()
    peer.acknowledged(6)
    assert not peer.is_stalled()
    assert peer.is_stalled()


def test_a_new_connection_probes_from_the_acknowledged_index() -> None:
    """What was in flight may be lost; without any acknowledgement the guess is kept."""
    peer = replicating(5)
    peer.sent(9, 1)
    peer.reconnected(9)
    assert (peer.state, peer.next_index) == (PROBE, 6)
    fresh = Progress(3, 10)
    fresh.reconnected(9)
    assert fresh.next_index == 10


def test_describe_shows_the_state() -> None:
    """One stable line per member."""
    peer = replicating(5)
    assert peer.describe() == "replicate match=5 next=6"
    peer.sent(6, 1)
    assert peer.describe() == "replicate match=5 next=7 inflight=1"
    peer.become_snapshot(SnapshotMeta(9, 2, b""))
    assert peer.state is SNAPSHOT
    assert peer.describe() == "snapshot match=5 next=7 snapshot=9@0"


def test_only_a_replicating_member_is_pipelined() -> None:
    """Sending ahead to a member whose log is not known is a bug."""
    peer = Progress(2, 6)
    with pytest.raises(AssertionError):
        peer.sent(6, 1)
    assert peer.state is not REPLICATE
