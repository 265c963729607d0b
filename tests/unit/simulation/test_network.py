"""Each trouble of the virtual network does what it says, one way, and nothing else."""

from __future__ import annotations

import itertools

import pytest

from quorate.errors import InvariantBroken
from quorate.protocol import peer
from quorate.simulation import links
from quorate.simulation.links import LinkQuality, receive_damaged
from quorate.simulation.network import HELD_MESSAGES_MAX, VirtualNetwork
from quorate.simulation.world import World

NODES = (1, 2, 3, 4, 5)
PERFECT = LinkQuality()


class Net:
    """A network, and what arrived: (time, sender, receiver, payload)."""

    def __init__(self, quality: LinkQuality = PERFECT, seed: int = 1) -> None:
        self.world = World(seed)
        self.arrived: list[tuple[int, int, int, bytes]] = []
        self.network = VirtualNetwork(self.world, self._deliver)
        self.network.quality = quality

    def _deliver(self, sender: int, receiver: int, channel: int, payload: bytes) -> None:
        assert channel == 7
        self.arrived.append((self.world.now_us, sender, receiver, payload))

    def send(self, count: int = 1, sender: int = 1, receiver: int = 2) -> None:
        for number in range(count):
            self.network.send(sender, receiver, 7, b"%d" % number)

    def run(self, duration_us: int = 10_000_000) -> list[bytes]:
        self.world.run(duration_us)
        arrived, self.arrived = self.arrived, []
        return [payload for *_, payload in arrived]

    def reached(self) -> set[tuple[int, int]]:
        """The links that carry a message now."""
        for sender in NODES:
            for receiver in NODES:
                if sender != receiver:
                    self.send(1, sender, receiver)
        self.world.run(1_000_000)
        arrived, self.arrived = self.arrived, []
        return {(sender, receiver) for _, sender, receiver, _ in arrived}


def all_links() -> set[tuple[int, int]]:
    return {(a, b) for a in NODES for b in NODES if a != b}


def is_near(count: int, expected: float) -> bool:
    return abs(count - expected) < 5 * expected**0.5 + 1


# ---- quality -------------------------------------------------------------------------------------


def test_a_perfect_link_delivers_everything_once_within_its_latency():
    """Every latency of the range occurs, and no other."""
    net = Net(LinkQuality(latency_us=(100, 104)))
    net.send(1_000)
    net.world.run(1_000)
    assert {at for at, *_ in net.arrived} == {100, 101, 102, 103, 104}
    assert sorted(net.run(), key=int) == [b"%d" % number for number in range(1_000)]
    assert net.network.counts() == (1_000, 0, 0, 0, 0, 0, 0)


def test_a_message_on_a_perfect_link_costs_one_draw():
    """Speed decides how many bugs are found."""
    net, draws = Net(), []
    net.network._draw = lambda n: draws.append(n) or 0
    net.send(10)
    assert len(draws) == 10
    assert len(net.run()) == 10


def test_loss_drops_that_share():
    """The rest arrives once."""
    net = Net(LinkQuality(loss=0.3))
    net.send(10_000)
    arrived = net.run()
    assert is_near(len(arrived), 7_000)
    assert len(set(arrived)) == len(arrived)
    assert net.network.counts().lost == net.network.lost == 10_000 - len(arrived)


def test_duplication_delivers_that_share_twice():
    """The second copy may come much later."""
    net = Net(LinkQuality(duplication=0.2, delay_us=100_000))
    net.send(10_000)
    arrived = net.run()
    assert is_near(len(arrived), 12_000)
    assert len(set(arrived)) == 10_000
    assert net.network.counts().duplicated == len(arrived) - 10_000


def test_delay_lets_others_overtake_unless_the_link_is_ordered():
    """Order is a property of the link; a delay on an ordered one holds up what is behind it."""
    quality = LinkQuality(delay_probability=0.1, delay_us=50_000)
    net = Net(quality)
    net.send(500)
    arrived = net.run()
    assert arrived != sorted(arrived, key=int)
    assert len(set(arrived)) == 500
    assert is_near(net.network.counts().delayed, 50)
    net = Net(LinkQuality(delay_probability=0.1, delay_us=50_000, ordered=True))
    net.send(500)
    assert net.run() == [b"%d" % number for number in range(500)]


def test_certain_trouble_strikes_always():
    """A probability of one is one; of zero, zero."""
    net = Net(LinkQuality(loss=1.0))
    net.send(1_000)
    assert net.run() == []
    net = Net(LinkQuality(delay_probability=1.0, delay_us=1_000))
    net.send(1_000)
    assert len(net.run()) == net.network.counts().delayed == 1_000


