"""A ZooKeeper client in virtual time: it keeps one session alive on whatever nodes there are.

It does what client libraries do, byte by byte, with the real codecs: the handshake, pings after a
third of the timeout, another node when the connection closes or nothing was heard for two thirds,
the session resumed with its id, password and last zxid, ``setWatches`` for the watches it still
waits for, a new session once the old one is refused. What was outstanding when a connection broke
has an unknown outcome; unless it was asked for exactly once: then it is sent again, wherever the
session goes on, until it is answered. On a new connection the last such answer is asked for again.

Everything that it sends and is told goes to a witness, who judges. The client itself believes what
it is told and refuses to know what is right.

Invariants:
    * requests leave in the order in which they were asked, and at most one pipeline is under way
    * a watch is waited for from the reply that left it until an event for it comes or the session
      is over
    * while it sleeps or is dead it neither reads nor sends
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from struct import Struct
from typing import Final, Protocol

from quorate.protocol.jute import INT, LONG, encode_buffer, encode_strings
from quorate.protocol.zookeeper import ErrorCode, EventType, OpCode, Xid, encode_request
from quorate.protocol.zookeeper_client import Reply, decode_reply, once
from quorate.simulation.cluster import VirtualCluster
from quorate.simulation.connections import ClientConnections, VirtualConnection
from quorate.simulation.judges.model_tree import Changes, Outcome
from quorate.simulation.workloads.tree_words import Ask, encode, resolve
from quorate.simulation.world import World

MOVE_US: Final = 20_000
PATIENCE_US: Final = 4_000_000
TIMEOUT_US: Final = 2_000_000
NO_PASSWORD: Final = bytes(16)

_CONNECT: Final = Struct(">iqiq")
_CONNECTED: Final = Struct(">iiiqi16s").unpack_from  # frame length first
_EVENT: Final = Struct(">iii").unpack_from
_PING: Final = encode_request(Xid.PING, OpCode.PING)
_ZXID_AT: Final = LONG.unpack_from


class Request:
    """One request, from when it is sent.

    Attributes:
        ask: what is asked, with its versions filled in.
        session_id: by which session.
        xid: its number; SET_WATCHES for what a reconnecting client sends.
        client: number of the client.
        process: a client's life: a new one after an unknown outcome.
        lane: place within its pipeline.
        sync: the sync before it in its pipeline, if any: its answer must be fresh.
        invoked: position among all calls and returns.
        returned: the same; 0 until it was answered.
        invoked_us: when it was sent.
        returned_us: when it was answered.
        floor: the newest zxid that anybody had been shown when it was sent.
        outcome: what the log made of it, once it did.
        reply: the answer, once it came.
        serial: its number when it is asked for exactly once; 0 otherwise.
        first: the lowest serial without an answer when it was sent.
        attempts: how often it was sent again.
        refused: what became of a copy that came too late for its session or connection.
        original: the answered request that this one asks for again.
    """

    __slots__ = (
        "ask", "attempts", "client", "first", "floor", "invoked", "invoked_us", "lane", "original",
        "outcome", "process", "refused", "reply", "returned", "returned_us", "serial",
        "session_id", "sync", "xid",
    )  # fmt: skip

    def __init__(self, ask: Ask, session_id: int, xid: int) -> None:
        self.ask = ask
        self.session_id = session_id
        self.xid = xid
        self.client = self.process = self.lane = 0
        self.sync: Request | None = None
        self.invoked = self.returned = self.invoked_us = self.returned_us = self.floor = 0
        self.outcome: Outcome | None = None
        self.reply: Reply | None = None
        self.serial = self.first = self.attempts = 0
        self.refused: Outcome | None = None
        self.original: Request | None = None

    def __repr__(self) -> str:
        ask = self.ask
        words = [ask.verb, ask.path.decode(), *(part.verb for part in ask.parts)]
        return f"client {self.client}'s {' '.join(filter(None, words))} ({self.xid})"


class Watch:
    """A watch that a client waits for.

    Attributes:
        kind: "data", "exists" (on a path where nothing was) or "children".
        path: of the znode.
        changes: all that such watches hear there; the witness's.
        place: in ``changes``, of the first that this one must hear; the witness's.
    """

    __slots__ = ("changes", "kind", "path", "place")

    def __init__(self, kind: str, path: bytes) -> None:
        self.kind = kind
        self.path = path
        self.changes: Changes = []
        self.place = 0


class Witness(Protocol):
    """Who hears of everything that clients send and are told."""

    def on_opened(self, session: SimulatedSession) -> None:
        """It was given a new session."""

    def on_refused(self, session: SimulatedSession) -> None:
        """Its session was refused."""

    def on_resumed(self, session: SimulatedSession, session_id: int, password: bytes) -> None:
        """Its session goes on."""

    def on_sent(self, session: SimulatedSession, request: Request) -> None:
        """It sends a request."""

    def on_sent_again(self, session: SimulatedSession, request: Request) -> None:
        """It sends a request that it sent before."""

    def on_told(self, session: SimulatedSession, zxid: int) -> None:
        """Any answer comes in: with this zxid, and before anything is done about it."""

    def on_reply(self, session: SimulatedSession, expected: Request | None, reply: Reply) -> None:
        """An answer comes in; ``expected`` is the oldest request without one."""

    def on_ping(self, session: SimulatedSession, pings: int, zxid: int) -> None:
        """A ping is answered, with so many on their way."""

    def on_event(
        self, session: SimulatedSession, event: int, path: bytes, zxid: int, waiting: list[Watch]
    ) -> None:
        """An event comes in, which these watches may have waited for."""

    def on_watching(self, session: SimulatedSession, watch: Watch, zxid: int) -> None:
        """A watch is waited for; the reply that left it has this zxid."""

    def on_lost(self, session: SimulatedSession, request: Request) -> None:
        """Nobody will ever tell it what became of a request."""


class SimulatedSession:
    """One client.

    Args:
        number: of the client; decides where it goes first.
        world: time and dice.
        cluster: the nodes.
        connections: how it reaches them.
        witness: who hears of everything.

    Attributes:
        session_id: 0 while it has none.
        password: of the session.
        last_zxid: the newest that an answer showed to this session.
        watches: those it waits for, by (of children, path).
        node: where it is, or goes next.
        wants: whether it lives and wants a session.
        process: counts its lives and its unknown outcomes.
    """

    def __init__(
        self,
        number: int,
        world: World,
        cluster: VirtualCluster,
        connections: ClientConnections,
        witness: Witness,
    ) -> None:
        self.number = number
        self.node = (number - 1) % len(cluster.hosts) + 1
        self.session_id = 0
        self.password = NO_PASSWORD
        self.last_zxid = 0
        self.watches: dict[tuple[bool, bytes], Watch] = {}
        self.wants = False
        self.process = 0
        self.timeout_us = self.wanted_us = TIMEOUT_US
        self._world = world
        self._cluster = cluster
        self._connections = connections
        self._witness = witness
        self._connection: VirtualConnection | None = None
        self._is_ready = False
        self._is_asleep = False
        self._xid = 0
        self._seen: dict[bytes, int] = {}
        self._waiting: tuple[Ask, ...] = ()
        self._done: Callable[[], None] | None = None
        self._outstanding: deque[Request] = deque()
        self._retries: deque[Request] = deque()  # to be sent again on the next connection
        self._answered: Request | None = None  # the last that was asked for exactly once
        self._serial = 0
        self._pings = 0
        self._sent_us = self._heard_us = 0
        self._attempt = 0  # counts connections and the waits between them
        self._alarms = 0

    # ---- what a client does --------------------------------------------------------------------

    def ask(self, asks: tuple[Ask, ...], done: Callable[[], None]) -> None:
        """Ask all of these at once; ``done`` is called when nothing of it is under way any more."""
        assert not self._outstanding_asks()
        assert not self._waiting
        self._waiting, self._done = asks, done
        if self._is_ready:
            self._send_waiting()
            return
        self._begin()
        self._world.after(PATIENCE_US, partial(self._give_up, asks))

    def sleep(self, duration_us: int, done: Callable[[], None]) -> None:
        """Stand still."""
        self._is_asleep = True
        self._world.after(duration_us, partial(self._wake, done))

    def die(self) -> None:
        """Lose power: nobody is told, and nothing is remembered."""
        connection = self._connection
        if connection is not None:
            connection.on_data = _nothing
        self._connection = None
        self._lose_outstanding(for_good=True)
        self._forget_session()
        self.wants = self._is_ready = False
        self._attempt += 1
        self._finish()

    def move(self, node: int) -> None:
        """Go to another node, 0: the next one, and take the session along."""
        self.wants = True
        self._go_to(node or self._next_node())

    def describe(self) -> str:
        """Its state in a few words."""
        if not self.wants:
            return f"client {self.number} wants nothing"
        place = f"{'on' if self._is_ready else 'going to'} node {self.node}"
        waiting = [*self._outstanding, *self._retries, *self._waiting]
        return (
            f"client {self.number}, session {self.session_id:#x}, {place}, last zxid "
            f"{self.last_zxid}, {len(self.watches)} watches, waiting for {waiting}"
        )

    @property
    def is_at_rest(self) -> bool:
        """Whether it has what it wants: a session, and an answer to everything."""
        if self._outstanding or self._retries or self._waiting or self._is_asleep:
            return False
        return self._is_ready or not self.wants

    @property
    def connection_number(self) -> int:
        """Which connection it has; 0: none."""
        return self._connection.number if self._connection is not None else 0

    @property
    def is_restoring(self) -> bool:
        """Whether its connection is new, and its watches are not set again yet."""
        return bool(self._outstanding) and self._outstanding[0].xid == Xid.SET_WATCHES

    # ---- connections ---------------------------------------------------------------------------

    def _begin(self) -> None:
        if not self.wants:
            self.wants = True
            self._attempt += 1
            self._connect(self._attempt)

    def _connect(self, attempt: int) -> None:
        if attempt != self._attempt or not self.wants:
            return
        if self._is_asleep or not self._cluster.hosts[self.node].alive:
            if not self._is_asleep:
                self.node = self._next_node()
            self._world.after(MOVE_US, partial(self._connect, attempt))
            return
        self._heard_us = self._sent_us = self._world.now_us
        self._connection = self._connections.connect(self.node, self._on_data)
        body = _CONNECT.pack(0, self.last_zxid, self.wanted_us // 1000, self.session_id)
        body += encode_buffer(self.password) + b"\0"
        self._connections.send(self._connection, INT.pack(len(body)) + body)
        self._set_alarm()

    def _next_node(self) -> int:
        return self.node % len(self._cluster.hosts) + 1

    def _go_to(self, node: int) -> None:
        """Leave the present connection, if any, and make another."""
        connection, self._connection = self._connection, None
        self._is_ready = False
        if connection is not None:
            connection.on_data = _nothing
            self._connections.close(connection)
        self._attempt += 1
        self.node = node
        self._lose_outstanding()
        self._world.after(MOVE_US, partial(self._connect, self._attempt))
        self._finish()

    def _on_data(self) -> None:
        connection = self._connection
        if self._is_asleep or connection is None:
            return
        if connection.received:
            self._take_in(connection)
        if connection.closed and self._connection is connection:
            self._go_to(self._next_node())

    def _take_in(self, connection: VirtualConnection) -> None:
        data = bytes(connection.received)
        connection.received.clear()
        at = 0
        while len(data) - at >= INT.size:
            stop = at + INT.size + INT.unpack_from(data, at)[0]
            if stop > len(data):
                break
            self._heard_us = self._world.now_us
            self._take_frame(data[at:stop])
            if self._connection is not connection:
                return
            at = stop
        connection.received[:0] = data[at:]

    def _set_alarm(self) -> None:
        due_us = self._heard_us + self.timeout_us * 2 // 3
        if self._is_ready:
            due_us = min(due_us, self._sent_us + self.timeout_us // 3)
        delay_us = max(1_000, due_us - self._world.now_us)
        self._alarms += 1
        self._world.after(delay_us, partial(self._alarm, self._alarms))

    def _alarm(self, number: int) -> None:
        if number != self._alarms or self._connection is None or self._is_asleep:
            return
        now_us = self._world.now_us
        if now_us - self._heard_us >= self.timeout_us * 2 // 3:
            self._go_to(self._next_node())
            return
        if self._is_ready and now_us - self._sent_us >= self.timeout_us // 3:
            self._pings += 1
            self._send(_PING)
        self._set_alarm()

    def _wake(self, done: Callable[[], None]) -> None:
        self._is_asleep = False
        self._on_data()
        self._alarm(self._alarms)
        done()

    # ---- asking --------------------------------------------------------------------------------

    def _send(self, frame: bytes) -> None:
        assert self._connection is not None
        self._sent_us = self._world.now_us
        self._connections.send(self._connection, frame)

    def _send_waiting(self) -> None:
        asks, self._waiting = self._waiting, ()
        sync: Request | None = None
        frames: list[bytes] = []
        for lane, ask in enumerate(asks):
            self._xid += 1
            request = self._request(resolve(ask, self._seen), self._xid)
            request.lane, request.sync = lane, sync
            if ask.verb == "sync":
                sync = request
            frames.append(self._frame(request))
        if frames:
            self._send(b"".join(frames))

    def _frame(self, request: Request) -> bytes:
        part = encode(request.ask)
        if request.serial:
            part = once(part, request.serial, request.first)
        return part.frame(request.xid)

    def _send_again(self) -> None:
        """What is unanswered, or else the last answered one: both may be asked for again."""
        again, self._retries = self._retries, deque()
        answered = self._answered
        if not again and answered is not None:
            echo = Request(answered.ask, self.session_id, 0)
            echo.serial, echo.first, echo.original = answered.serial, answered.first, answered
            echo.client = self.number
            again.append(echo)
        frames: list[bytes] = []
        for request in again:
            self._xid += 1
            request.xid = self._xid
            request.attempts += 1
            self._outstanding.append(request)
            self._witness.on_sent_again(self, request)
            frames.append(self._frame(request))
        if frames:
            self._send(b"".join(frames))

    def _request(self, ask: Ask, xid: int) -> Request:
        request = Request(ask, self.session_id, xid)
        if ask.is_once:
            self._serial += 1
            request.serial = self._serial
            waiting = [each.serial for each in self._outstanding if each.original is None]
            request.first = min(filter(None, [*waiting, request.serial]))
        request.client, request.process = self.number, self.process
        request.invoked_us = self._world.now_us
        self._outstanding.append(request)
        self._witness.on_sent(self, request)
        return request

    def _give_up(self, asks: tuple[Ask, ...]) -> None:
        """No connection came in time: these were never sent."""
        if self._waiting is asks:
            self._waiting = ()
            self._finish()

    def _lose_outstanding(self, *, for_good: bool = False) -> None:
        """The connection is gone; ``for_good``: so is the session, for this client."""
        outstanding = [*self._outstanding, *self._retries]
        self._outstanding.clear()
        self._retries.clear()
        lost = []
        for request in outstanding:
            if request.original is not None:
                continue  # it has its answer
            if request.serial and not for_good:
                self._retries.append(request)
            else:
                lost.append(request)
        if any(request.xid > 0 for request in lost):
            self.process += 1
        for request in lost:
            self._witness.on_lost(self, request)
        self._pings = 0

    def _outstanding_asks(self) -> bool:
        return bool(self._retries) or any(
            request.xid > 0 and request.original is None for request in self._outstanding
        )

    def _finish(self) -> None:
        """Let the next step come, when nothing of this one is under way."""
        if self._done is not None and not self._waiting and not self._outstanding_asks():
            done, self._done = self._done, None
            done()

    def _forget_session(self) -> None:
        self.session_id, self.password, self.last_zxid = 0, NO_PASSWORD, 0
        self._xid = self._serial = 0
        self._answered = None
        self.watches.clear()
        self._seen.clear()

    # ---- being told ----------------------------------------------------------------------------

    def _take_frame(self, frame: bytes) -> None:
        if not self._is_ready:
            self._take_handshake(frame)
            return
        reply = decode_reply(frame)
        if reply.xid == Xid.EVENT:
            self._take_event(reply)
            return
        expected = self._outstanding[0] if self._outstanding else None
        is_again = expected is not None and expected.attempts > 0 and expected.xid == reply.xid
        if not is_again:  # what is told again is as old as it was
            self._witness.on_told(self, reply.zxid)
        self.last_zxid = max(self.last_zxid, reply.zxid)
        if reply.xid == Xid.PING:
            self._witness.on_ping(self, self._pings, reply.zxid)
            self._pings -= 1
            return
        self._witness.on_reply(self, expected, reply)
        request = self._outstanding.popleft()
        if request.original is not None:
            self._finish()
            return
        if request.serial and reply.error == ErrorCode.THROTTLED_OP:
            self._retries.append(request)  # this copy was not done: ask again, elsewhere
            self._go_to(self._next_node())
            return
        if request.serial:
            self._answered = request
        request.returned_us = self._world.now_us
        self._learn(request, reply)
        if request.ask.verb == "close":
            self._leave()
        self._finish()

    def _take_handshake(self, frame: bytes) -> None:
        _, _, timeout_ms, session_id, _, password = _CONNECTED(frame)
        if session_id == 0:
            self._witness.on_refused(self)
            self._lose_outstanding(for_good=True)
            self._forget_session()
            self.process += 1
            self._finish()
            return  # the node closes; then a new session is asked for
        if self.session_id:
            self._witness.on_resumed(self, session_id, password)
        else:
            self.session_id, self.password = session_id, password
            self._witness.on_opened(self)
        self.timeout_us = timeout_ms * 1000
        self._is_ready = True
        if self.watches:
            self._set_watches()
        self._send_again()
        if self._waiting:
            self._send_waiting()
        self._set_alarm()

    def _set_watches(self) -> None:
        lists: dict[str, list[bytes]] = {"data": [], "exists": [], "children": []}
        for watch in self.watches.values():
            lists[watch.kind].append(watch.path)
        body = LONG.pack(self.last_zxid) + b"".join(map(encode_strings, lists.values()))
        self._request(Ask("watches", version=self.last_zxid), Xid.SET_WATCHES)
        self._send(encode_request(Xid.SET_WATCHES, OpCode.SET_WATCHES, body))

    def _take_event(self, reply: Reply) -> None:
        event, _, size = _EVENT(reply.body)
        path = reply.body[12 : 12 + size]
        of_children = {
            EventType.CREATED: (False,),
            EventType.DATA_CHANGED: (False,),
            EventType.CHILDREN_CHANGED: (True,),
            EventType.DELETED: (False, True),
        }[EventType(event)]
        keys = [(each, path) for each in of_children if (each, path) in self.watches]
        waiting = [self.watches[key] for key in keys]
        self._witness.on_event(self, event, path, reply.zxid, waiting)
        for key in keys:
            del self.watches[key]

    def _learn(self, request: Request, reply: Reply) -> None:
        """Remember versions, and which watches are left."""
        ask = request.ask
        if reply.error == 0 and ask.verb in ("get", "exists", "set"):
            self._seen[ask.path] = reply.stat().version
        elif reply.error == 0 and ask.verb == "create":
            self._seen[ask.path] = 0
        if not ask.watch:
            return
        kind = "children" if ask.verb == "children" else "data"
        if reply.error:
            if ask.verb != "exists" or reply.error != ErrorCode.NO_NODE:
                return
            kind = "exists"
        watch = Watch(kind, ask.path)
        self.watches[kind == "children", ask.path] = watch
        self._witness.on_watching(self, watch, reply.zxid)

    def _leave(self) -> None:
        """The session is closed: the node hangs up, and so do we."""
        connection, self._connection = self._connection, None
        assert connection is not None
        connection.on_data = _nothing
        self._connections.close(connection)
        self._attempt += 1
        self.wants = self._is_ready = False
        self._lose_outstanding(for_good=True)
        self._forget_session()


def _nothing() -> None:
    """Nobody listens any more."""
