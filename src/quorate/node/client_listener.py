"""Clients' connections: bytes in, bytes out, and bounds on everything.

A chunk is the unit of work: what one ``recv`` brought goes to the server as it is, and the answers
of a whole turn leave in one write per connection. No future, task or stream per request.

Bounds, because clients are strangers:
    * connections in all and per address; one too many is closed before it costs anything
    * unread output: above the high-water mark the server hears that the client is congested and
      stops reading from it; above the hard cap the connection is aborted
    * a connection that was told to close and does not read is aborted after a few seconds
The bound on connections stays below the limit on open files, so that neither the write-ahead log
nor the links to other nodes ever lack a descriptor.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from quorate.node.complaints import Complaints
from quorate.node.events import CLIENT_REFUSED, CLIENT_UNREAD
from quorate.node.ports import Server
from quorate.node.tls_words import NO_TLS_HERE, TLS_RECORD
from quorate.node.write_now import descriptor_of, write_now

_HIGH_WATER_BYTES = 256 << 10
_LINGER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ClientBounds:
    """How much clients may take.

    Attributes:
        connections_max: connections at once.
        connections_per_address_max: the same from one address; 0 for no bound.
        buffer_bytes_max: unread output of one connection before it is aborted.
    """

    connections_max: int
    connections_per_address_max: int
    buffer_bytes_max: int


class ClientListener:
    """All connections of clients. ``connect()`` makes the protocol object of a new one.

    Args:
        server: hears what happens on connections.
        wake: asks for a turn.
        bounds: how much clients may take.
    """

    def __init__(self, server: Server, wake: Callable[[], None], bounds: ClientBounds) -> None:
        self.server = server
        self.wake = wake
        self.bounds = bounds
        self.refused = 0
        self.complaints = Complaints("--listen")
        self._connections: dict[int, ClientConnection] = {}
        self._by_address: Counter[str] = Counter()
        self._ending: list[ClientConnection] = []
        self._last_conn = 0

    def connect(self) -> ClientConnection:
        """Protocol factory for ``loop.create_server``."""
        return ClientConnection(self)

    def __len__(self) -> int:
        return len(self._connections)

    def write(self, conn: int, data: bytes) -> None:
        """Write a turn's answers; a connection that is gone already needs none."""
        connection = self._connections.get(conn)
        if connection is not None:
            connection.write(data)

    def close(self, conn: int) -> None:
        """Close once what was written has left, but do not wait for that for ever."""
        connection = self._connections.get(conn)
        if connection is not None:
            connection.close()

    def pause(self, conn: int) -> None:
        """Stop reading from this client."""
        connection = self._connections.get(conn)
        if connection is not None and not connection.transport.is_closing():
            connection.transport.pause_reading()

    def resume(self, conn: int) -> None:
        """Read from this client again."""
        connection = self._connections.get(conn)
        if connection is not None and not connection.transport.is_closing():
            connection.transport.resume_reading()

    def pause_all(self) -> None:
        """Take no more requests from anybody: the node is stopping."""
        for conn in list(self._connections):
            self.pause(conn)

    def close_all(self) -> None:
        """Close every connection once its output has left."""
        for conn in list(self._connections):
            self.close(conn)

    def abort_all(self) -> None:
        """Drop every connection at once."""
        for connection in list(self._connections.values()):
            connection.transport.abort()

    def end_turn(self) -> None:
        """Close those that said they would send no more; their answers were written by now."""
        if self._ending:
            ending, self._ending = self._ending, []
            for connection in ending:
                connection.close()

    # ---- called by connections -----------------------------------------------------------------

    def admit(self, connection: ClientConnection, host: str) -> bool:
        """Take a new connection in, or say no."""
        bounds = self.bounds
        per_address = bounds.connections_per_address_max
        if len(self._connections) >= bounds.connections_max:
            reason = f"{bounds.connections_max} connections are open"
        elif per_address and self._by_address[host] >= per_address:
            reason = f"{per_address} connections from this address are open"
        else:
            self._last_conn += 1
            connection.conn = self._last_conn
            self._connections[connection.conn] = connection
            self._by_address[host] += 1
            return True
        self.refused += 1
        CLIENT_REFUSED.say(address=host, reason=reason, count=self.refused)
        return False

    def forget(self, connection: ClientConnection, host: str) -> None:
        """A connection that was admitted is gone."""
        removed = self._connections.pop(connection.conn)
        assert removed is connection
        self._by_address[host] -= 1
        if self._by_address[host] == 0:
            del self._by_address[host]

    def end_after_turn(self, connection: ClientConnection) -> None:
        """Close this connection after the next turn."""
        self._ending.append(connection)
        self.wake()


class ClientConnection(asyncio.Protocol):
    """One client's connection: hands chunks to the server, keeps count of unread output."""

    __slots__ = (
        "_congested",
        "_descriptor",
        "_host",
        "_listener",
        "_received",
        "_wake",
        "conn",
        "transport",
    )

    def __init__(self, listener: ClientListener) -> None:
        self._listener = listener
        # Looks at the first chunk, then gets out of the way.
        self._received: Callable[[int, bytes], None] = self._first_received
        self._wake = listener.wake
        self._congested = False
        self._host = ""
        self._descriptor = -1
        self.conn = 0  # 0: not admitted
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client connected; asyncio and uvloop have set TCP_NODELAY."""
        self.transport = cast("asyncio.Transport", transport)
        self._descriptor = descriptor_of(self.transport)
        peer = self.transport.get_extra_info("peername")
        self._host = str(peer[0]) if peer else "unknown"
        if not self._listener.admit(self, self._host):
            self.transport.abort()
            return
        self.transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self._listener.server.client_opened(self.conn, self._host)
        self._wake()

    def data_received(self, data: bytes) -> None:
        """A chunk arrived: the hot path."""
        if self.conn:
            self._received(self.conn, data)
            self._wake()

    def _first_received(self, conn: int, data: bytes) -> None:
        self._received = self._listener.server.client_received
        if data[0] == TLS_RECORD:
            self._listener.complaints.say(self._host, NO_TLS_HERE)
        self._received(conn, data)

    def eof_received(self) -> bool:
        """The client sends no more, but may wait for answers (``echo ruok | nc``)."""
        if self.conn:
            self._listener.end_after_turn(self)
        return bool(self.conn)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The connection is gone, for whatever reason."""
        self._received = self._listener.server.client_received  # no cycle is left behind
        if self.conn:
            self._listener.forget(self, self._host)
            self._listener.server.client_closed(self.conn)
            self._wake()

    def pause_writing(self) -> None:
        """Unread output reached the high-water mark."""
        self._congested = True
        self._listener.server.client_congested(self.conn, True)
        self._wake()

    def resume_writing(self) -> None:
        """The client has read most of it."""
        self._congested = False
        self._listener.server.client_congested(self.conn, False)
        self._wake()

    def write(self, data: bytes) -> None:
        """Send; abort a client that lets too much lie unread."""
        transport = self.transport
        if transport.is_closing():
            return
        write_now(transport, self._descriptor, (data,))
        if self._congested:
            unread = transport.get_write_buffer_size()
            if unread > self._listener.bounds.buffer_bytes_max:
                CLIENT_UNREAD.say(address=self._host, unread=unread)
                transport.abort()

    def close(self) -> None:
        """Close when the output has left; abort if that takes too long."""
        if not self.transport.is_closing():
            self.transport.close()
            if self.transport.get_write_buffer_size():
                loop = asyncio.get_running_loop()
                loop.call_later(_LINGER_SECONDS, self.transport.abort)
