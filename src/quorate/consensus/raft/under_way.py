"""What a leader remembers of a change of membership and of a hand-over while it leads.

Nothing of it is needed to go on: a new leader finds the state of a change in the configuration of
its log. What is lost with a leadership is who asked, and how far new members had caught up.
Plain values; the rules are in ``membership.py`` and ``transfer.py``.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from quorate.consensus.engine import ChangeOutcome, MembershipAnswer


@dataclass(slots=True)
class Round:
    """How a member that is to vote is catching up (dissertation §4.2.1)."""

    number: int
    target_index: int
    started_ms: int
    mark: tuple[int, int] = (0, 0)  # match index and snapshot offset when it last got further
    marked_ms: int = 0
    is_ready: bool = False


@dataclass(slots=True)
class ChangeUnderWay:
    """A change of membership as its leader sees it.

    Attributes:
        is_open: the configuration in force is not the last one, or not committed: every commit
            may be the sign for the next step.
        tokens: who waits for an answer, and which one they get when the last step is committed.
        catching_up: the members that must catch up first.
        leaving: members that were removed and still are told so; until when (0: as long as their
            removal is not committed).
        last_failure: why the last change was given up.
    """

    is_open: bool = False
    tokens: list[tuple[Hashable, ChangeOutcome, str]] = field(default_factory=list)
    catching_up: dict[int, Round] = field(default_factory=dict)
    leaving: dict[int, int] = field(default_factory=dict)
    last_failure: str = ""

    def answers(self, index: int) -> tuple[MembershipAnswer, ...]:
        """Everybody who waits gets the answer that is due when the last step is committed."""
        due = [MembershipAnswer(token, what, index, why) for token, what, why in self.tokens]
        self.tokens.clear()
        return tuple(due)

    def lost(self) -> tuple[MembershipAnswer, ...]:
        """Leadership is lost: the next leader goes on, or knows nothing of it."""
        reason = "leadership was lost; the next leader may go on: look at the configuration"
        self.tokens = [(token, ChangeOutcome.UNKNOWN, reason) for token, _, _ in self.tokens]
        return self.answers(0)


@dataclass(slots=True)
class HandOver:
    """Why and when a leader gives leadership away by itself.

    Attributes:
        is_resigning: this leader is removed, and leads only until somebody can take over.
        is_resigned: it stops leading in this turn.
        durable_mark: our durable index when it last moved, and when that was.
        preferred: the member that should lead rather than we, and since when it could.
        declined: voters that a leader with a full disk asked in vain.
        not_before_ms: a hand-over failed; the next one by ourselves not before this.
    """

    is_resigning: bool = False
    is_resigned: bool = False
    durable_mark: tuple[int, int] = (0, 0)
    preferred: tuple[int, int] = (0, 0)
    declined: set[int] = field(default_factory=set)
    not_before_ms: int = 0
