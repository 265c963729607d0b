"""A virtual ensemble of coordination servers, with client connections, in virtual time.

The same hosts, network and disks as ``cluster.py``, but each host drives a whole
CoordinationServer: clients speak the ZooKeeper protocol in bytes to it. What a client does is up
to the test or scenario; this module only carries bytes and closes connections when nodes die.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quorate.consensus.entry import Recovered
from quorate.consensus.membership import Configuration
from quorate.simulation.host import SMALL_STORAGE, WALL_ORIGIN_MS, Host, HostSettings, MakeEngine
from quorate.simulation.network import VirtualNetwork
from quorate.simulation.safety import SafetyChecker
from quorate.simulation.world import World
from quorate.storage.store import Store
from quorate.tree.server import CoordinationServer, ServerSettings, ServerTurn


@dataclass(slots=True)
class VirtualConnection:
    """A client's end of a connection to one node."""

    number: int
    node_id: int
    life: int
    received: bytearray
    closed: bool = False
    arrival_us: int = 0  # of what was sent last: a connection keeps its order


class SimulatedEnsemble:
    """Coordination servers 1 .. ``nodes`` in one World."""

    def __init__(
        self,
        seed: int,
        *,
        nodes: int = 3,
        settings: ServerSettings | None = None,
        client_latency_us: tuple[int, int] = (50, 200),
    ) -> None:
        self.world = World(seed)
        self.checker = SafetyChecker()
        self.network = VirtualNetwork(self.world, self._deliver)
        self.settings = settings or ServerSettings()
        self._latency_us = client_latency_us
        self._connections: dict[tuple[int, int, int], VirtualConnection] = {}
        self._count = 0
        self._configuration = Configuration.of(range(1, nodes + 1))
        host_settings = HostSettings(SMALL_STORAGE, b"simulated-ensemb")
        self.hosts = {
            node: Host(node, self.world, self.checker, host_settings, self._build)
            for node in self._configuration.voters
        }
        for host in self.hosts.values():
            host.send = self.network.send
            host.on_turn = self._on_turn

    def start(self) -> None:
        """Start all nodes and tell them of each other."""
        for host in self.hosts.values():
            host.start()
        self._introduce(*self.hosts.values())

    def crash(self, node_id: int) -> None:
        """Kill a node: its clients and peers see their connections close."""
        host = self.hosts[node_id]
        host.crash()
        for connection in self._connections.values():
            if connection.node_id == node_id:
                connection.closed = True
        for other in self.hosts.values():
            if other.alive:
                self._after_latency(self._hint_closed(other, node_id))

    def restart(self, node_id: int) -> None:
        """Start a crashed node again on its disk."""
        self.hosts[node_id].start()
        self._introduce(*(host for host in self.hosts.values() if host.alive))

    def leader(self) -> int:
        """Id of the established leader; 0 when there is none."""
        for host in self.hosts.values():
            if host.alive and host.core.replica.leadership.established:
                return host.node_id
        return 0

    def run_until(self, condition: Callable[[], bool], limit_us: int = 20_000_000) -> None:
        """Let virtual time pass until the condition holds.

        Raises:
            AssertionError: it did not within the limit.
        """
        end = self.world.now_us + limit_us
        while not condition():
            assert self.world.now_us < end, "the condition did not come true in time"
            self.world.run(1_000)

    # ---- clients -------------------------------------------------------------------------------

    def connect(self, node_id: int) -> VirtualConnection:
        """Open a connection to a living node."""
        host = self.hosts[node_id]
        assert host.alive
        self._count += 1
        connection = VirtualConnection(self._count, node_id, host.life, bytearray())
        self._connections[node_id, host.life, connection.number] = connection
        host.core.client_opened(connection.number, "127.0.0.1")
        host.drive()
        return connection

    def send(self, connection: VirtualConnection, data: bytes) -> None:
        """Send bytes; they arrive after the client latency unless the connection closed."""

        def arrive() -> None:
            host = self.hosts[connection.node_id]
            if not connection.closed and host.alive and host.life == connection.life:
                host.core.client_received(connection.number, data)
                host.drive()

        now_us = self.world.now_us
        arrival_us = max(connection.arrival_us, now_us + self.world.between(*self._latency_us))
        connection.arrival_us = arrival_us
        self.world.after(arrival_us - now_us, arrive)

    def close(self, connection: VirtualConnection) -> None:
        """Close the client's end."""
        host = self.hosts[connection.node_id]
        if not connection.closed and host.alive and host.life == connection.life:
            host.core.client_closed(connection.number)
            host.drive()
        connection.closed = True

    # ---- wiring --------------------------------------------------------------------------------

    def _build(
        self, host: Host, store: Store, recovered: Recovered, make_engine: MakeEngine
    ) -> CoordinationServer:
        return CoordinationServer(
            node_id=host.node_id,
            incarnation=store.identity.incarnation,
            configuration=self._configuration,
            recovered=recovered,
            restore=store.open_snapshot,
            settings=self.settings,
            draw=self.world.draw,
            random_bytes=self.world.bytes,
            now_ms=self.world.now_ms,
            wall_ms=WALL_ORIGIN_MS + self.world.now_ms,
            make_engine=make_engine,
        )

    def _deliver(self, sender: int, receiver: int, channel: int, payload: bytes) -> None:
        self.hosts[receiver].receive(sender, channel, payload)

    def _after_latency(self, action: Callable[[], None]) -> None:
        self.world.after(self.world.between(*self._latency_us), action)

    def _introduce(self, *hosts: Host) -> None:
        for host in hosts:
            for other in hosts:
                if host is not other:
                    host.core.peer_opened(other.node_id)
            host.drive()

    def _hint_closed(self, host: Host, peer: int) -> Callable[[], None]:
        def hint() -> None:
            if host.alive:
                host.core.peer_closed(peer)
                host.drive()

        return hint

    def _on_turn(self, host: Host, turn: ServerTurn) -> None:
        assert turn.fatal is None, turn.fatal
        for number, data in turn.writes:
            connection = self._connections.get((host.node_id, host.life, number))
            if connection is not None and not connection.closed:
                connection.received += data
        for number in turn.closings:
            connection = self._connections.pop((host.node_id, host.life, number), None)
            if connection is not None:
                connection.closed = True
                self._after_latency(self._closing(host, host.life, number))

    def _closing(self, host: Host, life: int, number: int) -> Callable[[], None]:
        def close() -> None:
            if host.alive and host.life == life:
                host.core.client_closed(number)
                host.drive()

        return close
