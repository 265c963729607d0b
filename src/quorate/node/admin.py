"""The admin address: a few HTTP pages for people, probes, Prometheus and ``quorate up``.

    GET /live     200 while the process runs its loop (also /livez, as Kubernetes calls it)
    GET /ready    200 when clients get answers here, else 503 and why not (also /readyz)
    GET /status   the node's picture as JSON
    GET /metrics  numbers for Prometheus
    /snapshot     online backup; see ``snapshot_pages.py``
    /cluster ...  the whole cluster, and changes of it: ``admin_cluster.py``

Anything else is 404, any other method 405. One request per connection, a request head of at most
16 KiB, a body of at most 64 KiB where one is taken, and ten seconds to send it: a probe needs no
more, and a stranger gets no more. h11 does
the protocol and is imported with the first request, so that starting a node does not wait for it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from quorate.node.admin_cluster import BODY_BYTES_MAX, ClusterPages, encode
from quorate.node.complaints import Complaints
from quorate.node.metrics import CONTENT_TYPE
from quorate.node.tls_words import NO_TLS_HERE, TLS_RECORD

if TYPE_CHECKING:
    import h11

_HEAD_BYTES_MAX = 16 << 10
_TIMEOUT_SECONDS = 10.0
_ANSWER_SECONDS = 30.0
_CONNECTIONS_MAX = 64
_PAGES = ("/live", "/ready", "/status", "/metrics")
_ALSO = {"/livez": "/live", "/readyz": "/ready"}


class AdminPages:
    """What the pages say.

    Args:
        status: the node's picture, JSON-able.
        why_not_ready: what clients wait for here; empty when they are served.
        metrics: the page for Prometheus.
        cluster: answers what is below ``/cluster``; None: nothing is.
    """

    def __init__(
        self,
        status: Callable[[], dict[str, Any]],
        why_not_ready: Callable[[], str],
        metrics: Callable[[], str],
        cluster: ClusterPages | None = None,
    ) -> None:
        self.cluster = cluster
        self._status = status
        self._why_not_ready = why_not_ready
        self._metrics = metrics
        self.more: dict[str, Callable[[str, str], tuple[int, str, bytes]]] = {}
        self.connections = 0
        self.complaints = Complaints("--admin-listen")

    def connect(self) -> AdminConnection:
        """Protocol factory for ``loop.create_server``."""
        return AdminConnection(self)

    def answer(self, method: str, target: str) -> tuple[int, str, bytes]:
        """Status code, content type and body for one request."""
        path = _ALSO.get(page := target.partition("?")[0], page)
        if path in self.more:
            return self.more[path](method, target)
        if path not in _PAGES:
            known = ", ".join((*_PAGES, *self.more, "/cluster"))
            return 404, "text/plain", f"not found; try {known}\n".encode()
        if method not in ("GET", "HEAD"):
            return 405, "text/plain", b"only GET\n"
        if path == "/live":
            return 200, "text/plain", b"ok\n"
        if path == "/status":
            body = json.dumps(self._status(), indent=2, sort_keys=True, default=str)
            return 200, "application/json", body.encode() + b"\n"
        if path == "/metrics":
            return 200, CONTENT_TYPE, self._metrics().encode()
        reason = self._why_not_ready()
        if reason:
            return 503, "text/plain; charset=utf-8", f"not ready: {reason}\n".encode()
        return 200, "text/plain", b"ok\n"


class AdminConnection(asyncio.Protocol):
    """One connection: one request, one answer, closed."""

    def __init__(self, pages: AdminPages) -> None:
        self._pages = pages
        self._http: h11.Connection
        self._transport: asyncio.Transport
        self._timeout: asyncio.TimerHandle | None = None
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock; refuse a flood."""
        import h11  # noqa: PLC0415 - see the module's docstring

        self._transport = cast("asyncio.Transport", transport)
        self._pages.connections += 1
        if self._pages.connections > _CONNECTIONS_MAX:
            self._transport.abort()
            return
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES_MAX)
        loop = asyncio.get_running_loop()
        self._timeout = loop.call_later(_TIMEOUT_SECONDS, self._transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Stop the clock."""
        self._pages.connections -= 1
        if self._timeout is not None:
            self._timeout.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer as soon as the request is complete; where no body is taken, it is ignored."""
        import h11  # noqa: PLC0415 - see the module's docstring

        if self._transport.is_closing() or self._task is not None:
            return
        if data[0] == TLS_RECORD:  # no request, and no text in one, holds that byte
            peer = self._transport.get_extra_info("peername")
            self._pages.complaints.say(str(peer[0]) if peer else "unknown", NO_TLS_HERE)
            self._transport.abort()
            return
        try:
            self._http.receive_data(data)
            while not self._is_answering() and self._take(self._http.next_event()):
                """Head, pieces of the body, end."""
        except h11.RemoteProtocolError as error:
            hint = getattr(error, "error_status_hint", 400)
            self._answer("GET", hint, "text/plain", f"{error}\n".encode())

    def _is_answering(self) -> bool:
        return self._transport.is_closing() or self._task is not None

    def _take(self, event: object) -> bool:
        """Take one event of the request in; False when more bytes are needed."""
        import h11  # noqa: PLC0415 - see the module's docstring

        if isinstance(event, h11.Request):
            method = event.method.decode("ascii")
            target = event.target.decode("latin-1")
            cluster = self._pages.cluster
            if cluster is None or not cluster.owns(target.partition("?")[0]):
                self._answer(method, *self._pages.answer(method, target))
                return False
            self._request = event
        elif isinstance(event, h11.Data):
            self._body += event.data
            if len(self._body) > BODY_BYTES_MAX:
                self._answer("POST", 413, "text/plain", b"at most 64 KiB\n")
                return False
        elif isinstance(event, h11.EndOfMessage) and self._request is not None:
            loop = asyncio.get_running_loop()
            if self._timeout is not None:
                self._timeout.cancel()
            self._timeout = loop.call_later(_ANSWER_SECONDS, self._transport.abort)
            self._task = loop.create_task(self._ask(self._request))
        elif event is h11.NEED_DATA:
            return False
        else:
            self._transport.abort()
        return True

    async def _ask(self, request: h11.Request) -> None:
        """Work on a request that takes its time."""
        assert self._pages.cluster is not None
        method = request.method.decode("ascii")
        path = request.target.decode("latin-1").partition("?")[0]
        kinds = [value for name, value in request.headers if name == b"content-type"]
        kind = kinds[0].decode("latin-1") if kinds else ""
        code, content = await self._pages.cluster.answer(method, path, kind, bytes(self._body))
        if not self._transport.is_closing():
            allow = self._pages.cluster.allowed(path)
            self._answer(method, code, "application/json", encode(content), allow)

    def _answer(
        self, method: str, code: int, content_type: str, body: bytes, allow: str = "GET, HEAD"
    ) -> None:
        import h11  # noqa: PLC0415 - see the module's docstring

        headers = [
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        if code == 405:
            headers.append(("Allow", allow))
        http = self._http
        out = http.send(h11.Response(status_code=code, headers=headers)) or b""
        if method != "HEAD":
            out += http.send(h11.Data(data=body)) or b""
        self._transport.write(out)
        self._transport.close()
