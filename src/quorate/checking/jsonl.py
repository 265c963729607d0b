"""JSONL histories: one event a line, the format that quorate writes itself.

    {"history": 1, "model": "cas-map"}
    {"type": "invoke", "process": 1, "function": "write", "key": "a", "value": 3, "time_ns": 123}
    {"type": "ok", "process": 1, "function": "write", "key": "a", "time_ns": 456}

Jepsen's names mean the same: ``f`` for ``function``, ``info`` for ``unknown``, ``time`` for
``time_ns``. The page ``docs/checking.md`` is the format's description for people. It knows
nothing of models: which functions exist and what they take is asked later.

Invariants:
    * what is written here is read back as the same operations in the same order
    * every refusal names the line
    * values are numbers, strings, true, false, null and lists of them; maps are refused, because
      their order means nothing and people would compare them by it
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from quorate.checking.history import History
from quorate.checking.pairing import KINDS, Pairing, freeze
from quorate.errors import BadInput, UsageError

FORMAT_VERSION: Final = 1
LINE_CHARS_MAX: Final = 1 << 20
_SHOWN_CHARS = 60
_NEMESIS = "nemesis"
_SYNONYMS = {"info": "unknown"}


def read_jsonl(text: str, source: str) -> History:
    """Read a history.

    Args:
        text: the whole file.
        source: its name, for messages.

    Raises:
        BadInput: with the line, what was expected, what was found and what to do.
    """
    reader = _Reader(source)
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if line and not line.isspace():
            reader.read(number, line, is_last=number == len(lines))
    if not reader.pairing.events and not reader.has_header:
        raise BadInput(source, 0, "no event in it; was the history recorded?")
    return reader.pairing.history(reader.model)


class _Reader:
    """One pass over the lines."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.pairing = Pairing(source)
        self.model = ""
        self.has_header = False

    def read(self, number: int, line: str, *, is_last: bool) -> None:
        if len(line) > LINE_CHARS_MAX:
            self._refuse(
                number, f"{len(line):,} characters in one line; at most {LINE_CHARS_MAX:,}"
            )
        try:
            fields = _DECODER.decode(line)
        except (ValueError, RecursionError) as error:
            self._refuse_json(number, line, error, is_last=is_last)
        if not isinstance(fields, dict):
            self._refuse(number, f"expected an event, {_EXAMPLE}; found {_shown(line)}")
        if "type" in fields:
            self._event(number, fields)
        elif "history" in fields:
            self._header(number, fields)
        else:
            self._refuse(
                number,
                f'an event has a "type" ({", ".join(KINDS)}); found only '
                f"{', '.join(map(repr, fields)) or 'an empty object'}",
            )

    def _header(self, number: int, fields: dict[str, Any]) -> None:
        if self.has_header or self.pairing.events:
            self._refuse(number, 'a "history" line stands first, and once; were two files joined?')
        if fields["history"] != FORMAT_VERSION:
            self._refuse(
                number,
                f"format version {fields['history']!r}; this reader knows {FORMAT_VERSION}. "
                "Was it written by a newer quorate?",
            )
        model = fields.get("model", "")
        if not isinstance(model, str):
            self._refuse(number, f'"model" is a name in quotes, not {model!r}')
        self.model = model
        self.has_header = True

    def _event(self, number: int, fields: dict[str, Any]) -> None:
        kind = fields["type"]
        if isinstance(kind, str):
            kind = _SYNONYMS.get(kind, kind)
        if kind not in KINDS:
            self._refuse(number, f'"type" is one of {", ".join(KINDS)}; found {fields["type"]!r}')
        process = fields.get("process")
        if process == _NEMESIS:
            return  # faults are no operations
        if isinstance(process, bool) or not isinstance(process, (int, str)):
            found = "none" if process is None else repr(process)
            self._refuse(number, f'"process" says who calls: a number or a string; found {found}')
        function = fields.get("function", fields.get("f"))
        if not isinstance(function, str):
            found = "none" if function is None else repr(function)
            self._refuse(number, f'"function" says what is called, as "read"; found {found}')
        time_ns = fields.get("time_ns", fields.get("time", 0))
        if not isinstance(time_ns, int):
            self._refuse(number, f'"time_ns" is a whole number of nanoseconds; found {time_ns!r}')
        pairing = self.pairing
        if kind == "invoke":
            key = self._freeze(number, "key", fields.get("key"))
            value = self._freeze(number, "value", fields.get("value"))
            if function == "read" and "f" in fields:
                value = None  # Jepsen: what a read is called with means nothing
            pairing.invoke(number, process, function, key, value, time_ns)
            return
        if "key" in fields:
            pairing.check_key(number, process, self._freeze(number, "key", fields["key"]))
        if kind == "ok":
            value = self._freeze(number, "value", fields.get("value"))
            value = result_of(pairing, process, value)
            pairing.ok(number, process, function, value, time_ns)
        elif kind == "fail":
            pairing.fail(number, process, function)
        else:
            pairing.unknown(number, process, function)

    def _freeze(self, number: int, name: str, value: Any) -> Any:
        if value.__class__ in _PLAIN:
            return value
        try:
            return freeze(value)
        except ValueError as error:
            self._refuse(number, f'"{name}": {error}')

    def _refuse_json(self, number: int, line: str, error: Exception, *, is_last: bool) -> NoReturn:
        if isinstance(error, RecursionError):
            self._refuse(number, "nested too deeply")
        if is_last and not line.rstrip().endswith("}"):
            self._refuse(
                number,
                f"the file ends in the middle of an event: {_shown(line[-_SHOWN_CHARS:])}. If its "
                "writer was killed, delete this last line; the call, if it was one, did not count",
            )
        self._refuse(number, f"not JSON ({error}); expected {_EXAMPLE}, found {_shown(line)}")

    def _refuse(self, number: int, reason: str) -> NoReturn:
        raise BadInput(self._source, number, reason)


