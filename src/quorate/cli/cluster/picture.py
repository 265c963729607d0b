"""What a leader's page says, in words and rows for people. Pure.

A page is ``GET /cluster`` of the admin API. What it does not say is not guessed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from quorate.cli.words import verdict

_NEAR_ENTRIES = 1000  # this far behind under load is no news

Page = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Member:
    """One member as the leader sees it.

    Attributes:
        node_id: its id.
        role: voter, witness, learner; or what a change makes of it: joining, leaving.
        address: where other nodes dial it.
        state: leads, in step, behind, catching up, no answer.
        match_index: how far its log agrees with the leader's, durably.
        lag_entries: how many entries it misses.
        percent: how far a member that is catching up has come; None for others.
        priority: how much it should lead rather than others.
    """

    node_id: int
    role: str
    address: str
    state: str
    match_index: int
    lag_entries: int
    percent: int | None = None
    priority: int = 0

    @property
    def words(self) -> str:
        """Its state in words."""
        if self.state == "catching up":
            return f"catching up: {self.percent} %"
        if self.state == "behind":
            return f"{self.lag_entries:,} entries behind"
        return self.state


@dataclass(frozen=True, slots=True)
class Picture:
    """The cluster now.

    Attributes:
        leader: node id of the leader.
        voters: how many vote.
        failures_tolerated: how many more of them may fail.
        change: the change under way, in words; empty: none.
        notes: sentences about what is not as it should be, most important first.
    """

    cluster_id: str
    leader: int
    epoch: int
    commit_index: int
    voters: int
    failures_tolerated: int
    change: str
    change_failed: str
    members: list[Member] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """The one sentence that matters."""
        return verdict(f"node {self.leader}", self.voters, self.failures_tolerated)

    def to_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        return {**asdict(self), "verdict": self.verdict, "quorum": True}


def describe(page: Page) -> Picture:
    """Put a leader's page into words."""
    members = [_member(page, node) for node in _ids(page)]
    left = int(page["failures_tolerated"] or 0)
    picture = Picture(
        cluster_id=str(page.get("cluster_id", "")),
        leader=int(page["leader"]),
        epoch=int(page["epoch"]),
        commit_index=int(page["commit_index"]),
        voters=len(page["voters"]),
        failures_tolerated=left,
        change=str(page["change_under_way"]),
        change_failed=str(page["change_failed"]),
        members=members,
    )
    picture.notes.extend(_notes(page, picture))
    return picture


def _ids(page: Page) -> list[int]:
    named = {*page["voters"], *page["learners"], *page["outgoing"], *page["next_voters"]}
    return sorted(named)


def _member(page: Page, node: int) -> Member:
    seen = {member["node_id"]: member for member in page["members"]}.get(node)
    match = int(seen["match_index"]) if seen else int(page["last_index"])
    state, percent = _state(page, node, seen)
    return Member(
        node_id=node,
        role=_role(page, node),
        address=str(page["cluster"].get(str(node), "")),
        state=state,
        match_index=match,
        lag_entries=max(0, int(page["last_index"]) - match),
        percent=percent,
        priority=int(page["priorities"].get(str(node), 0)),
    )


def _role(page: Page, node: int) -> str:
    plain = "witness" if node in page["witnesses"] else "voter"
    if page["outgoing"] and node not in page["voters"] and node not in page["learners"]:
        return f"{plain}, leaving"
    if page["outgoing"] and node not in page["outgoing"] and node in page["voters"]:
        return f"{plain}, joining"
    if node in page["voters"] or node in page["outgoing"]:
        planned = page["next_voters"]
        return f"{plain}, leaving" if planned and node not in planned else plain
    if node in page["next_voters"]:
        return f"{plain}, joining"
    return "learner"


def _state(page: Page, node: int, seen: Page | None) -> tuple[str, int | None]:
    if node == page["leader"]:
        return "leads", None
    if seen is None or not seen["active"]:
        return "no answer", None
    match, last = int(seen["match_index"]), int(page["last_index"])
    is_new = node in {member["node_id"] for member in page["catching_up"]}
    if is_new or seen["state"] == "snapshot" or match == 0:
        return "catching up", 100 * match // max(1, last)
    if last - match > _NEAR_ENTRIES:
        return "behind", None
    return "in step", None


def _notes(page: Page, picture: Picture) -> list[str]:
    notes = []
    if page.get("disk_full"):
        notes.append(
            f"the disk of node {picture.leader} is full and no other node can lead: writes are "
            "refused until there is space"
        )
    for member in picture.members:
        if member.state == "no answer":
            notes.append(f"node {member.node_id} does not answer ({member.role})")
        elif member.state in ("catching up", "behind"):
            notes.append(f"node {member.node_id} is {member.words}")
        elif member.role == "learner" and not picture.change:
            notes.append(
                f"node {member.node_id} is a learner and in step: it can be promoted at any time"
            )
    if picture.change:
        notes.append(f"a change is under way: {picture.change}")
    elif picture.change_failed:
        notes.append(f"a change was given up before: {picture.change_failed}")
    whole = int(page["failures_tolerated_when_whole"])
    if picture.voters > 1 and picture.failures_tolerated < whole:
        notes.append(f"with all {picture.voters} voters up it would tolerate {whole}")
    if picture.voters % 2 == 0:
        notes.append(
            f"{picture.voters} voters tolerate no more failures than {picture.voters - 1}: "
            "an odd number is better"
        )
    return notes
