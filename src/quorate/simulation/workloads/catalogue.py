"""Workloads by name: the only place that knows which exist."""

from __future__ import annotations

from collections.abc import Callable

from quorate.errors import SettingsError
from quorate.simulation.workloads.cells import CellsWorkload
from quorate.simulation.workloads.tree import TreeWorkload
from quorate.simulation.workloads.workload import Workload

_WORKLOADS: dict[str, tuple[Callable[[], Workload], str]] = {
    "cells": (CellsWorkload, "registers on bare replicas: write, compare and set, read"),
    "tree": (TreeWorkload, "coordination servers and ZooKeeper clients: znodes, sessions, watches"),
}


def workload_named(name: str) -> Workload:
    """Make the workload called ``name``.

    Raises:
        SettingsError: no workload has this name.
    """
    if name not in _WORKLOADS:
        raise SettingsError(f"unknown workload {name!r}; known: {', '.join(_WORKLOADS)}")
    return _WORKLOADS[name][0]()


def workload_names() -> dict[str, str]:
    """All workloads, with a word on each."""
    return {name: words for name, (_, words) in _WORKLOADS.items()}
