"""Scenario files: what is written reads back, and what is wrong is named by file and line."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.errors import BadInput, SettingsError
from quorate.simulation.actions import ACTIONS, usage
from quorate.simulation.plan import KINDS, PLOT_KINDS, Wishes, draw_scenario, parse_kinds
from quorate.simulation.plots import PLOTS, claim
from quorate.simulation.run import Run
from quorate.simulation.scenario import FORMAT, Scenario, format_scenario, parse_scenario
from quorate.simulation.units import format_duration, parse_duration_us
from quorate.simulation.workloads.catalogue import workload_named

HEAD = f"{FORMAT}\nseed 1\nworkload cells\n"


def drawn(seed, **wishes):
    return draw_scenario(seed, Wishes(duration_us=20_000_000, **wishes), workload_named)


@pytest.mark.parametrize("seed", range(12))
def test_a_drawn_scenario_reads_back_equal(seed):
    """Writing and reading a scenario loses nothing, however many faults it has."""
    scenario = drawn(seed)
    assert parse_scenario(format_scenario(scenario, "a comment"), "file") == scenario


def test_a_scenario_read_back_runs_alike():
    """The file, not the plan, is what a run depends on."""
    scenario = replace(drawn(5), duration_us=3_000_000)
    again = parse_scenario(format_scenario(scenario), "file")
    assert Run(again).run() == Run(scenario).run()


@given(st.integers(-(10**13), 10**13))
def test_durations_read_back_exactly(us):
    """A microsecond is never lost."""
    assert parse_duration_us(format_duration(us)) == us


@pytest.mark.parametrize("text", ["", "5", "s", "1.5", "1,5s", "1.0000001s", "0.5us", "--1s"])
def test_what_is_no_duration_is_refused(text):
    """Units are needed, and nothing is finer than a microsecond."""
    with pytest.raises(ValueError, match=r"no duration|finer"):
        parse_duration_us(text)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "first line"),
        ("seed 1\n", 1, "first line"),
        (f"{FORMAT}\nworkload cells\n", 0, "no line 'seed'"),
        (HEAD + "at 1s explode 2\n", 4, "unknown action"),
        (HEAD + "\nat 1s crash\n", 5, "crash NODE"),
        (HEAD + "at 1s crash zero\n", 4, "no node"),
        (HEAD + "at 1s crash 9\n", 0, "does not exist"),
        (HEAD + "at soon crash 1\n", 4, "no duration"),
        (HEAD + "at 1s rot 1 everything\n", 4, "does not rot"),
        (HEAD + "at 1s link-quality loss=2\n", 4, "probability"),
        (HEAD + "at 1s link-quality smell=1\n", 4, "quality of a link"),
        (HEAD + "at 1s drift-clock 1 5\n", 4, "ppm"),
        (HEAD + "set colour 3\n", 4, "unknown setting"),
        (HEAD + "set hints yes\n", 4, "invalid literal"),
        (HEAD + "client 9 at 1s read a\n", 0, "client 9"),
        (HEAD + "nodes 99\n", 0, "nodes must be"),
        (HEAD + "hello world again\n", 4, "means nothing"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line(text, line, words):
    """Bad input says which file and line, and what would be right."""
    with pytest.raises(BadInput, match=words) as caught:
        parse_scenario(text, "bad.scenario")
    assert (caught.value.source, caught.value.line) == ("bad.scenario", line)


def test_a_step_that_the_workload_does_not_know_is_refused():
    """What clients can do is checked before anything runs."""
    scenario = parse_scenario(HEAD + "client 1 at 1s sing a song\n", "bad.scenario")
    with pytest.raises(BadInput, match="write KEY VALUE"):
        Run(scenario)


def test_unknown_names_are_refused_with_the_known_ones():
    """A workload or a kind of fault that does not exist is the caller's mistake."""
    with pytest.raises(SettingsError, match="cells"):
        workload_named("dream")
    with pytest.raises(SettingsError, match="partition"):
        parse_kinds("meteor")
    with pytest.raises(SettingsError, match="ambush:rivals"):
        parse_kinds("ambush:meteor")


