"""Mutants of changing members: who decides while two configurations meet, and when to go on."""

from __future__ import annotations

from quorate.consensus import change as steps
from quorate.consensus.membership import Configuration
from quorate.consensus.quorum import Quorum
from quorate.consensus.raft import membership, transfer
from quorate.consensus.raft.state import RaftState
from quorate.simulation.mutants.mutant import Group, Patches

GROUP = Group("membership", faults=("membership",))
"""The operator's plan brings blows and hand-overs of its own; with others, few runs have both."""


def _count(patches: Patches, voters: str) -> None:
    build = Quorum.__init__

    def some(self: Quorum, configuration: Configuration) -> None:
        build(self, Configuration(getattr(configuration, voters) or configuration.voters))
        self.configuration = configuration

    patches.put(Quorum, "__init__", some)


@GROUP.mutant("Raft §6; dissertation §4.3")
def decides_with_the_new_majority_alone(patches: Patches) -> None:
    """While joint, the old voters decide too."""
    _count(patches, "voters")


@GROUP.mutant("Raft §6; dissertation §4.3")
def decides_with_the_old_majority_alone(patches: Patches) -> None:
    """While joint, the new voters decide too."""
    _count(patches, "outgoing")


@GROUP.mutant("dissertation §4.2.1")
def counts_learners(patches: Patches) -> None:
    """Who only receives the log counts nowhere."""
    _count(patches, "members")


@GROUP.mutant("dissertation §4.2.2")
def counts_a_removed_leader(patches: Patches) -> None:
    """A leader that is no voter any more does not count itself."""
    adopt = patches.put(RaftState, "_act_on_configuration", None)

    def with_leader(self: RaftState) -> None:
        adopt(self)
        voters = {*self.configuration.voters, self.leader or self.configuration.voters[0]}
        if self.leader == self.node_id and not self.configuration.is_voter(self.node_id):
            quorum = Quorum(Configuration(tuple(sorted(voters))))
            quorum.configuration = self.configuration
            self.quorum = quorum

    patches.put(RaftState, "_act_on_configuration", with_leader)


@GROUP.mutant("dissertation §4.1; etcd #7625")
def counts_by_the_committed_configuration(patches: Patches) -> None:
    """The configuration in force is the latest in the log, not the latest that is committed."""
    adopt = patches.put(RaftState, "_act_on_configuration", None)

    def late(self: RaftState) -> None:
        adopt(self)
        self.quorum = Quorum(self.configuration_at(self.commit_index))

    patches.put(RaftState, "_act_on_configuration", late)


@GROUP.mutant("dissertation §4.1; known bugs 39 and 40")
def keeps_a_truncated_configuration(patches: Patches) -> None:
    """With its entry goes the configuration."""
    truncate = patches.put(RaftState, "truncate", None)

    def keep(self: RaftState, index: int) -> None:
        known, quorum = list(self.configurations), self.quorum
        truncate(self, index)
        self.configurations[:] = [(min(at, index - 1), each) for at, each in known]
        self.quorum = quorum

    patches.put(RaftState, "truncate", keep)


@GROUP.mutant("raft-dev, 2015: a bug in single-server changes")
def changes_members_before_its_term_is_committed(patches: Patches) -> None:
    """A leader commits an entry of its own term before it changes members."""
    why_not_now = patches.put(membership, "why_not_now", None)

    def early(state: RaftState) -> str:
        reason: str = why_not_now(state)
        return "" if "committed nothing yet" in reason else reason

    patches.put(membership, "why_not_now", early)


@GROUP.mutant("dissertation §4.1")
def takes_two_changes_at_once(patches: Patches) -> None:
    """A change waits until the one before it is committed."""
    patches.put(membership, "is_committed", lambda _state: True)


@GROUP.mutant("Raft §6")
def skips_the_joint_configuration(patches: Patches) -> None:
    """Voters change through a configuration in which both halves decide."""
    patches.put(steps, "joint", lambda _current, target: target)


@GROUP.mutant("dissertation §4.2.2")
def leads_on_after_its_removal(patches: Patches) -> None:
    """A leader that was removed steps down when that is committed."""
    patches.put(transfer, "begin_resigning", lambda _state: None)


@GROUP.mutant("Raft §6; known bug of NuRaft")
def forgets_its_predecessors_change(patches: Patches) -> None:
    """A new leader completes the change that it finds in its log."""
    take_over = patches.put(membership, "take_over", None)

    def forget(state: RaftState) -> None:
        take_over(state)
        state.change.is_open = False

    patches.put(membership, "take_over", forget)
