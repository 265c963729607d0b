"""The StateMachine interface: what a replica applies committed batches to.

Same initial state + same batches in the same order = same state, on every node and on every
replay. So ``apply`` sees only the batch and the context that the log carries: never a clock,
never a random number, never the node it runs on (except to know for whom replies are due).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(slots=True)
class ApplyContext:
    """What the log says about the batch being applied. Reused between batches: do not keep it.

    Attributes:
        index: log index of the entry that carries the batch.
        time_ms: leader's wall clock when it proposed, in ms since 1970; never goes back.
        node: the node whose clients sent the batch.
        incarnation: which start of that node.
        number: number of the batch within that incarnation, from 1.
        local: the batch was submitted by this very process, so somebody here awaits the result.
            The only field that differs between replicas; it must not change the state.
        epoch: of the leadership that put the batch into the log.
    """

    index: int = 0
    time_ms: int = 0
    node: int = 0
    incarnation: int = 0
    number: int = 0
    local: bool = False
    epoch: int = 0


class StateMachine(Protocol):
    """A deterministic state machine (Schneider 1990; acceptance TH-10, TH-11)."""

    def apply(self, payload: bytes, context: ApplyContext) -> Any:
        """Apply one batch and return its result, which reaches the submitter when local.

        An exception is a bug and stops the node: errors of commands are results.
        """

    def snapshot(self) -> Iterator[bytes]:
        """Begin a snapshot of the state as it is now; yield it in pieces while applies go on.

        The pieces together are exact: nothing applied after this call shows in them. At most one
        snapshot is under way at a time; closing the iterator gives it up.
        """

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the whole state by a snapshot's. Piece boundaries may differ from those yielded.

        Raises:
            CorruptData: the bytes are no snapshot of this machine; the state is undefined.
        """

    def digest(self) -> int:
        """A 64-bit digest of the state: equal states, equal digests, on every node."""
