"""The judge of sessions: what ZooKeeper promises one client, at everything the client is told.

It hears what clients send and receive, frame by frame, and holds it against the one account of
what happened (``tree_log.py``). Each answer carries a zxid; the account says what the tree was at
that zxid, so an answer is right or wrong by itself, and order remains to be judged: of answers
among themselves, of events before answers, of writes and syncs in real time.

Linearizability with a witness: the zxids are an order of all writes; if each write and sync is
newer than everything that was shown before it was sent, and answers are right at their zxids, that
order explains everything. The search of ``checking/`` finds the same without believing any zxid.

Knows nothing of nodes and of bytes.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import Any, Final

from quorate.protocol.zookeeper import ErrorCode, EventType, Stat
from quorate.protocol.zookeeper_client import Reply
from quorate.simulation.judges.model_tree import Facts, place_after
from quorate.simulation.judges.tree_log import TreeLog
from quorate.simulation.properties import safety
from quorate.simulation.sessions import Request, SimulatedSession, Watch
from quorate.simulation.workloads.tree_words import READS, SEQUENTIAL, WRITES

ZOOKEEPER: Final = "ZooKeeper §2.3"
WATCHES: Final = "ZooKeeper §2.1; acceptance ZK-7"
MISSED: Final = -1
"""The zxid of an event that tells a returning client what it missed."""

_DIGITS: Final = 10


class SessionJudge:
    """Witness of all clients of one run.

    Args:
        log: the account of what happened.
        is_fresh: every read must be linearizable.

    Attributes:
        log: the account of what happened.
        requests: all that were sent, in order.
        shown: the newest zxid that any client was shown.
        events: how many were told.
        unknown: how many requests will never be answered.
        refused: how many times a session was refused.
        again: how many requests were sent again.
    """

    def __init__(self, log: TreeLog, *, is_fresh: bool = False) -> None:
        self.log = log
        self._is_fresh = is_fresh
        self.requests: list[Request] = []
        self.positions = 0
        self.shown = 0
        self.events = self.unknown = self.refused = self.again = 0
        self._openers: dict[int, int] = {}
        self._sequences: dict[tuple[bytes, int], list[tuple[int, int]]] = {}

    def next_position(self) -> int:
        """The place of a call or return among all of them."""
        self.positions += 1
        return self.positions

    # ---- what clients say happens --------------------------------------------------------------

    def on_opened(self, session: SimulatedSession) -> None:
        """A client was given a session."""
        self.sessions_have_one_holder(session)
        self._openers[session.session_id] = session.number
        self.log.session_of[session.connection_number] = session.session_id

    def on_resumed(self, session: SimulatedSession, session_id: int, password: bytes) -> None:
        """A session goes on elsewhere."""
        self.sessions_keep_their_identity(session, session_id, password)
        self.log.session_of[session.connection_number] = session_id

    def on_refused(self, session: SimulatedSession) -> None:
        """A session is said to be over."""
        self.refused += 1
        self.only_ended_sessions_are_refused(session)

    def on_sent(self, session: SimulatedSession, request: Request) -> None:  # noqa: ARG002
        """A request is on its way."""
        request.invoked, request.floor = self.next_position(), self.shown
        if request.xid > 0:
            self.requests.append(request)
            if request.ask.verb in WRITES:
                self.log.ask(request)

    def on_sent_again(self, session: SimulatedSession, request: Request) -> None:  # noqa: ARG002
        """A request is on its way once more; when it began has not changed."""
        self.again += 1
        self.log.ask(request)

    def on_lost(self, session: SimulatedSession, request: Request) -> None:  # noqa: ARG002
        """Its outcome stays unknown."""
        self.unknown += request.xid > 0

    def on_told(self, session: SimulatedSession, zxid: int) -> None:
        """Any answer shows how new the node's tree is."""
        self.sessions_never_see_the_past(session, zxid)
        if session.watches and not session.is_restoring:
            self.events_come_before_what_they_report(session, zxid)
        if zxid > self.shown:
            self.shown = zxid

    def on_ping(self, session: SimulatedSession, pings: int, zxid: int) -> None:
        """A ping is answered."""
        self.ended_sessions_are_silent(session, "a ping", zxid)
        self.pings_are_answered_once(session, pings)

    def on_reply(self, session: SimulatedSession, expected: Request | None, reply: Reply) -> None:
        """A request is answered."""
        self.replies_come_in_order(session, expected, reply)
        assert expected is not None
        request, verb = expected, expected.ask.verb
        if reply.error == ErrorCode.THROTTLED_OP and verb in WRITES:
            self.refused_writes_are_not_in_the_log(request)
            if request.serial:
                return  # of a copy: it asks again
        elif request.original is not None:
            self.answers_stay_the_same(request.original, reply)
            return
        request.reply, request.returned = reply, self.next_position()
        if verb == "watches":
            self._watch_again(session, request.ask.version, reply.zxid)
            return
        if reply.error == 0 and verb != "close":
            self.ended_sessions_are_silent(session, repr(request), reply.zxid)
        if verb in READS:
            self.reads_show_the_tree_at_their_zxid(request, reply)
            if self._is_fresh:
                self.answers_are_newer_than_what_was_shown(request, reply)
            return
        if reply.error == ErrorCode.THROTTLED_OP:
            return
        self.answers_are_newer_than_what_was_shown(request, reply)
        if verb in WRITES:
            if request.ask.flags & SEQUENTIAL and reply.error == 0:
                self.sequential_names_ascend(reply.path(), reply.zxid)
            self.replies_are_what_the_log_says(request, reply)

    def on_watching(self, session: SimulatedSession, watch: Watch, zxid: int) -> None:  # noqa: ARG002
        """A watch is left."""
        watch.changes = self.log.model.changes_of(watch.path, of_children=watch.kind == "children")
        watch.place = place_after(watch.changes, zxid)

    def on_event(
        self, session: SimulatedSession, event: int, path: bytes, zxid: int, waiting: list[Watch]
    ) -> None:
        """A watch fires."""
        self.events += 1
        self.events_tell_what_happened_once(session, (event, path, zxid), waiting)

    def _watch_again(self, session: SimulatedSession, since: int, zxid: int) -> None:
        """All that was missed has been told; the rest is watched again."""
        for watch in session.watches.values():
            self.returning_clients_are_told_what_they_missed(session, watch, since, zxid)
            watch.place = place_after(watch.changes, zxid)

    def overdue(self, session: SimulatedSession, zxid: int) -> Watch | None:
        """A watch that must have fired before this zxid is shown."""
        for watch in session.watches.values():
            changes, place = watch.changes, watch.place
            if len(changes) > place and changes[place][0] <= zxid:
                return watch
        return None

    # ---- order ---------------------------------------------------------------------------------

    @safety(f"{ZOOKEEPER}: FIFO client order; acceptance ZK-3")
    def replies_come_in_order(
        self, session: SimulatedSession, expected: Request | None, reply: Reply
    ) -> str | None:
        """The replies of a connection come in the order of its requests, each once."""
        if expected is not None and expected.xid == reply.xid:
            return None
        return f"{session.describe()} is answered {reply.xid}, it waits for {expected}"

    @safety(ZOOKEEPER)
    def pings_are_answered_once(self, session: SimulatedSession, pings: int) -> str | None:
        """Every answer to a ping answers a ping."""
        return None if pings > 0 else f"{session.describe()} has no ping on its way"

    @safety(f"{ZOOKEEPER}; acceptance ZK-5")
    def sessions_never_see_the_past(self, session: SimulatedSession, zxid: int) -> str | None:
        """What a session is shown is never older than before, on whichever node."""
        if zxid >= session.last_zxid:
            return None
        return f"{session.describe()} is shown {zxid}"

    @safety("Herlihy & Wing 1990; acceptance ZK-2")
    def answers_are_newer_than_what_was_shown(self, request: Request, reply: Reply) -> str | None:
        """A write or sync takes effect after everything that anybody was shown before it began.

        So does a read where reads are linearizable.
        """
        outcome = request.outcome
        happened = outcome is not None and outcome.happened
        oldest = request.floor + happened
        if reply.zxid >= oldest:
            return None
        return f"{request} is answered at {reply.zxid}; when it was sent {request.floor} was shown"

    # ---- content -------------------------------------------------------------------------------

    @safety("Schneider 1990; acceptance ZK-9")
    def replies_are_what_the_log_says(self, request: Request, reply: Reply) -> str | None:
        """A write is answered with what became of it at its place in the log."""
        outcome = request.outcome
        if request.refused is not None and reply.error == request.refused.error:
            outcome = request.refused
        if outcome is None:
            return f"{request} is answered, and is not in the log"
        if (reply.error, reply.zxid) != outcome[:2]:
            return f"{request} is answered {reply}; it came to {outcome}"
        if reply.error or outcome.result is None:
            return None
        told = _result_of(request, reply)
        expected = _expected(outcome.result)
        return None if told == expected else f"{request} is told {told}; it came to {expected}"

    @safety("ZooKeeper's THROTTLEDOP: not executed at all")
    def refused_writes_are_not_in_the_log(self, request: Request) -> str | None:
        """A write that is refused because a disk is full has not happened, and never does.

        Of a command that is asked for exactly once a copy may be refused.
        """
        if request.serial or request.outcome is None:
            return None
        return f"{request} is refused, and came to {request.outcome}"

    @safety("dissertation §6.3; acceptance RA-7")
    def answers_stay_the_same(self, request: Request, reply: Reply) -> str | None:
        """A command that is asked again is answered as the first time, byte for byte."""
        first = request.reply
        assert first is not None
        if reply[1:] == first[1:] or reply.error == ErrorCode.SESSION_EXPIRED:
            return None
        return f"{request}, asked again, is answered {reply}; the first answer was {first}"

    @safety(f"{ZOOKEEPER}; acceptance ZK-2")
    def reads_show_the_tree_at_their_zxid(self, request: Request, reply: Reply) -> str | None:
        """A read shows exactly what all writes up to its zxid made of the znode."""
        ask = request.ask
        facts = self.log.model.facts_at(ask.path, reply.zxid)
        if reply.zxid > self.log.model.zxid:
            return f"{request} is answered at {reply.zxid}, the log is at {self.log.model.zxid}"
        if facts is None or reply.error:
            expected = 0 if facts is not None else int(ErrorCode.NO_NODE)
            if reply.error == expected:
                return None
            return f"{request} is answered {reply.error} at {reply.zxid}; there was {facts}"
        told = _shape_of_stat(reply.stat())
        is_right = told == _shape(facts)
        if ask.verb == "get":
            is_right &= reply.data() == facts.data
        elif ask.verb == "children":
            is_right &= sorted(reply.names()) == sorted(facts.names)
        return None if is_right else f"{request} is told {reply} at {reply.zxid}; it was {facts}"

    @safety("ZooKeeper §2.2; acceptance ZK-8")
    def sequential_names_ascend(self, path: bytes, zxid: int) -> str | None:
        """The numbers of sequential znodes below one parent rise with their zxids."""
        parent = path[: path.rfind(b"/")] or b"/"
        facts = self.log.model.facts_at(parent, zxid)
        assert facts is not None
        known = self._sequences.setdefault((parent, facts.czxid), [])
        mine = (zxid, int(path[-_DIGITS:]))
        place = bisect_left(known, mine)
        known.insert(place, mine)
        around = known[max(0, place - 1) : place + 2]
        if all(one[1] < other[1] for one, other in pairwise(around)):
            return None
        return f"{path.decode()} was made at {zxid}; around it: {around}"

    # ---- watches -------------------------------------------------------------------------------

    @safety(WATCHES)
    def events_come_before_what_they_report(
        self, session: SimulatedSession, zxid: int
    ) -> str | None:
        """An event is on the connection before any answer that shows the change."""
        watch = self.overdue(session, zxid)
        if watch is None:
            return None
        due = watch.changes[watch.place]
        return (
            f"{session.describe()} is shown {zxid} before it was told of {_event_name(due[1])} "
            f"{watch.path.decode()} at {due[0]}"
        )

    @safety(WATCHES)
    def events_tell_what_happened_once(
        self, session: SimulatedSession, event: tuple[int, bytes, int], waiting: list[Watch]
    ) -> str | None:
        """A watch fires once, for the first change after the read that left it."""
        kind, path, zxid = event
        told = f"{session.describe()} is told of {_event_name(kind)} {path.decode()} at {zxid}"
        if not waiting:
            return f"{told}, and waits for nothing there"
        if session.is_restoring:
            return None if zxid == MISSED else f"{told} before its watches are set"
        for watch in waiting:
            changes, place = watch.changes, watch.place
            if len(changes) <= place:
                return f"{told}, and nothing changed"
            if changes[place] != (zxid, kind):
                return f"{told}; due is {_event_name(changes[place][1])} at {changes[place][0]}"
        return None

    @safety(WATCHES)
    def returning_clients_are_told_what_they_missed(
        self, session: SimulatedSession, watch: Watch, since: int, zxid: int
    ) -> str | None:
        """When a client's watches are set again, it was told of all that changed meanwhile."""
        facts = self.log.model.facts_at(watch.path, zxid)
        if watch.kind == "exists":
            is_due = facts is not None
        elif watch.kind == "data":
            is_due = facts is None or facts.mzxid > since
        else:
            is_due = facts is None or facts.pzxid > since
        if not is_due:
            return None
        return (
            f"{session.describe()} was not told what became of {watch.path.decode()} "
            f"({watch.kind}) between {since} and {zxid}: {facts}"
        )

    # ---- sessions ------------------------------------------------------------------------------

    @safety("ZooKeeper §2.2; acceptance ZK-6")
    def sessions_have_one_holder(self, session: SimulatedSession) -> str | None:
        """A new session was opened through the log, for this client alone."""
        session_id = session.session_id
        holder = self._openers.get(session_id)
        if holder is not None:
            return f"client {session.number} is given session {session_id:#x} of client {holder}"
        known = self.log.sessions.get(session_id)
        if session_id in self.log.ended or (known and known.password == session.password):
            return None
        return f"client {session.number} is given session {session_id:#x}, which is not in the log"

    @safety("ZooKeeper §2.2; acceptance ZK-6")
    def sessions_keep_their_identity(
        self, session: SimulatedSession, session_id: int, password: bytes
    ) -> str | None:
        """A session that goes on is the same session."""
        if (session_id, password) == (session.session_id, session.password):
            return None
        return f"{session.describe()} is given session {session_id:#x}"

    @safety("ZooKeeper §2.2; acceptance ZK-6")
    def only_ended_sessions_are_refused(self, session: SimulatedSession) -> str | None:
        """A client hears that its session is over only after the log said so."""
        if session.session_id in self.log.ended:
            return None
        return f"{session.describe()} is refused, and its session lives"

    @safety("ZooKeeper §2.2; acceptance ZK-6")
    def ended_sessions_are_silent(
        self, session: SimulatedSession, what: str, zxid: int
    ) -> str | None:
        """Nothing succeeds for a session at or after its end, but the close that ended it."""
        end = self.log.ended.get(session.session_id)
        if end is None or zxid < end:
            return None
        return f"{what} of {session.describe()} succeeds at {zxid}; the session was over at {end}"


