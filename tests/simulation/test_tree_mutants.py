"""The judges of trees and sessions are judged: each promise is broken once and must be missed.

A mutant takes one rule out of the product; some property must report it within a few dozen short
runs. Each test begins at a seed that shows it soon.
"""

import pytest

from quorate.errors import InvariantBroken
from quorate.replication import origins, outbox, replica
from quorate.simulation.judges.sessions import SessionJudge
from quorate.simulation.plan import Wishes, draw_scenario
from quorate.simulation.run import Run
from quorate.simulation.scenario import parse_scenario
from quorate.simulation.workloads.catalogue import workload_named
from quorate.tree import client as tree_client
from quorate.tree import (
    client_desk,
    multi,
    reads,
    requests,
    server,
    service,
    session_clock,
    session_keeper,
    tree,
    watch_requests,
    watches,
    writes,
)
from quorate.tree.batch import FRAMES

SEEDS = 60
DURATION_US = 12_000_000

QUIET = """quorate scenario 1
seed 1
workload tree
nodes {nodes}
clients 3
duration 12s
calm 20s
set election_timeout_ms 500
client 1 at 0s open 600ms
client 2 at 0s open 600ms
client 3 at 0s open 600ms
client 1 at 1s create /e 1 ephemeral
client 2 at 1s create /f 1 ephemeral
client 3 at 1s create /g 1 ephemeral
"""
"""Clients that do little but keep their sessions."""


def suspended():
    """The lid of a laptop is closed: the only node stands still, and so do its clients."""
    lines = ["at 3s pause 1", "at 5s resume 1"]
    lines += [f"client {client} at 2900ms sleep 2200ms" for client in (1, 2, 3)]
    return parse_scenario(QUIET.format(nodes=1) + "\n".join(lines), "suspended")


def cut_off():
    """Each node is cut off, and a session falls silent just before."""
    lines = []
    for node in (1, 2, 3):
        at_ms = 3_000 * node
        lines += [f"at {at_ms}ms isolate {node}", f"at {at_ms + 900}ms heal"]
        lines += [f"client 3 at {at_ms - 450}ms die", f"client 3 at {at_ms + 2_000}ms create /g 1"]
    return parse_scenario(QUIET.format(nodes=3) + "\n".join(lines), "cut off")


def drawn(first, *faults):
    """The scenarios of some seeds."""
    wishes = Wishes(workload="tree", duration_us=DURATION_US, faults=faults or None)
    for seed in range(first, first + SEEDS):
        yield draw_scenario(seed, wishes, workload_named)


def caught(scenarios, name=""):
    """The first report of this property; of any, without a name."""
    reported = "nothing"
    for scenario in scenarios:
        try:
            Run(scenario).run()
        except InvariantBroken as error:
            reported = str(error)
            if reported.startswith(name):
                break
    return reported


def drop_some_events(monkeypatch):
    """Every third event is never told."""
    real = watches.ClientWatches.fire

    def fire(self, table, event_type, path, zxid, acl):
        if zxid % 3 == 0:
            self._take(table, path, in_data=table is self.data)
        else:
            real(self, table, event_type, path, zxid, acl)

    monkeypatch.setattr(watches.ClientWatches, "fire", fire)


def tell_events_behind_replies(monkeypatch):
    """Events wait until the replies of the turn are written."""
    real, held = client_desk.ClientDesk.take_writes, []

    def notify(self, frame):
        if frame[4:8] == b"\xff\xff\xff\xff":
            held.append((self, frame))
        else:
            plain(self, frame)

    def take_writes(self):
        mine = [(who, frame) for who, frame in held if who in self._clients.values()]
        for who, frame in mine:
            held.remove((who, frame))
            plain(who, frame)
        return real(self)

    plain = tree_client.Client.notify
    monkeypatch.setattr(tree_client.Client, "notify", notify)
    monkeypatch.setattr(client_desk.ClientDesk, "take_writes", take_writes)


def fire_twice(monkeypatch):
    """A one-shot watch of data stays after it fired."""
    real = watches.ClientWatches._take

    def take(self, table, path, *, in_data):
        holders = real(self, table, path, in_data=in_data)
        for holder in holders if in_data else ():
            self.arm(watches.Kind.DATA, path, holder)
        return holders

    monkeypatch.setattr(watches.ClientWatches, "_take", take)


