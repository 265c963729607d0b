"""The judges of trees and sessions are judged: each promise is broken once and must be missed.

A mutant takes one rule out of the product; some property must report it within a few dozen short
runs. Each test begins at a seed that shows it soon.
"""

import pytest

from quorate.errors import InvariantBroken
from quorate.protocol import handshake
from quorate.protocol.zookeeper import EventType
from quorate.replication import origins, outbox, replica
from quorate.simulation.plan import Wishes, draw_scenario
from quorate.simulation.run import Run
from quorate.simulation.workloads.catalogue import workload_named
from quorate.tree import client as tree_client
from quorate.tree import client_desk, multi, requests, server, service, session_clock
from quorate.tree import session_keeper, tree, watch_requests, watches, writes

SEEDS = 60
WISHES = Wishes(workload="tree", duration_us=12_000_000)


def caught(first, seeds=SEEDS):
    """The first seed whose run reports a violation, and what was reported."""
    for seed in range(first, first + seeds):
        try:
            Run(draw_scenario(seed, WISHES, workload_named)).run()
        except InvariantBroken as error:
            return seed, str(error)
        except AssertionError as error:
            return seed, f"assertion: {error}"
    return None


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
    monkeypatch.setattr(watches.ClientWatches, "arm_again", lambda *_: None, raising=False)
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


def serve_clients_that_are_ahead(monkeypatch):
    """A node takes clients that have seen more than it has."""
    real = handshake.parse_connect
    monkeypatch.setattr(
        client_desk, "parse_connect", lambda body: real(body)._replace(last_zxid_seen=0)
    )


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


def tell_of_other_children(monkeypatch):
    """A deletion is told to whoever watches the children, as a creation."""
    monkeypatch.setattr(watches, "_DELETED", int(EventType.CHILDREN_CHANGED))


MUTANTS = (
    drop_some_events,
    tell_events_behind_replies,
    fire_twice,
    forget_what_was_missed,
    set_no_watches_again,
    leave_ephemerals,
    serve_sessions_after_their_end,
    keep_expired_sessions,
    expire_by_the_wall_clock,
    count_time_that_stood_still,
    obey_earlier_leaders,
    expire_nobody,
    forget_followers_notices,
    sync_without_a_quorum,
    reuse_sequence_numbers,
    answer_out_of_order,
    serve_clients_that_are_ahead,
    apply_batches_again,
    refuse_sessions_that_move,
    share_session_ids,
    obey_the_old_connection,
    ignore_versions,
    do_half_a_multi,
)
