"""Every rule of the house, run over the repository as it stands.

What each rule wants and why stands in ``determinism.py`` and ``style.py``; that each can fail, in
``test_rules_can_fail.py``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import determinism
import style
from source import ROOT, Finding, Source, python_sources, tracked_files

RULES: list[Callable[[Source], list[Finding]]] = [
    determinism.banned_imports,
    determinism.identity_and_hash,
    determinism.floats_in_consensus,
    determinism.swallowed_errors,
    determinism.module_state,
    determinism.set_iteration,
    style.sizes,
    style.module_heads,
    style.unfinished,
    style.glossary,
    style.test_sleeps,
    style.test_claims,
    style.acceptance_ids,
]


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    return python_sources()


def listed(findings: list[Finding]) -> str:
    return "\n" + "\n".join(str(finding) for finding in findings)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_holds_everywhere(
    rule: Callable[[Source], list[Finding]], sources: list[Source]
) -> None:
    """No Python file of the repository breaks this rule (TH-10 for the determinism rules)."""
    found = [finding for source in sources for finding in rule(source)]
    assert not found, listed(found)


def test_the_rules_look_at_every_pure_package(sources: list[Source]) -> None:
    """The rules are not vacuous: they see code in the packages that they are about."""
    seen = {source.package for source in sources if source.is_pure and source.tree.body}
    assert {"consensus", "replication"} <= seen
    assert len(sources) > 10


def test_no_file_names_a_directory_of_somebodys_machine() -> None:
    """Code, docs and settings work from any checkout, so they name no private path."""
    found: list[Finding] = []
    for name in tracked_files():
        data = (ROOT / name).read_bytes()
        if b"\0" not in data:
            found += style.personal_paths(name, data.decode("utf-8", "replace"))
    assert not found, listed(found)


def test_scripts_are_executable_and_nothing_else_is() -> None:
    """``#!`` and the executable bit agree for every file."""
    found: list[Finding] = []
    for name in tracked_files():
        with (ROOT / name).open("rb") as file:
            executable = os.access(ROOT / name, os.X_OK)
            found += style.executable_bit(name, file.read(2), executable=executable)
    assert not found, listed(found)


def test_every_room_is_described() -> None:
    """ARCHITECTURE.md has a row for every package under src/quorate."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    missing = [room for room in style.rooms() if f"| `{room}/`" not in text]
    assert missing == []
