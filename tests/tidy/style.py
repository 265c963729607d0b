"""Rules about how the code reads: sizes, docstrings, words, honest tests, file modes."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

from source import PURE_PACKAGES, ROOT, Finding, Source

MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 80
HEAD_LINES_MIN = 3
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError|NotImplemented)\b")
PERSONAL = re.compile(
    r"(?<![\w.])/(home|Users|root|work|workspace|builds)/[\w.]|\.\./(?:\.\w|shared)"
)

ROOMS_WITH_GLOSSARY = ("consensus", "replication", "storage")
AVOIDED_WORDS = {
    "config": "configuration (membership) or settings (options)",
    "cfg": "configuration or settings",
    "server": "node",
    "servers": "nodes or members",
    "master": "leader",
    "slave": "follower",
    "journal": "wal or log",
    "lsn": "index",
    "cmd": "command",
    "ts": "time_ms",
}
RAFT_WORDS = frozenset(["term", "terms", "voted", "appendentries", "requestvote"])
ENGINE_NEUTRAL = re.compile(
    r"src/quorate/(consensus/(engine|entry|registry)\.py|(replication|storage|simulation(?!/mutants/))/)"
)

SLEEP_ALLOWED = ("tests/process/", "tests/conformance/")
ACCEPTANCE_PREFIXES = "RA|PX|PL|ZB|ZK|CH|OR|TH"
MISSPELT_ID = re.compile(rf"\b(?:{ACCEPTANCE_PREFIXES})(?:_| |\.)?0*[1-9][0-9]?\b(?!-)")


def sizes(source: Source) -> list[Finding]:
    """A module fits in one sitting and a function on one screen."""
    if not source.is_src:
        return []
    found = []
    lines = source.text.count("\n")
    if lines > MODULE_LINES_MAX:
        found.append(source.find(1, f"{lines} lines; at most {MODULE_LINES_MAX}"))
    for node in ast.walk(source.tree):
        if isinstance(node, FUNCTIONS):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                message = f"{node.name} has {length} lines; at most {FUNCTION_LINES_MAX}"
                found.append(source.find(node, message))
    return found


def module_heads(source: Source) -> list[Finding]:
    """A pure module opens by saying what it is, what it refuses to know and what always holds."""
    if not source.is_pure or (source.path.endswith("__init__.py") and not source.tree.body):
        return []
    head = ast.get_docstring(source.tree) or ""
    lines = len([line for line in head.splitlines() if line.strip()])
    if lines < HEAD_LINES_MIN:
        return [source.find(1, f"module docstring of {lines} lines; at least {HEAD_LINES_MIN}")]
    return []


def unfinished(source: Source) -> list[Finding]:
    """What is merged is finished; what is missing is listed in README.md."""
    return [
        source.find(number, f"unfinished: {match.group()}")
        for number, line in enumerate(source.text.splitlines(), 1)
        if source.is_src and (match := UNFINISHED.search(line))
    ]


def glossary(source: Source) -> list[Finding]:
    """Identifiers in the rooms that decide and store use the words of ARCHITECTURE.md."""
    found = []
    for node, name in _defined_names(source.tree):
        words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
        pairs = [first + second for first, second in itertools.pairwise(words)]
        for part in words + pairs:
            if source.package in ROOMS_WITH_GLOSSARY and part in AVOIDED_WORDS:
                found.append(source.find(node, f"{name}: say {AVOIDED_WORDS[part]}"))
            elif ENGINE_NEUTRAL.match(source.path) and part in RAFT_WORDS:
                found.append(source.find(node, f"{name}: {part} is Raft's; say epoch"))
    return found


def _defined_names(tree: ast.Module) -> list[tuple[ast.AST, str]]:
    found: list[tuple[ast.AST, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            found.append((node, node.name))
        elif isinstance(node, ast.arg):
            found.append((node, node.arg))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.append((node, node.id))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.append((node, node.attr))
    return found


def test_sleeps(source: Source) -> list[Finding]:
    """Tests wait for what they mean, in virtual time; only real processes may take real time."""
    if not source.path.startswith("tests/") or source.path.startswith(SLEEP_ALLOWED):
        return []
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("time", "asyncio"):
            if any(alias.name == "sleep" for alias in node.names):
                found.append(source.find(node, "imports sleep"))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            where = getattr(node.func.value, "id", "")
            zero = [getattr(argument, "value", None) for argument in node.args] == [0]
            yields = where == "asyncio" and zero
            if node.func.attr == "sleep" and where in ("time", "asyncio") and not yields:
                found.append(source.find(node, f"{where}.sleep in a test"))
    return found


def test_claims(source: Source) -> list[Finding]:
    """Every test says in one sentence what it claims."""
    if not source.path.startswith("tests/"):
        return []
    return [
        source.find(node, f"{node.name} has no docstring: what does it claim?")
        for node in ast.walk(source.tree)
        if isinstance(node, FUNCTIONS) and node.name.startswith("test_")
        if len(node.args.args) == 0 or node.args.args[0].arg != "source"
        if not ast.get_docstring(node)
    ]


def acceptance_ids(source: Source) -> list[Finding]:
    """Acceptance points are written ``RA-3`` in text and ``ra_3`` in names, so -k finds them."""
    if not source.path.startswith("tests/"):
        return []
    return [
        source.find(number, f"write {match.group()!r} as in RA-3")
        for number, line in enumerate(source.text.splitlines(), 1)
        if (match := MISSPELT_ID.search(line))
    ]


def personal_paths(path: str, text: str) -> list[Finding]:
    """Nothing depends on, or mentions, a directory of the machine it was written on."""
    return [
        Finding(path, number, f"path of somebody's machine: {match.group()}...")
        for number, line in enumerate(text.splitlines(), 1)
        if (match := PERSONAL.search(line))
    ]


def executable_bit(path: str, first_bytes: bytes, *, executable: bool) -> list[Finding]:
    """A script with ``#!`` can be run, and what can be run is a script with ``#!``."""
    has_shebang = first_bytes.startswith(b"#!")
    if has_shebang and not executable:
        return [Finding(path, 1, "starts with #! but is not executable")]
    if executable and not has_shebang:
        return [Finding(path, 1, "is executable but does not start with #!")]
    return []


def rooms() -> list[str]:
    """The packages that exist, to notice a room that nobody described."""
    base = Path(ROOT, "src", "quorate")
    return sorted(p.name for p in base.iterdir() if (p / "__init__.py").exists())


assert set(ROOMS_WITH_GLOSSARY) <= {*PURE_PACKAGES, "storage"}
