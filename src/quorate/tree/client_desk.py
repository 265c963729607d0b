"""The clients of this node: their connections, handshakes, requests and output.

The half of ``ClientService`` that faces the driver. Chunks come in; requests for the log gather
into a payload, reads are answered, output leaves as one write per connection and turn. Bounds on
everything a client may cost are kept here. It refuses to know when and how batches are applied;
``tree/service.py`` does that and gives the answers back.

    client_received -> ClientConnection -> Client (order) -> take_batch
                                           Client (output) -> take_writes

Sketch: a chunk of 16 writes costs one slice, one 21-byte head and one queue entry on the way in;
everything else is the scan. No object, callback or look-up per request.

Invariants:
    * runs of one connection are submitted in the order in which ``Client`` expects them back
    * a closed connection is in no table; what of it is under way is applied without replies
    * output is written before its connection is closed
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from quorate.errors import RemoteProtocolError
from quorate.protocol.connection import ClientConnection, Piece
from quorate.protocol.four_letter import ServerInfo, ServiceStatistics, answer_word
from quorate.protocol.handshake import (
    PASSWORD_BYTES,
    encode_connected,
    encode_refused,
    parse_connect,
)
from quorate.protocol.zookeeper import REPLY_HEADER, REPLY_SIZE, REQUEST_HEADER, ErrorCode
from quorate.tree.batch import (
    AddIdentities,
    Attach,
    Identity,
    Open,
    Run,
    encode_frames_head,
    encode_run,
)
from quorate.tree.client import Client
from quorate.tree.credentials import identities_of_auth
from quorate.tree.figures import Figures, Goodbye
from quorate.tree.service_settings import ServiceSettings
from quorate.tree.session_keeper import SessionKeeper
from quorate.tree.sessions import Owner, Session
from quorate.tree.tree import Tree
from quorate.tree.watch_requests import answer_watch_request
from quorate.tree.watches import ClientWatches

_BEFORE_SESSION: Final = frozenset({Piece.CONNECT, Piece.WORD, Piece.BROKEN})
# Looking a member up on its enum is slow in Python 3.11; these are looked up for every request.
_READ: Final = Piece.READ
_AUTH: Final = Piece.AUTH
_WRITES: Final = Piece.WRITES
_OK: Final = int(ErrorCode.OK)

READ_POINTS_MAX: Final = 2
"""Read points outstanding at once. More would only make more rounds for the same reads."""


class ClientDesk:
    """Serves the clients of one node, but for what comes back from the log.

    Args: see ``ClientService``.
    """

    def __init__(
        self,
        *,
        node_id: int,
        incarnation: int,
        settings: ServiceSettings,
        random_bytes: Callable[[int], bytes],
        watches: ClientWatches | None = None,
        tree: Tree | None = None,
    ) -> None:
        assert node_id >= 1
        self.node_id = node_id
        self.incarnation = incarnation
        self.settings = settings
        self.watches = watches or ClientWatches(settings.watches_per_connection_max)
        self.tree = tree or Tree(self.watches)
        assert self.tree.watches is self.watches
        self.info: Callable[[], ServerInfo] = ServerInfo
        self.now_ms = 0
        self._random_bytes = random_bytes
        self._keeper = SessionKeeper(settings)
        self._clients: dict[int, Client] = {}
        self._by_address: Counter[str] = Counter()
        self._handshake_due_ms: dict[int, int] = {}  # in the order of opening, so of deadlines
        self._unserved_since_ms: int | None = None
        self._is_full = False
        # Towards the log.
        self._parts: list[tuple[bytes, bytes]] = []  # head and frames of each run
        self._in_log_bytes = 0
        self._in_log_runs = 0
        self._token = 0  # of the newest read point
        self._token_open = False  # whether it is still to be asked for
        self._barriers: dict[int, list[Client]] = {}  # whose syncs wait
        self._readers: dict[int, list[Client]] = {}  # whose reads wait, each client once
        # Towards the driver.
        self._dirty: list[Client] = []  # have output
        self._doomed: list[Client] = []  # to be closed at the end of the turn
        self._full: list[Client] = []  # filled their output this turn
        self._full_before: list[Client] = []  # an earlier turn, which has been written since
        self._closings: list[int] = []
        self._goodbyes: list[Goodbye] = []
        self._pauses: list[int] = []
        self._paused: dict[int, Client] = {}
        self._figures = Figures()

    # ---- the driver tells ----------------------------------------------------------------------

    def client_opened(self, connection: int, address: str, now_ms: int) -> None:
        """A client connected from this host; the number is never used again in this process."""
        assert connection not in self._clients
        self.now_ms = now_ms
        settings = self.settings
        if (
            len(self._clients) >= settings.connections_max
            or self._by_address[address] >= settings.connections_per_address_max
        ):
            self._figures.refused += 1
            self._goodbyes.append(Goodbye(connection, address, 0, "too many connections"))
            self._closings.append(connection)
            return
        self._clients[connection] = Client(
            connection,
            address,
            ClientConnection(settings.frame_bytes_max),
            dirty=self._dirty,
            doomed=self._doomed,
            is_fresh=settings.fresh_reads,
        )
        self._by_address[address] += 1
        self._handshake_due_ms[connection] = now_ms + settings.handshake_timeout_ms

    def client_received(self, connection: int, data: bytes, now_ms: int) -> None:
        """A client sent these bytes; they may be anything."""
        client = self._clients.get(connection)
        if client is None:
            return
        self.now_ms = now_ms
        self._figures.bytes_in += len(data)
        if client.session is not None:
            self._keeper.hear(client.session.session_id)
        for kind, piece in client.bytes_in.receive(data):
            if client.ended:
                return
            if kind is _READ and client.is_idle:
                self.answer(client, kind, piece)
            elif kind is _READ and client.may_wait:
                client.wait_for(piece, self.join_read_point(client))
            elif kind in _BEFORE_SESSION:
                self._take_opening(client, kind, piece)
            else:
                client.take_in(kind, piece, self)
        if not client.paused and self._asks_too_much(client):
            self._pause(client)

    def client_closed(self, connection: int) -> None:
        """A client's connection is gone. Its session stays."""
        client = self._clients.get(connection)
        if client is not None:
            self._end(client, "hung up")
            client.out.clear()

    def client_congested(self, connection: int, congested: bool) -> None:
        """The driver holds too much output for this client, or does no more."""
        client = self._clients.get(connection)
        if client is None:
            return
        client.congested = congested
        if congested:
            client.full = True
            if not client.paused:
                self._pause(client)
        else:
            self._make_room(client)

    def set_serving(self, serving: bool, now_ms: int) -> None:
        """Whether a leader is known. Without one, clients are let go before their sessions end.

        Pings are answered here, so a client of a node that is cut off would believe in its session
        while the others end it. It is let go after a third of its timeout, in time to go elsewhere.
        """
        self.now_ms = now_ms
        if serving:
            self._unserved_since_ms = None
        elif self._unserved_since_ms is None:
            self._unserved_since_ms = now_ms

    def set_full(self, is_full: bool) -> None:
        """Whether the disk of this node is full: then writes are refused, and new clients."""
        self._is_full = is_full

    def close_all(self) -> None:
        """Let every client go."""
        for client in list(self._clients.values()):
            self._close(client, "this node loaded a snapshot")

    # ---- between the log and us ----------------------------------------------------------------

    def take_batch(self) -> bytes | None:
        """What clients asked of the log, as one payload; call again until there is nothing."""
        parts = self._parts
        if not parts:
            return None
        count, size = 0, 0
        for head, frames in parts:
            if count and size + len(head) + len(frames) > self.settings.batch_bytes_max:
                break
            size += len(head) + len(frames)
            count += 1
        payload = b"".join([piece for part in parts[:count] for piece in part])
        del parts[:count]
        return payload

    def take_barriers(self) -> list[int]:
        """Read points that clients wait for: tokens to hand back with ``barrier_released``.

        Few are outstanding at a time; whoever comes meanwhile shares the next one.
        """
        if not self._wants_read_point:
            return []
        self._token_open = False
        return [self._token]

    @property
    def _wants_read_point(self) -> bool:
        return self._token_open and len(self._barriers) <= READ_POINTS_MAX

    def barrier_released(self, token: int) -> None:
        """Everything up to this read point has been applied here."""
        waiting = self._barriers.pop(token, [])
        for client in waiting:
            if not client.ended:
                client.release_sync()
        for client in (*waiting, *self._readers.pop(token, ())):
            if not client.ended:
                client.advance(self)

    # ---- handshake -----------------------------------------------------------------------------

    def _take_opening(self, client: Client, kind: Piece, piece: bytes) -> None:
        if kind is Piece.CONNECT:
            try:
                self._connect(client, piece)
            except RemoteProtocolError:
                self._break(client)
        elif kind is Piece.WORD:
            self._answer_word(client, piece)
        else:
            assert kind is Piece.BROKEN
            self._break(client)

    def _connect(self, client: Client, body: bytes) -> None:
        request = parse_connect(body)
        client.has_read_only = request.has_read_only
        self._handshake_due_ms.pop(client.number, None)
        if request.last_zxid_seen > self.tree.zxid:
            self._close(client, "it has seen what this node has not yet")
            return
        timeout_ms = self.settings.negotiate_timeout_ms(request.timeout_ms)
        client.timeout_ms = timeout_ms
        if self._is_unserved_too_long(timeout_ms):
            self._close(client, "nobody leads")  # in the queue for the log it would only pile up
            return
        if self._is_full:  # opening or moving a session is a write
            self._close(client, "the disk is full")
            return
        identities: tuple[Identity, ...] = (("ip", client.address),)
        session_id = request.session_id
        if session_id == 0:
            password = self._random_bytes(PASSWORD_BYTES)
            self._submit_run(Open(client.number, timeout_ms, password, identities))
        elif session_id > self.tree.zxid or session_id in self.tree.sessions:
            password = request.password
            self._submit_run(Attach(session_id, client.number, timeout_ms, password, identities))
        else:  # its id is the zxid that opened it, which we have applied: it is over
            self._refuse_session(client)

    def _welcome(self, client: Client, session: Session) -> None:
        """Its handshake is through the log: answer it, and what came behind it."""
        assert client.session is None
        client.session = session
        client.notify(
            encode_connected(
                session.timeout_ms,
                session.session_id,
                session.password,
                has_read_only=client.has_read_only,
            )
        )
        client.advance(self)

    def _refuse_session(self, client: Client) -> None:
        client.notify(encode_refused(has_read_only=client.has_read_only))
        self._close(client, "its session is over")

    def _answer_word(self, client: Client, word: bytes) -> None:
        clients = tuple(map(_describe_client, self._clients.values())) if word == b"stat" else ()
        statistics = self.statistics()._replace(clients=clients)
        client.notify(answer_word(word, self.info(), statistics))
        self._close(client, "four-letter word")

    # ---- Desk: what a client's requests need -----------------------------------------------------

    def submit(self, client: Client, kind: Piece, frames: bytes) -> bool:
        """Send a request to the log; false when it will be refused without asking the log."""
        session = client.session
        assert session is not None
        if kind is _AUTH:
            identities = identities_of_auth(frames, self.settings.super_digest)
            if not identities:
                return False
            self._submit_run(AddIdentities(session.session_id, client.number, identities))
            return True
        if self._is_full and kind is _WRITES:
            return False
        size = len(frames)
        self._parts.append((encode_frames_head(session.session_id, client.number, size), frames))
        self._in_log_bytes += size
        self._in_log_runs += 1
        return True

    def ask_read_point(self, client: Client) -> int:
        """The read point of this turn; all syncs and reads of a turn share it."""
        token = self._open_token()
        self._barriers[token].append(client)
        return token

    def join_read_point(self, client: Client) -> int:
        """The same for a read. Many reads of one client cost one place."""
        token = self._open_token()
        if client.read_token != token:
            client.read_token = token
            self._readers.setdefault(token, []).append(client)
        return token

    def _open_token(self) -> int:
        if not self._token_open:
            self._token += 1
            self._token_open = True
            self._barriers[self._token] = []
        return self._token

    def is_waiting(self, token: int) -> bool:
        """Whether this read point is still outstanding."""
        return token in self._barriers

    def answer(self, client: Client, kind: Piece, frame: bytes) -> None:
        """Answer a request from what this node knows."""
        if client.ended:
            return
        self._figures.packets_in += 1
        session = client.session
        assert session is not None
        try:
            if kind is _READ:
                out = client.out
                if not out:
                    self._dirty.append(client)
                self.tree.read(session, frame, client, out)
                self._figures.packets_out += 1
                client.out_bytes += len(out[-1])
                if client.out_bytes > self.settings.output_bytes_max and not client.full:
                    client.full = True
                    self._full.append(client)
            else:
                self._answer_rare(client, kind, frame)
        except RemoteProtocolError:
            self._break(client)

    def _answer_rare(self, client: Client, kind: Piece, frame: bytes) -> None:
        _length, xid, _opcode = REQUEST_HEADER.unpack_from(frame)
        if kind is Piece.PING:
            self._reply(client, xid, _OK)
        elif kind is Piece.SYNC:
            self._reply(client, xid, _OK, frame[REQUEST_HEADER.size :])  # the path, as it came
        elif kind is Piece.WATCH:
            self._figures.packets_out += 1
            client.notify(answer_watch_request(client, frame, self.tree, self.watches))
        elif kind is _WRITES:
            self._refuse_writes(client, frame)
        elif kind is Piece.AUTH:
            self._reply(client, xid, ErrorCode.AUTH_FAILED)
            self._close(client, "authentication failed")
        else:
            assert kind is Piece.UNKNOWN
            self._reply(client, xid, ErrorCode.UNIMPLEMENTED)

    def _refuse_writes(self, client: Client, frames: bytes) -> None:
        """The disk is full. ``THROTTLED_OP`` says: not executed at all, try again later."""
        position, end = 0, len(frames)
        while position < end:
            length, xid, _opcode = REQUEST_HEADER.unpack_from(frames, position)
            self._reply(client, xid, ErrorCode.THROTTLED_OP)
            self._figures.writes_refused += 1
            position += 4 + length

    def _reply(self, client: Client, xid: int, error: int, body: bytes = b"") -> None:
        self._figures.packets_out += 1
        client.notify(REPLY_HEADER.pack(REPLY_SIZE + len(body), xid, self.tree.zxid, error) + body)

    def _submit_run(self, run: Run) -> None:
        self._parts.append((encode_run(run), b""))

    # ---- the driver asks -----------------------------------------------------------------------

    def take_writes(self) -> list[tuple[int, bytes]]:
        """Output of this turn: one piece of bytes per connection."""
        for client in self._full_before:
            if not client.congested and not client.ended:
                self._make_room(client)
        for client in self._doomed:
            self._close(client, "too many watches")
        self._doomed.clear()
        writes = []
        for client in self._dirty:
            out = client.out
            if out:  # empty: it hung up meanwhile
                data = out[0] if len(out) == 1 else b"".join(out)
                self._figures.bytes_out += len(data)
                writes.append((client.number, data))
                out.clear()
                client.out_bytes = 0
        self._dirty.clear()
        self._full_before = self._full
        self._full = []
        return writes

    def take_goodbyes(self) -> list[Goodbye]:
        """Connections that ended, and why."""
        goodbyes, self._goodbyes = self._goodbyes, []
        return goodbyes

    @property
    def wants_turn(self) -> bool:
        """Whether another turn is due at once, without waiting for bytes or time.

        Answers admit requests that were held; they must not wait for the next tick.
        """
        return bool(
            self._parts
            or self._wants_read_point
            or any(not client.congested for client in self._full_before)
        )

    @property
    def has_output(self) -> bool:
        """Whether one of the ``take_`` methods for the driver has something."""
        return bool(
            self._dirty
            or self._closings
            or self._paused
            or self._pauses
            or self._full
            or self._full_before
            or self._doomed
            or self._goodbyes
        )

    def take_closings(self) -> list[int]:
        """Connections to be closed once their output has left."""
        closings, self._closings = self._closings, []
        return closings

    def take_pauses(self) -> list[int]:
        """Connections not to be read from for now."""
        pauses, self._pauses = self._pauses, []
        return [connection for connection in pauses if connection in self._paused]

    def take_resumes(self) -> list[int]:
        """Connections to be read from again. Taken after ``take_pauses``."""
        if not self._paused or self._in_log_bytes > self.settings.outstanding_bytes_max // 2:
            return []
        enough = self.settings.connection_outstanding_bytes_max // 2
        resumed = [
            client
            for client in self._paused.values()
            if client.outstanding_bytes <= enough and not client.congested
        ]
        for client in resumed:
            client.paused = False
            del self._paused[client.number]
        return [client.number for client in resumed]

    @property
    def closed(self) -> dict[str, int]:
        """How many connections ended, by reason."""
        return self._figures.closed

    def statistics(self) -> ServiceStatistics:
        """Figures since the start of this process."""
        return self._figures.statistics(
            self.tree,
            connections=len(self._clients),
            watches=len(self.watches),
            runs=self._in_log_runs,
            outstanding_bytes=self._in_log_bytes,
        )

    # ---- ends and bounds -----------------------------------------------------------------------

    def _close(self, client: Client, reason: str) -> None:
        """Let a client go once its output is written."""
        if not client.ended:
            self._end(client, reason)
            self._closings.append(client.number)

    def _break(self, client: Client) -> None:
        """Let a client go that does not speak the protocol."""
        self._figures.broken += 1
        self._close(client, "does not speak the protocol")

    def _end(self, client: Client, reason: str) -> None:
        """Take a client out of every table."""
        assert not client.ended
        client.ended = True
        self._figures.count_closed(reason)
        session_id = client.session.session_id if client.session is not None else 0
        self._goodbyes.append(Goodbye(client.number, client.address, session_id, reason))
        del self._clients[client.number]
        self._handshake_due_ms.pop(client.number, None)
        self._paused.pop(client.number, None)
        self._by_address[client.address] -= 1
        if not self._by_address[client.address]:
            del self._by_address[client.address]
        client.drop_requests()
        self.watches.drop(client)

    def _close_attachment(self, owner: Owner) -> None:
        """Its session is over or elsewhere: let our client of this attachment go, if it is ours."""
        node, incarnation, connection = owner
        if (node, incarnation) == (self.node_id, self.incarnation):
            client = self._clients.get(connection)
            if client is not None:
                self._close(client, "its session moved or expired")

    def _let_clients_go(self) -> None:
        """Nobody leads: close those who have waited for a third of their timeout."""
        for client in list(self._clients.values()):
            is_waiting = client.timeout_ms > 0  # others may still ask four-letter words
            if is_waiting and self._is_unserved_too_long(client.timeout_ms):
                self._close(client, "nobody leads")

    def _is_unserved_too_long(self, timeout_ms: int) -> bool:
        """Whether nobody has led for so long that a client with this timeout must move."""
        since_ms = self._unserved_since_ms
        if since_ms is None:
            return False
        return self.now_ms - since_ms >= max(timeout_ms, self.settings.session_timeout_min_ms) // 3

    def _asks_too_much(self, client: Client) -> bool:
        return (
            client.outstanding_bytes > self.settings.connection_outstanding_bytes_max
            or self._in_log_bytes > self.settings.outstanding_bytes_max
        )

    def _pause(self, client: Client) -> None:
        client.paused = True
        self._paused[client.number] = client
        self._pauses.append(client.number)

    def _make_room(self, client: Client) -> None:
        """Its output has left: go on answering."""
        client.full = False
        client.advance(self)


def _describe_client(client: Client) -> str:
    waiting = len(client.pending) + len(client.held)
    return f"/{client.address}[{int(client.session is not None)}](queued={waiting})"
