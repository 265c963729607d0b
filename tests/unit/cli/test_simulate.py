"""``quorate simulate``: what is printed, what is written, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from quorate import __version__
from quorate.cli.main import cli
from quorate.cli.simulate import report
from quorate.cli.simulate.progress import Bar, ShrinkLine
from quorate.errors import UsageError
from quorate.replication import outbox
from quorate.simulation.actions import ACTIONS
from quorate.simulation.plan import KINDS, PLOT_KINDS
from quorate.simulation.properties import catalogue
from quorate.simulation.scenario import parse_scenario

ONE = ("run", "--first-seed", "3", "--duration", "1s", "--nodes", "3")


def simulate(*words: object, code: int = 0) -> str:
    """What a command prints."""
    result = invoke(*words)
    assert result.exit_code == code, result.output
    return result.output


def invoke(*words: object) -> Result:
    return CliRunner().invoke(cli, ["simulate", *map(str, words)])


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A batch lost on the way stays lost; in an empty directory."""
    monkeypatch.setattr(outbox.Outbox, "resend", lambda _: None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def violated(losing: Path) -> Path:
    """The scenario file of a violation."""
    for seed in range(30):
        words = ("run", "--first-seed", seed, "--duration", "5s", "--nodes", 3)
        if invoke(*words).exit_code == 1:
            return losing / f"quorate-{seed}.scenario"
    raise AssertionError("no seed was violated")


def test_one_seed_says_first_and_last_how_to_do_it_again() -> None:
    """Version, seed, scenario and digest; the same line gives the same line (PL-9)."""
    lines = simulate(*ONE).splitlines()
    assert lines[0] == lines[-1]
    command, _, facts = lines[0].partition("  # ")
    assert command == (
        "quorate simulate run --first-seed 3 --seeds 1 --nodes 3 --clients 4 --duration 1s "
        "--faults all"
    )
    assert facts.startswith(f"quorate {__version__}")
    assert "seed 3, cells/3 nodes/4 clients/1s/" in facts
    assert ", digest " in facts
    again = simulate(*command.split()[2:]).splitlines()
    assert again[0] == lines[0]
    assert any("leaders elected" in line for line in lines)
    assert any("1 seed, no violation" in line for line in lines)


def test_json_says_everything_in_one_object() -> None:
    """Totals, figures, digest, and each run."""
    found = json.loads(simulate(*ONE, "--json"))
    assert found["version"] == __version__
    assert found["command"].startswith("quorate simulate run --first-seed 3")
    assert found["violations"] == []
    assert found["digest"] == found["runs"][0]["digest"]
    assert found["totals"]["elections"] >= 1
    assert found["figures"]["requests"] > 0
    assert found["tried"] == found["seeds"] == 1


def test_options_fix_the_run() -> None:
    """Other wishes, other runs: they are part of the line."""
    plain = json.loads(simulate(*ONE, "--json"))
    quiet = json.loads(simulate(*ONE, "--faults", "none", "--clients", 2, "--json"))
    assert plain["digest"] != quiet["digest"]
    assert "--clients 2 --duration 1s --faults none" in quiet["command"]
    assert quiet["totals"]["crashes"] == 0


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("run", "--duration", "5"), "is no duration: write 1.5s"),
        (("run", "--duration", "0s"), "longer than nothing"),
        (("run", "--nodes", "10"), "1<=x<=9"),
        (("run", "--seeds", "0"), "x>=1"),
        (("run", "--workload", "nothing"), "nothing"),
        (("replay", "nowhere.scenario"), "nowhere.scenario"),
    ],
)
def test_wrong_options_exit_with_2(words: tuple[str, ...], wrong: str) -> None:
    """The option and what it takes are named."""
    assert wrong in simulate(*words, code=2)


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("run", "--faults", "rain"), "--faults: unknown kind of fault 'rain'; known: all"),
        (("run", "--machine", "no.such:T"), "cannot import no.such"),
        (("run", "--machine", "m:T", "--workload", "cells"), "leave --workload out"),
        (("shrink",), "name a scenario file"),
        (("shrink", "--seed", "3", "--duration", "1s"), "does not fail"),
    ],
)
def test_impossible_wishes_are_usage_errors(words: tuple[str, ...], wrong: str) -> None:
    """``main`` turns these into one line and exit code 2."""
    result = invoke(*words)
    assert isinstance(result.exception, UsageError)
    assert wrong in str(result.exception)


def test_a_violation_is_told_written_and_replayed(violated: Path) -> None:
    """Property, claim, seed, the command that shows it again, and a file that replays."""
    seed = violated.stem.removeprefix("quorate-")
    words = ("run", "--first-seed", seed, "--duration", "5s", "--nodes", 3)
    output = simulate(*words, code=1)
    assert f"VIOLATION in seed {seed}: replicas come to agree (liveness; Paxos Made" in output
    assert "Once faults stop, all replicas become equal" in output
    assert f"again    quorate simulate run --first-seed {seed} --seeds 1 --nodes 3" in output
    assert f"quorate simulate replay {violated.name}" in output
    assert f"quorate simulate shrink {violated.name}" in output
    assert "1 seed, 1 with a violation" in output
    first = output.splitlines()[0]
    text = violated.read_text()
    assert parse_scenario(text, "file").seed == int(seed)
    assert "# replicas come to agree: Once faults stop" in text
    replayed = simulate("replay", violated.name, code=1)
    assert first.rpartition("digest ")[2] == replayed.splitlines()[0].rpartition("digest ")[2]
    found = json.loads(simulate("replay", violated.name, "--json", code=1))
    assert found["violation"]["property"] == "replicas come to agree"
    assert found["outcome"] is None


