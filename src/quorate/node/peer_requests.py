"""Asking a node something on its peer port: one request, one answer, closed.

The peer port and not the admin port, because it is the one address of a node that all other nodes
can reach by definition; the admin port belongs to people and stays on loopback. Two use it: a new
node that wants to join, and a member that passes a request on to its leader.

    who asks                                who answers
    hello without a cluster id   ---->
                                 <----      hello: its cluster, its node id
    request, JSON                ---->
                                 <----      answer, JSON; then it closes

JSON, because requests are rare and their fields will grow; both are bounded, and nothing but
objects of plain values comes out. An answer is ``{"code": ..., "words": ...}`` and more: ``code``
is an HTTP status, so that it passes through the admin API unchanged.

Refuses to know: what is asked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, cast

from quorate.errors import NoQuorum, OutcomeUnknown, RemoteProtocolError
from quorate.node.units import Address
from quorate.protocol.peer import (
    ASKER_FRAME_BYTES_MAX,
    HELLO_CHANNEL,
    Hello,
    PeerConnection,
    encode_frame,
)

REQUEST_CHANNEL = 254
REQUEST_SECONDS_MAX = 60.0
_FIRST_WORDS_SECONDS = 5.0
_CONNECT_SECONDS = 2.0

Request: TypeAlias = dict[str, Any]
Answer: TypeAlias = Callable[[Request], Awaitable[Request]]
Secured: TypeAlias = Callable[[asyncio.Protocol, Address], asyncio.Protocol]
"""What stands between a protocol and the connection that is dialled to an address."""


def in_the_clear(protocol: asyncio.Protocol, address: Address) -> asyncio.Protocol:  # noqa: ARG001
    """Nothing."""
    return protocol


def decode_object(payload: bytes) -> Request:
    """Read a JSON object.

    Raises:
        RemoteProtocolError: it is none.
    """
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("a request that is no JSON") from None
    if not isinstance(found, dict):
        raise RemoteProtocolError("a request that is no JSON object")
    return found


def _encode(content: Request) -> list[bytes]:
    payload = json.dumps(content, separators=(",", ":")).encode()
    if len(payload) >= ASKER_FRAME_BYTES_MAX:
        payload = b'{"code":500,"words":"the answer is too long to be sent"}'
    return encode_frame(REQUEST_CHANNEL, payload)


class AnsweringSide:
    """A connection on which one request was or will be asked.

    Args:
        transport: the connection.
        own: what this node says about itself.
        answer: works on the request.
    """

    def __init__(self, transport: asyncio.Transport, own: Hello, answer: Answer) -> None:
        self._transport = transport
        self._answer = answer
        self._task: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._timeout = loop.call_later(_FIRST_WORDS_SECONDS, transport.abort)
        transport.writelines(encode_frame(HELLO_CHANNEL, own.encode()))

    def received(self, frames: list[tuple[int, bytes]]) -> None:
        """The request; a second one is an error.

        Raises:
            RemoteProtocolError: close the connection.
        """
        for channel, payload in frames:
            if channel != REQUEST_CHANNEL or self._task is not None:
                raise RemoteProtocolError("an unexpected frame from a node that only asks")
            self._timeout.cancel()
            request = decode_object(payload)
            self._task = asyncio.get_running_loop().create_task(self._work(request))

    def closed(self) -> None:
        """The connection is gone; whatever was begun goes on, its answer is lost."""
        self._timeout.cancel()

    async def _work(self, request: Request) -> None:
        answer: Request = {"code": 504, "words": "no answer within the time allowed"}
        try:
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                answer = await self._answer(request)
        except TimeoutError:
            """Said in the answer."""
        finally:
            if not self._transport.is_closing():  # who asked may be gone; writing would raise
                self._transport.writelines(_encode(answer))
                self._transport.close()


async def ask(
    address: Address,
    own: Hello,
    request: Request,
    seconds: float,
    secured: Secured = in_the_clear,
) -> tuple[Hello, Request]:
    """Ask the node that listens there; gives what it says about itself, and its answer.

    Args:
        address: its peer port.
        own: who asks; sent without a cluster id.
        request: what to ask.
        seconds: how long an answer may take.
        secured: what speaks TLS on the connection, if anything does.

    Raises:
        NoQuorum: it cannot be reached; nothing was asked.
        OutcomeUnknown: it was asked and did not answer.
        RemoteProtocolError: whoever listens there is no node that answers requests.
    """
    loop, asking = asyncio.get_running_loop(), _AskingSide(own, request)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await loop.create_connection(
                lambda: secured(asking, address), address.host, address.port
            )
    except OSError as error:  # TimeoutError is one
        raise NoQuorum(f"{address} cannot be reached ({str(error) or 'timeout'})") from None
    try:
        async with asyncio.timeout(seconds):
            return await asking.answer
    except TimeoutError:
        raise OutcomeUnknown(f"{address} does not answer within {seconds:.0f} s") from None
    finally:
        asking.close()


class _AskingSide(asyncio.Protocol):
    """Says hello, asks, and waits."""

    def __init__(self, own: Hello, request: Request) -> None:
        self._own = own
        self._request = request
        self._receiver = PeerConnection(ASKER_FRAME_BYTES_MAX)
        self.answer: asyncio.Future[tuple[Hello, Request]] = (
            asyncio.get_running_loop().create_future()
        )
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        hello = self._own._replace(cluster_id="")
        self.transport.writelines(
            [*encode_frame(HELLO_CHANNEL, hello.encode()), *_encode(self._request)]
        )

    def data_received(self, data: bytes) -> None:
        try:
            for channel, payload in self._receiver.receive(data):
                assert self._receiver.hello is not None
                if channel != REQUEST_CHANNEL:
                    raise RemoteProtocolError("an unexpected frame instead of an answer")
                if not self.answer.done():
                    self.answer.set_result((self._receiver.hello, decode_object(payload)))
        except RemoteProtocolError as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._receiver.hello is None:
            self._fail(
                RemoteProtocolError(
                    "whoever listens there closed the connection: is it the peer port of a node "
                    "of a release that knows how to join?"
                )
            )
        self._fail(OutcomeUnknown("the connection closed before the answer came"))

    def _fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
        self.close()

    def close(self) -> None:
        """Ask and listen no more."""
        if self.transport is not None:
            self.transport.abort()
