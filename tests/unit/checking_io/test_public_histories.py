"""Histories of real systems with known verdicts, where somebody has them on disk."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

DIRECTORY = os.environ.get("QUORATE_HISTORIES", "")
BENCH = Path(__file__).parents[3] / "bench" / "public_histories.py"


def load_bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("public_histories", BENCH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(
    not DIRECTORY,
    reason="QUORATE_HISTORIES names no directory with Porcupine's or Knossos' public histories",
)
def test_th_8_public_histories_get_their_known_verdicts() -> None:
    """Known good histories are accepted and known bad ones rejected."""
    bench = load_bench()
    paths = bench.histories([DIRECTORY])
    assert paths
    assert bench.check_all(paths, is_quiet=True) == []


def test_expected_verdicts_follow_from_names(tmp_path: Path) -> None:
    """The table knows Porcupine's and Knossos' names, and has no opinion on others."""
    expected = load_bench().expected
    assert expected(tmp_path / "etcd_002.log") == "linearizable"
    assert expected(tmp_path / "etcd_003.log") == "not linearizable"
    assert expected(tmp_path / "etcd_095.log") == "unusable"
    assert expected(tmp_path / "c50-bad.txt") == "not linearizable"
    assert expected(tmp_path / "good" / "x.edn") == "linearizable"
    assert expected(tmp_path / "x.edn") == ""


def test_a_wrong_verdict_is_found(tmp_path: Path) -> None:
    """A history filed as good that is bad comes out as wrong."""
    (tmp_path / "good").mkdir()
    lie = tmp_path / "good" / "lie.edn"
    lie.write_text(
        "{:process 0, :type :invoke, :f :read}\n{:process 0, :type :ok, :f :read, :value 1}\n",
        encoding="utf-8",
    )
    assert load_bench().check_all([lie], is_quiet=True) == [(lie, "not linearizable")]
