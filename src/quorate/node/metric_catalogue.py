"""Every metric that a node exports: its name, its unit, what it means and where it is read.

docs/metrics.md is written from this list, and a test keeps the two equal. Numbers are those of the
pure objects (``status``, statistics of the store), of ``Measures`` and of the operating system,
read when somebody asks. Counters start at 0 with the process.

To add one: a line here, ``tests/docs/metrics_page.py --write``, and a panel or an alert in
``deploy/`` if people should look at it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from quorate import __version__
from quorate.node.disk_watch import DiskWatch
from quorate.node.measures import Measures
from quorate.node.metrics import Metric, Samples
from quorate.node.process_figures import ProcessFigures
from quorate.storage.store import StoreStatistics

ROLES = ("leader", "follower", "candidate", "learner", "witness", "repairing")


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that metrics are read from.

    Attributes:
        status: the node's status page.
        store: what the data directory counts.
        measures: what the process measures.
        disk: whether the disk hangs now.
        process: what the operating system knows.
        peers: ids of the other members that this node dials.
        lines_left_out: lines that the log did not write because they repeated themselves.
    """

    status: dict[str, Any]
    store: StoreStatistics
    measures: Measures
    disk: DiskWatch
    process: ProcessFigures
    peers: tuple[int, ...]
    lines_left_out: int


def _status(key: str) -> Callable[[Picture], Samples]:
    def read(picture: Picture) -> Samples:
        value: Samples = picture.status[key]
        return value

    return read


def _by_member(key: str) -> Callable[[Picture], Samples]:
    def read(picture: Picture) -> Iterator[tuple[tuple[str, ...], Any]]:
        for member in picture.status["members"]:
            yield (str(member["node_id"]),), member[key]

    return read


def _by_reason(key: str) -> Callable[[Picture], Samples]:
    def read(picture: Picture) -> Iterator[tuple[tuple[str, ...], Any]]:
        for reason, count in picture.status[key].items():
            yield (reason,), count

    return read


def _certificates(picture: Picture) -> Iterator[tuple[tuple[str, ...], float]]:
    for use, seconds in picture.status["tls"]["certificates_not_after_seconds"].items():
        yield (use,), seconds


def _roles(picture: Picture) -> Iterator[tuple[tuple[str, ...], int]]:
    role = picture.status["role"]
    for name in ROLES if role in ROLES else (*ROLES, role):
        yield (name,), int(name == role)


def _role_changes(picture: Picture) -> Iterator[tuple[tuple[str, ...], int]]:
    for change in picture.status["role_changes"]:
        yield (change["role"], change["cause"]), change["count"]


def _links(picture: Picture) -> Iterator[tuple[tuple[str, ...], int]]:
    for peer in picture.peers:
        yield (str(peer),), int(peer in picture.status["linked"])


def _build(picture: Picture) -> Iterator[tuple[tuple[str, ...], int]]:
    yield (__version__, platform.python_version(), picture.status["engine"]), 1


_LEADERSHIP = (
    Metric("quorate_build_info", "gauge", "Versions; always 1.", _build,
           ("version", "python", "engine")),
    Metric("quorate_serving", "gauge", "1 when clients get answers here.", _status("serving")),
    Metric("quorate_role", "gauge", "1 for the role that this node has.", _roles, ("role",)),
    Metric("quorate_leader_id", "gauge", "Node that leads as far as this one knows; 0: none.",
           _status("leader")),
    Metric("quorate_epoch", "gauge", "Number of the leadership (in Raft: term).", _status("epoch")),
    Metric("quorate_leader_changes_total", "counter",
           "How often somebody else than before was seen to lead; the first leader counts.",
           _status("leader_changes")),
    Metric("quorate_role_changes_total", "counter",
           "How often this node asked for votes (candidate), won (leader) or gave leadership up "
           "(follower), by cause.", _role_changes, ("role", "cause")),
    Metric("quorate_voters", "gauge", "Voting members.", lambda p: len(p.status["voters"])),
    Metric("quorate_failures_tolerated", "gauge",
           "More failures that the cluster survives now; only the leader knows.",
           _status("failures_tolerated")),
    Metric("quorate_failures_tolerated_when_whole", "gauge",
           "Failures that the cluster survives when all members work.",
           _status("failures_tolerated_when_whole")),
    Metric("quorate_member_active", "gauge",
           "1 when the member answered within an election timeout; only on the leader.",
           _by_member("active"), ("member",)),
    Metric("quorate_member_lag_entries", "gauge",
           "Entries of the log that the member has not stored; only on the leader.",
           _by_member("lag_entries"), ("member",)),
    Metric("quorate_member_match_index", "gauge",
           "Up to here the member has stored the log; only on the leader.",
           _by_member("match_index"), ("member",)),
    Metric("quorate_peer_linked", "gauge", "1 when this node's link to the peer stands.", _links,
           ("peer",)),
)  # fmt: skip

