"""Every setting of a node: its name, its unit, its default, and what it means.

A setting has one key. The flag, the environment variable and the TOML key follow from it:
``election_timeout`` is ``--election-timeout``, ``QUORATE_ELECTION_TIMEOUT`` and
``election_timeout = "500ms"``. ``sources.py`` decides which of them counts.

Invariants:
    * defaults are written as users would write them and go through the same parser
    * a NodeSettings that exists is consistent: its own id is in its cluster, and so on
    * what depends on the data directory too (``beginning.py``) is not decided here
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorate.consensus.registry import DRIFT_PERCENT_MAX, DRIFT_PERCENT_MIN
from quorate.errors import SettingsError
from quorate.node.setting import Setting
from quorate.node.tls_settings import TLS_SETTINGS, TlsSettings, parse_listen, take_tls_settings
from quorate.node.units import (
    Address,
    parse_address,
    parse_addresses,
    parse_cluster,
    parse_count,
    parse_duration_ms,
    parse_size_bytes,
)

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")
READS = ("local", "linearizable", "lease")
JOIN_ROLES = ("voter", "learner", "witness")
ADMIN_CHANGES = ("loopback", "always", "never")


def _one_of(what: str, words: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in words:
            raise SettingsError(f"{text!r} is no {what}; choose one of {', '.join(words)}")
        return text.lower()

    return parse


def _parse_reads(text: str) -> str:
    if text.lower() not in READS:
        raise SettingsError(f"{text!r} is no way to read; choose one of {', '.join(READS)}")
    return text.lower()


def _parse_drift_percent(text: str) -> int:
    """A factor such as 1.1 as hundredths, rounded up: a larger bound is the safer one."""
    try:
        percent = math.ceil(round(float(text) * 100, 6))
    except (ValueError, OverflowError):
        raise SettingsError(f"{text!r} is no number; write for example 1.1") from None
    if not DRIFT_PERCENT_MIN <= percent <= DRIFT_PERCENT_MAX:
        raise SettingsError(
            f"{text} must be {DRIFT_PERCENT_MIN / 100} to {DRIFT_PERCENT_MAX / 100}: how many "
            "times as fast the fastest clock of the cluster runs as the slowest, at most"
        )
    return percent


def _parse_super_digest(text: str) -> str:
    if text and (not text.startswith("super:") or len(text) == len("super:")):
        raise SettingsError("it must look like super:<base64 of sha1>, as in ZooKeeper")
    return text


SETTINGS: tuple[Setting, ...] = (
    Setting("id", "node_id", parse_count, None, "N", "Number of this node, from 1 (required)."),
    Setting("data", "data", Path, None, "DIR", "Directory for everything durable (required)."),
    Setting(
        "listen",
        "listen",
        parse_listen,
        "127.0.0.1:2181",
        "HOST:PORT",
        "Where clients connect without TLS; none: nowhere.",
    ),
    Setting(
        "peer_listen",
        "peer_listen",
        parse_address,
        None,
        "HOST:PORT",
        "Where other nodes connect (default: this node's address in --cluster).",
    ),
    Setting(
        "peer_address",
        "peer_address",
        parse_address,
        None,
        "HOST:PORT",
        "What other nodes dial to reach --peer-listen (default: the same address).",
    ),
    Setting(
        "admin_listen",
        "admin_listen",
        parse_address,
        None,
        "HOST:PORT",
        "Where /live, /ready, /status, /metrics and /cluster answer (default: nowhere).",
    ),
    Setting(
        "admin_changes",
        "admin_changes",
        _one_of("choice", ADMIN_CHANGES),
        "loopback",
        "WHEN",
        "Whether --admin-listen takes changes of the cluster: loopback (only if it listens on a "
        "loopback address), always or never.",
    ),
    Setting(
        "cluster",
        "cluster",
        parse_cluster,
        None,
        "ID=HOST:PORT,...",
        "Peer addresses of the first voters of a new cluster, the same on each of them (default: "
        "this node alone). Once a node has begun, its data directory knows.",
    ),
    Setting(
        "join",
        "join",
        parse_addresses,
        None,
        "HOST:PORT,...",
        "Join the running cluster that these peer addresses belong to; one that answers is enough. "
        "For the first start with an empty directory; later it changes nothing.",
    ),
    Setting(
        "join_as",
        "join_as",
        _one_of("role", JOIN_ROLES),
        "voter",
        "ROLE",
        "What to become when joining: voter, learner or witness.",
    ),
    Setting(
        "tick", "tick_ms", parse_duration_ms, "2s", "TIME", "Sessions last 2 to 20 times this."
    ),
    Setting(
        "election_timeout",
        "election_timeout_ms",
        parse_duration_ms,
        "500ms",
        "TIME",
        "A silent leader is replaced after one to two times this.",
    ),
    Setting(
        "heartbeat",
        "heartbeat_ms",
        parse_duration_ms,
        "100ms",
        "TIME",
        "How often an idle leader speaks; at most a third of the election timeout.",
    ),
    Setting(
        "reads",
        "reads",
        _parse_reads,
        "local",
        "MODE",
        "local: what this node has; linearizable: never stale, one round to a majority for all "
        "reads that wait; lease: never stale while clocks keep to --clock-drift-bound, no round.",
    ),
    Setting(
        "clock_drift_bound",
        "clock_drift_percent",
        _parse_drift_percent,
        "1.1",
        "FACTOR",
        "How many times as fast the fastest clock runs as the slowest, at most (--reads lease).",
    ),
    Setting(
        "drain_timeout",
        "drain_timeout_ms",
        parse_duration_ms,
        "5s",
        "TIME",
        "Longest time that a clean stop may take.",
    ),
    Setting(
        "snapshot_every",
        "snapshot_every_bytes",
        parse_size_bytes,
        "8MiB",
        "SIZE",
        "No snapshot for less log than this.",
    ),
    Setting(
        "snapshot_rate",
        "snapshot_bytes_per_second",
        parse_size_bytes,
        "32MiB",
        "SIZE",
        "Most bytes of snapshots that a leader sends in a second (0B: no limit).",
    ),
    Setting(
        "segment_size",
        "segment_bytes",
        parse_size_bytes,
        "64MiB",
        "SIZE",
        "Size of one file of the write-ahead log.",
    ),
    Setting(
        "disk_reserve",
        "disk_reserve_bytes",
        parse_size_bytes,
        "64MiB",
        "SIZE",
        "With less space than this left on the disk, clients' writes are refused.",
    ),
    Setting(
        "scrub_every",
        "scrub_every_ms",
        parse_duration_ms,
        "1h",
        "TIME",
        "How often files are read through in search of damage, slowly (0s: never).",
    ),
    Setting(
        "request_max",
        "request_bytes_max",
        parse_size_bytes,
        "1048575B",
        "SIZE",
        "Largest request that a client may send (ZooKeeper: jute.maxbuffer).",
    ),
    Setting(
        "connections_max",
        "connections_max",
        parse_count,
        "10000",
        "N",
        "Most client connections at once.",
    ),
    Setting(
        "connections_per_address_max",
        "connections_per_address_max",
        parse_count,
        "0",
        "N",
        "Most client connections from one address (0: no limit of its own).",
    ),
    Setting(
        "client_buffer_max",
        "client_buffer_bytes_max",
        parse_size_bytes,
        "64MiB",
        "SIZE",
        "A client that leaves this much unread is disconnected.",
    ),
    Setting(
        "peer_buffer_max",
        "peer_buffer_bytes_max",
        parse_size_bytes,
        "64MiB",
        "SIZE",
        "A link to a node that leaves this much unread is dropped and dialled again.",
    ),
    Setting(
        "super_digest",
        "super_digest",
        _parse_super_digest,
        "",
        "super:DIGEST",
        "Who logs in with this digest passes every ACL (default: nobody).",
    ),
    Setting(
        "slow_disk",
        "slow_disk_ms",
        parse_duration_ms,
        "250ms",
        "TIME",
        "A write of the log that takes longer is logged and counted.",
    ),
    Setting(
        "log_level",
        "log_level",
        _one_of("log level", LOG_LEVELS),
        "info",
        "LEVEL",
        "Least level to log.",
    ),
    Setting(
        "log_format",
        "log_format",
        _one_of("log format", LOG_FORMATS),
        "text",
        "text|json",
        "Lines for people, or one JSON object per line.",
    ),
    *TLS_SETTINGS,
)

BY_KEY: Mapping[str, Setting] = {setting.key: setting for setting in SETTINGS}


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """The parsed and checked settings of one node; meanings are in ``SETTINGS``."""

    node_id: int
    data: Path
    listen: Address | None
    peer_listen: Address
    peer_address: Address | None
    admin_listen: Address | None
    admin_changes: str
    cluster: Mapping[int, Address]
    is_cluster_given: bool
    is_peer_listen_given: bool
    join: tuple[Address, ...]
    join_as: str
    tick_ms: int
    election_timeout_ms: int
    heartbeat_ms: int
    reads: str
    clock_drift_percent: int
    drain_timeout_ms: int
    snapshot_every_bytes: int
    snapshot_bytes_per_second: int
    segment_bytes: int
    disk_reserve_bytes: int
    scrub_every_ms: int
    request_bytes_max: int
    connections_max: int
    connections_per_address_max: int
    client_buffer_bytes_max: int
    peer_buffer_bytes_max: int
    super_digest: str
    slow_disk_ms: int
    log_level: str
    log_format: str
    tls: TlsSettings

    @property
    def dialled_address(self) -> Address | None:
        """What other nodes dial to reach this one, as far as settings tell."""
        address = self.peer_address
        if address is None and self.is_peer_listen_given:
            address = self.cluster[self.node_id] if self.is_cluster_given else self.peer_listen
        return None if address is None or address.is_wildcard else address

    @property
    def client_address(self) -> Address:
        """Where clients connect: without TLS if that is possible, else with it."""
        address = self.listen or self.tls.client_tls_listen
        assert address is not None
        return address

    @property
    def session_timeout_min_ms(self) -> int:
        """Shortest session granted: two ticks, as ZooKeeper has it."""
        return 2 * self.tick_ms

    @property
    def session_timeout_max_ms(self) -> int:
        """Longest session granted: twenty ticks."""
        return 20 * self.tick_ms


def describe(settings: NodeSettings) -> dict[str, str]:
    """Every setting in force as text, for logs; what is secret is only said to be set."""
    found = {}
    tls = settings.tls.in_force()
    for setting in SETTINGS:
        value = tls[setting.key] if setting.key in tls else getattr(settings, setting.field)
        if setting.key == "super_digest":
            value = "set" if value else "not set"
        elif setting.key == "cluster":
            value = ",".join(f"{node}={address}" for node, address in sorted(value.items()))
        elif setting.field.endswith("_ms"):
            value = f"{value // 1000}s" if value and value % 1000 == 0 else f"{value}ms"
        elif setting.parse is parse_size_bytes:
            value = f"{value >> 20}MiB" if value and value % (1 << 20) == 0 else f"{value}B"
        found[setting.key] = str(value)
    return found


def complete(values: Mapping[str, Any]) -> NodeSettings:
    """Fill in computed defaults and check everything against everything.

    Args:
        values: parsed values by ``Setting.field``; may lack whatever has no default.

    Raises:
        SettingsError: something required is missing or two settings contradict each other.
    """
    known = dict(values)
    for key in ("id", "data"):
        setting = BY_KEY[key]
        if known.get(setting.field) is None:
            raise SettingsError(
                f"{setting.flag} is missing; give the flag, {setting.variable} in the environment "
                f"or {key} in the settings file"
            )
    node_id = known["node_id"]
    cluster = known.get("cluster") or {}
    known["join"] = tuple(known.get("join") or ())
    known["is_cluster_given"] = bool(cluster)
    known["is_peer_listen_given"] = bool(cluster or known.get("peer_listen"))
    if cluster and known["join"]:
        raise SettingsError(
            "--cluster and --join contradict each other: --cluster names the members of a new "
            "cluster, --join enters one that runs; give one of them"
        )
    if not cluster:
        cluster = {node_id: known.get("peer_listen") or Address("127.0.0.1", 2281)}
    if node_id not in cluster:
        members = ", ".join(str(node) for node in sorted(cluster))
        raise SettingsError(f"--id is {node_id}, but --cluster names only {members}; add it there")
    known["cluster"] = cluster
    known["peer_listen"] = known.get("peer_listen") or cluster[node_id]
    known.setdefault("admin_listen", None)
    known.setdefault("peer_address", None)
    known["tls"] = take_tls_settings(known)
    settings = NodeSettings(**known)
    _check(settings)
    return settings


def _check(settings: NodeSettings) -> None:
    if settings.node_id < 1:
        raise SettingsError(f"--id is {settings.node_id}; node ids start at 1")
    if settings.heartbeat_ms < 1 or settings.heartbeat_ms * 3 > settings.election_timeout_ms:
        raise SettingsError(
            f"--heartbeat is {settings.heartbeat_ms}ms and --election-timeout "
            f"{settings.election_timeout_ms}ms; make the heartbeat at most a third of the "
            "timeout, or one lost packet costs a leader"
        )
    if settings.tick_ms < 1:
        raise SettingsError("--tick must be at least 1ms")
    if settings.session_timeout_min_ms < 4 * settings.election_timeout_ms:
        # A node that is cut off answers pings until it gives its leader up, after up to twice the
        # election timeout; a session that may end sooner could end while its client is answered.
        raise SettingsError(
            f"sessions may be as short as {settings.session_timeout_min_ms}ms (twice --tick), but "
            f"--election-timeout is {settings.election_timeout_ms}ms; make --tick at least twice "
            "the election timeout"
        )
    if settings.slow_disk_ms < 1:
        raise SettingsError("--slow-disk must be at least 1ms")
    if settings.listen is None and settings.tls.client_tls_listen is None:
        raise SettingsError(
            "--listen is none and --client-tls-listen is not given: no client "
            "could connect; give one of them an address"
        )
    if settings.connections_max < 1:
        raise SettingsError("--connections-max must be at least 1")
    used: dict[Address, str] = {}
    for flag, address in (
        ("--listen", settings.listen),
        ("--client-tls-listen", settings.tls.client_tls_listen),
        ("--peer-listen", settings.peer_listen),
        ("--admin-listen", settings.admin_listen),
    ):
        if address is None:
            continue
        if address in used:
            raise SettingsError(f"{flag} and {used[address]} are both {address}; choose two ports")
        used[address] = flag


def cluster_digest(cluster: Mapping[int, Address]) -> bytes:
    """Sixteen bytes that are equal exactly on nodes that were given the same members.

    A new cluster takes them as its id, which it keeps for ever, whoever its members are later:
    nodes of different clusters refuse each other by it, and data directories remember it.
    """
    return hashlib.sha256(b"quorate cluster 1\n" + cluster_text(cluster).encode()).digest()[:16]


def cluster_text(cluster: Mapping[int, Address]) -> str:
    """``1=HOST:PORT,2=HOST:PORT``, sorted; the inverse of ``parse_cluster``."""
    return ",".join(f"{node}={cluster[node]}" for node in sorted(cluster))
