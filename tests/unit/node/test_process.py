"""Exit codes, log lines, and four-letter words as the process fills them."""

import pytest

from quorate.errors import (
    CorruptData,
    DiskFailed,
    InvariantBroken,
    QuorateError,
    SettingsError,
    WrongDirectory,
)
from quorate.node import process
from quorate.node.clock import Clock
from quorate.node.server_info import make_server_info
from quorate.node.sources import load_settings
from quorate.protocol.four_letter import ServiceStatistics, answer_word

SETTINGS = load_settings({"id": "2", "data": "/d", "cluster": "1=a:1,2=b:1,3=c:1"}, {})


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("x"), 2),
        (InvariantBroken("x"), 3),
        (ZeroDivisionError(), 3),
        (DiskFailed("x"), 4),
        (CorruptData("wal", 7, "x"), 4),
        (WrongDirectory("x"), 5),
    ],
)
def test_every_end_has_its_exit_code(error: BaseException, code: int) -> None:
    """Whoever restarts nodes can tell a bug, a broken disk and a wrong directory apart."""
    assert process.exit_code(error) == code


def test_every_error_of_the_tree_has_an_exit_code() -> None:
    """No error that a node can end with is reported as a clean stop."""

    def all_kinds(kind: type[QuorateError]) -> list[type[QuorateError]]:
        return [kind, *(sub for below in kind.__subclasses__() for sub in all_kinds(below))]

    for kind in all_kinds(QuorateError):
        assert process.exit_code(kind.__new__(kind)) != process.EXIT_CLEAN


def picture(**changes: object) -> dict[str, object]:
    plain: dict[str, object] = {
        "mode": "leader",
        "serving": True,
        "members": [
            {"node_id": 1, "active": True, "match_index": 9},
            {"node_id": 3, "active": True, "match_index": 8},
            {"node_id": 4, "active": False, "match_index": 9},
            {"node_id": 5, "active": True, "match_index": 9},  # a learner
        ],
        "node_id": 2,
        "leader": 2,
        "epoch": 4,
        "voters": [1, 2, 3, 4],
        "commit_index": 9,
        "applied_index": 9,
        "failures_tolerated": 1,
    }
    return plain | changes


def test_words_show_what_the_node_is_now() -> None:
    """Mode, tolerance and settings reach ``mntr`` and ``conf``; without a leader there is none."""
    now = picture()
    describe = make_server_info(SETTINGS, lambda: now, Clock())
    monitor = answer_word(b"mntr", describe(), ServiceStatistics()).decode()
    for line in (
        "zk_server_state\tleader",
        "zk_synced_followers\t1",
        "quorate_voters\t4",
        "quorate_failures_tolerated\t1",
    ):
        assert line in monitor
    assert b"maxSessionTimeout=40000" in answer_word(b"conf", describe(), ServiceStatistics())
    now = picture(serving=False)
    assert b"not currently serving" in answer_word(b"srvr", describe(), ServiceStatistics())
    now = picture(mode="follower", failures_tolerated=None)
    follower = answer_word(b"mntr", describe(), ServiceStatistics())
    assert b"quorate_failures_tolerated" not in follower
