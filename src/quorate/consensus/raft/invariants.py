"""What must always hold: for one node, from step to step, and across the cluster (Raft Fig. 3).

Every check is a named function; its docstring is the rule. A broken rule raises InvariantBroken
with the rule's name, the node and both values. Tests and the simulator run them after every step;
production does not pay for them (its own assertions stay on).

    view = snapshot_state(engine)            a cheap, immutable picture of one node
    check(view)                              rules about one picture
    check_step(before, event, after)         rules about what one step may change
    ClusterHistory().observe(views)          rules about all nodes and the whole past

This module only looks; it never changes an engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from quorate.consensus.engine import Engine, Event
from quorate.consensus.entry import Entry, EntryKind
from quorate.consensus.raft.engine import RaftEngine
from quorate.consensus.raft.state import Role
from quorate.errors import InvariantBroken


@dataclass(frozen=True, slots=True)
class StateView:
    """One node's state at one moment, as far as the rules speak of it."""

    node_id: int
    term: int
    voted_for: int
    role: Role
    leader: int
    is_established: bool
    commit_index: int
    delivered_index: int
    handed_index: int
    durable_index: int
    verified_index: int
    base_index: int
    base_epoch: int
    entries: tuple[Entry, ...]
    matches: tuple[tuple[int, int], ...]
    term_start_index: int
    is_vote_durable: bool
    is_voter: bool
    is_damaged: bool = False

    @property
    def last_index(self) -> int:
        """Index of the last entry."""
        return self.base_index + len(self.entries)

    def entry(self, index: int) -> Entry | None:
        """The entry at ``index``, if it is in memory."""
        offset = index - self.base_index - 1
        return self.entries[offset] if 0 <= offset < len(self.entries) else None


def snapshot_state(engine: RaftEngine) -> StateView:
    """Take a picture of an engine for the checks."""
    state = engine.state
    return StateView(
        node_id=state.node_id,
        term=state.term,
        voted_for=state.voted_for,
        role=state.role,
        leader=state.leader,
        is_established=state.is_established,
        commit_index=state.commit_index,
        delivered_index=state.delivered_index,
        handed_index=state.handed_index,
        durable_index=state.durable_index,
        verified_index=state.verified_index,
        base_index=state.log.base_index,
        base_epoch=state.log.base_epoch,
        entries=tuple(state.log.entries),
        matches=tuple(sorted(state.matches.items())),
        term_start_index=state.term_start_index,
        is_vote_durable=state.is_hard_durable,
        is_voter=state.configuration.is_voter(state.node_id),
        is_damaged=state.repair is not None,
    )


def _broken(rule: str, view: StateView, detail: str) -> InvariantBroken:
    return InvariantBroken(f"{rule}: node {view.node_id} in term {view.term}: {detail}")


# ---- one picture -------------------------------------------------------------------------------


def indexes_are_ordered(view: StateView) -> None:
    """Base <= delivered <= commit <= last, and durable <= handed <= last."""
    chain = (view.base_index, view.delivered_index, view.commit_index, view.last_index)
    if list(chain) != sorted(chain):
        raise _broken("indexes_are_ordered", view, f"base, delivered, commit, last = {chain}")
    disk = (view.durable_index, view.handed_index, view.last_index)
    if list(disk) != sorted(disk):
        raise _broken("indexes_are_ordered", view, f"durable, handed, last = {disk}")


def log_is_contiguous(view: StateView) -> None:
    """Indexes have no gaps; epochs never fall and never exceed the node's term."""
    index, epoch = view.base_index, view.base_epoch
    for entry in view.entries:
        index += 1
        if entry.index != index or entry.epoch < epoch or entry.epoch > view.term:
            raise _broken("log_is_contiguous", view, f"{entry} after index {index - 1} t{epoch}")
        epoch = entry.epoch


def role_fits_leader(view: StateView) -> None:
    """A node names itself leader exactly when it leads, and no candidate follows anybody."""
    if (view.role is Role.LEADER) != (view.leader == view.node_id):
        raise _broken("role_fits_leader", view, f"{view.role} with leader {view.leader}")
    if view.role in (Role.CANDIDATE, Role.PRE_CANDIDATE) and view.leader != 0:
        raise _broken("role_fits_leader", view, f"{view.role} with leader {view.leader}")


def candidate_voted_for_itself(view: StateView) -> None:
    """Whoever campaigns or leads gave itself its vote; a leader's vote is on disk."""
    if view.role in (Role.CANDIDATE, Role.LEADER) and view.voted_for != view.node_id:
        raise _broken("candidate_voted_for_itself", view, f"voted for {view.voted_for}")
    if view.role is Role.LEADER and not view.is_vote_durable:
        raise _broken("candidate_voted_for_itself", view, "leads before its vote is durable")


def established_means_committed(view: StateView) -> None:
    """Established leadership: an entry of this term is committed and delivered."""
    if view.is_established and view.commit_index < view.term_start_index:
        raise _broken("established_means_committed", view, f"commit {view.commit_index}")


