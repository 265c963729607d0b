"""The tables of docs/simulation.md, from the code: ``python tests/docs/simulation_page.py``."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from click.testing import CliRunner

PAGE = Path(__file__).resolve().parents[2] / "docs" / "simulation.md"
_PLACE = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _ask(name: str):
    from quorate.cli.main import cli

    return json.loads(CliRunner().invoke(cli, ["simulate", name, "--json"]).output)


def _table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [headings, tuple("---" for _ in headings), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |\n" for row in lines
    )


def tables() -> dict[str, str]:
    """Each table by its name on the page."""
    faults, properties = _ask("faults"), _ask("properties")
    kinds = [(f"`{name}`", words) for name, words in faults["kinds"].items()]
    plots = [(f"`{name}`", words) for name, words in faults["plots"].items()]
    actions = [(f"<code>{a['usage']}</code>", a["claim"]) for a in faults["actions"].values()]
    known = [(p["kind"], p["name"], p["claim"], p["source"]) for p in properties]
    return {
        "kinds": _table(("`--faults`", "what it does"), kinds),
        "plots": _table(("plot", "what it tells"), plots),
        "actions": _table(("action", "what it does"), actions),
        "properties": _table(("kind", "property", "what must hold", "source"), known),
    }


def renewed(text: str) -> str:
    """The page with its tables as they should be."""
    made = tables()
    return _PLACE.sub(lambda found: found[1] + made[found[2]] + found[3], text)


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
