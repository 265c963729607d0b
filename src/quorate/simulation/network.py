"""A virtual network that loses, delays, doubles, reorders, damages, holds and cuts.

Links are one-way, so one-way partitions are the general case, and each may have its own quality.
A link that is not ``ordered`` gives no order; none gives reliability: replicas need neither.

Invariants:
    * a message arrives zero, one or more times, unchanged, never before it was sent
    * a message is dropped if its link is cut when it is sent *or* when it would arrive; on a
      clogged link it waits, and what waits is bounded
    * a damaged message is refused by the real framing; its link is broken, and with it goes what
      else was under way on it, as on a connection that is closed
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial as bound
from typing import Any, NamedTuple

from quorate.simulation.links import FATE_BITS, FATES, Link, LinkQuality, receive_damaged
from quorate.simulation.world import World

__all__ = ["LinkQuality", "NetworkCounts", "VirtualNetwork"]

HELD_MESSAGES_MAX = 2_000
"""A clogged link holds this many messages; more are lost, as by a sender's full buffer."""

_FATE_MASK = (1 << FATE_BITS) - 1


class NetworkCounts(NamedTuple):
    """What became of messages, each counted once per reason."""

    sent: int
    lost: int  # dice, a broken link, a full clogged link
    cut: int
    duplicated: int
    delayed: int
    corrupted: int
    held: int


