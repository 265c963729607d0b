"""What clients of a tree ask: as words in scenario files, and as requests on the wire.

A step is one word on the client itself, or requests that are sent at once, without waiting for the
answers between them:

    open TIMEOUT            want sessions with this timeout from now on
    sleep DURATION          stand still: neither read nor ping
    die                     lose power; whatever follows is a new process with a new session
    move [NODE]             go to another node with the session

    create PATH VALUE [ephemeral] [sequential]
    set PATH VALUE [VERSION]            VERSION is a number, or `seen`: what this client saw last
    delete PATH [VERSION]
    get PATH [watch]
    exists PATH [watch]
    children PATH [watch]
    sync PATH
    multi PART + PART ...               PART is create, set, delete, or check PATH VERSION
    close
    once REQUEST                        a create, set, delete or multi, asked for exactly once: sent
                                        again after a broken connection until it is answered

    set /a 5 seen ; get /a watch ; sync /a ; get /a

Knows nothing of connections, answers or judges.

Invariant: what ``parse_step`` accepts can be sent; what the plan draws, it accepts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Final, NamedTuple, TypeAlias

from quorate.protocol.jute import encode_buffer
from quorate.protocol.zookeeper import ANY_VERSION, OpCode
from quorate.protocol.zookeeper_client import (
    CLOSE_SESSION,
    Part,
    check,
    create,
    delete,
    get,
    multi,
    set_data,
)
from quorate.simulation.units import parse_duration_us

SEEN: Final = -2
"""The version that the client saw last, to be filled in when the request is sent."""

EPHEMERAL: Final = 1
SEQUENTIAL: Final = 2
PIPELINE_MAX: Final = 200
TIMEOUT_US_MAX: Final = 40_000_000


class Ask(NamedTuple):
    """One request.

    Attributes:
        verb: "create", "set", "delete", "check", "get", "exists", "children", "sync", "multi",
            "close"; "watches" is what a reconnecting client says by itself.
        path: of the znode.
        value: new data.
        version: expected version; ANY_VERSION, or SEEN.
        flags: EPHEMERAL and SEQUENTIAL, of a create.
        watch: whether a read leaves a watch.
        parts: of a multi.
        is_once: whether it is asked for exactly once.
    """

    verb: str
    path: bytes = b""
    value: bytes = b""
    version: int = ANY_VERSION
    flags: int = 0
    watch: bool = False
    parts: tuple[Ask, ...] = ()
    is_once: bool = False


class Conduct(NamedTuple):
    """What a client does besides asking: "open", "sleep", "die" or "move"."""

    verb: str
    number: int = 0  # microseconds, or a node; 0: none given


TreeStep: TypeAlias = Conduct | tuple[Ask, ...]

WRITES: Final = frozenset({"create", "set", "delete", "multi", "close"})
READS: Final = frozenset({"get", "exists", "children"})
_CONDUCT: Final = frozenset({"open", "sleep", "die", "move"})
_PARTS: Final = frozenset({"create", "set", "delete", "check"})
_SEPARATOR: Final = ";"
_PLUS: Final = "+"


def parse_step(words: tuple[str, ...]) -> TreeStep:
    """Read a step.

    Raises:
        ValueError: it says nothing that a client can do; the message says what it could be.
    """
    if words[0] in _CONDUCT:
        return _parse_conduct(words[0], words[1:])
    groups = _split(words, _SEPARATOR)
    if len(groups) > PIPELINE_MAX:
        raise ValueError(f"{len(groups)} requests at once; at most {PIPELINE_MAX}")
    asks = tuple(_parse_ask(group) for group in groups)
    if any(ask.verb == "close" for ask in asks[:-1]):
        raise ValueError("nothing can be asked behind close")
    return asks


def _split(words: tuple[str, ...], separator: str) -> list[tuple[str, ...]]:
    groups = groupby(words, key=lambda word: word == separator)
    return [tuple(group) for is_separator, group in groups if not is_separator]


def _parse_conduct(verb: str, rest: tuple[str, ...]) -> Conduct:
    if verb == "die" and not rest:
        return Conduct(verb)
    if verb == "move" and not rest:
        return Conduct(verb)
    if verb == "move" and len(rest) == 1 and rest[0].isdigit() and int(rest[0]) > 0:
        return Conduct(verb, int(rest[0]))
    if verb in ("open", "sleep") and len(rest) == 1:
        duration_us = parse_duration_us(rest[0])
        if 0 < duration_us <= TIMEOUT_US_MAX:
            return Conduct(verb, duration_us)
    raise ValueError(
        "a client can: open TIMEOUT, sleep DURATION (both up to 40s), die, move [NODE]"
    )


def _parse_ask(words: tuple[str, ...]) -> Ask:
    verb, rest = words[0], words[1:]
    shape = _SHAPES.get(verb)
    if shape is not None:
        ask = shape(verb, rest)
        if ask is not None:
            return ask
    raise ValueError(
        f"`{' '.join(words)}` is no request: create PATH VALUE [ephemeral] [sequential], "
        "set PATH VALUE [VERSION], delete PATH [VERSION], get|exists|children PATH [watch], "
        "sync PATH, multi PART + PART ..., close, once REQUEST; VERSION is a number or `seen`"
    )


def _path(word: str) -> bytes:
    if not word.startswith("/") or (word.endswith("/") and word != "/") or "//" in word:
        raise ValueError(f"{word!r} is no path: write /a/b")
    return word.encode()


def _version(words: tuple[str, ...]) -> int | None:
    """The version at the end of a request; None when these words are none."""
    if not words:
        return ANY_VERSION
    if words == ("seen",):
        return SEEN
    return int(words[0]) if len(words) == 1 and words[0].isdigit() else None


def _parse_create(verb: str, rest: tuple[str, ...]) -> Ask | None:
    if len(rest) < 2:
        return None
    flags = 0
    for word in rest[2:]:
        flag = {"ephemeral": EPHEMERAL, "sequential": SEQUENTIAL}.get(word, 0)
        if not flag or flags & flag:
            return None
        flags |= flag
    return Ask(verb, _path(rest[0]), rest[1].encode(), flags=flags)


def _parse_set(verb: str, rest: tuple[str, ...]) -> Ask | None:
    version = _version(rest[2:])
    if len(rest) < 2 or version is None:
        return None
    return Ask(verb, _path(rest[0]), rest[1].encode(), version)


def _parse_versioned(verb: str, rest: tuple[str, ...]) -> Ask | None:
    version = _version(rest[1:])
    return None if not rest or version is None else Ask(verb, _path(rest[0]), version=version)


def _parse_read(verb: str, rest: tuple[str, ...]) -> Ask | None:
    if len(rest) == 1 or (rest[1:] == ("watch",) and verb != "sync"):
        return Ask(verb, _path(rest[0]), watch=len(rest) > 1)
    return None


def _parse_multi(verb: str, rest: tuple[str, ...]) -> Ask | None:
    parts: list[Ask] = []
    for words in _split(rest, _PLUS):
        if words[0] == "check" and len(words) == 3:
            part = _parse_versioned("check", words[1:])
        else:
            part = _parse_ask(words) if words[0] in _PARTS else None
        if part is None or part.flags:
            return None
        parts.append(part)
    return Ask(verb, parts=tuple(parts)) if parts else None


def _parse_once(verb: str, rest: tuple[str, ...]) -> Ask | None:
    del verb
    if not rest or rest[0] not in WRITES - {"close"}:
        return None
    return _parse_ask(rest)._replace(is_once=True)


def _parse_close(verb: str, rest: tuple[str, ...]) -> Ask | None:
    return None if rest else Ask(verb)


_SHAPES: Final[dict[str, Callable[[str, tuple[str, ...]], Ask | None]]] = {
    "create": _parse_create,
    "set": _parse_set,
    "delete": _parse_versioned,
    "get": _parse_read,
    "exists": _parse_read,
    "children": _parse_read,
    "sync": _parse_read,
    "multi": _parse_multi,
    "close": _parse_close,
    "once": _parse_once,
}


# ---- onto the wire -------------------------------------------------------------------------------


def resolve(ask: Ask, seen: Mapping[bytes, int]) -> Ask:
    """Fill in the versions that the client saw; a znode it never saw has none: 0."""
    if ask.parts:
        return ask._replace(parts=tuple(resolve(part, seen) for part in ask.parts))
    return ask._replace(version=seen.get(ask.path, 0)) if ask.version == SEEN else ask


_OPCODES: Final = {
    "get": OpCode.GET_DATA,
    "exists": OpCode.EXISTS,
    "children": OpCode.GET_CHILDREN2,
}


def encode(ask: Ask) -> Part:
    """The request as the wire has it."""
    verb = ask.verb
    if verb in READS:
        return get(_OPCODES[verb], ask.path, watch=ask.watch)
    if verb == "set":
        return set_data(ask.path, ask.value, ask.version)
    if verb == "create":
        return create(ask.path, ask.value, ask.flags)
    if verb == "delete":
        return delete(ask.path, ask.version)
    if verb == "check":
        return check(ask.path, ask.version)
    if verb == "multi":
        return multi(encode(part) for part in ask.parts)
    if verb == "sync":
        return Part(OpCode.SYNC, encode_buffer(ask.path))
    assert verb == "close"
    return CLOSE_SESSION
