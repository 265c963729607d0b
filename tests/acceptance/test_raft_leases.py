"""RA-8: reads by lease are never stale while clocks keep to the drift bound, and may be beyond it.

Engines first, rule by rule, each with the same story told without the rule; then whole servers
under drifting clocks, judged by the linearizability checker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ensemble_stories import cut_off, others, settle
from raft_cluster import RaftCluster
from virtual_client import Client

from quorate.checking.history import UNKNOWN_RETURN, History, Operation
from quorate.checking.linearizability import check
from quorate.checking.models.catalogue import model_named
from quorate.checking.verdict import Answer, Budget
from quorate.consensus.engine import PeerClosed, Received
from quorate.consensus.raft import election, follower, leases, reads
from quorate.consensus.raft.leases import Lease, Promise
from quorate.consensus.raft.messages import (
    HeartbeatReply,
    LeasePromise,
    TimeoutNow,
    VoteRequest,
)
from quorate.consensus.raft.state import RaftState
from quorate.consensus.registry import EngineSettings
from quorate.errors import InvariantBroken
from quorate.protocol.zookeeper import OpCode
from quorate.protocol.zookeeper_client import create, get, set_data
from quorate.replication.turn import ReplicaSettings
from quorate.simulation.ensemble import SimulatedEnsemble
from quorate.simulation.judges.engine import EngineJudge
from quorate.simulation.links import LinkQuality
from quorate.tree.server import ServerSettings
from quorate.tree.service_settings import ServiceSettings

TIMEOUT_MS = 500
LEASES = EngineSettings(
    election_timeout_ms=TIMEOUT_MS, heartbeat_ms=100, lease_reads=True, clock_drift_percent=110
)
LEASE_MS = leases.lease_ms(TIMEOUT_MS, 110)


def leased(voters: int = 3) -> RaftCluster:
    """Node 1 leads and holds a fresh lease; everybody's first promise, of the start, is over."""
    cluster = RaftCluster(voters, settings=LEASES)
    for node in cluster.nodes.values():
        node.state.election_deadline_ms = cluster.now_ms + 100_000
    cluster.advance(TIMEOUT_MS + 20)
    cluster.elect(1)
    cluster.propose(1, "a")
    cluster.settle()
    cluster.run(110)
    assert cluster.nodes[1].state.lease.is_held(cluster.now_ms)
    return cluster


def elects_another(cluster: RaftCluster, limit_ms: int = 3_000) -> int:
    """Let time pass for all but node 1, until one of them leads; how long that took."""
    begin = cluster.now_ms
    rest = [node for node in cluster.nodes if node != 1]
    while not any(cluster.nodes[node].leadership.established for node in rest):
        assert cluster.now_ms - begin < limit_ms, "nobody is elected"
        cluster.advance(10, only=rest)
        cluster.settle()
    return cluster.now_ms - begin


def new_leader(cluster: RaftCluster) -> int:
    return next(
        node for node in cluster.nodes if node != 1 and cluster.nodes[node].leadership.established
    )


# ---- what a lease gives ------------------------------------------------------------------------


def test_ra_8_leader_with_a_lease_answers_without_a_message() -> None:
    """RA-8: no round, no message, the present commit index."""
    cluster = leased()
    cluster.network.clear()
    cluster.read(1, "r")
    assert cluster.reads_done == {"r": cluster.nodes[1].state.commit_index}
    assert cluster.network == []


def test_ra_8_follower_gets_its_read_point_by_the_leaders_lease() -> None:
    """RA-8: one question, one answer; nobody else is asked."""
    cluster = leased()
    cluster.network.clear()
    cluster.read(2, "r")
    (question,) = cluster.network
    cluster.deliver_one()
    (answer,) = cluster.network
    assert (question.to, answer.to) == (1, 2)
    cluster.deliver_one()
    assert "r" in cluster.reads_done


def test_ra_8_lease_ends_by_itself_and_reads_go_back_to_rounds() -> None:
    """RA-8: cut off, a leader answers for as long as its lease lasts and not a tick longer."""
    cluster = leased()
    cluster.isolate([1], [2, 3])
    held_until = cluster.nodes[1].state.lease._from_ms
    assert held_until is not None
    held_until += LEASE_MS
    answered = 0
    while cluster.now_ms < held_until + 30:
        cluster.advance(1)
        cluster.network.clear()
        cluster.read(1, f"r{cluster.now_ms}")
        answered += f"r{cluster.now_ms}" in cluster.reads_done
        assert (f"r{cluster.now_ms}" in cluster.reads_done) == (cluster.now_ms < held_until)
    assert answered > LEASE_MS - 150


