"""The judge of disks: what a node was told is durable is there when it starts again.

It follows every persistence step from being asked for to being confirmed, and compares with what
the data directory gives back after a crash. It knows nothing of files.

Invariant: a start gives back everything that was confirmed, plus at most what was on its way; or
it says that the disk was damaged and what it cannot vouch for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from quorate.consensus.entry import Entry, Persist, Recovered
from quorate.simulation.ambush import PROMISED
from quorate.simulation.judges.logs import ShadowLog
from quorate.simulation.properties import safety


class _Life:
    """One start of a node: what the disk held, and what was asked of it since."""

    def __init__(self, recovered: Recovered) -> None:
        self.log = ShadowLog(recovered)  # as confirmed
        self.hard_state = recovered.hard_state
        self.waiting: list[Persist] = []

    def confirm(self, sequence: int) -> bool:
        """Note what is durable now; whether a promise is among it."""
        is_promised = False
        while self.waiting and self.waiting[0].sequence <= sequence:
            step = self.waiting.pop(0)
            self.log.persist(step)
            if step.hard_state is not None:
                self.hard_state = step.hard_state
                is_promised = True
        return is_promised


class _Loss(NamedTuple):
    """A start at which a node said that its disk was damaged."""

    before: ShadowLog  # what was confirmed
    told: set[int]  # nodes that know

    def had(self, entry: Entry) -> bool:
        """Whether the entry, or a snapshot of it, was confirmed."""
        mark = self.before.at(entry.index)
        return entry.index <= self.before.base or (mark is not None and mark[0] == entry.epoch)


class DurabilityJudge:
    """Judge of what all nodes' disks keep.

    Attributes:
        on_moment: hears what a node has come to, as ``on_moment(moment, node)``.
    """

    def __init__(self) -> None:
        self.on_moment: Callable[[str, int], None] = lambda _moment, _node: None
        self._lives: dict[int, _Life] = {}
        self._forgotten: set[int] = set()
        self._lost: dict[int, list[_Loss]] = {}  # by damaged node

    def on_start(self, node_id: int, recovered: Recovered) -> None:
        """A node starts with this."""
        before = self._lives.get(node_id)
        if before is not None:
            damage = recovered.damage
            if damage is None or damage.is_hard_state_known:
                self.votes_survive(node_id, before, recovered)
            if damage is None:
                self.entries_survive(node_id, before, recovered)
                self._lost.pop(node_id, None)
            else:
                self._lost.setdefault(node_id, []).append(_Loss(before.log, set()))
        self._lives[node_id] = _Life(recovered)

    def on_asked(self, node_id: int, steps: list[Persist]) -> None:
        """The node hands these steps to its disk."""
        self._lives[node_id].waiting += steps

    def on_confirmed(self, node_id: int, sequence: int) -> None:
        """The node is told that steps up to this one are durable."""
        if self._lives[node_id].confirm(sequence):
            self.on_moment(PROMISED, node_id)

    def on_told(self, node_id: int, sender: int) -> None:
        """A node hears of another one that it lost something."""
        for loss in self._lost.get(sender, ()):
            loss.told.add(node_id)

    def may_count_on(self, node_id: int, entry: Entry, by: int) -> bool:
        """Whether ``by`` may count a node among those that have stored an entry.

        The node was told that the entry, or a snapshot of it, is durable. If its disk was damaged
        since, that counts until ``by`` is told: an old acknowledgement may still be on its way.
        """
        if self.has(node_id, entry):
            return True
        return any(by not in loss.told and loss.had(entry) for loss in self._lost.get(node_id, ()))

    def has(self, node_id: int, entry: Entry) -> bool:
        """Whether a node was told that this entry, or a snapshot of it, is durable.

        A node whose disk was lost on purpose may have had it.
        """
        life = self._lives.get(node_id)
        if life is None or entry.index <= life.log.base:
            return life is not None or node_id in self._forgotten
        mark = life.log.at(entry.index)
        return node_id in self._forgotten or (mark is not None and mark[0] == entry.epoch)

    def forget(self, node_id: int) -> None:
        """The disk was replaced on purpose: no promise is left."""
        self._lives.pop(node_id, None)
        self._forgotten.add(node_id)

    @safety("Raft §5.6")
    def votes_survive(self, node_id: int, before: _Life, recovered: Recovered) -> str | None:
        """Term and vote after a crash are the last confirmed ones, or newer ones on their way."""
        newer = [step.hard_state for step in before.waiting if step.hard_state is not None]
        if recovered.hard_state in [before.hard_state, *newer]:
            return None
        return f"node {node_id} starts with {recovered.hard_state!r} after {before.hard_state!r}"

    @safety("Raft §5.6")
    def entries_survive(self, node_id: int, before: _Life, recovered: Recovered) -> str | None:
        """Every confirmed entry is in the log or covered by a snapshot after a crash."""
        now = ShadowLog(recovered)
        covered = recovered.snapshot.index if recovered.snapshot is not None else 0
        end = before.log.last
        for step in before.waiting:
            if step.truncate_from is not None:
                end = min(end, step.truncate_from - 1)
            if step.chunk is not None and step.chunk.last and step.chunk.discard_log:
                end = min(end, step.chunk.meta.index)
        for index in range(max(before.log.base, covered) + 1, end + 1):
            if now.at(index) != before.log.at(index):
                return f"node {node_id} starts without entry {index}, which was durable"
        return None
