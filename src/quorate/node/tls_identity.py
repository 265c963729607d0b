"""For which node a certificate is: pure work on names.

A certificate that our authority signed says *somebody of ours*. Which node, its subject alternative
names say, in one of two ways:

    URI:quorate:node:2           node 2, wherever it is; nodes on one host can be told apart
    DNS:b.example, IP:10.0.0.2   the node whose peer address (``--cluster``) has this host

With a name of the first kind the second does not count: the stronger statement is meant. The
subject's common name never counts (RFC 6125, section 6.4.4). ``*.example`` stands for one label, as
RFC 6125 has it, so whoever holds such a certificate can be every node in that domain.

Refuses to know: sockets, files, and whether the certificate is signed and in date; TLS did that.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

NODE_NAME = "quorate:node:"


def node_name(node_id: int) -> str:
    """The URI that names a node in its certificate."""
    return f"{NODE_NAME}{node_id}"


def names_nodes(certificate: Mapping[str, Any]) -> bool:
    """Whether a certificate says by number which nodes it is for."""
    return any(kind == "URI" and name.startswith(NODE_NAME) for kind, name in _names(certificate))


def objection_to(certificate: Mapping[str, Any] | None, node_id: int, host: str) -> str | None:
    """Why this is not a certificate of that node; None when it is.

    Args:
        certificate: as ``ssl.SSLObject.getpeercert`` gives it; None or empty: there is none.
        node_id: who is meant; 0 for "any node, or the one at ``host``".
        host: where that node is dialled; empty when that is not known.
    """
    if not certificate:
        return "it showed no certificate"
    names = _names(certificate)
    nodes = [name for kind, name in names if kind == "URI" and name.startswith(NODE_NAME)]
    if nodes:
        if not node_id or node_name(node_id) in nodes:
            return None
        return f"its certificate is for {_list(nodes)}, not for {node_name(node_id)}"
    if host and any(_is_host(kind, name, host) for kind, name in names):
        return None
    who = f"node {node_id}" if node_id else "whoever was dialled"
    where = f" at {host}" if host else ""
    shown = [name for kind, name in names if kind in ("DNS", "IP Address")]
    return (
        f"its certificate is for {_list(shown)}, not for {who}{where}: it must name the host or "
        f"{node_name(node_id) if node_id else 'a node'} (subject alternative name)"
    )


def _names(certificate: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(kind, str(value).strip()) for kind, value in certificate.get("subjectAltName", ())]


def _is_host(kind: str, name: str, host: str) -> bool:
    if kind == "IP Address":
        try:
            return ip_address(name) == ip_address(host)
        except ValueError:
            return False
    return kind == "DNS" and _matches(name.rstrip(".").lower(), host.rstrip(".").lower())


def _matches(pattern: str, host: str) -> bool:
    if not pattern.startswith("*."):
        return pattern == host
    label, dot, rest = host.partition(".")
    return bool(label and dot) and rest == pattern[2:] and "." in rest


def _list(names: list[str]) -> str:
    """A few names, bounded: a stranger wrote them."""
    shown = ", ".join(name[:80] for name in names[:4])
    return (shown + (" ..." if len(names) > 4 else "")) or "no host"
