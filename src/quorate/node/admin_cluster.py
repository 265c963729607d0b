"""The admin address, the part that can change something: who belongs and who leads.

    GET  /cluster             the leader's picture, asked of any node
    POST /cluster/change      {"add": [...], "remove": [...], ...}   (``change_words.py``)
    POST /cluster/transfer    {"to": 2}; 0 or nothing: to the best

Answers are JSON objects with ``words`` for people; the code says what became of it
(``cluster_desk.py``): 200, 202 begun, 400, 403, 404, 409 refused, 415, 503 nobody leads, 504
unknown.

Whoever may POST here may take the cluster away from its owner, and there is no login. So changes
are taken only where the listener is on loopback, unless ``--admin-changes`` says otherwise; and
only as ``application/json``, which a web page in an operator's browser cannot send unasked.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from quorate.errors import RemoteProtocolError
from quorate.node.peer_requests import Request, decode_object
from quorate.node.units import Address

BODY_BYTES_MAX = 64 << 10
_DEEDS = {"/cluster/change": "change", "/cluster/transfer": "transfer"}


def why_not(setting: str, listen: Address) -> str:
    """Why changes are not taken on this address; empty: they are."""
    if setting == "never":
        return "changes are switched off here (--admin-changes never)"
    if setting == "loopback" and not listen.is_loopback:
        return (
            f"the admin address {listen} is not on loopback, and whoever reaches it could change "
            "the cluster: ask on the node's own machine with --admin-listen 127.0.0.1:PORT, or "
            "protect the address and start the node with --admin-changes always"
        )
    return ""


class ClusterPages:
    """Answers requests below ``/cluster``.

    Args:
        ask: works on a request, wherever the leader is.
        refusal: why changes are not taken here; empty: they are.
    """

    def __init__(self, ask: Callable[[Request], Awaitable[Request]], refusal: str) -> None:
        self._ask = ask
        self._refusal = refusal

    def owns(self, path: str) -> bool:
        """Whether this path is answered here."""
        return path == "/cluster" or path in _DEEDS

    def allowed(self, path: str) -> str:
        """The methods of this path, for ``Allow``."""
        return "POST" if path in _DEEDS else "GET, HEAD"

    async def answer(self, method: str, path: str, kind: str, body: bytes) -> tuple[int, Request]:
        """Code and content for one request.

        Args:
            method: GET, HEAD or POST.
            path: one that is owned here.
            kind: content type of the body.
            body: at most ``BODY_BYTES_MAX``.
        """
        if path == "/cluster":
            if method not in ("GET", "HEAD"):
                return 405, {"words": "only GET"}
            answer = await self._ask({"ask": "status"})
            shown = answer.get("status")
            return int(answer["code"]), shown if isinstance(shown, dict) else _plain(answer)
        if method != "POST":
            return 405, {"words": "only POST"}
        if self._refusal:
            return 403, {"words": self._refusal}
        if kind.partition(";")[0].strip().lower() != "application/json":
            return 415, {"words": "send the change as application/json"}
        try:
            wanted = decode_object(body) if body else {}
        except RemoteProtocolError as error:
            return 400, {"words": str(error)}
        request: dict[str, Any] = {"ask": _DEEDS[path]}
        if path == "/cluster/change":
            request["change"] = wanted
        else:
            request["to"] = wanted.get("to", 0)
        answer = await self._ask(request)
        return int(answer["code"]), _plain(answer)


def _plain(answer: Request) -> Request:
    return {key: value for key, value in answer.items() if key != "code"}


def encode(content: Request) -> bytes:
    """The body of an answer."""
    return json.dumps(content, indent=2, sort_keys=True, default=str).encode() + b"\n"
