"""Everything a node says in its log: each event with its level, its words and its fields.

One line per thing that an operator would want to know. Events are data: text and JSON lines, the
table in docs/monitoring.md and the bound on repeated lines are all made from this list. Where and
how lines are written is ``event_log.py``.

Lines repeat "themselves" when they have the same event and the same value of its ``key`` field;
how often that may be written is bounded, however often it happens.

Invariant: an event's words use only fields that every ``say`` of it gives; a missing one raises.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from logging import CRITICAL, DEBUG, ERROR, INFO, WARNING
from typing import Any

_LOGGER = logging.getLogger("quorate.node")
EVENTS: dict[str, Event] = {}


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of line.

    Attributes:
        name: in JSON lines, and for people who search.
        level: of ``logging``.
        words: the line, with fields in braces.
        meaning: for the table in docs/monitoring.md.
        key: the field that makes two lines of this event different ones; empty for none.
    """

    name: str
    level: int
    words: str
    meaning: str
    key: str = ""

    def __post_init__(self) -> None:
        assert self.name not in EVENTS, self.name
        EVENTS[self.name] = self

    def say(self, **fields: Any) -> None:
        """Write the line, unless its level is not wanted. From any thread."""
        if _LOGGER.isEnabledFor(self.level):
            words = self.words.format(**fields)
            _LOGGER.log(self.level, "%s", words, extra={"event": self, "fields": fields})


# ---- life of the process -------------------------------------------------------------------------

NODE_STARTED = Event(
    "node_started",
    INFO,
    "quorate {version} serves {listen} in {milliseconds} ms: data {data}, peers {peer_listen}, "
    "admin {admin_listen}, start {incarnation}, {entries} entries recovered, loop {loop}",
    "the node listens; it serves as soon as a leader is known",
)
SETTINGS_IN_FORCE = Event(
    "settings", INFO, "settings in force: {settings}", "every setting, whatever it came from"
)
NODE_STOPPING = Event("node_stopping", INFO, "{reason}; stopping", "a clean stop begins")
NODE_STOPPED = Event(
    "node_stopped", INFO, "stopped with exit code {exit_code}", "the last line of a node"
)
NODE_FAILED = Event(
    "node_failed", CRITICAL, "{reason}", "the node cannot go on; the words say what to do"
)
QUITTING = Event(
    "quitting", WARNING, "{signal} again: quitting at once", "a second signal; safe, as a crash is"
)
HANDED_OVER = Event(
    "handed_over",
    INFO,
    "handed leadership over to node {leader}",
    "a leader that stops has a successor",
)
DISK_UNFINISHED = Event(
    "disk_unfinished",
    WARNING,
    "the disk did not finish within {seconds:.1f} s",
    "the node ends anyway; nothing acknowledged depends on what was not written",
)
FEW_DESCRIPTORS = Event(
    "few_descriptors",
    WARNING,
    "{allowed} open files are allowed, so {clients} clients at most; raise ulimit -n for {wanted}",
    "the limit of open files is lower than connections_max needs",
)
SOCKET_TROUBLE = Event(
    "socket_trouble",
    WARNING,
    "{what}: {error} ({count} of this kind so far)",
    "the operating system refused something on a socket, descriptors for instance",
)

# ---- leadership ----------------------------------------------------------------------------------

CAMPAIGNING = Event(
    "campaigning",
    INFO,
    "asks for votes beyond epoch {epoch}: {cause}",
    "this node would lead",
    key="cause",
)
ELECTED = Event(
    "elected", INFO, "leads epoch {epoch}: {cause}", "this node won an election", key="cause"
)
STEPPED_DOWN = Event(
    "stepped_down",
    WARNING,
    "leads no more, now in epoch {epoch}: {cause}",
    "this node gave leadership up, or lost it",
    key="cause",
)
LEADER_KNOWN = Event(
    "leader_known", INFO, "follows node {leader} in epoch {epoch}", "another node leads"
)
LEADER_LOST = Event(
    "leader_lost",
    WARNING,
    "knows no leader in epoch {epoch}: nothing is written until one is elected",
    "the node does not serve",
)
SERVING = Event(
    "serving", INFO, "serves clients in epoch {epoch}", "a leader is known, on itself: established"
)

