"""``quorate cluster``: a leader's page in words, and what became of a change."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from quorate.cli.cluster import change, progress, show
from quorate.cli.cluster.api import Cluster, Refused
from quorate.cli.cluster.picture import describe
from quorate.cli.cluster.progress import came_about, watch
from quorate.cli.main import cli
from quorate.errors import NoQuorum, OutcomeUnknown, UsageError


def member(node_id: int, match_index: int = 1000, **more: Any) -> dict[str, Any]:
    plain = {"node_id": node_id, "match_index": match_index, "active": True, "state": "replicate"}
    return plain | more


def page(**more: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "cluster_id": "c1",
        "leader": 1,
        "epoch": 3,
        "commit_index": 1000,
        "last_index": 1000,
        "voters": [1, 2, 3],
        "learners": [],
        "witnesses": [],
        "outgoing": [],
        "next_voters": [],
        "priorities": {},
        "catching_up": [],
        "change_under_way": "",
        "change_failed": "",
        "failures_tolerated": 1,
        "failures_tolerated_when_whole": 1,
        "members": [member(2), member(3)],
        "cluster": {"1": "a:1", "2": "b:2", "3": "c:3", "4": "d:4"},
    }
    return plain | more


CATCHING_UP = page(
    learners=[4],
    next_voters=[1, 2, 3, 4],
    change_under_way="voters 1,2,3 -> 1,2,3,4: 4 catching up",
    catching_up=[{"node_id": 4}],
    members=[member(2), member(3), member(4, 830)],
)


def states(found: dict[str, Any]) -> dict[int, str]:
    return {each.node_id: each.words for each in describe(found).members}


def roles(found: dict[str, Any]) -> dict[int, str]:
    return {each.node_id: each.role for each in describe(found).members}


def test_a_healthy_cluster_needs_one_sentence() -> None:
    """Who leads, how many vote, how many may fail; nothing else to say."""
    picture = describe(page())
    assert picture.verdict == "node 1 leads 3 voters; tolerates 1 more failure"
    assert picture.notes == []
    assert states(page()) == {1: "leads", 2: "in step", 3: "in step"}
    assert [each.address for each in picture.members] == ["a:1", "b:2", "c:3"]


def test_what_is_not_as_it_should_be_is_said() -> None:
    """Silence, lag, a learner in step, an even number, a change that was given up."""
    silent = describe(page(members=[member(2), member(3, active=False)], failures_tolerated=0))
    assert silent.verdict.endswith("tolerates no more failure")
    assert silent.notes == [
        "node 3 does not answer (voter)",
        "with all 3 voters up it would tolerate 1",
    ]
    behind = page(last_index=9000, members=[member(2, 9000), member(3, 1500)])
    assert states(behind)[3] == "7,500 entries behind"
    learner = describe(page(learners=[4], members=[member(2), member(3), member(4)]))
    assert "node 4 is a learner and in step: it can be promoted at any time" in learner.notes
    four = describe(page(voters=[1, 2, 3, 4], members=[member(2), member(3), member(4)]))
    assert any("an odd number is better" in note for note in four.notes)
    failed = describe(page(change_failed="node 4 cannot be reached"))
    assert failed.notes == ["a change was given up before: node 4 cannot be reached"]


def test_a_member_that_catches_up_has_a_percentage() -> None:
    """Also by snapshot, when nothing of the log is there yet."""
    picture = describe(CATCHING_UP)
    assert "node 4 is catching up: 83 %" in picture.notes
    assert roles(CATCHING_UP)[4] == "voter, joining"
    installing = [member(2), member(3), member(4, 0, state="snapshot")]
    assert states(CATCHING_UP | {"members": installing})[4] == "catching up: 0 %"


def test_who_comes_and_who_goes_while_both_halves_decide() -> None:
    """In a joint configuration everybody is still a member."""
    joint = page(voters=[2, 3, 4], outgoing=[1, 2, 3], witnesses=[3])
    assert roles(joint) == {1: "voter, leaving", 2: "voter", 3: "witness", 4: "voter, joining"}


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        ({"add": [{"node_id": 4, "role": "voter"}]}, page(voters=[1, 2, 3, 4]), True),
        ({"add": [{"node_id": 4, "role": "voter"}]}, page(), False),
        ({"add": [{"node_id": 4, "role": "learner"}]}, page(learners=[4]), True),
        ({"remove": [3]}, page(voters=[1, 2]), True),
        ({"remove": [3]}, page(), False),
        ({"promote": [3]}, page(voters=[1, 2], learners=[3]), False),
        ({"demote": [3]}, page(voters=[1, 2], learners=[3]), True),
        ({"priorities": {"2": 5}}, page(priorities={"2": 5}), True),
        ({"priorities": {"2": 5}}, page(), False),
        ({"addresses": {"2": "b:2"}}, page(), True),
        ({"addresses": {"2": "b:9"}}, page(), False),
    ],
)
def test_whether_a_change_came_about(
    wanted: dict[str, Any], found: dict[str, Any], expected: bool
) -> None:
    """A change that ended is not a change that was made: the members tell."""
    assert came_about(wanted, describe(found)) is expected


class Pages:
    """A cluster that shows one page after the other, the last one again and again."""

    addresses = ()

    def __init__(self, *pages: dict[str, Any] | None) -> None:
        self.pages = list(pages)
        self.posted: list[tuple[str, dict[str, Any]]] = []

    def page(self) -> dict[str, Any]:
        found = self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]
        if found is None:
            raise NoQuorum("an election is under way")
        return found

    def post(self, path: str, content: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.posted.append((path, content))
        return 202, {"words": "under way"}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr(progress, "sleep", lambda _: None)
    monkeypatch.setattr(progress, "monotonic", lambda: next(clock))


def test_watching_goes_on_through_an_election(capsys: pytest.CaptureFixture[str]) -> None:
    """What is under way is said once, progress in steps; then how the cluster is."""
    later = CATCHING_UP | {"members": [member(2), member(3), member(4, 990)]}
    done = page(voters=[1, 2, 3, 4], members=[member(2), member(3), member(4)])
    wanted = {"add": [{"node_id": 4, "role": "voter"}]}
    cluster: Any = Pages(CATCHING_UP, CATCHING_UP, None, later, done)
    assert watch(cluster, wanted, quiet=False).voters == 4
    assert capsys.readouterr().out.splitlines() == [
        "under way: voters 1,2,3 -> 1,2,3,4: 4 catching up",
        "node 4 is catching up: 83 %",
        "node 4 is catching up: 99 %",
    ]


def test_watching_ends_when_it_is_taken_back_or_nobody_leads() -> None:
    """Given up is a no; silence for long is a "perhaps"."""
    failed: Any = Pages(CATCHING_UP, page(change_failed="node 4 cannot be reached"))
    with pytest.raises(Refused, match="given up: node 4 cannot be reached"):
        watch(failed, {"add": [{"node_id": 4, "role": "voter"}]}, quiet=True)
    silent: Any = Pages(None)
    with pytest.raises(OutcomeUnknown, match="nobody leads"):
        watch(silent, {}, quiet=True)


def test_what_a_node_asked_for_itself_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node with --join may be faster: adding it here watches; other refusals stay."""

    class Refusing(Pages):
        def post(self, path: str, content: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            raise Refused("node 4 is already a member")

    done = page(voters=[1, 2, 3, 4], members=[member(2), member(3), member(4)])
    for line, exit_code in (("4=d:4", 0), ("4=x:9", 1), ("5=x:9", 1), ("4=d:4 --as witness", 1)):
        monkeypatch.setattr(change, "Cluster", lambda _: Refusing(CATCHING_UP, CATCHING_UP, done))
        result = CliRunner().invoke(cli, ["cluster", "add", *line.split()])
        assert result.exit_code == exit_code, line


def test_commands_ask_for_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each subcommand sends one change; --no-wait does not watch."""
    new = {"node_id": 4, "address": "d:4", "role": "voter", "priority": 0}
    for line, content in (
        ("add 4=d:4", {"add": [new]}),
        ("add 4=d:4 --as witness", {"add": [new | {"role": "witness"}]}),
        ("remove 3 2", {"remove": [3, 2]}),
        ("replace 1 4=d:4", {"add": [new], "remove": [1]}),
        ("promote 4", {"promote": [4]}),
        ("demote 2", {"demote": [2]}),
        ("move 2=b:9", {"addresses": {"2": "b:9"}}),
        ("prefer 2 10", {"priorities": {"2": 10}}),
    ):
        cluster = Pages(page())
        monkeypatch.setattr(change, "Cluster", lambda _, cluster=cluster: cluster)
        result = CliRunner().invoke(cli, ["cluster", *line.split(), "--no-wait", "--json"])
        assert result.exit_code == 0, result.output
        assert cluster.posted == [("/cluster/change", content)]
        assert json.loads(result.output)["done"] is False


def test_status_in_words_and_without_a_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict first; without a quorum exit code 1."""
    monkeypatch.setattr(show, "Cluster", lambda _: Pages(CATCHING_UP))
    result = CliRunner().invoke(cli, ["cluster", "status"])
    assert result.output.startswith("node 1 leads 3 voters; tolerates 1 more failure\n")
    assert "node 4 is catching up: 83 %" in result.output
    monkeypatch.setattr(show, "Cluster", lambda _: Pages(None))
    result = CliRunner().invoke(cli, ["cluster", "status", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.output)["quorum"] is False


def test_help_names_every_subcommand() -> None:
    """In the order in which they are used, each with its meaning."""
    output = CliRunner().invoke(cli, ["cluster", "--help"]).output
    names = ("status", "members", "add", "remove", "replace", "promote", "transfer")
    assert all(f"  {name} " in output for name in names)
    for name in names:
        assert CliRunner().invoke(cli, ["cluster", name, "--help"]).exit_code == 0


def test_addresses_are_checked_before_anything_is_asked() -> None:
    """The option is named."""
    with pytest.raises(UsageError, match="--admin: 'x' is not HOST:PORT"):
        Cluster("x")