class VirtualNetwork:
    """Carries payloads between numbered nodes.

    Args:
        world: clock and dice.
        deliver: called as ``deliver(sender, receiver, channel, payload)``.

    Attributes:
        on_broken: called as ``on_broken(sender, receiver)`` when damage on the wire broke this
            one-way link: both ends see their connection closed, and open another.
    """

    def __init__(self, world: World, deliver: Callable[[int, int, int, bytes], None]) -> None:
        self.on_broken: Callable[[int, int], None] = lambda _sender, _receiver: None
        self.sent = self.lost = 0
        self._cut_count = self._duplicated = self._delayed = self._corrupted = self._held = 0
        self._world = world
        self._draw = world.draw
        self._deliver = deliver
        self._quality = LinkQuality()
        self._links: dict[tuple[int, int], Link] = {}
        self._link_qualities: dict[tuple[int, int], LinkQuality] = {}
        self._node_qualities: dict[int, LinkQuality] = {}
        self._cuts: set[tuple[int, int]] = set()
        self._deaf: set[int] = set()
        self._mute: set[int] = set()
        self._flaps: dict[tuple[int, int], object] = {}

    # ---- messages ------------------------------------------------------------------------------

    def send(self, sender: int, receiver: int, channel: int, payload: bytes) -> None:
        """Send a message; it may never arrive."""
        self.sent += 1
        link = self._links.get((sender, receiver))
        if link is None:
            link = self._make_link(sender, receiver)
        fate = self._draw(FATES)
        if link.is_blocked or (fate & _FATE_MASK) < link.trouble:
            self._send_badly(link, fate, channel, payload)
            return
        delay = link.low_us + ((fate >> FATE_BITS) * link.span_us >> FATE_BITS)
        if link.is_ordered:
            delay = self._in_order(link, delay)
        self._world.after(delay, bound(self._arrive, link, channel, payload))

    def _send_badly(self, link: Link, fate: int, channel: int, payload: bytes) -> None:
        """Send a message that meets trouble, or on a link that does."""
        if link.is_cut:
            self._cut_count += 1
            return
        luck = fate & _FATE_MASK
        if luck < link.loss:
            self.lost += 1
            return
        delay = link.low_us + ((fate >> FATE_BITS) * link.span_us >> FATE_BITS)
        if luck < link.corruption:
            self._corrupted += 1
            delay = self._in_order(link, delay)
            self._world.after(delay, bound(self._arrive_damaged, link, channel, payload))
            return
        if luck < link.duplication:
            self._duplicated += 1
            self._world.after(
                self._in_order(link, delay), bound(self._arrive, link, channel, payload)
            )
        if luck < link.trouble:
            self._delayed += luck >= link.duplication
            delay += self._draw(link.delay_us + 1)
        self._world.after(self._in_order(link, delay), bound(self._arrive, link, channel, payload))

    def _in_order(self, link: Link, delay_us: int) -> int:
        """The delay that lets nothing overtake, when the link is ordered."""
        if not link.is_ordered:
            return delay_us
        now_us = self._world.now_us
        link.last_us = max(link.last_us, now_us + delay_us)
        return link.last_us - now_us

    def _arrive(self, link: Link, channel: int, payload: bytes) -> None:
        if link.is_blocked:
            self._stop(link, channel, payload)
            return
        self._deliver(link.sender, link.receiver, channel, payload)

    def _stop(self, link: Link, channel: int, payload: bytes) -> None:
        """Drop or hold what arrives through a blocked link."""
        if link.is_broken:
            self.lost += 1
        elif link.is_cut:
            self._cut_count += 1
        elif len(link.held) < HELD_MESSAGES_MAX:
            self._held += 1
            link.held.append((channel, payload))
        else:
            self.lost += 1

    def _arrive_damaged(self, link: Link, channel: int, payload: bytes) -> None:
        if link.is_cut or link.is_broken:
            self._stop(link, channel, payload)
            return
        receive_damaged(channel, payload, self._draw)
        self.break_link(link.sender, link.receiver)
        self.on_broken(link.sender, link.receiver)

    def break_link(self, sender: int, receiver: int) -> None:
        """Close the one-way link and open another: what is under way or held on it is lost."""
        link = self._links.pop((sender, receiver), None)
        if link is not None:
            self.lost += len(link.held)
            link.held.clear()
            link.block(broken=True)
            fresh = self._make_link(sender, receiver)
            fresh.block(clogged=link.is_clogged and not link.is_opening)

    def counts(self) -> NetworkCounts:
        """What became of messages so far."""
        return NetworkCounts(
            sent=self.sent,
            lost=self.lost,
            cut=self._cut_count,
            duplicated=self._duplicated,
            delayed=self._delayed,
            corrupted=self._corrupted,
            held=self._held,
        )

    # ---- quality -------------------------------------------------------------------------------

    @property
    def quality(self) -> LinkQuality:
        """The quality of every link that was given none of its own."""
        return self._quality

    @quality.setter
    def quality(self, quality: LinkQuality) -> None:
        self._quality = quality
        self._refresh()

    def set_link(self, sender: int, receiver: int, quality: LinkQuality | None) -> None:
        """Give a one-way link a quality of its own; None: that of the others again."""
        _put(self._link_qualities, (sender, receiver), quality)
        self._refresh()

    def slow_node(self, node: int, quality: LinkQuality | None) -> None:
        """Give all links from and to a node a quality, but for those of ``set_link``."""
        _put(self._node_qualities, node, quality)
        self._refresh()

    # ---- cuts ----------------------------------------------------------------------------------

    def cut(self, sender: int, receiver: int) -> None:
        """Cut the one-way link."""
        self._cuts.add((sender, receiver))
        self._refresh()

    def mend(self, sender: int, receiver: int) -> None:
        """Undo ``cut``, for the one-way link; an isolated node stays isolated."""
        self._cuts.discard((sender, receiver))
        self._flaps.pop((sender, receiver), None)
        self._refresh()

    def partial(self, a: int, b: int) -> None:
        """Cut the one pair, both ways: a partial partition."""
        self.partition([a], [b])

    def partition(self, *groups: Sequence[int]) -> None:
        """Cut all links between different groups, both ways."""
        for number, group in enumerate(groups):
            for other in groups[:number] + groups[number + 1 :]:
                self._cuts.update((a, b) for a in group for b in other)
        self._refresh()

    def isolate(self, node: int) -> None:
        """Let a node neither be heard nor hear, whoever the others are; ends with ``heal``."""
        self.isolate_inbound(node)
        self.isolate_outbound(node)

    def isolate_inbound(self, node: int) -> None:
        """Let a node hear nothing; it is still heard."""
        self._deaf.add(node)
        self._refresh()

    def isolate_outbound(self, node: int) -> None:
        """Let a node be heard by nobody; it still hears."""
        self._mute.add(node)
        self._refresh()

    def rejoin(self, node: int) -> None:
        """Undo ``isolate`` for this node; other cuts stay."""
        self._deaf.discard(node)
        self._mute.discard(node)
        self._refresh()

    def bridge(self, left: Sequence[int], right: Sequence[int], bridge_node: int) -> None:
        """Two halves that do not see each other, and one node that both see."""
        self.partition(
            [node for node in left if node != bridge_node],
            [node for node in right if node != bridge_node],
        )

    def chain(self, nodes: Sequence[int]) -> None:
        """Each node sees only its neighbours in this order."""
        for place, node in enumerate(nodes):
            for other in nodes[place + 2 :]:
                self._cuts.update(((node, other), (other, node)))
        self._refresh()

    def is_cut(self, sender: int, receiver: int) -> bool:
        """Whether this one-way link is cut now."""
        return (sender, receiver) in self._cuts or sender in self._mute or receiver in self._deaf

    def flap(self, sender: int, receiver: int, period_us: int, until_us: int) -> None:
        """Cut and mend the one-way link every half period, until a virtual time or ``mend``."""
        assert period_us >= 2
        token = self._flaps[sender, receiver] = object()
        self._flap(sender, receiver, period_us // 2, until_us, token)

    def _flap(self, sender: int, receiver: int, half_us: int, until_us: int, token: object) -> None:
        key = sender, receiver
        if self._flaps.get(key) is not token:
            return
        if self._world.now_us >= until_us:
            self.mend(sender, receiver)
            return
        if key in self._cuts:
            self._cuts.discard(key)
        else:
            self._cuts.add(key)
        self._refresh()
        again = bound(self._flap, sender, receiver, half_us, until_us, token)
        self._world.after(half_us, again)

    # ---- clogs ---------------------------------------------------------------------------------

    def clog(self, sender: int, receiver: int) -> None:
        """Hold what goes over the one-way link until ``unclog``, at most HELD_MESSAGES_MAX."""
        link = self._link(sender, receiver)
        link.block(clogged=True)
        link.is_opening = False

    def unclog(self, sender: int, receiver: int) -> None:
        """Deliver all that was held, in its order, in one burst."""
        link = self._link(sender, receiver)
        if link.is_clogged:
            link.is_opening = True
            self._world.after(link.low_us, bound(self._burst, link))

    def _burst(self, link: Link) -> None:
        if not link.is_opening:
            return
        link.is_opening = False
        link.block(clogged=False)
        held, link.held = link.held, []
        for channel, payload in held:
            self._arrive(link, channel, payload)

    def clogged(self) -> list[tuple[int, int]]:
        """The one-way links that are clogged now, and not about to open, sorted."""
        links = self._links.items()
        return sorted(key for key, link in links if link.is_clogged and not link.is_opening)

    def heal(self) -> None:
        """Mend, unclog and reset every link; only the common ``quality`` stays as it is."""
        for sender, receiver in self.clogged():
            self.unclog(sender, receiver)
        for faults in (self._cuts, self._deaf, self._mute):
            faults.clear()
        for qualities in (self._flaps, self._link_qualities, self._node_qualities):
            qualities.clear()
        self._refresh()

    # ---- details -------------------------------------------------------------------------------

    def _link(self, sender: int, receiver: int) -> Link:
        return self._links.get((sender, receiver)) or self._make_link(sender, receiver)

    def _make_link(self, sender: int, receiver: int) -> Link:
        link = self._links[sender, receiver] = Link(sender, receiver)
        self._tune(link)
        return link

    def _refresh(self) -> None:
        """Let every link know what it is now; rare, and there are few links."""
        for link in self._links.values():
            self._tune(link)

    def _tune(self, link: Link) -> None:
        sender, receiver = link.sender, link.receiver
        nodes = self._node_qualities
        own = self._link_qualities.get((sender, receiver))
        link.become(own or nodes.get(sender) or nodes.get(receiver) or self._quality)
        link.block(cut=self.is_cut(sender, receiver))


def _put(table: dict[Any, LinkQuality], key: object, quality: LinkQuality | None) -> None:
    if quality is None:
        table.pop(key, None)
    else:
        table[key] = quality
