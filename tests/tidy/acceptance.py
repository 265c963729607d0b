"""docs/acceptance.md: which claim is shown by which test, made from the tests themselves.

A test shows a point when its id stands in the test's name (``ra_3``) or docstring (``RA-3``), or in
the docstring of the test's module. ``python tests/tidy/acceptance.py --write`` writes the page; a
tidy test fails when the page and the tests disagree, or a test names an id that is not on the list.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from source import ROOT, Source, python_sources

POINTS = Path(__file__).with_name("acceptance_points.txt")
PAGE = ROOT / "docs" / "acceptance.md"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
IN_NAME = re.compile(r"(?<![a-z])(ra|rf|px|zb|zk|pl|ch|th)_([1-9]\d?)(?!\d)")
IN_TEXT = re.compile(r"\b(RA|RF|PX|ZB|ZK|PL|CH|TH)-([1-9]\d?)\b")

HEAD = """\
# Acceptance: which claim is shown by which test

Made by `make acceptance` from the ids in test names (`ra_3`) and docstrings (`RA-3`); do not edit.
`pytest -k ra_3` runs the tests that carry an id in their name. A point without a test is not
shown yet, and is not claimed anywhere else either.

RA, RF: Raft. ZB: the broadcast contract of every engine. ZK: the coordination service. PL:
operating it. TH: theory made testable.

| id | claim | shown by |
|---|---|---|
"""


def read_points(text: str) -> dict[str, str]:
    """Claims by id, in the order of the list."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return dict(line.split(" ", 1) for line in lines)


def ids_in(name: str, docstring: str) -> set[str]:
    """Ids that a test's name or docstring carries."""
    found = {f"{prefix.upper()}-{number}" for prefix, number in IN_NAME.findall(name)}
    return found | {f"{prefix}-{number}" for prefix, number in IN_TEXT.findall(docstring)}


def shown_by(sources: list[Source]) -> dict[str, list[str]]:
    """Tests (``file::name``, or ``file`` when the whole module shows it) by id."""
    found: dict[str, list[str]] = {}
    for source in sources:
        if not source.path.startswith("tests/") or "/test_" not in source.path:
            continue
        by_module = ids_in("", ast.get_docstring(source.tree) or "")
        for point in by_module:
            found.setdefault(point, []).append(source.path)
        for node in ast.walk(source.tree):
            if isinstance(node, FUNCTIONS) and node.name.startswith("test_"):
                for point in ids_in(node.name, ast.get_docstring(node) or "") - by_module:
                    found.setdefault(point, []).append(f"{source.path}::{node.name}")
    return {point: sorted(tests) for point, tests in found.items()}


def page(points: dict[str, str], tests: dict[str, list[str]]) -> str:
    """The text of docs/acceptance.md."""
    rows = []
    for point, claim in points.items():
        names = "<br>".join(f"`{test}`" for test in tests.get(point, [])) or "not shown yet"
        rows.append(f"| {point} | {claim} | {names} |\n")
    return HEAD + "".join(rows)


def current_page() -> str:
    """What docs/acceptance.md should say now."""
    points = read_points(POINTS.read_text(encoding="utf-8"))
    return page(points, shown_by(python_sources()))


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        raise SystemExit("usage: acceptance.py --write")
    PAGE.write_text(current_page(), encoding="utf-8")
