"""The engine at its interface: recovery, effects, statistics."""

from __future__ import annotations

import pytest
from raft_cluster import Generator, RaftCluster

from quorate.consensus.engine import Leadership, Persisted, Tick, TransferLeadership
from quorate.consensus.entry import Entry, EntryKind, Recovered, SnapshotMeta
from quorate.consensus.membership import Configuration
from quorate.consensus.raft.codec import encode_hard_state
from quorate.consensus.raft.engine import RaftEngine
from quorate.consensus.raft.messages import VoteRequest
from quorate.consensus.registry import EngineSettings, create_engine
from quorate.errors import CorruptData, SettingsError

THREE = Configuration.of([1, 2, 3])


def engine(recovered: Recovered) -> RaftEngine:
    made = create_engine(
        "raft",
        node_id=1,
        configuration=THREE,
        recovered=recovered,
        settings=EngineSettings(),
        draw=Generator(1).draw,
        now_ms=0,
    )
    assert isinstance(made, RaftEngine)
    return made


def entries(first: int, *epochs: int) -> list[Entry]:
    return [Entry(i, epoch, EntryKind.BATCH, b"") for i, epoch in enumerate(epochs, first)]


META = SnapshotMeta(4, 2, Configuration.of([1, 2]).encode())


@pytest.mark.parametrize(
    ("found", "base", "last"),
    [
        (entries(5, 2, 3), 4, 6),  # exactly behind the snapshot
        (entries(1, 1, 1, 2, 2, 3), 0, 5),  # the whole log is still there
        (entries(3, 2, 2, 2), 3, 5),  # some of it is
        ([], 4, 4),
        (entries(1, 1, 1), 4, 4),  # stopped before the replaced log was dropped: too short
        (entries(1, 1, 1, 1, 1, 1), 4, 4),  # ... and one that disagrees with the snapshot
    ],
)
def test_recovery_fits_log_and_snapshot_together(found: list[Entry], base: int, last: int) -> None:
    """Whatever a crash left beside a snapshot, the log starts or continues at it."""
    made = engine(Recovered(encode_hard_state(3, 2), META, found))
    numbers = made.statistics()
    assert (numbers.first_index - 1, numbers.last_index, numbers.commit_index) == (base, last, 4)
    assert made.configuration() == Configuration.of([1, 2])
    assert made.snapshot_meta(4) == META
    assert made.state.voted_for == 2


@pytest.mark.parametrize(
    "recovered",
    [
        Recovered(b"nonsense"),
        Recovered(encode_hard_state(1, 0), None, entries(1, 2)),  # a vote may be lost
        Recovered(encode_hard_state(5, 0), None, entries(2, 1)),  # the beginning is missing
        Recovered(encode_hard_state(5, 0), None, [*entries(1, 1), *entries(3, 1)]),
        Recovered(encode_hard_state(5, 0), None, entries(1, 2, 1)),
    ],
)
def test_a_disk_that_contradicts_itself_is_refused(recovered: Recovered) -> None:
    """A node that cannot trust its disk does not start; the error says what to do."""
    with pytest.raises(CorruptData, match="rebuild"):
        engine(recovered)


def test_the_first_turn_says_who_leads() -> None:
    """A driver needs no special case at start."""
    effects = engine(Recovered(encode_hard_state(3, 2))).take()
    assert effects.leadership == Leadership(3, 0, established=False)
    assert effects.persist is None


def test_an_idle_turn_hands_out_nothing() -> None:
    """No event, no effect: nothing is repeated."""
    made = engine(Recovered())
    made.take()
    idle = made.take()
    assert idle.leadership is None
    assert idle.persist is None
    assert not (idle.messages or idle.messages_after_persist or idle.committed or idle.barriers)


def test_vote_requests_wait_for_the_own_vote_on_disk() -> None:
    """Known bug 26: a candidacy is durable before anybody hears of it."""
    cluster = RaftCluster(3, instant_disk=False)
    cluster.campaign(1)
    for _ in range(4):
        cluster.deliver_one()
    pending = cluster.nodes[1].pending
    assert len(pending) == 1
    assert pending[0].persist.hard_state == encode_hard_state(1, 1)
    assert all(isinstance(letter.message, VoteRequest) for letter in pending[0].letters)
    assert not cluster.network


def test_confirmations_of_the_future_are_a_drivers_bug() -> None:
    """The engine asserts what it expects of its driver."""
    with pytest.raises(AssertionError):
        engine(Recovered()).step(Persisted(1))


def test_time_that_goes_back_is_ignored() -> None:
    """A tick below the last one changes nothing and is counted."""
    made = engine(Recovered())
    made.step(Tick(100))
    made.step(Tick(50))
    assert made.state.now_ms == 100
    assert made.statistics().ignored == {"tick that goes back in time": 1}


def test_statistics_name_the_role_and_the_members() -> None:
    """Status pages see leader, follower and learner, and who is active."""
    cluster = RaftCluster(2, learners=1)
    cluster.elect(1)
    cluster.run(200)
    cluster.crash(2)
    cluster.advance(450)
    roles = {}
    for node_id in (1, 3):
        made = cluster.nodes[node_id].engine
        assert made is not None
        roles[node_id] = made.statistics()
    assert (roles[1].role, roles[3].role) == ("leader", "learner")
    assert [peer.node_id for peer in roles[1].peers] == [2, 3]
    assert roles[1].peers[0].state == "replicate"
    assert roles[3].peers == ()


def test_transfer_on_a_follower_is_ignored() -> None:
    """Only a leader has something to hand over."""
    cluster = RaftCluster(3)
    cluster.step(2, TransferLeadership(1))
    assert sum(cluster.nodes[2].state.ignored.values()) == 1


def test_unknown_engines_are_refused() -> None:
    """The registry says which engines there are."""
    with pytest.raises(SettingsError, match="raft"):
        create_engine(
            "zab",
            node_id=1,
            configuration=THREE,
            recovered=Recovered(),
            settings=EngineSettings(),
            draw=Generator(1).draw,
            now_ms=0,
        )


def test_a_follower_asks_again_when_its_link_to_the_leader_stands_again() -> None:
    """A question or its answer may be lost with the old connection: no timer is waited for."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.read(2, "r")
    cluster.network.clear()
    cluster.tell_opened(1, 2)
    assert cluster.reads_failed == ["r"], "the driver asks again at once"
