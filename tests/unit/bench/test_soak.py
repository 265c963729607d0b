"""bench/soak.py notices every kind of wrong answer; a check that never fails proves nothing."""

from __future__ import annotations

import sys
from collections import deque
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "bench"))
sys.path.insert(0, str(ROOT / "tests" / "process"))

import soak  # noqa: E402


class Socket:
    """Gives prepared chunks."""

    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks

    def recv(self, _: int) -> bytes:
        return self.chunks.pop(0) if self.chunks else b""


def answer(xid: int, zxid: int, version: int, *, error: int = 0, length: int = 84) -> bytes:
    return soak.ANSWER.pack(length, xid, zxid, error, version)


def connection(*chunks: bytes) -> soak.Checked:
    """A connection that has just set its znode, without a node."""
    made = soak.Checked.__new__(soak.Checked)
    made.socket = Socket(list(chunks))  # type: ignore[assignment]
    made.buffer = b""
    made.sent_at = deque([1.0] * 10)
    made.version, made.xid, made.zxid, made.answers = 1, 0, 0, 0
    return made


def test_right_answers_are_counted_and_timed() -> None:
    """Also when an answer is torn between two chunks."""
    data = answer(0, 7, 2) + answer(1, 9, 3) + answer(2, 10, 4)
    torn = connection(data[:100], data[100:])
    assert torn.check(0.0, 1.5) == (1, 0.5)
    assert torn.check(0.5, 3.0) == (2, 2.0)
    assert (torn.answers, torn.version, torn.buffer) == (3, 4, b"")


@pytest.mark.parametrize(
    "wrong",
    [
        answer(1, 7, 2),  # another request's
        answer(0, 7, 3),  # applied twice
        answer(0, 7, 1),  # not applied
        answer(0, 0, 2),  # back in time
        answer(0, 7, 2, error=-4),
        answer(0, 7, 2, length=16),
        b"",  # closed
    ],
)
def test_a_wrong_answer_ends_the_run(wrong: bytes) -> None:
    """Order, once, never back, no error, no lost connection."""
    with pytest.raises(SystemExit):
        connection(wrong).check(0.0, 1.0)


def test_growth_is_that_of_the_second_half() -> None:
    """Warming up is no leak."""
    samples = [
        soak.Sample(second, 1.0, 1.0, 1.0, {1: 1}, {1: 1}, {1: mib})
        for second, mib in ((10, 30.0), (20, 100.0), (30, 101.0), (40, 103.5))
    ]
    assert soak._growth(samples) == {1: 2.5}
    assert soak._growth(samples[:1]) == {}


def test_tails_are_read_from_the_page() -> None:
    """The bucket of 99.9 %, and the one that holds everything."""
    page = "\n".join(
        f'x_bucket{{le="{bound}"}} {count}'
        for bound, count in (("0.1", 5000), ("0.5", 9995), ("1.0", 10000), ("+Inf", 10000))
    )
    assert soak._tail(page, "x") == "0.5, 1.0"
    assert soak._tail(page, "y") == "none"