def matches_are_in_log(view: StateView) -> None:
    """Nobody is thought to have more than the leader's log; the leader counts its own disk."""
    for node, match in view.matches:
        bound = view.durable_index if node == view.node_id else view.last_index
        if match > bound:
            raise _broken("matches_are_in_log", view, f"node {node} at {match} beyond {bound}")


def verified_is_in_log(view: StateView) -> None:
    """What the leader verified is in the log."""
    if view.verified_index > view.last_index:
        raise _broken("verified_is_in_log", view, f"{view.verified_index} > {view.last_index}")


def damaged_nodes_only_follow(view: StateView) -> None:
    """A node whose disk lost something neither campaigns nor leads until all is back."""
    if view.is_damaged and view.role is not Role.FOLLOWER:
        raise _broken("damaged_nodes_only_follow", view, f"is {view.role}")


STATE_CHECKS: tuple[Callable[[StateView], None], ...] = (
    indexes_are_ordered,
    log_is_contiguous,
    role_fits_leader,
    candidate_voted_for_itself,
    established_means_committed,
    matches_are_in_log,
    verified_is_in_log,
    damaged_nodes_only_follow,
)


def check(view: StateView) -> None:
    """Run every rule about one picture."""
    for rule in STATE_CHECKS:
        rule(view)


# ---- one step ----------------------------------------------------------------------------------


def term_and_vote_never_go_back(before: StateView, after: StateView) -> None:
    """Terms never fall; within a term a vote, once given, stays (§5.2)."""
    if after.term < before.term:
        raise _broken("term_and_vote_never_go_back", after, f"term was {before.term}")
    if after.term == before.term and before.voted_for not in (0, after.voted_for):
        detail = f"vote {before.voted_for} became {after.voted_for}"
        raise _broken("term_and_vote_never_go_back", after, detail)


def commit_never_falls(before: StateView, after: StateView) -> None:
    """Commit and delivered index never fall."""
    if after.commit_index < before.commit_index or after.delivered_index < before.delivered_index:
        detail = f"{before.commit_index}/{before.delivered_index} became "
        detail += f"{after.commit_index}/{after.delivered_index}"
        raise _broken("commit_never_falls", after, detail)


def leader_only_appends(before: StateView, after: StateView) -> None:
    """A leader never overwrites or deletes entries of its log (Fig. 3: Leader Append-Only)."""
    if before.role is not Role.LEADER or after.role is not Role.LEADER:
        return
    if before.term != after.term:
        raise _broken("leader_only_appends", after, f"led in {before.term} without an election")
    if after.last_index < before.last_index:
        raise _broken("leader_only_appends", after, f"last index was {before.last_index}")
    _same_entries("leader_only_appends", before, after, before.last_index)


def committed_entries_stay(before: StateView, after: StateView) -> None:
    """No entry at or below the commit index ever changes or disappears."""
    _same_entries("committed_entries_stay", before, after, before.commit_index)


def _same_entries(rule: str, before: StateView, after: StateView, upto: int) -> None:
    first = max(before.base_index, after.base_index) + 1
    was = before.entries[first - before.base_index - 1 : max(0, upto - before.base_index)]
    now = after.entries[first - after.base_index - 1 : max(0, upto - after.base_index)]
    if was == now:  # in C, and equal objects need no look inside
        return
    for index in range(first, upto + 1):
        if before.entry(index) != after.entry(index):
            detail = f"entry {index} was {before.entry(index)}, is {after.entry(index)}"
            raise _broken(rule, after, detail)


_STEPS_UP: dict[Role, tuple[Role, ...]] = {
    Role.FOLLOWER: (Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE),
    Role.PRE_CANDIDATE: (Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE),
    Role.CANDIDATE: (Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE, Role.LEADER),
    Role.LEADER: (Role.FOLLOWER, Role.LEADER),
}


def roles_change_by_the_table(before: StateView, after: StateView) -> None:
    """Only a candidate becomes leader, and a leader only becomes a follower (Fig. 4)."""
    if after.role not in _STEPS_UP[before.role]:
        raise _broken("roles_change_by_the_table", after, f"{before.role} became {after.role}")
    if after.role is Role.LEADER and before.term != after.term:
        raise _broken("roles_change_by_the_table", after, f"leads without campaigning {before}")


def pre_vote_has_no_side_effects(before: StateView, after: StateView) -> None:
    """Becoming a pre-candidate changes neither term nor vote (dissertation §9.6)."""
    if after.role is not Role.PRE_CANDIDATE or before.role is Role.PRE_CANDIDATE:
        return
    if (before.term, before.voted_for) != (after.term, after.voted_for):
        detail = f"t{before.term} vote {before.voted_for} became vote {after.voted_for}"
        raise _broken("pre_vote_has_no_side_effects", after, detail)


def damaged_nodes_do_not_vote(before: StateView, after: StateView) -> None:
    """A node whose disk lost something gives no vote until all is back."""
    if before.is_damaged and after.is_damaged and after.voted_for not in (0, before.voted_for):
        raise _broken("damaged_nodes_do_not_vote", after, f"voted for {after.voted_for}")


