"""Recognising a history by its content, and the model by the functions in it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.checking.history import History, Operation
from quorate.checking.reading import FILE_BYTES_MAX, model_for, read_history
from quorate.errors import BadInput, UsageError

JSONL = b'{"type": "invoke", "process": 1, "function": "read"}\n'
EDN = b"{:process 1, :type :invoke, :f :read, :value nil}"
LOG = b"INFO  jepsen.util - 1\t:invoke\t:read\tnil\n"


def refusal(data: bytes) -> str:
    with pytest.raises(BadInput) as refused:
        read_history(data, "h")
    return str(refused.value)


def history_of(*functions: str, model: str = "") -> History:
    operations = [
        Operation(0, function, None, None, None, 2 * place, 2 * place + 1, 0, 0, place + 1)
        for place, function in enumerate(functions)
    ]
    return History(operations, 0, model, "h")


@pytest.mark.parametrize(
    "data",
    [
        JSONL,
        b"\xef\xbb\xbf\n" + JSONL,
        JSONL.replace(b"\n", b"\r\n"),
        EDN,
        b"[" + EDN + b"]",
        b"; a comment\n\n(" + EDN + b")",
        b"#jepsen.history.Op" + EDN,
        LOG,
        b"INFO  jepsen.core - Everything set up\nstack trace\n" + LOG,
    ],
)
def test_the_format_is_seen_from_the_content(data: bytes) -> None:
    """One read of process 1, however it is written down."""
    (operation,) = read_history(data, "h").operations
    assert (operation.process, operation.function) == (1, "read")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "h: the file is empty"),
        (b" \n; nothing\n", "h: the file is empty"),
        (b"\x1f\x8b\x08", "h: this is gzip; unpack it first: gunzip -k FILE"),
        (b"\xff\xfe{\0", "UTF-16; save it as UTF-8"),
        (b"ab\ncd\0", "h:2: a zero byte at offset 5: binary data"),
        (JSONL + b"\xff", "h:2: byte 0xff at offset 53 is not UTF-8"),
        (b'\n[{"type": "invoke"}]', "h:2: a JSON array; expected one event a line"),
        (b"hello\n", "h:1: not a history: expected JSONL"),
        (b"hello\n", "found 'hello'"),
        (b"# A page\n", "h:1: not a history: expected JSONL"),
        (b'"text"', "not a history"),
    ],
)
def test_what_is_no_history_is_refused(data: bytes, words: str) -> None:
    """The message says what was expected, what was found and what to do."""
    assert words in refusal(data)


def test_a_file_has_a_bound() -> None:
    """More than the bound is refused unread."""
    assert "larger than 256 MiB" in refusal(bytes(FILE_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("functions", "model"),
    [
        (["read", "write"], "register"),
        (["write"], "register"),
        (["read", "cas"], "cas-register"),
        (["get", "append"], "kv"),
        (["delete", "read"], "cas-map"),
    ],
)
def test_the_model_follows_from_the_functions(functions: list[str], model: str) -> None:
    """The plainest model that has all the functions is taken."""
    assert model_for(history_of(*functions)).name == model


def test_what_is_asked_for_wins_over_what_the_file_says() -> None:
    """The order is: asked for, named by the file, inferred."""
    assert model_for(history_of("read", model="cas-map")).name == "cas-map"
    assert model_for(history_of("read", model="cas-map"), "register").name == "register"
    with pytest.raises(UsageError, match="no model 'map'"):
        model_for(history_of("read"), "map")
    with pytest.raises(BadInput, match=r"h:1: there is no model 'map'.*--model"):
        model_for(history_of("read", model="map"))


def test_a_model_that_cannot_be_inferred_is_asked_for() -> None:
    """Unknown functions are named with their line; mixed ones are listed."""
    with pytest.raises(BadInput, match="h:2: no model has a function 'frob'"):
        model_for(history_of("read", "frob"))
    with pytest.raises(BadInput, match=r"no model has all its functions \(get, read\)"):
        model_for(history_of("read", "get"))


SEEDS = [
    JSONL + b'{"type": "ok", "process": 1, "function": "read", "value": [1, "a", null]}\n',
    b"[" + EDN + b'\n {:process 1, :type :ok, :f :read, :value #{"x" [1 2.5]}} #_ 3 ; x\n]',
    LOG + b"INFO  jepsen.util - 1\t:ok\t:read\t[1 :timed-out]\n",
]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 160), st.integers(0, 3), st.binary(max_size=6)), max_size=4),
)
def test_damaged_files_are_refused_and_never_crash(
    seed: bytes, damage: list[tuple[int, int, bytes]]
) -> None:
    """Whatever the bytes are, the outcome is a history or BadInput."""
    data = bytearray(seed)
    for offset, removed, inserted in damage:
        data[offset : offset + removed] = inserted
    try:
        history = read_history(bytes(data), "h")
    except BadInput as error:
        assert str(error).startswith("h")
    else:
        hash(tuple(history.operations))  # everything in it is frozen
