"""Seeded faults under whole coordination servers: what ZooKeeper's clients are promised, judged.

RA-7, ZK-2, ZK-3, ZK-5, ZK-6, ZK-7, ZK-9, ZK-10: every reply, event and session of every run is held
against one account of the log, and the whole history against the checker.
"""

import pytest

from quorate.errors import BadInput
from quorate.simulation.plan import Wishes, draw_scenario
from quorate.simulation.properties import Violation
from quorate.simulation.run import Run
from quorate.simulation.scenario import format_scenario, parse_scenario
from quorate.simulation.workloads.catalogue import workload_named

SEEDS = 60
GROUP = 6
WISHES = Wishes(workload="tree", duration_us=15_000_000)


def run(seed, wishes=WISHES):
    scenario = draw_scenario(seed, wishes, workload_named)
    try:
        return Run(scenario).run()
    except Violation as error:
        raise AssertionError(f"seed {seed}, {scenario.summary()}: {error}") from error


def story(lines, nodes=3, clients=2):
    """Run a scenario of these lines without faults of its own; give the finished run."""
    head = ["quorate scenario 1", "seed 3", "workload tree", f"nodes {nodes}"]
    head += [f"clients {clients}", "duration 15s", "calm 20s"]
    told = Run(parse_scenario("\n".join(head + lines), "story"))
    told.run()
    return told


def answers(told, client):
    """(verb, path, error) of everything a client asked, and got an answer to."""
    return [
        (request.ask.verb, request.ask.path.decode(), request.reply.error)
        for request in told.workload.witness.requests
        if request.client == client and request.reply is not None
    ]


@pytest.mark.parametrize("first", range(0, SEEDS, GROUP))
def test_ra_7_zk_2_zk_3_zk_5_zk_6_zk_7_promises_hold_under_seeded_faults(first):
    """Every seed keeps every promise to every client, and comes to rest."""
    outcomes = [run(seed) for seed in range(first, first + GROUP)]
    assert sum(outcome.figures["acknowledged"] for outcome in outcomes) > 100 * GROUP
    undecided = sum(outcome.figures["undecided"] for outcome in outcomes)
    assert undecided <= 1  # one path of one tree, with more unknown outcomes than the budget allows


def test_clients_really_lose_and_miss_things():
    """The runs are not idle: sessions expire, are refused, outcomes stay unknown, watches fire."""
    outcomes = [run(seed) for seed in range(1_000, 1_020)]
    for name in ("unknown", "expired", "refused", "events", "reads"):
        assert sum(outcome.figures[name] for outcome in outcomes) > 5, name


def test_pl_9_same_seed_same_run_and_same_text():
    """A seed fixes a run to the last byte, and so does the scenario file that it writes."""
    scenario = draw_scenario(7, WISHES, workload_named)
    again = parse_scenario(format_scenario(scenario), "again")
    assert again == scenario
    assert Run(scenario).run() == Run(again).run()


def test_calm_ensemble_loses_nothing():
    """Without faults every request is answered, and only clients end sessions."""
    outcome = run(2, Wishes(workload="tree", duration_us=8_000_000, faults=(), nodes=3))
    assert outcome.elections == 1
    assert outcome.figures["acknowledged"] > 20


def test_words_that_mean_nothing_are_refused():
    """A scenario with a step that no client can take is refused before it runs."""
    with pytest.raises(BadInput, match="client 1, create /a: `create /a` is no request"):
        story(["client 1 at 1s create /a"])


def test_zk_6_session_of_a_sleeper_expires_and_its_lock_is_free():
    """ZK-6: who sleeps longer than its timeout loses session and lock, and is told so."""
    told = story(
        [
            "client 1 at 0s open 1s",
            "client 1 at 1s create /l mine ephemeral",
            "client 1 at 2s sleep 4s",
            "client 1 at 2s create /l again ephemeral",
            "client 2 at 1.5s exists /l watch",
            "client 2 at 5s create /l yours ephemeral",
        ]
    )
    assert ("create", "/l", 0) in answers(told, 2)
    assert answers(told, 1) == [("create", "/l", 0), ("create", "/l", -110)]
    assert told.workload.figures()["expired"] == 1
    assert told.workload.figures()["refused"] == 1
    assert told.workload.figures()["events"] == 1


def test_zk_6_dead_client_leaves_nothing_behind():
    """ZK-6: the znodes of a client that lost power go with its session; its next life is new."""
    told = story(
        [
            "client 1 at 0s open 1s",
            "client 1 at 1s create /e 1 ephemeral ; create /p 1",
            "client 1 at 2s die",
            "client 1 at 8s exists /e ; exists /p",
        ],
        clients=1,
    )
    assert answers(told, 1)[2:] == [("exists", "/e", -101), ("exists", "/p", 0)]


def test_zk_7_watch_survives_a_move_and_tells_what_was_missed():
    """ZK-7: a client that moves learns of a change that happened in between."""
    told = story(
        [
            "client 1 at 1s create /w 1 ; get /w watch ; exists /none watch ; children / watch",
            "client 1 at 2s move 2",
            "client 2 at 2.001s multi set /w 2 + create /none 1",
            "client 1 at 4s get /w",
        ]
    )
    assert told.workload.figures()["events"] == 3
    assert not told.workload.clients[1].watches


def test_zk_4_whoever_sees_ready_sees_no_mix():
    """ZK-4: a pipelined change of several znodes behind a ready znode is seen whole, or noticed."""
    lines = ["client 1 at 0s create /r 0 ; create /x 0 ; create /y 0"]
    for turn in range(1, 40):
        at_ms = 1_000 + 300 * turn
        change = f"delete /r ; set /x {turn} ; set /y {turn} ; create /r {turn}"
        lines.append(f"client 1 at {at_ms}ms {change}")
        for reader, late_us in ((2, 300), (3, 900), (4, 1_500)):
            at_us = at_ms * 1_000 + late_us
            lines += [
                f"client {reader} at {at_us + place}us {look}"
                for place, look in enumerate(("exists /r watch", "get /x", "get /y"))
            ]
    told = story(lines, clients=4)
    asked = told.workload.witness.requests
    requests = sorted((each for each in asked if each.client > 1), key=lambda each: each.client)
    mixed = 0
    for ready, x, y in zip(requests[::3], requests[1::3], requests[2::3], strict=True):
        assert (x.ask.path, y.ask.path) == (b"/x", b"/y")
        if ready.reply.error or x.reply.data() == y.reply.data():
            continue
        changes = told.workload.log.model.data_changes[b"/r"]
        mixed += 1
        assert any(ready.reply.zxid < zxid <= y.reply.zxid for zxid, _ in changes)
    assert mixed > 0
    assert told.workload.figures()["events"] > 30


def test_zk_9_conditional_writes_are_decided_where_they_are_ordered():
    """ZK-9: of two clients that set the same version at once, one wins, whatever they had seen."""
    lines = ["client 1 at 0s create /c 0"]
    lines += [
        f"client {client} at {1_000 + 200 * turn}ms set /c {turn} {turn}"
        for turn in range(20)
        for client in (1, 2)
    ]
    told = story(lines)
    both = answers(told, 1) + answers(told, 2)
    assert both.count(("set", "/c", 0)) == 20
    assert both.count(("set", "/c", -103)) == 20
