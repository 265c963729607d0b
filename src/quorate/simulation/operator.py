"""The operator of a virtual cluster: asks whoever leads for other members.

What a careful person does by hand. New machines are started before they are added; nobody removes
healthy members while too many of the others are damaged for good. Whether the cluster takes a
request, and how far it comes under faults, is the cluster's business; it may be refused, given up,
or completed by a later leader. When somebody else is elected, the last request is made once more,
at that very moment, as automata do.

Invariant: of the voters of every configuration that is in force anywhere, or was asked for, fewer
than half have a disk that was harmed on purpose. So what no membership protocol can promise (data
whose majority is lost) is not asked of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Protocol

from quorate.consensus.change import Change, MemberRole, NewMember
from quorate.simulation.host import Host
from quorate.simulation.judges.court import Court


class Machines(Protocol):
    """What the operator needs of a cluster."""

    hosts: dict[int, Host]

    def living(self) -> list[Host]:
        """Hosts whose process runs."""

    def restart(self, node: int) -> None:
        """Start a node that is down."""


class Operator:
    """Changes the members of one virtual cluster.

    Args:
        machines: the cluster.
        court: knows who leads, and every node's configuration.
        spares: machines that are not members at first. None: the operator never comes, and
            nothing is refused to those who harm disks.
    """

    def __init__(self, machines: Machines, court: Court, spares: int) -> None:
        self._machines = machines
        self._judge = court.membership
        self._leaders = court.engine.leaders  # epoch -> node
        self._is_present = spares > 0
        # node -> what it was added as; founders keep data, and with data nobody becomes a witness
        founders = list(machines.hosts)[: len(machines.hosts) - spares]
        self._witnesses: dict[int, bool] = dict.fromkeys(founders, False)
        self.asked = 0
        self._last: Change | None = None  # asked for, and nobody else was elected since

    # ---- requests ------------------------------------------------------------------------------

    def add(self, node: int, role: MemberRole) -> None:
        """Start a machine and have it added."""
        if self._prepare(node, role is MemberRole.WITNESS):
            self._ask(Change(add=(NewMember(node, role, address=f"node-{node}"),)))

    def replace(self, old: Iterable[int], new: Iterable[int]) -> None:
        """Put machines in the place of others, all at once."""
        fresh = tuple([NewMember(node, address=f"node-{node}") for node in new])
        ready = [self._prepare(each.node_id, False) for each in fresh]
        if all(ready):
            self._ask(Change(add=fresh, remove=tuple(old)))

    def change(self, change: Change) -> None:
        """Ask for a change that needs no new machine."""
        self._ask(change)

    @property
    def is_waiting(self) -> bool:
        """Whether it will ask when somebody is elected."""
        return self._last is not None

    def on_elected(self) -> None:
        """Somebody was elected: what became of the last request nobody knows, so it is repeated."""
        change = self._last
        if change is not None:
            self._ask(change)
            self._last = None

    def leave(self) -> None:
        """Nothing is repeated any more."""
        self._last = None

    def _prepare(self, node: int, is_witness: bool) -> bool:
        """Start a machine; one that was a witness never becomes anything else, nor the reverse."""
        host = self._machines.hosts[node]
        if host.retired is not None or self._witnesses.get(node, is_witness) != is_witness:
            return False
        self._witnesses[node] = is_witness
        self._machines.restart(node)
        return host.alive

    def _ask(self, change: Change) -> None:
        self._last = change
        leader = self._leader()
        if leader is None or leader.paused:
            return
        if self._leaves_too_few(leader, change):
            return
        self.asked += 1
        leader.call(partial(_change, token=self.asked, change=change))

    def _leader(self) -> Host | None:
        leaders = self._leaders
        node = leaders[max(leaders)] if leaders else 0
        host = self._machines.hosts.get(node)
        return host if host is not None and host.alive else None

    def _leaves_too_few(self, leader: Host, change: Change) -> bool:
        current = self._judge.in_force(leader.node_id)
        voters = set(current.voters) - set(change.remove) - set(change.demote)
        voters |= {new.node_id for new in change.add if new.role is not MemberRole.LEARNER}
        voters |= set(change.promote)
        return not self._is_sound(voters)

    # ---- harm ----------------------------------------------------------------------------------

    def may_harm(self, node: int) -> bool:
        """Whether all configurations can do without this node's disk for good."""
        if not self._is_present:
            return True
        return all(self._is_sound(half, node) for half in self._judge.halves())

    def _is_sound(self, half: Iterable[int], also: int = 0) -> bool:
        hosts = self._machines.hosts
        voters = list(half)
        lost = [node for node in voters if node == also or hosts[node].is_harmed]
        if not voters or not lost:
            return True
        # A witness counts for a majority and keeps no data: what is committed must also be on a
        # disk that is neither lost nor its.
        quorum = len(voters) // 2 + 1
        keepers = quorum - sum(self._witnesses.get(node, False) for node in voters)
        return len(lost) <= (len(voters) - 1) // 2 and len(lost) < keepers


def _change(core: Any, token: int, change: Change) -> None:
    core.change_membership(token, change)
