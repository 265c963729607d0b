"""Four-letter words: what operators and monitoring agents ask on the client port.

The first four bytes of a connection are a word when they are ASCII letters; as the length of a
frame they would mean 1.6 GB, so the two can not be confused. The answer is text; then the
connection is closed. Field names and layout are ZooKeeper's, because agents parse them.

Knows how answers look, not where the figures come from: ``ServerInfo`` is filled by whoever runs
the node, ``ServiceStatistics`` by ``tree/service.py``.

Invariant: a node that does not serve says so, in ZooKeeper's words, and shows no figures that a
client might take for the cluster's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

COMPATIBLE_WITH = "3.8.0"
"""The ZooKeeper whose protocol we speak; clients parse it and switch features on it."""

NOT_SERVING = b"This ZooKeeper instance is not currently serving requests\n"

WORDS = frozenset({b"ruok", b"srvr", b"stat", b"mntr", b"envi", b"isro", b"conf"})
REFUSED_WORDS = frozenset(
    {b"cons", b"dump", b"wchs", b"wchp", b"wchc", b"dirs", b"crst", b"srst", b"hash"}
    | {b"gtmk", b"stmk", b"kill"}
)
"""Words ZooKeeper knows and we keep to the admin interface: they show or change too much."""


@dataclass(slots=True)
class ServerInfo:
    """What a node knows about itself when a word is asked.

    Attributes:
        mode: ``leader``, ``follower`` or ``standalone``; empty when no leader is established.
        node_id: this node.
        version: of quorate.
        uptime_ms: since the node started.
        peers: other voters; only the leader's ``mntr`` shows them.
        peers_synced: how many of them have all that is committed.
        configuration: settings in ``name=value`` form, for ``conf``.
        environment: names and values for ``envi``.
        figures: further ``zk_`` keys for ``mntr``.
    """

    mode: str = ""
    node_id: int = 0
    version: str = "0.1.0"
    uptime_ms: int = 0
    peers: int = 0
    peers_synced: int = 0
    configuration: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    figures: dict[str, int | str] = field(default_factory=dict)


class ServiceStatistics(NamedTuple):
    """Figures of one node's client service since it started.

    Latencies are those of writes, from the chunk that brought them to their answer, in ms.
    """

    connections: int = 0
    connections_refused: int = 0
    sessions: int = 0
    znodes: int = 0
    ephemerals: int = 0
    watches: int = 0
    outstanding_runs: int = 0
    outstanding_bytes: int = 0
    packets_received: int = 0
    packets_sent: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    latency_min_ms: int = 0
    latency_max_ms: int = 0
    latency_sum_ms: int = 0
    latency_count: int = 0
    expired: int = 0
    protocol_errors: int = 0
    writes_refused: int = 0  # because the disk is full
    zxid: int = 0
    clients: tuple[str, ...] = ()

    @property
    def latency_average_ms(self) -> float:
        """Mean latency of writes, 0 when there were none."""
        return self.latency_sum_ms / max(self.latency_count, 1)


def answer_word(word: bytes, info: ServerInfo, statistics: ServiceStatistics) -> bytes:
    """Answer a four-letter word.

    Args:
        word: one of ``WORDS`` or ``REFUSED_WORDS``.
        info: the node as it is now.
        statistics: its client service as it is now.
    """
    assert len(word) == 4
    answer = _ANSWERS.get(word)
    if answer is None:
        return word + b" is not executed because it is not in the whitelist.\n"
    if not info.mode and word in _NEED_A_LEADER:
        return NOT_SERVING
    return answer(info, statistics).encode()


def zookeeper_version(info: ServerInfo) -> str:
    """Name the ZooKeeper we are compatible with first: clients' regular expressions want digits."""
    return f"{COMPATIBLE_WITH}-quorate-{info.version}, built on quorate"


def _ruok(_info: ServerInfo, _statistics: ServiceStatistics) -> str:
    return "imok"


def _isro(_info: ServerInfo, _statistics: ServiceStatistics) -> str:
    return "rw"


def _conf(info: ServerInfo, _statistics: ServiceStatistics) -> str:
    lines = [f"{name}={value}\n" for name, value in info.configuration.items()]
    return "".join([*lines, f"serverId={info.node_id}\n"])


def _envi(info: ServerInfo, _statistics: ServiceStatistics) -> str:
    lines = [f"{name}={value}\n" for name, value in info.environment.items()]
    return "".join(["Environment:\n", f"zookeeper.version={zookeeper_version(info)}\n", *lines])


def _srvr(info: ServerInfo, statistics: ServiceStatistics) -> str:
    return f"Zookeeper version: {zookeeper_version(info)}\n" + _state(info, statistics)


def _stat(info: ServerInfo, statistics: ServiceStatistics) -> str:
    clients = "".join(f" {line}\n" for line in statistics.clients)
    version = zookeeper_version(info)
    return f"Zookeeper version: {version}\nClients:\n{clients}\n" + _state(info, statistics)


def _state(info: ServerInfo, statistics: ServiceStatistics) -> str:
    latency = (
        f"{statistics.latency_min_ms}/{statistics.latency_average_ms:.4f}"
        f"/{statistics.latency_max_ms}"
    )
    return (
        f"Latency min/avg/max: {latency}\n"
        f"Received: {statistics.packets_received}\n"
        f"Sent: {statistics.packets_sent}\n"
        f"Connections: {statistics.connections}\n"
        f"Outstanding: {statistics.outstanding_runs}\n"
        f"Zxid: 0x{statistics.zxid:x}\n"
        f"Mode: {info.mode}\n"
        f"Node count: {statistics.znodes}\n"
    )


def _mntr(info: ServerInfo, statistics: ServiceStatistics) -> str:
    figures: dict[str, int | str] = {
        "zk_version": zookeeper_version(info),
        "zk_server_state": info.mode,
        "zk_uptime": info.uptime_ms,
        "zk_avg_latency": f"{statistics.latency_average_ms:.4f}",
        "zk_min_latency": statistics.latency_min_ms,
        "zk_max_latency": statistics.latency_max_ms,
        "zk_packets_received": statistics.packets_received,
        "zk_packets_sent": statistics.packets_sent,
        "zk_num_alive_connections": statistics.connections,
        "zk_connection_rejected": statistics.connections_refused,
        "zk_outstanding_requests": statistics.outstanding_runs,
        "zk_znode_count": statistics.znodes,
        "zk_watch_count": statistics.watches,
        "zk_ephemerals_count": statistics.ephemerals,
        "zk_global_sessions": statistics.sessions,
        "zk_local_sessions": 0,
        "zk_last_processed_zxid": statistics.zxid,
        "zk_stale_sessions_expired": statistics.expired,
    }
    if info.mode == "leader":
        figures["zk_learners"] = info.peers
        figures["zk_synced_followers"] = info.peers_synced
    return "".join(f"{name}\t{value}\n" for name, value in (figures | info.figures).items())


_NEED_A_LEADER = frozenset({b"srvr", b"stat", b"mntr"})
_ANSWERS: dict[bytes, Callable[[ServerInfo, ServiceStatistics], str]] = {
    b"ruok": _ruok,
    b"isro": _isro,
    b"conf": _conf,
    b"envi": _envi,
    b"srvr": _srvr,
    b"stat": _stat,
    b"mntr": _mntr,
}
assert frozenset(_ANSWERS) == WORDS
