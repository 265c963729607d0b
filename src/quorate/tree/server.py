"""The coordination server of one node: a Replica and a ClientService, wired together, still pure.

The node process and the simulator drive this one object: bytes of clients and messages of peers
go in, turns come out. It refuses to know sockets, files, threads and clocks.

Each turn: what clients sent becomes one batch for the replica; what the replica committed has been
applied to the service; what the service wants to tell its clients leaves as one write per
connection.

Invariants:
    * what a turn applied reaches clients in the same turn
    * the service hears of a change of leadership before it is asked for writes again
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

from quorate.consensus.change import Change
from quorate.consensus.engine import (
    NO_LEADER,
    Draw,
    Engine,
    EngineStatistics,
    Leadership,
    SnapshotRead,
)
from quorate.consensus.entry import Recovered, SnapshotMeta
from quorate.consensus.membership import Configuration
from quorate.consensus.registry import EngineSettings, create_engine
from quorate.replication.replica import Replica
from quorate.replication.turn import Channel, ReplicaSettings, Turn
from quorate.tree.figures import Goodbye
from quorate.tree.service import ClientService
from quorate.tree.service_settings import ServiceSettings


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Everything a coordination server can be told.

    Attributes:
        engine_name: which consensus engine (``consensus/registry.py``).
    """

    engine_name: str = "raft"
    engine: EngineSettings = field(default_factory=EngineSettings)
    replica: ReplicaSettings = field(default_factory=ReplicaSettings)
    service: ServiceSettings = field(default_factory=ServiceSettings)


@dataclass(slots=True)
class ServerTurn(Turn):
    """A replica's Turn, and what to do for clients.

    Attributes:
        writes: (connection, bytes), at most one per connection.
        closings: connections to close once their writes are flushed.
        pauses: connections to stop reading from.
        resumes: connections to read from again.
        goodbyes: connections that ended, and why; for logs.
    """

    writes: list[tuple[int, bytes]] = field(default_factory=list)
    closings: list[int] = field(default_factory=list)
    pauses: list[int] = field(default_factory=list)
    resumes: list[int] = field(default_factory=list)
    goodbyes: list[Goodbye] = field(default_factory=list)


