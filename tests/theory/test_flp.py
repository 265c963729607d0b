"""Undecided for ever, and decided as soon as time is kept: FLP and the way around it."""

import random

import pytest

from quorate.consensus.registry import EngineSettings
from quorate.errors import InvariantBroken
from quorate.simulation.theory.adversary import Adversary
from quorate.simulation.theory.bare import BareCluster
from quorate.simulation.theory.single_decree import (
    Move,
    apply,
    canonical,
    duel,
    fair_run,
    initial,
    moves,
    run,
)
from quorate.simulation.theory.stabilisation import stabilise
from quorate.simulation.theory.valence import BIVALENT, explore

FAIR_LIMIT_MS = 3_000
"""Ten of the longest election timeouts."""


# ---- the adversary -----------------------------------------------------------------------------


@pytest.mark.parametrize("nodes", [3, 5])
@pytest.mark.parametrize("seed", [1, 2])
def test_delays_alone_keep_engines_undecided_th_2(nodes, seed):
    """Nobody ever leads, although every message arrives; once fair, a decision follows."""
    adversary = Adversary(seed, nodes=nodes)
    report = adversary.keep_undecided(1_500)
    assert report.depositions >= 100
    assert report.epochs >= 40
    assert report.delivered >= 700
    assert report.withheld_most <= nodes // 2 + 1
    assert report.delay_most <= 100
    assert all(report.steps - one.sent_step <= 100 for one in adversary.under_way)
    assert not any(adversary.cluster.committed.values())
    assert adversary.decide_fairly(limit_ms=FAIR_LIMIT_MS).fair_ticks_ms > 0


def test_fair_scheduler_decides_within_the_bound_th_2():
    """However long it was hostile before, ten timeouts of fairness are enough for every seed."""
    for seed in range(20):
        adversary = Adversary(seed)
        adversary.keep_undecided(100 + 7 * seed)
        adversary.decide_fairly(limit_ms=FAIR_LIMIT_MS)


def test_adversary_that_does_not_look_ahead_fails_th_2(monkeypatch):
    """The crystal ball is what does it: without it somebody leads at once."""
    monkeypatch.setattr(BareCluster, "would_lead", lambda *_: False)
    with pytest.raises(InvariantBroken, match="in spite of"):
        Adversary(1).keep_undecided(200)


def test_crystal_ball_changes_nothing():
    """Trying a message on a copy leaves the engine as it was."""
    adversary = Adversary(1)
    adversary.keep_undecided(100)
    cluster = adversary.cluster
    before = [engine.describe() for engine in cluster.engines.values()]
    under_way = list(adversary.under_way)
    assert any(cluster.would_lead(one.letter) for one in under_way)
    assert [engine.describe() for engine in cluster.engines.values()] == before
    assert adversary.under_way == under_way


def test_forged_votes_are_seen_th_2():
    """The judge that sits in all these runs can fail: two leaders of one epoch are reported."""
    letters = []
    settings = EngineSettings(election_timeout_spread_ms=0)  # all campaign at once
    cluster = BareCluster(3, settings, draw_for=lambda _: lambda _: 0, post=letters.append)
    for node in cluster.engines:
        cluster.tick(node, settings.election_timeout_ms)
    with pytest.raises(InvariantBroken, match="election safety"):
        while letters:
            letter = letters.pop(0)
            if hasattr(letter.message, "is_granted"):
                letter.message.is_granted = True
            cluster.deliver(letter)


# ---- a duel of proposers -----------------------------------------------------------------------


def test_paxos_duel_goes_in_circles_th_2():
    """Two proposers whose every request arrives, and no decision: the run is a cycle."""
    opening, cycle = duel()
    path = run(initial(), opening + cycle * 50)
    assert path[len(opening)] == path[-1]
    assert not any(configuration.decided() for configuration in path)
    visits = [move for move in cycle if move.kind != "retry"]
    everyone = {(kind, p, a) for kind in ("prepare", "accept") for p in (0, 1) for a in range(3)}
    assert {tuple(move) for move in visits} == everyone, "every request is made to everybody"


def test_paxos_duel_ends_when_one_is_left_alone_th_2():
    """From every configuration of the duel a lone proposer decides within nine steps."""
    opening, cycle = duel()
    for configuration in run(initial(), opening + cycle):
        assert fair_run(configuration, 9)[-1].decided()


