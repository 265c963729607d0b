"""The text logs of Jepsen's etcd runs that Porcupine's tests use.

    INFO  jepsen.util - 0	:invoke	:cas	[1 2]
    INFO  jepsen.util - 0	:fail	:cas	[1 2]
    INFO  jepsen.util - 3	:info	:write	:timed-out

An object with ``read``, ``write`` and ``cas``. What a line means differs from Jepsen's EDN in one
point: a ``:fail`` of ``:cas`` with its values is an answer, "the value was another one", and so
an operation like any other, with result False. A ``:fail`` of ``:read`` is no operation: a read
changes nothing, so what became of it does not matter. Whatever ``:timed-out`` says of the others
is unknown.

It knows nothing of models. Lines of a log that are no operations are passed over; a line that is
one but says something unknown is refused.
"""

from __future__ import annotations

import re
from typing import Any, Final, NoReturn

from quorate.checking.edn import read_edn
from quorate.checking.history import History
from quorate.checking.pairing import Pairing, freeze
from quorate.errors import BadInput

LINE_CHARS_MAX: Final = 1 << 20
MODEL: Final = "cas-register"
LOG_LINE: Final = re.compile(
    r"^INFO\s+jepsen\.util\s+-\s+(\S+)\s+:([a-z]+)\s+:([a-z-]+)\s*(.*)$", re.MULTILINE
)
"""An operation: process, type, function and value."""

_INTEGER = re.compile(r"-?[0-9]{1,18}\Z")
_TIMED_OUT = "timed-out"


def read_etcd_log(text: str, source: str) -> History:
    """Read a log.

    Args:
        text: the whole file.
        source: its name, for messages.

    Raises:
        BadInput: with the line, what was expected, what was found and what to do.
    """
    pairing = Pairing(source)
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > LINE_CHARS_MAX:
            raise BadInput(
                source,
                number,
                f"{len(line):,} characters in one line; at most {LINE_CHARS_MAX:,}",
            )
        match = LOG_LINE.match(line)
        if match is not None and match[1] != ":nemesis":
            _add(pairing, source, number, match)
    if not pairing.events:
        raise BadInput(source, 0, "no operation in it; was the log cut off?")
    return pairing.history(MODEL)


def _add(pairing: Pairing, source: str, number: int, match: re.Match[str]) -> None:
    process_text, kind, function, text = match.groups()
    if not process_text.isdecimal():
        _refuse(source, number, f"expected a process number; found {process_text!r}")
    process = int(process_text)
    value = _value(text.strip(), source, number)
    if kind == "invoke":
        pairing.invoke(number, process, function, None, None if function == "read" else value)
    elif kind == "ok":
        pairing.ok(number, process, function, True if function == "cas" else value)
    elif kind == "info" or (kind == "fail" and function != "read" and value == _TIMED_OUT):
        pairing.unknown(number, process, function)
    elif kind == "fail" and function == "cas":
        pairing.ok(number, process, function, False)
    elif kind == "fail":
        pairing.fail(number, process, function)
    else:
        _refuse(source, number, f"expected :invoke, :ok, :fail or :info; found :{kind}")


def _value(text: str, source: str, number: int) -> Any:
    if _INTEGER.match(text):
        return int(text)
    if text in ("nil", ""):
        return None
    try:
        (value,) = read_edn(f"({text})", source)
        return freeze(value[1])
    except ValueError:  # BadInput is one; so is more than one value
        _refuse(source, number, f"expected one value, as 3, nil or [1 2]; found {text[:60]!r}")


def _refuse(source: str, line: int, reason: str) -> NoReturn:
    raise BadInput(source, line, reason)
