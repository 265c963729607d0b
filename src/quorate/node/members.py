"""What a node does when its membership changes: it links, it joins, and it stops when removed.

Joins the parts that know one thing each: the desk (requests), the network (links), the joiner (how
to become a member). The driver tells it of every change before the messages of the same turn leave,
because they may go to new members.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from quorate.consensus.engine import ConfigurationInForce, MembershipAnswer
from quorate.consensus.membership import Configuration
from quorate.node.beginning import JOINED, Beginning
from quorate.node.cluster_desk import ClusterDesk
from quorate.node.events import MEMBERS_CHANGED, NEVER_ADDED
from quorate.node.joining import Joiner
from quorate.node.units import Address

_LOOK_SECONDS = 0.25


class Network(Protocol):
    """Where links are."""

    def set_members(self, addresses: Mapping[int, Address]) -> None:
        """Link to these from now on."""


class Server(Protocol):
    """What is asked of the pure server."""

    def status(self) -> dict[str, Any]:
        """Its picture."""

    def configuration(self) -> Configuration:
        """Who belongs now."""


class Members:
    """Follows the configuration in force.

    Args:
        node_id: this node.
        server: knows the configuration.
        beginning: how this node began.
        desk: waits for answers to changes, and knows addresses.
        joiner: asks to be added, if it is told to.
        removed: called with words once this node is a member no more.
    """

    def __init__(
        self,
        *,
        node_id: int,
        server: Server,
        beginning: Beginning,
        desk: ClusterDesk,
        joiner: Joiner,
        removed: Callable[[str], None],
    ) -> None:
        self._node_id = node_id
        self._server = server
        self._beginning = beginning
        self._desk = desk
        self._joiner = joiner
        self._removed = removed
        self._network: Network
        self._look: asyncio.TimerHandle | None = None

    def connect(self, network: Network) -> None:
        """Say where links are; once, before ``start``. It knows the desk, so it comes later."""
        self._network = network

    def start(self) -> None:
        """Ask to be added if this node has still to be, and watch whether it stays."""
        if self._beginning.founding == JOINED and not self._is_member():
            if self._joiner.can_ask:
                self._joiner.start()
            elif self._server.status()["standing"] == "joining":
                NEVER_ADDED.say()
        self._look_whether_removed()

    def stop(self) -> None:
        """Ask and watch no more."""
        self._joiner.stop()
        if self._look is not None:
            self._look.cancel()

    def addresses(self) -> dict[int, Address]:
        """Where the other members are dialled."""
        others = set(self._server.configuration().members) - {self._node_id}
        known = self._desk.addresses()
        return {node: known[node] for node in sorted(others & set(known))}

    # ---- from the driver -----------------------------------------------------------------------

    def configured(self, now: ConfigurationInForce) -> None:
        """These are the members from now on: link to them."""
        configuration = now.configuration
        others = sorted(set(configuration.members) - set(configuration.voters))
        MEMBERS_CHANGED.say(
            index=now.index,
            voters=_ids(configuration.voters),
            others=_ids(others) if others else "none",
        )
        self._network.set_members(self.addresses())

    def answered(self, answer: MembershipAnswer) -> None:
        """A change that was asked for here got so far."""
        self._desk.answered(answer)

    # ---- removed -------------------------------------------------------------------------------

    def _is_member(self) -> bool:
        return self._node_id in self._server.configuration().members

    def _look_whether_removed(self) -> None:
        """Stop once it is certain that this node is no member any more, and not to be one.

        It learns that from the log, or from a member that it asked for its vote (``standing`` is
        "removed" then although its own log still names it).
        """
        loop = asyncio.get_running_loop()
        self._look = loop.call_later(_LOOK_SECONDS, self._look_whether_removed)
        if self._joiner.is_busy:
            return
        page = self._server.status()
        if page["standing"] != "removed":
            return
        if self._is_member() or page["configuration_committed"]:
            self._removed(
                f"node {self._node_id} was removed from its cluster; to use this machine again, "
                "empty its data directory and let it join with a new --id"
            )


def _ids(nodes: Iterable[int]) -> str:
    return ",".join(map(str, nodes))