def test_kinds_of_faults_are_chosen_by_name():
    """``all``, ``none``, a list, and all but some."""
    assert parse_kinds("all") is None
    assert parse_kinds("none") == ()
    assert parse_kinds("crash, disk") == ("crash", "disk")
    assert "clocks" not in parse_kinds("all,-clocks")
    assert len(parse_kinds("all,-clocks")) == len(KINDS) - 1
    assert {"clocks"} == set(KINDS) - set(parse_kinds("-clocks"))
    assert parse_kinds("ambush:rivals,distance") == ("ambush:rivals", "distance")


def test_a_plot_that_is_wished_for_is_in_every_run_and_the_only_one():
    """``ambush:told-twice`` draws no other plot, and leaves the other kinds as they were."""
    told = {"link-quality", "partition", "heal"}
    for seed in range(10):
        alone = drawn(seed, faults=("ambush:told-twice",)).actions
        assert {action.name for action in alone} == told
        both = drawn(seed, faults=("crash", "ambush:told-twice")).actions
        crashes = [action for action in both if action.name not in told]
        assert crashes == list(drawn(seed, faults=("crash",)).actions)
        assert len(both) > len(crashes)


@pytest.mark.parametrize("kind", PLOT_KINDS)
def test_every_plot_can_be_told_by_every_cluster(kind):
    """Also by one node, and by two: actions that read back equal, none after the end."""
    for nodes in (1, 2, 3, 5):
        for seed in range(5):
            scenario = drawn(seed, nodes=nodes, faults=(kind,), workload="cells")
            assert parse_scenario(format_scenario(scenario), "file") == scenario
            assert all(action.at_us < scenario.duration_us for action in scenario.actions)


def test_every_plot_says_what_it_tells():
    """In one sentence each."""
    for name in PLOTS:
        assert claim(name).endswith(".")
        assert len(claim(name)) < 100


def test_every_action_is_drawn_and_has_a_usage():
    """Nothing in the vocabulary is dead: each action occurs in some plan."""
    seen = {action.name for seed in range(150) for action in drawn(seed).actions}
    assert set(ACTIONS) - seen <= {"mend"}
    assert all(usage(name).startswith(name) for name in ACTIONS)


def test_wishes_are_kept():
    """What the caller gives is not drawn."""
    scenario = drawn(3, nodes=5, clients=2, faults=("crash",), workload="cells")
    assert (scenario.nodes, scenario.clients) == (5, 2)
    names = {action.name for action in scenario.actions}
    assert names <= {"crash", "kill", "crash-after", "restart", "restart-and-crash"}
    assert all(step.client <= 2 for step in scenario.steps)


def test_a_scenario_without_anything_runs():
    """The smallest scenario is a seed and a workload."""
    outcome = Run(replace(Scenario(1, "cells"), duration_us=1_000_000)).run()
    assert outcome.figures["requests"] == 0


def test_stories_of_repair_leave_the_other_draws_alone_and_keep_the_budget():
    """A seed's other faults are the same with and without them, and no more disks are harmed."""
    others = ("crash", "damage")
    harm = {"rot", "misdirect-write", "lose-write", "wipe"}
    told = 0
    for seed in range(60):
        without = draw_scenario(seed, Wishes(faults=others), workload_named)
        both = draw_scenario(seed, Wishes(faults=(*others, "repair")), workload_named)
        assert [action for action in both.actions if action in without.actions] == list(
            without.actions
        )
        told += len(both.actions) > len(without.actions)
        harmed = {action.arguments[0] for action in both.actions if action.name in harm}
        assert len(harmed) <= (both.nodes - 1) // 2
    assert 5 < told < 30