STEP_CHECKS: tuple[Callable[[StateView, StateView], None], ...] = (
    term_and_vote_never_go_back,
    commit_never_falls,
    leader_only_appends,
    committed_entries_stay,
    roles_change_by_the_table,
    pre_vote_has_no_side_effects,
    damaged_nodes_do_not_vote,
)


def check_step(before: StateView, event: object, after: StateView) -> None:
    """Run every rule about one step, and about the picture after it."""
    try:
        check(after)
        for rule in STEP_CHECKS:
            rule(before, after)
    except InvariantBroken as error:
        raise InvariantBroken(f"{error}; after {event}") from None


# ---- the whole cluster -------------------------------------------------------------------------


def is_same(one: Entry, other: Entry) -> bool:
    """Whether two nodes hold the same entry; a witness holds a batch without its payload."""
    if EntryKind.WITHHELD in (one.kind, other.kind):
        kinds = {one.kind, other.kind}
        return one.epoch == other.epoch and kinds <= {EntryKind.WITHHELD, EntryKind.BATCH}
    return one == other


class ClusterHistory:
    """The five properties of Fig. 3 across nodes, restarts included."""

    def __init__(self) -> None:
        self._leaders: dict[int, int] = {}  # term -> node
        self._committed: dict[int, Entry] = {}  # index -> entry, of all nodes and all times
        self._latest: dict[int, StateView] = {}  # node -> its last picture
        self._committed_in: dict[int, int] = {}  # index -> lowest term in which it was known so

    def observe(self, views: Iterable[StateView]) -> None:
        """Check the properties for these nodes; nodes that did not change may be left out.

        Nodes that are down keep their last picture: logs that ever existed must match too.
        """
        changed = [view for view in views if view != self._latest.get(view.node_id)]
        for view in sorted(changed, key=lambda view: view.node_id):
            before = self._latest.get(view.node_id)
            self._latest[view.node_id] = view
            self._election_safety(view)
            self._state_machine_safety(view)
            self._leader_completeness(view, before)
            if before is not None and before.entries == view.entries:
                continue
            for node_id in sorted(self._latest):
                if node_id != view.node_id:
                    self._log_matching(view, self._latest[node_id])

    def _election_safety(self, view: StateView) -> None:
        """At most one leader can be elected in a given term."""
        if view.role is not Role.LEADER:
            return
        known = self._leaders.setdefault(view.term, view.node_id)
        if known != view.node_id:
            raise _broken("Election Safety", view, f"node {known} already led this term")

    def _state_machine_safety(self, view: StateView) -> None:
        """No two nodes ever commit different entries at the same index."""
        for index in range(view.base_index + 1, view.commit_index + 1):
            entry = view.entry(index)
            assert entry is not None, "between base and commit every entry is in memory"
            known = self._committed.setdefault(index, entry)
            if not is_same(known, entry):
                raise _broken("State Machine Safety", view, f"{entry} against {known}")
            term = self._committed_in.setdefault(index, view.term)
            self._committed_in[index] = min(term, view.term)

    def _leader_completeness(self, view: StateView, before: StateView | None) -> None:
        """An entry committed in a term is in the logs of the leaders of all higher terms."""
        if view.role is not Role.LEADER:
            return
        if before is not None and before.role is Role.LEADER and before.term == view.term:
            return  # seen when it was elected; since then it only appended
        for index in sorted(self._committed):
            if index <= view.base_index or self._committed_in[index] >= view.term:
                continue
            if view.entry(index) != self._committed[index]:
                detail = f"lacks {self._committed[index]}, has {view.entry(index)}"
                raise _broken("Leader Completeness", view, detail)

    def _log_matching(self, view: StateView, other: StateView) -> None:
        """Logs that share an entry's index and term are equal up to it."""
        first = max(view.base_index, other.base_index) + 1
        agreed = False
        for index in range(min(view.last_index, other.last_index), first - 1, -1):
            mine, theirs = view.entry(index), other.entry(index)
            assert mine is not None, "indexes in range are in memory"
            assert theirs is not None, "indexes in range are in memory"
            agreed = agreed or mine.epoch == theirs.epoch
            if agreed and not is_same(mine, theirs):
                detail = f"{mine} against {theirs} of node {other.node_id}"
                raise _broken("Log Matching", view, detail)


class CheckedRaft:
    """A Raft engine whose own invariants, with deltas, are checked around every step."""

    def __init__(self, engine: Engine) -> None:
        self.inner = engine
        self._raft = cast("RaftEngine", engine)

    def step(self, event: Event) -> None:
        """Pass the event in, and look at what it changed."""
        before = snapshot_state(self._raft)
        self.inner.step(event)
        check_step(before, event, snapshot_state(self._raft))

    def __getattr__(self, name: str) -> Any:
        """Everything else is the engine's."""
        return getattr(self.inner, name)
