"""deploy/: alert rules and dashboard ask for metrics that exist; promtool agrees, where it is."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from quorate.node.metric_catalogue import METRICS

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "quorate.json"

EXPORTED = {
    metric.name + suffix: set(metric.labels) | ({"le"} if suffix == "_bucket" else set())
    for metric in METRICS
    for suffix in (("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",))
}
OF_PROMETHEUS = {"cluster", "instance", "job", "up", "ALERTS"}
SELECTOR = re.compile(r"\b((?:quorate|process)_\w+)(?:\{([^}]*)\})?")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression that people would see fail, and where it is."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def unknown(expression: str) -> list[str]:
    """Metrics that are not exported, and labels that they do not have."""
    found = []
    for name, matchers in SELECTOR.findall(expression):
        if name not in EXPORTED:
            found.append(name)
            continue
        labels = set(re.findall(r"(\w+)\s*[=!]~?", matchers or ""))
        found += [f"{name}{{{label}}}" for label in labels - EXPORTED[name] - OF_PROMETHEUS]
    return found


def test_every_expression_asks_for_metrics_that_are_exported() -> None:
    """No alert and no panel is silent because of a name that is misspelt or gone."""
    asked = list(expressions())
    assert len(asked) > 40
    for where, expression in asked:
        assert SELECTOR.search(expression) or "up{" in expression, (where, expression)
        assert unknown(expression) == [], (where, expression)


def test_a_misspelt_metric_or_label_would_be_found() -> None:
    """The check can fail."""
    assert unknown("rate(quorate_request_total[5m])") == ["quorate_request_total"]
    assert unknown('quorate_member_active{node="1"}') == ["quorate_member_active{node}"]
    assert unknown('sum by (le) (quorate_gc_pause_seconds_bucket{le="1.0",job="x"})') == []


def test_legends_and_words_use_labels_that_are_there() -> None:
    """A legend shows a label that the metric has and the aggregation keeps."""
    for panel in panels():
        for target in panel.get("targets", ()):
            for label in re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")):
                grouped = re.search(r"by \(([^)]*)\)", target["expr"])
                kept = set(re.split(r",\s*", grouped[1])) if grouped else {"instance", "cluster"}
                assert label in kept, (panel["title"], label)


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    """Severity, summary and action; names are unique."""
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]
    played = (DEPLOY / "prometheus" / "alerts_test.yml").read_text(encoding="utf-8")
    assert [name for name in names if name not in played] == []


def test_the_dashboard_is_what_its_script_prints() -> None:
    """quorate.json was not edited by hand; panels do not overlap."""
    made = runpy.run_path(str(DEPLOY / "grafana" / "dashboard.py"))["dashboard"]()
    assert json.loads(DASHBOARD.read_text(encoding="utf-8")) == made
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        grid = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells), panel["title"]
        taken |= cells


needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed"
)


def promtool(*arguments: str) -> None:
    done = subprocess.run(
        ["promtool", *arguments],
        cwd=RULES.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_understands_rules_and_panels(tmp_path: Path) -> None:
    """promtool parses every alert and, as recording rules, every panel's expression."""
    promtool("check", "rules", RULES.name)
    plain = {"$__rate_interval": "1m", "$cluster": ".*", "$instance": ".*"}
    recorded = []
    for number, (_, expression) in enumerate(expressions()):
        for variable, value in plain.items():
            expression = expression.replace(variable, value)
        recorded.append({"record": f"panel:{number}", "expr": expression})
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    promtool("check", "rules", str(file))


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then() -> None:
    """The stories of alerts_test.yml, played by promtool."""
    promtool("test", "rules", "alerts_test.yml")
