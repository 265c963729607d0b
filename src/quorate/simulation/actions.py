"""The vocabulary of faults: names, arguments, and how scenario files write them.

Each action is a method of ``VirtualCluster``; this module knows what its arguments look like in
text and nothing of what it does. It is the only list: the plan draws from it, files are read and
written with it, ``quorate simulate --help`` shows it.

Invariant: what is written reads back equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, NamedTuple

from quorate.simulation.ambush import MOMENTS
from quorate.simulation.network import LinkQuality
from quorate.simulation.units import format_duration, parse_duration_us

ROT_KINDS = ("wal", "snapshot", "identity", "any")
ROT_AT_END = "end-of-wal"
BLOWS = (
    "crash",
    "kill",
    "pause",
    "isolate",
    "isolate-inbound",
    "isolate-outbound",
    "clog-inbound",
    "reset-links",
    "stall-disk",
)


class Action(NamedTuple):
    """Something that happens to the cluster.

    Attributes:
        at_us: when, in microseconds from the start of the run.
        name: one of ACTIONS.
        arguments: as the method of VirtualCluster takes them.
    """

    at_us: int
    name: str
    arguments: tuple[Any, ...] = ()


class _Shape(NamedTuple):
    """How one kind of argument is written."""

    usage: str
    parse: Callable[[str], Any]
    format: Callable[[Any], str]


def _parse_nodes(text: str) -> tuple[int, ...]:
    return tuple(_parse_node(part) for part in text.split(",") if part)


def _parse_node(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1000:
        raise ValueError(f"{text!r} is no node: write its number, 1 or more")
    return int(text)


def _parse_count(text: str) -> int:
    if not text.lstrip("-").isdigit():
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def _parse_rot(text: str) -> str:
    if text not in (*ROT_KINDS, ROT_AT_END):
        raise ValueError(
            f"{text!r} does not rot: write one of {', '.join((*ROT_KINDS, ROT_AT_END))}"
        )
    return text


def _parse_kind(text: str) -> str:
    if text not in ROT_KINDS:
        raise ValueError(f"{text!r} does not decay: write one of {', '.join(ROT_KINDS)}")
    return text


def _parse_blow(text: str) -> str:
    if text not in BLOWS:
        raise ValueError(f"{text!r} is no blow: write one of {', '.join(BLOWS)}")
    return text


def _parse_moment(text: str) -> str:
    if text not in MOMENTS:
        raise ValueError(f"{text!r} is no moment: write one of {', '.join(MOMENTS)}")
    return text


def _parse_ppm(text: str) -> int:
    if not text.endswith("ppm"):
        raise ValueError(f"{text!r} is no drift: write millionths, as in 5000ppm")
    return _parse_count(text[:-3])


def _parse_quality(text: str) -> LinkQuality:
    """Read ``loss=0.05,delay_probability=0.1,delay_us=20000``; ``good`` is a perfect link."""
    perfect, given = LinkQuality(), {}
    known = [field.name for field in fields(LinkQuality)]
    for part in text.split(",") if text != "good" else ():
        name, equals, value = part.partition("=")
        if not equals or name not in known:
            raise ValueError(f"{part!r} is no quality of a link: {', '.join(known)}")
        given[name] = _quality_value(getattr(perfect, name), value)
    try:
        return LinkQuality(**given)
    except AssertionError:
        raise ValueError(f"{text!r}: a probability is 0 to 1, a time not negative") from None


def _quality_value(default: Any, text: str) -> Any:
    try:
        if isinstance(default, tuple):
            low, _, high = text.partition("..")
            return (int(low), int(high))
        if isinstance(default, bool):
            return {"yes": True, "no": False}[text]
        return type(default)(text)
    except (ValueError, KeyError):
        raise ValueError(f"{text!r} is no value like {default!r}") from None


def _format_quality(quality: LinkQuality) -> str:
    perfect, parts = LinkQuality(), []
    for field in fields(LinkQuality):
        value = getattr(quality, field.name)
        if value == getattr(perfect, field.name):
            continue
        if isinstance(value, tuple):
            value = f"{value[0]}..{value[1]}"
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        parts.append(f"{field.name}={value}")
    return ",".join(parts) or "good"


_NODE = _Shape("NODE", _parse_node, str)
_NODES = _Shape("NODES", _parse_nodes, lambda nodes: ",".join(map(str, nodes)))
_COUNT = _Shape("COUNT", _parse_count, str)
_DURATION = _Shape("DURATION", parse_duration_us, format_duration)
_ROT = _Shape("|".join((*ROT_KINDS, ROT_AT_END)), _parse_rot, str)
_KIND = _Shape("|".join(ROT_KINDS), _parse_kind, str)
_BLOW = _Shape("|".join(BLOWS), _parse_blow, str)
_MOMENT = _Shape("|".join(MOMENTS), _parse_moment, str)
_PPM = _Shape("MILLIONTHSppm", _parse_ppm, lambda ppm: f"{ppm}ppm")
_QUALITY = _Shape("QUALITY", _parse_quality, _format_quality)

_SHAPES: dict[str, tuple[_Shape, ...]] = {
    "crash": (_NODE,),
    "crash-after": (_NODE, _COUNT),
    "kill": (_NODE,),
    "restart": (_NODE,),
    "restart-and-crash": (_NODE, _COUNT),
    "pause": (_NODE,),
    "resume": (_NODE,),
    "transfer": (_NODE,),
    "strike-leader": (_BLOW, _DURATION),
    "add-member": (_NODE,),
    "add-learner": (_NODE,),
    "add-witness": (_NODE,),
    "remove-member": (_NODE,),
    "promote-member": (_NODE,),
    "demote-member": (_NODE,),
    "replace-members": (_NODES, _NODES),
    "prefer": (_NODE, _COUNT),
    "strike-when": (_MOMENT, _NODES, _BLOW, _DURATION, _DURATION),
    "link-quality": (_QUALITY,),
    "slow-node": (_NODE, _QUALITY),
    "cut": (_NODE, _NODE),
    "partial": (_NODE, _NODE),
    "partition": (_NODES, _NODES),
    "isolate": (_NODE,),
    "isolate-inbound": (_NODE,),
    "isolate-outbound": (_NODE,),
    "clog-inbound": (_NODE,),
    "reset-links": (_NODE,),
    "bridge": (_NODES, _NODES, _NODE),
    "chain": (_NODES,),
    "clog": (_NODE, _NODE),
    "unclog": (_NODE, _NODE),
    "flap": (_NODE, _NODE, _DURATION, _DURATION),
    "heal": (),
    "rot": (_NODE, _ROT),
    "decay": (_NODE, _KIND),
    "misdirect-write": (_NODE,),
    "lose-write": (_NODE,),
    "wipe": (_NODE,),
    "fail-sync": (_NODE,),
    "fail-reads": (_NODE,),
    "fill": (_NODE,),
    "heal-disk": (_NODE,),
    "slow-disk": (_NODE, _COUNT),
    "stall-disk": (_NODE, _DURATION),
    "jump-clock": (_NODE, _DURATION),
    "drift-clock": (_NODE, _PPM),
}

ACTIONS = tuple(_SHAPES)
"""Names of all actions."""


def method_name(name: str) -> str:
    """The method of VirtualCluster that carries the action out."""
    return name.replace("-", "_")


def usage(name: str) -> str:
    """How the action is written, for help and error messages."""
    return " ".join([name, *(shape.usage for shape in _SHAPES[name])])


def format_action(action: Action) -> str:
    """Write an action as it stands in a scenario file, without its time."""
    shapes = _SHAPES[action.name]
    words = [shape.format(value) for shape, value in zip(shapes, action.arguments, strict=True)]
    return " ".join([action.name, *words])


def parse_action(at_us: int, words: list[str]) -> Action:
    """Read an action.

    Raises:
        ValueError: unknown, or with arguments that do not fit; the message says what would.
    """
    name, *rest = words
    if name not in _SHAPES:
        raise ValueError(f"unknown action {name!r}; known: {', '.join(ACTIONS)}")
    shapes = _SHAPES[name]
    if len(rest) != len(shapes):
        raise ValueError(f"{name} takes {len(shapes)} arguments: {usage(name)}")
    values = [shape.parse(word) for shape, word in zip(shapes, rest, strict=True)]
    return Action(at_us, name, tuple(values))


def nodes_of(action: Action) -> list[int]:
    """All nodes that the action names."""
    named: list[int] = []
    for shape, value in zip(_SHAPES[action.name], action.arguments, strict=True):
        if shape is _NODE:
            named.append(value)
        elif shape is _NODES:
            named += value
    return named
