"""Histories of Jepsen and Knossos: EDN, one map per event, in a vector, a list or one per line.

    {:process 3, :type :invoke, :f :cas, :value [1 2], :time 99286665244}
    {:process 3, :type :info,   :f :cas, :value [1 2], :error :timed-out}

Here ``:fail`` means that the operation certainly did not happen, and ``:info`` that nobody knows
(a call without any return likewise). Events of ``:nemesis`` are faults, no operations. The lines
that Porcupine's key-value tests use are the same with a ``:key``.

Jepsen's tests share a vocabulary, so the functions tell the model. What Jepsen writes differently
from our own format is levelled here:
    * a read takes no argument; what its ``:invoke`` carries is dropped
    * an ``:ok`` of ``cas`` repeats the argument: the result is True
    * of several independent objects, Jepsen writes each value as [key value]: taken apart when
      every call has such a pair and every read is called with [key nil]
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

from quorate.checking.edn import read_edn
from quorate.checking.history import History
from quorate.checking.jsonl import result_of
from quorate.checking.pairing import Pairing, freeze
from quorate.errors import BadInput

_KINDS: Final = {"invoke": "invoke", "ok": "ok", "fail": "fail", "info": "unknown"}
_NO_ARGUMENT: Final = ("read", "acquire", "release")
_VOCABULARIES: Final = (
    ("register", frozenset(["read", "write"])),
    ("cas-register", frozenset(["read", "write", "cas"])),
    ("mutex", frozenset(["acquire", "release"])),
    ("multi-register", frozenset(["txn"])),
    ("kv", frozenset(["get", "put", "append"])),
)
_SHOWN_CHARS = 60
_NEMESIS = "nemesis"


def read_knossos(text: str, source: str) -> History:
    """Read a history.

    Args:
        text: the whole file.
        source: its name, for messages.

    Raises:
        BadInput: with the line, what was expected, what was found and what to do.
    """
    reader = _Reader(source)
    events = read_edn(text, source)
    reader.is_keyed = _is_keyed([fields for _, fields in events])
    for line, fields in events:
        reader.read(line, fields)
    if not events:
        raise BadInput(source, 0, "no event in it; was the history recorded?")
    return reader.pairing.history(_model(reader.pairing))


def _model(pairing: Pairing) -> str:
    """Which model the functions are the vocabulary of; "" when they are of none, or of several."""
    called = pairing.functions.keys()
    acquired = [it for it in pairing.history().operations if it.function == "acquire"]
    if not called or any(it.result is not None for it in acquired):
        return ""  # results of a lock are fences or permits; which is not said
    return next((name for name, functions in _VOCABULARIES if called <= functions), "")


class _Reader:
    """One pass over the maps."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.pairing = Pairing(source)
        self.is_keyed = False  # whether every value is a pair of key and value

    def read(self, line: int, fields: Any) -> None:
        if not isinstance(fields, dict):
            self._refuse(
                line,
                "expected a map, {:process 1, :type :invoke, :f :read, :value nil}; found "
                f"{_shown(fields)}",
            )
        process = fields.get("process")
        if process == _NEMESIS:
            return
        if isinstance(process, bool) or not isinstance(process, (int, str)):
            self._refuse(line, f":process says who calls, as a number; found {_shown(process)}")
        kind = _KINDS.get(str(fields.get("type")))
        if kind is None:
            words = ", ".join(f":{name}" for name in _KINDS)
            self._refuse(line, f":type is one of {words}; found {_shown(fields.get('type'))}")
        function = fields.get("f")
        if not isinstance(function, str):
            self._refuse(line, f":f says what is called, as :read; found {_shown(function)}")
        time_ns = fields.get("time", 0)
        if not isinstance(time_ns, int):
            self._refuse(line, f":time is a whole number of nanoseconds; found {_shown(time_ns)}")
        pairing = self.pairing
        key, value = fields.get("key"), fields.get("value")
        if self.is_keyed and isinstance(value, tuple) and len(value) == 2:
            key, value = value
        if kind == "fail":
            pairing.fail(line, process, function)
        elif kind == "unknown":
            pairing.unknown(line, process, function)
        elif kind == "invoke":
            argument = None if function in _NO_ARGUMENT else self._freeze(line, ":value", value)
            key = self._freeze(line, ":key", key)
            pairing.invoke(line, process, function, key, argument, time_ns)
        else:
            if key is not None:
                pairing.check_key(line, process, self._freeze(line, ":key", key))
            result = result_of(pairing, process, self._freeze(line, ":value", value))
            pairing.ok(line, process, function, result, time_ns)

    def _freeze(self, line: int, name: str, value: Any) -> Any:
        try:
            return freeze(value)
        except ValueError as error:
            self._refuse(line, f"{name}: {error}")

    def _refuse(self, line: int, reason: str) -> NoReturn:
        raise BadInput(self._source, line, reason)


def _is_keyed(events: list[Any]) -> bool:
    reads = 0
    for fields in events:
        if not isinstance(fields, dict) or fields.get("type") != "invoke":
            continue
        value = fields.get("value")
        if not isinstance(value, tuple) or len(value) != 2:
            return False
        if fields.get("f") == "read":
            reads += 1
            if value[1] is not None:
                return False
    return reads > 0


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."
