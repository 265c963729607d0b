"""The import contracts of pyproject.toml hold, and each of them can break."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from source import ROOT

LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
PLANTED = {
    "consensus": "import quorate.storage",
    "node": "import quorate.consensus.raft",
    "protocol": "import quorate.consensus.entry",
    "replication": "import click\nimport quorate.consensus.raft",
    "storage": "import quorate.consensus.membership",
    "tree": "import quorate.node\nimport quorate.storage",
}


def lint(directory: Path) -> tuple[int, str]:
    """Exit code and output of lint-imports over the copy of the house in ``directory``."""
    done = subprocess.run(
        [str(LINT_IMPORTS), "--no-cache"],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(directory / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the sources and the contracts."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.skipif(
    not LINT_IMPORTS.exists(), reason="import-linter is not installed beside python"
)
def test_contracts_hold_and_each_can_break(house: Path) -> None:
    """As it stands no contract is broken; with one wrong import per room all of them are."""
    code, output = lint(house)
    assert code == 0, output
    for room, text in PLANTED.items():
        (house / "src" / "quorate" / room / "planted.py").write_text(text + "\n")
    code, output = lint(house)
    assert code != 0
    assert re.search(r"Contracts: 0 kept, [1-9]\d* broken", output), output
