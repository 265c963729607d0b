"""TLS between a socket and a protocol: for the protocol it is a transport like any other.

asyncio's own TLS cannot be used here for three reasons: it tells nobody why a handshake failed, it
writes at the end of the loop's round (see ``write_now.py``), and it admits a stranger only after
the handshake, so that connections under way would need bounds of their own. Here the protocol
hears ``connection_made`` at once: its own bounds on connections count strangers from the first
moment. Its data come when the handshake is done; what it writes before that waits.

    socket -> TlsProtocol -> ssl.MemoryBIO -> SSLObject -> protocol.data_received
    socket <- write_now   <- ssl.MemoryBIO <- SSLObject <- TlsTransport.write

States: FIRST (nothing came yet) -> SHAKING -> OPEN | PLAIN -> DEAD

Invariants:
    * nothing reaches the protocol, and nothing of it the wire, before the handshake is done and
      the certificate was judged
    * bytes held before that are bounded; the handshake has a time limit
    * handshakes of strangers are done one a loop round (``Pacer``): each costs about a
      millisecond, and a thousand at once must not keep heartbeats waiting
    * why a connection was refused is said once, in words
"""

from __future__ import annotations

import asyncio
import enum
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

from quorate.node.tls_words import PLAINTEXT, TLS_RECORD, why
from quorate.node.write_now import socket_of, write_now

_HANDSHAKE_BYTES_MAX = 128 << 10
_READ_BYTES = 256 << 10
_WRITE_BYTES = 256 << 10
_EARLY_BYTES_MAX = 64 << 10
_LINGER_SECONDS = 0.5

Judge = Callable[[ssl.SSLObject], str | None]