_THE_LOG = (
    Metric("quorate_commit_index", "gauge", "Newest entry known to be on a majority.",
           _status("commit_index")),
    Metric("quorate_applied_index", "gauge", "Newest entry applied to the tree here.",
           _status("applied_index")),
    Metric("quorate_behind_entries", "gauge",
           "Entries that the leader has committed and this node has not applied.",
           _status("behind_entries")),
    Metric("quorate_durable_index", "gauge", "Newest entry on this node's disk.",
           _status("durable_index")),
    Metric("quorate_last_index", "gauge", "Newest entry in this node's log.",
           _status("last_index")),
    Metric("quorate_first_index", "gauge", "Oldest entry still in this node's log.",
           _status("first_index")),
    Metric("quorate_digest_agreed_index", "gauge",
           "Newest index at which a majority had the same state as this node.",
           _status("digest_agreed_index")),
    Metric("quorate_batches_submitted_total", "counter", "Batches of this node's clients.",
           _status("batches_submitted")),
    Metric("quorate_batches_applied_total", "counter", "Batches of all nodes' clients applied.",
           _status("batches_applied")),
    Metric("quorate_batches_repeated_total", "counter",
           "Batches in the log that had been applied before, and were not again.",
           _status("batches_repeated")),
    Metric("quorate_batches_dropped_total", "counter",
           "Forwarded batches that this leader did not take; their nodes send them again.",
           _status("batches_dropped")),
    Metric("quorate_batches_pending", "gauge", "Batches of this node's clients not applied yet.",
           _status("batches_pending")),
    Metric("quorate_pending_bytes", "gauge", "Their size.", _status("pending_bytes")),
    Metric("quorate_applied_bytes_total", "counter", "Payload of the entries applied.",
           _status("bytes_applied")),
    Metric("quorate_commit_duration_seconds", "histogram",
           "From taking a batch of this node's clients to its apply here.",
           lambda p: p.measures.commit),
    Metric("quorate_ignored_events_total", "counter",
           "Messages and events without effect, by reason; most reasons are harmless.",
           _by_reason("ignored"), ("reason",)),
)  # fmt: skip

_CLIENTS = (
    Metric("quorate_connections", "gauge", "Clients connected here.", _status("connections")),
    Metric("quorate_connections_refused_total", "counter", "Clients refused: too many.",
           _status("connections_refused")),
    Metric("quorate_connections_closed_total", "counter", "Connections that ended, by reason.",
           _by_reason("connections_closed"), ("reason",)),
    Metric("quorate_protocol_errors_total", "counter", "Clients that sent nonsense.",
           _status("protocol_errors")),
    Metric("quorate_sessions", "gauge", "Sessions in the cluster.", _status("sessions")),
    Metric("quorate_sessions_expired_total", "counter",
           "Sessions that ended by silence; every node counts all.", _status("expired")),
    Metric("quorate_znodes", "gauge", "Znodes in the tree.", _status("znodes")),
    Metric("quorate_ephemeral_znodes", "gauge", "Those that end with a session.",
           _status("ephemerals")),
    Metric("quorate_watches", "gauge", "Watches of this node's clients.", _status("watches")),
    Metric("quorate_requests_total", "counter", "Requests of this node's clients answered.",
           _status("packets_received")),
    Metric("quorate_client_received_bytes_total", "counter", "Bytes from clients.",
           _status("bytes_received")),
    Metric("quorate_client_sent_bytes_total", "counter", "Bytes to clients.",
           _status("bytes_sent")),
    Metric("quorate_outstanding_request_bytes", "gauge",
           "Requests of this node's clients on their way through the log.",
           _status("outstanding_bytes")),
)  # fmt: skip

