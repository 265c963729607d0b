"""One link to another node: dials, says hello, sends, and dials again.

Every node dials every other and sends only on the link that it dialled; what others dialled it
only reads (``peer_network.py``). Two connections per pair cost nothing, and no rule is needed
about who may dial whom.

States: no connection -> dialling -> greeting (hello sent) -> standing -> no connection ...
The server hears ``peer_opened`` when the link stands and ``peer_closed`` when it no longer does,
which for a killed process is a few hundred microseconds after the kill: the kernel closes its
sockets. A peer that dials us makes us dial it at once instead of waiting for the back-off.

A link lives as long as somebody wants it: members' for as long as they are members, others' while
they are linked to us (``peer_network.py`` decides). Closing sends what is buffered.

Bounds: a peer that leaves too much unread loses the link; what was in the buffer is lost, which
the engine expects of any link.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, cast

from quorate.errors import RemoteProtocolError
from quorate.node.events import LINK_STANDS, LINK_TROUBLE
from quorate.node.peer_identity import CONTROL_CHANNEL, Refusal, decode_verdict
from quorate.node.units import Address
from quorate.node.write_now import descriptor_of, write_now
from quorate.protocol.peer import HELLO_CHANNEL, PeerConnection, common_version, encode_frame

if TYPE_CHECKING:
    from quorate.node.peer_network import PeerNetwork

_BACKOFF_SECONDS_MIN = 0.020
_BACKOFF_SECONDS_MAX = 1.0
_CONNECT_SECONDS = 2.0
HANDSHAKE_SECONDS = 2.0
_UNACKNOWLEDGED_MS_MAX = 10_000


class PeerLink:
    """The link that this node dials to one other node.

    Args:
        network: what all links share.
        node_id: whom to expect at the other end.
        address: where to dial.
    """

    def __init__(self, network: PeerNetwork, node_id: int, address: Address) -> None:
        self.network = network
        self.node_id = node_id
        self.address = address
        self.is_standing = False
        self.is_closed = False
        self.version = 0
        """Of the protocol, as agreed for the link that stands; 0 before the first one."""
        self._connection: OutgoingConnection | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._backoff_seconds = _BACKOFF_SECONDS_MIN
        self._last_words = ""

    def start(self) -> None:
        """Dial now unless that is under way; also when the peer has just dialled us."""
        self._backoff_seconds = _BACKOFF_SECONDS_MIN
        if self._connection is None and self._dialling is None and not self.is_closed:
            self._cancel_retry()
            self._dial()

    def close(self) -> None:
        """Send what is buffered, close, and dial no more."""
        self.is_closed = True
        self._cancel_retry()
        if self._dialling is not None:
            self._dialling.cancel()
        if self.is_standing:  # said now: a new link to this node may stand before it is gone
            self.is_standing = False
            self.network.server.peer_closed(self.node_id)
        if self._connection is not None:
            self._connection.transport.close()

    def send(self, frames: list[bytes]) -> None:
        """Write frames in one go; without a standing link they are lost."""
        connection = self._connection
        if not self.is_standing or connection is None:
            return
        transport = connection.transport
        write_now(transport, connection.descriptor, frames)
        unread = transport.get_write_buffer_size()
        if unread > self.network.buffer_bytes_max:
            self.log(f"leaves {unread} bytes unread; link dropped")
            transport.abort()

    # ---- called by the connection --------------------------------------------------------------

    def connected(self, connection: OutgoingConnection) -> None:
        """TCP stands; the hello is on its way."""
        assert self._connection is None
        self._connection = connection
        if self.is_closed:  # while it was being dialled
            connection.transport.abort()

    def stand(self) -> None:
        """The other side welcomed us."""
        assert self._connection is not None
        assert not self.is_standing
        self.is_standing = True
        self._backoff_seconds = _BACKOFF_SECONDS_MIN
        self._last_words = ""
        LINK_STANDS.say(peer=self.node_id, address=self.address)
        self.network.server.peer_opened(self.node_id)
        self.network.wake()

    def lost(self, connection: OutgoingConnection) -> None:
        """The connection is gone; dial again after a while."""
        assert connection is self._connection
        self._connection = None
        if self.is_standing:
            self.is_standing = False
            self.network.server.peer_closed(self.node_id)
            self.network.wake()
            if not self.is_closed:
                self.log("link lost; dialling again")
        self._retry_later()

    def refused(self, refusal: Refusal) -> None:
        """The other side, or this one, does not want the link."""
        self.log(f"refuses this node: {refusal.reason}")
        if refusal.is_final:
            self.network.wrong_directory(f"node {self.node_id} refuses this node: {refusal.reason}")

    def log(self, words: str) -> None:
        """Say something about this peer, but not the same thing again and again."""
        if words != self._last_words:
            self._last_words = words
            LINK_TROUBLE.say(peer=self.node_id, address=self.address, words=words)

    # ---- dialling ------------------------------------------------------------------------------

    def _dial(self) -> None:
        self._retry = None
        if self._connection is not None or self._dialling is not None:
            return
        self._dialling = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        host, port = self.address
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await loop.create_connection(self._secured, host, port)
        except OSError as error:  # TimeoutError is one
            self.log(f"cannot be reached ({str(error) or 'timeout'}); dialling on")
            self._retry_later()
        finally:
            self._dialling = None

    def _secured(self) -> asyncio.Protocol:
        security, connection = self.network.security, OutgoingConnection(self)
        return security.dialled(connection, self.node_id, self.address, self.log)

    def _retry_later(self) -> None:
        if self.is_closed or self._retry is not None or self._connection is not None:
            return
        loop = asyncio.get_running_loop()
        self._retry = loop.call_later(self._backoff_seconds, self._dial)
        self._backoff_seconds = min(self._backoff_seconds * 2, _BACKOFF_SECONDS_MAX)

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None


class OutgoingConnection(asyncio.Protocol):
    """A connection that we dialled: greets, then only sends."""

    def __init__(self, link: PeerLink) -> None:
        self._link = link
        self._receiver = PeerConnection()
        self._is_answered = False
        self._timeout: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport
        self.descriptor = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        self.transport = cast("asyncio.Transport", transport)
        self.descriptor = descriptor_of(self.transport)
        self._link.connected(self)
        watch_for_silence(self.transport)
        self.transport.writelines(
            encode_frame(HELLO_CHANNEL, self._link.network.checks.own.encode())
        )
        loop = asyncio.get_running_loop()
        self._timeout = loop.call_later(HANDSHAKE_SECONDS, self._answer_is_late)

    def data_received(self, data: bytes) -> None:
        """The hello of the other side and its verdict; nothing else ever comes."""
        try:
            for channel, payload in self._receiver.receive(data):
                if channel != CONTROL_CHANNEL or self._is_answered:
                    raise RemoteProtocolError("an unexpected frame on a link that we dialled")
                self._answered(decode_verdict(payload))
        except RemoteProtocolError as error:
            self._link.log(str(error))
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell the link."""
        if self._timeout is not None:
            self._timeout.cancel()
        self._link.lost(self)

    def _answered(self, refusal: Refusal | None) -> None:
        self._is_answered = True
        if self._timeout is not None:
            self._timeout.cancel()
        hello = self._receiver.hello
        assert hello is not None
        link = self._link
        if link.is_closed:
            """Closed while it was greeting."""
        elif refusal is not None:
            link.refused(refusal)
        elif hello.node_id != link.node_id:
            link.log(f"is node {hello.node_id}, not {link.node_id}: check --cluster")
        else:
            # Our own objection: the other side hears it, with words, when it dials us.
            objection = link.network.judge(hello)
            if objection is None:
                link.version = common_version(link.network.checks.own, hello) or 0
                link.stand()
                return
            link.log(objection.reason)
        self.transport.abort()

    def _answer_is_late(self) -> None:
        self._link.log("does not answer our hello")
        self.transport.abort()


def watch_for_silence(transport: asyncio.Transport) -> None:
    """Let the kernel notice a host that vanished without closing its connections."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_NODELAY", 1),
        ("TCP_KEEPIDLE", 5),
        ("TCP_KEEPINTVL", 2),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", _UNACKNOWLEDGED_MS_MAX),
    ):
        option = getattr(socket, name, None)  # not every system has all of them
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