def test_a_link_and_a_node_may_have_a_quality_of_their_own():
    """The link's wins over the node's, the node's over the common one; one way only."""
    net = Net()
    net.network.set_link(1, 2, LinkQuality(loss=1.0))
    assert net.reached() == all_links() - {(1, 2)}
    net.network.slow_node(1, LinkQuality(latency_us=(5_000, 5_000)))
    net.send(1, 1, 3)
    net.send(1, 3, 1)
    net.send(1, 3, 4)
    net.world.run(4_999)
    assert [link[1:3] for link in net.arrived] == [(3, 4)]
    net.run()
    net.network.quality = LinkQuality(loss=1.0)
    assert net.reached() == {link for link in all_links() if 1 in link} - {(1, 2)}
    net.network.set_link(1, 2, None)
    net.network.slow_node(1, None)
    assert net.reached() == set()


# ---- cuts ----------------------------------------------------------------------------------------


def test_a_cut_is_one_way_and_drops_what_is_under_way():
    """Sent before or during the cut: gone; after it: delivered."""
    net = Net()
    net.send(3)
    net.network.cut(1, 2)
    assert net.network.is_cut(1, 2)
    assert not net.network.is_cut(2, 1)
    net.send(2)
    net.send(1, 2, 1)
    assert net.run() == [b"0"]
    net.network.mend(1, 2)
    assert net.run() == []
    assert net.reached() == all_links()
    assert net.network.counts().cut == 5


@pytest.mark.parametrize(
    ("act", "lost"),
    [
        (lambda n: n.partial(1, 2), {(1, 2), (2, 1)}),
        (lambda n: n.isolate_inbound(1), {(2, 1), (3, 1), (4, 1), (5, 1)}),
        (lambda n: n.isolate_outbound(1), {(1, 2), (1, 3), (1, 4), (1, 5)}),
        (lambda n: n.isolate(1), {link for link in all_links() if 1 in link}),
        (
            lambda n: n.partition([1, 2], [3, 4, 5]),
            {(a, b) for a, b in all_links() if (a <= 2) != (b <= 2)},
        ),
        (
            lambda n: n.partition([1], [2], [3, 4, 5]),
            {(a, b) for a, b in all_links() if min(a, b) <= 2},
        ),
        (
            lambda n: n.bridge([1, 2, 3], [4, 5], 3),
            {(a, b) for a, b in all_links() if 3 not in (a, b) and (a < 3) != (b < 3)},
        ),
        (lambda n: n.chain(NODES), {(a, b) for a, b in all_links() if abs(a - b) > 1}),
    ],
    ids=["partial", "deaf", "mute", "isolated", "halves", "three groups", "bridge", "chain"],
)
def test_every_shape_of_partition_cuts_its_links_and_heals(act, lost):
    """Known links and links that carried nothing yet, alike."""
    for warm in (False, True):
        net = Net()
        if warm:
            assert net.reached() == all_links()
        act(net.network)
        assert net.reached() == all_links() - lost
        assert {link for link in all_links() if net.network.is_cut(*link)} == lost
        net.network.heal()
        assert net.reached() == all_links()


def test_a_flapping_link_is_cut_half_of_the_time_until_its_time_is_over():
    """And mended at the end, whatever it was then."""
    net = Net(LinkQuality(latency_us=(0, 0)))
    net.network.flap(1, 2, 10_000, 95_000)
    seen = []
    for _ in range(100):
        net.world.run(1_000)
        seen.append(net.network.is_cut(1, 2))
    assert 40 <= sum(seen) <= 55
    assert sum(a != b for a, b in itertools.pairwise(seen)) >= 17
    assert seen[-1] is False
    assert net.reached() == all_links()


@pytest.mark.parametrize("end", [lambda n: n.heal(), lambda n: n.mend(1, 2)])
def test_healing_ends_flapping(end):
    """No timer of the past cuts a healed network."""
    net = Net()
    net.network.flap(1, 2, 10_000, 1_000_000)
    net.world.run(12_000)
    end(net.network)
    for _ in range(30):
        net.world.run(5_000)
        assert not net.network.is_cut(1, 2)


# ---- clogs ---------------------------------------------------------------------------------------


def test_a_clogged_link_holds_and_then_bursts_in_order():
    """Nothing is lost, everything is late; the other way is free."""
    net = Net(LinkQuality(ordered=True))
    net.send(5)
    net.network.clog(1, 2)
    net.send(5)
    net.send(1, 2, 1)
    assert net.run() == [b"0"]
    assert net.network.clogged() == [(1, 2)]
    net.network.unclog(1, 2)
    assert net.run() == [b"%d" % number for number in (0, 1, 2, 3, 4) * 2]
    assert net.network.counts().held == 10
    assert net.network.clogged() == []


