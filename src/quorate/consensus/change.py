"""Changes of membership: what may be asked for, and which configuration follows which.

Pure arithmetic on configurations, shared by all engines. When an engine may take the next step
(who leads, what is committed, who has caught up) is the engine's business::

    target = requested(current, change)        refused with words if it makes no sense
    planned(current, target)                   new voters catch up first
    joint(current, target)                     both halves decide
    settled(joint)                             the new half alone
    given_up(planned)                          back to where the change began

Invariants:
    * whatever follows from a valid configuration is a valid configuration
    * the voters never change without a joint configuration in between
    * addresses and priorities are what was asked for from the first step on
    * every step can be taken from the configuration in the log alone: a new leader goes on where
      the old one stopped
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from quorate.consensus.membership import Configuration
from quorate.errors import UsageError


class MemberRole(Enum):
    """What a new member is to become."""

    VOTER = "voter"  # catches up as a learner and is promoted by itself
    LEARNER = "learner"
    WITNESS = "witness"  # votes, keeps no data, never leads


class NewMember(NamedTuple):
    """A node to add.

    ``address`` is where the others reach it (empty: the configuration does not say).
    """

    node_id: int
    role: MemberRole = MemberRole.VOTER
    address: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """What is to become different, all of it at once.

    Args:
        add: nodes that are no members yet.
        remove: members that leave.
        promote: learners that are to vote.
        demote: voters that are to stay as learners.
        priorities: (node, priority) to set; 0 takes a priority away.
        addresses: (node, address) to set; empty takes an address away.
    """

    add: tuple[NewMember, ...] = ()
    remove: tuple[int, ...] = ()
    promote: tuple[int, ...] = ()
    demote: tuple[int, ...] = ()
    priorities: tuple[tuple[int, int], ...] = ()
    addresses: tuple[tuple[int, str], ...] = ()

    def describe(self) -> str:
        """The change in words: "add voter 4, remove 1"."""
        parts = [f"add {new.role.value} {new.node_id}" for new in self.add]
        parts += [f"remove {node}" for node in self.remove]
        parts += [f"promote {node}" for node in self.promote]
        parts += [f"demote {node}" for node in self.demote]
        parts += [f"set priority of {node} to {priority}" for node, priority in self.priorities]
        parts += [f"set address of {node}" for node, _ in self.addresses]
        return ", ".join(parts) if parts else "change nothing"


class ChangeRefused(UsageError):
    """A change that makes no sense for the configuration in force; it did not happen."""


def requested(current: Configuration, change: Change) -> Configuration:
    """Return the simple configuration that ``change`` asks for.

    Raises:
        ChangeRefused: the change makes no sense here; says why.
    """
    assert not current.is_changing, "one change at a time"
    _check_named_once(current, change)
    leaving = set(change.remove)
    voters, learners = set(current.voters) - leaving, set(current.learners) - leaving
    witnesses = set(current.witnesses) - leaving
    priorities = {node: rank for node, rank in current.priorities if node not in leaving}
    addresses = {node: text for node, text in current.addresses if node not in leaving}
    for new in change.add:
        (learners if new.role is MemberRole.LEARNER else voters).add(new.node_id)
        if new.role is MemberRole.WITNESS:
            witnesses.add(new.node_id)
        priorities[new.node_id] = new.priority
        if new.address:
            addresses[new.node_id] = new.address
    voters = (voters | set(change.promote)) - set(change.demote)
    learners = (learners - set(change.promote)) | set(change.demote)
    _check_known(voters | learners, change.priorities, change.addresses)
    priorities.update(change.priorities)
    addresses.update(change.addresses)
    if not voters:
        raise ChangeRefused("it would leave no voter: nobody could decide anything any more")
    if not voters - witnesses:
        raise ChangeRefused("it would leave witnesses alone: nobody could lead any more")
    try:
        target = Configuration.of(
            voters,
            learners,
            witnesses=witnesses,
            priorities=priorities,
            addresses={node: text for node, text in addresses.items() if text},
        )
    except UsageError as error:
        raise ChangeRefused(str(error)) from None
    if target == current:
        raise ChangeRefused("it would change nothing")
    return target


def _check_named_once(current: Configuration, change: Change) -> None:
    """Every node is told one thing, and one that fits what it is."""
    added = [new.node_id for new in change.add]
    named = [*added, *change.remove, *change.promote, *change.demote]
    for node in named:
        if node < 1:
            raise ChangeRefused(f"node {node}: node ids start at 1")
        if named.count(node) > 1:
            raise ChangeRefused(f"node {node} is named more than once")
    for node in added:
        if node in current.members:
            raise ChangeRefused(f"node {node} is already a member ({current.role(node)})")
    for node in (*change.remove, *change.promote, *change.demote):
        if node not in current.members:
            raise ChangeRefused(f"node {node} is not a member")
    for node in change.promote:
        if node not in current.learners:
            raise ChangeRefused(f"node {node} already votes")
    for node in change.demote:
        if node not in current.voters:
            raise ChangeRefused(f"node {node} does not vote")
        if node in current.witnesses:
            raise ChangeRefused(f"node {node} is a witness: without a vote it would be nothing")


def _check_known(members: set[int], *settings: Iterable[tuple[int, object]]) -> None:
    for pairs in settings:
        for node, _ in pairs:
            if node not in members:
                raise ChangeRefused(f"node {node} is not a member")


# ---- steps -------------------------------------------------------------------------------------


def first_step(current: Configuration, target: Configuration) -> Configuration:
    """Return the configuration that begins the way from ``current`` to ``target``."""
    assert not current.is_changing, "one change at a time"
    if target.voters == current.voters:
        return target
    if set(target.voters) <= set(current.voters):
        return joint(current, target)
    return planned(current, target)


def planned(current: Configuration, target: Configuration) -> Configuration:
    """Keep deciding as now, while those who are to vote receive the log."""
    priorities, addresses = _settings(current, target)
    return replace(
        current,
        witnesses=_sorted(current.witnesses, target.witnesses),
        next_voters=target.voters,
        next_learners=target.learners,
        priorities=priorities,
        addresses=addresses,
    )


def joint(current: Configuration, target: Configuration) -> Configuration:
    """Let the voters of now and those of ``target`` decide together."""
    members = {*target.members, *current.voters}
    priorities, addresses = _settings(current, target)
    return Configuration(
        target.voters,
        target.learners,
        current.voters,
        witnesses=_sorted(current.witnesses, target.witnesses, among=members),
        priorities=tuple(pair for pair in priorities if pair[0] in members),
        addresses=tuple(pair for pair in addresses if pair[0] in members),
    )


def target_of(plan: Configuration) -> Configuration:
    """Return where a planned change leads to."""
    assert plan.is_planned, "nothing is planned"
    return _restricted(plan, plan.next_voters, plan.next_learners)


def settled(both: Configuration) -> Configuration:
    """Let the new half decide alone; who is in neither list any more has left."""
    assert both.is_joint, "nothing is joint"
    return _restricted(both, both.voters, both.learners)


def given_up(plan: Configuration) -> Configuration:
    """Drop a plan: those it would have added are members no more."""
    assert plan.is_planned, "nothing is planned"
    return _restricted(plan, plan.voters, plan.learners)


def new_voters(configuration: Configuration) -> tuple[int, ...]:
    """Those who must catch up before a planned change may go on."""
    voters = configuration.voters
    return tuple(node for node in configuration.next_voters if node not in voters)


def _restricted(
    of: Configuration, voters: tuple[int, ...], learners: tuple[int, ...]
) -> Configuration:
    members = {*voters, *learners}
    return Configuration(
        voters,
        learners,
        witnesses=_sorted(of.witnesses, among=members),
        priorities=tuple(pair for pair in of.priorities if pair[0] in members),
        addresses=tuple(pair for pair in of.addresses if pair[0] in members),
    )


def _sorted(*ids: Iterable[int], among: set[int] | None = None) -> tuple[int, ...]:
    union = {node for each in ids for node in each}
    return tuple(sorted(union if among is None else union & among))


def _settings(
    old: Configuration, new: Configuration
) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, str], ...]]:
    """Return priorities and addresses: of ``new``, and of members that only ``old`` has."""
    gone = set(old.members) - set(new.members)
    priorities = [pair for pair in old.priorities if pair[0] in gone]
    addresses = [pair for pair in old.addresses if pair[0] in gone]
    return (
        tuple(sorted([*priorities, *new.priorities])),
        tuple(sorted([*addresses, *new.addresses])),
    )
