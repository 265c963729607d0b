"""Client connections to simulated coordination servers: bytes in, bytes out, and closing.

It does for a host what a node's listener does for a process, in virtual time. What a client says
is up to its owner; this module only carries bytes, in order, and closes connections when nodes
die.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from quorate.simulation.cluster import VirtualCluster
from quorate.simulation.host import Host
from quorate.simulation.world import World
from quorate.tree.server import ServerTurn

ADDRESS = "127.0.0.1"


@dataclass(slots=True, eq=False)
class VirtualConnection:
    """A client's end of a connection to one node.

    Attributes:
        number: unique in the run.
        node_id: the node.
        life: which start of it.
        received: what has come and was not taken out by the client yet.
        closed: nothing more will come, and nothing that is sent arrives.
        on_data: called when something has come, or the connection was closed.
    """

    number: int
    node_id: int
    life: int
    received: bytearray
    on_data: Callable[[], None]
    closed: bool = False
    arrival_us: int = 0  # of what was sent last: a connection keeps its order


class ClientConnections:
    """All connections between clients and the nodes of one cluster."""

    def __init__(
        self, world: World, cluster: VirtualCluster, latency_us: tuple[int, int] = (50, 200)
    ) -> None:
        self._world = world
        self._cluster = cluster
        self._latency_us = latency_us
        self._open: dict[tuple[int, int, int], VirtualConnection] = {}
        self._count = 0

    def connect(self, node_id: int, on_data: Callable[[], None]) -> VirtualConnection:
        """Open a connection to a living node."""
        host = self._cluster.hosts[node_id]
        assert host.alive
        self._count += 1
        connection = VirtualConnection(self._count, node_id, host.life, bytearray(), on_data)
        self._open[node_id, host.life, connection.number] = connection
        host.call(partial(_opened, number=connection.number))
        return connection

    def send(self, connection: VirtualConnection, data: bytes) -> None:
        """Send bytes; they arrive after the latency unless the connection is closed by then."""
        now_us = self._world.now_us
        arrival_us = max(connection.arrival_us, now_us + self._world.between(*self._latency_us))
        connection.arrival_us = arrival_us
        self._world.after(arrival_us - now_us, partial(self._arrive, connection, data))

    def _arrive(self, connection: VirtualConnection, data: bytes) -> None:
        host = self._cluster.hosts[connection.node_id]
        if not connection.closed and host.alive and host.life == connection.life:
            host.call(partial(_received, number=connection.number, data=data))

    def close(self, connection: VirtualConnection) -> None:
        """Close the client's end."""
        if connection.closed:
            return
        connection.closed = True
        self._after_latency(connection)

    def on_turn(self, host: Host, turn: ServerTurn) -> None:
        """Carry what a node's turn wrote, and close what it closed."""
        for number, data in turn.writes:
            connection = self._open.get((host.node_id, host.life, number))
            if connection is not None and not connection.closed:
                self._world.mark(data)
                connection.received += data
                connection.on_data()
        for number in turn.closings:
            connection = self._open.get((host.node_id, host.life, number))
            if connection is not None and not connection.closed:
                connection.closed = True
                self._after_latency(connection)
                connection.on_data()

    def on_down(self, host: Host) -> None:
        """A node died: its connections are closed."""
        for key in [key for key in self._open if key[:2] == (host.node_id, host.life)]:
            connection = self._open.pop(key)
            if not connection.closed:
                connection.closed = True
                connection.on_data()

    def _after_latency(self, connection: VirtualConnection) -> None:
        delay_us = self._world.between(*self._latency_us)
        self._world.after(delay_us, partial(self._server_closes, connection))

    def _server_closes(self, connection: VirtualConnection) -> None:
        key = (connection.node_id, connection.life, connection.number)
        if self._open.pop(key, None) is not None:
            host = self._cluster.hosts[connection.node_id]
            host.call(partial(_closed, number=connection.number))


def _opened(core: Any, number: int) -> None:
    core.client_opened(number, ADDRESS)


def _received(core: Any, number: int, data: bytes) -> None:
    core.client_received(number, data)


def _closed(core: Any, number: int) -> None:
    core.client_closed(number)