def result_of(pairing: Pairing, process: int | str, value: Any) -> Any:
    """What a call returned, where Jepsen only repeats the argument.

    ``ok cas [1 2]`` means that it was swapped: True. Other results are what they are.
    """
    called = pairing.open_call(process)
    if called is None or called.function != "cas":
        return value
    repeats = isinstance(value, tuple) and value == called.argument
    return True if value is None or repeats else value


def encode_header(model: str) -> str:
    """The optional first line, without a line feed: which model the history is about."""
    return json.dumps({"history": FORMAT_VERSION, "model": model})


def encode_event(
    kind: str,
    process: int | str,
    function: str,
    value: Any = None,
    *,
    key: Any = None,
    time_ns: int = 0,
) -> str:
    """One event as a line, without a line feed.

    Args:
        kind: "invoke", "ok", "fail" or "unknown".
        process: who calls; one call after the other, none after an unknown one.
        function: what is called.
        value: the argument of a call, or what it returned; left out when None.
        key: the object concerned; left out when None.
        time_ns: when, for pictures; left out when 0.

    Raises:
        UsageError: the kind does not exist, or a value cannot be written as JSON.
    """
    if kind not in KINDS:
        raise UsageError(f"an event is one of {', '.join(KINDS)}, not {kind!r}")
    fields: dict[str, Any] = {"type": kind, "process": process, "function": function}
    if key is not None:
        fields["key"] = key
    if value is not None:
        fields["value"] = value
    if time_ns:
        fields["time_ns"] = time_ns
    try:
        return json.dumps(fields, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{function} of process {process} cannot be written as JSON: {error}; use numbers, "
            "strings, booleans, None and lists"
        ) from None


def encode_jsonl(history: History) -> str:
    """A whole history as text; unknown outcomes stand at its end, failed operations are lost.

    Raises:
        UsageError: a value cannot be written as JSON.
    """
    lines = [encode_header(history.model)] if history.model else []
    lines += [line for _, line in sorted(_events(history), key=lambda event: event[0])]
    return "".join(f"{line}\n" for line in lines)


def _events(history: History) -> Iterator[tuple[int, str]]:
    for operation in history.operations:
        name = (operation.process, operation.function)
        key = operation.key
        called = encode_event(
            "invoke", *name, operation.argument, key=key, time_ns=operation.invoked_ns
        )
        yield operation.invoked, called
        kind, result = "ok", operation.result
        if operation.is_unknown:
            kind, result = "unknown", None
        yield (
            operation.returned,
            encode_event(kind, *name, result, key=key, time_ns=operation.returned_ns),
        )


def _shown(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "...")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


_PLAIN: Final = frozenset([int, str, bool, float, type(None)])
_EXAMPLE: Final = '{"type": "invoke", "process": 1, "function": "read"}'
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)
