"""A cluster without consensus, and clients that speak bytes.

``Cluster`` is a log that commits what it is told to, when it is told to: it applies every batch
to every node, in one order, as a replica would.
"""

from collections import deque
from struct import Struct, pack, unpack_from

import pytest

from quorate.protocol.zookeeper import REPLY_HEADER, encode_request
from quorate.replication.state_machine import ApplyContext
from quorate.tree.service import ClientService, ServiceSettings

_CONNECTED = Struct(">iiiqi16s")
OPEN_ACL = pack(">iii", 1, 31, 5) + b"world" + pack(">i", 6) + b"anyone"


def text(value):
    return pack(">i", -1) if value is None else pack(">i", len(value)) + value


class Frames:
    """Bytes of requests."""

    def connect(self, session_id=0, password=bytes(16), timeout_ms=10_000, zxid=0, read_only=True):
        body = pack(">iqiq", 0, zxid, timeout_ms, session_id) + text(password)
        body += b"\0" if read_only else b""
        return text(body)

    def create(self, xid, path, data=b"", flags=0, acl=OPEN_ACL):
        return encode_request(xid, 1, text(path) + text(data) + acl + pack(">i", flags))

    def delete(self, xid, path, version=-1):
        return encode_request(xid, 2, text(path) + pack(">i", version))

    def exists(self, xid, path, watch=False):
        return encode_request(xid, 3, text(path) + pack(">?", watch))

    def get(self, xid, path, watch=False):
        return encode_request(xid, 4, text(path) + pack(">?", watch))

    def set(self, xid, path, data, version=-1):
        return encode_request(xid, 5, text(path) + text(data) + pack(">i", version))

    def children(self, xid, path, watch=False):
        return encode_request(xid, 8, text(path) + pack(">?", watch))

    def sync(self, xid, path=b"/"):
        return encode_request(xid, 9, text(path))

    def ping(self):
        return encode_request(-2, 11)

    def close(self, xid):
        return encode_request(xid, -11)

    def auth(self, scheme=b"digest", auth=b"bob:secret"):
        return encode_request(-4, 100, pack(">i", 0) + text(scheme) + text(auth))

    def set_watches(self, zxid, data=(), exists=(), children=()):
        body = pack(">q", zxid)
        for paths in (data, exists, children):
            body += pack(">i", len(paths)) + b"".join(map(text, paths))
        return encode_request(-8, 101, body)

    def on_watches(self, xid, opcode, path, number):
        return encode_request(xid, opcode, text(path) + pack(">i", number))

    def request(self, xid, opcode, body=b""):
        return encode_request(xid, opcode, body)


class Reply:
    """One frame from the server: a reply, or an event when xid is -1."""

    def __init__(self, frame):
        _, self.xid, self.zxid, self.error = REPLY_HEADER.unpack_from(frame)
        self.body = frame[REPLY_HEADER.size :]

    @property
    def data(self):
        (length,) = unpack_from(">i", self.body)
        return self.body[4 : 4 + length]

    @property
    def event(self):
        kind, _state, _length = unpack_from(">iii", self.body)
        return kind, self.body[12:]

    def __repr__(self):
        return f"<{self.xid} {self.error} {self.event if self.xid == -1 else self.body!r}>"