# ---- members and links ---------------------------------------------------------------------------

MEMBER_LAGGING = Event(
    "member_lagging",
    WARNING,
    "node {member} lags behind: {lag_entries} entries, {state}",
    "seen by the leader: a member does not answer, or is far behind",
    key="member",
)
MEMBER_CAUGHT_UP = Event(
    "member_caught_up",
    INFO,
    "node {member} has caught up, {seconds:.1f} s later",
    "seen by the leader",
    key="member",
)
TOLERANCE_LOWER = Event(
    "tolerance_lower",
    WARNING,
    "tolerates {failures} more of {whole} failures",
    "seen by the leader: the cluster is less safe than it was",
)
TOLERANCE_HIGHER = Event(
    "tolerance_higher",
    INFO,
    "tolerates {failures} more of {whole} failures",
    "seen by the leader",
)
MEMBERS_CHANGED = Event(
    "members_changed",
    INFO,
    "members since index {index}: voters {voters}, others {others}",
    "who belongs from now on, as this node acts on it",
)
CHANGE_ANSWERED = Event(
    "change_answered",
    INFO,
    "change of members {outcome}{words}",
    "a change that was asked for through this node: accepted, done, refused, given up or unknown",
)
CLUSTER_DIFFERS = Event(
    "cluster_differs",
    WARNING,
    "{words}",
    "--cluster names other members than the data directory knows; the directory counts",
)
NEVER_ADDED = Event(
    "never_added",
    WARNING,
    "this node was never added to its cluster: start it with --join, or add it with `quorate "
    "cluster add`",
    "it began to join, and nobody was asked",
)
JOINING = Event(
    "joining", INFO, "asking to be added to cluster {cluster}", "a node with --join asks"
)
JOIN_WAITS = Event(
    "join_waits",
    INFO,
    "cannot join yet, asking on: {words}",
    "nobody can be reached, or another change is under way",
    key="words",
)
CATCHING_UP = Event(
    "catching_up",
    INFO,
    "catching up: {percent} % of what is committed is applied here",
    "a node that joined is being brought up to date",
)
JOINED = Event("joined", INFO, "node {node_id} is a {role} now", "joining is done")
LINK_STANDS = Event(
    "link_stands", INFO, "linked to node {peer} at {address}", "messages can be sent", key="peer"
)
LINK_TROUBLE = Event(
    "link_trouble",
    WARNING,
    "node {peer} at {address}: {words}",
    "a node cannot be reached, refuses this one, or the link to it broke",
    key="peer",
)
LINK_DROPPED = Event(
    "link_dropped",
    WARNING,
    "link from {who} at {address} dropped: {error}",
    "whoever dialled does not speak the protocol",
    key="who",
)
PEER_REFUSED = Event(
    "peer_refused",
    WARNING,
    "refused node {peer} at {address}: {reason}",
    "a node of another cluster, a copied directory, and so on",
    key="peer",
)

VERSIONS_PRETENDED = Event(
    "versions_pretended",
    WARNING,
    "{variable} is set: this node says that it speaks {low} to {high}",
    "for tests only: a node that seems older or newer than it is",
)

# ---- who is let in -------------------------------------------------------------------------------

CONNECTION_REFUSED = Event(
    "connection_refused",
    WARNING,
    "refused {host} on {door}: {reason}{times}",
    "the TLS handshake failed, or TLS met no TLS; said the 1st, 2nd, 4th, 8th ... time",
    key="host",
)
ASKED_REFUSED = Event(
    "asked_refused",
    WARNING,
    "node at {address}: {reason}",
    "a node that joins asked there, and does not believe who answered",
    key="address",
)
PLAINTEXT_TAKEN = Event(
    "plaintext_taken",
    WARNING,
    "--peer-tls is {mode}: links without TLS are taken too, from anybody; go on to require when "
    "all nodes dial with TLS",
    "this cluster is on its way to TLS",
)
CERTIFICATES_LOADED = Event(
    "certificates_loaded",
    INFO,
    "certificates loaded; new connections use them (until {until})",
    "files changed, or SIGHUP came",
)
CERTIFICATES_UNUSABLE = Event(
    "certificates_unusable",
    ERROR,
    "new certificates are not used, the old ones still are: {error}",
    "files changed to something that this node cannot use",
)
CERTIFICATE_EXPIRES = Event(
    "certificate_expires",
    WARNING,
    "the certificate in {file} {when}: put a new one there; no restart is needed",
    "less than two weeks are left; said once a day",
    key="file",
)

