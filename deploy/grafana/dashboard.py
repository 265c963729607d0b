#!/usr/bin/env python3
"""The Grafana dashboard, as data; prints quorate.json.

    python deploy/grafana/dashboard.py > deploy/grafana/quorate.json

A panel is a line here; JSON of five hundred lines is not edited by hand. A test compares the file
with what this prints, and every metric's name with what nodes export.
"""

from __future__ import annotations

import json
from typing import Any

NODE = 'cluster=~"$cluster",instance=~"$instance"'
CLUSTER = 'cluster=~"$cluster"'
Panel = dict[str, Any]


def stat(title: str, expression: str, thresholds: list[tuple[str, float | None]]) -> Panel:
    """One large number; colours begin at their thresholds."""
    steps = [{"color": colour, "value": value} for colour, value in thresholds]
    return {
        "type": "stat",
        "title": title,
        "targets": [{"expr": expression, "instant": True, "refId": "A"}],
        "fieldConfig": {
            "defaults": {
                "thresholds": {"mode": "absolute", "steps": steps},
                "noValue": "none",
                "decimals": 0,
            }
        },
        "options": {"colorMode": "background", "graphMode": "none"},
        "width": 4,
        "height": 4,
    }


def graph(title: str, unit: str, *lines: tuple[str, str], words: str = "") -> Panel:
    """Lines over time: (legend, expression)."""
    return {
        "type": "timeseries",
        "title": title,
        "description": words,
        "targets": [
            {"expr": expression, "legendFormat": legend, "refId": chr(ord("A") + number)}
            for number, (legend, expression) in enumerate(lines)
        ],
        "fieldConfig": {
            "defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 5, "lineWidth": 1}}
        },
        "options": {"legend": {"displayMode": "list"}, "tooltip": {"mode": "multi"}},
        "width": 8,
        "height": 7,
    }


def rate(metric: str, by: str = "instance", where: str = NODE) -> str:
    """Per second, summed by a label."""
    return f"sum by ({by}) (rate({metric}{{{where}}}[$__rate_interval]))"


def quantile(share: float, metric: str) -> str:
    """A quantile of a histogram, per node."""
    return (
        f"histogram_quantile({share}, sum by (le, instance) "
        f"(rate({metric}_bucket{{{NODE}}}[$__rate_interval])))"
    )


def latency(title: str, metric: str, words: str = "") -> Panel:
    """Median and 99th percentile of a histogram."""
    return graph(
        title,
        "s",
        ("{{instance}} p50", quantile(0.5, metric)),
        ("{{instance}} p99", quantile(0.99, metric)),
        words=words,
    )


def gauge(title: str, unit: str, metric: str, words: str = "") -> Panel:
    """One gauge, per node."""
    return graph(title, unit, ("{{instance}}", f"{metric}{{{NODE}}}"), words=words)


