"""A tiny byte-level ZooKeeper client for tests in virtual time."""

import struct

OPEN_ACL = (
    struct.pack(">ii", 1, 31) + struct.pack(">i", 5) + b"world" + struct.pack(">i", 6) + b"anyone"
)
CREATE, DELETE, EXISTS, GET, SET, SYNC, PING, CLOSE = 1, 2, 3, 4, 5, 9, 11, -11


def buffer(data):
    """Jute buffer or string."""
    return struct.pack(">i", len(data)) + data


def frame(body):
    """Length-prefixed frame."""
    return struct.pack(">i", len(body)) + body


def create(path, data=b"", flags=0):
    """Body of a create."""
    return buffer(path) + buffer(data) + OPEN_ACL + struct.pack(">i", flags)


def set_data(path, data, version=-1):
    """Body of a setData."""
    return buffer(path) + buffer(data) + struct.pack(">i", version)


def get_data(path, watch=False):
    """Body of getData, exists and getChildren."""
    return buffer(path) + bytes([watch])


class Client:
    """One session on an ensemble; replies are (xid, zxid, error, body)."""

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
        self.ensemble.send(self.connection, frame(body + buffer(self.password) + b"\0"))

    def send(self, op, body=b"", xid=None):
        """Send one request; return its xid."""
        if xid is None:
            self.xid += 1
            xid = self.xid
        self.ensemble.send(self.connection, frame(struct.pack(">ii", xid, op) + body))
        return xid

    def poll(self):
        """Parse what arrived."""
        data = self.connection.received
        while len(data) - self.parsed >= 4:
            (length,) = struct.unpack_from(">i", data, self.parsed)
            if len(data) - self.parsed - 4 < length:
                break
            body = bytes(data[self.parsed + 4 : self.parsed + 4 + length])
            self.parsed += 4 + length
            if not self.handshaken:
                _, self.timeout_ms, self.session_id = struct.unpack_from(">iiq", body)
                self.password = body[20:36]
                self.handshaken = True
                continue
            xid, zxid, error = struct.unpack_from(">iqi", body)
            if zxid > 0:
                self.last_zxid = max(self.last_zxid, zxid)
            if xid == -1:
                self.events.append(body[16:])
                self.order.append("event")
            else:
                assert xid not in self.replies or xid < 0, "two replies for one request"
                self.replies[xid] = (zxid, error, body[16:])
                self.order.append(xid)

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

    def call(self, op, body=b""):
        """Send and wait."""
        return self.wait(self.send(op, body))
