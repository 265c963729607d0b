"""Known bugs 61 to 66: elections, sessions, end to end. The list is docs/known-bugs.md."""

from __future__ import annotations

import pytest
from fake_engine import Bench
from raft_cluster import RaftCluster
from virtual_client import Client

from known_bugs import Mutants, Patch, Scenario, must_notice, sent
from quorate.consensus.engine import Received, TransferLeadership
from quorate.consensus.raft import election, engine
from quorate.consensus.raft.messages import VoteReply, VoteRequest
from quorate.consensus.raft.state import RaftState, Role
from quorate.protocol.zookeeper import OpCode
from quorate.protocol.zookeeper_client import check, create, delete, get, multi, set_data
from quorate.replication.origins import AppliedBatches
from quorate.simulation.ensemble import SimulatedEnsemble
from quorate.simulation.plan import Wishes, draw_scenario
from quorate.simulation.run import Run
from quorate.simulation.workloads.catalogue import workload_named
from quorate.tree import multi as tree_multi

MUTANTS = Mutants()
EPHEMERAL = 1


def started(seed: int) -> SimulatedEnsemble:
    ensemble = SimulatedEnsemble(seed)
    ensemble.start()
    ensemble.run_until(lambda: ensemble.leader() != 0)
    return ensemble


# ---- scenarios ---------------------------------------------------------------------------------


def test_kb_61_a_pre_vote_from_a_lower_term_is_answered() -> None:
    """The better log is in the lower term: only an answer with the newer term lets it go on."""
    cluster = RaftCluster(3)
    cluster.prepare(1, [1, 1], term=1)
    cluster.prepare(2, [1], term=5)
    cluster.crash(3)
    cluster.run(5000)
    assert cluster.leader() == 1
    assert cluster.terms(2) == cluster.terms(1)


def test_kb_62_a_pre_vote_changes_nothing() -> None:
    """Asked or asking: term, vote, timer of the asked and the disk stay as they were."""
    cluster = RaftCluster(3)
    asked = cluster.nodes[2].state
    deadline_ms = asked.election_deadline_ms
    cluster.step(2, Received(1, VoteRequest(5, 0, 0, is_pre_vote=True, is_forced=False)))
    assert sent(cluster, 2) == [VoteReply(0, 5, is_pre_vote=True, is_granted=True)]
    assert (asked.term, asked.voted_for, asked.election_deadline_ms) == (0, 0, deadline_ms)
    assert cluster.nodes[2].disk.hard_state is None
    cluster.campaign(1)
    asking = cluster.nodes[1].state
    assert (asking.role, asking.term, asking.voted_for) == (Role.PRE_CANDIDATE, 0, 0)


