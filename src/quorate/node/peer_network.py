"""All links of a node: those it dialled (it sends there) and those it was dialled on (it reads).

Who is dialled follows from the configuration in force: ``set_members`` opens and closes links as
it changes. Besides members there are *guests*: nodes of this cluster that linked to us though the
configuration known here does not name them (we were away while it changed, or they were). They
are dialled back at the address in their hello, for as long as their link to us stands, because
nothing else could carry our answers. A member that leaves becomes a guest while it is linked: so
it can be told.

Invariants:
    * nothing of a link reaches the server before its hello was judged and found good
    * one incoming link per node: a newer one replaces the older, whose process is gone or which
      the other side has given up
    * channel 0 is the hello's and 255 the verdict's; those between are the server's
    * strangers are bounded: so many connections that have not said hello, for so long; and so
      are guests
    * who only asks (``peer_requests.py``) is never linked, and the server never hears of it
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import cast

from quorate.errors import RemoteProtocolError, SettingsError
from quorate.node.events import LINK_DROPPED, PEER_REFUSED
from quorate.node.peer_identity import CONTROL_CHANNEL, PeerChecks, Refusal, encode_verdict
from quorate.node.peer_link import HANDSHAKE_SECONDS, PeerLink, watch_for_silence
from quorate.node.peer_requests import Answer, AnsweringSide
from quorate.node.ports import Server
from quorate.node.security import PeerSecurity
from quorate.node.units import Address, parse_address
from quorate.protocol.peer import HELLO_CHANNEL, Hello, PeerConnection, encode_frame

_STRANGERS_MAX = 64
_GUESTS_MAX = 16


class PeerNetwork:
    """Sends to and receives from the other nodes.

    Args:
        server: hears of links and messages.
        wake: asks for a turn.
        checks: judges who may take part.
        addresses: where the other members listen, by node id; at first.
        buffer_bytes_max: what a peer may leave unread before its link is dropped.
        wrong_directory: called with the reason when another node says that this node's data
            directory is the wrong one.
        answer: what to do with requests of nodes that only ask; None: nothing is answered.
        security: TLS of all links; None: none.
    """

    def __init__(
        self,
        *,
        server: Server,
        wake: Callable[[], None],
        checks: PeerChecks,
        addresses: Mapping[int, Address],
        buffer_bytes_max: int,
        wrong_directory: Callable[[str], None],
        answer: Answer | None = None,
        security: PeerSecurity | None = None,
    ) -> None:
        self.server = server
        self.wake = wake
        self.checks = checks
        self.buffer_bytes_max = buffer_bytes_max
        self.wrong_directory = wrong_directory
        self.security = security or PeerSecurity()
        self.is_closing = False
        self._answer = answer
        self._is_started = False
        self._members: frozenset[int] = frozenset()
        self._links: dict[int, PeerLink] = {}
        self._incoming: dict[int, IncomingConnection] = {}
        self._strangers: dict[IncomingConnection, None] = {}
        self.set_members(addresses)

    def start(self) -> None:
        """Dial everybody."""
        self._is_started = True
        for link in self._links.values():
            link.start()

    def set_members(self, addresses: Mapping[int, Address]) -> None:
        """Link to these nodes from now on; the others' links close, or become guests'."""
        if self.is_closing:
            return
        self._members = frozenset(addresses)
        for node in sorted(self._links):
            if node not in addresses and node not in self._incoming:
                self._links.pop(node).close()
        for node in sorted(addresses):
            link = self._links.get(node)
            if link is None or link.address != addresses[node]:
                self._open(node, addresses[node])

    def _open(self, node: int, address: Address) -> None:
        """Dial this node there, and no longer where it was before."""
        older = self._links.get(node)
        self._links[node] = PeerLink(self, node, address)
        if older is not None:
            older.close()
        if self._is_started:
            self._links[node].start()

    def close(self) -> None:
        """Close all links; what is buffered is still sent."""
        self.is_closing = True
        for link in self._links.values():
            link.close()
        for connection in [*self._incoming.values(), *self._strangers]:
            connection.transport.abort()

    def send(self, sends: list[tuple[int, int, bytes]]) -> None:
        """Ship a turn's messages, one write per peer."""
        frames: dict[int, list[bytes]] = {}
        previous: bytes | None = None
        previous_channel = -1
        frame: list[bytes] = []
        for peer, channel, payload in sends:
            assert HELLO_CHANNEL < channel < CONTROL_CHANNEL, channel
            if payload is not previous or channel != previous_channel:
                # Nodes in step are sent the very same bytes: one checksum for all.
                frame = encode_frame(channel, payload)
                previous, previous_channel = payload, channel
            frames.setdefault(peer, []).extend(frame)
        for peer, parts in frames.items():
            link = self._links.get(peer)
            if link is not None:
                link.send(parts)

    def linked(self) -> list[int]:
        """Nodes to which a link stands."""
        return [node for node, link in self._links.items() if link.is_standing]

    def versions(self) -> dict[str, int]:
        """The version of the protocol agreed with each linked node, by node id."""
        return {str(node): link.version for node, link in self._links.items() if link.is_standing}

    def connect(self) -> asyncio.Protocol:
        """Protocol factory for ``loop.create_server``."""
        return self.security.accepted(IncomingConnection(self))

    # ---- called by incoming connections --------------------------------------------------------

    def greet(self, connection: IncomingConnection) -> bool:
        """Take a stranger in, or say no."""
        if len(self._strangers) >= _STRANGERS_MAX or self.is_closing:
            return False
        self._strangers[connection] = None
        return True

    def object_to(self, hello: Hello, transport: asyncio.BaseTransport) -> Refusal | None:
        """Whether whoever said this on a connection that came in is somebody else."""
        link = self._links.get(hello.node_id)
        # Whoever is not known here is believed to be where its certificate says that it is.
        address = link.address if link is not None else _address_of(hello)
        objection = self.security.objection(transport, hello.node_id, address)
        return Refusal(objection, is_final=False) if objection is not None else None

    def judge(self, hello: Hello) -> Refusal | None:
        """Whether a link with whoever said this may stand."""
        node, standing = hello.node_id, self._incoming.get(hello.node_id)
        if node not in self._links and node != self.checks.own.node_id:
            if _address_of(hello) is None:
                return Refusal(f"node {node} is no member and does not say where it listens", False)
            if len(self._links) - len(self._members) >= _GUESTS_MAX:
                return Refusal(f"node {node} is no member, and too many such are linked", False)
        return self.checks.judge(hello, standing.hello if standing is not None else None)

    def admit(self, connection: IncomingConnection, node_id: int) -> None:
        """A stranger turned out to be a member."""
        self._strangers.pop(connection, None)
        older = self._incoming.get(node_id)
        self._incoming[node_id] = connection
        if older is not None:
            older.transport.abort()
        if node_id not in self._members:
            self._open_guest(connection, node_id)
        self._links[node_id].start()

    def _open_guest(self, connection: IncomingConnection, node_id: int) -> None:
        assert connection.hello is not None
        address = _address_of(connection.hello)
        link = self._links.get(node_id)
        if address is not None and (link is None or link.address != address):
            self._open(node_id, address)

    def asks(self, connection: IncomingConnection) -> AnsweringSide | None:
        """A stranger only wants to ask; None: nothing is answered here."""
        if self._answer is None:
            return None
        return AnsweringSide(connection.transport, self.checks.own, self._answer)

    def forget(self, connection: IncomingConnection, node_id: int) -> None:
        """An incoming connection is gone."""
        self._strangers.pop(connection, None)
        if self._incoming.get(node_id) is connection:
            del self._incoming[node_id]
            if node_id not in self._members and node_id in self._links:
                self._links.pop(node_id).close()
                self.wake()


