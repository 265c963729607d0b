"""Asking nodes how they are, over the network, with a time limit: words and pages.

Only for people's commands: blocking sockets, no retries. ``None`` means "no answer". With a
context the connection is TLS, to a node that our authority knows or to the host that was named.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from typing import Any

from quorate.node.tls_identity import objection_to
from quorate.node.units import Address

_ANSWER_BYTES_MAX = 1 << 20


def connect(
    address: Address, timeout_seconds: float, context: ssl.SSLContext | None = None
) -> socket.socket:
    """Connect to a node.

    Raises:
        OSError: it cannot be reached, or it is not who it should be.
    """
    sock = socket.create_connection(address, timeout=timeout_seconds)
    if context is None:
        return sock
    try:
        secured = context.wrap_socket(sock)
        objection = objection_to(secured.getpeercert(), 0, address.host)
        if objection is not None:
            secured.close()
            raise ssl.SSLError(objection)
    except BaseException:
        sock.close()
        raise
    return secured


def four_letter_word(
    address: Address, word: str, timeout_seconds: float, context: ssl.SSLContext | None = None
) -> str | None:
    """Ask a four-letter word on a client port, as every ZooKeeper understands it."""
    answer = bytearray()
    try:
        with connect(address, timeout_seconds, context) as sock:
            sock.settimeout(timeout_seconds)
            sock.sendall(word.encode("ascii"))
            while len(answer) < _ANSWER_BYTES_MAX:
                chunk = sock.recv(65536)
                if not chunk:
                    return answer.decode("utf-8", "replace")
                answer += chunk
    except OSError:
        return None
    return None


def figures(
    address: Address, timeout_seconds: float, context: ssl.SSLContext | None = None
) -> dict[str, str] | None:
    """The ``mntr`` figures of a server; empty when it answers but does not serve."""
    answer = four_letter_word(address, "mntr", timeout_seconds, context)
    if answer is None:
        return None
    return dict(line.split("\t", 1) for line in answer.splitlines() if "\t" in line)


def status_page(
    address: Address, timeout_seconds: float, context: ssl.SSLContext | None = None
) -> dict[str, Any] | None:
    """The ``/status`` page of a node's admin port."""
    connection = http.client.HTTPConnection(*address, timeout=timeout_seconds)
    try:
        connection.sock = connect(address, timeout_seconds, context)
        connection.request("GET", "/status")
        page = json.loads(connection.getresponse().read(_ANSWER_BYTES_MAX))
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return page if isinstance(page, dict) else None
