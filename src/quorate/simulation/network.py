"""A virtual network that loses, delays, doubles, reorders and cuts.

Messages are whole: what arrives is what was sent. (Real links add a checksum per frame; damage on
the wire is tested there.) Links are one-way, so one-way partitions are the general case. Unlike
TCP, a link gives no order and no reliability: replicas must not need either.

Invariants:
    * a message arrives zero, one or more times, never before it was sent
    * a message is dropped if its link is cut when it is sent *or* when it would arrive
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quorate.simulation.world import World


@dataclass(slots=True)
class LinkQuality:
    """How bad the network is; a fresh one is perfect."""

    latency_us: tuple[int, int] = (100, 300)
    loss: float = 0.0
    duplication: float = 0.0
    delay_probability: float = 0.0  # a message takes up to ``delay_us`` longer: reordering
    delay_us: int = 0


class VirtualNetwork:
    """Carries payloads between numbered nodes."""

    def __init__(self, world: World, deliver: Callable[[int, int, int, bytes], None]) -> None:
        self.quality = LinkQuality()
        self.sent = self.lost = 0
        self._world = world
        self._deliver = deliver  # (sender, receiver, channel, payload)
        self._cut: set[tuple[int, int]] = set()

    def send(self, sender: int, receiver: int, channel: int, payload: bytes) -> None:
        """Send a message; it may never arrive."""
        world, quality = self._world, self.quality
        self.sent += 1
        copies = 2 if world.chance(quality.duplication) else 1
        for _ in range(copies):
            if (sender, receiver) in self._cut or world.chance(quality.loss):
                self.lost += 1
                continue
            delay = world.between(*quality.latency_us)
            if world.chance(quality.delay_probability):
                delay += world.between(0, quality.delay_us)
            world.after(delay, lambda: self._arrive(sender, receiver, channel, payload))

    def _arrive(self, sender: int, receiver: int, channel: int, payload: bytes) -> None:
        if (sender, receiver) in self._cut:
            self.lost += 1
            return
        self._deliver(sender, receiver, channel, payload)

    def cut(self, sender: int, receiver: int) -> None:
        """Cut the one-way link."""
        self._cut.add((sender, receiver))

    def partition(self, *groups: list[int]) -> None:
        """Cut all links between different groups, both ways."""
        for group in groups:
            for other in groups:
                if group is not other:
                    self._cut.update((a, b) for a in group for b in other)

    def is_cut(self, sender: int, receiver: int) -> bool:
        """Whether this one-way link is cut now."""
        return (sender, receiver) in self._cut

    def heal(self) -> None:
        """Mend every link."""
        self._cut.clear()
