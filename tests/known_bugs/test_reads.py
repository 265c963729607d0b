"""Known bugs 53 to 60: reads that must not be stale. The list is docs/known-bugs.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fake_engine import Bench
from raft_cluster import RaftCluster

from known_bugs import Mutants, Patch, Scenario, goes_as_written, must_notice
from quorate.consensus.engine import ReadBarrier, Received
from quorate.consensus.membership import Configuration
from quorate.consensus.quorum import Quorum
from quorate.consensus.raft import leader, reads
from quorate.consensus.raft.messages import HeartbeatReply, ReadReply, ReadRequest
from quorate.consensus.raft.state import RaftState
from quorate.replication.replica import Replica

MUTANTS = Mutants()


# ---- scenarios ---------------------------------------------------------------------------------


def test_kb_53_a_new_leader_reads_only_after_a_commit_of_its_own_term() -> None:
    """Before that its commit index may be older than what its predecessor acknowledged."""
    goes_as_written("read_before_own_term_commit")


def test_kb_54_a_retried_read_is_not_confirmed_by_echoes_of_the_first() -> None:
    """Every try is a round of its own, however it is named: late echoes belong to older rounds."""
    goes_as_written("read_with_delayed_echo")
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.read(1, "first try")
    cluster.network.clear()
    cluster.read(1, "second try")
    cluster.network.clear()
    waiting = cluster.nodes[1].state.read_rounds
    first, second = (number for number, _, _ in waiting)
    assert first < second
    for voter in (2, 3):
        cluster.step(1, Received(voter, HeartbeatReply(1, first)))
    assert cluster.reads_done == {"first try": 1}
    cluster.step(1, Received(2, HeartbeatReply(1, second)))
    assert cluster.reads_done == {"first try": 1, "second try": 1}


def test_kb_54_a_follower_does_not_take_an_old_answer_for_a_retry() -> None:
    """A follower's request numbers are never used twice, not even after a restart."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    numbers: set[int] = set()
    for life in range(3):
        cluster.read(2, f"r{life}")
        request = cluster.network.pop().message
        assert isinstance(request, ReadRequest)
        assert request.number not in numbers
        for number in sorted(numbers):
            cluster.step(2, Received(1, ReadReply(1, number, 1)))
        numbers.add(request.number)
        assert cluster.reads_done == {}
        cluster.crash(2)
        cluster.start(2)
        cluster.run(200)


def test_kb_55_a_single_node_reads_after_a_restart_what_it_acknowledged() -> None:
    """Its commit index is gone with the process; the read waits until it is known again."""
    cluster = RaftCluster(1)
    cluster.run(100)
    cluster.propose(1, "a", "b")
    acknowledged = cluster.nodes[1].applied_index
    cluster.crash(1)
    cluster.start(1)
    assert cluster.nodes[1].state.commit_index == 0
    cluster.step(1, ReadBarrier("too early"))
    assert cluster.reads_failed == ["too early"], "nobody leads yet; the driver asks again"
    cluster.instant_disk = False
    cluster.campaign(1)
    cluster.persist(1)
    cluster.reads["r"] = (1, acknowledged)
    cluster.step(1, ReadBarrier("r"))
    assert cluster.reads_done == {}
    while cluster.persist(1):
        pass
    assert cluster.reads_done["r"] > acknowledged


def test_kb_57_learners_confirm_no_read() -> None:
    """However many learners echo a round, only voters say who leads."""
    cluster = RaftCluster(3, learners=3)
    cluster.elect(1)
    cluster.isolate([1, 4, 5, 6], [2, 3])
    cluster.read(1, "r")
    cluster.run(200)
    assert cluster.reads_done == {}
    cluster.heal()
    cluster.run(200)
    assert "r" in cluster.reads_done


