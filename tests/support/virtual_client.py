"""A ZooKeeper client in virtual time: one session on a simulated ensemble, byte by byte."""

import struct

from quorate.protocol.jute import encode_buffer
from quorate.protocol.zookeeper import Xid
from quorate.protocol.zookeeper_client import decode_reply


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
            return
        reply = decode_reply(frame)
        self.last_zxid = max(self.last_zxid, reply.zxid)
        if reply.xid == Xid.EVENT:
            self.events.append(reply.body)
            self.order.append("event")
        else:
            assert reply.xid not in self.replies, "two replies for one request"
            self.replies[reply.xid] = reply
            self.order.append(reply.xid)

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
