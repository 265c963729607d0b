"""The recorder: live calls become a history that a checker may trust."""

from __future__ import annotations

import pytest

from quorate.checking import recorder as recorder_module
from quorate.checking.recorder import Recorder
from quorate.errors import UsageError


def test_calls_and_returns_share_one_row_of_positions() -> None:
    """Order is what counts; times are carried along."""
    recorder = Recorder("register")
    write = recorder.invoke("a", "write", None, 1, 100)
    read = recorder.invoke("b", "read", None, None, 150)
    recorder.ok(write, None, 200)
    recorder.ok(read, 1, 250)
    history = recorder.history()
    assert history.model == "register"
    assert [(found.invoked, found.returned) for found in history.operations] == [(0, 2), (1, 3)]
    assert [(found.invoked_ns, found.returned_ns) for found in history.operations] == [
        (100, 200),
        (150, 250),
    ]


def test_after_an_unknown_outcome_a_client_is_another_process() -> None:
    """The lost call stays open for ever, so its process must not call again."""
    recorder = Recorder()
    recorder.unknown(recorder.invoke("a", "write", None, 1))
    recorder.ok(recorder.invoke("b", "write", None, 2))
    recorder.ok(recorder.invoke("a", "write", None, 3))
    operations = recorder.history().operations
    assert operations[0].is_unknown
    assert len({found.process for found in operations}) == 3


def test_what_failed_is_counted_and_left_out() -> None:
    """It did not happen, so no checker may see it; the client goes on as the same process."""
    recorder = Recorder()
    recorder.fail(recorder.invoke("a", "write", None, 1))
    recorder.ok(recorder.invoke("a", "write", None, 2))
    history = recorder.history()
    assert history.failed == 1
    assert [(found.argument, found.process) for found in history.operations] == [(2, 0)]


def test_calls_still_open_have_unknown_outcome() -> None:
    """A history may be taken at any time."""
    recorder = Recorder()
    call = recorder.invoke("a", "write", None, 1)
    assert recorder.history().operations[0].is_unknown
    recorder.ok(call)
    assert not recorder.history().operations[0].is_unknown


def test_values_are_frozen() -> None:
    """What a model hashes and compares must not change afterwards."""
    recorder = Recorder()
    argument = [1, {"b": [2], "a": bytearray(b"x")}]
    recorder.ok(recorder.invoke("a", "txn", ["k"], argument), [[1]])
    argument.append(3)
    operation = recorder.history().operations[0]
    assert operation.argument == (1, (("a", b"x"), ("b", (2,))))
    assert (operation.key, operation.result) == (("k",), ((1,),))


def test_wrong_use_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls of a client at once, two returns of a call, and more than fits."""
    recorder = Recorder()
    call = recorder.invoke("a", "read")
    with pytest.raises(UsageError, match="'a' calls write while its read is open"):
        recorder.invoke("a", "write")
    recorder.ok(call, 1)
    with pytest.raises(UsageError, match="has returned already"):
        recorder.unknown(call)
    monkeypatch.setattr(recorder_module, "OPERATIONS_MAX", 1)
    with pytest.raises(UsageError, match="use another one"):
        recorder.invoke("a", "read")
