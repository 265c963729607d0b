"""Garbage collection in a process with millions of objects that live long.

CPython's collector looks for cycles. It walks all objects of a generation at once, with everything
standing still: 0.4 s for a tree of a million znodes, and while one is being filled, again and
again. A node's long-lived objects (znodes, sessions, log entries) have no cycles and are freed by
their reference counts alone. So:

    while loading     no collection at all: everything that is made stays
    before serving    what there is goes to the permanent generation, unseen
    while serving     the young are collected often, in small lots; whoever has survived a few
                      collections goes to the permanent generation too

A collection then looks at no more than ``LOT * LOTS`` objects, whatever the tree's size. Cost: a
cycle that is dropped after it was made permanent is never freed. What makes cycles at all is
dropped young (exceptions with their frames) or takes its cycles apart itself (connections, at
their end: ``tests/unit/node/test_memory.py``).

Rejected: thresholds alone. They make full collections rare, and each of them as long as ever.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

LOT: Final = 10_000
"""Objects made and not freed again between two collections of the youngest: about 0.5 ms."""

LOTS: Final = 5
"""So many lots are looked at together, once, before they are let alone for ever: about 3 ms."""


def begin_loading() -> None:
    """Stop collecting: a snapshot and a log are about to become objects that stay."""
    gc.collect()
    gc.disable()


def begin_serving() -> None:
    """Collect the young from now on, and nothing of what is there already."""
    gc.freeze()
    gc.set_threshold(LOT, LOTS, 1)
    if _freeze_survivors not in gc.callbacks:
        gc.callbacks.append(_freeze_survivors)
    gc.enable()


@contextmanager
def loading() -> Iterator[None]:
    """As at a start, for a snapshot that replaces the state while the node runs."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()
            gc.enable()


def _freeze_survivors(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] > 0:
        gc.freeze()
