"""A ZooKeeper client in virtual time: one session on a simulated ensemble, byte by byte.

``Client`` is on one node until told otherwise. ``RoamingClient`` goes elsewhere when its connection
ends, as real clients do, and sets its watches again there.
"""

import struct

from quorate.protocol.jute import Reader, encode_buffer
from quorate.protocol.zookeeper import OpCode, Xid, encode_request
from quorate.protocol.zookeeper_client import Part, decode_reply


def sync(path=b"/"):
    """``sync``."""
    return Part(OpCode.SYNC, encode_buffer(path))


def set_watches(zxid, data=(), exists=(), children=()):
    """The frame with which a client that reconnected sets its watches again."""
    body = struct.pack(">q", zxid)
    for paths in (data, exists, children):
        body += struct.pack(">i", len(paths)) + b"".join(map(encode_buffer, paths))
    return encode_request(Xid.SET_WATCHES, OpCode.SET_WATCHES, body)


def event_of(body):
    """(type, path) of a watch event."""
    kind, _state = struct.unpack_from(">ii", body)
    return kind, Reader(body, 8).string()


class Client:
    """One session on an ensemble; replies by xid."""

    def __init__(self, ensemble, node_id, timeout_ms=10_000):
        self.ensemble = ensemble
        self.timeout_ms = timeout_ms
        self.session_id, self.password = 0, bytes(16)
        self.last_zxid = 0
        self.xid = 0
        self.events = []
        self.replies = {}
        self.order = []
        self.attach(node_id)

    def attach(self, node_id):
        """Connect, creating the session or resuming it."""
        self.connection = self.ensemble.connect(node_id)
        self.parsed = 0
        self.handshaken = False
        body = struct.pack(">iqiq", 0, self.last_zxid, self.timeout_ms, self.session_id)
        body += encode_buffer(self.password) + b"\0"
        self.ensemble.send(self.connection, struct.pack(">i", len(body)) + body)

    def send(self, request):
        """Send one request; return its xid."""
        self.xid += 1
        self.ensemble.send(self.connection, request.frame(self.xid))
        return self.xid

    def poll(self):
        """Parse what arrived."""
        data = self.connection.received
        while len(data) - self.parsed >= 4:
            (length,) = struct.unpack_from(">i", data, self.parsed)
            stop = self.parsed + 4 + length
            if len(data) < stop:
                break
            self._take(bytes(data[self.parsed : stop]))
            self.parsed = stop

    def _take(self, frame):
        if not self.handshaken:
            _, self.timeout_ms, self.session_id = struct.unpack_from(">iiq", frame, 4)
            self.password = frame[24:40]
            self.handshaken = True
            self.welcomed()
            return
        reply = decode_reply(frame)
        self.last_zxid = max(self.last_zxid, reply.zxid)
        if reply.xid == Xid.EVENT:
            self.events.append(reply.body)
            self.order.append("event")
            self.told(*event_of(reply.body))
        elif reply.xid < 0:  # of a ping or setWatches, which many requests share
            assert reply.error == 0
        else:
            assert reply.xid not in self.replies, "two replies for one request"
            self.replies[reply.xid] = reply
            self.order.append(reply.xid)
            self.replied(reply)

    def welcomed(self):
        """The handshake was answered; a refused session has the id 0."""

    def told(self, kind, path):
        """A watch event came."""

    def replied(self, reply):
        """A reply came."""

    def wait(self, xid, limit_us=20_000_000):
        """Let time pass until the reply to ``xid`` is there."""

        def arrived():
            self.poll()
            return xid in self.replies

        self.ensemble.run_until(arrived, limit_us)
        return self.replies[xid]

    def ready(self):
        """Let time pass until the handshake is answered."""

        def done():
            self.poll()
            return self.handshaken

        self.ensemble.run_until(done)
        return self

    def call(self, request):
        """Send and wait."""
        return self.wait(self.send(request))

    def ping(self):
        """Say that the session is alive."""
        self.ensemble.send(self.connection, encode_request(Xid.PING, OpCode.PING))


class RoamingClient(Client):
    """A client that takes its session to another node when its connection ends.

    Call ``tend`` often. What was under way on a connection that ended is in ``lost``: whether it
    happened is unknown, until a later reply of the same session tells.

    Attributes:
        watched: paths with a watch that was not told yet, by kind: "data", "exists", "children".
        lost: xids without a reply that will never get one.
        moves: how often it reconnected.
        is_over: the session was refused: it has ended.
    """

    def __init__(self, ensemble, node_id, timeout_ms=10_000, *, draw=None):
        self.draw = draw or ensemble.world.draw
        self.watched = {"data": set(), "exists": set(), "children": set()}
        self.sent_here = []
        self.lost = set()
        self.moves = 0
        self.is_over = False
        self.heard_us = 0
        super().__init__(ensemble, node_id, timeout_ms)

    def attach(self, node_id):
        """Connect, and set the watches again behind the handshake."""
        self.lost.update(xid for xid in self.sent_here if xid not in self.replies)
        self.sent_here = []
        zxid = self.last_zxid
        super().attach(node_id)
        self.heard_us = self.ensemble.world.now_us
        if any(self.watched.values()):
            lists = {kind: sorted(paths) for kind, paths in self.watched.items()}
            self.ensemble.send(self.connection, set_watches(zxid, **lists))

    def send(self, request):
        """Send one request; return its xid."""
        xid = super().send(request)
        self.sent_here.append(xid)
        self.heard_us = self.ensemble.world.now_us
        return xid

    def welcomed(self):
        """Note whether the session is over."""
        self.is_over = self.session_id == 0

    def move(self):
        """Go to another living node, if there is one; what is under way is lost."""
        living = [node for node, host in self.ensemble.hosts.items() if host.alive]
        if living:
            self.ensemble.close(self.connection)
            self.moves += 1
            self.attach(living[self.draw(len(living))])

    def ask(self, request, limit_us=60_000_000):
        """Send until it is answered, wherever; only for what may happen twice."""
        xid = self.send(request)

        def done():
            nonlocal xid
            self.tend()
            if xid in self.lost and not self.is_over:
                xid = self.send(request)
            return xid in self.replies or self.is_over

        self.ensemble.run_until(done, limit_us)
        assert not self.is_over, "the session has ended"
        return self.replies[xid]

    def tend(self):
        """Read what came, ping when idle, and move when the connection ended."""
        self.poll()
        if self.is_over:
            return
        if self.connection.closed:
            self.move()
        elif self.ensemble.world.now_us - self.heard_us > self.timeout_ms * 1_000 // 3:
            self.heard_us = self.ensemble.world.now_us
            self.ping()
