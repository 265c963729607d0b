"""Mutants of sessions, watches and order: what ZooKeeper promises one client.

Only coordination servers have clients with sessions, so these are hunted in runs of that workload.

Not among them: a node that serves clients which have seen more than it has. Here that is no rule
of its own: a client is attached by an entry of the log, so the node that applied the attachment
has applied all that the client saw before. Refusing it at the door only spares it the wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from quorate.protocol.connection import Piece
from quorate.replication.state_machine import ApplyContext
from quorate.simulation.mutants.mutant import Group, Patches
from quorate.tree import requests, tree, writes
from quorate.tree.batch import Expire, Run
from quorate.tree.client import Client
from quorate.tree.client_desk import ClientDesk
from quorate.tree.service import ClientService
from quorate.tree.session_keeper import SessionKeeper
from quorate.tree.sessions import Session
from quorate.tree.snapshot import Capture
from quorate.tree.state import State, Transaction
from quorate.tree.tree import Tree
from quorate.tree.watches import ClientWatches
from quorate.tree.watching import DeferredWatches
from quorate.tree.znode import Znode

GROUP = Group("sessions", workload="tree")
_EVENT_XID = b"\xff\xff\xff\xff"


# ---- how sessions end ----------------------------------------------------------------------------


@GROUP.mutant("ZooKeeper §2.2; Schneider 1990")
def expires_by_the_local_clock(patches: Patches) -> None:
    """A session ends when the log says so, on all replicas at the same place."""

    def proposals(self: SessionKeeper, where: Tree, now_ms: int) -> Iterator[Run]:
        for run in original(self, where, now_ms):
            if isinstance(run, Expire):
                for held in run.sessions:
                    where.expire_session(held.session_id, now_ms)
            else:
                yield run

    original = patches.put(SessionKeeper, "proposals", proposals)


@GROUP.mutant("ZooKeeper §2.2")
def hears_only_its_own_clients(patches: Patches) -> None:
    """A leader takes a session for silent only if no node heard of it."""
    patches.put(SessionKeeper, "receive_notice", lambda *_: None)


@GROUP.mutant("ZooKeeper §2.2; a lease starts anew under a new leader")
def keeps_old_deadlines_when_it_leads(patches: Patches) -> None:
    """A new leader knows of no silence yet: every session gets a full timeout."""

    def lead(self: SessionKeeper, where: Tree, now_ms: int, epoch: int) -> None:
        original(self, where, now_ms, epoch)
        for session_id, session in where.sessions.items():
            self._clock.forget(session_id)
            self._clock.watch(session_id, max(1, session.timeout_ms // 4), self._listened_ms)

    original = patches.put(SessionKeeper, "lead", lead)


@GROUP.mutant("ZooKeeper §2.2")
def leaves_ephemerals_behind(patches: Patches) -> None:
    """A session's ephemeral znodes go in the transaction that ends it."""

    def end_session(state: State, _txn: Transaction, session: Session) -> None:
        state.digest_notes.forget_session(session)
        del state.sessions[session.session_id]

    patches.put(tree, "end_session", end_session)
    patches.put(requests, "end_session", end_session)


@GROUP.mutant("ZooKeeper §2.2")
def serves_clients_of_ended_sessions(patches: Patches) -> None:
    """Whoever speaks for a session that is over, or elsewhere, is let go."""
    patches.put(ClientDesk, "_close_attachment", lambda *_: None)


@GROUP.mutant("ZooKeeper: session moved")
def obeys_former_connections(patches: Patches) -> None:
    """Once a session has moved, what its former connection still sends changes nothing."""

    def apply_frames(
        self: Tree, session_id: int, owner: Any, frames: bytes, time_ms: int, out: Any
    ) -> None:
        session = self.sessions.get(session_id)
        original(self, session_id, session.owner if session else owner, frames, time_ms, out)

    original = patches.put(Tree, "apply_frames", apply_frames)


# ---- order ---------------------------------------------------------------------------------------


@GROUP.mutant("ZooKeeper: FIFO client order")
def answers_reads_ahead_of_writes(patches: Patches) -> None:
    """A client's requests are answered in their order; a read sees the writes before it."""
    patches.put(Client, "is_idle", property(lambda _: True))


