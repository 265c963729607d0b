"""docs/acceptance.md says which test shows which claim, and says it truly."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from source import Source, python_sources

import acceptance

PLANTED = Source.parse(
    "tests/unit/test_planted.py",
    "def test_ra_" + "3_old_term():\n"
    "    'Shows " + "ZK" + "-12 too.'\n"
    "def test_rather_3(): 'No id here.'\n",
)


def test_the_page_is_what_the_tests_say() -> None:
    """The committed page equals the generated one; ``make acceptance`` writes it again."""
    assert acceptance.PAGE.read_text(encoding="utf-8") == acceptance.current_page()


def test_tests_name_only_points_on_the_list() -> None:
    """An id that stands in no list proves nothing; a typing error is found here."""
    points = acceptance.read_points(acceptance.POINTS.read_text(encoding="utf-8"))
    assert sorted(acceptance.shown_by(python_sources()).keys() - points.keys()) == []


def test_ids_are_found_in_names_and_docstrings_only() -> None:
    """The collector sees both forms, and a point nobody shows says so on the page."""
    found = acceptance.shown_by([PLANTED])
    assert found == {
        "RA-" + "3": ["tests/unit/test_planted.py::test_ra_" + "3_old_term"],
        "ZK-" + "12": ["tests/unit/test_planted.py::test_ra_" + "3_old_term"],
    }
    text = acceptance.page({"RA-3": "Claim.", "RA-" + "4": "Other."}, found)
    assert "test_ra_" + "3_old_term" in text
    assert "| Other. | not shown yet |" in text
