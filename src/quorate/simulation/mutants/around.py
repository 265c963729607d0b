"""Mutants by import path, for workers that get words and no functions.

``quorate.simulation.mutants.around:commits_old_terms_by_counting`` gives a context manager that
applies this mutant; see ``simulation/farm.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from quorate.errors import SettingsError
from quorate.simulation.mutants.catalogue import mutant_named
from quorate.simulation.mutants.mutant import Mutant


def path_of(mutant: Mutant) -> str:
    """Where a farm finds the mutant."""
    return f"{__name__}:{mutant.name.replace('-', '_')}"


def __getattr__(name: str) -> Callable[[], AbstractContextManager[None]]:
    """Find a mutant."""
    try:
        return mutant_named(name.replace("_", "-")).applied
    except SettingsError as error:
        raise AttributeError(str(error)) from None