def test_ra_8_without_leases_nothing_is_promised() -> None:
    """RA-8: the setting is explicit: by default no vote is bound, and every read takes a round."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.run(300)
    assert not cluster.nodes[1].state.lease.is_held(cluster.now_ms)
    assert not cluster.nodes[2].state.promise.is_kept(cluster.now_ms)
    cluster.isolate([1], [2, 3])
    cluster.read(1, "r")
    assert cluster.reads_done == {}


def test_ra_8_members_without_leases_give_none() -> None:
    """RA-8: an echo is no promise, and one that is too short is none either."""
    cluster = leased()
    state = cluster.nodes[1].state
    state.lease.drop()
    cluster.isolate([1], [2, 3])
    cluster.run(110)
    for voter in (2, 3):
        cluster.step(1, Received(voter, HeartbeatReply(state.term, state.round)))
        promise = LeasePromise(state.term, state.round, TIMEOUT_MS - 1)
        cluster.step(1, Received(voter, promise))
    assert not state.lease.is_held(cluster.now_ms)
    cluster.step(1, Received(2, LeasePromise(state.term, state.round, TIMEOUT_MS)))
    assert state.lease.is_held(cluster.now_ms)


# ---- rules, and the same stories without them --------------------------------------------------


def a_pause_of_the_leader() -> None:
    """It stands still until another leads and has committed; then a read comes before any tick."""
    cluster = leased()
    cluster.isolate([1], [2, 3])
    elects_another(cluster)
    cluster.propose(new_leader(cluster), "newer")
    cluster.settle()
    cluster.read(1, "first thing")  # its last tick lies within the lease; a stale answer raises
    assert "first thing" not in cluster.reads_done


def echoes_that_come_late() -> None:
    """The echo arrives long after the heartbeat left: the lease is as old as the heartbeat."""
    cluster = leased()
    cluster.run(10)
    state = cluster.nodes[1].state
    state.lease.drop()
    state.heartbeat_deadline_ms = cluster.now_ms
    cluster.advance(10, only=[1])
    sent_ms = cluster.now_ms
    for _ in range(2):
        cluster.deliver_one()  # heartbeats; the promises are under way
    held = list(cluster.network)
    assert all(isinstance(letter.message, LeasePromise) for letter in held)
    cluster.network.clear()
    cluster.isolate([1], [2, 3])
    cluster.advance(TIMEOUT_MS - 50)
    for letter in held:
        cluster.step(1, Received(letter.sender, letter.message))
    elects_another(cluster)
    cluster.propose(new_leader(cluster), "newer")
    cluster.settle()
    assert cluster.now_ms > sent_ms + LEASE_MS
    cluster.read(1, "late")
    assert "late" not in cluster.reads_done


def a_hand_over() -> None:
    """The target leads at once, promises or not: its predecessor holds nothing any more."""
    cluster = leased()
    cluster.isolate([1, 2, 3])
    cluster.transfer(1, 2)
    cluster.drop_if = lambda letter: letter.to == 1
    cluster.settle()
    assert cluster.nodes[2].leadership.established
    cluster.propose(2, "newer")
    cluster.settle()
    assert cluster.nodes[1].leadership.leader == 1, "it heard nothing"
    cluster.read(1, "r")
    assert "r" not in cluster.reads_done


def an_order_to_campaign_that_was_held_up() -> None:
    """A hand-over is given up, the leader leads on; much later its order arrives after all."""
    cluster = leased()
    cluster.transfer(1, 2)
    orders = [letter for letter in cluster.network if isinstance(letter.message, TimeoutNow)]
    cluster.network = [letter for letter in cluster.network if letter not in orders]
    cluster.settle()
    cluster.run(TIMEOUT_MS + 250)
    assert cluster.nodes[1].leadership.established, "the hand-over was given up"
    cluster.isolate([1], [2, 3])
    cluster.step(2, Received(1, orders[0].message))
    cluster.settle()
    cluster.propose(2, "newer")
    cluster.settle()
    cluster.read(1, "r")
    assert "r" not in cluster.reads_done


def a_hint_that_is_wrong() -> None:
    """The leader's connections close, its process lives on and holds its lease."""
    cluster = leased()
    cluster.isolate([1], [2, 3])
    for node in (2, 3):
        cluster.step(node, PeerClosed(1))
    took_ms = 0
    while "stale" not in cluster.reads_done and took_ms < LEASE_MS - 130:
        took_ms += 10
        cluster.advance(10)
        cluster.settle()
        for node in (2, 3):
            if cluster.nodes[node].leadership.established:
                cluster.propose(node, f"newer {cluster.now_ms}")
                cluster.settle()
        cluster.read(1, f"r{took_ms}")
        assert f"r{took_ms}" in cluster.reads_done, "the lease still runs"


