"""``quorate check``: what it prints, and with which exit code it ends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from quorate.checking.jsonl import encode_event
from quorate.checking.models import MODEL_NAMES
from quorate.checking.verdict import Answer, Verdict
from quorate.cli import check as check_command
from quorate.cli import main
from quorate.cli.main import cli


def lines(*events: tuple[Any, ...]) -> str:
    return "".join(encode_event(*event) + "\n" for event in events)


GOOD = lines(
    ("invoke", 0, "write", 1),
    ("ok", 0, "write"),
    ("invoke", 1, "read"),
    ("ok", 1, "read", 1),
)
BAD = lines(
    ("invoke", 0, "write", 1),
    ("ok", 0, "write"),
    ("invoke", 1, "read"),
    ("invoke", 2, "write", 4),
    ("ok", 1, "read", 3),
    ("ok", 2, "write"),
)
CUT_OFF = GOOD[:-9]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in (("good", GOOD), ("bad", BAD), ("cut", CUT_OFF)):
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return tmp_path


def run(*arguments: str, data: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["check", *arguments], input=data)


@pytest.mark.usefixtures("files")
def test_a_linearizable_history_exits_with_0() -> None:
    """The verdict and the figures, and nothing else."""
    result = run("good.jsonl")
    assert result.exit_code == 0
    assert result.stdout.startswith("good.jsonl: linearizable\nmodel register, 2 operations, ")
    assert len(result.stdout.splitlines()) == 2


@pytest.mark.usefixtures("files")
def test_a_history_that_is_not_linearizable_exits_with_1_and_a_drawing() -> None:
    """The first line is the verdict; the drawing shows the read that nothing explains."""
    result = run("bad.jsonl")
    assert result.exit_code == 1
    assert result.stdout.startswith("bad.jsonl: not linearizable\n")
    assert 'process 1 got: "read -> 3"' in " ".join(result.stdout.split())
    assert "read -> 3┥" in result.stdout


@pytest.mark.usefixtures("files")
def test_an_unusable_file_exits_with_2_and_names_the_line() -> None:
    """What is wrong goes to stderr, with file and line."""
    result = run("cut.jsonl")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("quorate: cut.jsonl:4: the file ends in the middle of an event")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("name", "words"), [("missing.jsonl", "cannot be read: No such file"), (".", "a directory")]
)
def test_a_file_that_cannot_be_read_exits_with_2(name: str, words: str) -> None:
    """A missing file and a directory are said to be so."""
    result = run(name)
    assert result.exit_code == 2
    assert words in result.stderr


@pytest.mark.usefixtures("files")
def test_a_search_that_gives_up_exits_with_3_and_names_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Undecided is no verdict in disguise: it says what ended the search."""

    def give_up(history: Any, model: Any, *, budget: Any, search: str) -> Verdict:
        assert budget.configurations_max == 7
        return Verdict(Answer.UNDECIDED, model.name, 2, 1, 7, search, undecided=["a"])

    monkeypatch.setattr(check_command, "check", give_up)
    result = run("good.jsonl", "--configurations", "7")
    assert result.exit_code == 3
    assert "undecided" in result.stdout
    assert "gave up on 1 object (a) at --configurations 7" in result.stdout
    fields = json.loads(run("good.jsonl", "--configurations", "7", "--json").stdout)
    assert fields["exit_code"] == 3
    assert fields["histories"][0]["undecided"] == ["a"]