def test_kb_62_a_former_leader_that_asks_for_votes_is_not_refused_for_its_own_sake() -> None:
    """Two of three are up, and the follower still names the restarted leader: it may win again."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.crash(3)
    cluster.crash(1)
    cluster.start(1)
    assert cluster.nodes[2].state.leader == 1
    cluster.elect(1)
    assert cluster.leader() == 1


def test_kb_63_a_hand_over_is_not_refused_for_the_sake_of_the_old_leader() -> None:
    """Voters who heard their leader a moment ago still vote for the one it names."""
    cluster = RaftCluster(5)
    cluster.elect(1)
    cluster.advance(100, only=[1])
    cluster.settle()
    before_ms = cluster.now_ms
    cluster.step(1, TransferLeadership(3))
    cluster.settle()
    assert cluster.leader() == 3
    assert cluster.now_ms == before_ms


def test_kb_64_a_lock_changes_hands_only_after_its_holders_node_let_go() -> None:
    """Cut off with its leader, the holder loses its connection before anybody gets its lock.

    The lock is an ephemeral znode; it goes when the session's end is in the log, and a later one
    has a larger czxid: a resource that compares them refuses the holder that knows nothing yet.
    """
    ensemble = started(5)
    cut_off = ensemble.leader()
    others = [node for node in ensemble.hosts if node != cut_off]
    holder = Client(ensemble, cut_off, timeout_ms=4_000).ready()
    waiter = Client(ensemble, others[0], timeout_ms=40_000).ready()
    assert holder.call(create(b"/lock", flags=EPHEMERAL)).error == 0
    first = holder.call(get(OpCode.EXISTS, b"/lock")).stat().czxid
    ensemble.network.partition([cut_off], others)
    ensemble.run_until(lambda: ensemble.leader() in others)
    for _ in range(200):
        reply = waiter.call(create(b"/lock", flags=EPHEMERAL))
        if reply.error == 0:
            break
        assert reply.error == -110
        ensemble.world.run(100_000)
    assert reply.error == 0
    assert holder.connection.closed
    assert waiter.call(get(OpCode.EXISTS, b"/lock")).stat().czxid > first


def test_kb_65_a_forwarded_write_takes_effect_once() -> None:
    """A batch that a follower sent to two leaders reaches the log twice and the state once."""
    bench = Bench(node_id=1)
    bench.commit_sub(b"once", node=2, number=1)
    bench.commit_sub(b"once", node=2, number=1, time_ms=6)
    bench.commit_sub(b"next", node=2, number=2, time_ms=7)
    bench.replica.take()
    assert bench.machine.lines == [b"once", b"next"]


def test_kb_65_fail_over_under_faults_loses_and_repeats_nothing() -> None:
    """Drawn faults of all kinds: what was acknowledged is there, exactly once."""
    wishes = Wishes(duration_us=10_000_000)
    for seed in (65, 66, 67):
        outcome = Run(draw_scenario(seed, wishes, workload_named)).run()
        assert outcome.figures["acknowledged"] > 50


def test_kb_66_a_transaction_is_all_or_nothing_on_every_node() -> None:
    """Readers on any node see both halves of a multi or none, and a failed one leaves no trace."""
    ensemble = started(7)
    writer = Client(ensemble, ensemble.leader()).ready()
    reader = Client(ensemble, next(n for n in ensemble.hosts if n != ensemble.leader())).ready()
    for path in (b"/a", b"/b"):
        assert writer.call(create(path, b"0")).error == 0
    refused = writer.call(multi([set_data(b"/a", b"x"), delete(b"/none"), set_data(b"/b", b"x")]))
    assert [error for _, error, _ in refused.results()] == [0, -101, -2]
    assert writer.call(get(OpCode.GET_DATA, b"/a")).data() == b"0"
    values = []
    for number in range(30):
        value = b"%d" % number
        writer.send(multi([set_data(b"/a", value), check(b"/b", number), set_data(b"/b", value)]))
        pair = multi([get(OpCode.GET_DATA, b"/a"), get(OpCode.GET_DATA, b"/b")], OpCode.MULTI_READ)
        values.append(reader.call(pair))
    ensemble.world.run(1_000_000)
    assert writer.call(get(OpCode.GET_DATA, b"/b")).data() == b"29"
    pairs = [halves(reply.body) for reply in values]
    assert all(first == second for first, second in pairs)
    numbers = [int(first) for first, _ in pairs]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 5, "the reader looked while the writer wrote"


def halves(body: bytes) -> tuple[bytes, bytes]:
    """The data in the two results of a multiRead."""
    found = []
    position = 0
    for _ in range(2):
        position += 9  # type, end, error
        size = int.from_bytes(body[position : position + 4], "big")
        found.append(body[position + 4 : position + 4 + size])
        position += 4 + size + 68  # data, then Stat
    return found[0], found[1]


# ---- the rules, removed ------------------------------------------------------------------------


@MUTANTS.breaks(test_kb_61_a_pre_vote_from_a_lower_term_is_answered)
def ignores_requests_of_lower_terms(patch: pytest.MonkeyPatch) -> None:
    answer = election.on_vote_request

    def ignore_lower(state: RaftState, sender: int, message: VoteRequest) -> None:
        if message.term >= state.term:
            answer(state, sender, message)

    patch.setitem(engine._ON_MESSAGE, VoteRequest, ignore_lower)


@MUTANTS.breaks(test_kb_62_a_pre_vote_changes_nothing)
def pre_vote_takes_over_the_term(patch: pytest.MonkeyPatch) -> None:
    answer = election.on_vote_request

    def take_over(state: RaftState, sender: int, message: VoteRequest) -> None:
        answer(state, sender, message)
        if message.term > state.term:
            state.become_follower(message.term, 0)

    patch.setitem(engine._ON_MESSAGE, VoteRequest, take_over)


@MUTANTS.breaks(
    test_kb_62_a_former_leader_that_asks_for_votes_is_not_refused_for_its_own_sake,
    test_kb_63_a_hand_over_is_not_refused_for_the_sake_of_the_old_leader,
)
def refuses_everybody_while_a_leader_is_known(patch: pytest.MonkeyPatch) -> None:
    def answer(state: RaftState, sender: int, message: VoteRequest) -> None:
        known = state.leader and state.now_ms - state.heard_leader_ms < 500
        if message.term > state.term and known:
            election._answer(state, sender, message, granted=False)
            return
        election.on_vote_request(state, sender, message)

    patch.setitem(engine._ON_MESSAGE, VoteRequest, answer)


@MUTANTS.breaks(test_kb_65_a_forwarded_write_takes_effect_once)
def applies_whatever_is_in_the_log(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AppliedBatches, "is_next", lambda *_: True)


@MUTANTS.breaks(test_kb_66_a_transaction_is_all_or_nothing_on_every_node)
def leaves_the_parts_of_a_refused_transaction(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tree_multi._UndoSetData, "undo", lambda self, state: None)


@pytest.mark.parametrize(("patch", "scenario"), MUTANTS.params)
def test_scenario_notices_the_missing_rule(patch: Patch, scenario: Scenario) -> None:
    """Without its rule the scenario fails: a test must be able to."""
    must_notice(patch, scenario)
