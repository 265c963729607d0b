"""Every story under tests/traces gives what its file says.

``pytest tests/traces --rewrite-traces`` writes what happens now into the files. Commit a changed
transcript only if you can say why it changed.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from raft_story import compare

STORIES = sorted((Path(__file__).parent / "raft").glob("*.txt"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path, request: pytest.FixtureRequest) -> None:
    """A story's transcript is what the engines do."""
    compare(path, rewrite=request.config.getoption("--rewrite-traces"))


def test_there_are_stories() -> None:
    """A glob that finds nothing must not pass silently."""
    assert len(STORIES) >= 15
