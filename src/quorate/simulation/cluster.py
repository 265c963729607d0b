"""A virtual cluster under faults: real replicas, virtual network, disk and clock, one seed.

``SimulatedCluster`` runs replicas of a Ledger under a workload and a nemesis that the seed draws:
which faults exist in this run and how strong they are (swarm testing). While faults act, safety
is checked at every step; afterwards faults stop, everything is mended, and the cluster must come
to agree: the liveness half (Paxos Made Live §5.1).

What must hold at the end of every run:
    * all nodes hold the same ledger
    * every acknowledged line is in it, exactly once; no line is in it twice
    * a read behind a barrier saw every line acknowledged before the barrier was asked for
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from quorate.consensus.entry import Recovered
from quorate.consensus.membership import Configuration
from quorate.consensus.registry import EngineSettings
from quorate.errors import InvariantBroken
from quorate.replication.replica import Replica
from quorate.replication.turn import ReplicaSettings, Turn
from quorate.simulation.host import SMALL_STORAGE, Host, HostSettings, MakeEngine, WrapEngine
from quorate.simulation.ledger import Ledger
from quorate.simulation.network import LinkQuality, VirtualNetwork
from quorate.simulation.safety import SafetyChecker
from quorate.simulation.world import World
from quorate.storage.store import Store

SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Faults:
    """Which faults a run has; drawn from the seed by ``Faults.swarm``."""

    loss: float = 0.0
    duplication: float = 0.0
    delay_probability: float = 0.0
    delay_us: int = 0
    crash: bool = False
    partition: bool = False
    one_way: bool = False
    hints: bool = True  # closed connections are noticed
    transfer: bool = False  # leadership is handed over on purpose

    @classmethod
    def swarm(cls, world: World) -> Faults:
        """Draw a random mix: each fault is absent in some runs and strong in others."""
        return cls(
            loss=world.draw(30) / 100 if world.chance(0.5) else 0.0,
            duplication=world.draw(30) / 100 if world.chance(0.5) else 0.0,
            delay_probability=world.draw(50) / 100 if world.chance(0.6) else 0.0,
            delay_us=world.between(1_000, 300_000),
            crash=world.chance(0.7),
            partition=world.chance(0.6),
            one_way=world.chance(0.3),
            hints=world.chance(0.7),
            transfer=world.chance(0.3),
        )


@dataclass(slots=True)
class Outcome:
    """What a run did, for reports and for tests that a run was not idle."""

    seed: int
    nodes: int
    submitted: int = 0
    acknowledged: int = 0
    reads: int = 0
    crashes: int = 0
    partitions: int = 0
    elections: int = 0
    installs: int = 0
    messages: int = 0
    events: int = 0
    digest: int = 0


@dataclass(slots=True)
class _Client:
    """What was submitted through one life of one node and is not answered yet."""

    waiting: dict[tuple[int, int, int], bytes] = field(default_factory=dict)


class SimulatedCluster:
    """A cluster of Ledger replicas in virtual time.

    Args:
        seed: fixes everything.
        nodes: number of voters.
        wrap_engine: puts something around each engine: its own invariants, or a mutation.
    """

    def __init__(
        self,
        seed: int,
        *,
        nodes: int = 3,
        engine: str = "raft",
        faults: Faults | None = None,
        wrap_engine: WrapEngine | None = None,
    ) -> None:
        self.world = World(seed)
        self.checker = SafetyChecker()
        self.faults = Faults.swarm(self.world) if faults is None else faults
        self.outcome = Outcome(seed, nodes)
        self.network = VirtualNetwork(self.world, self._deliver)
        self.acknowledged: list[bytes] = []
        self._client = _Client()
        self._barriers: dict[int, int] = {}  # token -> lines acknowledged when it was asked
        self._count = 0
        self._calm = False
        configuration = Configuration.of(range(1, nodes + 1))
        engine_settings = EngineSettings(
            election_timeout_ms=150,
            heartbeat_ms=30,
            append_bytes_max=2_000,
            inflight_bytes_max=8_000,
            inflight_messages_max=8,
            snapshot_chunk_bytes=300,
            log_keep_entries=self.world.draw(20),
            announce_at_once=self.world.chance(0.5),
        )
        replica_settings = ReplicaSettings(
            entry_bytes_max=1_000,
            intake_bytes_max=100_000,
            resend_ms=150,
            digest_interval=16,
            snapshot_bytes_min=self.world.between(500, 20_000),
            snapshot_factor=0.5,
        )

        def build(
            host: Host, store: Store, recovered: Recovered, make_engine: MakeEngine
        ) -> Replica:
            replica = Replica(
                node_id=host.node_id,
                incarnation=store.identity.incarnation,
                engine=make_engine(
                    engine,
                    node_id=host.node_id,
                    configuration=configuration,
                    recovered=recovered,
                    settings=engine_settings,
                    draw=self.world.draw,
                    now_ms=self.world.now_ms,
                ),
                machine=Ledger(),
                settings=replica_settings,
            )
            if recovered.snapshot is not None:
                replica.restore(recovered.snapshot, store.open_snapshot(recovered.snapshot))
            return replica

        settings = HostSettings(SMALL_STORAGE, b"simulated-cluste")
        self.hosts = {
            node: Host(node, self.world, self.checker, settings, build, wrap_engine)
            for node in configuration.voters
        }
        for host in self.hosts.values():
            host.send = self.network.send
            host.on_turn = self._on_turn

    # ---- a run ---------------------------------------------------------------------------------

    def run(self, *, faulty_us: int = 4 * SECOND_US, calm_us: int = 20 * SECOND_US) -> Outcome:
        """Run faults and workload, then calm, then judge.

        Raises:
            InvariantBroken: a property does not hold; the seed reproduces it.
        """
        for host in self.hosts.values():
            host.start()
        self._open_links()
        quality = LinkQuality(
            loss=self.faults.loss,
            duplication=self.faults.duplication,
            delay_probability=self.faults.delay_probability,
            delay_us=self.faults.delay_us,
        )
        self.network.quality = quality
        self._later(self._write)
        self._later(self._read)
        self._later(self._nemesis)
        self.world.run(faulty_us)
        self._mend()
        step_us = SECOND_US // 5
        for _ in range(calm_us // step_us):
            self.world.run(step_us)
            if self._agreed():
                break
        self._judge()
        return self._report()

    def _later(self, action: Callable[[], None], low_us: int = 0, high_us: int = 30_000) -> None:
        self.world.after(self.world.between(low_us, high_us), action)

    def _deliver(self, sender: int, receiver: int, channel: int, payload: bytes) -> None:
        self.hosts[receiver].receive(sender, channel, payload)

    # ---- workload ------------------------------------------------------------------------------

    def _living(self) -> list[Host]:
        return [host for host in self.hosts.values() if host.alive]

    def _pick(self, hosts: list[Host]) -> Host:
        return hosts[self.world.draw(len(hosts))]

    def _write(self) -> None:
        if self._calm:
            return
        for _ in range(self.world.draw(4)):
            living = self._living()
            if not living:
                break
            host = self._pick(living)
            self._count += 1
            line = b"line-%d-" % self._count + b"x" * self.world.draw(120)
            self.outcome.submitted += 1
            self._client.waiting[host.node_id, host.life, host.core.submit(line)] = line
            host.drive()
        self._later(self._write)

    def _read(self) -> None:
        if self._calm:
            return
        living = self._living()
        if living:
            host = self._pick(living)
            self._count += 1
            self._barriers[self._count] = len(self.acknowledged)
            host.core.read_barrier(self._count)
            host.drive()
        self._later(self._read, 0, 60_000)

    def _on_turn(self, host: Host, turn: Turn) -> None:
        if turn.install is not None:
            self.outcome.installs += 1
            self._forget_lost_results(host)
        if turn.fatal is not None:
            raise InvariantBroken(f"node {host.node_id} stopped: {turn.fatal}")
        for number, position in turn.results:
            line = self._client.waiting.pop((host.node_id, host.life, number), None)
            if line is None:
                raise InvariantBroken(f"result for a batch nobody waits for: {number}")
            if host.core.machine.lines[position - 1] != line:
                raise InvariantBroken(f"wrong result: line {position} is not {line!r}")
            self.acknowledged.append(line)
        for token in turn.released:
            assert isinstance(token, int)
            expected = self.acknowledged[: self._barriers.pop(token)]
            missing = set(expected) - set(host.core.machine.lines)
            if missing:
                raise InvariantBroken(f"stale read on node {host.node_id}: lacks {len(missing)}")
            self.outcome.reads += 1

    def _forget_lost_results(self, host: Host) -> None:
        """A snapshot may cover local batches: their outcome stays unknown to the client."""
        settled = host.core.number_settled
        for key in list(self._client.waiting):
            if key[:2] == (host.node_id, host.life) and key[2] <= settled:
                del self._client.waiting[key]

    # ---- faults --------------------------------------------------------------------------------

    def _nemesis(self) -> None:
        if self._calm:
            return
        choice = self.world.draw(5)
        if choice == 0 and self.faults.crash:
            living = self._living()
            if living:
                self._crash(self._pick(living))
        elif choice == 1 and self.faults.partition:
            self._partition()
        elif choice == 2 and self.faults.one_way:
            a, b = self._pick(list(self.hosts.values())), self._pick(list(self.hosts.values()))
            self.network.cut(a.node_id, b.node_id)
        elif choice == 3:
            self.network.heal()
        elif choice == 4 and self.faults.transfer:
            for host in self._living():
                host.core.transfer_leadership()
                host.drive()
        self._later(self._nemesis, 10_000, 400_000)

    def _crash(self, host: Host) -> None:
        host.crash()
        self.outcome.crashes += 1
        node = host.node_id
        if self.faults.hints:
            for other in self._living():
                if not self.network.is_cut(node, other.node_id):
                    self._later(partial(self._hint, other, node, opened=False), 0, 5_000)
        self._later(lambda: self._restart(host), 1_000, 1_500_000)

    def _restart(self, host: Host) -> None:
        if host.alive:
            return
        host.start()
        for other in self._living():
            if other is not host:
                self._hint(other, host.node_id, opened=True)
                self._hint(host, other.node_id, opened=True)

    def _hint(self, host: Host, peer: int, *, opened: bool) -> None:
        if not host.alive:
            return
        if opened:
            host.core.peer_opened(peer)
        else:
            host.core.peer_closed(peer)
        host.drive()

    def _open_links(self) -> None:
        for host in self._living():
            for other in self._living():
                if other is not host:
                    self._hint(host, other.node_id, opened=True)

    def _partition(self) -> None:
        self.outcome.partitions += 1
        nodes = list(self.hosts)
        left = [node for node in nodes if self.world.chance(0.5)]
        self.network.partition(left, [node for node in nodes if node not in left])

    def _mend(self) -> None:
        self._calm = True
        self.network.heal()
        self.network.quality = LinkQuality()
        for host in self.hosts.values():
            if not host.alive:
                self._restart(host)
        self._open_links()

    # ---- judgement -----------------------------------------------------------------------------

    def _waiting_alive(self) -> int:
        lives = {(host.node_id, host.life) for host in self._living()}
        return sum(1 for node, life, _ in self._client.waiting if (node, life) in lives)

    def _agreed(self) -> bool:
        ledgers = [host.core.machine.lines for host in self.hosts.values()]
        same = all(ledger == ledgers[0] for ledger in ledgers)
        return same and self._waiting_alive() == 0 and bool(self.checker.leaders)

    def _judge(self) -> None:
        if not self._agreed():
            picture = "\n".join(
                f"node {host.node_id}: {len(host.core.machine.lines)} lines, "
                f"{host.core.statistics()}"
                for host in self.hosts.values()
            )
            raise InvariantBroken(
                f"no agreement after the faults stopped (seed {self.outcome.seed}, "
                f"{self._waiting_alive()} unanswered):\n{picture}"
            )
        lines = next(iter(self.hosts.values())).core.machine.lines
        if len(set(lines)) != len(lines):
            raise InvariantBroken("a batch was applied twice")
        if len(set(self.acknowledged)) != len(self.acknowledged):
            raise InvariantBroken("a batch was acknowledged twice")
        lost = set(self.acknowledged) - set(lines)
        if lost:
            raise InvariantBroken(f"{len(lost)} acknowledged lines are lost: {sorted(lost)[:3]}")

    def _report(self) -> Outcome:
        outcome = self.outcome
        outcome.acknowledged = len(self.acknowledged)
        outcome.elections = self.checker.elections
        outcome.messages = self.network.sent
        outcome.events = self.world.events
        outcome.digest = next(iter(self.hosts.values())).core.machine.digest()
        return outcome
