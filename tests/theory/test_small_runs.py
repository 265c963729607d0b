"""TH-14: small runs are enough, and every error path gets an injection.

Yuan et al. (OSDI '14) looked at 198 failures of distributed systems in production: 98 % show on
no more than three nodes, 90 % after no more than three inputs, and 92 % of the catastrophic ones
come from wrong handling of errors that were signalled. So: three nodes, two clients and a few
seconds find most of what we plant; every operation of the disk is made to fail once, and every
error that quorate raises on purpose is provoked by some test.
"""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest
from store_story import Node, random_step

import quorate.errors
from quorate.errors import DiskFailed, QuorateError
from quorate.simulation.disk import VirtualDisk
from quorate.simulation.mutants.catalogue import mutants
from quorate.simulation.mutants.hunt import Caught, hunt
from quorate.simulation.plan import Wishes

TESTS = Path(__file__).parents[1]
PLANTED = (
    "wins-with-less-than-a-majority",
    "votes-for-everybody",
    "votes-for-outdated-logs",
    "loses-the-vote-on-restart",
    "truncates-without-a-conflict",
    "keeps-conflicting-entries",
    "commits-with-less-than-a-majority",
    "delivers-what-is-only-verified",
    "delivers-twice",
    "skips-the-no-op",
    "reads-whatever-is-here",
    "names-snapshots-after-the-next-entry",
    "applies-resent-batches-again",
    "applies-differently-on-one-node",
    "confirms-before-the-fsync",
    "writes-the-log-without-fsync",
    "never-writes-the-hard-state",
    "starts-again-under-the-same-incarnation",
    "leaves-ephemerals-behind",
    "answers-reads-ahead-of-writes",
)
SEEDS_MAX = 10
SMALL_US = 4_000_000
STEPS = 60


def test_th_14_small_runs_find_what_was_planted():
    """Three nodes, two clients, four seconds, ten seeds at most: nine of ten mutants show."""
    found = {}
    for mutant in mutants():
        if mutant.name in PLANTED:
            wishes = Wishes(mutant.workload, nodes=3, clients=2, duration_us=SMALL_US)
            found[mutant.name] = hunt(mutant, wishes, 1, SEEDS_MAX)
    assert sorted(found) == sorted(PLANTED)
    missed = [name for name, verdict in found.items() if not isinstance(verdict, Caught)]
    assert len(missed) * 10 <= len(PLANTED), missed


class Saboteur:
    """Lets one operation of a disk fail, by its number from now on; counts all of them."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.count = 0

    def __call__(self, operation: str, name: str) -> None:
        self.count += 1
        if self.count == self.number:
            raise DiskFailed(f"cannot {operation} {name}: Input/output error (EIO)")


def live(node: Node, saboteur: Saboteur) -> None:
    """The same life of a data directory each time, until its disk fails."""
    draw = random.Random(14).randrange
    node.disk.hook = saboteur
    node.open()
    for _ in range(STEPS):
        random_step(node, draw)


def test_th_14_every_operation_of_the_disk_fails_once():
    """An error of the disk is never swallowed, and costs nothing that was acknowledged."""
    quiet = Saboteur(0)
    live(Node(VirtualDisk()), quiet)
    assert quiet.count > 200
    for number in range(1, quiet.count + 1):
        node = Node(VirtualDisk())
        with pytest.raises(DiskFailed):
            live(node, Saboteur(number))
        node.disk.hook = None
        node.disk.restart()
        node.open()  # which asserts that everything acknowledged is there


def raised_names() -> set[str]:
    """Errors of the tree that the product raises itself."""
    known = {
        name
        for name, kind in vars(quorate.errors).items()
        if isinstance(kind, type) and issubclass(kind, QuorateError)
    }
    raised: set[str] = set()
    for path in Path(quorate.errors.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                raised.add(ast.unparse(node.exc.func))
    return known & raised


def expected_names() -> set[str]:
    """Names that some test expects, in ``pytest.raises(...)`` or an ``except`` clause."""
    names: set[str] = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.raises":
                names.update(part.id for part in ast.walk(node) if isinstance(part, ast.Name))
            elif isinstance(node, ast.ExceptHandler) and node.type is not None:
                names.update(part.id for part in ast.walk(node.type) if isinstance(part, ast.Name))
    return names


def test_th_14_every_error_is_provoked_by_a_test():
    """Nothing is raised on purpose that no test has ever seen."""
    assert len(raised_names()) >= 8
    assert raised_names() - expected_names() == set()