SECTIONS: list[tuple[str, list[Panel]]] = [
    (
        "Is it well?",
        [
            stat(
                "Nodes that serve",
                f"sum(quorate_serving{{{CLUSTER}}})",
                [("red", None), ("green", 1)],
            ),
            stat(
                "More failures tolerated",
                f"max(quorate_failures_tolerated{{{CLUSTER}}})",
                [("red", None), ("green", 1)],
            ),
            stat("Leader", f"max(quorate_leader_id{{{CLUSTER}}})", [("red", None), ("blue", 1)]),
            stat(
                "Leader changes, 1 h",
                f"max(increase(quorate_leader_changes_total{{{CLUSTER}}}[1h]))",
                [("green", None), ("orange", 2), ("red", 5)],
            ),
            stat(
                "Members that lag",
                f"count(quorate_member_lag_entries{{{CLUSTER}}} > 1000) or vector(0)",
                [("green", None), ("red", 1)],
            ),
            stat(
                "Disk stalls, 1 h",
                f"sum(increase(quorate_disk_stalls_total{{{CLUSTER}}}[1h]))",
                [("green", None), ("orange", 1), ("red", 10)],
            ),
        ],
    ),
    (
        "Traffic",
        [
            graph("Requests answered", "reqps", ("{{instance}}", rate("quorate_requests_total"))),
            latency(
                "Time of a batch, taken to applied",
                "quorate_commit_duration_seconds",
                "What a write waits for: disk, network, and its turn.",
            ),
            latency(
                "Write and sync of the log",
                "quorate_disk_write_duration_seconds",
                "The disk's part. A slow batch with a quick disk lacks CPU.",
            ),
            graph(
                "Bytes from and to clients",
                "Bps",
                ("{{instance}} in", rate("quorate_client_received_bytes_total")),
                ("{{instance}} out", rate("quorate_client_sent_bytes_total")),
            ),
            graph(
                "Batches",
                "ops",
                ("{{instance}} submitted", rate("quorate_batches_submitted_total")),
                ("{{instance}} applied", rate("quorate_batches_applied_total")),
            ),
            graph(
                "Log",
                "Bps",
                ("{{instance}} written", rate("quorate_wal_written_bytes_total")),
                ("{{instance}} payload applied", rate("quorate_applied_bytes_total")),
            ),
        ],
    ),
    (
        "Leadership",
        [
            graph(
                "Who leads, as each node sees it",
                "none",
                ("{{instance}}", f"quorate_leader_id{{{NODE}}}"),
                words="0: nobody. Lines that differ for long: the network is cut.",
            ),
            graph(
                "Why leadership moved",
                "short",
                (
                    "{{role}}: {{cause}}",
                    f"sum by (role, cause) (increase(quorate_role_changes_total{{{NODE}}}[5m]))",
                ),
            ),
            graph(
                "Entries that members lack",
                "short",
                ("node {{member}}", f"max by (member) (quorate_member_lag_entries{{{CLUSTER}}})"),
            ),
            graph(
                "Applied beyond a snapshot",
                "short",
                (
                    "{{instance}}",
                    f"quorate_applied_index{{{NODE}}} - quorate_snapshot_index{{{NODE}}}",
                ),
            ),
            gauge("Committed, not applied here", "short", "quorate_behind_entries"),
            graph(
                "Ignored events",
                "ops",
                ("{{reason}}", rate("quorate_ignored_events_total", "reason")),
            ),
        ],
    ),
    (
        "Clients and the tree",
        [
            gauge("Connections", "short", "quorate_connections"),
            graph(
                "Sessions and ephemeral znodes",
                "short",
                ("sessions", f"max(quorate_sessions{{{CLUSTER}}})"),
                ("ephemeral znodes", f"max(quorate_ephemeral_znodes{{{CLUSTER}}})"),
            ),
            graph(
                "Connections closed, by reason",
                "ops",
                ("{{reason}}", rate("quorate_connections_closed_total", "reason")),
            ),
            graph("Znodes", "short", ("znodes", f"max(quorate_znodes{{{CLUSTER}}})")),
            gauge("Watches", "short", "quorate_watches"),
            graph(
                "Refused, nonsense, expired",
                "ops",
                ("refused", rate("quorate_connections_refused_total", "cluster")),
                ("protocol errors", rate("quorate_protocol_errors_total", "cluster")),
                (
                    "sessions expired",
                    f"max(rate(quorate_sessions_expired_total{{{CLUSTER}}}[$__rate_interval]))",
                ),
            ),
        ],
    ),
    (
        "Disk and snapshots",
        [
            graph(
                "Disk stalls",
                "short",
                ("{{instance}}", f"increase(quorate_disk_stalls_total{{{NODE}}}[5m])"),
            ),
            gauge("Room left", "bytes", "quorate_disk_free_bytes"),
            graph(
                "Log since the last snapshot",
                "bytes",
                ("{{instance}}", f"quorate_log_since_snapshot_bytes{{{NODE}}}"),
                ("{{instance}} due at", f"quorate_snapshot_threshold_bytes{{{NODE}}}"),
            ),
            gauge("Size of a snapshot", "bytes", "quorate_snapshot_bytes"),
            latency("Writing a snapshot", "quorate_snapshot_write_duration_seconds"),
            graph(
                "Snapshots taken and loaded",
                "short",
                ("{{instance}} taken", f"increase(quorate_snapshots_taken_total{{{NODE}}}[1h])"),
                (
                    "{{instance}} loaded",
                    f"increase(quorate_snapshots_installed_total{{{NODE}}}[1h])",
                ),
            ),
        ],
    ),
    (
        "The process",
        [
            graph("CPU", "percentunit", ("{{instance}}", rate("process_cpu_seconds_total"))),
            gauge("Resident memory", "bytes", "process_resident_memory_bytes"),
            gauge("File descriptors", "short", "process_open_fds"),
            latency(
                "Event loop late by",
                "quorate_loop_delay_seconds",
                "Half an election timeout is too much: others take this node for dead.",
            ),
            latency("Garbage collection", "quorate_gc_pause_seconds"),
            graph(
                "Lines left out of the log",
                "ops",
                ("{{instance}}", rate("quorate_log_lines_left_out_total")),
            ),
        ],
    ),
]


def place(sections: list[tuple[str, list[Panel]]]) -> list[Panel]:
    """Give every panel a number and a place on the grid of 24 columns."""
    placed: list[Panel] = []
    y = 0
    for title, panels in sections:
        placed.append({"type": "row", "title": title, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        y, x, height = y + 1, 0, 0
        for panel in panels:
            width = panel["width"]
            if x + width > 24:
                x, y = 0, y + height
            height = panel["height"]
            grid = {"x": x, "y": y, "w": width, "h": height}
            rest = {key: panel[key] for key in panel if key not in ("width", "height")}
            placed.append(
                rest | {"gridPos": grid, "datasource": {"type": "prometheus", "uid": "${source}"}}
            )
            x += width
        y += height
    return [panel | {"id": number} for number, panel in enumerate(placed, 1)]


def choice(name: str, label: str, query: str) -> dict[str, Any]:
    """A variable of the dashboard, filled from a metric's label."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "query": query,
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard() -> dict[str, Any]:
    """Everything, as Grafana imports it."""
    return {
        "title": "quorate",
        "uid": "quorate",
        "tags": ["quorate", "consensus"],
        "schemaVersion": 38,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "source",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                },
                choice("cluster", "Cluster", "label_values(quorate_serving, cluster)"),
                choice(
                    "instance",
                    "Node",
                    f"label_values(quorate_serving{{{CLUSTER}}}, instance)",
                ),
            ]
        },
        "panels": place(SECTIONS),
    }


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=2))
