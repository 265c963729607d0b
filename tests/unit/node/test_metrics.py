"""The page for Prometheus: its format, and that every declared metric is on it."""

import re
from pathlib import Path
from typing import Any

import pytest

from quorate.consensus.entry import Recovered
from quorate.consensus.membership import Configuration
from quorate.node.disk_watch import DiskWatch
from quorate.node.measures import Histogram, Measures
from quorate.node.metric_catalogue import METRICS, Picture
from quorate.node.metrics import Metric, render
from quorate.node.process_figures import look_at_process
from quorate.storage.store import StoreStatistics
from quorate.tree.server import CoordinationServer, ServerSettings

LINE = re.compile(
    r"([a-z_:][a-z0-9_:]*)(\{(?:[a-z_]+=\"(?:[^\"\\\n]|\\.)*\",?)*\})? ([0-9.e+-]+|\+Inf)"
)


def parse(page: str) -> dict[str, tuple[str, dict[str, float]]]:
    """Name -> (type, samples by name and labels); raises where the format is broken."""
    assert page.endswith("\n")
    found: dict[str, tuple[str, dict[str, float]]] = {}
    name = ""
    for line in page.splitlines():
        if line.startswith("# HELP "):
            name = line.split()[2]
            assert name not in found, f"{name} twice"
        elif line.startswith("# TYPE "):
            _, _, typed, kind = line.split()
            assert typed == name
            found[name] = (kind, {})
        else:
            match = LINE.fullmatch(line)
            assert match, line
            kind, samples = found[name]
            suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            assert match[1] in {name + suffix for suffix in suffixes}, line
            key = match[1] + (match[2] or "")
            assert key not in samples, key
            samples[key] = float(match[3])
    return found


def node(tmp_path: Path, *, voters: tuple[int, ...] = (1,)) -> Picture:
    """A picture of a pure server that has just started, and of this process."""
    server = CoordinationServer(
        node_id=1,
        incarnation=1,
        configuration=Configuration.of(voters),
        recovered=Recovered(),
        restore=lambda _: [],
        settings=ServerSettings(),
        draw=lambda n: 0,
        random_bytes=bytes,
        now_ms=1_000,
        wall_ms=1_000,
    )
    server.client_opened(1, "10.0.0.9")
    server.client_closed(1)
    for now_ms in range(1_010, 1_050, 10):
        server.tick(now_ms, now_ms)
        for step in server.take().persists:
            server.persisted(step.sequence)
    measures = Measures()
    measures.disk_write.observe(0.002)
    return Picture(
        status=server.status()
        | {"linked": [2], "tls": {"certificates_not_after_seconds": {"peers": 2e9}}},
        store=StoreStatistics(3, 1, 100, 1, 0, 5, 0, 0, 0, 1),
        measures=measures,
        disk=DiskWatch(lambda _: None, measures, slow_ms=250),
        process=look_at_process(tmp_path),
        peers=(2, 3),
        lines_left_out=4,
    )


def test_every_metric_is_exported_in_a_format_that_can_be_parsed(tmp_path: Path) -> None:
    """All declared metrics come, but for those that only a leader of others knows."""
    page = parse(render(METRICS, node(tmp_path)))
    by_member = {metric.name for metric in METRICS if metric.labels == ("member",)}
    expected = {metric.name for metric in METRICS} - by_member - {"quorate_ignored_events_total"}
    assert set(page) - {"quorate_ignored_events_total"} == expected
    for metric in METRICS:
        if metric.name in page:
            assert page[metric.name][0] == metric.kind
    assert page["quorate_role"][1]['quorate_role{role="leader"}'] == 1
    assert page["quorate_peer_linked"][1] == {
        'quorate_peer_linked{peer="2"}': 1,
        'quorate_peer_linked{peer="3"}': 0,
    }
    key = 'quorate_connections_closed_total{reason="hung up"}'
    assert page["quorate_connections_closed_total"][1][key] == 1
    assert page["process_resident_memory_bytes"][1]["process_resident_memory_bytes"] > 1 << 20


def test_a_follower_exports_nothing_that_only_the_leader_knows(tmp_path: Path) -> None:
    """No value is better than a wrong one: alerts take the leader's."""
    page = parse(render(METRICS, node(tmp_path, voters=(1, 2, 3))))
    assert "quorate_failures_tolerated" not in page
    assert "quorate_member_lag_entries" not in page
    assert page["quorate_serving"][1]["quorate_serving"] == 0


def test_names_carry_their_units() -> None:
    """Times are in seconds, sizes in bytes, and the unit is in the name."""
    for metric in METRICS:
        assert not re.search(r"_(ms|us|kib|mib|milliseconds)(_|$)", metric.name), metric.name
        if metric.kind == "histogram":
            assert metric.name.endswith("_seconds"), metric.name


def test_histograms_are_cumulative_and_labels_escaped() -> None:
    """Buckets count everything up to their bound; quotes, backslashes and newlines survive."""
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.5, 7.0, 8.0):
        histogram.observe(value)
    metrics = [
        Metric("x_seconds", "histogram", "X.", lambda _: [(("a",), histogram)], ("of",)),
        Metric("y_total", "counter", "Y.", lambda _: [(('"\\\n',), 2)], ("reason",)),
        Metric("z", "gauge", "Z.", lambda _: None),
    ]
    page = render(metrics, None)
    assert page.splitlines()[2:7] == [
        'x_seconds_bucket{of="a",le="0.1"} 1',
        'x_seconds_bucket{of="a",le="1.0"} 2',
        'x_seconds_bucket{of="a",le="+Inf"} 4',
        'x_seconds_sum{of="a"} 15.55',
        'x_seconds_count{of="a"} 4',
    ]
    assert 'y_total{reason="\\"\\\\\\n"} 2' in page
    assert "z" not in parse(page)


@pytest.mark.parametrize(
    "wrong", [("x", "counter"), ("x_total", "gauge"), ("x-y", "gauge"), ("x", "summary")]
)
def test_a_metric_with_a_misleading_name_cannot_be_declared(wrong: tuple[str, Any]) -> None:
    """Counters end in _total and nothing else does."""
    with pytest.raises(AssertionError):
        Metric(*wrong, "X.", lambda _: 1)
