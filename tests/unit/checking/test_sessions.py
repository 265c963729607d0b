"""Sessions of local reads: each sees one history, and only forwards."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.checking.history import UNKNOWN_RETURN, History, Operation
from quorate.checking.sessions import SessionVerdict, check_sessions
from quorate.checking.verdict import Answer
from quorate.errors import BadInput


def verdict(*calls: tuple[str, str, Any, Any, Any, int, int]) -> SessionVerdict:
    return check_sessions(History([Operation(*call) for call in calls]))


def fits(*calls: tuple[str, str, Any, Any, Any, int, int]) -> bool:
    found = verdict(*calls)
    assert (found.problem == "") is (found.answer is Answer.LINEARIZABLE)
    return found.answer is Answer.LINEARIZABLE


def write(who: str, key: str, value: Any, place: int, invoked: int, returned: int) -> Any:
    return (who, "write", key, value, place, invoked, returned)


def read(who: str, key: str, value: Any, place: int, invoked: int, returned: int) -> Any:
    return (who, "read", key, None, (value, place), invoked, returned)


TWO_WRITES = (write("w", "x", 1, 1, 0, 1), write("w", "x", 2, 2, 2, 3))


def test_th_9_old_reads_are_allowed_and_going_back_is_not() -> None:
    """A read may be old, but not older than what the same session read before."""
    assert fits(*TWO_WRITES, read("r", "x", 1, 1, 4, 5), read("r", "x", 2, 2, 6, 7))
    assert fits(*TWO_WRITES, read("r", "x", 2, 2, 4, 5), read("s", "x", 1, 1, 6, 7))
    found = verdict(*TWO_WRITES, read("r", "x", 2, 2, 4, 5), read("r", "x", 1, 1, 6, 7))
    assert found.answer is Answer.NOT_LINEARIZABLE
    assert found.pair is not None
    assert [operation and operation.invoked for operation in found.pair] == [4, 6]
    assert "r's read of x returned 1 of place 1" in found.problem
    assert "gone past w's write of x = 2 at place 2" in found.problem


def test_th_9_reads_do_not_go_back_over_other_keys() -> None:
    """Whoever saw a later write of one key has seen the earlier write of another."""
    writes = (write("w", "x", 1, 1, 0, 1), write("w", "y", 2, 2, 2, 3))
    assert fits(*writes, read("r", "y", 2, 2, 4, 5), read("r", "x", 1, 1, 6, 7))
    assert not fits(*writes, read("r", "y", 2, 2, 4, 5), read("r", "x", None, 0, 6, 7))


def test_th_9_a_session_reads_its_own_writes() -> None:
    """After a write was acknowledged its session reads it or something later."""
    assert fits(*TWO_WRITES, read("w", "x", 2, 2, 4, 5))
    assert not fits(*TWO_WRITES, read("w", "x", 1, 1, 4, 5))


def test_writes_of_a_session_keep_the_order_of_its_calls() -> None:
    """A later call never gets an earlier place."""
    assert not fits(write("w", "x", 1, 5, 0, 1), write("w", "x", 2, 4, 2, 3))


def test_writes_of_different_sessions_respect_real_time() -> None:
    """A write that had returned lies before one that was called then; overlapping ones may not."""
    assert not fits(write("v", "x", 1, 5, 0, 1), write("w", "x", 2, 4, 2, 3))
    assert fits(write("v", "x", 1, 5, 0, 2), write("w", "x", 2, 4, 1, 3))


def test_a_write_lies_behind_what_its_session_has_read() -> None:
    """Cause before effect: place 1 cannot be given to somebody who saw place 2."""
    seen = (write("v", "x", 1, 2, 0, 9), read("w", "x", 1, 2, 1, 2))
    assert fits(*seen, write("w", "y", 7, 3, 3, 4))
    assert not fits(*seen, write("w", "y", 7, 1, 3, 4))


def test_no_place_is_given_twice() -> None:
    """Two writes at one place would be two histories."""
    assert not fits(write("v", "x", 1, 1, 0, 2), write("w", "x", 2, 1, 1, 3))


def test_what_was_read_was_written() -> None:
    """Value, key and place of a read belong to one write."""
    assert not fits(*TWO_WRITES, read("r", "x", 1, 2, 4, 5))
    assert not fits(*TWO_WRITES, read("r", "y", 1, 1, 4, 5))
    assert not fits(*TWO_WRITES, read("r", "x", 3, 3, 4, 5))


def test_a_read_does_not_see_the_future() -> None:
    """Neither a write that was not called yet, nor one that lies behind such a write."""
    assert not fits(read("r", "x", 1, 1, 0, 1), write("w", "x", 1, 1, 2, 3))
    late = write("v", "y", 1, 1, 4, 5)
    assert not fits(write("w", "x", 1, 2, 0, 9), read("r", "x", 1, 2, 1, 2), late)
    assert fits(write("w", "x", 1, 2, 0, 9), read("r", "x", 1, 2, 1, 5), ("v", *late[1:5], 4, 6))


def test_a_sync_catches_up_with_all_that_had_returned() -> None:
    """Old reads before a sync, none after it."""
    sync = ("r", "sync", None, None, None, 6, 7)
    assert fits(*TWO_WRITES, read("r", "x", 1, 1, 4, 5), sync, read("r", "x", 2, 2, 8, 9))
    assert not fits(*TWO_WRITES, sync, read("r", "x", 1, 1, 8, 9))


def test_a_lost_write_gets_its_place_from_who_reads_it() -> None:
    """An unknown outcome explains one place, and only after its call."""
    lost = ("w", "write", "x", 1, None, 0, UNKNOWN_RETURN)
    assert fits(lost, read("r", "x", 1, 1, 1, 2))
    assert not fits(lost, read("r", "x", 1, 1, 1, 2), read("s", "x", 1, 2, 1, 2))
    later = ("w", "write", "x", 1, None, 5, UNKNOWN_RETURN)
    assert not fits(later, read("r", "x", 1, 1, 1, 2))
    again = ("v", "write", "x", 1, None, 6, UNKNOWN_RETURN)
    assert fits(later, again, read("r", "x", 1, 2, 7, 8), read("s", "x", 1, 1, 7, 9))


def test_a_deleted_key_reads_as_nothing_until_it_is_written_again() -> None:
    """With the place of the deletion, or without one."""
    deleted = (*TWO_WRITES, write("w", "x", None, 3, 4, 5), write("w", "x", 4, 4, 6, 7))
    assert fits(*deleted, read("r", "x", None, 3, 8, 9), read("r", "x", 4, 4, 10, 11))
    assert fits(*deleted, read("r", "x", 1, 1, 8, 9), read("r", "x", None, 0, 10, 11))
    assert not fits(*deleted, read("r", "x", 4, 4, 8, 9), read("r", "x", None, 0, 10, 11))


def test_one_session_has_one_call_open() -> None:
    """Overlapping calls of one session have no order to keep."""
    assert not fits(write("w", "x", 1, 1, 0, 2), write("w", "x", 2, 2, 1, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("w", "cas", "x", 1, 1, 0, 1), "not 'cas'"),
        (("w", "write", "x", 1, None, 0, 1), "write returns its place"),
        (("w", "read", "x", None, 1, 0, 1), "read returns"),
        (("w", "read", "x", None, (1, 0), 0, 1), "read returns"),
    ],
)
def test_a_misshapen_operation_is_named(call: Any, message: str) -> None:
    """File and line, and what was expected."""
    operation = Operation(*call)._replace(line=7)
    with pytest.raises(BadInput, match=message) as refused:
        check_sessions(History([operation], source="run.jsonl"))
    assert str(refused.value).startswith("run.jsonl:7: ")
