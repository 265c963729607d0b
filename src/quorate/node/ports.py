"""What the process asks of the pure server and of the store, as interfaces.

The process is written against these shapes only, so that its transports, threads and signals are
tested with fakes of a few lines, and so that a reader sees on one page everything that crosses
the border between deciding and doing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from quorate.consensus.change import Change
from quorate.consensus.engine import (
    ConfigurationInForce,
    Leadership,
    MembershipAnswer,
    ReadSnapshot,
    RoleChange,
    SnapshotRead,
)
from quorate.consensus.entry import Persist, SnapshotMeta
from quorate.consensus.membership import Configuration


class SnapshotJob(Protocol):
    """A snapshot of the state machine to be written to disk, piece by piece.

    ``chunks`` walks live state: it is advanced on the event loop only.
    """

    @property
    def meta(self) -> SnapshotMeta:
        """Which index it stands for."""

    @property
    def chunks(self) -> Iterator[bytes]:
        """The pieces; closing it gives the snapshot up."""


class Goodbye(Protocol):
    """A client's connection that ended."""

    @property
    def address(self) -> str:
        """Where the client is."""

    @property
    def session_id(self) -> int:
        """Its session; 0 when there was none."""

    @property
    def reason(self) -> str:
        """Why, in words."""


class Turn(Protocol):
    """Everything that the server decided since the last turn, in the order to carry it out."""

    @property
    def sends(self) -> list[tuple[int, int, bytes]]:
        """(peer, channel, payload); at once, before anything of this turn is durable."""

    @property
    def persists(self) -> list[Persist]:
        """For the disk thread, in order; answered by ``persisted``."""

    @property
    def may_wait_for_disk(self) -> bool:
        """Nothing else happens to these entries before ``persists`` is durable here."""

    @property
    def announce_soon(self) -> bool:
        """Call ``announce`` in about a millisecond unless a turn with ``persists`` comes first."""

    @property
    def writes(self) -> list[tuple[int, bytes]]:
        """(connection, bytes); at most one per connection."""

    @property
    def closings(self) -> list[int]:
        """Connections to close once their output is written."""

    @property
    def pauses(self) -> list[int]:
        """Connections not to be read from for now."""

    @property
    def resumes(self) -> list[int]:
        """Connections to be read from again."""

    @property
    def read_snapshot(self) -> list[ReadSnapshot]:
        """Pieces of our snapshot to read; answered by ``snapshot_read``."""

    @property
    def save_snapshot(self) -> SnapshotJob | None:
        """A snapshot to write; answered by ``snapshot_saved``."""

    @property
    def abandon_snapshot(self) -> bool:
        """The snapshot under way is not wanted any more; do not advance ``chunks`` again."""

    @property
    def install(self) -> SnapshotMeta | None:
        """A durable snapshot to load before anything else is asked of the server."""

    @property
    def submitted(self) -> int:
        """Number of the newest batch of local clients, if this turn is the first to know it."""

    @property
    def results(self) -> list[tuple[int, Any]]:
        """(batch number, result) of local batches that were applied, in order."""

    @property
    def leadership(self) -> Leadership | None:
        """News about who leads."""

    @property
    def role_changes(self) -> list[RoleChange]:
        """This node asked for votes, won or gave leadership up."""

    @property
    def goodbyes(self) -> Sequence[Goodbye]:
        """Clients' connections that ended, and why."""

    @property
    def configuration(self) -> ConfigurationInForce | None:
        """Who belongs now; links to new members are made before ``sends`` are handed over."""

    @property
    def membership(self) -> tuple[MembershipAnswer, ...]:
        """Answers to ``change_membership``."""

    @property
    def again(self) -> bool:
        """There is more to decide already: take another turn without waiting for an event."""

    @property
    def fatal(self) -> str | None:
        """A rule that can never break was broken: stop with these words."""


class Server(Protocol):
    """The pure server: events in, turns out. See ``quorate.tree.server``."""

    def tick(self, now_ms: int, wall_ms: int) -> None:
        """Time passed; called about every 10 ms."""

    def look(self, now_ms: int) -> None:
        """What the clock shows right before ``take``."""

    def client_opened(self, conn: int, address: str, /) -> None:
        """A client connected; ``conn`` is never used again in this process."""

    def client_received(self, conn: int, data: bytes, /) -> None:
        """A client sent a chunk."""

    def client_closed(self, conn: int, /) -> None:
        """A client's connection is gone."""

    def client_congested(self, conn: int, congested: bool, /) -> None:
        """A client does not read fast enough, or does again."""

    def peer_opened(self, node_id: int, /) -> None:
        """A link to this node stands."""

    def peer_closed(self, node_id: int, /) -> None:
        """The link to this node is gone."""

    def peer_received(self, node_id: int, channel: int, payload: bytes, /) -> None:
        """Another node sent this."""

    def persisted(self, sequence: int) -> None:
        """Persistence steps up to this one are durable."""

    def ask_for_snapshot(self) -> int:
        """Take a snapshot soon; returns the index that it will have at least."""

    def snapshot_saved(self, meta: SnapshotMeta, size_bytes: int) -> None:
        """The snapshot asked for is durable."""

    def snapshot_failed(self) -> None:
        """The snapshot asked for was given up: it does not fit on the disk."""

    def disk_space(self, *, is_full: bool) -> None:
        """The disk is full, or is not any more."""

    def snapshot_read(self, answer: SnapshotRead, /) -> None:
        """Answer to ``read_snapshot``."""

    def install(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        """Replace the state by a snapshot's."""

    def announce(self) -> None:
        """Tell other nodes what is committed."""

    def transfer_leadership(self, to: int = 0) -> None:
        """Hand leadership over, if this node leads; 0: to the best other voter."""

    def change_membership(self, token: int, change: Change) -> None:
        """Ask for other members; answered by ``Turn.membership``."""

    def configuration(self) -> Configuration:
        """Who belongs now."""

    def take(self) -> Turn:
        """Everything decided since the last call."""

    def is_quiet(self) -> bool:
        """Whether ``take`` would hand out nothing, so that it may be skipped."""

    def health(self) -> dict[str, Any]:
        """Leadership, members and what may still fail; cheap."""

    def status(self) -> dict[str, Any]:
        """A picture for people and programs, JSON-able."""

    def is_serving(self) -> bool:
        """Whether clients get answers here."""


class SnapshotWriter(Protocol):
    """A snapshot file that is being written."""

    def write(self, chunk: bytes) -> None:
        """Append a piece."""

    def finish(self) -> int:
        """Make it durable under its final name; returns its size in bytes."""

    def abandon(self) -> None:
        """Forget it."""


class Store(Protocol):
    """One node's durable state. See ``quorate.storage.store``. All calls block."""

    def persist(self, steps: list[Persist]) -> None:
        """Carry out the steps and make them durable with one fsync."""

    def begin_snapshot(self, meta: SnapshotMeta) -> SnapshotWriter:
        """Begin to write a snapshot of our own."""

    def read_snapshot(
        self, meta: SnapshotMeta, offset: int, size_bytes: int, /
    ) -> tuple[bytes | None, bool, bytes]:
        """A piece of a snapshot, whether it was the last one, of which bytes; no data: gone."""

    def open_snapshot(self, meta: SnapshotMeta) -> Iterable[bytes]:
        """The pieces of a complete snapshot, in order."""
