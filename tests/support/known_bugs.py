"""Helpers for regression scenarios: words for Raft situations, and rules that can be removed.

A scenario is a test function without arguments. A mutant takes one rule away; registered with
``breaks(scenario)`` it must make that scenario fail, which shows that the scenario can.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from raft_cluster import RaftCluster
from raft_story import replay

from quorate.consensus.entry import Entry, EntryKind
from quorate.errors import StorageError

Patch = Callable[[pytest.MonkeyPatch], None]
Scenario = Callable[[], None]

STORIES = Path(__file__).parents[1] / "traces" / "raft"
CAUGHT = (AssertionError, StorageError, pytest.fail.Exception)
"""How a scenario fails: it claims, an invariant or a rule of the product breaks, or all stands."""


class Mutants:
    """The mutants of one test module."""

    def __init__(self) -> None:
        self.params: list[Any] = []

    def breaks(self, *scenarios: Scenario) -> Callable[[Patch], Patch]:
        """Register a mutant with the scenarios that must notice it."""

        def register(patch: Patch) -> Patch:
            for scenario in scenarios:
                name = f"{patch.__name__}-{scenario.__name__.removeprefix('test_')}"
                self.params.append(pytest.param(patch, scenario, id=name))
            return patch

        return register


def must_notice(patch: Patch, scenario: Scenario) -> None:
    """Run the scenario with the rule removed; it has to fail."""
    with pytest.MonkeyPatch.context() as context:
        patch(context)
        with pytest.raises(CAUGHT):
            scenario()


def goes_as_written(story: str) -> None:
    """The text story under ``tests/traces/raft`` gives what its file says."""
    text = (STORIES / f"{story}.txt").read_text()
    assert replay(text) == text


def batch(index: int, term: int) -> Entry:
    """An entry whose payload tells where it was written."""
    return Entry(index, term, EntryKind.BATCH, b"%d.%d" % (term, index))


def batches(first: int, last: int, term: int) -> list[Entry]:
    """Entries ``first .. last`` of one term."""
    return [batch(index, term) for index in range(first, last + 1)]


def sent(cluster: RaftCluster, sender: int, kind: type = object) -> list[Any]:
    """Messages of one node that wait on the network."""
    letters = [letter for letter in cluster.network if letter.sender == sender]
    return [letter.message for letter in letters if isinstance(letter.message, kind)]


def persist_all(cluster: RaftCluster, *nodes: int) -> None:
    """Confirm whatever these nodes have handed to their disks."""
    for node in nodes:
        while cluster.nodes[node].is_up and cluster.persist(node):
            pass


def settle_with_disks(cluster: RaftCluster, *nodes: int) -> None:
    """Deliver and store until nothing moves; the disks of other nodes stand still."""
    for _ in range(100):
        cluster.settle()
        persist_all(cluster, *nodes)
        if not cluster.network:
            return
    raise AssertionError("the cluster does not come to rest:\n" + cluster.describe())
