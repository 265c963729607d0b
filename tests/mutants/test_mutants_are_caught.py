"""TH-8, PL-11: with any one rule taken out of the real code, an ordinary run breaks a property.

``caught.txt`` names a seed that showed each mutant (``quorate simulate mutants``). Exactly that run
is made here, with the rule missing and with it; the others of a hunt are not repeated.
A mutant that no run of the hunt showed stands there with a dash: its rule has a test of its own
among the traces and the known bugs, and random runs are too weak for it.
"""

from pathlib import Path

import pytest

from quorate.simulation.mutants.catalogue import mutant_named, mutants
from quorate.simulation.mutants.hunt import Caught, Survived, hunt
from quorate.simulation.properties import catalogue

DURATION_US = 20_000_000
LINES = (Path(__file__).parent / "caught.txt").read_text().splitlines()
TABLE = [line.split(maxsplit=2) for line in LINES if line and not line.startswith("#")]
SHOWN = [(name, int(seed), broken) for name, seed, broken in TABLE if seed != "-"]


@pytest.mark.parametrize(("name", "seed", "broken"), SHOWN, ids=[row[0] for row in SHOWN])
def test_th_8_pl_11_mutant_is_caught(name, seed, broken):
    """Without this rule the run breaks a property."""
    mutant = mutant_named(name)
    found = hunt(mutant, mutant.wishes(DURATION_US), seed, 1)
    assert isinstance(found, Caught), f"seed {seed} does not show it any more: hunt again"
    assert found.property == broken


@pytest.mark.parametrize("seed", sorted({row[1] for row in SHOWN})[:20])
def test_th_8_the_code_as_it_is_passes(seed):
    """With all rules in place the same seeds break nothing."""
    mutant = mutants()[0]
    assert hunt(None, mutant.wishes(DURATION_US), seed, 1) == Survived("none", 1)


def test_every_mutant_is_in_the_table():
    """The table names each mutant once, and properties that exist."""
    assert sorted(row[0] for row in TABLE) == sorted(mutant.name for mutant in mutants())
    known = {declared.name for declared in catalogue()}
    assert {row[2] for row in SHOWN} <= known
