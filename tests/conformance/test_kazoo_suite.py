"""The unmodified ZooKeeper client kazoo passes its own test-suite against quorate (ZK-12)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import kazoo_suite


def read_expected() -> list[str]:
    lines = kazoo_suite.EXPECTED.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def needs_kazoo_tests() -> None:
    missing = kazoo_suite.missing_modules()
    if missing:
        pytest.skip(f"kazoo's test extras are missing ({', '.join(missing)}): "
                    "pip install -e '.[test,conformance]'")  # fmt: skip


@pytest.mark.conformance
def test_zk_12_kazoo_own_suite_passes(tmp_path: Path) -> None:
    """Every kazoo test on the list passes against a three-node cluster, within its time bound."""
    needs_kazoo_tests()
    expected = read_expected()
    run = kazoo_suite.run_suite(tmp_path)
    lost = kazoo_suite.not_passed(expected, run.outcomes)
    passed = len(expected) - len(lost)
    print(f"kazoo: {passed} of {len(expected)} passed")
    assert lost == [], (
        f"{passed} of {len(expected)} passed; exit code {run.returncode}\n"
        + "\n".join(lost)
        + f"\n--- the first in full\n{kazoo_suite.first_failure(expected, run.outcomes)}"
        + f"\n--- end of the output\n{run.output[-1500:]}"
    )


@pytest.mark.conformance
def test_a_server_that_does_not_start_fails_the_suite_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The harness can fail: with a broken launcher nothing passes and its words are shown."""
    needs_kazoo_tests()
    only = tmp_path / "expected.txt"
    only.write_text("test_client.py::TestClient::test_create\n")
    monkeypatch.setitem(os.environ, "ZKC_LAUNCH", "sh -c 'echo no such server; exit 7'")
    run = kazoo_suite.run_suite(tmp_path, expected=only, workers=1, seconds_max=60)
    assert run.returncode != 0
    assert kazoo_suite.not_passed(["test_client.py::TestClient::test_create"], run.outcomes)
    assert "no such server" in run.output


def test_a_failed_a_skipped_and_an_absent_test_count_as_not_passed() -> None:
    """The comparison itself: only ``passed`` is a pass."""
    good = kazoo_suite.Outcome("passed", 0.1, "")
    bad = kazoo_suite.Outcome("failed", 0.1, "trace\nassert 1 == 2")
    skipped = kazoo_suite.Outcome("skipped", 0.0, "no gevent")
    lines = kazoo_suite.not_passed(["a", "b", "c", "d"], {"a": good, "b": bad, "c": skipped})
    assert [line.partition(":")[0] for line in lines] == ["b", "c", "d"]
    assert "assert 1 == 2" in lines[0]


def test_the_list_of_expected_tests_is_sorted_and_keeps_the_restart_tests() -> None:
    """The list is reviewable, and the six restart-within-five-seconds tests stay on it."""
    expected = read_expected()
    assert expected == sorted(set(expected))
    assert len([name for name in expected if "test_request_queuing_" in name]) == 6
    assert len(expected) == 482
