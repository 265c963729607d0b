"""The client service: the machine that batches apply to, and the front end of its clients.

One pure object, so that the node process and the simulator drive the same code. Chunks of clients
come in; what needs the log leaves as one payload a turn; when it comes back committed it is applied
and every client gets one write. It refuses to know sockets, clocks, disks, peers and who leads
(it is told whether this node does).

    client_received -> ClientDesk -> take_batch -> (log) -> apply -> Tree -> replies -> take_writes

Invariants:
    * state that replicas share is in ``tree`` and changes in ``apply`` and ``restore`` only, from
      nothing but payload and context; everything else here is this node's own
    * the requests a client has pending are answered in order; a read sees exactly the writes sent
      before it, because the reads behind a run are answered before the next run is applied
    * a session speaks through one attachment; when it moves or ends, ours is closed
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from quorate.errors import InvariantBroken
from quorate.protocol.connection import Piece
from quorate.protocol.four_letter import ServerInfo, ServiceStatistics
from quorate.protocol.zookeeper import ErrorCode, Xid
from quorate.replication.state_machine import ApplyContext
from quorate.tree.batch import (
    FRAMES,
    FRAMES_HEAD,
    AddIdentities,
    Attach,
    Expire,
    Open,
    Reap,
    Run,
    read_run,
)
from quorate.tree.client_desk import ClientDesk
from quorate.tree.service_settings import ServiceSettings
from quorate.tree.sessions import Owner

__all__ = ["ClientService", "ServerInfo", "ServiceSettings", "ServiceStatistics"]

_FRAMES_HEAD_BYTES: Final = FRAMES_HEAD.size
_CLOSE: Final = Piece.CLOSE  # slow to look up on its enum in Python 3.11


class ClientService(ClientDesk):
    """Serves ZooKeeper clients of one node; a ``StateMachine``.

    Args:
        node_id: this node.
        incarnation: which start of it; with a connection's number it names an attachment.
        settings: bounds and timeouts.
        random_bytes: gives that many unguessable bytes; for session passwords.
        watches: of this node's clients; made when not given.
        tree: made when not given; its watches must be ``watches``.
    """

    # ---- time and leadership -------------------------------------------------------------------

    def tick(self, now_ms: int) -> None:
        """Time passed: handshakes that never came, sessions that fell silent."""
        self.now_ms = now_ms
        due = self._handshake_due_ms
        while due:
            connection = next(iter(due))
            if due[connection] > now_ms:
                break
            self._close(self._clients[connection], "no handshake in time")
        self._keeper.listen(now_ms)
        if not self._is_full:  # else they would only pile up
            for run in self._keeper.proposals(self.tree, now_ms):
                self._submit_run(run)
        if self._unserved_since_ms is not None:
            self._let_clients_go()

    def set_leading(self, leading: bool, now_ms: int, epoch: int = 0) -> None:
        """This node leads (established) or does not; a new leader knows of no silence yet."""
        self.now_ms = now_ms
        if leading:
            if not self._keeper.is_leading or self._keeper.epoch != epoch:
                self._keeper.lead(self.tree, now_ms, epoch)
        else:
            self._keeper.follow()

    def take_notice(self, now_ms: int) -> bytes | None:
        """What to tell the leader about our clients' sessions, when it is time."""
        return self._keeper.take_notice(now_ms)

    def receive_notice(self, node: int, data: bytes, now_ms: int) -> None:  # noqa: ARG002
        """A follower's notice.

        Raises:
            RemoteProtocolError: malformed; close that peer's link. Nothing happened.
        """
        self._keeper.receive_notice(data)

    # ---- StateMachine --------------------------------------------------------------------------

    def apply(self, payload: bytes, context: ApplyContext) -> None:
        """Apply a committed batch: state on every node, replies where its clients are.

        Raises:
            RemoteProtocolError: the payload is no batch, which only a bug can commit.
        """
        self._keeper.log_time(context.time_ms)
        position, end = 0, len(payload)
        while position < end:
            if payload[position] == FRAMES:
                _, session_id, number, length = FRAMES_HEAD.unpack_from(payload, position)
                start = position + _FRAMES_HEAD_BYTES
                position = start + length
                frames = payload[start:position]
                self._apply_frames(session_id, number, frames, context)
            else:
                run, position = read_run(payload, position)
                self._apply_run(run, context)
        self.tree.fold_changes()

    def snapshot(self) -> Iterator[bytes]:
        """Begin a snapshot of the tree. Watches and connections are no part of it."""
        return self.tree.snapshot()

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the tree. Clients are let go: they missed events and perhaps replies.

        Raises:
            CorruptData: the bytes are no whole snapshot; the tree is undefined.
        """
        self.close_all()
        self._in_log_bytes = self._in_log_runs = 0
        self.tree.restore(chunks)
        if self._keeper.is_leading:
            self._keeper.lead(self.tree, self.now_ms, self._keeper.epoch)

    def digest(self) -> int:
        """The tree's digest."""
        return self.tree.digest()

    def _apply_frames(
        self, session_id: int, number: int, frames: bytes, context: ApplyContext
    ) -> None:
        tree = self.tree
        owner = Owner(context.node, context.incarnation, number)
        self._keeper.applied(session_id)
        client = self._clients.get(number) if context.local else None
        request = None
        if context.local:
            self._in_log_bytes = max(0, self._in_log_bytes - len(frames))
            self._in_log_runs = max(0, self._in_log_runs - 1)
        if client is not None:
            request = client.begin_apply(self)
        if client is None or request is None:
            tree.apply_frames(session_id, owner, frames, context.time_ms, None)
            return
        _due, kind, _frames, since_ms = request
        assert len(_frames) == len(frames)
        out = client.out
        if not out:
            self._dirty.append(client)
        before = len(out)
        tree.apply_frames(session_id, owner, frames, context.time_ms, out)
        self._figures.count_writes(len(out) - before, self.now_ms - since_ms)
        if kind is _CLOSE:
            self._close(client, "the client closed its session")
        elif client.pending or client.held:
            client.advance(self)

    def _apply_run(self, run: Run, context: ApplyContext) -> None:
        match run:
            case Open():
                self._apply_open(run, context)
            case Attach():
                self._apply_attach(run, context)
            case AddIdentities():
                self._apply_identities(run, context)
            case Expire():
                self._apply_expire(run, context)
            case Reap(paths):
                for path in paths:
                    self.tree.reap(path, context.time_ms)
            case _:
                raise InvariantBroken(f"no way to apply {type(run).__name__}")

    def _apply_open(self, run: Open, context: ApplyContext) -> None:
        owner = Owner(context.node, context.incarnation, run.connection)
        session = self.tree.open_session(
            run.password, run.timeout_ms, owner, run.identities, context.time_ms
        )
        self._keeper.attached(session.session_id, run.timeout_ms)
        client = self._clients.get(run.connection) if context.local else None
        if client is not None:
            self._welcome(client, session)

    def _apply_attach(self, run: Attach, context: ApplyContext) -> None:
        owner = Owner(context.node, context.incarnation, run.connection)
        known = self.tree.sessions.get(run.session_id)
        former = known.owner if known is not None else None
        session = self.tree.attach_session(
            run.session_id, run.password, run.timeout_ms, owner, run.identities
        )
        if session is None:
            client = self._clients.get(run.connection) if context.local else None
            if client is not None:
                self._refuse_session(client)
            return
        if former is not None and former != owner:
            self._close_attachment(former)
        self._keeper.attached(session.session_id, run.timeout_ms)
        client = self._clients.get(run.connection) if context.local else None
        if client is not None:
            self._welcome(client, session)

    def _apply_identities(self, run: AddIdentities, context: ApplyContext) -> None:
        owner = Owner(context.node, context.incarnation, run.connection)
        added = all(
            self.tree.add_identity(run.session_id, owner, *identity) for identity in run.identities
        )
        client = self._clients.get(run.connection) if context.local else None
        request = client.begin_apply(self) if client is not None else None
        if client is None or request is None:
            return
        assert request[1] is Piece.AUTH
        if not added:
            self._close(client, "its session moved or expired")
            return
        self._reply(client, Xid.AUTH, ErrorCode.OK)
        client.advance(self)

    def _apply_expire(self, run: Expire, context: ApplyContext) -> None:
        if run.epoch != context.epoch:
            return  # found by an earlier leader: the present one may have heard them since
        for session_id, *holder in run.sessions:
            session = self.tree.sessions.get(session_id)
            if session is None or session.owner != tuple(holder):
                continue  # over, or a new attachment was the sign of life that was missed
            if context.time_ms > run.as_of_ms + session.timeout_ms // 2:
                continue  # late: what its proposer knew is no longer known to be so
            owner = session.owner
            self.tree.expire_session(session_id, context.time_ms)
            self._figures.expired += 1
            self._keeper.ended(session_id)
            self._close_attachment(owner)
