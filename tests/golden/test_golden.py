"""What earlier releases wrote is read by this one: data directories, and messages between nodes.

Every directory beside this file that has an ``expected.json`` was made by ``make.py`` of some
release. They are never made again; a format that changes gets a version, a reader for the old
one, and a new directory.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from lone_node import LoneNode
from make import make
from samples import check_decoded, encoded_samples

HERE = Path(__file__).parent


def numbers(release: str) -> list[int]:
    """``0.10`` comes after ``0.9``."""
    return [int(number) for number in re.findall(r"\d+", release)]


RELEASES = sorted((path.parent.name for path in HERE.glob("*/expected.json")), key=numbers)


def golden(release: str, name: str) -> Any:
    return json.loads((HERE / release / name).read_text(encoding="utf-8"))


def opened(release: str, directory: Path) -> LoneNode:
    """A copy of a golden directory, in the hands of today's code."""
    shutil.copytree(HERE / release / "data", directory)
    return LoneNode(directory)


def test_there_are_golden_files() -> None:
    """The tests below are not vacuous."""
    assert RELEASES


@pytest.mark.parametrize("release", RELEASES)
def test_a_directory_of_an_earlier_release_opens_with_the_same_state(
    release: str, tmp_path: Path
) -> None:
    """Snapshot, log and identity are read; digest, znodes, sessions and zxid are what they were."""
    expected = golden(release, "expected.json")
    node = opened(release, tmp_path / "data")
    assert node.recovered_snapshot is not None
    assert node.recovered_entries > 10
    node.run_until_applied()
    assert node.server.status()["applied_index"] > expected["applied_index"]  # and our own first
    assert node.picture() == expected["znodes"]
    assert sorted(node.server.service.tree.sessions) == expected["sessions"]
    assert node.server.status()["zxid"] == expected["zxid"]
    assert f"{node.digest():016x}" == expected["digest"]
    node.close()


@pytest.mark.parametrize("release", RELEASES)
def test_a_node_goes_on_in_a_directory_of_an_earlier_release(release: str, tmp_path: Path) -> None:
    """It takes writes and a snapshot there, and opens it again."""
    from quorate.protocol.zookeeper_client import create

    node = opened(release, tmp_path / "data")
    node.run_until_applied()
    session = node.open_session(10_000)
    node.ask(session, [create(b"/written by a later release", b"new")])
    digest = node.digest()
    node.close()
    again = LoneNode(tmp_path / "data", snapshot_bytes=1)
    again.run_until_applied()
    assert again.digest() == digest
    assert again.server.service.tree.znodes[b"/written by a later release"].data == b"new"
    again.close()
    third = LoneNode(tmp_path / "data")
    third.run_until_applied()
    assert third.digest() == digest
    third.close()


@pytest.mark.parametrize("release", RELEASES)
def test_messages_of_an_earlier_release_mean_the_same(release: str) -> None:
    """Every message that an earlier release sends decodes to the values it was made from."""
    for name, text in golden(release, "messages.json").items():
        check_decoded(name, bytes.fromhex(text))


def test_this_release_writes_what_the_newest_golden_files_say(tmp_path: Path) -> None:
    """A changed format must not go unnoticed: it needs a version and new golden files."""
    make(tmp_path)
    newest = RELEASES[-1]
    for name in ("expected.json", "messages.json"):
        assert json.loads((tmp_path / name).read_text()) == golden(newest, name)
    made = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    kept = {path.name: path.read_bytes() for path in (HERE / newest / "data").iterdir()}
    assert sorted(made) == sorted(kept)
    assert made == kept


def test_every_message_of_the_engine_has_a_sample() -> None:
    """A new kind of message joins the golden ones."""
    from typing import get_args

    import samples

    from quorate.consensus.raft.messages import RaftMessage

    assert {type(sample) for sample in samples.RAFT.values()} == set(get_args(RaftMessage))
    assert set(golden(RELEASES[-1], "messages.json")) == set(encoded_samples())