def a_voter_that_restarts() -> None:
    """Its promise was in memory; what its earlier life promised holds all the same."""
    cluster = leased(voters=3)
    cluster.isolate([1, 2], [3])  # only node 2 promises
    cluster.run(400)
    cluster.isolate([1], [2, 3])
    cluster.crash(2)
    cluster.start(2)
    cluster.nodes[3].state.election_deadline_ms = cluster.now_ms
    for _ in range(25):
        cluster.advance(10)
        cluster.settle()
        for node in (2, 3):
            if cluster.nodes[node].leadership.established:
                cluster.propose(node, f"newer {cluster.now_ms}")
                cluster.settle()
        cluster.read(1, f"r{cluster.now_ms}")


def a_voter_that_wants_to_lead() -> None:
    """The one voter that promised campaigns itself: its own vote is bound as well."""
    cluster = leased(voters=3)
    cluster.isolate([1, 2], [3])
    cluster.run(700)  # node 3 promised long ago and may vote
    cluster.isolate([1], [2, 3])
    cluster.nodes[2].state.election_deadline_ms = cluster.now_ms
    for _ in range(25):
        cluster.advance(10)
        cluster.settle()
        if cluster.nodes[2].leadership.established:
            cluster.propose(2, f"newer {cluster.now_ms}")
            cluster.settle()
        cluster.read(1, f"r{cluster.now_ms}")


def a_voter_that_stood_still() -> None:
    """It echoes with an old time in its hands: its promise counts from when it knows the time."""
    cluster = leased(voters=3)
    cluster.isolate([1, 2], [3])
    for _ in range(45):  # node 2 stands still: what comes waits for it
        cluster.advance(10, only=[1, 3])
    cluster.network = [letter for letter in cluster.network if letter.to == 2]
    cluster.settle()  # it goes on: hears and echoes everything before its next tick
    assert cluster.nodes[1].state.lease.is_held(cluster.now_ms)
    cluster.isolate([1], [2, 3])
    for _ in range(30):
        cluster.advance(10)
        cluster.settle()
        for node in (2, 3):
            if cluster.nodes[node].leadership.established:
                cluster.propose(node, f"newer {cluster.now_ms}")
                cluster.settle()
        cluster.read(1, f"r{cluster.now_ms}")


def a_voter_that_learns_a_newer_term() -> None:
    """A promise is to nobody in particular: hearing of a newer term does not end it."""
    cluster = leased(voters=3)
    cluster.isolate([1, 2], [3])
    cluster.run(700)
    cluster.isolate([1], [2, 3])
    term = cluster.nodes[1].state.term
    cluster.step(2, Received(3, LeasePromise(term + 1, 1, TIMEOUT_MS)))  # anything of that term
    assert cluster.nodes[2].state.leader == 0
    cluster.step(3, Received(2, LeasePromise(term + 1, 1, TIMEOUT_MS)))
    last = cluster.nodes[2].state.log.last_index
    request = VoteRequest(term + 2, last, term, is_pre_vote=False, is_forced=False)
    cluster.step(2, Received(3, request))
    assert cluster.nodes[2].state.voted_for == 0
    assert cluster.nodes[2].state.term == term + 1


STORIES: tuple[Callable[[], None], ...] = (
    a_pause_of_the_leader,
    echoes_that_come_late,
    a_hand_over,
    an_order_to_campaign_that_was_held_up,
    a_hint_that_is_wrong,
    a_voter_that_restarts,
    a_voter_that_wants_to_lead,
    a_voter_that_stood_still,
    a_voter_that_learns_a_newer_term,
)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_ra_8_no_read_by_lease_is_stale(story: Callable[[], None]) -> None:
    """RA-8: whatever happens to the leader or to those who promised, no answer is from the past."""
    story()


def by_the_last_tick(patch: pytest.MonkeyPatch) -> None:
    original = reads.answer_by_lease
    patch.setattr(
        reads,
        "answer_by_lease",
        lambda state, _: original(state, state.now_ms) if state.reads_waiting else None,
    )


