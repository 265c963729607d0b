"""One-way links: how good they are, what state they are in, what damage on the wire does.

It moves no message; ``network.py`` does. A link's quality is turned into integers once, so that
a message on a good link costs one draw and one comparison.

Invariant: damaged bytes go through the real framing (``protocol/peer.py``), and a frame that it
delivers in spite of the damage stops the run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from quorate.errors import InvariantBroken, RemoteProtocolError
from quorate.protocol.peer import HELLO_CHANNEL, Hello, PeerConnection, encode_frame

FATE_BITS = 30
FATES = (1 << 2 * FATE_BITS) - 1
"""A message's fate is drawn below this: the low half for trouble, the high half for latency.

Not a power of two: drawing below one throws half of the drawn numbers away.
"""

_HELLO = b"".join(encode_frame(HELLO_CHANNEL, Hello("simulated", 1, "directory", 1, 1).encode()))


@dataclass(frozen=True, slots=True)
class LinkQuality:
    """How bad a link is; a fresh one is perfect.

    A message meets at most one kind of trouble. Each probability is meant of the messages that
    the kinds before it (in the order here) spared.

    Attributes:
        latency_us: shortest and longest way of an untroubled message.
        loss: it never arrives.
        corruption: a byte is changed on the way; the receiver drops it and closes the link.
        duplication: it arrives twice; the second time up to ``delay_us`` later.
        delay_probability: it takes up to ``delay_us`` longer, and others overtake it.
        delay_us: the longest such delay.
        ordered: nothing overtakes, as on one TCP connection: what is behind a delayed message
            waits too.
    """

    latency_us: tuple[int, int] = (100, 300)
    loss: float = 0.0
    corruption: float = 0.0
    duplication: float = 0.0
    delay_probability: float = 0.0
    delay_us: int = 0
    ordered: bool = False

    def __post_init__(self) -> None:
        low, high = self.latency_us
        assert 0 <= low <= high
        assert self.delay_us >= 0
        for probability in (self.loss, self.corruption, self.duplication, self.delay_probability):
            assert 0.0 <= probability <= 1.0


@dataclass(slots=True, eq=False)
class Link:
    """A one-way link: its quality as integers, and what is wrong with it now.

    Attributes:
        is_blocked: cut, clogged or broken; what a message looks at first.
        trouble: fates below this are not just delivered; then the bounds between the troubles.
        last_us: when the latest message of an ordered link arrives.
        held: what waits for ``unclog``: (channel, payload).
    """

    sender: int
    receiver: int
    low_us: int = 0
    span_us: int = 0
    trouble: int = 0
    loss: int = 0
    corruption: int = 0
    duplication: int = 0
    delay_us: int = 0
    is_ordered: bool = False
    last_us: int = 0
    is_blocked: bool = False
    is_cut: bool = False
    is_clogged: bool = False
    is_opening: bool = False  # clogged, and about to burst
    is_broken: bool = False  # closed for good; another link took its place
    held: list[tuple[int, bytes]] = field(default_factory=list)

    def become(self, quality: LinkQuality) -> None:
        """Take on a quality, from the next message on."""
        self.low_us = quality.latency_us[0]
        self.span_us = quality.latency_us[1] - self.low_us + 1
        self.delay_us = quality.delay_us
        self.is_ordered = quality.ordered
        spared, bounds = 1.0, []
        for probability in (
            quality.loss,
            quality.corruption,
            quality.duplication,
            quality.delay_probability,
        ):
            spared *= 1.0 - probability
            bounds.append(round((1.0 - spared) * (1 << FATE_BITS)))
        self.loss, self.corruption, self.duplication, self.trouble = bounds

    def block(
        self, *, cut: bool | None = None, clogged: bool | None = None, broken: bool = False
    ) -> None:
        """Change what is wrong with the link; None: as before."""
        self.is_cut = self.is_cut if cut is None else cut
        self.is_clogged = self.is_clogged if clogged is None else clogged
        self.is_broken = self.is_broken or broken
        self.is_blocked = self.is_cut or self.is_clogged or self.is_broken


def receive_damaged(channel: int, payload: bytes, draw: Callable[[int], int]) -> None:
    """Send a frame with one drawn byte changed to a real receiver.

    Returning means that the receiver refused it or waits for bytes that never come: in both cases
    nothing is delivered and the link is worth nothing any more.

    Raises:
        InvariantBroken: the receiver delivered something.
    """
    frame = bytearray(b"".join(encode_frame(channel, payload)))
    at, mask = draw(len(frame)), 1 + draw(255)
    frame[at] ^= mask
    connection = PeerConnection()
    connection.receive(_HELLO)
    try:
        delivered = connection.receive(bytes(frame))
    except RemoteProtocolError:
        return
    if delivered:
        raise InvariantBroken(
            f"a peer frame of {len(frame)} bytes with byte {at} changed by {mask:#04x} was "
            "delivered: the checksum does not cover it"
        )
