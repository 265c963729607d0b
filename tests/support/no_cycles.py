"""Notices objects of ours that die and wait for the garbage collector.

A node collects the young only (``quorate.node.memory``), so what may live long must not die in a
cycle.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def leaving_no_cycles() -> Iterator[None]:
    """Fail if something of quorate that died in the block is part of a cycle."""
    gc.collect()
    gc.disable()
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found = {type(thing) for thing in gc.garbage}
        ours = sorted(kind.__name__ for kind in found if kind.__module__.startswith("quorate"))
        assert not ours, f"these are in cycles: {ours}"
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