def forget_what_was_missed(monkeypatch):
    """A returning client is told of no change of data."""
    monkeypatch.setattr(tree.Tree, "needs_data_event", lambda *_: 0)


def set_no_watches_again(monkeypatch):
    """The watches of a returning client are told, and not armed."""
    real = watch_requests._tell_or_arm

    def tell_or_arm(client, path, kind, event, where, table, deleted):
        if event:
            real(client, path, kind, event, where, table, deleted)

    monkeypatch.setattr(watch_requests, "_tell_or_arm", tell_or_arm)


def leave_ephemerals(monkeypatch):
    """A session goes and its ephemerals stay."""

    def end_session(state, txn, session):
        state.digest_notes.forget_session(session)
        del state.sessions[session.session_id]

    monkeypatch.setattr(tree, "end_session", end_session)
    monkeypatch.setattr(requests, "end_session", end_session)


def serve_sessions_after_their_end(monkeypatch):
    """Who lost its session goes on reading."""
    monkeypatch.setattr(client_desk.ClientDesk, "_close_attachment", lambda *_: None)


def keep_expired_sessions(monkeypatch):
    """An expired session loses its ephemerals and may go on writing."""
    real = tree.Tree.expire_session

    def expire_session(self, session_id, time_ms):
        session = self.sessions[session_id]
        real(self, session_id, time_ms)
        self.sessions[session_id] = session
        return True

    monkeypatch.setattr(tree.Tree, "expire_session", expire_session)


def expire_by_the_wall_clock(monkeypatch):
    """Silence is measured on a clock that people set."""
    real = server.CoordinationServer.tick

    def tick(self, now_ms, wall_ms):
        real(self, now_ms, wall_ms)
        self.service.tick(wall_ms)

    def listen(self, now_ms):
        if now_ms > 10**12:
            self._listened_ms = now_ms

    monkeypatch.setattr(server.CoordinationServer, "tick", tick)
    monkeypatch.setattr(session_keeper.SessionKeeper, "listen", listen)


def count_time_that_stood_still(monkeypatch):
    """A leader that was paused takes the pause for silence."""

    def listen(self, now_ms):
        self._listened_ms = now_ms

    monkeypatch.setattr(session_keeper.SessionKeeper, "listen", listen)


def obey_earlier_leaders(monkeypatch):
    """An expiry counts whoever leads by now."""
    real = service.ClientService._apply_expire

    def apply_expire(self, run, context):
        real(self, run._replace(epoch=context.epoch, as_of_ms=context.time_ms), context)

    monkeypatch.setattr(service.ClientService, "_apply_expire", apply_expire)


def expire_nobody(monkeypatch):
    """Silence has no end."""
    monkeypatch.setattr(session_clock.SessionClock, "silent", lambda *_: [])


def forget_followers_notices(monkeypatch):
    """Whoever is heard by a follower is silent to the leader."""
    monkeypatch.setattr(session_keeper.SessionKeeper, "receive_notice", lambda *_: None)


def sync_without_a_quorum(monkeypatch):
    """A sync is answered at once, from what this node has."""

    def read_barrier(self, token):
        self._out.released.append(token)

    monkeypatch.setattr(replica.Replica, "read_barrier", read_barrier)


def reuse_sequence_numbers(monkeypatch):
    """The number of a sequential znode is the number of children."""
    real = writes.create

    def create(state, txn, path, data, acl, flags, ttl_ms=None):
        parent = state.znodes.get(path[: path.rfind(b"/")] or b"/")
        if parent is not None and flags & 2:
            parent.sequence = len(parent.children or ())
        return real(state, txn, path, data, acl, flags, ttl_ms)

    monkeypatch.setattr(requests, "create", create)


def answer_out_of_order(monkeypatch):
    """A read is answered where it arrives, whatever stands before it."""
    monkeypatch.setattr(tree_client.Client, "is_idle", property(lambda _: True))


