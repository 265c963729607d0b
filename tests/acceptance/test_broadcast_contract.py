"""Primary-order broadcast, seen through the Engine interface.

What is wrapped around the engines here names nothing of Raft, so it would judge another engine.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from ensemble_stories import agree, crash_and_restart, settle, started
from raft_cluster import Letter, RaftCluster
from virtual_client import Client

from quorate.consensus.engine import Effects, Engine, Event, Leadership, Propose
from quorate.consensus.entry import Entry, EntryKind
from quorate.consensus.raft.messages import Append
from quorate.consensus.registry import EngineSettings
from quorate.errors import InvariantBroken
from quorate.protocol.zookeeper import OpCode
from quorate.protocol.zookeeper_client import create, get
from quorate.simulation.host import WrapEngine
from quorate.simulation.plan import Wishes, draw_scenario
from quorate.simulation.run import Run
from quorate.simulation.workloads.catalogue import workload_named

# ---- ZB-4 --------------------------------------------------------------------------------------


class PrimaryIntegrity:
    """Watches one engine: when it is established, and what is proposed before and after.

    Attributes:
        established: how many times any engine was, over all runs; tests reset it.
    """

    established = 0

    def __init__(self, engine: Engine) -> None:
        self.inner = engine
        self.leadership = Leadership(0, 0, established=False)
        self.log: dict[int, int] = {}  # index -> epoch, of what this life stored
        self.found = engine.statistics().last_index  # what earlier lives stored, all of it older
        self.delivered = 0

    def step(self, event: Event) -> None:
        """Nothing is proposed to an engine that is not established."""
        if isinstance(event, Propose) and not self.leadership.established:
            raise InvariantBroken("proposed before leadership was established")
        self.inner.step(event)

    def take(self) -> Effects:
        """Whoever is established has delivered everything of earlier epochs."""
        effects = self.inner.take()
        if effects.install is not None:
            self.delivered = effects.install.index
        if effects.committed:
            self.delivered = effects.committed[-1].index
        if effects.persist is not None:
            self.note_stored(effects.persist.truncate_from, effects.persist.entries)
        if effects.leadership is not None:
            self.note_leadership(effects.leadership)
        return effects

    def note_stored(self, truncate_from: int | None, entries: list[Entry]) -> None:
        """Keep the epochs of the log; commands of our epoch come after the establishment."""
        if truncate_from is not None:
            self.log = {i: epoch for i, epoch in self.log.items() if i < truncate_from}
            self.found = min(self.found, truncate_from - 1)
        for entry in entries:
            self.log[entry.index] = entry.epoch
            leads = self.leadership.leader != 0 and self.leadership.epoch == entry.epoch
            if leads and entry.kind == EntryKind.BATCH and self.is_mine and not self.is_ready:
                raise InvariantBroken(f"command at {entry.index} before its epoch was ready")

    def note_leadership(self, leadership: Leadership) -> None:
        """Judge the news."""
        if leadership.established and not self.leadership.established:
            PrimaryIntegrity.established += 1
            last = max([self.found, *(i for i, e in self.log.items() if e < leadership.epoch)])
            if last > self.delivered:
                raise InvariantBroken(f"epoch {leadership.epoch}: {last} is undelivered")
        self.leadership = leadership

    @property
    def is_mine(self) -> bool:
        """Whether this very node leads."""
        return self.inner.statistics().role == "leader"

    @property
    def is_ready(self) -> bool:
        """Whether it is or was established in its epoch."""
        return self.leadership.established

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def run(seed: int, wrap: WrapEngine = PrimaryIntegrity) -> None:
    """One run under drawn faults with every engine watched."""
    wishes = Wishes(duration_us=15_000_000)
    Run(draw_scenario(seed, wishes, workload_named), wrap_engine=wrap).run()


def test_zb_4_established_means_that_earlier_epochs_are_delivered_and_nothing_went_before() -> None:
    """ZB-4: under faults, on every node, at every change of leadership."""
    PrimaryIntegrity.established = 0
    for seed in range(12):
        run(seed)
    assert PrimaryIntegrity.established > 24, "leadership changed often enough to matter"


class Hasty:
    """Mutant: an engine that calls itself established as soon as it is elected."""

    def __init__(self, engine: Engine) -> None:
        self.inner = engine

    def take(self) -> Effects:
        """Hand out good news too early."""
        effects = self.inner.take()
        news = effects.leadership
        if news is not None and self.inner.statistics().role == "leader":
            effects.leadership = news._replace(established=True)
        return effects

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_zb_4_hasty_engine_is_caught() -> None:
    """ZB-4 can fail: an engine that is established when it is elected lacks deliveries."""
    reasons = []
    for seed in range(12):
        try:
            run(seed, lambda engine: PrimaryIntegrity(Hasty(engine)))
        except InvariantBroken as error:
            reasons.append(str(error))
    assert sum("is undelivered" in reason for reason in reasons) > 2, reasons


# ---- ZB-5 --------------------------------------------------------------------------------------


def causes_before_effects(delivered: list[str]) -> bool:
    """Of one primary, the second proposal is never delivered without the first before it."""
    if "B" not in delivered:
        return True
    return "A" in delivered and delivered.index("A") < delivered.index("B")


def figure_1(lost: tuple[bool, ...], first: int, second: int) -> RaftCluster:
    """P1 proposes A and B, some of whose messages are lost; ``first``, then ``second`` lead.

    In the figure slots 27 and 28 are proposed to by P1 (A, B), P2 (C at 27) and recovered by P3,
    which learns of C and B. Here every subset of P1's messages gets lost, and every order of
    successors is tried.
    """
    cluster = RaftCluster(3, settings=EngineSettings(append_bytes_max=1))
    cluster.elect(1)
    cluster.propose(1, *(f"{slot}" for slot in range(1, 4)))
    cluster.settle()
    pattern = itertools.chain(lost, itertools.repeat(True))
    cluster.drop_if = lambda letter: isinstance(letter.message, Append) and next(pattern)
    cluster.propose(1, "A", "B")
    cluster.settle()
    succeed(cluster, 1, first, "C")
    succeed(cluster, first, second, "D")
    cluster.drop_if = lambda _: False
    cluster.heal()
    cluster.run(3_000, step_ms=20)
    return cluster


def succeed(cluster: RaftCluster, old: int, new: int, payload: str) -> None:
    """The old primary falls silent; the new one leads, if it can, and its proposal reaches nobody.

    It cannot when its log is behind that of the only other node left: that one leads then.
    """
    cluster.network.clear()
    alive = [node for node in cluster.nodes if node != old]
    cluster.isolate([old], alive)
    cluster.drop_if = lambda _: False
    for node in alive:
        cluster.nodes[node].state.is_leader_gone = True
        cluster.nodes[node].state.become_follower(cluster.nodes[node].state.term, 0)
    cluster.campaign(new)
    cluster.settle()
    cluster.run(1_200, step_ms=20)
    leader = cluster.leader()
    assert leader in alive
    cluster.drop_if = lambda letter: isinstance(letter.message, Append)
    cluster.propose(leader, payload)
    cluster.settle()


@pytest.mark.parametrize(("first", "second"), [(2, 3), (3, 2), (2, 1), (3, 1)])
def test_zb_5_figure_1_of_the_zab_paper_never_delivers_b_without_a(first: int, second: int) -> None:
    """ZB-5: whichever of P1's messages are lost and whoever recovers, B needs A before it."""
    outcomes = set()
    for lost in itertools.product((False, True), repeat=4):
        cluster = figure_1(lost, first, second)
        delivered = [node.applied for node in cluster.nodes.values()]
        assert all(log == delivered[0] for log in delivered)
        assert causes_before_effects(delivered[0]), (lost, delivered[0])
        outcomes.add("".join(name for name in delivered[0] if name in "AB"))
    assert outcomes >= {"", "AB"}, "the runs differ in what survives"