def test_kb_58_a_read_does_not_outlive_the_leadership_that_took_its_index() -> None:
    """Handed over and back, a leader does not answer at an index from its earlier term."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.drop_if = lambda letter: isinstance(letter.message, HeartbeatReply)
    cluster.read(1, "old")
    cluster.settle()
    for old, new in ((1, 2), (2, 1)):
        cluster.transfer(old, new)
        cluster.settle()
        cluster.propose(new, f"by n{new}")
        cluster.settle()
        assert cluster.leader() == new
    cluster.drop_if = lambda _: False
    cluster.run(300)
    assert cluster.reads_failed == ["old"]
    assert cluster.reads_done == {}


def test_kb_59_a_read_is_not_served_by_a_state_machine_that_stopped() -> None:
    """A read point beyond what was applied is never released, whatever the reason."""
    bench = Bench(node_id=1)
    bench.commit_sub(b"good")
    bench.replica.take()

    def apply(payload: bytes, context: Any) -> None:
        raise RuntimeError("user code")

    bench.machine.apply = apply
    bench.commit_sub(b"bad", number=2)
    bench.engine.effects.barriers.append(("read", 2))
    with pytest.raises(RuntimeError):
        bench.replica.take()
    for _ in range(3):
        assert bench.replica.take().released == []


def test_kb_60_nothing_uncommitted_is_visible_and_a_new_leader_serves_after_its_first_commit() -> (
    None
):
    """State is made of committed entries only; leadership counts once an own entry is committed."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.propose(1, "old")
    cluster.settle()
    cluster.isolate([1], [2, 3])
    cluster.propose(1, "dirty")
    cluster.settle()
    assert [node.applied for node in cluster.nodes.values()] == [["old"]] * 3
    cluster.run(1000)
    cluster.heal()
    cluster.run(2000)
    assert not any("dirty" in node.applied for node in cluster.nodes.values())

    cluster = RaftCluster(3)
    cluster.prepare(1, [1, 1])
    cluster.campaign(1)
    while cluster.nodes[1].state.leader != 1:
        cluster.deliver_one()
    cluster.read(1, "r")
    assert not cluster.nodes[1].leadership.established
    assert cluster.reads_done == {}
    cluster.settle()
    assert cluster.nodes[1].leadership.established
    assert cluster.reads_done == {"r": 3}


# ---- the rules, removed ------------------------------------------------------------------------


@MUTANTS.breaks(
    test_kb_53_a_new_leader_reads_only_after_a_commit_of_its_own_term,
    test_kb_55_a_single_node_reads_after_a_restart_what_it_acknowledged,
    test_kb_60_nothing_uncommitted_is_visible_and_a_new_leader_serves_after_its_first_commit,
)
def starts_a_term_without_an_entry(patch: pytest.MonkeyPatch) -> None:
    def no_entry(state: RaftState) -> None:
        state.is_term_committed = True

    patch.setattr(leader, "append_first_entry", no_entry)


@MUTANTS.breaks(test_kb_54_a_retried_read_is_not_confirmed_by_echoes_of_the_first)
def reuses_the_last_round(patch: pytest.MonkeyPatch) -> None:
    begin = reads.begin_round

    def begin_again(state: RaftState) -> None:
        if state.reads_waiting and state.round:
            state.round -= 1
        begin(state)

    patch.setattr(reads, "begin_round", begin_again)


@MUTANTS.breaks(test_kb_54_a_follower_does_not_take_an_old_answer_for_a_retry)
def numbers_requests_from_one(patch: pytest.MonkeyPatch) -> None:
    build = RaftState.__init__

    def from_one(self: RaftState, **arguments: Any) -> None:
        build(self, **arguments)
        self.read_number = 0

    patch.setattr(RaftState, "__init__", from_one)


@MUTANTS.breaks(test_kb_57_learners_confirm_no_read)
def counts_learners(patch: pytest.MonkeyPatch) -> None:
    build = Quorum.__init__

    def count_all(self: Quorum, configuration: Configuration) -> None:
        build(self, Configuration.of(configuration.members))

    patch.setattr(Quorum, "__init__", count_all)


@MUTANTS.breaks(test_kb_58_a_read_does_not_outlive_the_leadership_that_took_its_index)
def keeps_reads_when_leadership_ends(patch: pytest.MonkeyPatch) -> None:
    drop = RaftState._drop_leadership

    def keep(self: RaftState) -> None:
        rounds = list(self.read_rounds)
        self.read_rounds.clear()
        drop(self)
        self.read_rounds.extend(rounds)

    patch.setattr(RaftState, "_drop_leadership", keep)


@MUTANTS.breaks(test_kb_59_a_read_is_not_served_by_a_state_machine_that_stopped)
def releases_at_what_is_committed(patch: pytest.MonkeyPatch) -> None:
    take: Callable[[Replica], Any] = Replica.take

    def take_released(self: Replica) -> Any:
        turn = take(self)
        turn.released += [token for _, _, token in self._barriers_waiting]
        return turn

    def release_unapplied(self: Replica, turn: Any) -> None:
        turn.released += [token for _, _, token in self._barriers_waiting]

    patch.setattr(Replica, "_release_barriers", release_unapplied)
    patch.setattr(Replica, "take", take_released)


@MUTANTS.breaks(
    test_kb_60_nothing_uncommitted_is_visible_and_a_new_leader_serves_after_its_first_commit
)
def delivers_what_is_only_in_the_log(patch: pytest.MonkeyPatch) -> None:
    def deliver(self: RaftState) -> None:
        if self.log.last_index > self.delivered_index:
            self.out.committed = self.log.since(self.delivered_index + 1)
            self.commit_index = self.delivered_index = self.log.last_index

    patch.setattr(RaftState, "deliver", deliver)


@pytest.mark.parametrize(("patch", "scenario"), MUTANTS.params)
def test_scenario_notices_the_missing_rule(patch: Patch, scenario: Scenario) -> None:
    """Without its rule the scenario fails: a test must be able to."""
    must_notice(patch, scenario)