class FakeClient:
    """A client on one connection of one node."""

    def __init__(self, cluster, node, number, address="10.0.0.1"):
        self.cluster, self.node, self.number = cluster, node, number
        self.received = b""
        self.closed = False
        self.paused = False
        self.session_id, self.password, self.timeout_ms = 0, bytes(16), 0
        cluster.service(node).client_opened(number, address, cluster.now_ms)

    def send(self, data):
        self.cluster.service(self.node).client_received(self.number, data, self.cluster.now_ms)

    def hang_up(self):
        self.closed = True
        self.cluster.service(self.node).client_closed(self.number)

    def connect(self, **kwargs):
        """Shake hands and let the cluster work until the answer is here; give its raw bytes."""
        self.send(Frames().connect(**kwargs))
        self.cluster.run()
        if not self.received:
            return b""
        (length,) = unpack_from(">i", self.received)
        answer, self.received = self.received[: 4 + length], self.received[4 + length :]
        _, _, self.timeout_ms, self.session_id, _, self.password = _CONNECTED.unpack_from(answer)
        return answer

    def replies(self):
        """Everything received since the last call, as frames."""
        replies = []
        while self.received:
            (length,) = unpack_from(">i", self.received)
            assert len(self.received) >= 4 + length
            replies.append(Reply(self.received[: 4 + length]))
            self.received = self.received[4 + length :]
        return replies

    def ask(self, data):
        """Send, let the cluster work, give the replies."""
        self.send(data)
        self.cluster.run()
        return self.replies()


class Cluster:
    """Services over one log that commits on demand."""

    def __init__(self, nodes=1, **settings):
        self.settings = ServiceSettings(**settings)
        self.now_ms = 1_000_000
        self.wall_ms = 1_700_000_000_000
        self.services = {node: self.start(node) for node in range(1, nodes + 1)}
        self.clients = []
        self.log = deque()
        self.barriers = []
        self.index = 0
        self.numbers = 0

    def start(self, node, incarnation=1):
        counter = iter(range(1, 1 << 30))
        return ClientService(
            node_id=node,
            incarnation=incarnation,
            settings=self.settings,
            random_bytes=lambda n: next(counter).to_bytes(n, "big"),
        )

    def service(self, node=1):
        return self.services[node]

    def client(self, node=1, address="10.0.0.1"):
        self.numbers += 1
        client = FakeClient(self, node, self.numbers, address)
        self.clients.append(client)
        return client

    def connected(self, node=1, **kwargs):
        client = self.client(node)
        client.connect(**kwargs)
        assert client.session_id
        return client

    def gather(self):
        """Take batches and read points of all nodes; commit nothing."""
        for node, service in self.services.items():
            while (payload := service.take_batch()) is not None:
                self.log.append((node, payload))
            self.barriers += [(node, token) for token in service.take_barriers()]

    def commit(self, count=None):
        """Apply the next entries (all) everywhere."""
        count = len(self.log) if count is None else count
        for _ in range(count):
            origin, payload = self.log.popleft()
            self.index += 1
            for node, service in self.services.items():
                local = node == origin
                service.apply(
                    payload,
                    ApplyContext(self.index, self.wall_ms, origin, 1, self.index, local),
                )

    def release(self):
        """Reach all read points."""
        barriers, self.barriers = self.barriers, []
        for node, token in barriers:
            self.service(node).barrier_released(token)

    def flush(self):
        """Bring output to the clients and carry out closings."""
        by_number = {(c.node, c.number): c for c in self.clients}
        for node, service in self.services.items():
            writes = service.take_writes()
            assert len({number for number, _ in writes}) == len(writes)
            for number, data in writes:
                assert data
                by_number[node, number].received += data
            for number in service.take_closings():
                by_number[node, number].closed = True
            for number in service.take_pauses():
                by_number[node, number].paused = True
            for number in service.take_resumes():
                by_number[node, number].paused = False

    def run(self, turns=4):
        """A few whole turns."""
        for _ in range(turns):
            self.gather()
            self.commit()
            self.release()
            self.flush()

    def pass_ms(self, duration_ms, step_ms=100, leader=1):
        """Let time pass, with notices to the leader."""
        until = self.now_ms + duration_ms
        while self.now_ms < until:
            self.now_ms += step_ms
            self.wall_ms += step_ms
            for node, service in self.services.items():
                service.tick(self.now_ms)
                notice = service.take_notice(self.now_ms)
                if notice is not None:
                    self.service(leader).receive_notice(node, notice, self.now_ms)
            self.run(1)


@pytest.fixture(scope="session")
def frames():
    return Frames()


@pytest.fixture(scope="session")
def make_cluster():
    return Cluster


@pytest.fixture
def cluster():
    return Cluster()