def _address_of(hello: Hello) -> Address | None:
    try:
        return parse_address(hello.address)
    except SettingsError:
        return None


class IncomingConnection(asyncio.Protocol):
    """A connection that another node dialled: judges its hello, then only reads."""

    def __init__(self, network: PeerNetwork) -> None:
        self._network = network
        self._receiver = PeerConnection()
        self._node_id = 0  # 0: a stranger
        self._host = ""
        self._asking: AnsweringSide | None = None
        self._timeout: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport

    @property
    def hello(self) -> Hello | None:
        """What the other side said about itself; None before it did."""
        return self._receiver.hello

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody dialled."""
        self.transport = cast("asyncio.Transport", transport)
        peer = self.transport.get_extra_info("peername")
        self._host = str(peer[0]) if peer else "unknown"
        if not self._network.greet(self):
            self.transport.abort()
            return
        watch_for_silence(self.transport)
        loop = asyncio.get_running_loop()
        self._timeout = loop.call_later(HANDSHAKE_SECONDS, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        """A chunk of frames; the hello is the first."""
        if self.transport.is_closing():
            return
        try:
            frames = self._receiver.receive(data)
            if self._asking is not None or (self.hello is not None and not self.hello.cluster_id):
                self._receive_asker(frames)
                return
            if not self._node_id and self._receiver.hello is not None and not self._judge():
                return
            received, node_id = self._network.server.peer_received, self._node_id
            for channel, payload in frames:
                if channel == CONTROL_CHANNEL:
                    raise RemoteProtocolError("a verdict from the side that dialled")
                received(node_id, channel, payload)
        except RemoteProtocolError as error:
            who = f"node {self._node_id}" if self._node_id else "a stranger"
            LINK_DROPPED.say(who=who, address=self._host, error=error)
            self.transport.abort()
        self._network.wake()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget it; the link that we dialled tells the server when a node is gone."""
        if self._timeout is not None:
            self._timeout.cancel()
        if self._asking is not None:
            self._asking.closed()
        self._network.forget(self, self._node_id)

    def _receive_asker(self, frames: list[tuple[int, bytes]]) -> None:
        """A node that only asks; it stays among the bounded strangers."""
        if self._asking is None:
            if self._timeout is not None:
                self._timeout.cancel()
            hello = self.hello
            assert hello is not None
            objection = self._network.object_to(hello, self.transport)
            if objection is not None:
                raise RemoteProtocolError(objection.reason)
            self._asking = self._network.asks(self)
        if self._asking is None:
            self.transport.abort()
            return
        self._asking.received(frames)

    def _judge(self) -> bool:
        """Answer a hello; False when the link must not stand."""
        hello = self._receiver.hello
        assert hello is not None
        if self._timeout is not None:
            self._timeout.cancel()
        # Whose certificate it is first: the rest is remembered, and only for who may say it.
        network = self._network
        refusal: Refusal | None = network.object_to(hello, self.transport) or network.judge(hello)
        self.transport.writelines(
            [
                *encode_frame(HELLO_CHANNEL, network.checks.own.encode()),
                *encode_frame(CONTROL_CHANNEL, encode_verdict(refusal)),
            ]
        )
        if refusal is not None:
            PEER_REFUSED.say(peer=hello.node_id, address=self._host, reason=refusal.reason)
            self.transport.close()
            return False
        self._node_id = hello.node_id
        network.admit(self, self._node_id)
        return True
