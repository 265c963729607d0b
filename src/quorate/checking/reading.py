"""Any history file: which format it is, and which model it is about.

The format is recognised by content, never by the name of the file. It knows nothing of files or
terminals: bytes come in, a History goes out.

Invariants:
    * whatever the bytes are, the outcome is a History or BadInput
    * the model is never guessed where two would judge differently
"""

from __future__ import annotations

import re
from typing import Final

from quorate.checking.history import History
from quorate.checking.jsonl import read_jsonl
from quorate.checking.knossos import read_knossos
from quorate.checking.model import Model
from quorate.checking.models import MODEL_NAMES, model_named
from quorate.checking.porcupine import LOG_LINE, read_etcd_log
from quorate.errors import BadInput, UsageError

FILE_BYTES_MAX: Final = 256 << 20
"""Largest file that is read: some two million operations."""

_LEADING = re.compile(r"(?:[\s,]+|;[^\n]*(?:\n|\Z))*")
_JSON_ARRAY = re.compile(r"\[\s*(?:\{\s*\"|\])")
_JSON_OBJECT = re.compile(r"\{\s*(?:\"|\}\s*(?:\n|\Z))")
_EDN = re.compile(r"[{\[(]|#[_:{A-Za-z]")
_SEARCHED_CHARS = 1 << 20
_SHOWN_CHARS = 60
_EXPECTED = (
    'expected JSONL (lines as {"type": "invoke", "process": 1, "function": "read"}), Jepsen\'s EDN '
    "(maps as {:process 1, :type :invoke, :f :read, :value nil}) or an etcd log of Jepsen (lines "
    "as INFO jepsen.util - 1 :invoke :read nil)"
)
_PACKED: Final = {
    b"\x1f\x8b": "gzip; unpack it first: gunzip -k FILE",
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"\xfd7zXZ": "xz; unpack it first: unxz -k FILE",
    b"\x28\xb5\x2f\xfd": "zstd; unpack it first: unzstd FILE",
    b"BZh": "bzip2; unpack it first: bunzip2 -k FILE",
}


def read_history(data: bytes, source: str) -> History:
    """Read a history in whichever known format it is.

    Args:
        data: the whole file, at most FILE_BYTES_MAX.
        source: its name, for messages.

    Raises:
        BadInput: with file and line, what was expected, what was found and what to do.
    """
    text = _decoded(data, source)
    start = _LEADING.match(text)
    assert start is not None
    first = start.end()
    if first == len(text):
        raise BadInput(source, 0, "the file is empty; was the history written somewhere else?")
    if _JSON_OBJECT.match(text, first):
        return read_jsonl(text, source)
    if _JSON_ARRAY.match(text, first):
        reason = "a JSON array; expected one event a line. To convert it: jq -c '.[]' FILE"
        raise BadInput(source, _line(text, first), reason)
    if _EDN.match(text, first):
        return read_knossos(text, source)
    if LOG_LINE.search(text, first, first + _SEARCHED_CHARS):
        return read_etcd_log(text, source)
    found = text[first : first + _SHOWN_CHARS].partition("\n")[0]
    raise BadInput(source, _line(text, first), f"not a history: {_EXPECTED}; found {found!r}")


def _decoded(data: bytes, source: str) -> str:
    """The bytes as text."""
    if len(data) > FILE_BYTES_MAX:
        raise BadInput(
            source,
            0,
            f"larger than {FILE_BYTES_MAX >> 20} MiB; check it in parts, object by object",
        )
    for magic, words in _PACKED.items():
        if data.startswith(magic):
            raise BadInput(source, 0, f"this is {words}")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadInput(source, 0, "UTF-16; save it as UTF-8")
    zero = data.find(b"\0")
    if zero >= 0:
        line = data.count(b"\n", 0, zero) + 1
        raise BadInput(source, line, f"a zero byte at offset {zero}: binary data, not a history")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(
            source,
            line,
            f"byte 0x{data[error.start]:02x} at offset {error.start} is not UTF-8; histories are "
            "UTF-8 text",
        ) from None


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


# ---- which model --------------------------------------------------------------------------------


def model_for(history: History, name: str = "") -> Model:
    """The model to check a history against; whether each operation fits is asked by the checker.

    Args:
        history: as read.
        name: the model asked for; "" takes the one that the file names, or else the one that its
            functions allow.

    Raises:
        UsageError: no model has the name asked for.
        BadInput: the file names a model that does not exist, or its functions fit none or several.
    """
    if name:
        model = model_named(name)
    elif history.model:
        try:
            model = model_named(history.model)
        except UsageError as error:
            raise BadInput(history.source, 1, f"{error}; or choose with --model") from None
    else:
        model = model_named(_inferred(history))
    return model


def _inferred(history: History) -> str:
    """The name of the only model that has all the functions, or of the plainest of equal ones."""
    functions = {operation.function: operation.line for operation in history.operations}
    if not functions:
        return _PLAINEST[0][0]  # nothing happened: every model says so
    for name, required, allowed in _PLAINEST:
        if required & functions.keys() and functions.keys() <= allowed:
            return name
    has = {name: model_named(name).functions.keys() for name in MODEL_NAMES}
    fitting = [name for name in MODEL_NAMES if functions.keys() <= has[name]]
    if len(fitting) == 1:
        return fitting[0]
    for function, line in functions.items():
        if not any(function in known for known in has.values()):
            reason = f"no model has a function {function!r}; quorate check --models lists all"
            raise BadInput(history.source, line, reason)
    names = ", ".join(sorted(functions))
    reason = f"no model has all its functions ({names}); quorate check --models lists all"
    if fitting:
        reason = f"its functions ({names}) fit several models; choose with --model: "
        reason += ", ".join(fitting)
    raise BadInput(history.source, 0, reason)


_REGISTER: Final = frozenset(["read", "write"])
_PLAINEST: Final = (  # name, one of these has to occur, and nothing but these
    ("register", frozenset(["write"]), _REGISTER),
    ("cas-register", frozenset(["write", "cas"]), _REGISTER | {"cas"}),
    ("kv", frozenset(["put"]), frozenset(["get", "put", "append"])),
)
