"""TreeLog: the log of a simulated ensemble read once, into a model tree and an outcome per request.

It hears of each batch when it is first applied anywhere, finds the requests that clients sent in
it, and lets the model say what becomes of them. So every later answer can be compared with one
account of what happened. It also judges what sessions die of, which only nodes know: so it keeps
what each node heard, in that node's own running time.

It knows batches (``tree/batch.py``) and frame headers, and nothing of the tree under test.

Invariant: ``model`` is the state after all batches applied anywhere, never behind any node.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from quorate.protocol.zookeeper import REQUEST_HEADER, ErrorCode
from quorate.replication.state_machine import ApplyContext
from quorate.replication.turn import Channel
from quorate.simulation.judges.model_tree import ModelTree, Outcome
from quorate.simulation.properties import safety
from quorate.simulation.sessions import Request
from quorate.tree.batch import Attach, Expire, Frames, Open, read_runs
from quorate.tree.server import CoordinationServer, ServerTurn

TICK_MS: Final = 10
HEARD_EVERY_TICKS: Final = 5
HEARD_MAX: Final = 300
REASON_TICKS: Final = 1_500
"""How far back a silence may lie: timeouts are shorter, and proposals take their time."""

_SESSION_BYTES: Final = 8


class ModelSession:
    """A living session."""

    __slots__ = ("owner", "password", "timeout_ms")

    def __init__(self, password: bytes, timeout_ms: int, owner: tuple[int, int, int]) -> None:
        self.password = password
        self.timeout_ms = timeout_ms
        self.owner = owner


class Ears:
    """When one start of a node heard which sessions, and when it led, in its own running time.

    Its time stands still while its process does: a node that stood still has heard nothing, but
    has not listened either.
    """

    def __init__(self) -> None:
        self.ticks = 0
        self._heard: dict[int, deque[int]] = {}
        self._attached: dict[int, int] = {}
        self._reigns: dict[int, list[tuple[int, int]]] = {}  # by epoch: from, to; the last goes on
        self._epoch = 0  # of the present reign

    def hear(self, session_id: int) -> None:
        """A sign of life came in."""
        heard = self._heard.get(session_id)
        if heard is None:
            heard = self._heard[session_id] = deque(maxlen=HEARD_MAX)
        if not heard or self.ticks - heard[-1] >= HEARD_EVERY_TICKS:
            heard.append(self.ticks)

    def attach(self, session_id: int) -> None:
        """A session was opened or attached: no silence began before."""
        self._attached[session_id] = self.ticks

    def lead(self, epoch: int) -> None:
        """It leads in this epoch now; 0: it does not lead."""
        if epoch == self._epoch:
            return
        if self._epoch:
            reigns = self._reigns[self._epoch]
            reigns[-1] = (reigns[-1][0], self.ticks)
        if epoch:  # perhaps again: a hand-over that is given up interrupts a reign
            self._reigns.setdefault(epoch, []).append((self.ticks, self.ticks))
        self._epoch = epoch

    def silence_ms(self, session_id: int, epoch: int) -> int:
        """The longest time that it led in this epoch and heard nothing; -1: it did not lead.

        What lies too far back is no reason any more.
        """
        if epoch not in self._reigns:
            return -1
        reigns = self._reigns[epoch]
        if epoch == self._epoch:
            reigns = [*reigns[:-1], (reigns[-1][0], self.ticks)]
        return max(self._silence_ms(session_id, begin, end) for begin, end in reigns)

    def _silence_ms(self, session_id: int, begin: int, end: int) -> int:
        begin = max(begin, self.ticks - REASON_TICKS, self._attached.get(session_id, 0))
        if begin > end:
            return 0
        heard = [at for at in self._heard.get(session_id, ()) if begin <= at <= end]
        gaps = zip([begin, *heard], [*heard, end], strict=True)
        return max(other - one for one, other in gaps) * TICK_MS


class ObservedServer(CoordinationServer):
    """A coordination server whose ears are known.

    Args:
        log: who wants to know; its ``session_of`` tells which session a connection is.
        arguments: see CoordinationServer.
    """

    def __init__(self, *, log: TreeLog, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._log = log
        self._ears = log.ears[arguments["node_id"], arguments["incarnation"]] = Ears()

    def tick(self, now_ms: int, wall_ms: int) -> None:
        """Count what time this process had."""
        self._ears.ticks += 1
        super().tick(now_ms, wall_ms)

    def client_received(self, connection: int, data: bytes) -> None:
        """Note who is heard."""
        self._ears.hear(self._log.session_of.get(connection, 0))
        super().client_received(connection, data)

    def peer_received(self, peer: int, channel: int, payload: bytes) -> None:
        """Note of whom is heard."""
        if channel == Channel.NOTICE:
            for at in range(0, len(payload), _SESSION_BYTES):
                self._ears.hear(int.from_bytes(payload[at : at + _SESSION_BYTES]))
        super().peer_received(peer, channel, payload)

    def take(self) -> ServerTurn:
        """Note whether it leads."""
        turn = super().take()
        if turn.leadership is not None:
            leads = turn.leadership.established
            self._ears.lead(turn.leadership.epoch if leads else 0)
        return turn


class TreeLog:
    """The account of everything that was applied.

    Attributes:
        model: the tree as it must be, and as it was.
        sessions: living ones, by id.
        ended: zxid at which a session was closed or expired.
        expired: how many expired.
        session_of: session by number of connection: filled in by who knows.
        ears: what each start of a node heard.
    """

    def __init__(self) -> None:
        self.model = ModelTree()
        self.sessions: dict[int, ModelSession] = {}
        self.ended: dict[int, int] = {}
        self.expired = 0
        self.session_of: dict[int, int] = {}
        self.ears: dict[tuple[int, int], Ears] = {}
        self._asked: dict[tuple[int, int], Request] = {}
        self._commands: dict[tuple[int, int], Request] = {}  # asked for exactly once, by serial

    def ask(self, request: Request) -> None:
        """A client sends a write."""
        self._asked[request.session_id, request.xid] = request
        if request.serial:
            self._commands.setdefault((request.session_id, request.serial), request)

    def take(self, payload: bytes, context: ApplyContext) -> None:
        """The next batch of the log."""
        node, incarnation = context.node, context.incarnation
        for run in read_runs(payload):
            if isinstance(run, Frames):
                self._frames(run, (node, incarnation, run.connection))
            elif isinstance(run, Open):
                owner = (node, incarnation, run.connection)
                session_id = self.model.open_session()
                self.sessions[session_id] = ModelSession(run.password, run.timeout_ms, owner)
                self._attach(session_id)
            elif isinstance(run, Attach):
                session = self.sessions.get(run.session_id)
                if session is not None and session.password == run.password:
                    session.owner = (node, incarnation, run.connection)
                    session.timeout_ms = run.timeout_ms
                    self._attach(run.session_id)
            elif isinstance(run, Expire):
                self._expire(run, context)

    def _attach(self, session_id: int) -> None:
        """An attachment is a sign of life to everybody, through the log."""
        for ears in self.ears.values():
            ears.attach(session_id)

    def _frames(self, run: Frames, owner: tuple[int, int, int]) -> None:
        frames, at = run.frames, 0
        while at < len(frames):
            length, xid, _ = REQUEST_HEADER.unpack_from(frames, at)
            at += 4 + length
            request = self._asked.get((run.session_id, xid))
            self.only_what_was_asked_is_applied(run.session_id, xid, request)
            assert request is not None
            if request.serial:
                self._command(self._commands[run.session_id, request.serial], owner)
                continue
            self.requests_take_effect_once(request)
            self.refused_requests_take_no_effect(request)
            session = self.sessions.get(run.session_id)
            if session is None:
                request.outcome = Outcome(ErrorCode.SESSION_EXPIRED, self.model.zxid)
            elif session.owner != owner:
                request.outcome = Outcome(ErrorCode.SESSION_MOVED, self.model.zxid)
            else:
                request.outcome = self.model.perform(run.session_id, request.ask)
                if request.ask.verb == "close":
                    self._end(run.session_id)

    def _command(self, request: Request, owner: tuple[int, int, int]) -> None:
        """A command that may be in the log again and again: the first time counts."""
        session = self.sessions.get(request.session_id)
        if session is None:
            request.refused = Outcome(ErrorCode.SESSION_EXPIRED, self.model.zxid)
        elif session.owner != owner:
            request.refused = Outcome(ErrorCode.SESSION_MOVED, self.model.zxid)
        elif request.outcome is None:
            request.outcome = self.model.perform(request.session_id, request.ask)

    def _expire(self, run: Expire, context: ApplyContext) -> None:
        for session_id, *holder in run.sessions if run.epoch == context.epoch else ():
            session = self.sessions.get(session_id)
            if session is None or session.owner != tuple(holder):
                continue
            if context.time_ms > run.as_of_ms + session.timeout_ms // 2:
                continue
            proposer = (context.node, context.incarnation)
            self.only_silence_ends_a_session(session_id, proposer, context.epoch)
            self.expired += 1
            self.model.end_session(session_id)
            self._end(session_id)

    def _end(self, session_id: int) -> None:
        del self.sessions[session_id]
        self.ended[session_id] = self.model.zxid

    # ---- properties ----------------------------------------------------------------------------

    @safety("ZAB §II: integrity")
    def only_what_was_asked_is_applied(
        self, session_id: int, xid: int, request: Request | None
    ) -> str | None:
        """Every request in the log was sent by a client."""
        return None if request is not None else f"session {session_id:#x} never sent {xid}"

    @safety("dissertation §6.3; acceptance RA-7")
    def requests_take_effect_once(self, request: Request) -> str | None:
        """A request of a client is in the log at most once, whatever becomes of connections."""
        return None if request.outcome is None else f"{request} is applied a second time"

    @safety("ZooKeeper's THROTTLEDOP: not executed at all")
    def refused_requests_take_no_effect(self, request: Request) -> str | None:
        """A request that was refused because a disk is full never comes into the log."""
        reply = request.reply
        if reply is None or reply.error != ErrorCode.THROTTLED_OP:
            return None
        return f"{request} was refused, and is applied"

    @safety("ZooKeeper §2.2; faults: clock jump, pause")
    def only_silence_ends_a_session(
        self, session_id: int, proposer: tuple[int, int], epoch: int
    ) -> str | None:
        """A session expires only if its leader of the day listened and heard nothing for a timeout.

        In that node's own time: its clock may drift or jump, and it may have stood still. A leader
        that was replaced has no say any more, however its proposal found its way into the log.
        """
        timeout_ms = self.sessions[session_id].timeout_ms
        silence_ms = self.ears[proposer].silence_ms(session_id, epoch)
        if silence_ms >= timeout_ms:
            return None
        what = f"session {session_id:#x} with a timeout of {timeout_ms} ms expires"
        if silence_ms < 0:
            return f"{what}; node {proposer[0]}, which proposed it, does not lead epoch {epoch}"
        return (
            f"{what}; node {proposer[0]}, which proposed it, was without a sign of it for "
            f"{silence_ms} ms"
        )
