"""Each tidy rule, against planted violations and against innocent look-alikes.

A rule that cannot fail protects nothing; one that cries wolf gets switched off.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import determinism
import style
from source import Finding, Source

PURE = "src/quorate/replication/planted.py"
CORE = "src/quorate/consensus/planted.py"
NODE = "src/quorate/node/planted.py"
TEST = "tests/unit/test_planted.py"
UNDONE = "TO" + "DO"
SLEEP = "sle" + "ep"

Rule = Callable[[Source], list[Finding]]

VIOLATIONS: list[tuple[Rule, str, str]] = [
    (determinism.banned_imports, PURE, "import time"),
    (determinism.banned_imports, PURE, "from os.path import join"),
    (determinism.banned_imports, PURE, "def f():\n    import random"),
    (determinism.banned_imports, PURE, "import asyncio.events as e"),
    (determinism.banned_imports, NODE, "import pickle"),
    (determinism.identity_and_hash, PURE, "x = hash('a')"),
    (determinism.identity_and_hash, PURE, "x = {id(n): n for n in y}"),
    (determinism.identity_and_hash, PURE, "class A:\n    def __del__(self): ..."),
    (determinism.floats_in_consensus, CORE, "def f(n): return n > 0.5"),
    (determinism.floats_in_consensus, CORE, "def f(n): return n / 2"),
    (determinism.floats_in_consensus, CORE, "def f(n): return float(n)"),
    (determinism.swallowed_errors, NODE, "try:\n    f()\nexcept:\n    log()"),
    (determinism.swallowed_errors, NODE, "try:\n    f()\nexcept Exception:\n    pass"),
    (determinism.swallowed_errors, NODE, "try:\n    f()\nexcept (OSError, Exception):\n    ..."),
    (determinism.module_state, PURE, "cache = {}"),
    (determinism.module_state, PURE, "seen: set[int] = set()"),
    (determinism.module_state, PURE, "from collections import deque\nqueue = deque()"),
    (determinism.module_state, PURE, "NAMES = []\ndef f(): NAMES.append(1)"),
    (determinism.module_state, PURE, "TABLE = {}\ndef f(): TABLE[1] = 2"),
    (determinism.module_state, PURE, "N = 0\ndef f():\n    global N\n    N += 1"),
    (determinism.set_iteration, PURE, "def f(a):\n    for x in {1, 2}: a(x)"),
    (determinism.set_iteration, PURE, "def f(a):\n    return [x for x in set(a)]"),
    (determinism.set_iteration, PURE, "def f(a: set[int]):\n    return list(a)"),
    (determinism.set_iteration, PURE, "def f(a: frozenset[int]):\n    for x in a: g(x)"),
    (determinism.set_iteration, PURE, "def f(a):\n    b = set(a)\n    return b.pop()"),
    (determinism.set_iteration, PURE, "def f(a, b):\n    return tuple(set(a) - b)"),
    (determinism.set_iteration, PURE, "def f(a, b):\n    for x in a.union(b): g(x)"),
    (determinism.set_iteration, PURE, "def f(a: set[str]):\n    return ','.join(a)"),
    (determinism.set_iteration, PURE, "def f(a: set[int]):\n    return [*a]"),
    (determinism.set_iteration, PURE, "def f(a: set[int]):\n    return {x: 1 for x in a}"),
    (
        determinism.set_iteration,
        PURE,
        "class A:\n  def __init__(s): s.w = set()\n  def f(s):\n    for x in s.w: g(x)",
    ),
    (determinism.set_iteration, PURE, "class A:\n  w: set[int]\ndef f(a):\n  return list(a.w)"),
    (style.sizes, NODE, "x = 1\n" * 601),
    (style.sizes, NODE, "def f():\n" + "    x = 1\n" * 80),
    (style.module_heads, PURE, '"""One line."""\nx = 1'),
    (style.module_heads, PURE, "x = 1"),
    (style.unfinished, NODE, f"x = 1  # {UNDONE}: finish"),
    (style.unfinished, NODE, "def f():\n    raise NotImplemented" + "Error"),
    (style.glossary, CORE, "def f(config): ..."),
    (style.glossary, CORE, "class ServerList: ..."),
    (style.glossary, PURE, "def f(self):\n    self.voted_for = 1"),
    (style.glossary, "src/quorate/storage/planted.py", "term = 1"),
    (style.glossary, "src/quorate/consensus/engine.py", "class AppendEntries: ..."),
    (style.test_sleeps, TEST, f"import time\ntime.{SLEEP}(1)"),
    (style.test_sleeps, TEST, f"import asyncio\nasync def f(): await asyncio.{SLEEP}(0.1)"),
    (style.test_sleeps, TEST, f"from time import {SLEEP}"),
    (style.test_claims, TEST, "def test_something(): ..."),
    (style.acceptance_ids, TEST, "x = 'proves " + "RA" + "_3'"),
    (style.acceptance_ids, TEST, "# see " + "ZK" + "12"),
]

INNOCENT: list[tuple[Rule, str, str]] = [
    (determinism.banned_imports, NODE, "import asyncio, time"),
    (determinism.banned_imports, PURE, "import struct\nfrom quorate.errors import UsageError"),
    (determinism.identity_and_hash, PURE, "class A:\n    id = 3\n    def f(self): return self.id"),
    (determinism.floats_in_consensus, CORE, "def f(n): return n // 2"),
    (determinism.floats_in_consensus, PURE, "x = 0.5"),
    (determinism.swallowed_errors, NODE, "try:\n    f()\nexcept KeyError:\n    pass"),
    (determinism.swallowed_errors, NODE, "try:\n    f()\nexcept Exception as e:\n    stop(e)"),
    (determinism.module_state, PURE, "NAMES = {1: 'a'}\n__all__ = ['NAMES']\nLIMIT: int = 3"),
    (determinism.module_state, PURE, "def f():\n    seen = {}\n    seen[1] = 2"),
    (determinism.set_iteration, PURE, "def f(a: set[int]):\n    for x in sorted(a): g(x)"),
    (determinism.set_iteration, PURE, "def f(a: set[int]):\n    return 3 in a, len(a), any(a)"),
    (determinism.set_iteration, PURE, "def f(a: set[int]):\n    return sum(x for x in a)"),
    (determinism.set_iteration, PURE, "def f(a: set[int]):\n    return {x + 1 for x in a}"),
    (determinism.set_iteration, PURE, "def f(a: dict[int, int]):\n    for x in a: g(x)"),
    (determinism.set_iteration, PURE, "def f(a: set[int]): ...\ndef g(a: list[int]): list(a)"),
    (determinism.set_iteration, NODE, "def f(a: set[int]):\n    return list(a)"),
    (style.module_heads, PURE, '"""One.\n\nTwo, which says more.\nThree.\n"""\nx = 1'),
    (style.module_heads, "src/quorate/tree/__init__.py", ""),
    (style.glossary, CORE, "configuration = 1\nsettings = 2\nvoters = 3\nterminate = 4"),
    (style.glossary, "src/quorate/consensus/raft/log.py", "term = 1\nvoted_for = 2"),
    (style.glossary, "src/quorate/consensus/quorum.py", "def vote_result(votes): ..."),
    (style.glossary, NODE, "config = 1\nserver = 2"),
    (style.test_sleeps, TEST, f"import asyncio\nasync def f(): await asyncio.{SLEEP}(0)"),
    (style.test_sleeps, "tests/process/test_x.py", f"import time\ntime.{SLEEP}(1)"),
    (style.test_claims, TEST, 'def test_it():\n    """It holds."""'),
    (style.acceptance_ids, TEST, "def test_ra_3_holds(): 'RA-3, ZK-12 and TH-10'"),
]


def name(case: object) -> str:
    return getattr(case, "__name__", "")


@pytest.mark.parametrize(("rule", "path", "text"), VIOLATIONS, ids=name)
def test_a_planted_violation_is_found(rule: Rule, path: str, text: str) -> None:
    """The rule reports the planted line."""
    assert rule(Source.parse(path, text)), text


@pytest.mark.parametrize(("rule", "path", "text"), INNOCENT, ids=name)
def test_an_innocent_look_alike_is_left_alone(rule: Rule, path: str, text: str) -> None:
    """The rule stays silent where nothing is wrong."""
    assert not rule(Source.parse(path, text)), text


def test_every_rule_has_a_planted_violation() -> None:
    """A new rule comes with the proof that it can fail."""
    from test_repository_is_tidy import RULES

    assert {rule.__name__ for rule in RULES} == {rule.__name__ for rule, _, _ in VIOLATIONS}


def test_a_private_path_is_found_and_a_public_one_is_not() -> None:
    """Home directories are found; system paths, URLs and relative paths are left alone."""
    assert style.personal_paths("a.md", "cd /ho" + "me/ann/src")
    assert style.personal_paths("a.md", "see (/Us" + "ers/bob/notes.md)")
    assert not style.personal_paths("a.md", "/usr/bin/java, https://x.org/home/page, ./a/b")


def test_wrong_file_modes_are_found() -> None:
    """Both directions of the executable bit can fail, and agreement passes."""
    assert style.executable_bit("a", b"#!", executable=False)
    assert style.executable_bit("a", b"im", executable=True)
    assert not style.executable_bit("a", b"#!", executable=True)
    assert not style.executable_bit("a", b"im", executable=False)