# ---- valence -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graph():
    """All configurations of the toy protocol."""
    return explore()


def test_initial_configuration_is_bivalent_th_3(graph):
    """With different wishes both values can still be decided; with equal ones only that value."""
    assert graph.valence[0] == BIVALENT
    assert len(graph.configurations) > 10_000
    assert set(explore((0, 0)).counts()) == {"0-valent"}


def test_every_bivalent_configuration_has_a_bivalent_successor_th_3(graph):
    """A scheduler that wants no decision always has a step to take."""
    bivalent = [at for at, bits in enumerate(graph.valence) if bits == BIVALENT]
    assert len(bivalent) > 1_000
    for at in bivalent:
        assert any(graph.valence[following] == BIVALENT for _, following in graph.successors[at])


def test_duel_is_a_bivalent_run_without_end_th_3(graph):
    """The cycle of the duel stays among bivalent configurations: it may go on for ever."""
    opening, cycle = duel()
    path = run(initial(), opening + cycle)
    assert {graph.valence_of(configuration) for configuration in path} == {BIVALENT}
    assert path[len(opening)] == path[-1]


def test_any_step_can_be_made_and_leave_both_values_open_th_3(graph):
    """Lemma 3 of FLP, on a sample: for each possible step some run ends with it, still bivalent."""
    dice = random.Random(3)
    bivalent = [at for at, bits in enumerate(graph.valence) if bits == BIVALENT]
    for at in dice.sample(bivalent, 60):
        for step in moves(graph.configurations[at]):
            assert _bivalent_after(graph, graph.configurations[at], step), (at, step)


def _bivalent_after(graph, start, step):
    """Whether a run without ``step`` leads from here to where ``step`` keeps both values open."""
    seen, todo = {start}, [start]
    for configuration in todo:
        is_possible = step in moves(configuration)
        if is_possible and graph.valence_of(apply(configuration, step)) == BIVALENT:
            return True
        for move in moves(configuration):
            gives_up = move == Move("retry", step.proposer)  # then the step would never be made
            following = apply(configuration, move)
            if move != step and not gives_up and following not in seen and len(seen) < 3_000:
                seen.add(following)
                todo.append(following)
    return False


def test_nobody_ever_decides_differently_th_3(graph):
    """In all configurations there are, at most one value is decided: agreement, exhaustively."""
    for at, configuration in enumerate(graph.configurations):
        assert len(configuration.decided()) <= 1
        if configuration.chosen():
            assert graph.valence[at] != BIVALENT, "a majority settles it before anybody knows"
    assert "undecidable" not in graph.counts()


def test_valence_never_comes_back_th_3(graph):
    """What can no longer be decided stays so."""
    for at, steps in enumerate(graph.successors):
        for _, following in steps:
            assert graph.valence[following] & ~graph.valence[at] == 0


def test_acceptors_that_forget_their_promise_are_seen_th_3(monkeypatch):
    """Without promises the explorer finds two decisions: the judge can fail."""
    from quorate.simulation.theory import single_decree

    def accept_anything(proposer, acceptor, number):
        return real(proposer, acceptor._replace(promised=0), number)

    real = single_decree._accept
    monkeypatch.setattr(single_decree, "_accept", accept_anything)
    path = initial()
    for move in [
        *(Move("prepare", 0, a) for a in (0, 1)),
        *(Move("prepare", 1, a) for a in (0, 1)),
        *(Move("accept", 1, a) for a in (0, 1)),
        *(Move("accept", 0, a) for a in (0, 1)),
    ]:
        path = single_decree.apply(path, move)
    assert canonical(path).decided() == {0, 1}


# ---- partial synchrony -------------------------------------------------------------------------


@pytest.mark.parametrize("nodes", [3, 5])
def test_every_seed_decides_after_stabilisation_th_4(nodes):
    """After GST every seed elects and decides within ten election timeouts, as stated."""
    runs = [stabilise(seed, nodes=nodes) for seed in range(40)]
    assert sum(one.lost for one in runs) > 1_000, "before GST there was turmoil"
    assert max(one.epochs_before for one in runs) >= 5
    assert max(one.decided_ms for one in runs) < 3_000


def test_stabilisation_repeats_by_seed():
    """One seed fixes the run."""
    assert stabilise(5) == stabilise(5)
    assert stabilise(5) != stabilise(6)
