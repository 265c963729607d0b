"""What the tidy rules look at: one Python file, parsed, with its place in the house.

Rules are functions from a ``Source`` to a list of ``Finding``; they read no files themselves, so
each is tested with a few lines of planted text (``test_rules_can_fail.py``).
"""

from __future__ import annotations

import ast
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PURE_PACKAGES = ("consensus", "replication", "tree", "protocol", "checking")
"""Rooms in which everything that decides anything lives: no clock, I/O, randomness, threads."""


@dataclass(frozen=True)
class Finding:
    """One broken rule at one line."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True)
class Source:
    """A Python file; ``path`` is relative to the repository, with forward slashes."""

    path: str
    text: str
    tree: ast.Module

    @classmethod
    def parse(cls, path: str, text: str) -> Source:
        return cls(path, text, ast.parse(text))

    @property
    def package(self) -> str:
        """Room of the house (``consensus``, ``node`` ...); "" outside and at the top of src."""
        parts = self.path.split("/")
        return parts[2] if parts[:2] == ["src", "quorate"] and len(parts) > 3 else ""

    @property
    def is_pure(self) -> bool:
        return self.package in PURE_PACKAGES

    @property
    def is_src(self) -> bool:
        return self.path.startswith("src/")

    def find(self, node: ast.AST | int, message: str) -> Finding:
        line = node if isinstance(node, int) else getattr(node, "lineno", 1)
        return Finding(self.path, line, message)


def tracked_files() -> list[str]:
    """Every file that git tracks or would add: what a reader of the repository sees.

    In an unpacked archive, where there is no git to ask: every file outside hidden directories.
    """
    if (ROOT / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
        names = {name for name in out.decode().split("\0") if name}
    else:
        paths = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
        skipped = ("__pycache__", "quorate-data")
        names = {
            path.as_posix()
            for path in paths
            if not any(part.startswith(".") or part in skipped for part in path.parts[:-1])
        }
    return sorted(name for name in names if (ROOT / name).is_file())


def python_sources() -> list[Source]:
    """All Python files of the repository, parsed."""
    return [
        Source.parse(name, (ROOT / name).read_text(encoding="utf-8"))
        for name in tracked_files()
        if name.endswith(".py")
    ]
