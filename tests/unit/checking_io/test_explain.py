"""Counter-examples as text: complete, narrow, and harmless to a terminal."""

from __future__ import annotations

import textwrap

import pytest

from quorate.checking.explain import explain, shorten
from quorate.checking.verdict import Counterexample

from .pictures import MODEL, crowd, hostile, operation, stale_read


def test_a_small_window_is_drawn_whole() -> None:
    """Sentence, state before, bars, longest order and reason: the picture itself."""
    sentence, _, picture = explain(stale_read(), MODEL).partition("\n\n")
    assert sentence.replace("\n", " ") == (
        "No order of these 3 operations on 'a' explains the answer that process 1 got: "
        '"read -> 3" (called on line 3). Without that answer there is one.'
    )
    assert picture == textwrap.dedent("""\
        Object 'a', before these operations: nothing

        process 0  ├[1] write 0┤
        process 1               ┝[2] read -> 3┥
        process 2                ├[3] write 4: outcome unknown┄▸

        ━ could come next, but its result does not fit   ┄ outcome unknown

        The longest order found has 2 of the 3, with the state after each:
           1. [1] process 0  write 0                   -> 0
           2. [3] process 2  write 4: outcome unknown  -> 4

        After that, one of these would have to come next, and none can:
              [2] process 1  read -> 3 (line 3): the value is 4, and the answer was 3
        """)


@pytest.mark.parametrize("width", [60, 100, 140])
@pytest.mark.parametrize("count", [3, 12, 40, 300])
def test_no_line_is_wider_than_asked_for(width: int, count: int) -> None:
    """Wide windows become numbers with a legend, then strips below each other."""
    text = explain(crowd(count), MODEL, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert f"[{count}]" in text
    assert ("are left out" in text) == (count > 60)


def test_calls_and_returns_keep_their_order() -> None:
    """A bar that ends before another begins is drawn so, however long the words are."""
    first = operation(0, "write", "x" * 30, 0, 2)
    second = operation(1, "write", 1, 1, 4)
    third = operation(2, "write", 2, 3, 5)
    found = Counterexample(None, [first, second, third], "0", [], [])
    rows = [line for line in explain(found, MODEL).splitlines() if line.startswith("process")]
    ends = [(row.index("├"), row.rindex("┤")) for row in rows]
    assert ends[0][0] < ends[1][0] < ends[0][1] < ends[2][0] < ends[1][1] < ends[2][1]


def test_plain_characters_on_request() -> None:
    """A terminal without box drawing gets ASCII."""
    assert explain(stale_read(), MODEL, ascii_only=True).isascii()


def test_nothing_of_a_history_moves_the_cursor() -> None:
    """Control characters and lone surrogates are replaced."""
    text = explain(hostile(), MODEL)
    text.encode()
    assert all(char.isprintable() or char == "\n" for char in text)


def test_a_single_operation_can_be_a_counterexample() -> None:
    """There is a sentence and a picture also where nothing came before."""
    read = operation(1, "read", 3, 0, 1)
    text = explain(
        Counterexample(None, [read], "nothing", [], [(read, "it is empty")], read), MODEL
    )
    assert text.startswith('Nothing explains the answer that process 1 got: "read -> 3"')
    assert "would have to come first, and none can:" in text


def test_nobody_is_blamed_where_the_last_return_is_not_known() -> None:
    """The sentence claims no more than the counter-example says."""
    assert explain(crowd(5), MODEL).startswith(
        "No order of these 5 operations explains their results.\n"
    )


def test_shortening_keeps_both_ends() -> None:
    """Values differ at their ends, so the middle goes."""
    assert shorten("abcdefghij", 7) == "abc…hij"
    assert shorten("abc", 3) == "abc"
