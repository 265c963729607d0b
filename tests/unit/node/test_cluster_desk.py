"""Requests about the cluster: passed to the leader, answered with words and codes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.consensus.change import Change
from quorate.consensus.engine import ChangeOutcome, MembershipAnswer
from quorate.consensus.membership import Configuration
from quorate.errors import SettingsError
from quorate.node.admin_cluster import ClusterPages, why_not
from quorate.node.change_words import parse_change
from quorate.node.cluster_desk import ClusterDesk
from quorate.node.units import Address, parse_address
from quorate.protocol.peer import Hello

from .fakes import run

OWN = Hello("c1", 1, "01" * 16, 1, 1, "a:1")
THREE = Configuration.of((1, 2, 3), addresses={1: "a:1", 2: "b:2", 3: "c:3"})
JOIN = {
    "ask": "join",
    "node_id": 4,
    "address": "d:4",
    "directory_id": "04" * 16,
    "cluster_id": "c1",
    "role": "voter",
    "dry_run": False,
}


class Leader:
    """A server that leads, and answers every change as told."""

    def __init__(self, configuration: Configuration = THREE) -> None:
        self.now = configuration
        self.changes: list[Change] = []
        self.transfers: list[int] = []
        self.desk: ClusterDesk
        self.outcome = ChangeOutcome.ACCEPTED
        self.page: dict[str, Any] = {
            "leader": 1,
            "serving": True,
            "members": [{"node_id": node, "active": node != 3} for node in (2, 3)],
        }

    def status(self) -> dict[str, Any]:
        return self.page

    def configuration(self) -> Configuration:
        return self.now

    def change_membership(self, token: int, change: Change) -> None:
        self.changes.append(change)
        answer = MembershipAnswer(token, self.outcome, 7, "for a reason")
        asyncio.get_running_loop().call_soon(self.desk.answered, answer)

    def transfer_leadership(self, to: int = 0) -> None:
        self.transfers.append(to)
        self.page = self.page | {"leader": to or 2}


def desk_of(
    leader: Leader,
    known: dict[int, bytes] | None = None,
    founders: dict[int, Address] | None = None,
    own: Hello = OWN,
) -> ClusterDesk:
    leader.desk = ClusterDesk(
        server=leader,
        wake=lambda: None,
        own=own,
        founders=founders or {},
        directory_of=(known or {}).get,
        status=lambda: {"the": "page"},
        election_timeout_ms=1,
    )
    return leader.desk


def answers(desk: ClusterDesk, request: dict[str, Any]) -> dict[str, Any]:
    return asyncio.run(_answer(desk, request))


async def _answer(desk: ClusterDesk, request: dict[str, Any]) -> dict[str, Any]:
    return await desk.answer(request)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (ChangeOutcome.ACCEPTED, 202),
        (ChangeOutcome.DONE, 200),
        (ChangeOutcome.REFUSED, 409),
        (ChangeOutcome.GIVEN_UP, 409),
        (ChangeOutcome.UNKNOWN, 504),
    ],
)
def test_outcomes_have_codes(outcome: ChangeOutcome, code: int) -> None:
    """Begun, done, no, and "nobody knows" are four different answers."""
    leader = Leader()
    leader.outcome = outcome
    answer = answers(desk_of(leader), {"ask": "change", "change": {"remove": [2]}})
    assert answer["code"] == code
    assert bool(answer.get("retry")) is (outcome is ChangeOutcome.REFUSED)
    assert leader.changes == [Change(remove=(2,))]


def test_what_cannot_be_asked_now_is_not_asked() -> None:
    """A leader not established, no leader, nonsense: the engine is left alone."""
    leader = Leader()
    request = {"ask": "change", "change": {"remove": [2]}}
    leader.page |= {"serving": False}
    assert answers(desk_of(leader), request)["code"] == 503
    leader.page |= {"leader": 0}
    assert answers(desk_of(leader), request)["code"] == 503
    assert answers(desk_of(leader), {"ask": "riddle"})["code"] == 400
    leader.page |= {"leader": 1, "serving": True}
    nonsense = answers(desk_of(leader), {"ask": "change", "change": {"remove": [9]}})
    assert (nonsense["code"], nonsense["words"]) == (409, "node 9 is not a member")
    assert not nonsense.get("retry")
    assert leader.changes == []


def test_a_request_does_not_wander_for_ever() -> None:
    """Two nodes that each take the other for the leader do not ask each other without end."""
    leader = Leader()
    leader.page |= {"leader": 2}
    answer = answers(desk_of(leader), {"ask": "status", "hops": 2})
    assert answer["code"] == 503
    assert "cannot be asked from here" in answer["words"]


def test_joining() -> None:
    """A free id is added, a dry run changes nothing, asking again is harmless."""
    leader = Leader()
    assert answers(desk_of(leader), JOIN | {"dry_run": True})["code"] == 200
    assert leader.changes == []
    assert answers(desk_of(leader), JOIN)["code"] == 202
    assert leader.changes[0].add[0][:3] == (4, leader.changes[0].add[0].role, "d:4")
    leader.now = Configuration.of((1, 2, 3, 4), addresses={1: "a:1", 4: "d:4"})
    assert answers(desk_of(leader), JOIN)["code"] == 200
    assert answers(desk_of(leader, {4: b"\4" * 16}), JOIN)["code"] == 200
    assert len(leader.changes) == 1


@pytest.mark.parametrize(
    ("known", "changes", "words"),
    [
        ({2: b"2" * 16}, {"node_id": 2}, "quorate cluster remove 2"),
        ({}, {"node_id": 2, "address": "x:9"}, "that of the member at b:2"),
        ({}, {"node_id": 1}, "quorate cluster remove 1"),
        ({4: b"4" * 16}, {}, "was used before"),
        ({}, {"address": "b:2"}, "is that of node 2"),
        ({}, {"address": "127.0.0.1:9"}, "reached from its own machine only, and node 1 is at a:1"),
        ({}, {"cluster_id": "c2"}, "this is cluster c1"),
    ],
)
def test_who_may_not_join(known: dict[int, bytes], changes: dict[str, Any], words: str) -> None:
    """Taken ids and addresses, lost disks, other clusters: refused before anything is changed."""
    leader = Leader()
    answer = answers(desk_of(leader, known), JOIN | changes)
    assert answer["code"] == 409
    assert words in answer["words"]
    assert not answer.get("retry")
    assert leader.changes == []


@pytest.mark.parametrize(
    "changes",
    [
        {"node_id": "4"},
        {"node_id": True},
        {"address": "0.0.0.0:1"},
        {"address": None},
        {"role": "king"},
        {"directory_id": "04"},
        {"directory_id": None},
    ],
)
def test_malformed_requests_to_join(changes: dict[str, Any]) -> None:
    """Strangers may send anything; it comes out as 400."""
    leader = Leader()
    assert answers(desk_of(leader), JOIN | changes)["code"] == 400
    assert leader.changes == []


def test_addresses_from_before_configurations_had_them_travel_with_the_first_change() -> None:
    """New members must find the old ones, and a lone node says where it is."""
    leader = Leader(Configuration.of((1, 2, 3)))
    founders = {node: parse_address(f"f{node}:1") for node in (1, 2, 3)}
    answers(desk_of(leader, founders=founders), JOIN)
    assert leader.changes[0].addresses == ((1, "f1:1"), (2, "f2:1"), (3, "f3:1"))
    alone = Leader(Configuration.of((1,), addresses={1: "127.0.0.1:2281"}))
    answers(desk_of(alone), JOIN)
    assert alone.changes[0].addresses == ((1, "a:1"),)
    silent = Leader(Configuration.of((1,), addresses={1: "127.0.0.1:2281"}))
    answer = answers(desk_of(silent, own=OWN._replace(address="")), JOIN)
    assert (answer["code"], silent.changes) == (409, [])
    assert "restart it with --peer-listen" in answer["words"]


def test_handing_over() -> None:
    """Done, already so, to nobody, to a learner, to one that does not answer."""
    leader = Leader()
    desk = desk_of(leader)
    assert answers(desk, {"ask": "transfer", "to": 1})["code"] == 200
    assert answers(desk, {"ask": "transfer", "to": 9})["code"] == 404
    assert answers(desk, {"ask": "transfer", "to": 3})["retry"]
    assert answers(desk, {"ask": "transfer", "to": "2"})["code"] == 400
    assert leader.transfers == []
    assert answers(desk, {"ask": "transfer", "to": 2})["leader"] == 2
    assert leader.transfers == [2]
    leader.page |= {"leader": 1}
    leader.now = Configuration.of((1,), (2,))
    assert answers(desk, {"ask": "transfer", "to": 2})["code"] == 409


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=20)
    | st.sampled_from(["d:4", "b:2"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)
_KEYS = st.sampled_from(["hops", "to", "change", "cluster_id", *JOIN])
_CHANGES = st.dictionaries(
    st.sampled_from(["add", "remove", "promote", "demote", "priorities", "addresses"]), _VALUES
)


@given(
    deed=st.sampled_from(["join", "change", "transfer", "status"]) | _VALUES,
    given=st.dictionaries(_KEYS, _VALUES),
    change=_CHANGES,
)
def test_whatever_strangers_send_is_answered(
    deed: Any, given: dict[str, Any], change: dict[str, Any]
) -> None:
    """An exception here would stop the node: any JSON object gets a code and words."""
    request = JOIN | {"change": change} | given | {"ask": deed}
    answer = answers(desk_of(Leader()), request)
    assert answer["code"] in (200, 202, 400, 404, 409, 503)
    assert isinstance(answer["words"], str)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (None, "a change is an object"),
        ({"add": 4}, "'add' is not a list"),
        ({"add": [{"node_id": 4}]}, "'add': '' is not HOST:PORT"),
        ({"add": [{"node_id": 4, "address": "a:1", "colour": 1}]}, "a member has"),
        ({"promote": [0]}, "'promote': 0 is no node id"),
        ({"demote": [True]}, "'demote': True is no node id"),
        ({"priorities": {"x": 1}}, "'priorities': 'x' is no node id"),
        ({"priorities": {"1": -1}}, "'priorities': -1 is no small whole number"),
        ({"addresses": ["a:1"]}, "'addresses' is not a table"),
    ],
)
def test_half_understood_changes_are_refused(change: Any, words: str) -> None:
    """The key is named, and nothing is guessed."""
    with pytest.raises(SettingsError, match=words):
        parse_change(change)


def test_changes_are_read() -> None:
    """Everything that a change can do, at once."""
    found = parse_change(
        {
            "add": [{"node_id": 4, "address": "d:4", "role": "witness", "priority": 0}],
            "remove": [1],
            "promote": [5],
            "demote": [2],
            "priorities": {"3": 10},
            "addresses": {"3": "c:9"},
        }
    )
    assert found.describe() == (
        "add witness 4, remove 1, promote 5, demote 2, set priority of 3 to 10, set address of 3"
    )


@pytest.mark.parametrize(
    ("setting", "listen", "allowed"),
    [
        ("loopback", "127.0.0.1:1", True),
        ("loopback", "[::1]:1", True),
        ("loopback", "localhost:1", True),
        ("loopback", "10.0.0.1:1", False),
        ("loopback", "0.0.0.0:1", False),
        ("always", "0.0.0.0:1", True),
        ("never", "127.0.0.1:1", False),
    ],
)
def test_where_changes_are_taken(setting: str, listen: str, allowed: bool) -> None:
    """On loopback unless it is switched off; elsewhere only if it is switched on."""
    refusal = why_not(setting, parse_address(listen))
    assert (refusal == "") is allowed
    asked: list[dict[str, Any]] = []
    pages = ClusterPages(_recording(asked), refusal)

    async def story() -> None:
        answer = await pages.answer("POST", "/cluster/transfer", "application/json", b"")
        assert answer[0] == (200 if allowed else 403)
        assert (await pages.answer("GET", "/cluster", "", b""))[0] == 200

    run(story)
    assert ("transfer" in [request["ask"] for request in asked]) is allowed


def _recording(
    asked: list[dict[str, Any]],
) -> Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]:
    async def ask(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        return {"code": 200, "words": "yes"}

    return ask
