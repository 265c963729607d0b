"""A simulated file's bytes in two worlds: what programs see, and what the platter holds.

It knows neither names nor the directory; ``disk.py`` gives it both. A write is *pending* until a
sync; a power failure lets drawn parts of the pending ones survive, sector by sector.

Invariants:
    * ``sync`` makes ``durable`` hold every pending write, except those that the disk lies about
    * ``newest`` covers what the last sync wrote: bytes that nothing behind them can vouch for yet
    * a sector that cannot be read is readable again once anything was written to it
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

Draw: TypeAlias = Callable[[int], int]
"""``draw(n)`` gives an integer in ``0 .. n-1``."""

Span: TypeAlias = tuple[int, int]
"""A range of bytes: first, and the one behind the last."""


class Write(NamedTuple):
    """An un-synced write, or with ``data is None`` an un-synced change of size to ``offset``."""

    offset: int
    data: bytes | None
    number: int  # counts the writes of the whole disk
    is_lost: bool = False  # a sync will say that it is durable, and lie

    @property
    def span(self) -> Span:
        """The bytes it touches."""
        return self.offset, self.offset + len(self.data or b"")


class Inode:
    """A file's bytes in both worlds, whatever its name.

    Attributes:
        current: what programs read.
        durable: what a power failure leaves when nothing is pending.
        pending: writes since the last sync, in order.
        newest: where the last sync wrote.
        unreadable: numbers of the sectors that give EIO.
        kept_number: number of the newest write that a sync truly made durable; 0: none.
        lost_number: number of the newest write that a sync lied about; 0: none.
    """

    __slots__ = (
        "current",
        "durable",
        "kept_number",
        "lost_number",
        "newest",
        "pending",
        "unreadable",
    )

    def __init__(self) -> None:
        self.current = bytearray()
        self.durable = bytearray()
        self.pending: list[Write] = []
        self.newest: list[Span] = []
        self.unreadable: set[int] = set()
        self.kept_number = self.lost_number = 0

    def copy(self) -> Inode:
        """An independent twin."""
        twin = Inode()
        twin.current = bytearray(self.current)
        twin.durable = bytearray(self.durable)
        twin.pending = list(self.pending)
        twin.newest = list(self.newest)
        twin.unreadable = set(self.unreadable)
        twin.kept_number, twin.lost_number = self.kept_number, self.lost_number
        return twin

    def write(self, write: Write) -> None:
        """Let programs see a write or a change of size; it stays pending."""
        self.pending.append(write)
        apply_write(self.current, write.offset, write.data)

    def sync(self) -> None:
        """Make what is pending durable, but for the writes that are to be lost."""
        spans = []
        for write in self.pending:
            offset, data, number, is_lost = write
            if data is not None:
                spans.append(write.span)
            if is_lost:
                self.lost_number = number
                end = write.span[1]
                if end > len(self.durable):  # the size is the file system's, and no lie
                    apply_write(self.durable, end, None)
            else:
                self.kept_number = number
                apply_write(self.durable, offset, data)
        self.newest = spans or self.newest
        self.pending.clear()

    def settle(self, draw: Draw, sector_bytes: int) -> None:
        """Lose power: decide which pending sectors survive."""
        if self.pending:
            pending, self.pending = self.pending, []
            fate = draw(4)  # nothing, everything, all but the last torn, or any subset
            for number, write in enumerate(pending):
                if fate == 0 or write.is_lost:
                    continue
                if fate == 1 or (fate == 2 and number < len(pending) - 1):
                    apply_write(self.durable, write.offset, write.data)
                elif fate == 2 or draw(3):
                    self._tear(write, draw, sector_bytes)
        self.current = bytearray(self.durable)

    def rot(self, offset: int, mask: int) -> None:
        """Change bits of a durable byte; programs see it unless something pending lies over it."""
        self.durable[offset] ^= mask
        if offset < len(self.current) and not self._is_pending_at(offset):
            self.current[offset] ^= mask

    def overwrite(self, offset: int, data: bytes) -> None:
        """Change durable bytes within the file, as somebody else's misdirected write does."""
        for at, new in enumerate(data, offset):
            if mask := self.durable[at] ^ new:
                self.rot(at, mask)

    def guarded(self) -> list[Span]:
        """Ranges whose damage could pass for a torn write: the newest durable and the pending."""
        return self.newest + [write.span for write in self.pending if write.data is not None]

    def _is_pending_at(self, offset: int) -> bool:
        return any(
            offset >= write.offset if write.data is None else write.offset <= offset < write.span[1]
            for write in self.pending
        )

    def _tear(self, write: Write, draw: Draw, sector_bytes: int) -> None:
        """Let a run of whole sectors of one write survive, or all but a run."""
        offset, data = write.offset, write.data
        if data is None:
            if draw(2):
                apply_write(self.durable, offset, data)
            return
        first = offset // sector_bytes
        count = (offset + len(data) - 1) // sector_bytes - first + 1
        one, two = sorted((draw(count + 1), draw(count + 1)))
        runs = ((0, one), (two, count)) if draw(2) else ((one, two),)
        for begin, end in runs:
            low = max((first + begin) * sector_bytes, offset)
            high = min((first + end) * sector_bytes, offset + len(data))
            if low < high:
                apply_write(self.durable, low, data[low - offset : high - offset])


def apply_write(content: bytearray, offset: int, data: bytes | None) -> None:
    """Carry out one write, or with None a change of size to ``offset``."""
    if data is None and offset < len(content):
        del content[offset:]
        return
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    if data is not None:
        content[offset : offset + len(data)] = data
