"""``quorate log``: what it shows, its exit codes, and that it touches nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from quorate.cli.log.group import command
from quorate.consensus.entry import Entry, Persist, SnapshotMeta
from quorate.consensus.registry import describe_hard_state
from quorate.errors import UsageError
from quorate.storage.real_disk import RealDisk
from quorate.storage.settings import StorageSettings
from quorate.storage.store import Store

VOTE = (7).to_bytes(8) + (2).to_bytes(4)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A stopped node's directory: 20 entries in several files, a snapshot at 5."""
    path = tmp_path / "data"
    disk = RealDisk(path)
    store, _ = Store.open(
        disk,
        node_id=3,
        cluster_id=b"c" * 16,
        new_directory_id=b"d" * 16,
        settings=StorageSettings(segment_bytes=600, preallocate_bytes=0),
    )
    for index in range(1, 21):
        vote = VOTE if index == 4 else None
        store.persist([Persist(index, hard_state=vote, entries=[Entry(index, 7, 1, b"x" * 30)])])
    writer = store.begin_snapshot(SnapshotMeta(5, 7, b""))
    writer.write(b"state")
    writer.finish()
    store.close()
    disk.close()
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def state_of(path: Path) -> dict[str, tuple[bytes, int]]:
    return {item.name: (item.read_bytes(), item.stat().st_mtime_ns) for item in path.iterdir()}


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(bytes(data))


def test_a_good_directory_is_good_and_left_alone(directory: Path) -> None:
    """Exit code 0; no byte, name or time changes, and no lock is made."""
    before = state_of(directory)
    for words in (["verify"], ["inspect"], ["inspect", "--records"], ["inspect", "--json"]):
        result = run(*words, directory)
        assert result.exit_code == 0, result.output
    assert state_of(directory) == before


def test_inspect_says_whose_it_is_and_what_is_in_it(directory: Path) -> None:
    """The numbers that a person asks for."""
    page = json.loads(run("inspect", "--json", "--records", directory).output)
    assert page["verdict"] == "good"
    assert page["identity"]["node_id"] == 3
    assert page["log"] == {
        "first_index": 1,
        "last_index": 20,
        "compacted_to": 0,
        "hard_state": "term 7, vote for node 2",
    }
    assert [snapshot["index"] for snapshot in page["snapshots"]] == [5]
    entries = [record for record in page["records"] if record["kind"] == "entry (batch)"]
    assert [entry["index"] for entry in entries] == list(range(1, 21))
    words = run("inspect", directory).output
    assert "entries 1 to 20" in words
    assert "term 7, vote for node 2" in words


def test_damage_is_named_with_what_it_means_and_what_to_do(directory: Path) -> None:
    """Exit code 1, file and byte, the entries that are gone."""
    second = sorted(directory.glob("wal-*.q"))[1]
    flip(second, 300)
    result = run("verify", directory)
    assert result.exit_code == 1
    assert second.name in result.output
    assert "it means:" in result.output
    assert "to do: start the node" in result.output
    page = json.loads(run("verify", "--json", directory).output)
    assert page["verdict"] == "damaged"
    assert page["problems"][0]["file"] == second.name


def test_a_directory_that_nobody_can_use_is_told_apart(directory: Path) -> None:
    """Exit code 2: damaged identity, no identity, no log, no data."""
    flip(directory / "identity.q", 20)
    assert run("verify", directory).exit_code == 2
    (directory / "identity.q").unlink()
    assert "no node starts with it" in run("verify", directory).output
    empty = directory.parent / "empty"
    empty.mkdir()
    assert run("inspect", empty).exit_code == 2


def test_a_lost_log_is_unusable(directory: Path) -> None:
    """Votes and entries went with it."""
    for path in directory.glob("wal-*.q"):
        path.unlink()
    result = run("verify", directory)
    assert result.exit_code == 2
    assert "there is no write-ahead log" in result.output


def test_a_directory_in_use_is_refused(directory: Path) -> None:
    """A running node's files change while they are read."""
    disk = RealDisk(directory)
    result = run("verify", directory)
    assert isinstance(result.exception, UsageError)
    assert "a node is using" in str(result.exception)
    disk.close()
    assert run("verify", directory).exit_code == 0


def test_a_missing_directory_is_the_callers_mistake(tmp_path: Path) -> None:
    """Not damage."""
    result = run("verify", tmp_path / "nowhere")
    assert isinstance(result.exception, UsageError)


def test_hard_states_in_words() -> None:
    """For people; the tools know nothing of engines."""
    assert describe_hard_state(None) == "no vote yet"
    assert describe_hard_state((7).to_bytes(8) + bytes(4)) == "term 7, no vote in it"
    assert "no known engine" in describe_hard_state(b"?")
