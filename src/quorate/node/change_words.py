"""A change of members as JSON, from people's requests, into a ``Change``.

    {"add": [{"node_id": 4, "address": "10.0.0.4:2281", "role": "voter", "priority": 0}],
     "remove": [1], "promote": [4], "demote": [2],
     "priorities": {"3": 10}, "addresses": {"2": "10.0.0.9:2281"}}

Every key may be missing; at least one is there. Whatever is malformed is refused with the key's
name: a change that was half understood would be worse than none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from quorate.consensus.change import Change, MemberRole, NewMember
from quorate.consensus.membership import MEMBERS_MAX
from quorate.errors import SettingsError
from quorate.node.units import parse_address

_T = TypeVar("_T")
_LISTS = ("add", "remove", "promote", "demote")
_TABLES = ("priorities", "addresses")
_MEMBER_KEYS = {"node_id", "address", "role", "priority"}


def parse_change(found: Any) -> Change:
    """Read a change.

    Raises:
        SettingsError: it is malformed; the message says where.
    """
    if not isinstance(found, dict) or not found:
        raise SettingsError(f"a change is an object with some of {', '.join(_LISTS + _TABLES)}")
    for key in found:
        if key not in _LISTS + _TABLES:
            raise SettingsError(f"{key!r} is nothing that a change can do")
    return Change(
        add=_each(found, "add", _member),
        remove=_each(found, "remove", _node),
        promote=_each(found, "promote", _node),
        demote=_each(found, "demote", _node),
        priorities=_pairs(found, "priorities", _count),
        addresses=_pairs(found, "addresses", _address),
    )


def _each(found: dict[str, Any], key: str, parse: Callable[[Any], _T]) -> tuple[_T, ...]:
    items = found.get(key, [])
    if not isinstance(items, list) or len(items) > MEMBERS_MAX:
        raise SettingsError(f"{key!r} is not a list of members")
    return tuple(_named(key, parse, item) for item in items)


def _pairs(
    found: dict[str, Any], key: str, parse: Callable[[Any], _T]
) -> tuple[tuple[int, _T], ...]:
    table = found.get(key, {})
    if not isinstance(table, dict) or len(table) > MEMBERS_MAX:
        raise SettingsError(f"{key!r} is not a table by node id")
    return tuple(
        (_named(key, _node_text, node), _named(key, parse, value)) for node, value in table.items()
    )


def _named(key: str, parse: Callable[[Any], _T], item: Any) -> _T:
    try:
        return parse(item)
    except SettingsError as error:
        raise SettingsError(f"{key!r}: {error}") from None


def _count(item: Any) -> int:
    if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item < 1 << 16:
        raise SettingsError(f"{item!r} is no small whole number")
    return item


def _node(item: Any) -> int:
    if not isinstance(item, int) or isinstance(item, bool) or not 0 < item < 1 << 32:
        raise SettingsError(f"{item!r} is no node id")
    return item


def _node_text(item: str) -> int:
    return _node(int(item) if item.isdecimal() and len(item) <= 10 else item)


def _address(item: Any) -> str:
    address = parse_address(str(item))
    if address.is_wildcard:
        raise SettingsError(f"{address} is no address that others can dial")
    return str(address)


def _member(item: Any) -> NewMember:
    if not isinstance(item, dict) or not set(item) <= _MEMBER_KEYS:
        raise SettingsError(f"a member has {', '.join(sorted(_MEMBER_KEYS))}, not {item!r:.200}")
    try:
        role = MemberRole(item.get("role", "voter"))
    except ValueError:
        raise SettingsError(f"{item['role']!r} is no role: voter, learner or witness") from None
    return NewMember(
        _node(item.get("node_id")),
        role,
        _address(item.get("address", "")),
        _count(item.get("priority", 0)),
    )