def from_the_echo(patch: pytest.MonkeyPatch) -> None:
    def renew(state: RaftState) -> None:
        confirmed = state.quorum.committed(state.promised)
        if state.lease._rounds and state.lease._rounds[0][0] <= confirmed:
            state.lease.confirmed(confirmed)
            state.lease._from_ms = state.now_ms

    patch.setattr(reads, "renew_lease", renew)


def kept_across_a_hand_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lease, "bar", lambda self: None)


def only_dropped_at_a_hand_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lease, "bar", Lease.drop)


def hints_end_promises(patch: pytest.MonkeyPatch) -> None:
    original = election.on_leader_closed

    def on_leader_closed(state: RaftState) -> None:
        state.promise = Promise(state.promise.length_ms, state.now_ms)
        original(state)

    patch.setattr(election, "on_leader_closed", on_leader_closed)


def starts_without_a_promise(patch: pytest.MonkeyPatch) -> None:
    build: Any = RaftState.__init__

    def init(self: RaftState, **arguments: Any) -> None:
        build(self, **arguments)
        self.promise = Promise(self.promise.length_ms, self.now_ms)

    patch.setattr(RaftState, "__init__", init)


def candidates_are_not_bound(patch: pytest.MonkeyPatch) -> None:
    def on_timeout(state: RaftState) -> None:
        promise, state.promise = state.promise, Promise(0, state.now_ms)
        original(state)
        state.promise = promise

    original = election.on_election_timeout
    patch.setattr(election, "on_election_timeout", on_timeout)
    tally = election._tally

    def free_tally(state: RaftState) -> None:
        promise, state.promise = state.promise, Promise(0, state.now_ms)
        tally(state)
        state.promise = promise

    patch.setattr(election, "_tally", free_tally)


def promises_from_the_last_tick(patch: pytest.MonkeyPatch) -> None:
    def echo(state: RaftState, sender: int, round_: int) -> None:
        original(state, sender, round_)
        state.promise.tick(state.now_ms)

    original = follower._echo
    patch.setattr(follower, "_echo", echo)


def new_terms_end_promises(patch: pytest.MonkeyPatch) -> None:
    original = RaftState.forget_leaders_word

    def forget(self: RaftState) -> None:
        original(self)
        self.promise = Promise(self.promise.length_ms, self.now_ms)

    patch.setattr(RaftState, "forget_leaders_word", forget)


