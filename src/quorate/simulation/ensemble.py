"""A virtual ensemble of coordination servers, driven by hand: for tests and explanations.

The same cluster, judges and connections as a drawn run, but what happens and when is up to the
caller: connect, send bytes, crash a node, let time pass.
"""

from __future__ import annotations

from collections.abc import Callable

from quorate.consensus.entry import Recovered
from quorate.consensus.membership import Configuration
from quorate.simulation.cluster import VirtualCluster
from quorate.simulation.connections import ClientConnections, VirtualConnection
from quorate.simulation.host import Host, MakeEngine
from quorate.simulation.judges.court import Court
from quorate.simulation.world import World
from quorate.storage.store import Store
from quorate.tree.server import CoordinationServer, ServerSettings

CLUSTER_ID = b"simulated-ensemb"


def build_server(
    host: Host,
    store: Store,
    recovered: Recovered,
    make_engine: MakeEngine,
    *,
    configuration: Configuration,
    settings: ServerSettings,
    court: Court,
    make: Callable[..., CoordinationServer] = CoordinationServer,
) -> CoordinationServer:
    """Make a node's coordination server, with the judge of replicas inside.

    ``make`` may put a server in its place that somebody looks into.
    """
    server = make(
        node_id=host.node_id,
        incarnation=store.identity.incarnation,
        configuration=configuration,
        recovered=recovered,
        restore=store.open_snapshot,
        settings=settings,
        draw=host.dice.draw,
        random_bytes=host.dice.bytes,
        now_ms=host.clock.now_ms(),
        wall_ms=host.clock.wall_ms(),
        make_engine=make_engine,
    )
    server.replica.machine = court.application.observe(host.node_id, server.replica.machine)
    return server


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
        self.court = Court()
        self.settings = settings or ServerSettings()
        self._configuration = Configuration.of(range(1, nodes + 1))
        self.cluster = VirtualCluster(
            self.world, self.court, nodes=nodes, build=self._build, cluster_id=CLUSTER_ID
        )
        self.connections = ClientConnections(self.world, self.cluster, client_latency_us)
        self.cluster.on_down = self.connections.on_down
        self.network = self.cluster.network
        self.hosts = self.cluster.hosts
        for host in self.hosts.values():
            host.on_turn = self.connections.on_turn

    def _build(
        self, host: Host, store: Store, recovered: Recovered, make_engine: MakeEngine
    ) -> CoordinationServer:
        return build_server(
            host,
            store,
            recovered,
            make_engine,
            configuration=self._configuration,
            settings=self.settings,
            court=self.court,
        )

    def start(self) -> None:
        """Start all nodes and tell them of each other."""
        self.cluster.start()

    def crash(self, node_id: int) -> None:
        """Take a node's power: its clients and peers see their connections close."""
        self.cluster.crash(node_id)

    def restart(self, node_id: int) -> None:
        """Start a crashed node again on its disk."""
        self.cluster.restart(node_id)

    def leader(self) -> int:
        """Id of the established leader; 0 when there is none."""
        for host in self.cluster.living():
            if host.core.replica.leadership.established:
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
        return self.connections.connect(node_id, _nothing)

    def send(self, connection: VirtualConnection, data: bytes) -> None:
        """Send bytes; they arrive after the client latency unless the connection closed."""
        self.connections.send(connection, data)

    def close(self, connection: VirtualConnection) -> None:
        """Close the client's end."""
        self.connections.close(connection)


def _nothing() -> None:
    """Nobody is called: whoever drives by hand looks for himself."""
