"""docs/metrics.md and docs/monitoring.md say what nodes export and write."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from metrics_page import METRICS_PAGE, MONITORING_PAGE, metrics_page, monitoring_page

from quorate.node.events import EVENTS
from quorate.node.metric_catalogue import METRICS

WRITE = "run: python tests/docs/metrics_page.py"


def test_the_page_of_metrics_is_what_is_exported() -> None:
    """Every metric is on the page with its type, labels and meaning, and nothing else is."""
    page = METRICS_PAGE.read_text(encoding="utf-8")
    assert page == metrics_page(), WRITE
    assert re.findall(r"^\| `(\w+)` ", page, re.MULTILINE) == [metric.name for metric in METRICS]


def test_the_table_of_events_is_what_is_written() -> None:
    """Every event is in the table with its level and words."""
    page = MONITORING_PAGE.read_text(encoding="utf-8")
    assert page == monitoring_page(page), WRITE
    named = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert named == set(EVENTS)


def test_pages_name_only_metrics_and_events_that_exist() -> None:
    """What the prose tells people to look at is there."""
    names = {metric.name for metric in METRICS} | set(EVENTS)
    for page in (METRICS_PAGE, MONITORING_PAGE):
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`(?:max\()?((?:quorate|process)_\w+?)(?:\))?`", text):
            assert name in names or any(other.startswith(name) for other in names), name