@pytest.mark.usefixtures("files")
def test_time_ends_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the budget is asked after --timeout, it says that it is over, and by what."""
    monkeypatch.setattr(check_command.time, "monotonic", iter([0.0, 1.0, 3.0]).__next__)
    watch = check_command.Watch("h", check_command.Limits(2000, None, None))
    assert not watch.is_over()
    assert watch.is_over()
    assert watch.limit == "--timeout 2s"


def test_memory_ends_a_search() -> None:
    """A process that holds more than --memory gives up."""
    watch = check_command.Watch("h", check_command.Limits(None, 1 << 20, None))
    assert check_command.memory_bytes() > 1 << 20
    assert watch.is_over()
    assert watch.limit == "--memory 1MiB"


@pytest.mark.usefixtures("files")
def test_json_is_one_object() -> None:
    """The same facts for programs, whatever the verdict."""
    fields = json.loads(run("bad.jsonl", "--json").stdout)
    assert fields["exit_code"] == 1
    (history,) = fields["histories"]
    assert (history["answer"], history["model"]) == ("not linearizable", "register")
    assert (history["operations"], history["failed"], history["objects"]) == (3, 0, 1)
    found = history["counterexample"]
    assert found["stuck"][0]["words"] == "read -> 3"
    assert found["stuck"][0]["line"] == 3
    unusable = json.loads(run("cut.jsonl", "--json").stdout)["histories"][0]
    assert (unusable["answer"], unusable["line"]) == ("unusable", 4)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("names", "code"),
    [("good good", 0), ("good bad cut", 1), ("good cut", 2)],
)
def test_several_files_are_a_table_with_the_worst_exit_code(names: str, code: int) -> None:
    """One line each; 1 wins over 2, and 2 over 0."""
    chosen = [f"{name}.jsonl" for name in names.split()]
    result = run(*chosen)
    assert result.exit_code == code
    rows = result.stdout.splitlines()
    assert rows[0].split()[:3] == ["file", "verdict", "model"]
    assert [row.split()[0] for row in rows[1 : 1 + len(chosen)]] == chosen
    assert rows[1 + len(chosen)].startswith(f"{len(chosen)} histories: ")


def test_standard_input_is_a_file() -> None:
    """A dash reads what is piped in, and messages call it stdin."""
    assert run("-", data=GOOD.encode()).exit_code == 0
    result = run("-", data=b"\x1f\x8b")
    assert result.exit_code == 2
    assert "quorate: stdin: this is gzip" in result.stderr


def test_a_page_is_written(files: Path) -> None:
    """--html writes the picture beside what is printed."""
    result = run("bad.jsonl", "--html", "why.html")
    assert result.exit_code == 1
    assert "written: why.html" in result.stdout
    assert "<svg" in (files / "why.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name a history: quorate check FILE"),
        (["good.jsonl", "--model", "map"], "there is no model 'map'; there are "),
        (["good.jsonl", "--timeout", "5"], "--timeout: '5' has no unit"),
        (["good.jsonl", "--memory", "2GB"], "--memory: '2GB': unknown unit 'GB'"),
        (["good.jsonl", "bad.jsonl", "--html", "x.html"], "the page of one history"),
        (["good.jsonl", "--html", "no/x.html"], "--html no/x.html: cannot be written"),
        (["good.jsonl", "--search", "fast"], "'fast' is not one of"),
    ],
)
def test_a_wrong_call_exits_with_2_and_says_what_to_write(
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The message names the option and what was wrong with it."""
    monkeypatch.setattr("sys.argv", ["quorate", "check", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.usefixtures("files")
def test_a_model_that_does_not_fit_is_an_error_with_the_line() -> None:
    """The first operation that the model does not know is named."""
    result = run("good.jsonl", "--model", "kv")
    assert result.exit_code == 2
    assert "good.jsonl:1: model kv has no function 'write'; it has " in result.stderr


def test_models_are_listed_with_their_functions() -> None:
    """--models shows every model and what each function takes."""
    listed = run("--models").stdout
    for name in MODEL_NAMES:
        assert f"\n{name}\n" in f"\n{listed}"
    assert "cas" in listed


def test_help_tells_exit_codes_and_defaults() -> None:
    """Who reads --help knows what a script may rely on."""
    text = " ".join(run("--help").stdout.split())
    for words in ("0 linearizable", "3 undecided", "[default: 60s]", "[default: 2GiB]"):
        assert words in text


def test_the_pages_example_prints_what_the_page_says(files: Path) -> None:
    """The history in docs/checking.md is drawn as docs/checking.md draws it."""
    page = (Path(__file__).parents[3] / "docs" / "checking.md").read_text(encoding="utf-8")
    blocks = [
        "\n".join(line.removeprefix("    ") for line in block.strip("\n").split("\n")) + "\n"
        for block in re.findall(r"(?:^(?:    .*)?\n)+", page, re.MULTILINE)
        if block.strip()
    ]
    (history,) = [block for block in blocks if block.startswith('{"history"')]
    (picture,) = [block for block in blocks if block.startswith("No order")]
    (files / "example.jsonl").write_text(history, encoding="utf-8")
    result = run("example.jsonl")
    assert result.exit_code == 1
    assert result.stdout.partition("\n\n")[2] == picture


def test_long_runs_show_progress_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line that is wiped at the end, on stderr; nothing where nobody looks."""
    for is_terminal in (False, True):
        monkeypatch.setattr(check_command.time, "monotonic", iter([0.0, 0.5, 2.0]).__next__)
        monkeypatch.setattr(check_command.sys.stderr, "isatty", lambda: is_terminal)  # noqa: B023
        watch = check_command.Watch("h.edn", check_command.Limits(None, None, None))
        assert not watch.is_over()
        assert not watch.is_over()
        watch.close()
        said = capsys.readouterr().err
        assert ("checking h.edn: 2 s" in said) is is_terminal
        assert said.endswith("\r\x1b[K") is is_terminal
