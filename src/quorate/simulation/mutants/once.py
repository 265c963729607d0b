"""Mutants of exactly-once commands: what a session's answers must survive, and for how long.

Their runs have clients that send commands again after every broken connection.
"""

from __future__ import annotations

from typing import Any

from quorate.simulation.mutants.mutant import Group, Patches
from quorate.tree import once
from quorate.tree.results import Results
from quorate.tree.sessions import Session
from quorate.tree.snapshot import Capture
from quorate.tree.state import State

GROUP = Group("exactly once", workload="tree", once=True)


@GROUP.mutant("dissertation §6.3")
def does_commands_again(patches: Patches) -> None:
    """A command that has an answer is not done a second time."""

    def find(
        state: State, session: Session, serial: int, first_unanswered: int, checksum: int
    ) -> bytes | None:
        answer = original(state, session, serial, first_unanswered, checksum)
        results = session.results
        if answer is not None and results is not None:
            later = {key: kept for key, kept in results.by_serial.items() if key != serial}
            session.results = Results()
            session.results.settle(results.first_unanswered)
            for key, kept in later.items():
                session.results.keep(key, kept)
        return None

    original = patches.put(once, "find_answer", find)


@GROUP.mutant("dissertation §6.3: a snapshot must also hold the client sessions")
def forgets_answers_at_a_snapshot(patches: Patches) -> None:
    """A snapshot carries the answers of all sessions."""

    def build(self: Capture, *arguments: Any) -> None:
        original(self, *arguments)
        self._with_results.clear()
        self._results._keys.clear()

    original = patches.put(Capture, "__init__", build)


@GROUP.mutant("RIFL: the first answer")
def answers_with_a_later_result(patches: Patches) -> None:
    """A retry is answered with its own first answer, not with the session's latest."""

    def find(
        state: State, session: Session, serial: int, first_unanswered: int, checksum: int
    ) -> bytes | None:
        answer: bytes | None = original(state, session, serial, first_unanswered, checksum)
        if answer is None or session.results is None:
            return answer
        return next(reversed(session.results.by_serial.values())).answer

    original = patches.put(once, "find_answer", find)


@GROUP.mutant("RIFL: what is not acknowledged is kept")
def drops_answers_above_the_watermark(patches: Patches) -> None:
    """Only what the client says that it has answers to is forgotten."""

    def settle(self: Results, first_unanswered: int) -> None:
        original(self, first_unanswered)
        kept, self.by_serial = dict(self.by_serial), {}
        self.size_bytes = self.total = 0
        for serial, result in list(kept.items())[2:]:
            self.keep(serial, result)

    original = patches.put(Results, "settle", settle)