def apply_batches_again(monkeypatch):
    """Nobody remembers which batches were applied."""
    monkeypatch.setattr(origins.AppliedBatches, "is_next", lambda *_: True)
    monkeypatch.setattr(outbox.Outbox, "applied", _forget_if_pending)


def _forget_if_pending(self, number):
    while self._pending and self._pending[0][0] <= number:
        self._pending.popleft()
        self._sent = max(0, self._sent - 1)


def refuse_sessions_that_move(monkeypatch):
    """A session that comes from another node is said to be over."""
    real = tree.Tree.attach_session

    def attach_session(self, session_id, password, timeout_ms, owner, identities):
        session = self.sessions.get(session_id)
        if session is not None and session.owner.node != owner.node:
            return None
        return real(self, session_id, password, timeout_ms, owner, identities)

    monkeypatch.setattr(tree.Tree, "attach_session", attach_session)


def share_session_ids(monkeypatch):
    """A session's id is no transaction of its own."""
    real = tree.Tree.open_session

    def open_session(self, *arguments):
        before = self._state.zxid
        session = real(self, *arguments)
        if before % 2:
            self._state.zxid = before
        return session

    monkeypatch.setattr(tree.Tree, "open_session", open_session)


def obey_the_old_connection(monkeypatch):
    """A connection that lost its session still writes."""
    real = tree.Tree.apply_frames

    def apply_frames(self, session_id, owner, frames, time_ms, out):
        session = self.sessions.get(session_id)
        owner = session.owner if session is not None else owner
        real(self, session_id, owner, frames, time_ms, out)

    monkeypatch.setattr(tree.Tree, "apply_frames", apply_frames)


def ignore_versions(monkeypatch):
    """A conditional write is not."""
    real = writes.set_data
    monkeypatch.setattr(requests, "set_data", lambda *a: real(*a[:-1], -1))


def do_half_a_multi(monkeypatch):
    """What a refused multi did stays done."""

    class Forgetful(list):
        def __reversed__(self):
            return iter(())

    real = multi._apply_part

    def apply_part(state, txn, part, undo_log):
        return real(state, txn, part, Forgetful())

    monkeypatch.setattr(multi, "_apply_part", apply_part)


def count_sequences_down(monkeypatch):
    """The numbers of sequential znodes fall."""
    real = writes.create

    def create(state, txn, path, data, acl, flags, ttl_ms=None):
        parent = state.znodes.get(path[: path.rfind(b"/")] or b"/")
        if parent is None or not flags & 2:
            return real(state, txn, path, data, acl, flags, ttl_ms)
        kept, parent.sequence = parent.sequence, 999 - parent.sequence
        try:
            return real(state, txn, path, data, acl, flags, ttl_ms)
        finally:
            parent.sequence = kept + 1

    monkeypatch.setattr(requests, "create", create)
    monkeypatch.setattr(SessionJudge, "replies_are_what_the_log_says", lambda *_: None)


def show_old_zxids(monkeypatch):
    """The answer to a ping carries no zxid."""
    real = client_desk.REPLY_HEADER

    class Header:
        @staticmethod
        def pack(size, xid, zxid, error):
            return real.pack(size, xid, 0 if xid == -2 else zxid, error)

    monkeypatch.setattr(client_desk, "REPLY_HEADER", Header)


def answer_pings_twice(monkeypatch):
    """Every answer to a ping is sent twice."""
    real = client_desk.ClientDesk._reply

    def reply(self, client, xid, error, body=b""):
        real(self, client, xid, error, body)
        if xid == -2:
            real(self, client, xid, error, body)

    monkeypatch.setattr(client_desk.ClientDesk, "_reply", reply)


def rename_returning_sessions(monkeypatch):
    """A session that is resumed gets another id."""
    real, known = client_desk.encode_connected, set()

    def encode_connected(timeout_ms, session_id, password, *, has_read_only):
        shown = session_id + 1_000 if session_id in known else session_id
        known.add(session_id)
        return real(timeout_ms, shown, password, has_read_only=has_read_only)

    monkeypatch.setattr(client_desk, "encode_connected", encode_connected)


def submit_twice(monkeypatch):
    """What clients ask for is in the log twice."""
    real = client_desk.ClientDesk.take_batch

    def take_batch(self):
        batch = real(self)
        return batch + batch if batch is not None and batch[0] == FRAMES else batch

    monkeypatch.setattr(client_desk.ClientDesk, "take_batch", take_batch)