def _shape(facts: Facts) -> tuple[int, ...]:
    return (
        facts.czxid,
        facts.mzxid,
        facts.version,
        facts.cversion,
        facts.owner,
        len(facts.data),
        len(facts.names),
        facts.pzxid,
    )


def _shape_of_stat(stat: Stat) -> tuple[int, ...]:
    return (
        stat.czxid,
        stat.mzxid,
        stat.version,
        stat.cversion,
        stat.ephemeral_owner,
        stat.data_length,
        stat.num_children,
        stat.pzxid,
    )


def _expected(result: Any) -> Any:
    if isinstance(result, list):
        return [_expected(each) for each in result]
    return _shape(result) if isinstance(result, Facts) else result


def _result_of(request: Request, reply: Reply) -> Any:
    """What a successful reply says, in the form of an Outcome's result."""
    verb = request.ask.verb
    if verb == "create":
        return reply.path()
    if verb == "set":
        return _shape_of_stat(reply.stat())
    assert verb == "multi"
    told: list[Any] = []
    for opcode, error, value in reply.results():
        if opcode == -1:
            told.append(error)
        else:
            told.append(_shape_of_stat(value) if isinstance(value, Stat) else value)
    return told


def _event_name(event: int) -> str:
    return EventType(event).name.lower().replace("_", " ")