@GROUP.mutant("ZooKeeper: sync; dissertation §6.4")
def syncs_without_a_quorum(patches: Patches) -> None:
    """After a sync a client sees every write that was done before it."""

    def take_barriers(self: ClientDesk) -> list[int]:
        for token in original(self):
            self.barrier_released(token)
        return []

    original = patches.put(ClientDesk, "take_barriers", take_barriers)


@GROUP.mutant("ZooKeeper: sequential znodes")
def gives_sequence_numbers_again(patches: Patches) -> None:
    """The number of a sequential znode is never given twice below one parent."""

    def remove(state: State, txn: Transaction, path: bytes, znode: Znode) -> None:
        original(state, txn, path, znode)
        state.znodes[path[: path.rfind(b"/")] or b"/"].sequence -= 1

    original = patches.put(writes, "remove", remove)


@GROUP.mutant("ZooKeeper: multi")
def tells_of_multis_that_failed(patches: Patches) -> None:
    """A multi that was refused has changed nothing, and fires no watch."""

    def fire(self: Any, table: Any, event: int, path: bytes, zxid: int, acl: Any) -> None:
        self._watches.fire(table, event, path, zxid, acl)

    patches.put(DeferredWatches, "fire", fire)


@GROUP.mutant("dissertation §5.1")
def lets_later_writes_into_a_tree_snapshot(patches: Patches) -> None:
    """A snapshot shows the tree at one transaction, however long it takes to write."""
    patches.put(Capture, "keep_znode", lambda *_: None)


@GROUP.mutant("Schneider 1990")
def stamps_znodes_with_its_own_clock(patches: Patches) -> None:
    """Times in the tree are the log's, so that they are the same on every replica."""

    def apply(self: ClientService, payload: bytes, context: ApplyContext) -> None:
        known, context.time_ms = context.time_ms, self.now_ms
        try:
            original(self, payload, context)
        finally:
            context.time_ms = known

    original = patches.put(ClientService, "apply", apply)


# ---- watches -------------------------------------------------------------------------------------


@GROUP.mutant("ZooKeeper: a watch fires before the change is seen")
def tells_events_behind_replies(patches: Patches) -> None:
    """A client hears of a change before it is shown it."""

    def take_writes(self: ClientDesk) -> list[tuple[int, bytes]]:
        for client in self._dirty:
            client.out.sort(key=_is_event)
        written: list[tuple[int, bytes]] = original(self)
        return written

    original = patches.put(ClientDesk, "take_writes", take_writes)


def _is_event(frame: bytes) -> bool:
    return frame[4:8] == _EVENT_XID


@GROUP.mutant("ZooKeeper: watches")
def loses_events(patches: Patches) -> None:
    """Every change of a watched znode is told, once."""

    def fire(self: ClientWatches, table: Any, event: int, path: bytes, zxid: int, acl: Any) -> None:
        if zxid % 3:
            original(self, table, event, path, zxid, acl)
        else:
            self._take(table, path, in_data=table is self.data)

    original = patches.put(ClientWatches, "fire", fire)


@GROUP.mutant("ZooKeeper: setWatches")
def tells_returning_clients_nothing(patches: Patches) -> None:
    """A client that returns is told what its watches missed."""
    patches.put(Tree, "needs_data_event", lambda *_: 0)
    patches.put(Tree, "needs_children_event", lambda *_: 0)
    patches.put(Tree, "needs_exists_event", lambda *_: 0)


@GROUP.mutant("ZooKeeper's THROTTLEDOP: not executed at all", ("disk", "crash"))
def submits_what_it_refuses(patches: Patches) -> None:
    """A write that is refused because the disk is full is not in the log."""

    def submit(self: ClientDesk, client: Client, kind: Piece, frames: bytes) -> bool:
        is_full, self._is_full = self._is_full, False
        is_taken: bool = original(self, client, kind, frames)
        self._is_full = is_full
        return is_taken and not (is_full and kind is Piece.WRITES)

    original = patches.put(ClientDesk, "submit", submit)
