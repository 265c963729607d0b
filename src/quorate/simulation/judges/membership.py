"""The judge of changing members: which configuration may follow which, and who decided.

Stated on persistence steps and deliveries, so it judges any engine that keeps its configurations
in the log. It keeps the configurations of every node's log by itself, and asks the judge of disks
what was confirmed.

The rule that everything else serves is ``deliveries_have_a_quorum``: when an entry is delivered for
the first time anywhere, a majority of every half of the configuration in force there has it on
disk.
"""

from __future__ import annotations

from quorate.consensus import change as steps
from quorate.consensus.engine import ChangeOutcome, Effects, Leadership
from quorate.consensus.entry import Entry, EntryKind, Persist, Recovered, SnapshotMeta
from quorate.consensus.membership import Configuration
from quorate.simulation.judges.durability import DurabilityJudge
from quorate.simulation.properties import safety

Place = tuple[int, Configuration]
"""A configuration, and the index of its entry."""


class MembershipJudge:
    """Judge of one simulated cluster's configurations.

    Attributes:
        steps: configurations that were proposed, each counted once.
        changes: changes that came to their end, each counted once.
    """

    def __init__(self, durability: DurabilityJudge) -> None:
        self.steps = 0
        self.changes = 0
        self._durability = durability
        self._logs: dict[int, list[Place]] = {}  # node -> configurations of its log, base first
        self._known: set[tuple[int, int]] = set()  # (index, epoch) of configuration entries
        self._new: dict[int, list[Entry]] = {}  # node -> proposed there in this turn
        self._delivered = 0

    # ---- what happens --------------------------------------------------------------------------

    def on_start(self, node_id: int, recovered: Recovered, bootstrap: Configuration) -> None:
        """A node starts with this."""
        places = [(0, bootstrap)]
        if recovered.snapshot is not None:
            places = [_base(recovered.snapshot)]
        places += [
            (entry.index, Configuration.decode(entry.payload))
            for entry in recovered.entries
            if entry.kind == EntryKind.CONFIGURATION and entry.index > places[0][0]
        ]
        self._logs[node_id] = places

    def _follow(self, node_id: int, step: Persist) -> None:
        places = self._logs[node_id]
        if step.truncate_from is not None:
            while len(places) > 1 and places[-1][0] >= step.truncate_from:
                places.pop()
        for entry in step.entries:
            if entry.kind == EntryKind.CONFIGURATION:
                after = Configuration.decode(entry.payload)
                self.configurations_follow_each_other(node_id, entry.index, places[-1][1], after)
                places.append((entry.index, after))
                if (entry.index, entry.epoch) not in self._known:
                    self._known.add((entry.index, entry.epoch))
                    self._new.setdefault(node_id, []).append(entry)
        chunk = step.chunk
        if chunk is not None and chunk.last:
            later = [] if chunk.discard_log else [p for p in places if p[0] > chunk.meta.index]
            self._logs[node_id] = [_base(chunk.meta), *later]

    def on_told(self, node_id: int, sender: int) -> None:
        """A node hears of another one that it lost something."""
        self._durability.on_told(node_id, sender)

    def on_turn(self, node_id: int, effects: Effects, delivered: int, epoch: int) -> None:
        """A node took a turn; it has delivered this much, the last entry being of ``epoch``."""
        if effects.persist is not None:
            self._follow(node_id, effects.persist)
        if effects.committed:
            self._on_delivered(node_id, effects.committed)
        if node_id in self._new:
            self._on_proposed(node_id, delivered, epoch)
        for answer in effects.membership:
            if answer.outcome is ChangeOutcome.DONE:
                self.done_means_delivered(node_id, answer.index, delivered)
        news = effects.leadership
        if news is not None and news.leader == node_id:
            self.leaders_are_voters_with_data(node_id, news)

    def _on_delivered(self, node_id: int, entries: list[Entry]) -> None:
        proposed = self._new.get(node_id)
        before = proposed[0].index if proposed else entries[-1].index + (1 << 62)
        acted_on = next(each for index, each in reversed(self._logs[node_id]) if index < before)
        for entry in entries:
            if entry.index > self._delivered:
                self._delivered = entry.index
                self.deliveries_have_a_quorum(node_id, entry, acted_on)
                is_last = entry.kind == EntryKind.CONFIGURATION
                self.changes += is_last and not Configuration.decode(entry.payload).is_changing

    def _on_proposed(self, node_id: int, delivered: int, epoch: int) -> None:
        places = self._logs[node_id]
        for entry in self._new.pop(node_id):
            before, known = next(p for p in reversed(places) if p[0] < entry.index)
            if known.encode() == entry.payload:
                continue  # the first leader of all writes down what everybody was told
            self.steps += 1
            self.one_change_at_a_time(node_id, entry.index, before, delivered)
            self.changes_wait_for_the_own_epoch(node_id, entry, epoch)

    # ---- looking -------------------------------------------------------------------------------

    def in_force(self, node_id: int) -> Configuration:
        """The configuration that a node acts on."""
        return self._logs[node_id][-1][1]

    def halves(self) -> set[tuple[int, ...]]:
        """The sets of voters that decide anywhere, or are about to."""
        latest = [places[-1][1] for places in self._logs.values()]
        return {half for each in latest for half in (each.voters, each.outgoing, each.next_voters)}

    # ---- properties ----------------------------------------------------------------------------

    @safety("Raft §6; dissertation §4.3")
    def configurations_follow_each_other(
        self, node_id: int, index: int, before: Configuration, after: Configuration
    ) -> str | None:
        """Voters change through a joint configuration of exactly those before and those after."""
        if not before.members:
            allowed = True  # a new node learns of the first configuration of all
        elif before.is_joint:
            allowed = after == steps.settled(before)
        elif after.is_joint:
            allowed = after.outgoing == before.voters and (
                not before.is_planned or after.voters == before.next_voters
            )
        elif before.is_planned:
            allowed = after == steps.given_up(before)
        else:
            allowed = after.voters == before.voters
        if allowed:
            return None
        return f"node {node_id} at {index}: {after.describe()} follows {before.describe()}"

    @safety("dissertation §4.1")
    def one_change_at_a_time(
        self, node_id: int, index: int, before: int, delivered: int
    ) -> str | None:
        """A configuration is proposed only when the one before it is committed."""
        if before <= delivered:
            return None
        return f"node {node_id} proposes a configuration at {index}; the one at {before} is open"

    @safety("raft-dev, 2015: a bug in single-server changes")
    def changes_wait_for_the_own_epoch(self, node_id: int, entry: Entry, epoch: int) -> str | None:
        """A leader proposes a configuration only after an entry of its epoch is committed."""
        if epoch >= entry.epoch:
            return None
        return f"node {node_id} changes members in epoch {entry.epoch}, having delivered {epoch}"

    @safety("acceptance RA-5")
    def done_means_delivered(self, node_id: int, index: int, delivered: int) -> str | None:
        """A change that is reported done is committed and delivered where it was asked for."""
        if index <= delivered:
            return None
        return f"node {node_id} says that the change at {index} is done, at {delivered}"

    @safety("Raft §6; dissertation §4.3")
    def deliveries_have_a_quorum(
        self, node_id: int, entry: Entry, configuration: Configuration
    ) -> str | None:
        """What is delivered is on the disks of a majority of each half in force."""
        for half in (configuration.voters, configuration.outgoing):
            holders = [node for node in half if self._durability.may_count_on(node, entry, node_id)]
            if half and len(holders) <= len(half) // 2:
                return (
                    f"node {node_id} delivers {entry.index} with {configuration.describe()}; "
                    f"of {half} only {holders} have stored it"
                )
        return None

    @safety("dissertation §4.2.2")
    def leaders_are_voters_with_data(self, node_id: int, news: Leadership) -> str | None:
        """Who leads is a voter that keeps data, in force or as of what is committed."""
        places = self._logs[node_id]
        recent = [places[-1][1], *(each for index, each in places if index <= self._delivered)]
        if any(each.may_lead(node_id) for each in recent):
            return None
        return f"{news}: node {node_id} is no voter in {recent[0].describe()}"


def _base(meta: SnapshotMeta) -> Place:
    return meta.index, Configuration.decode(meta.configuration)
