"""Tree: whole coordination servers, and clients that speak ZooKeeper's protocol byte by byte.

The servers are the ones that serve users, on virtual disks and clocks; so are the codecs on both
ends of a connection. Clients conflict over few znodes, leave watches, hold ephemerals, fall
asleep, die, and move. Every answer is judged as it comes (``judges/sessions.py``), against an
account of the log that shares no code with the tree (``judges/tree_log.py``).

What clients can do, as scenario files write it, is in ``tree_words.py``.

Invariant: between calm and the end clients do nothing new, but keep their sessions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from quorate.checking.explain import explain
from quorate.checking.history import History, Operation
from quorate.checking.linearizability import check
from quorate.checking.models.catalogue import model_named
from quorate.checking.verdict import Budget
from quorate.consensus.entry import Recovered
from quorate.consensus.membership import Configuration
from quorate.consensus.registry import EngineSettings
from quorate.replication.turn import ReplicaSettings
from quorate.simulation.connections import ClientConnections
from quorate.simulation.ensemble import build_server
from quorate.simulation.host import Host, MakeEngine
from quorate.simulation.judges.model_tree import Facts
from quorate.simulation.judges.sessions import SessionJudge
from quorate.simulation.judges.tree_log import ObservedServer, TreeLog
from quorate.simulation.properties import liveness, safety
from quorate.simulation.scenario import Scenario, Step
from quorate.simulation.sessions import SimulatedSession
from quorate.simulation.workloads.replicas import CATCH_UP_PATIENCE_MS
from quorate.simulation.workloads.tree_history import history_of
from quorate.simulation.workloads.tree_plan import draw_steps
from quorate.simulation.workloads.tree_words import READS, Conduct, parse_step
from quorate.simulation.workloads.workload import Stage
from quorate.simulation.world import Dice
from quorate.storage.store import Store
from quorate.tree.server import CoordinationServer, ServerSettings
from quorate.tree.service_settings import ServiceSettings
from quorate.tree.tree import Tree
from quorate.tree.znode import Znode

CONFIGURATIONS_MAX: Final = 6_000
"""Of the search over one path: most need a few hundred, and hopeless ones half a second."""


class TreeWorkload:
    """Clients of coordination servers.

    Attributes:
        clients: by number.
        log: the account of what happened.
        witness: hears of everything that clients send and are told.
    """

    # ---- the plan ------------------------------------------------------------------------------

    def plan(self, dice: Dice, scenario: Scenario) -> list[Step]:
        """Draw what the clients do."""
        return draw_steps(dice, scenario)

    def check_step(self, step: Step) -> str | None:
        """What is wrong with the words of a step."""
        try:
            parse_step(step.words)
        except ValueError as error:
            return str(error)
        return None

    # ---- the run -------------------------------------------------------------------------------

    def enter(self, stage: Stage) -> None:
        """Get ready."""
        self._world, self._cluster, self._court = stage.world, stage.cluster, stage.court
        scenario = stage.scenario
        self._nodes = scenario.nodes
        self._configuration = Configuration.of(range(1, scenario.nodes + 1))
        self._settings = _settings(scenario)
        self.log = TreeLog()
        self._is_fresh = bool(scenario.settings.fresh_reads)
        self.witness = SessionJudge(self.log, is_fresh=self._is_fresh)
        self._undecided = 0
        self._court.application.on_first = self.log.take
        self._connections = ClientConnections(stage.world, stage.cluster)
        self.clients = {
            number: SimulatedSession(
                number, stage.world, stage.cluster, self._connections, self.witness
            )
            for number in range(1, scenario.clients + 1)
        }

    def build(
        self, host: Host, store: Store, recovered: Recovered, make_engine: MakeEngine
    ) -> CoordinationServer:
        """Make a node's server, with an eye on what it hears."""
        return build_server(
            host,
            store,
            recovered,
            make_engine,
            configuration=self._configuration if host.node_id <= self._nodes else Configuration(()),
            settings=self._settings,
            court=self._court,
            make=partial(ObservedServer, log=self.log),
        )

    def begin(self, step: Step, done: Callable[[], None]) -> None:
        """A client does something."""
        client, does = self.clients[step.client], parse_step(step.words)
        if not isinstance(does, Conduct):
            client.ask(does, done)
        elif does.verb == "sleep":
            client.sleep(does.number, done)
        else:
            if does.verb == "open":
                client.wanted_us = does.number
            elif does.verb == "die":
                client.die()
            else:
                client.move(min(does.number, len(self._cluster.hosts)))
            done()

    def on_turn(self, host: Host, turn: Any) -> None:
        """A node took a turn."""
        self._connections.on_turn(host, turn)

    def on_down(self, host: Host) -> None:
        """A node is down: its clients see their connections close."""
        self._connections.on_down(host)

    # ---- the end -------------------------------------------------------------------------------

    def calm(self) -> None:
        """Nothing to do: clients finish what they began and keep their sessions."""

    def _servers(self) -> list[CoordinationServer]:
        return [host.core for host in self._cluster.members()]

    def _trees(self) -> list[tuple[int, Tree]]:
        return [(server.node_id, server.service.tree) for server in self._servers()]

    def _wanted_sessions(self) -> list[int]:
        return sorted(client.session_id for client in self.clients.values() if client.wants)

    def is_settled(self) -> bool:
        """Whether clients and replicas have come to rest, and dead clients' sessions are over."""
        servers = self._servers()
        return (
            all(client.is_at_rest for client in self.clients.values())
            and sorted(self.log.sessions) == self._wanted_sessions()
            and len({server.replica.applied_index for server in servers}) == 1
            and len({server.service.digest() for server in servers}) == 1
            and any(server.replica.leadership.established for server in servers)
            and not any(server.configuration().is_changing for server in servers)
            and not any(self._lost_watches())
        )

    def _lost_watches(self) -> list[str]:
        lost = []
        for client in self.clients.values():
            watch = self.witness.overdue(client, self.log.model.zxid)
            if watch is not None:
                lost.append(f"{client.describe()}: {watch.kind} of {watch.path.decode()}")
        return lost

    def judge(self) -> None:
        """Judge the whole run."""
        self.clients_come_to_rest()
        for node, tree in self._trees():
            self.ephemerals_live_as_long_as_their_session(node, tree)
            self.replicas_hold_what_the_log_says(node, tree)
        requests = self.witness.requests
        paths = sorted({ask.path for each in requests for ask in (each.ask, *each.ask.parts)})
        last = [
            self._last_read(node, path, tree.znodes.get(path))
            for node, tree in self._trees()
            for path in paths
            if path
        ]
        history = history_of(requests, last, is_fresh=self._is_fresh)
        self.tree_answers_are_linearizable(history)

    def _last_read(self, node: int, path: bytes, znode: Znode | None) -> Operation:
        result: Any = "no-node"
        if znode is not None:
            result = (znode.data.decode() if znode.data is not None else None, znode.version)
        invoked, returned = self.witness.next_position(), self.witness.next_position()
        process = f"last read on node {node}"
        return Operation(process, "get", path.decode(), None, result, invoked, returned)

    def describe(self) -> str:
        """Clients, sessions, and how far everybody is."""
        lines = [client.describe() for client in self.clients.values()]
        lines.append(f"sessions {[f'{each:#x}' for each in self.log.sessions]}")
        for host in self._cluster.hosts.values():
            if host.alive:
                server = host.core
                lines.append(
                    f"node {host.node_id}: zxid {server.service.tree.zxid}, "
                    f"{server.replica.statistics()}"
                )
            else:
                lines.append(f"node {host.node_id} is down: {host.retired or host.stopped}")
        return "\n".join(lines)

    def figures(self) -> dict[str, int]:
        """What was done."""
        requests = self.witness.requests
        return {
            "requests": len(requests),
            "acknowledged": sum(1 for each in requests if each.reply and not each.reply.error),
            "reads": sum(1 for each in requests if each.reply and each.ask.verb in READS),
            "unknown": self.witness.unknown,
            "events": self.witness.events,
            "transactions": self.log.model.zxid,
            "sessions": len(self.log.ended) + len(self.log.sessions),
            "expired": self.log.expired,
            "refused": self.witness.refused,
            "again": self.witness.again,
            "undecided": self._undecided,
        }

    def digest(self) -> int:
        """Digest of the final state."""
        servers = self._servers()
        return servers[0].service.digest() if servers else 0

    # ---- properties ----------------------------------------------------------------------------

    @liveness("Paxos Made Live §5.1; acceptance ZK-7")
    def clients_come_to_rest(self) -> str | None:
        """Once faults stop, clients have sessions, answers and events, and replicas are equal.

        And sessions that nobody keeps are over.
        """
        if self.is_settled():
            return None
        lost = "\n".join(["", *self._lost_watches()])
        return f"not within the bound after the faults stopped\n{self.describe()}{lost}"

    @safety("ZooKeeper §2.2; acceptance ZK-6")
    def ephemerals_live_as_long_as_their_session(self, node: int, tree: Tree) -> str | None:
        """An ephemeral znode is there while its session is, and not after it."""
        sessions = self._wanted_sessions()
        for path, znode in tree.znodes.items():
            if znode.ephemeral_owner > 0 and znode.ephemeral_owner not in sessions:
                owner = f"session {znode.ephemeral_owner:#x}"
                return f"node {node} still has {path.decode()}; {owner} is over"
        for session_id in sessions:
            for path in self.log.model.ephemerals.get(session_id, ()):
                if path not in tree.znodes:
                    return f"node {node} lost {path.decode()}; session {session_id:#x} lives"
        return None

    @safety("Schneider 1990; acceptance ZK-10")
    def replicas_hold_what_the_log_says(self, node: int, tree: Tree) -> str | None:
        """Every replica's tree is what all requests of the log make of an empty one."""
        model = self.log.model
        if tree.zxid != model.zxid or sorted(tree.sessions) != sorted(self.log.sessions):
            return f"node {node} is at zxid {tree.zxid} with other sessions than at {model.zxid}"
        for path in sorted({*tree.znodes, *model.znodes}):
            znode, expected = tree.znodes.get(path), model.facts_at(path, model.zxid)
            if (
                znode is None
                or expected is None
                or _facts(path, znode) != expected._replace(names=tuple(sorted(expected.names)))
            ):
                found = None if znode is None else _facts(path, znode)
                return f"node {node} has {found} at {path.decode()}; it is {expected}"
        return None

    @safety("Herlihy & Wing 1990; acceptance ZK-2")
    def tree_answers_are_linearizable(self, history: History) -> str | None:
        """One order of all writes, and of reads that must be fresh, explains every answer."""
        budget, model = Budget(configurations_max=CONFIGURATIONS_MAX), model_named("znode")
        paths: dict[str, list[Operation]] = {}
        for operation in history.operations:
            paths.setdefault(operation.key, []).append(operation)
        for operations in paths.values():  # apart, so that a hard one takes nothing from others
            verdict = check(History(operations), model, budget=budget)
            if verdict.counterexample is not None:
                return f"no order explains them\n{explain(verdict.counterexample, model)}"
            self._undecided += len(verdict.undecided)
        return None