class CoordinationServer:
    """One node's server, pure.

    Args:
        node_id: this node.
        incarnation: which start of this node (from storage).
        configuration: bootstrap membership.
        recovered: what storage held.
        restore: gives the pieces of the recovered snapshot.
        draw: source of randomness for election timeouts.
        random_bytes: source of session passwords.
        now_ms: monotonic time.
        wall_ms: time since 1970.
        make_engine: builds the engine; the simulator wraps it to judge its effects.
    """

    def __init__(
        self,
        *,
        node_id: int,
        incarnation: int,
        configuration: Configuration,
        recovered: Recovered,
        restore: Callable[[SnapshotMeta], Iterable[bytes]],
        settings: ServerSettings,
        draw: Draw,
        random_bytes: Callable[[int], bytes],
        now_ms: int,
        wall_ms: int,
        make_engine: Callable[..., Engine] = create_engine,
    ) -> None:
        self.node_id = node_id
        self.settings = settings
        self._now_ms = now_ms
        self._notice_due = False
        self._looked_ms: int | None = None
        self.service = ClientService(
            node_id=node_id,
            incarnation=incarnation,
            settings=settings.service,
            random_bytes=random_bytes,
        )
        self.service.set_serving(False, now_ms)
        engine = make_engine(
            settings.engine_name,
            node_id=node_id,
            configuration=configuration,
            recovered=recovered,
            settings=settings.engine,
            draw=draw,
            now_ms=now_ms,
        )
        self.replica = Replica(
            node_id=node_id,
            incarnation=incarnation,
            engine=engine,
            machine=self.service,
            settings=settings.replica,
            new_turn=ServerTurn,
        )
        if recovered.snapshot is not None:
            self.replica.restore(recovered.snapshot, restore(recovered.snapshot))
        self.replica.tick(now_ms, wall_ms)

    # ---- clock ---------------------------------------------------------------------------------

    def tick(self, now_ms: int, wall_ms: int) -> None:
        """Time passed; call every 10 to 20 ms."""
        self._now_ms = now_ms
        self._notice_due = True
        self.replica.tick(now_ms, wall_ms)
        self.service.tick(now_ms)

    def look(self, now_ms: int) -> None:
        """Say what the clock shows right before ``take``, after everything that came in.

        Only leases need it, and they are not held without: a leader that stood still must not
        answer by the time of its last tick.
        """
        self._looked_ms = now_ms

    # ---- clients -------------------------------------------------------------------------------

    def client_opened(self, connection: int, address: str) -> None:
        """Take note of a connection; its number is unique within this process."""
        self.service.client_opened(connection, address, self._now_ms)

    def client_received(self, connection: int, data: bytes) -> None:
        """Take in any chunk of bytes of this connection."""
        self.service.client_received(connection, data, self._now_ms)

    def client_closed(self, connection: int) -> None:
        """Note that the connection is gone."""
        self.service.client_closed(connection)

    def client_congested(self, connection: int, congested: bool) -> None:
        """Note that the transport's output buffer is over or under its bound."""
        self.service.client_congested(connection, congested)

    # ---- peers and disk ------------------------------------------------------------------------

    def peer_opened(self, peer: int) -> None:
        """The link to this peer stands (again)."""
        self.replica.peer_opened(peer)

    def peer_closed(self, peer: int) -> None:
        """The operating system closed the link to this peer."""
        self.replica.peer_closed(peer)

    def peer_received(self, peer: int, channel: int, payload: bytes) -> None:
        """Take in a message of a peer.

        Raises:
            RemoteProtocolError: malformed; close that peer's connection.
        """
        if channel == Channel.NOTICE:
            self.service.receive_notice(peer, payload, self._now_ms)
        else:
            self.replica.peer_received(peer, channel, payload)

    def persisted(self, sequence: int) -> None:
        """Persistence step ``sequence`` and all before it are durable."""
        self.replica.persisted(sequence)

    def ask_for_snapshot(self) -> int:
        """Take a snapshot soon; returns the index that it will have at least."""
        return self.replica.ask_for_snapshot()

    def snapshot_saved(self, meta: SnapshotMeta, size_bytes: int) -> None:
        """The snapshot of ``Turn.save_snapshot`` is durable."""
        self.replica.snapshot_saved(meta, size_bytes)

    def snapshot_read(self, answer: SnapshotRead) -> None:
        """Answer a ``Turn.read_snapshot``."""
        self.replica.snapshot_read(answer)

    def install(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        """Load the snapshot that ``Turn.install`` named."""
        self.replica.install(meta, chunks)

    def announce(self) -> None:
        """Tell the others what is committed; ``Turn.announce_soon`` asked for it."""
        self.replica.announce()

    def transfer_leadership(self, to: int = 0) -> None:
        """Hand leadership to node ``to``, or to the best other voter; when leading."""
        self.replica.transfer_leadership(to)

    def change_membership(self, token: Hashable, change: Change) -> None:
        """Ask for other members; ``Turn.membership`` answers under ``token``, leading or not."""
        self.replica.change_membership(token, change)

    # ---- the way out ---------------------------------------------------------------------------

    def take(self) -> ServerTurn:
        """Decide, and hand out everything to be done since the last call."""
        service, replica = self.service, self.replica
        while (batch := service.take_batch()) is not None:
            replica.submit(batch)
        for token in service.take_barriers():
            replica.read_barrier(token)
        if self._looked_ms is not None:
            if self.settings.engine.lease_reads:
                replica.look(self._looked_ms)
            self._looked_ms = None  # of no use for what comes in later
        turn = replica.take()
        assert isinstance(turn, ServerTurn)
        for released in turn.released:
            assert isinstance(released, int)
            service.barrier_released(released)
        if turn.leadership is not None:
            self._on_leadership(turn.leadership)
        elif turn.configuration is not None:
            service.set_serving(self.is_serving(), self._now_ms)
        if self._notice_due:
            self._notify_leader(turn)
        if service.has_output:
            turn.writes = service.take_writes()
            turn.closings = service.take_closings()
            turn.pauses = service.take_pauses()
            turn.resumes = service.take_resumes()
            turn.goodbyes = service.take_goodbyes()
        turn.again |= service.wants_turn  # asked last: giving answers admits held requests
        return turn

    def is_quiet(self) -> bool:
        """Whether ``take`` would hand out nothing, so that it may be skipped."""
        return not self.service.wants_turn and self.replica.is_quiet()

    def _notify_leader(self, turn: ServerTurn) -> None:
        """Tell the leader which sessions were heard from; at most once a tick."""
        self._notice_due = False
        leader = self.replica.leadership.leader
        if leader not in (NO_LEADER, self.node_id):
            notice = self.service.take_notice(self._now_ms)
            if notice is not None:
                turn.sends.append((leader, Channel.NOTICE, notice))

    def _on_leadership(self, leadership: Leadership) -> None:
        self.service.set_leading(leadership.established, self._now_ms, leadership.epoch)
        self.service.set_serving(self.is_serving(), self._now_ms)

    # ---- looking in ----------------------------------------------------------------------------

    def is_serving(self) -> bool:
        """Whether clients are served here: this node belongs, keeps data, and writes get through.

        They do when a leader is known (on the leader: established). A node that was removed, or
        is not a member yet, hears nothing of what is decided.
        """
        role = self.configuration().role(self.node_id)
        if role in ("none", "witness"):
            return False
        leadership = self.replica.leadership
        if leadership.leader == self.node_id:
            return leadership.established
        return leadership.leader != NO_LEADER

    def why_not_serving(self) -> str:
        """What clients wait for here, in words; empty when they are served."""
        if self.is_serving():
            return ""
        leadership = self.replica.leadership
        if leadership.leader == self.node_id:
            return (
                f"elected in epoch {leadership.epoch}, but not all earlier entries are committed "
                "yet, or leadership is being handed over"
            )
        role = self.configuration().role(self.node_id)
        if role == "witness":
            return "this node is a witness: it votes, and has no data to serve"
        if role == "none":
            return "this node is no member of its cluster, as far as it knows"
        engine = self.replica.engine.statistics()
        if engine.role == "repairing":
            return "the disk lost something: this node serves when the others have brought it back"
        return f"no leader is known in epoch {engine.epoch}; this node is a {engine.role}"

    def configuration(self) -> Configuration:
        """Who belongs now, with addresses; ``Turn.configuration`` tells of every change."""
        return self.replica.engine.configuration()

    def mode(self) -> str:
        """ZooKeeper's word for the role: leader, follower or standalone."""
        if len(self.replica.engine.configuration().members) == 1:
            return "standalone"
        return "leader" if self.replica.leadership.leader == self.node_id else "follower"

    @staticmethod
    def _membership(engine: EngineStatistics, configuration: Configuration) -> dict[str, Any]:
        """Who belongs, and how far a change has come."""
        membership = engine.membership
        voting = {*configuration.voters, *configuration.outgoing}
        return {
            "standing": membership.standing,
            "learners": [node for node in configuration.members if node not in voting],
            "witnesses": list(configuration.witnesses),
            "outgoing": list(configuration.outgoing),
            "next_voters": list(configuration.next_voters),
            "configuration_index": membership.index,
            "configuration_committed": membership.is_committed,
            "change_under_way": membership.under_way,
            "change_failed": membership.last_failure,
            "catching_up": [catching_up._asdict() for catching_up in membership.catching_up],
            "priorities": {str(node): rank for node, rank in configuration.priorities},
            "addresses": {str(node): address for node, address in configuration.addresses},
        }

    def health(self) -> dict[str, Any]:
        """Leadership, members and what may still fail; cheap, and part of ``status``."""
        engine = self.replica.engine.statistics()
        configuration = self.replica.engine.configuration()
        active = [peer.node_id for peer in engine.peers if peer.is_active]
        voters = configuration.voters
        alive = {self.node_id, *active}
        halves = [half for half in (voters, configuration.outgoing) if half]
        leads = self.replica.leadership.established
        behind = engine.commit_heard - self.replica.applied_index
        return {
            "node_id": self.node_id,
            "mode": self.mode(),
            "role": engine.role,
            "serving": self.is_serving(),
            "why_not_serving": self.why_not_serving(),
            "engine": engine.engine,
            "epoch": engine.epoch,
            "leader": engine.leader,
            "behind_entries": max(0, behind),
            "voters": list(voters),
            **self._membership(engine, configuration),
            "failures_tolerated": min(_spare(half, alive) for half in halves) if leads else None,
            "failures_tolerated_when_whole": min(
                ((len(half) - 1) // 2 for half in halves), default=0
            ),
            "members": [
                {
                    "node_id": peer.node_id,
                    "match_index": peer.match_index,
                    "lag_entries": max(0, engine.last_index - peer.match_index),
                    "active": peer.is_active,
                    "state": peer.state,
                }
                for peer in engine.peers
            ],
        }

    def status(self) -> dict[str, Any]:
        """Everything a status page shows, ready for JSON."""
        replica = self.replica.statistics()
        engine = replica.engine
        return {
            **self.health(),
            "commit_index": engine.commit_index,
            "applied_index": replica.applied_index,
            "first_index": engine.first_index,
            "last_index": engine.last_index,
            "durable_index": engine.durable_index,
            "zxid": self.service.tree.zxid,
            "pending_bytes": replica.bytes_pending,
            "digest_agreed_index": replica.digest_agreed_index,
            "batches_submitted": replica.batches_submitted,
            "batches_applied": replica.batches_applied,
            "batches_pending": replica.batches_pending,
            "batches_dropped": replica.intake_dropped,
            "batches_repeated": replica.duplicates_refused,
            "bytes_applied": replica.bytes_applied,
            "leader_changes": replica.leader_changes,
            "role_changes": [
                {"role": role, "cause": cause, "count": count}
                for (role, cause), count in sorted(engine.role_changes.items())
            ],
            "snapshot_running": replica.snapshot_running,
            "snapshots_saved": replica.snapshots_saved,
            "snapshots_installed": replica.snapshots_installed,
            "snapshot_last_bytes": replica.snapshot_last_bytes,
            "snapshot_threshold_bytes": replica.snapshot_threshold_bytes,
            "log_bytes_since_snapshot": replica.log_bytes_since_snapshot,
            "ignored": dict(sorted(engine.ignored.items())),
            "connections_closed": dict(sorted(self.service.closed.items())),
            **self.service.statistics()._asdict(),
        }


def _spare(half: tuple[int, ...], alive: set[int]) -> int:
    """How many of the living voters of one half may still fail."""
    living = sum(1 for node in half if node in alive)
    return max(0, living - (len(half) // 2 + 1))
