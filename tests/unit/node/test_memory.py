"""Garbage collection: what lives long is looked at once, and what dies leaves no cycles."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator

import pytest
from no_cycles import leaving_no_cycles

from quorate.node import memory
from quorate.node.client_listener import ClientBounds, ClientListener
from quorate.node.memory import LOT, LOTS, begin_loading, begin_serving, loading

from .fakes import FakeServer, dialled, eventually, listening, settle

BOUNDS = ClientBounds(connections_max=100, connections_per_address_max=0, buffer_bytes_max=1 << 20)


class Thing:
    """Tracked by the collector, as every object with slots of a class is."""

    __slots__ = ("other",)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.enable()
    gc.set_threshold(*thresholds)
    while memory._freeze_survivors in gc.callbacks:
        gc.callbacks.remove(memory._freeze_survivors)
    gc.unfreeze()


def test_a_collection_never_looks_at_more_than_a_few_lots() -> None:
    """However many objects there are: those that live long were let alone before."""
    begin_loading()
    assert not gc.isenabled()
    loaded = [Thing() for _ in range(100_000)]
    begin_serving()
    sizes = []

    def look(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            counts = [len(gc.get_objects(generation)) for generation in range(3)]
            sizes.append(sum(counts[: info["generation"] + 1]))

    gc.callbacks.insert(0, look)
    try:
        loaded += [Thing() for _ in range(20 * LOT)]
    finally:
        gc.callbacks.remove(look)
    assert len(sizes) > 10
    assert max(sizes) <= LOT * (LOTS + 3)


def test_young_cycles_are_still_collected() -> None:
    """An exception with its frames, for instance."""
    begin_serving()
    freed = []

    class Noticed(Thing):
        def __del__(self) -> None:
            freed.append(1)

    for _ in range(4 * LOT):
        one = Noticed()
        one.other = one
    assert len(freed) > 2 * LOT


def test_loading_leaves_the_collector_as_it_was() -> None:
    """Off stays off, on is on again, also after an error."""
    begin_serving()
    with pytest.raises(ValueError, match="x"), loading():
        assert not gc.isenabled()
        raise ValueError("x")
    assert gc.isenabled()
    gc.disable()
    with loading():
        assert not gc.isenabled()
    assert not gc.isenabled()


def loops() -> list[Callable[[], asyncio.AbstractEventLoop]]:
    """The loops that a node runs on."""
    uvloop = pytest.importorskip("uvloop")
    return [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.mark.parametrize("which", [0, 1])
def test_a_connection_that_ends_leaves_no_cycle(which: int) -> None:
    """It may have lived long enough to be made permanent; then a cycle would never be freed."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        clients: ClientListener
        clients = ClientListener(FakeServer(), lambda: loop.call_soon(clients.end_turn), BOUNDS)
        async with listening(clients.connect) as port:
            with leaving_no_cycles():
                for _ in range(5):
                    async with dialled(port) as (_, writer):
                        await eventually(lambda: len(clients))
                        writer.write(b"hello")
                        await settle()
                    await eventually(lambda: not len(clients))
                    await settle()

    with asyncio.Runner(loop_factory=loops()[which]) as runner:
        runner.run(story())


def test_a_cycle_would_be_noticed() -> None:
    """The check above can fail."""
    with pytest.raises(AssertionError, match="ClientListener"), leaving_no_cycles():
        one = ClientListener(FakeServer(), lambda: None, BOUNDS)
        one.wake = one.connect  # type: ignore[assignment]
        del one
