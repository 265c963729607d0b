"""JSONL histories: what is read, what is written, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.checking.history import UNKNOWN_RETURN, History, Operation
from quorate.checking.jsonl import LINE_CHARS_MAX, encode_event, encode_jsonl, read_jsonl
from quorate.errors import BadInput, UsageError

INVOKE = '{"type": "invoke", "process": 1, "function": "read"}'
OK = '{"type": "ok", "process": 1, "function": "read", "value": 3}'


def read(*lines: str, source: str = "h.jsonl") -> History:
    return read_jsonl("\n".join(lines) + "\n", source)


def refusal(*lines: str, end: str = "\n") -> str:
    with pytest.raises(BadInput) as refused:
        read_jsonl("\n".join(lines) + end, "h.jsonl")
    return str(refused.value)


def test_a_call_and_its_return_are_one_operation() -> None:
    """Function, key, argument, result, order, times and line all arrive."""
    history = read(
        '{"history": 1, "model": "cas-map"}',
        '{"type": "invoke", "process": "c1", "function": "cas", "key": "a", "value": [1, [2]], '
        '"time_ns": 5}',
        '{"type": "ok", "process": "c1", "function": "cas", "key": "a", "value": false, '
        '"time_ns": 9}',
    )
    assert history == History(
        [Operation("c1", "cas", "a", (1, (2,)), False, 0, 1, 5, 9, 2)], 0, "cas-map", "h.jsonl"
    )


def test_jepsens_names_mean_the_same() -> None:
    """f, info and time are function, unknown and time_ns; the nemesis is nobody's client."""
    history = read(
        '{"type": "info", "process": "nemesis", "f": "kill", "value": {"n1": "killed"}}',
        '{"type": "invoke", "process": 0, "f": "read", "value": 7, "time": 3}',
        '{"type": "ok", "process": 0, "f": "read", "value": 8}',
        '{"type": "invoke", "process": 0, "f": "write", "value": 1}',
        '{"type": "info", "process": 0, "f": "write", "value": 1, "error": {"a": 1}}',
        '{"type": "invoke", "process": 2, "f": "cas", "value": [1, 2]}',
        '{"type": "ok", "process": 2, "f": "cas", "value": [1, 2]}',
    )
    first, second, third = history.operations
    assert (first.argument, first.result, first.invoked_ns) == (None, 8, 3)
    assert second.is_unknown
    assert third.result is True


def test_a_call_without_return_is_of_unknown_outcome() -> None:
    """Who was never answered may have been served, so the operation stays, open for ever."""
    (operation,) = read(INVOKE).operations
    assert operation.returned == UNKNOWN_RETURN