class Pacer:
    """Runs at most one step a round of the loop, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._steps: deque[Callable[[], None]] = deque()
        self._is_armed = False

    def run(self, step: Callable[[], None]) -> None:
        """Run this when it is its turn."""
        self._steps.append(step)
        self._arm()

    def _arm(self) -> None:
        if not self._is_armed:
            self._is_armed = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._is_armed = False
        step = self._steps.popleft()
        if self._steps:
            self._arm()
        step()


class Manner(NamedTuple):
    """How a connection is to be secured.

    Attributes:
        context: for the handshake.
        is_serving: whether we were dialled.
        handshake_seconds: how long it may take.
        complain: told the other side's host and why it was refused.
        judge: looks at the finished handshake; gives a reason to refuse, or None.
        takes_plaintext: whether the other side may do without TLS.
        pacer: whose turn it is; None: at once.
    """

    context: ssl.SSLContext
    is_serving: bool
    handshake_seconds: float
    complain: Callable[[str, str], None]
    judge: Judge | None = None
    takes_plaintext: bool = False
    pacer: Pacer | None = None


class _State(enum.Enum):
    FIRST = 0
    SHAKING = 1
    OPEN = 2
    PLAIN = 3
    DEAD = 4


class TlsProtocol(asyncio.Protocol):
    """What the loop sees of a connection with TLS.

    Args:
        inner: the protocol that speaks over it.
        manner: how.
    """

    def __init__(self, inner: asyncio.Protocol, manner: Manner) -> None:
        self._inner = inner
        self._manner = manner
        self._state = _State.FIRST
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.ssl_object = manner.context.wrap_bio(
            self._incoming, self._outgoing, server_side=manner.is_serving
        )
        self._early: list[bytes] = []  # written by ``inner`` before the handshake was done
        self._early_bytes = 0
        self._is_closing = False
        self._is_paced = False
        self._is_ended = False
        self._timeout: asyncio.TimerHandle | None = None
        self._transport: TlsTransport
        self._host = ""
        self._descriptor = -1
        self.raw: asyncio.Transport

    # ---- from the loop -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP stands."""
        self.raw = cast("asyncio.Transport", transport)
        self._descriptor = socket_of(self.raw)
        peer = self.raw.get_extra_info("peername")
        self._host = str(peer[0]) if peer else "unknown"
        loop = asyncio.get_running_loop()
        self._timeout = loop.call_later(self._manner.handshake_seconds, self._is_late)
        self._transport = TlsTransport(self)
        self._inner.connection_made(self._transport)
        if not self._manner.is_serving and not self.raw.is_closing():
            self._state = _State.SHAKING
            self._shake()

    def data_received(self, data: bytes) -> None:
        """Bytes from the wire."""
        if self._state is _State.OPEN:
            self._incoming.write(data)
            self._decrypt()
        elif self._state is _State.PLAIN:
            self._inner.data_received(data)
        elif self._state is not _State.DEAD:
            self._begin(data)

    def eof_received(self) -> bool | None:
        """The other side sends no more."""
        if self._state in (_State.OPEN, _State.PLAIN):
            return self._end()
        # Who connects and leaves without a word is a probe of the port, not a mistake.
        if self._state is not _State.DEAD and not self._is_silent_stranger():
            self._refuse("it closed the connection in the middle of the TLS handshake")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if (
            exc is not None
            and self._state in (_State.FIRST, _State.SHAKING)
            and not self._is_silent_stranger()
        ):
            self._complain(f"it dropped the connection in the TLS handshake ({exc})")
        self._state = _State.DEAD
        self._early.clear()
        self._stop_clock()
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """The socket does not take what we write fast enough."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        self._inner.resume_writing()

    # ---- from the transport --------------------------------------------------------------------

    @property
    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._is_closing or self.raw.is_closing()

    @property
    def waiting_bytes(self) -> int:
        """What was written and has not left."""
        return self._early_bytes + self.raw.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Send, now if possible."""
        if self.is_closing or not data:
            return
        if self._state is _State.OPEN:
            self._encrypt(data)
        elif self._state is _State.PLAIN:
            write_now(self.raw, self._descriptor, (data,))
        elif self._early_bytes + len(data) > _EARLY_BYTES_MAX:
            self.raw.abort()
        else:
            self._early.append(data)
            self._early_bytes += len(data)

    def close(self) -> None:
        """Say goodbye and close when everything has left."""
        if self.is_closing:
            return
        self._is_closing = True
        if self._state is _State.OPEN:
            try:
                self.ssl_object.unwrap()
            except ssl.SSLError:
                """Only their goodbye is missing; nobody waits for it."""
            self._flush()
        self.raw.close()

    # ---- the handshake -------------------------------------------------------------------------

    def _begin(self, data: bytes) -> None:
        """Bytes of a handshake, or something else."""
        if self._state is _State.FIRST:
            if data[0] != TLS_RECORD:
                self._take_plaintext(data)
                return
            self._state = _State.SHAKING
        self._incoming.write(data)
        if self._incoming.pending > _HANDSHAKE_BYTES_MAX:
            self._refuse("its TLS handshake is too long")
        elif self._manner.pacer is None:
            self._shake()
        elif not self._is_paced:
            self._is_paced = True
            self._manner.pacer.run(self._shake_in_turn)

    def _shake_in_turn(self) -> None:
        self._is_paced = False
        if self._state is _State.SHAKING and not self.raw.is_closing():
            self._shake()

    def _shake(self) -> None:
        try:
            self.ssl_object.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            self._flush()  # the alert that tells the other side
            self._refuse(why(error, serving=self._manner.is_serving))
            return
        reason = self._manner.judge(self.ssl_object) if self._manner.judge is not None else None
        if reason is not None:
            self._flush()
            self._refuse(reason)
            return
        self._stop_clock()
        self._state = _State.OPEN
        self._flush()
        self._send_early()
        if not self.is_closing:
            self._decrypt()

    def _take_plaintext(self, data: bytes) -> None:
        if not self._manner.takes_plaintext:
            self._refuse(PLAINTEXT)
            return
        self._stop_clock()
        self._state = _State.PLAIN
        self._send_early()
        self._inner.data_received(data)

    def _send_early(self) -> None:
        early, self._early, self._early_bytes = self._early, [], 0
        if early:
            self.write(b"".join(early))

    def _is_late(self) -> None:
        if self._is_silent_stranger():
            self._state = _State.DEAD
            self.raw.abort()
            return
        self._refuse(f"its TLS handshake took more than {self._manner.handshake_seconds} s")

    def _is_silent_stranger(self) -> bool:
        return self._manner.is_serving and self._state is _State.FIRST

    def _refuse(self, reason: str) -> None:
        self._complain(reason)
        self._state = _State.DEAD
        self._is_closing = True
        self._stop_clock()
        # Closed with bytes unread, the kernel would reset the connection, and the other side would
        # never see the alert that says why: so end it, read what comes, and forget it.
        if not self.raw.is_closing():
            self.raw.write_eof()
            self._timeout = asyncio.get_running_loop().call_later(_LINGER_SECONDS, self.raw.abort)

    def _complain(self, reason: str) -> None:
        self._manner.complain(self._host, reason)

    def _stop_clock(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    # ---- the open connection -------------------------------------------------------------------

    def _decrypt(self) -> None:
        """Hand on what has come, in one piece: a chunk is the unit of work."""
        parts: list[bytes] = []
        ended = False
        try:
            while True:
                part = self.ssl_object.read(_READ_BYTES)
                if not part:
                    ended = True
                    break
                parts.append(part)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLError as error:
            self._flush()
            self._refuse(why(error, serving=self._manner.is_serving))
            return
        if self._outgoing.pending:
            self._flush()
        if parts:
            self._inner.data_received(parts[0] if len(parts) == 1 else b"".join(parts))
        if ended and not self._end():
            self.close()

    def _end(self) -> bool:
        """The other side sends no more; whether it may still wait for an answer."""
        if self._is_ended or self.is_closing:
            return not self.is_closing
        self._is_ended = True
        return bool(self._inner.eof_received())

    def _encrypt(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self.ssl_object.write(rest[:_WRITE_BYTES]) :]
                self._flush()
        except ssl.SSLError as error:
            self._refuse(why(error, serving=self._manner.is_serving))

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            write_now(self.raw, self._descriptor, (data,))


class TlsTransport(asyncio.Transport):
    """What the inner protocol sees. ``ssl_object`` in the extra info says that it is one."""

    def __init__(self, connection: TlsProtocol) -> None:
        super().__init__()
        self._connection = connection

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As asyncio has it; ``peercert`` is the other side's certificate, checked."""
        connection = self._connection
        if name == "ssl_object":
            return connection.ssl_object
        if name == "peercert":
            try:
                return connection.ssl_object.getpeercert() or default
            except ValueError:  # no handshake was done
                return default
        return connection.raw.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._connection.is_closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, now if possible."""
        self._connection.write(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send in one go."""
        self._connection.write(b"".join(list_of_data))

    def close(self) -> None:
        """Close when everything has left."""
        self._connection.close()

    def abort(self) -> None:
        """Close at once."""
        self._connection.raw.abort()

    def pause_reading(self) -> None:
        """Read no more for now; what has been decrypted still comes."""
        self._connection.raw.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._connection.raw.resume_reading()

    def is_reading(self) -> bool:
        """Whether data may come."""
        return self._connection.raw.is_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When the protocol is told to pause."""
        self._connection.raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Bytes that have not left."""
        return self._connection.waiting_bytes

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """As set."""
        return self._connection.raw.get_write_buffer_limits()

    def can_write_eof(self) -> bool:
        """Half a close is not offered: TLS 1.2 has none."""
        return False