def submit_for_somebody_else(monkeypatch):
    """What clients ask for is asked in another session's name."""
    real = client_desk.encode_frames_head
    monkeypatch.setattr(
        client_desk, "encode_frames_head", lambda session_id, *rest: real(session_id + 10**6, *rest)
    )


def hide_a_child(monkeypatch):
    """The youngest child is not listed."""
    real = reads.child_names
    monkeypatch.setattr(reads, "child_names", lambda path, znode: real(path, znode)[:-1])


def seeds(first, *faults):
    """Seeds that show it soon."""
    return lambda: drawn(first, *faults)


MUTANTS = (
    (drop_some_events, "events come before what they report", seeds(0)),
    (tell_events_behind_replies, "events come before what they report", seeds(0)),
    (fire_twice, "events tell what happened once", seeds(0)),
    (forget_what_was_missed, "returning clients are told what they missed", seeds(0)),
    (set_no_watches_again, "events come before what they report", seeds(0)),
    (leave_ephemerals, "ephemerals live as long as their session", seeds(3)),
    (serve_sessions_after_their_end, "ended sessions are silent", seeds(11)),
    (keep_expired_sessions, "replicas hold what the log says", seeds(1)),
    (expire_by_the_wall_clock, "only silence ends a session", seeds(30, "clocks")),
    (count_time_that_stood_still, "only silence ends a session", lambda: [suspended()]),
    (obey_earlier_leaders, "", lambda: [cut_off()]),
    (expire_nobody, "clients come to rest", seeds(1)),
    (forget_followers_notices, "only silence ends a session", seeds(0)),
    (
        sync_without_a_quorum,
        "answers are newer than what was shown",
        seeds(5, "partition", "pause"),
    ),
    (reuse_sequence_numbers, "replies are what the log says", seeds(5)),
    (count_sequences_down, "sequential names ascend", seeds(0)),
    (answer_out_of_order, "replies come in order", seeds(0)),
    (show_old_zxids, "sessions never see the past", seeds(0)),
    (answer_pings_twice, "pings are answered once", seeds(0)),
    (apply_batches_again, "exactly once", seeds(0)),
    (submit_twice, "requests take effect once", seeds(0)),
    (submit_for_somebody_else, "only what was asked is applied", seeds(0)),
    (refuse_sessions_that_move, "only ended sessions are refused", seeds(0)),
    (rename_returning_sessions, "sessions keep their identity", seeds(0)),
    (share_session_ids, "sessions have one holder", seeds(0)),
    (obey_the_old_connection, "", seeds(15)),
    (ignore_versions, "", seeds(0)),
    (do_half_a_multi, "", seeds(3)),
    (hide_a_child, "reads show the tree at their zxid", seeds(0)),
)


_NAMES = [mutant.__name__ for mutant, _, _ in MUTANTS]


@pytest.mark.parametrize(("mutant", "name", "where"), MUTANTS, ids=_NAMES)
def test_pl_11_each_broken_promise_is_reported(monkeypatch, mutant, name, where):
    """PL-11: what a rule forbids is seen when the rule is gone, and called by its name."""
    mutant(monkeypatch)
    report = caught(where(), name)
    assert report != "nothing"
    assert report.startswith(name)


@pytest.mark.parametrize("scenario", [suspended, cut_off])
def test_scenarios_without_a_mutant_are_clean(scenario):
    """Nodes that stand still or are cut off end no session that anybody keeps."""
    assert caught([scenario()]) == "nothing"


def test_zk_2_search_finds_stale_answers_without_believing_any_zxid(monkeypatch):
    """ZK-2: with all judges of zxids silenced, the checker still misses the quorum."""
    for name in (
        "answers_are_newer_than_what_was_shown",
        "reads_show_the_tree_at_their_zxid",
        "sessions_never_see_the_past",
    ):
        monkeypatch.setattr(SessionJudge, name, lambda *_: None)
    sync_without_a_quorum(monkeypatch)
    assert caught(drawn(0, "partition", "pause")).startswith("tree answers are linearizable")