def test_zb_5_what_plain_multi_paxos_delivers_in_the_figure_is_noticed() -> None:
    """ZB-5 can fail: the figure's own outcome, C at slot 27 and B at 28, breaks the rule."""
    assert not causes_before_effects(["1", "2", "3", "C", "B"])
    assert not causes_before_effects(["B", "A"])
    assert causes_before_effects(["A", "C", "B"])


# ---- ZB-6 --------------------------------------------------------------------------------------


def test_zb_6_primary_has_many_proposals_outstanding_and_they_commit_in_order() -> None:
    """ZB-6: a hundred proposals are under way before the first is acknowledged."""
    cluster = RaftCluster(3, settings=EngineSettings(append_bytes_max=1))
    cluster.elect(1)
    cluster.propose(1, *(f"p{number}" for number in range(100)))
    committed = cluster.nodes[1].state.commit_index
    assert cluster.nodes[1].state.log.last_index == committed + 100
    sent: list[Letter] = [x for x in cluster.network if isinstance(x.message, Append)]
    assert len([letter for letter in sent if letter.message.entries]) >= 100
    cluster.settle()
    cluster.run(200)
    for node in cluster.nodes.values():
        assert node.applied == [f"p{number}" for number in range(100)]


@pytest.mark.parametrize("seed", range(4))
def test_zb_6_order_of_each_client_is_kept_among_many(seed: int) -> None:
    """ZB-6: nine clients pipeline on three nodes over a leader crash; each keeps its own order."""
    ensemble = started(seed)
    nodes = list(ensemble.hosts)
    leader = ensemble.leader()
    places = [node for node in nodes if node != leader]
    clients = [Client(ensemble, places[i % 2], timeout_ms=40_000).ready() for i in range(9)]
    clients[0].call(create(b"/log"))
    ensemble.world.run(5_000)
    xids: list[list[int]] = [[] for _ in clients]
    for turn in range(60):
        for number, client in enumerate(clients):
            name = b"/log/%d-%03d-" % (number, turn)
            xids[number].append(client.send(create(name, flags=2)))
        ensemble.world.run(ensemble.world.draw(600))
        if turn == 30:
            crash_and_restart(ensemble, leader, 700_000)
    for number, client in enumerate(clients):
        client.wait(xids[number][-1])
        replies = [client.replies[xid] for xid in xids[number]]
        places = [int(reply.path()[-10:]) for reply in replies]
        assert places == sorted(places), "a client's own writes took effect in another order"
        assert [xid for xid in client.order if xid in set(xids[number])] == xids[number]
    settle(ensemble)
    agree(ensemble)
    names = Client(ensemble, ensemble.leader()).ready()
    assert len(names.call(get(OpCode.GET_CHILDREN, b"/log")).names()) == 9 * 60
