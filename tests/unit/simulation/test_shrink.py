"""Shrinking: what is left fails the same way, is small, and is found the same way every time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quorate.errors import UsageError
from quorate.replication import outbox
from quorate.simulation.actions import Action
from quorate.simulation.network import LinkQuality
from quorate.simulation.plan import Wishes, draw_scenario
from quorate.simulation.properties import Kind, Property
from quorate.simulation.scenario import (
    RunSettings,
    Scenario,
    Step,
    format_scenario,
    parse_scenario,
)
from quorate.simulation.shrink import _pairs, _with_nodes, shrink
from quorate.simulation.trial import Failure, attempt
from quorate.simulation.workloads.catalogue import workload_named

BROKEN = Property("a rule", Kind.SAFETY, "it holds", "nobody")
OTHER = Property("another rule", Kind.SAFETY, "it holds", "nobody")


def drawn(seed=3, seconds=20):
    return draw_scenario(seed, Wishes(duration_us=seconds * 1_000_000, nodes=5), workload_named)


def when(condition, other=lambda _: False):
    """A stand-in for runs: a scenario fails when the condition holds."""
    asked = []

    def fails(scenario):
        asked.append(scenario)
        broken = BROKEN if condition(scenario) else OTHER if other(scenario) else None
        if broken is None:
            return None
        return Failure(scenario, broken, "seen", scenario.duration_us, 1, "0")

    fails.asked = asked
    return fails


def names(scenario):
    return [action.name for action in scenario.actions]


def real_failure(scenario):
    verdict = attempt(scenario)
    return verdict if isinstance(verdict, Failure) else None


def test_only_what_matters_is_left():
    """Of a whole schedule the two actions and the one step that matter are found."""
    scenario = drawn()
    first, second, step = scenario.actions[3], scenario.actions[-4], scenario.steps[50]

    def matters(candidate):
        kinds = names(candidate)
        words = [each.words for each in candidate.steps]
        return first.name in kinds and second.name in kinds and step.words in words

    small = shrink(scenario, when(matters)).scenario
    assert sorted(names(small)) == sorted({first.name, second.name})
    assert [each.words for each in small.steps] == [step.words]
    assert small.duration_us < 3_000_000
    assert small.settings == RunSettings()
    assert small.clients == step.client


def test_a_different_failure_is_no_smaller_one():
    """A candidate that breaks another property is left alone."""
    scenario = drawn()
    fails = when(lambda one: len(one.actions) > 4, other=lambda one: len(one.actions) > 0)
    small = shrink(scenario, fails)
    assert len(small.scenario.actions) == 5
    assert small.failure.broken is BROKEN


def test_runs_are_bounded_and_none_is_asked_twice():
    """At most so many runs, and the best by then is the answer; the same answer every time."""
    scenario = drawn()
    fails = when(lambda one: len(one.steps) > 7)
    small = shrink(scenario, fails, runs_max=20)
    assert small.runs == len(fails.asked) == 20
    assert len(set(fails.asked)) == 20
    assert len(small.scenario.steps) < len(scenario.steps)
    assert shrink(scenario, when(lambda one: len(one.steps) > 7), runs_max=20) == small


def test_progress_is_told():
    """Whoever waits hears of every run."""
    told = []
    small = shrink(drawn(), when(lambda one: True), progress=told.append)
    assert [state.runs for state in told] == list(range(2, small.runs + 1))
    assert told[-1].scenario == small.scenario


def test_what_does_not_fail_cannot_be_shrunk():
    """The caller hears that there is nothing to do."""
    with pytest.raises(UsageError, match="does not fail"):
        shrink(drawn(), when(lambda _: False))


def test_causes_go_with_their_cures():
    """A crash is left out together with its restart, a partition with its healing."""
    actions = [
        Action(1, "crash", (1,)),
        Action(2, "crash", (2,)),
        Action(3, "restart", (1,)),
        Action(4, "partition", ((1,), (2, 3))),
        Action(5, "restart", (2,)),
        Action(6, "heal"),
    ]
    pairs = [[action.at_us for action in pair] for pair in _pairs(actions)]
    assert pairs == [[1, 3], [2, 5], [4, 6]]


def test_fewer_nodes_leave_out_who_is_gone():
    """Groups lose nodes; what was about nobody else goes."""
    scenario = Scenario(
        1,
        "cells",
        nodes=5,
        actions=(
            Action(1, "partition", ((1, 4), (2, 3, 5))),
            Action(2, "crash", (5,)),
            Action(3, "chain", ((4, 5),)),
            Action(4, "link-quality", (LinkQuality(loss=0.1),)),
        ),
    )
    small = _with_nodes(scenario, 3)
    assert [action.at_us for action in small.actions] == [1, 4]
    assert small.actions[0].arguments == ((1,), (2, 3))


def test_links_become_milder_and_numbers_rounder():
    """Of a bad link only what matters stays bad."""
    bad = LinkQuality(loss=0.13, duplication=0.2, delay_probability=0.3, delay_us=12_345)
    scenario = Scenario(
        1,
        "cells",
        nodes=3,
        duration_us=9_876_543,
        actions=(
            Action(1_234_567, "link-quality", (bad,)),
            Action(2_345_678, "crash-after", (2, 17)),
        ),
        steps=(Step(3_456_789, 1, ("read", "a")),),
    )

    def matters(one):
        lossy = [a for a in one.actions if a.name == "link-quality" and a.arguments[0].loss]
        return bool(lossy and "crash-after" in names(one) and one.steps)

    small = shrink(scenario, when(matters)).scenario
    link, crash = small.actions
    assert link.arguments == (LinkQuality(loss=0.13),)
    assert crash.arguments == (2, 10)
    assert all(each.at_us % 100_000 == 0 for each in (*small.actions, *small.steps))


def first_failing():
    """The first drawn minute, full of faults and requests, that fails without resending."""
    for seed in range(40):
        scenario = draw_scenario(seed, Wishes(workload="cells"), workload_named)
        if len(scenario.actions) > 100 and len(scenario.steps) > 400:
            found = real_failure(scenario)
            if found is not None and found.broken.name == "replicas come to agree":
                return scenario
    raise AssertionError("no seed fails, although nothing is ever sent again")


def test_a_real_failure_of_a_minute_becomes_a_story(monkeypatch):
    """A minute with a hundred actions and more is cut to a handful, replays, and is readable."""
    monkeypatch.setattr(outbox.Outbox, "resend", lambda _: None)
    scenario = first_failing()
    small = shrink(scenario, real_failure, runs_max=60)
    assert small.failure.broken.name == "replicas come to agree"
    assert len(small.scenario.actions) <= 4
    assert len(small.scenario.steps) <= 6
    text = format_scenario(small.scenario)
    assert parse_scenario(text, "small") == small.scenario
    again = real_failure(parse_scenario(text, "small"))
    assert again == small.failure
    monkeypatch.undo()
    assert real_failure(small.scenario) is None


def test_an_early_failure_is_cut_at_its_moment():
    """What comes after the failure goes first, in one run."""
    scenario = replace(drawn(seconds=30), settings=RunSettings())
    fails = when(lambda one: True)
    moment_us = 2_000_000

    def early(candidate):
        found = fails(candidate)
        return replace(found, at_us=min(moment_us, candidate.duration_us))

    shrink(scenario, early, runs_max=2)
    assert fails.asked[1].duration_us == moment_us + 1_000
    assert max(action.at_us for action in fails.asked[1].actions) <= moment_us + 1_000


def test_candidates_that_make_no_scenario_are_skipped():
    """Shrinking goes on when something that it tries cannot be run."""

    def picky(candidate):
        if candidate.settings.snapshot_bytes_min < 1_000:
            raise UsageError("too small")
        return when(lambda one: len(one.actions) > 1)(candidate)

    assert len(shrink(drawn(), picky).scenario.actions) == 2