@pytest.mark.parametrize(
    ("mutant", "story"),
    [
        (by_the_last_tick, a_pause_of_the_leader),
        (from_the_echo, echoes_that_come_late),
        (kept_across_a_hand_over, a_hand_over),
        (only_dropped_at_a_hand_over, an_order_to_campaign_that_was_held_up),
        (hints_end_promises, a_hint_that_is_wrong),
        (starts_without_a_promise, a_voter_that_restarts),
        (candidates_are_not_bound, a_voter_that_wants_to_lead),
        (promises_from_the_last_tick, a_voter_that_stood_still),
        (new_terms_end_promises, a_voter_that_learns_a_newer_term),
    ],
    ids=lambda each: each.__name__,
)
def test_ra_8_each_rule_of_leases_is_needed(
    mutant: Callable[[pytest.MonkeyPatch], None],
    story: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RA-8 can fail: without the rule its story ends in a read of the past, or a wrong vote."""
    mutant(monkeypatch)
    with pytest.raises(AssertionError, match=r"stale read|voted_for|still runs"):
        story()


def test_a_dead_leader_costs_an_election_timeout_where_leases_are_on() -> None:
    """The price: voters wait for the lease although they know that its holder's process is gone."""
    cluster = leased()
    cluster.crash(1)
    cluster.tell_closed(1)
    took_ms = elects_another(cluster)
    assert TIMEOUT_MS - 120 <= took_ms <= TIMEOUT_MS + 150


def test_heartbeats_alone_keep_the_lease() -> None:
    """An idle leader holds its lease all the time."""
    cluster = leased()
    for _ in range(300):
        cluster.run(10)
        assert cluster.nodes[1].state.lease.is_held(cluster.now_ms)


# ---- whole servers, drifting clocks, and the checker -------------------------------------------

DRIFT_PPM = 100_000
"""A tenth too slow on the leader, a tenth too fast elsewhere: a factor of 1.22 between them."""
WITHIN, BEYOND = 123, 100


def history_under_drift(seed: int, drift_percent: int) -> History:
    """One key, read by lease through a slow leader that is cut off, written on the fast side.

    The history begins shortly before the cut, so that the search is short.
    """
    engine = EngineSettings(
        election_timeout_ms=150,
        election_timeout_spread_ms=10,
        heartbeat_ms=50,
        lease_reads=True,
        clock_drift_percent=drift_percent,
    )
    settings = ServerSettings(
        engine=engine,
        replica=ReplicaSettings(resend_ms=20),
        service=ServiceSettings(fresh_reads=True),
    )
    ensemble = SimulatedEnsemble(seed, settings=settings)
    ensemble.cluster.link_quality(LinkQuality(ordered=True))
    ensemble.start()
    settle(ensemble)
    leader = ensemble.leader()
    for node, host in ensemble.hosts.items():
        host.clock.drift(-DRIFT_PPM if node == leader else DRIFT_PPM)
    reader = Client(ensemble, leader, timeout_ms=40_000).ready()
    writers = [
        Client(ensemble, node, timeout_ms=40_000).ready() for node in others(ensemble, leader)
    ]
    writers[0].call(create(b"/r", b"0"))
    ensemble.world.run(200_000 + ensemble.world.draw(60_000))
    cut_off(ensemble, leader)
    calls: list[tuple[Client, int, str, int | None, int]] = []
    returned: dict[tuple[int, int], int] = {}
    written, waiting = 0, [0, 0]

    def poll() -> None:
        for client in (reader, *writers):
            client.poll()
            for xid in client.replies:
                returned.setdefault((id(client), xid), ensemble.world.now_us)

    for _ in range(700):
        ensemble.world.run(500)
        poll()
        if not reader.connection.closed:
            xid = reader.send(get(OpCode.GET_DATA, b"/r"))
            calls.append((reader, xid, "read", None, ensemble.world.now_us))
        for place, writer in enumerate(writers):
            if waiting[place] == 0 or waiting[place] in writer.replies:
                written += 1
                waiting[place] = writer.send(set_data(b"/r", b"%d" % written))
                calls.append((writer, waiting[place], "write", written, ensemble.world.now_us))
    poll()
    operations = [Operation("before the cut", "write", None, 0, None, -2, -1)]
    for number, (client, xid, function, argument, invoked) in enumerate(calls):
        reply, at = client.replies.get(xid), returned.get((id(client), xid), UNKNOWN_RETURN)
        if reply is None and function == "read":
            continue
        result = int(reply.data() or b"") if reply and function == "read" else None
        operations.append(Operation(number, function, None, argument, result, invoked, at))
    return History(sorted(operations, key=lambda each: each.invoked))


def is_linearizable(history: History) -> bool:
    verdict = check(history, model_named("register"), budget=Budget(configurations_max=300_000))
    assert verdict.answer is not Answer.UNDECIDED
    return verdict.answer is Answer.LINEARIZABLE


def test_ra_8_reads_by_lease_are_linearizable_while_clocks_keep_to_the_bound() -> None:
    """RA-8: clocks as far apart as the bound allows, and a leader that is cut off."""
    went_on = 0
    for seed in range(8):
        history = history_under_drift(seed, WITHIN)
        of_reads = [each for each in history.operations if each.function == "read"]
        assert len(of_reads) > 20, "the lease outlives the cut for a while"
        written = sum(
            each.function == "write" and not each.is_unknown for each in history.operations
        )
        went_on += written > 20
        assert is_linearizable(history)
    assert went_on >= 4, "on most seeds the others elect and write while the old leader reads"


@pytest.fixture
def _only_the_checker_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge that sees leases overlap before anybody reads is sent away."""
    monkeypatch.setattr(EngineJudge, "leases_end_before_another_leads", lambda *_: None)


@pytest.mark.usefixtures("_only_the_checker_looks")
def test_ra_8_beyond_the_bound_a_read_by_lease_is_stale_and_the_checker_sees_it() -> None:
    """RA-8: the bound is what it rests on: with clocks further apart than it says, it breaks."""
    assert not all(is_linearizable(history_under_drift(seed, BEYOND)) for seed in range(8))


def test_ra_8_beyond_the_bound_the_judge_of_engines_sees_leases_overlap() -> None:
    """RA-8: another leads while a lease runs: a property of every simulated run."""
    with pytest.raises(InvariantBroken, match="leases end before another leads"):
        for seed in range(8):
            history_under_drift(seed, BEYOND)


@pytest.mark.usefixtures("_only_the_checker_looks")
def test_ra_8_lease_without_a_drift_bound_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """RA-8 can fail: a lease as long as the promise is too long for clocks that drift."""
    monkeypatch.setattr("quorate.consensus.raft.state.lease_ms", lambda timeout_ms, _: timeout_ms)
    assert not all(is_linearizable(history_under_drift(seed, WITHIN)) for seed in range(8))