# ---- clients -------------------------------------------------------------------------------------

CONNECTION_CLOSED = Event(
    "connection_closed",
    INFO,
    "client {address}: connection closed: {reason} (session {session})",
    "this node closed a client's connection",
    key="reason",
)
CONNECTION_ENDED = Event(
    "connection_ended",
    DEBUG,
    "client {address}: connection ended: {reason} (session {session})",
    "the client ended its connection",
    key="reason",
)
CLIENT_REFUSED = Event(
    "client_refused",
    WARNING,
    "refused client {address}: {reason} ({count} refused so far)",
    "too many connections",
    key="reason",
)
CLIENT_UNREAD = Event(
    "client_unread",
    WARNING,
    "client {address} leaves {unread} bytes unread; connection aborted",
    "a client does not read its answers",
)

# ---- disk and snapshots --------------------------------------------------------------------------

DISK_SLOW = Event(
    "disk_slow",
    WARNING,
    "a write to the log took {milliseconds} ms",
    "one write and fsync took longer than slow_disk",
)
DISK_STALLED = Event(
    "disk_stalled",
    WARNING,
    "the disk has been busy with one write for {milliseconds} ms",
    "a write takes longer than slow_disk and is not done yet",
)
DISK_RECOVERED = Event("disk_recovered", INFO, "the disk answers again", "after disk_stalled")
DISK_FULL = Event(
    "disk_full",
    ERROR,
    "the disk is full: {free_bytes} bytes are free, {reserve_bytes} are kept for votes. Clients' "
    "writes are refused here and leadership goes to a node with space; make room, and this node "
    "goes on by itself",
    "less space is left than disk_reserve",
)
DISK_HAS_SPACE = Event(
    "disk_has_space",
    WARNING,
    "the disk has space again, {free_bytes} bytes: writes are taken",
    "after disk_full",
)
DISK_DAMAGED = Event(
    "disk_damaged",
    WARNING,
    "{damage}. What this node lost is brought back by the others; until then it does not vote",
    "found at a start: part of the log or of the snapshot is gone",
)
DISK_ROTS = Event(
    "disk_rots",
    ERROR,
    "{damage}; this node starts again to be repaired by the others",
    "found while looking through files that nobody reads",
)
DISK_ROTS_ALONE = Event(
    "disk_rots_alone",
    ERROR,
    "{damage}; all is still in memory: save it now (quorate snapshot save), then replace the disk",
    "the same, and no other node is linked that could repair it",
)
DISK_REPAIRED = Event(
    "disk_repaired",
    WARNING,
    "repaired: this node has again all that its disk had lost",
    "it votes again",
)
SNAPSHOT_BEGUN = Event(
    "snapshot_begun", DEBUG, "snapshot at index {index} begun", "the state is being written"
)
SNAPSHOT_TAKEN = Event(
    "snapshot_taken",
    INFO,
    "snapshot at index {index}: {size_bytes} bytes in {milliseconds} ms",
    "the state is durable; the log before it may go",
)
SNAPSHOT_GIVEN_UP = Event(
    "snapshot_given_up",
    WARNING,
    "snapshot at index {index} was given up and is tried again later: {reason}",
    "there is too little space for it; the log before it stays",
)
SNAPSHOT_INSTALLED = Event(
    "snapshot_installed",
    WARNING,
    "loaded the leader's snapshot at index {index} in {milliseconds} ms; clients were let go",
    "this node was too far behind for the log",
)

# ---- the process itself --------------------------------------------------------------------------

LOOP_BLOCKED = Event(
    "loop_blocked",
    WARNING,
    "the event loop came {milliseconds} ms late: this process was stopped, starved or busy",
    "longer than half of the election timeout; others may take this node for dead",
)
LINES_LEFT_OUT = Event(
    "lines_left_out",
    INFO,
    "{count} more lines of {event} were left out within {seconds:.0f} s",
    "the bound on repeated lines",
    key="event",
)
