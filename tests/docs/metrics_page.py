"""docs/metrics.md and the table of events in docs/monitoring.md, written from the code.

    python tests/docs/metrics_page.py

``test_monitoring_page.py`` compares; people who add a metric or an event run this.
"""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from quorate.node.events import EVENTS
from quorate.node.metric_catalogue import SECTIONS

DOCS = Path(__file__).resolve().parents[2] / "docs"
METRICS_PAGE = DOCS / "metrics.md"
MONITORING_PAGE = DOCS / "monitoring.md"
_PLACE = re.compile(r"(<!-- events -->\n).*?(<!-- end -->)", re.DOTALL)

HEAD = """# Metrics

What `GET /metrics` on the admin address exports, in Prometheus' text format. This page is written
from the code by `python tests/docs/metrics_page.py`, and a test compares the two.

Times are in seconds, sizes in bytes, counters start at 0 with the process. Only an established
leader exports what only a leader knows (`quorate_failures_tolerated`, `quorate_member_*`). Nothing
is counted per request for this: numbers are read when somebody asks, so scraping less often costs
less. How to use them: [monitoring.md](monitoring.md).
"""


def metrics_page() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, metrics in SECTIONS.items():
        parts.append(f"\n## {title}\n\n| name | type | labels | meaning |\n|---|---|---|---|\n")
        parts += [
            f"| `{metric.name}` | {metric.kind} | {', '.join(metric.labels) or '-'} "
            f"| {metric.help} |\n"
            for metric in metrics
        ]
    return "".join(parts)


def events_table() -> str:
    """The table of events, without its marks."""
    lines = ["| event | level | line | meaning |\n", "|---|---|---|---|\n"]
    for event in EVENTS.values():
        level = logging.getLevelName(event.level).lower()
        lines.append(f"| `{event.name}` | {level} | {event.words} | {event.meaning} |\n")
    return "".join(lines)


def monitoring_page(text: str) -> str:
    """This page with the table as it must be."""
    assert _PLACE.search(text), "docs/monitoring.md has no place for the table of events"
    return _PLACE.sub(lambda place: place[1] + events_table() + place[2], text)


if __name__ == "__main__":
    METRICS_PAGE.write_text(metrics_page(), encoding="utf-8")
    text = MONITORING_PAGE.read_text(encoding="utf-8")
    MONITORING_PAGE.write_text(monitoring_page(text), encoding="utf-8")