def test_failed_operations_are_counted_and_left_out() -> None:
    """What certainly did not happen never reaches a checker."""
    history = read(INVOKE, '{"type": "fail", "process": 1, "function": "read"}', INVOKE, OK)
    assert history.failed == 1
    assert [operation.line for operation in history.operations] == [3]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([INVOKE, INVOKE], ["h.jsonl:2", "of line 1 has not returned"]),
        ([INVOKE, OK, OK], ["h.jsonl:3", "'ok' for process 1", "no call open"]),
        ([OK], ["h.jsonl:1", "no call open", "'invoke' is missing above"]),
        (
            [INVOKE, '{"type": "ok", "process": 1, "function": "write"}'],
            ["h.jsonl:2", "called 'read' (line 1)", "is of 'write'"],
        ),
        (
            [INVOKE, '{"type": "ok", "process": 1, "function": "read", "key": "b"}'],
            ["h.jsonl:2", "key None", "about key 'b'"],
        ),
        (
            [INVOKE, '{"type": "unknown", "process": 1, "function": "read"}', INVOKE],
            ["h.jsonl:3", "ended as unknown on line 2", "needs a new process number"],
        ),
        (
            [INVOKE, INVOKE.replace("invoke", "begin")],
            ["h.jsonl:2", "one of invoke, ok", "'begin'"],
        ),
        (['{"type": "invoke", "function": "read"}'], ["h.jsonl:1", '"process"', "found none"]),
        (['{"type": "invoke", "process": true, "function": "read"}'], ["found True"]),
        (['{"type": "invoke", "process": 1}'], ["h.jsonl:1", '"function"', "found none"]),
        (
            ['{"type": "invoke", "process": 1, "function": "w", "value": {"a": 1}}'],
            ["a map cannot"],
        ),
        (['{"type": "invoke", "process": 1, "function": "w", "value": NaN}'], ["NaN is no number"]),
        (['{"type": "invoke", "process": 1, "function": "r", "time_ns": "x"}'], ["nanoseconds"]),
        (['{"type": "invoke" "process": 1}', INVOKE], ["h.jsonl:1", "not JSON", "found '{"]),
        (["[1]"], ["h.jsonl:1", "expected an event", "found '[1]'"]),
        (['{"process": 1}'], ['has a "type"', "'process'"]),
        (["{}"], ["an empty object"]),
        ([INVOKE, '{"history": 1}'], ["h.jsonl:2", "stands first"]),
        (['{"history": 2}'], ["format version 2", "knows 1"]),
        (['{"history": 1, "model": 7}'], ['"model" is a name']),
        ([" " * 3, ""], ["h.jsonl: no event"]),
        (["{" + '"a":[' * 5000 + "]" * 5000 + "}"], ["h.jsonl:1"]),
        (
            ['{"type": "invoke", "process": 1, "function": "w", "value": ' + "9" * 5000 + "}"],
            [":1"],
        ),
        (
            [
                '{"type": "invoke", "process": 1, "function": "w", "value": '
                + "[" * 99
                + "]" * 99
                + "}"
            ],
            ["deeper than 64"],
        ),
    ],
)
def test_what_cannot_be_a_history_is_refused_by_line(lines: list[str], words: list[str]) -> None:
    """Each refusal names file and line, what was expected and what was found."""
    said = refusal(*lines)
    for word in words:
        assert word in said


def test_a_file_cut_off_in_the_middle_says_so() -> None:
    """The last line of a killed writer is recognised, with what to do about it."""
    said = refusal(INVOKE, OK[:30], end="")
    assert said.startswith("h.jsonl:2: the file ends in the middle of an event")
    assert "delete this last line" in said


def test_an_absurdly_long_line_is_refused_before_it_is_parsed() -> None:
    """A line has a bound."""
    assert "1,048,6" in refusal(INVOKE[:-1] + " " * LINE_CHARS_MAX + "}")


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=5,
)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Histories whose positions are dense, as a reader makes them."""
    operations: list[Operation] = []
    open_calls: dict[int, int] = {}
    gone: set[int] = set()
    position = 0
    for process in draw(st.lists(st.integers(0, 3), max_size=24)):
        if process in gone:
            continue
        if process in open_calls:
            place = open_calls.pop(process)
            result = draw(VALUES)
            argument = operations[place].argument
            repeats = isinstance(result, tuple) and result == argument
            if operations[place].function == "cas" and (result is None or repeats):
                result = True  # what a reader makes of it
            operations[place] = operations[place]._replace(
                result=result, returned=position, returned_ns=draw(st.integers(0, 9))
            )
        else:
            function = draw(st.sampled_from(["read", "write", "cas"]))
            key, argument = draw(VALUES), draw(VALUES)
            open_calls[process] = len(operations)
            operations.append(
                Operation(process, function, key, argument, None, position, UNKNOWN_RETURN)
            )
        position += 1
    return History(operations, 0, draw(st.sampled_from(["", "register"])))


@settings(max_examples=60, deadline=None)
@given(histories())
def test_what_is_written_is_read_back(history: History) -> None:
    """Writing and reading give the same operations, but for the lines of the file."""
    text = encode_jsonl(history)
    if not text:
        return
    found = read_jsonl(text, "")
    assert [operation._replace(line=0) for operation in found.operations] == history.operations
    assert found.model == history.model


def test_an_event_that_json_cannot_hold_is_refused() -> None:
    """Bytes, infinities and unknown kinds are the caller's mistake, said at once."""
    with pytest.raises(UsageError, match="write of process 1 cannot be written as JSON"):
        encode_event("invoke", 1, "write", b"x")
    with pytest.raises(UsageError, match="cannot be written"):
        encode_event("invoke", 1, "write", float("inf"))
    with pytest.raises(UsageError, match="not 'info'"):
        encode_event("info", 1, "write")