def test_violations_go_where_they_are_wanted(violated: Path) -> None:
    """--out names the directory, which is made; --json lists them."""
    seed = violated.stem.removeprefix("quorate-")
    words = (
        "run",
        "--first-seed",
        seed,
        "--duration",
        "5s",
        "--nodes",
        3,
        "--out",
        "a/b",
        "--json",
    )
    found = json.loads(simulate(*words, code=1))
    assert found["violations"][0]["seed"] == int(seed)
    assert Path("a/b", violated.name).exists()


def test_shrinking_says_before_and_after(violated: Path) -> None:
    """The small scenario is printed, and written beside the large one; it replays."""
    output = simulate("shrink", violated.name, "--runs", 15)
    before, after, *_ = output.splitlines()
    assert before.startswith("before: ")
    assert after.startswith("after:  ")
    assert "(15 runs)" in after
    small = violated.with_name(f"{violated.stem}-small.scenario")
    large = parse_scenario(violated.read_text(), "large")
    assert len(parse_scenario(small.read_text(), "small").steps) < len(large.steps) / 2
    assert f"quorate simulate replay {small.name}" in output
    assert simulate("replay", small.name, code=1)
    seed = violated.stem.removeprefix("quorate-")
    words = ("shrink", "--seed", seed, "--duration", "5s", "--nodes", 3, "--runs", 5, "--json")
    found = json.loads(simulate(*words, "--out", "here.scenario"))
    assert found["runs"] == 5
    assert found["before"]["steps"] >= found["after"]["steps"]
    assert Path("here.scenario").exists()


def test_a_replay_tells_what_happens(tmp_path: Path) -> None:
    """Faults, nodes and clients by virtual time; watching changes nothing."""
    file = tmp_path / "story.scenario"
    file.write_text(
        "quorate scenario 1\nseed 1\nworkload cells\nduration 1s\n"
        "client 1 at 200ms write a 7\nclient 1 at 300ms read a\n"
        "at 400ms crash 1\nat 600ms restart 1\n"
    )
    plain = simulate("replay", file)
    told = simulate("replay", file, "--trace")
    assert plain.splitlines()[0] == told.splitlines()[0] == told.splitlines()[-1]
    assert "no violation" in plain
    lines = [" ".join(line.split()[1:]) for line in told.splitlines()]
    story = [
        "node 1 starts",
        "client 1 asks: write a 7",
        "client 1 write a 7: True",
        "client 1 read a: '7'",
        "fault crash 1",
        "node 1 is down",
        "fault restart 1",
        "node 1 starts again, for the 2nd time",
        "fault none from here on: everything is mended, and must get well",
    ]
    assert [line for line in lines if line in story] == story
    assert any("is elected in epoch" in line for line in lines)
    assert any("leads epoch" in line for line in lines)
    found = json.loads(simulate("replay", file, "--trace", "--json"))
    assert found["outcome"]["crashes"] == 1
    assert {"at_us", "who", "what"} == set(found["timeline"][0])


def test_files_that_are_no_scenarios_are_named(tmp_path: Path) -> None:
    """File, line and what would be right; a stranger's workload needs --machine."""
    file = tmp_path / "bad.scenario"
    for text, wrong in (
        ("hello\n", ":1: the first line of a scenario"),
        ("quorate scenario 1\nseed 1\nworkload cells\nat 1s explode 1\n", ":4: unknown action"),
        ("quorate scenario 1\nseed 1\nworkload bank:BANK\n", "--machine MODULE:NAME"),
    ):
        file.write_text(text)
        result = invoke("replay", file)
        assert isinstance(result.exception, UsageError)
        assert wrong in str(result.exception)
    file.write_bytes(b"\xff\xfe")
    assert isinstance(invoke("replay", file).exception, UsageError)


def test_properties_and_faults_are_listed() -> None:
    """All of them, with what they claim and how they are written."""
    output = simulate("properties")
    for known in catalogue():
        assert known.name in output
        assert known.claim in output
    assert {one["name"] for one in json.loads(simulate("properties", "--json"))} >= {
        "election safety",
        "your invariant holds",
    }
    output = simulate("faults")
    assert all(word in output for word in (*KINDS, *PLOT_KINDS, *ACTIONS))
    assert json.loads(simulate("faults", "--json"))["actions"]["crash"]["usage"] == "crash NODE"


def test_the_commit_is_that_of_the_source_tree(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a checkout git says it; anywhere else there is none, and nothing is said."""
    monkeypatch.setattr(report.quorate, "__file__", str(tmp_path / "src/quorate/__init__.py"))
    assert report.commit() == ""
    assert "commit" not in report.Identity(["run"]).line("seed 1")
    (tmp_path / ".git").mkdir()
    assert report.commit() == ""


class Terminal:
    """Standard error, as if somebody sat before it."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def test_progress_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the figures run; with --json, or into a file, nothing is shown."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    state: Any = _shrunk()
    with ShrinkLine(quiet=False) as line:
        line.show(state)
    assert "run 1: 0 actions, 0 steps, 3 nodes" in terminal.text
    terminal.text = ""
    tally = report.Tally()
    with Bar(10, quiet=False) as bar:
        bar.show(tally)
    assert "0/10" in terminal.text
    terminal.text = ""
    with Bar(10, quiet=True) as bar, ShrinkLine(quiet=True) as line:
        bar.show(tally)
        line.show(state)
    assert terminal.text == ""


def _shrunk() -> Any:
    from quorate.simulation.scenario import Scenario
    from quorate.simulation.shrink import Shrunk

    return Shrunk(Scenario(1, "cells"), None, 1)  # type: ignore[arg-type]
