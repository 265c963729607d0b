"""The programs in examples/ run against a local cluster and tell the story they promise."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from local_cluster import ROOT, environment, local_cluster, on_ports

EXAMPLES = ROOT / "examples"
STORIES = {
    "lock.py": [
        "ann wrote with a fence of its own",
        "bob wrote with a fence of its own",
        "cay wrote with a fence of its own",
        "an outdated holder was refused",
    ],
    "leader_election.py": ["ann leads", "ann leaves", "bob leads", "bob leaves"],
    "watch_settings.py": [
        "a process sees workers=4",
        "a process sees workers=8",
        "a change from an old copy was refused",
    ],
}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with local_cluster(tmp_path_factory.mktemp("examples")) as port:
        yield on_ports("127.0.0.1:2181,127.0.0.1:2182,127.0.0.1:2183", port)


@pytest.mark.process
@pytest.mark.parametrize("name", sorted(STORIES))
def test_zk_8_example_tells_its_story(name: str, hosts: str) -> None:
    """A recipe made of client code alone does what its docstring says."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), hosts],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == STORIES[name]


def test_every_example_has_a_story() -> None:
    """No program lies in examples/ that nobody runs."""
    assert sorted(STORIES) == sorted(path.name for path in EXAMPLES.glob("*.py"))
