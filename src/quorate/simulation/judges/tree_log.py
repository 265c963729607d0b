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
HEARD_MAX: Final = 200
LATE_MS: Final = 1_000
"""How long a proposal may take beyond half a timeout, which the log allows it."""

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
        self._reigns: list[tuple[int, int]] = []  # past ones: from, to
        self._leads_since: int | None = None

    def hear(self, session_id: int) -> None:
        """A sign of life came in."""
        heard = self._heard.get(session_id)
        if heard is None:
            heard = self._heard[session_id] = deque(maxlen=HEARD_MAX)
        if not heard or self.ticks - heard[-1] >= HEARD_EVERY_TICKS:
            heard.append(self.ticks)

    def lead(self, *, leads: bool) -> None:
        """It leads now, or not."""
        since = self._leads_since
        if leads and since is None:
            self._leads_since = self.ticks
        elif not leads and since is not None:
            self._reigns.append((since, self.ticks))
            self._leads_since = None

    def silence_ms(self, session_id: int, recent_ms: int) -> int:
        """The longest time that it led and heard nothing, ending not longer ago than this."""
        now, longest = self.ticks, 0
        reigns = list(self._reigns)
        if self._leads_since is not None:
            reigns.append((self._leads_since, now))
        for begin, end in reigns:
            heard = [at for at in self._heard.get(session_id, ()) if begin <= at <= end]
            for one, other in zip([begin, *heard], [*heard, end], strict=True):
                if now - other <= recent_ms // TICK_MS:
                    longest = max(longest, other - one)
        return longest * TICK_MS


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
            self._ears.lead(leads=turn.leadership.established)
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

    def ask(self, request: Request) -> None:
        """A client sends a write."""
        self._asked[request.session_id, request.xid] = request

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
            elif isinstance(run, Attach):
                session = self.sessions.get(run.session_id)
                if session is not None and session.password == run.password:
                    session.owner = (node, incarnation, run.connection)
                    session.timeout_ms = run.timeout_ms
            elif isinstance(run, Expire):
                self._expire(run, context)

    def _frames(self, run: Frames, owner: tuple[int, int, int]) -> None:
        frames, at = run.frames, 0
        while at < len(frames):
            length, xid, _ = REQUEST_HEADER.unpack_from(frames, at)
            at += 4 + length
            request = self._asked.get((run.session_id, xid))
            self.only_what_was_asked_is_applied(run.session_id, xid, request)
            assert request is not None
            self.requests_take_effect_once(request)
            session = self.sessions.get(run.session_id)
            if session is None:
                request.outcome = Outcome(ErrorCode.SESSION_EXPIRED, self.model.zxid)
            elif session.owner != owner:
                request.outcome = Outcome(ErrorCode.SESSION_MOVED, self.model.zxid)
            else:
                request.outcome = self.model.perform(run.session_id, request.ask)
                if request.ask.verb == "close":
                    self._end(run.session_id)

    def _expire(self, run: Expire, context: ApplyContext) -> None:
        for session_id, *holder in run.sessions:
            session = self.sessions.get(session_id)
            if session is None or session.owner != tuple(holder):
                continue
            if context.time_ms > run.as_of_ms + session.timeout_ms // 2:
                continue
            self.only_silence_ends_a_session(session_id, (context.node, context.incarnation))
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

    @safety("ZooKeeper §2.2; faults: clock jump, pause")
    def only_silence_ends_a_session(self, session_id: int, proposer: tuple[int, int]) -> str | None:
        """A session expires only if who says so led, listened and heard nothing for its timeout.

        In that node's own time: its clock may drift, jump or have stood still.
        """
        timeout_ms = self.sessions[session_id].timeout_ms
        silence_ms = self.ears[proposer].silence_ms(session_id, timeout_ms // 2 + LATE_MS)
        if silence_ms >= timeout_ms:
            return None
        return (
            f"session {session_id:#x} with a timeout of {timeout_ms} ms expires; node "
            f"{proposer[0]}, which proposed it, was without a sign of it for {silence_ms} ms"
        )