def test_an_ordered_link_keeps_its_order_through_clogs():
    """What is under way when the link opens does not overtake what was held."""
    for seed in range(20):
        net = Net(LinkQuality((100, 900), ordered=True), seed)
        for number in range(60):
            net.network.send(1, 2, 7, b"%d" % number)
            if number % 20 == 5:
                net.network.clog(1, 2)
            if number % 20 == 15:
                net.network.unclog(1, 2)
            net.world.run(70)
        assert net.run() == [b"%d" % number for number in range(60)]
        assert net.network.counts().held > 0


def test_a_link_clogged_again_before_it_bursts_stays_clogged():
    """The last word counts."""
    net = Net()
    net.network.clog(1, 2)
    net.send(3)
    net.network.unclog(1, 2)
    net.network.clog(1, 2)
    assert net.run() == []
    net.network.unclog(1, 2)
    assert len(net.run()) == 3


def test_a_clogged_link_holds_no_more_than_its_bound():
    """What does not fit is lost."""
    net = Net()
    net.network.clog(1, 2)
    net.send(HELD_MESSAGES_MAX + 5)
    net.run()
    net.network.unclog(1, 2)
    assert len(net.run()) == HELD_MESSAGES_MAX
    assert net.network.lost == 5


def test_swizzled_clogs_open_in_any_order_and_heal_opens_all():
    """The primitive of swizzle-clogging: one after the other, unclogged in another order."""
    net = Net()
    order = [(1, 2), (3, 1), (2, 4)]
    for link in order:
        net.network.clog(*link)
        net.send(1, *link)
    net.world.run(1_000_000)
    net.network.unclog(2, 4)
    net.world.run(1_000_000)
    assert [link[1:3] for link in net.arrived] == [(2, 4)]
    net.network.heal()
    net.world.run(1_000_000)
    assert {link[1:3] for link in net.arrived} == set(order)


# ---- damage on the wire --------------------------------------------------------------------------


def test_a_damaged_message_is_never_delivered_and_breaks_its_link():
    """The driver hears of it; what else was under way on that link is lost; others are not."""
    net, broken = Net(LinkQuality(latency_us=(100, 100))), []
    net.network.on_broken = lambda sender, receiver: broken.append((sender, receiver))
    net.network.set_link(1, 2, LinkQuality(latency_us=(100, 100), corruption=1.0))
    net.send(1)
    net.network.set_link(1, 2, None)
    net.send(3)
    net.send(2, 2, 1)
    assert net.run() == [b"0", b"1"]
    assert broken == [(1, 2)]
    assert net.network.counts().corrupted == 1
    assert net.network.counts().lost == 3
    assert net.reached() == all_links()


def test_a_cut_link_breaks_over_no_damage():
    """What never arrives cannot be seen to be damaged."""
    net = Net(LinkQuality(corruption=1.0))
    net.network.on_broken = lambda sender, receiver: pytest.fail("nobody received anything")
    net.send(3)
    net.network.cut(1, 2)
    assert net.run() == []


def test_damage_of_every_byte_by_every_bit_is_refused_by_the_real_framing():
    """Length, checksum, channel, payload: no single changed byte gets through."""
    payload = bytes(range(40))
    for at in range(9 + len(payload)):
        for bit in range(8):
            choices = iter((at, (1 << bit) - 1))
            receive_damaged(3, payload, lambda n, c=choices: next(c))


def test_mutant_framing_that_ignores_the_checksum_is_caught(monkeypatch):
    """A payload that arrives changed stops the run."""
    monkeypatch.setattr(peer, "crc32", lambda *a: 0)
    monkeypatch.setattr(peer, "_CHANNEL_CRC", (0,) * 256)
    monkeypatch.setattr(links, "_HELLO", b"".join(peer.encode_frame(0, HELLO)))
    with pytest.raises(InvariantBroken, match="the checksum does not cover it"):
        receive_damaged(3, b"payload", lambda n: n - 1)


HELLO = peer.Hello("simulated", 1, "directory", 1, 1).encode()


# ---- determinism ---------------------------------------------------------------------------------


def test_one_seed_gives_one_course_of_events():
    """With every trouble at once."""

    def course(seed: int) -> list:
        net = Net(LinkQuality((10, 500), 0.1, 0.05, 0.1, 0.2, 3_000), seed)
        net.network.flap(2, 1, 3_000, 50_000)
        for number in range(50):
            net.send(3)
            net.send(3, 2, 1)
            if number % 10 == 3:
                net.network.clog(1, 2)
            if number % 10 == 7:
                net.network.unclog(1, 2)
            net.world.run(1_000)
        net.run()
        return [net.arrived, net.network.counts()]

    assert course(5) == course(5)
    assert course(5) != course(6)