_DISK = (
    Metric("quorate_disk_write_duration_seconds", "histogram",
           "One write and sync of the log; a batch's time on disk.",
           lambda p: p.measures.disk_write),
    Metric("quorate_disk_stalls_total", "counter", "Writes that took longer than slow_disk.",
           lambda p: p.measures.disk_stalls),
    Metric("quorate_disk_stalled", "gauge", "1 while a write takes longer than slow_disk.",
           lambda p: p.disk.is_stalled),
    Metric("quorate_disk_busy_seconds", "gauge", "How long the write under way has taken.",
           lambda p: p.disk.busy_seconds),
    Metric("quorate_disk_full", "gauge",
           "1 while less space than disk_reserve is left, so that writes are refused.",
           _status("disk_full")),
    Metric("quorate_writes_refused_total", "counter",
           "Writes of this node's clients refused because its disk is full.",
           _status("writes_refused")),
    Metric("quorate_disk_free_bytes", "gauge", "Room left for the data directory.",
           lambda p: p.process.disk_free_bytes),
    Metric("quorate_disk_size_bytes", "gauge", "Size of its file system.",
           lambda p: p.process.disk_size_bytes),
    Metric("quorate_wal_syncs_total", "counter", "Syncs of the log.", lambda p: p.store.fsyncs),
    Metric("quorate_wal_written_bytes_total", "counter",
           "Bytes written to the log, headers and preallocation included.",
           lambda p: p.store.bytes_written),
    Metric("quorate_wal_segments", "gauge", "Files of the log that hold entries.",
           lambda p: p.store.segments),
    Metric("quorate_snapshot_index", "gauge", "Index of the newest snapshot here; 0: none.",
           lambda p: p.store.snapshot_index),
    Metric("quorate_snapshot_bytes", "gauge",
           "The state in the last snapshot taken or loaded here, before compression.",
           _status("snapshot_last_bytes")),
    Metric("quorate_snapshot_running", "gauge", "1 while a snapshot is being written.",
           _status("snapshot_running")),
    Metric("quorate_snapshot_write_duration_seconds", "histogram",
           "Writing a snapshot, beside serving clients.", lambda p: p.measures.snapshot_write),
    Metric("quorate_snapshot_load_duration_seconds", "histogram",
           "Loading a snapshot that the leader sent, while clients wait.",
           lambda p: p.measures.snapshot_load),
    Metric("quorate_snapshots_taken_total", "counter", "Snapshots taken here.",
           _status("snapshots_saved")),
    Metric("quorate_snapshots_given_up_total", "counter",
           "Snapshots for which the disk had no space; tried again later.",
           lambda p: p.measures.snapshots_given_up),
    Metric("quorate_snapshots_installed_total", "counter",
           "Snapshots of a leader loaded here, because the log did not reach back far enough.",
           _status("snapshots_installed")),
    Metric("quorate_log_since_snapshot_bytes", "gauge", "Log since the last snapshot began.",
           _status("log_bytes_since_snapshot")),
    Metric("quorate_snapshot_threshold_bytes", "gauge", "So much log makes a snapshot due.",
           _status("snapshot_threshold_bytes")),
)  # fmt: skip

_PROCESS = (
    Metric("quorate_loop_delay_seconds", "histogram",
           "How late the event loop came to its tick of 10 ms.", lambda p: p.measures.loop_delay),
    Metric("quorate_gc_pause_seconds", "histogram", "Collections of garbage; all stands still.",
           lambda p: p.measures.gc_pause),
    Metric("quorate_turns_total", "counter", "Turns of the driver; without them nothing goes on.",
           lambda p: p.measures.turns),
    Metric("quorate_log_lines_left_out_total", "counter",
           "Lines that the log left out because they repeated themselves.",
           lambda p: p.lines_left_out),
    Metric("quorate_certificate_not_after_seconds", "gauge",
           "When the certificate that this node shows expires, since 1970; none without TLS.",
           _certificates, ("use",)),
    Metric("process_cpu_seconds_total", "counter", "CPU time, user and system.",
           lambda p: p.process.cpu_seconds),
    Metric("process_resident_memory_bytes", "gauge", "Resident memory.",
           lambda p: p.process.resident_bytes),
    Metric("process_open_fds", "gauge", "Open file descriptors.",
           lambda p: p.process.open_descriptors),
    Metric("process_max_fds", "gauge", "Most file descriptors allowed.",
           lambda p: p.process.descriptors_max),
    Metric("process_start_time_seconds", "gauge", "When the process started, since 1970.",
           lambda p: p.process.started_seconds),
)  # fmt: skip

SECTIONS: dict[str, tuple[Metric, ...]] = {
    "Leadership and members": _LEADERSHIP,
    "The log": _THE_LOG,
    "Clients and the tree": _CLIENTS,
    "Disk and snapshots": _DISK,
    "The process": _PROCESS,
}
METRICS: tuple[Metric, ...] = tuple(metric for part in SECTIONS.values() for metric in part)

assert len({metric.name for metric in METRICS}) == len(METRICS)
