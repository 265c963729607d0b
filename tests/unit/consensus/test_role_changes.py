"""Why leadership moved, as the engine tells it: for logs and metrics, never for a decision."""

from raft_cluster import RaftCluster

from quorate.consensus.raft.state import ROLE_CHANGES


def causes(cluster: RaftCluster, node_id: int) -> dict[tuple[str, str], int]:
    engine = cluster.nodes[node_id].engine
    assert engine is not None
    counted = engine.statistics().role_changes
    assert set(counted) == set(ROLE_CHANGES), "every cause is counted from 0"
    return {change: count for change, count in counted.items() if count}


def test_silence_is_an_election_timeout() -> None:
    """Nobody is heard: the node that asks and wins says that it waited in vain."""
    cluster = RaftCluster()
    cluster.elect(2)
    assert causes(cluster, 2) == {
        ("candidate", "election timeout"): 1,
        ("leader", "election timeout"): 1,
    }
    assert causes(cluster, 1) == {}


def test_first_links_are_a_cold_start() -> None:
    """Nodes that never heard a leader begin at their first links, and say so."""
    cluster = RaftCluster()
    cluster.tell_opened(1, 2)
    cluster.run(400)
    leader = cluster.leader()
    assert causes(cluster, leader)["leader", "cold start"] == 1


def test_a_closed_connection_is_named() -> None:
    """The leader's process ends: whoever replaces it says that its connection was closed."""
    cluster = RaftCluster()
    cluster.elect(1)
    cluster.run(200)
    cluster.crash(1)
    cluster.tell_closed(1)
    cluster.run(300)
    new = cluster.leader()
    assert new in (2, 3)
    assert causes(cluster, new)["leader", "connection of the leader closed"] == 1


def test_a_lost_majority_and_a_newer_epoch_are_told_apart() -> None:
    """Cut off, a leader gives up because nobody answers; paused, because others went on."""
    cluster = RaftCluster()
    cluster.elect(1)
    cluster.isolate([1], [2, 3])
    cluster.run(3000)
    assert causes(cluster, 1)["follower", "no majority answers"] == 1
    cluster.heal()
    cluster.run(1000)
    paused = cluster.leader()
    rest = [node for node in (1, 2, 3) if node != paused]
    before = causes(cluster, paused)
    cluster.isolate([paused], rest)
    cluster.advance(3000, only=rest)
    for _ in range(300):
        cluster.settle()
        cluster.advance(10, only=rest)
    assert cluster.leader() in rest
    cluster.heal()
    cluster.settle()
    for _ in range(30):
        cluster.advance(10, only=rest)
        cluster.settle()
    gained = ("follower", "another node has a newer epoch")
    assert causes(cluster, paused).get(gained, 0) == before.get(gained, 0) + 1


def test_a_hand_over_is_no_failure() -> None:
    """Both sides of a transfer name it."""
    cluster = RaftCluster()
    cluster.elect(1)
    cluster.run(200)
    cluster.transfer(1, 3)
    cluster.run(200)
    assert cluster.leader() == 3
    assert causes(cluster, 3)["leader", "leadership handed over"] == 1
    assert causes(cluster, 1)["follower", "leadership handed over"] == 1


def test_a_hand_over_that_was_given_up_explains_nothing_later() -> None:
    """The target never takes over; leadership that is lost afterwards has its real cause."""
    cluster = RaftCluster()
    cluster.elect(1)
    cluster.run(200)
    cluster.isolate([1], [2, 3])
    cluster.transfer(1, 3)
    cluster.run(3000)
    cluster.heal()
    cluster.run(500)
    told = causes(cluster, 1)
    assert ("follower", "leadership handed over") not in told
    assert told["follower", "no majority answers"] == 1


def test_a_follower_knows_how_far_it_is_behind() -> None:
    """The leader says with its first word how much is committed, long before it is here."""
    cluster = RaftCluster()
    cluster.elect(1)
    cluster.run(200)
    cluster.isolate([1, 2], [3])
    for number in range(50):
        cluster.propose(1, f"{number}")
    cluster.run(100)
    late = cluster.nodes[3].engine
    assert late is not None
    before = late.statistics()
    assert before.commit_heard == before.commit_index
    cluster.heal()
    cluster.network.clear()
    cluster.drop_if = lambda letter: type(letter.message).__name__ != "Heartbeat"
    cluster.run(300)
    heard = late.statistics()
    assert heard.commit_heard >= heard.commit_index + 50
    cluster.drop_if = lambda _: False
    cluster.run(500)
    assert late.statistics().commit_heard == late.statistics().commit_index