def _facts(path: bytes, znode: Znode) -> Facts:
    """A znode of the tree under test, as the model describes one."""
    skip = len(path) + (path != b"/")
    children = tuple(sorted(child[skip:] for child in znode.children or ()))
    return Facts(
        znode.data or b"",
        znode.czxid,
        znode.mzxid,
        znode.version,
        znode.cversion,
        znode.ephemeral_owner,
        znode.pzxid,
        children,
    )


def _settings(scenario: Scenario) -> ServerSettings:
    """Small bounds, so that entries, messages and files are cut in many places."""
    settings = scenario.settings
    return ServerSettings(
        engine=EngineSettings(
            election_timeout_ms=settings.election_timeout_ms,
            election_retries=settings.election_retries,
            heartbeat_ms=settings.heartbeat_ms,
            append_bytes_max=settings.append_bytes_max,
            inflight_bytes_max=8_000,
            inflight_messages_max=8,
            snapshot_chunk_bytes=600,
            snapshot_send_bytes_per_second=20_000,
            log_keep_entries=settings.log_keep_entries,
            catch_up_patience_ms=CATCH_UP_PATIENCE_MS,
            announce_at_once=bool(settings.announce_at_once),
            lease_reads=bool(settings.lease_percent),
            clock_drift_percent=settings.lease_percent or 100,
        ),
        replica=ReplicaSettings(
            entry_bytes_max=1_000,
            intake_bytes_max=100_000,
            resend_ms=settings.election_timeout_ms,
            digest_interval=16,
            snapshot_bytes_min=settings.snapshot_bytes_min,
            snapshot_factor=0.5,
        ),
        service=ServiceSettings(
            session_timeout_min_ms=500,
            session_timeout_max_ms=10_000,
            handshake_timeout_ms=2_000,
            batch_bytes_max=1_500,
            fresh_reads=bool(settings.fresh_reads),
        ),
    )
