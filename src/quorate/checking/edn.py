"""EDN, as far as histories need it: Clojure's data notation, read into Python values.

Maps become dicts, vectors and lists tuples, sets frozensets, keywords and symbols strings without
their colon, ``nil`` None, characters strings. A tagged value (``#jepsen.history.Op{...}``,
``#inst "..."``) is the value alone. Commas are blanks; ``;`` begins a comment; ``#_`` drops the
next value. It knows nothing of histories: ``knossos.py`` does.

Invariants:
    * nesting is a list here, not recursion: deeper than DEPTH_MAX is refused, never a crash
    * every value read belongs to a place in the text, and every refusal names its line
    * nothing is evaluated or looked up

Rejected: a library (the checker stands on the standard library alone), and ratios, metadata and
namespaced destructuring, which histories do not contain.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Any, Final, NoReturn

from quorate.errors import BadInput

DEPTH_MAX: Final = 64
"""Deepest nesting that is read."""

_TOKEN = re.compile(
    r"""[\s,]+ | ;[^\n]* | \#(?![_\#])[^\s,;"\[\](){}\\]+  # skipped: blanks, comments, tags
      | (?P<string>"(?:[^"\\]++|\\.)*+")
      | (?P<discard>\#_)
      | (?P<symbolic>\#\#[A-Za-z]+)
      | (?P<open>[\[({]|\#\{)
      | (?P<close>[\])}])
      | (?P<character>\\(?:[^\s,;"\[\](){}]+|.))
      | (?P<atom>[^\s,;"\[\](){}\\\#][^\s,;"\[\](){}\\]*)
    """,
    re.VERBOSE | re.DOTALL,
)
_INTEGER = re.compile(r"[+-]?[0-9]+N?\Z")
_FLOAT = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?M?\Z")
_NUMBER_DIGITS_MAX = 4000
_WORDS: Final = {"nil": None, "true": True, "false": False}
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPES: Final = {
    "t": "\t", "r": "\r", "n": "\n", "b": "\b", "f": "\f", '"': '"', "\\": "\\",
}  # fmt: skip
_CHARACTERS: Final = {"newline": "\n", "return": "\r", "space": " ", "tab": "\t"}
_CLOSES: Final = {"[": "]", "(": ")", "{": "}", "#{": "}"}
_NAMES: Final = {"[": "vector", "(": "list", "{": "map", "#{": "set"}
_SHOWN_CHARS = 40


class _Level:
    """A collection that is being read; ``drops`` counts ``#_`` that wait for their value."""

    __slots__ = ("drops", "items", "offset", "offsets", "opener")

    def __init__(self, opener: str, offset: int) -> None:
        self.opener = opener
        self.offset = offset
        self.items: list[Any] = []
        self.offsets: list[int] = []
        self.drops = 0


def read_edn(text: str, source: str) -> list[tuple[int, Any]]:
    """Read the values of a text, or those inside when it is a single vector or list.

    Args:
        text: the whole file.
        source: its name, for messages.

    Returns:
        Each value with the line on which it begins.

    Raises:
        BadInput: the text is not EDN, is cut off, or nests deeper than DEPTH_MAX.
    """
    return _EdnReader(text, source).read()


class _EdnReader:
    """One pass over one text."""

    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source
        self._line_feeds = [match.start() for match in re.finditer("\n", text)]
        self._levels = [_Level("", 0)]
        self._inside = _Level("", 0)  # the first collection of the top level, when closed

    def read(self) -> list[tuple[int, Any]]:
        offset, end = 0, len(self._text)
        while offset < end:
            match = _TOKEN.match(self._text, offset)
            if match is None:
                self._refuse_character(offset)
            if match.lastgroup is not None:
                self._take(match.lastgroup, match.group(), offset)
            offset = match.end()
        level = self._levels.pop()
        if self._levels:
            self._refuse(
                self._line_feeds[-1] if self._text.endswith("\n") else end,
                f"the file ends inside the {_NAMES[level.opener]} that begins on line "
                f"{self._line_at(level.offset)}; it is cut off, or a {_CLOSES[level.opener]} is "
                "missing",
            )
        if level.drops:
            self._refuse(end, "nothing follows #_, which drops the next value")
        if len(level.items) == 1 and isinstance(level.items[0], tuple):
            level = self._inside
        return [(self._line_at(at), item) for at, item in zip(level.offsets, level.items)]  # noqa: B905

    def _take(self, kind: str, token: str, offset: int) -> None:
        if kind == "atom":
            self._add(_WORDS[token] if token in _WORDS else self._atom(token, offset), offset)
        elif kind == "open":
            if len(self._levels) > DEPTH_MAX:
                self._refuse(offset, f"nested deeper than {DEPTH_MAX}")
            self._levels.append(_Level(token, offset))
        elif kind == "close":
            self._close(token, offset)
        elif kind == "string":
            self._add(self._string(token, offset), offset)
        elif kind == "discard":
            self._levels[-1].drops += 1
        elif kind == "character":
            self._add(_CHARACTERS.get(token[1:], token[1:]), offset)
        else:
            self._refuse(offset, f"{token} is no number that can be compared")

    def _add(self, value: Any, offset: int) -> None:
        level = self._levels[-1]
        if level.drops:
            level.drops -= 1
            return
        level.items.append(value)
        level.offsets.append(offset)

    def _close(self, token: str, offset: int) -> None:
        level = self._levels.pop()
        if not self._levels:
            self._refuse(offset, f"{token} closes nothing")
        name, opened = _NAMES[level.opener], self._line_at(level.offset)
        if token != _CLOSES[level.opener]:
            self._refuse(
                offset,
                f"{token} cannot close the {name} that begins on line {opened}; expected "
                f"{_CLOSES[level.opener]}",
            )
        if level.drops:
            self._refuse(offset, f"nothing follows #_, which drops the next value of the {name}")
        if level.opener == "{":
            if len(level.items) % 2:
                self._refuse(
                    offset, f"the map that begins on line {opened} has a key without value"
                )
            keys = map(_hashable, level.items[::2])
            self._add(dict(zip(keys, level.items[1::2])), level.offset)  # noqa: B905
        elif level.opener == "#{":
            self._add(frozenset(map(_hashable, level.items)), level.offset)
        else:
            if len(self._levels) == 1 and not self._levels[0].items:
                self._inside = level
            self._add(tuple(level.items), level.offset)

    def _atom(self, token: str, offset: int) -> Any:
        first = token[0]
        if first == ":":
            if len(token) == 1:
                self._refuse(offset, "a keyword without a name")
            return token[1:]
        if first.isdigit() or (first in "+-" and token[1:2].isdigit()):
            if len(token) <= _NUMBER_DIGITS_MAX:
                if _INTEGER.match(token):
                    return int(token.rstrip("N"))
                if _FLOAT.match(token):
                    return float(token.rstrip("M"))
            self._refuse(offset, f"{token[:_SHOWN_CHARS]!r} is not a number that is understood")
        return token

    def _string(self, token: str, offset: int) -> str:
        body = token[1:-1]
        if "\\" not in body:
            return body

        def unescaped(match: re.Match[str]) -> str:
            escape = match.group(1)
            if len(escape) > 1:
                return chr(int(escape[1:], 16))
            if escape not in _ESCAPES:
                self._refuse(offset, f"unknown escape \\{escape} in a string")
            return _ESCAPES[escape]

        return _ESCAPE.sub(unescaped, body)

    def _line_at(self, offset: int) -> int:
        return bisect_left(self._line_feeds, offset) + 1

    def _refuse_character(self, offset: int) -> NoReturn:
        found = self._text[offset : offset + _SHOWN_CHARS].partition("\n")[0]
        if found.startswith('"'):
            self._refuse(offset, f"the string {found!r}... is never closed; is the file cut off?")
        self._refuse(offset, f"not EDN: {found!r}")

    def _refuse(self, offset: int, reason: str) -> NoReturn:
        raise BadInput(self._source, self._line_at(offset), reason)


def _hashable(value: Any) -> Any:
    """A map or set key that Python can keep in a dict; maps inside become pairs."""
    if isinstance(value, dict):
        return tuple((key, _hashable(item)) for key, item in value.items())
    if isinstance(value, tuple):
        return tuple([_hashable(item) for item in value])
    return value
