"""Clients of bare replicas: commands go in at any node, answers come out there.

What a workload over ``Replica`` shares, whatever its state machine: clients that ask one thing
after the other, move to another node when theirs is down or silent, and never learn what became of
some requests. It keeps the history that a linearizability checker wants.

Invariants of a client, which are those of a user who does nothing clever:
    * a request is sent once; when no answer comes in time its outcome is *unknown*, and the client
      goes on under a new process id
    * an answer that comes too late changes nothing
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

from quorate.checking.history import UNKNOWN_RETURN, History, Operation
from quorate.consensus.entry import Recovered
from quorate.consensus.membership import Configuration
from quorate.consensus.registry import EngineSettings
from quorate.replication.replica import Replica
from quorate.replication.state_machine import StateMachine
from quorate.replication.turn import ReplicaSettings, Turn
from quorate.simulation.host import Host, MakeEngine
from quorate.simulation.properties import liveness, safety
from quorate.simulation.scenario import Scenario, Step
from quorate.simulation.workloads.workload import Stage
from quorate.simulation.world import Dice
from quorate.storage.store import Store

PATIENCE_US = 4_000_000
MOVE_US = 20_000
CATCH_UP_PATIENCE_MS = 4_000
Ticket = tuple[int, int, int]
"""(node, life, batch number) of something submitted."""


class Call:
    """One request of one client, until its outcome is known or given up.

    Attributes:
        client: whose.
        words: what was asked.
        node: where.
        life: of the node.
        floor: how many commands were known to some client to have taken effect when it began.
        invoked: position in the history.
        identity: number of the request, unique in the run.
        done: what the client does next.
        is_over: answered, or given up.
    """

    __slots__ = (
        "client", "done", "floor", "identity", "invoked", "invoked_us", "is_over", "life", "node",
        "words",
    )  # fmt: skip

    def __init__(
        self, client: Client, words: tuple[str, ...], host: Host, done: Callable[[], None]
    ) -> None:
        self.client = client
        self.words = words
        self.node = host.node_id
        self.life = host.life
        self.done = done
        self.floor = self.invoked = self.invoked_us = self.identity = 0
        self.is_over = False


class Client:
    """One client: where it is, and as which process it is known."""

    __slots__ = ("node", "number", "process", "seen")

    def __init__(self, number: int, node: int) -> None:
        self.number = number
        self.process = number
        self.node = node
        self.seen = (0, 0, 0)  # (node, life, position) of its newest answer


class ReplicaWorkload:
    """Base of workloads over bare replicas."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.acknowledged: list[int] = []
        self._waiting: dict[Ticket, Call] = {}
        self._barriers: dict[int, Call] = {}
        self._positions = 0
        self._requests = 0
        self._newest = 0  # most commands that any client knows to have taken effect
        self._reads = self._unknown = self._installs = 0

    # ---- what a state machine adds -------------------------------------------------------------

    @abstractmethod
    def machine(self) -> StateMachine:
        """Make a state machine, empty."""

    @abstractmethod
    def encode(self, identity: int, words: tuple[str, ...]) -> bytes | None:
        """The command for these words; None when they only read."""

    @abstractmethod
    def read(self, machine: Any, words: tuple[str, ...]) -> Any:
        """Answer a read from the state."""

    @abstractmethod
    def is_local(self, words: tuple[str, ...]) -> bool:
        """Whether the read is answered without asking anybody: perhaps old."""

    @abstractmethod
    def position(self, machine: Any) -> int:
        """How many commands the state holds."""

    @abstractmethod
    def operation(self, call: Call, result: Any, returned: int) -> Operation | None:
        """The line of the history for a call; None when it belongs into none."""

    # ---- the run -------------------------------------------------------------------------------

    def enter(self, stage: Stage) -> None:
        """Get ready."""
        self._stage = stage
        self._world, self._cluster, self._court = stage.world, stage.cluster, stage.court
        scenario, settings = stage.scenario, stage.scenario.settings
        self._dice = stage.world.dice("clients")
        self._nodes = scenario.nodes
        self._configuration = Configuration.of(range(1, scenario.nodes + 1))
        self._clients = [
            Client(number, number % scenario.nodes + 1) for number in range(scenario.clients + 1)
        ]
        self._engine_settings = EngineSettings(
            election_timeout_ms=settings.election_timeout_ms,
            election_retries=settings.election_retries,
            heartbeat_ms=settings.heartbeat_ms,
            append_bytes_max=settings.append_bytes_max,
            inflight_bytes_max=8_000,
            inflight_messages_max=8,
            snapshot_chunk_bytes=200,
            snapshot_send_bytes_per_second=10_000,
            log_keep_entries=settings.log_keep_entries,
            catch_up_patience_ms=CATCH_UP_PATIENCE_MS,
            announce_at_once=bool(settings.announce_at_once),
            lease_reads=bool(settings.lease_percent),
            clock_drift_percent=settings.lease_percent or 100,
        )
        self._replica_settings = ReplicaSettings(
            entry_bytes_max=1_000,
            intake_bytes_max=100_000,
            resend_ms=settings.election_timeout_ms,
            digest_interval=16,
            snapshot_bytes_min=settings.snapshot_bytes_min,
            snapshot_factor=0.5,
        )

    def build(
        self, host: Host, store: Store, recovered: Recovered, make_engine: MakeEngine
    ) -> Replica:
        """Make a node's replica."""
        replica = Replica(
            node_id=host.node_id,
            incarnation=store.identity.incarnation,
            engine=make_engine(
                "raft",
                node_id=host.node_id,
                configuration=self._bootstrap(host.node_id),
                recovered=recovered,
                settings=self._engine_settings,
                draw=host.dice.draw,
                now_ms=host.clock.now_ms(),
            ),
            machine=self._court.application.observe(host.node_id, self.machine()),
            settings=self._replica_settings,
        )
        if recovered.snapshot is not None:
            replica.restore(recovered.snapshot, store.open_snapshot(recovered.snapshot))
        return replica

    def _bootstrap(self, node: int) -> Configuration:
        """What a node is told at its first start: a spare knows of no configuration."""
        return self._configuration if node <= self._nodes else Configuration(())

    # ---- clients -------------------------------------------------------------------------------

    def begin(self, step: Step, done: Callable[[], None]) -> None:
        """A client asks for something."""
        client = self._clients[step.client]
        host = self._cluster.hosts[client.node]
        if not host.alive:
            client.node = client.node % len(self._cluster.hosts) + 1
            self._world.after(MOVE_US, partial(self._begin_elsewhere, step, done))
            return
        call = Call(client, step.words, host, done)
        self._requests += 1
        call.identity = self._requests
        self._positions += 1
        call.invoked, call.invoked_us = self._positions, self._world.now_us
        call.floor = self._newest
        host.call(partial(self._ask, call))
        if not call.is_over:
            self._world.after(PATIENCE_US, partial(self._give_up, call))

    def _begin_elsewhere(self, step: Step, done: Callable[[], None]) -> None:
        if self._cluster.living():
            self.begin(step, done)
        else:
            done()  # nobody to ask: the client leaves it

    def _ask(self, call: Call, core: Any) -> None:
        if call.is_over:  # given up while its node stood still
            return
        command = self.encode(call.identity, call.words)
        if command is not None:
            self._waiting[call.node, call.life, core.submit(command)] = call
        elif self.is_local(call.words):
            self._answer_read(call, core)
        else:
            self._barriers[call.identity] = call
            core.read_barrier(call.identity)

    def _answer_read(self, call: Call, core: Any) -> None:
        machine = core.machine.inner
        position = self.position(machine)
        local = (call.node, call.life, position)
        self.sessions_never_go_back(call.client, local)
        call.client.seen = local
        if not self.is_local(call.words):
            self.reads_are_never_stale(call, position)
            self._newest = max(self._newest, position)
        self._reads += 1
        self._finish(call, self.read(machine, call.words))

    def _give_up(self, call: Call) -> None:
        if call.is_over:
            return
        client = call.client
        client.node = client.node % len(self._cluster.hosts) + 1
        self._lose(call)

    def _lose(self, call: Call) -> None:
        """Nobody will ever say what became of it."""
        if call.is_over:
            return
        call.is_over = True
        self._unknown += 1
        self._record(call, None, UNKNOWN_RETURN)
        call.client.process += 1000
        call.done()

    def _finish(self, call: Call, result: Any) -> None:
        call.is_over = True
        self._positions += 1
        self._record(call, result, self._positions)
        call.done()

    def _record(self, call: Call, result: Any, returned: int) -> None:
        operation = self.operation(call, result, returned)
        if operation is not None:
            self.operations.append(
                operation._replace(
                    invoked_ns=call.invoked_us * 1000, returned_ns=self._world.now_us * 1000
                )
            )

    # ---- answers -------------------------------------------------------------------------------

    def on_turn(self, host: Host, turn: Turn) -> None:
        """Results come out of a node."""
        if turn.install is not None:
            self._installs += 1
            self._forget_results(host)
        if turn.results:
            core = host.core
            for number, result in turn.results:
                call = self._waiting.pop((host.node_id, host.life, number), None)
                self.results_go_to_who_asked(host.node_id, number, call is not None)
                assert call is not None
                self.acknowledged.append(call.identity)
                position = self.position(core.machine.inner)
                self._newest = max(self._newest, position)
                if not call.is_over:
                    call.client.seen = (call.node, call.life, position)
                    self._finish(call, result)
        for token in turn.released:
            assert isinstance(token, int)
            call = self._barriers.pop(token, None)
            if call is not None and not call.is_over:
                self._answer_read(call, host.core)

    def _forget_results(self, host: Host) -> None:
        """A snapshot may cover local batches: what became of them stays unknown."""
        settled = host.core.number_settled
        for ticket in list(self._waiting):
            if ticket[:2] == (host.node_id, host.life) and ticket[2] <= settled:
                self._lose(self._waiting.pop(ticket))

    def on_down(self, host: Host) -> None:
        """The connections of its clients close: whatever they wait for stays unknown."""
        for ticket in [t for t in self._waiting if t[:2] == (host.node_id, host.life)]:
            call = self._waiting.pop(ticket)
            self._world.after(MOVE_US, partial(self._lose, call))
        for identity, call in list(self._barriers.items()):
            if (call.node, call.life) == (host.node_id, host.life):
                del self._barriers[identity]
                self._world.after(MOVE_US, partial(self._lose, call))

    # ---- the end -------------------------------------------------------------------------------

    def calm(self) -> None:
        """Nothing to do: clients finish what they began."""

    def _cores(self) -> list[Any]:
        return [host.core for host in self._cluster.members()]

    def is_settled(self) -> bool:
        """Whether somebody leads, all replicas are equal, and nothing is unanswered."""
        cores = self._cores()
        ids = {core.node_id for core in cores}
        leading = [core for core in cores if core.leadership.established]
        return (
            len(leading) == 1
            and {core.applied_index for core in cores}
            == {leading[0].statistics().engine.last_index}
            and len({core.machine.digest() for core in cores}) == 1
            and not leading[0].engine.configuration().is_changing
            and not any(ticket[0] in ids for ticket in self._waiting)
            and not any(call.node in ids for call in self._barriers.values())
        )

    def judge(self) -> None:
        """Judge the whole run."""
        self.replicas_come_to_agree()
        for core in self._cores():
            ids = self.identities(core.machine.inner)
            self.nothing_acknowledged_is_lost(ids)
            self.nothing_happens_twice(ids)
        self.judge_history(History(sorted(self.operations, key=lambda done: done.invoked)))

    @abstractmethod
    def identities(self, machine: Any) -> list[int]:
        """Identities of all commands that took effect, in order."""

    @abstractmethod
    def judge_history(self, history: History) -> None:
        """Judge what clients saw."""

    def describe(self) -> str:
        """Who leads, and how far everybody is."""
        lines = [f"{len(self._waiting)} commands and {len(self._barriers)} reads unanswered"]
        for host in self._cluster.hosts.values():
            if host.alive:
                lines.append(f"node {host.node_id}: {host.core.statistics()}")
            else:
                lines.append(f"node {host.node_id} is down: {host.retired or host.stopped}")
        return "\n".join(lines)

    def figures(self) -> dict[str, int]:
        """What was done."""
        return {
            "requests": self._requests,
            "acknowledged": len(self.acknowledged),
            "reads": self._reads,
            "unknown": self._unknown,
            "installs": self._installs,
        }

    def digest(self) -> int:
        """Digest of the final state."""
        digest: int = self._cores()[0].machine.digest()
        return digest

    # ---- properties ----------------------------------------------------------------------------

    @safety("Schneider 1990")
    def results_go_to_who_asked(self, node: int, number: int, is_known: bool) -> str | None:
        """Each result answers a request that is waiting for it, once."""
        return None if is_known else f"node {node} answers batch {number}, which nobody awaits"

    @safety("ZooKeeper §2.3; dissertation §6.4")
    def sessions_never_go_back(self, client: Client, now: tuple[int, int, int]) -> str | None:
        """What a client reads at a node is never older than what it saw there before."""
        if client.seen[:2] == now[:2] and now[2] < client.seen[2]:
            return (
                f"client {client.number} is at {now[2]} on node {now[0]}, it saw {client.seen[2]}"
            )
        return None

    @safety("dissertation §6.4")
    def reads_are_never_stale(self, call: Call, position: int) -> str | None:
        """A linearizable read sees all that any client knew to be done when it was asked."""
        if position >= call.floor:
            return None
        return (
            f"client {call.client.number} reads {' '.join(call.words)} at node {call.node} after "
            f"{position} commands; {call.floor} were known"
        )

    @liveness("Paxos Made Live §5.1")
    def replicas_come_to_agree(self) -> str | None:
        """Once faults stop, all replicas become equal and every request is answered."""
        if self.is_settled():
            return None
        return f"not within the bound after the faults stopped\n{self.describe()}"

    @safety("durability")
    def nothing_acknowledged_is_lost(self, ids: list[int]) -> str | None:
        """Every command that was acknowledged is in the final state."""
        lost = sorted(set(self.acknowledged) - set(ids))
        return f"{len(lost)} acknowledged commands are gone: {lost[:5]}" if lost else None

    @safety("dissertation §6.3")
    def nothing_happens_twice(self, ids: list[int]) -> str | None:
        """No command takes effect twice, however often it was sent."""
        if len(set(ids)) == len(ids):
            return None
        twice = sorted({identity for identity in ids if ids.count(identity) > 1})
        return f"commands {twice[:5]} took effect twice"


def bursts(dice: Dice, scenario: Scenario, words: Callable[[Dice], tuple[str, ...]]) -> list[Step]:
    """Draw steps: each client in bursts, with pauses between them, at a drawn pace."""
    steps: list[Step] = []
    pace_us = dice.pick((150_000, 300_000, 600_000))
    for client in range(1, scenario.clients + 1):
        at_us = dice.between(0, pace_us)
        while at_us < scenario.duration_us:
            steps += [Step(at_us, client, words(dice)) for _ in range(1 + dice.draw(4))]
            at_us += dice.between(1, 4 * pace_us)
    return sorted(steps)
