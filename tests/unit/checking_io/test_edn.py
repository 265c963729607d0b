"""EDN: values, places and bounds."""

from __future__ import annotations

import pytest

from quorate.checking.edn import DEPTH_MAX, read_edn
from quorate.errors import BadInput


def refusal(text: str) -> str:
    with pytest.raises(BadInput) as refused:
        read_edn(text, "h.edn")
    return str(refused.value)


def values(text: str) -> list[object]:
    return [value for _, value in read_edn(text, "h.edn")]


def test_every_kind_of_value() -> None:
    """Scalars, collections, tags and what is skipped."""
    text = r"""
    nil true false 12 -3 +4 7N 1.5 -2e3 3M :key :a/b symbol "te\"x\n\u0041t" \a \newline,
    [1 [2]] (3 4) {:a 1, "b" [2]} #{5} {[1 {:x 2}] 3} {} []
    #inst "2015-01-01" #jepsen.history.Op{:index 0} #:ns{:a 1} #_ignored #_ [1 2] #_ #_ 1 2 ; end
    """
    assert values(text) == [
        None, True, False, 12, -3, 4, 7, 1.5, -2000.0, 3, "key", "a/b", "symbol", 'te"x\nAt', "a",
        "\n", (1, (2,)), (3, 4), {"a": 1, "b": (2,)}, frozenset([5]), {(1, (("x", 2),)): 3}, {},
        (), "2015-01-01", {"index": 0}, {"a": 1},
    ]  # fmt: skip


def test_a_single_collection_is_opened_and_lines_are_known() -> None:
    """The values inside one vector or list come with the lines on which they begin."""
    assert read_edn("; x\n({:a 1}\n\n {:b\n 2} 3)\n", "h") == [(2, {"a": 1}), (4, {"b": 2}), (5, 3)]
    assert read_edn("#_[9] [1\n[2]]", "h") == [(1, 1), (2, (2,))]
    assert read_edn("{:a 1}\n{:a 2}", "h") == [(1, {"a": 1}), (2, {"a": 2})]
    assert read_edn("[1] [2]", "h") == [(1, (1,)), (1, (2,))]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[{:a 1}\n", "h.edn:1: the file ends inside the vector that begins on line 1"),
        ("\n[{:a\n", "inside the map that begins on line 2"),
        ("[1 2)\n", "h.edn:1: ) cannot close the vector that begins on line 1; expected ]"),
        ("1\n]", "h.edn:2: ] closes nothing"),
        ("{:a}", "key without value"),
        ('[1\n"abc', "h.edn:2: the string '\"abc'... is never closed"),
        (r'"\q"', "unknown escape"),
        ("##NaN", "no number"),
        ("[1 #_]", "nothing follows #_"),
        ("1 #_", "nothing follows #_"),
        ("12abc", "'12abc' is not a number"),
        ("9" * 5000, "is not a number"),
        (": 1", "keyword without a name"),
        ('#"regex"', "not EDN"),
    ],
)
def test_what_is_not_edn_is_refused_by_line(text: str, words: str) -> None:
    """Each refusal names the line and what is wrong there."""
    assert words in refusal(text)


def test_deep_nesting_is_refused_not_a_crash() -> None:
    """Nesting has a bound far below the interpreter's."""
    assert values("[" * DEPTH_MAX + "]" * DEPTH_MAX)
    assert f"deeper than {DEPTH_MAX}" in refusal("[" * 200_000)
