"""Small histories for every model, made by running it, and the slowest honest checker.

The histories are legal by construction until a result is exchanged. The brute-force checker tries
all orders: no memo, no mask, nothing left out but what the definition forbids.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from typing import Any

from hypothesis import strategies as st

from quorate.checking.history import UNKNOWN_RETURN, Operation
from quorate.checking.model import ILLEGAL, Model

Template = tuple[str, Any, Any, Any]  # function, key, argument, result

VALUES = (None, 1, 2)


def _register() -> list[Template]:
    return [
        *[("read", None, None, value) for value in VALUES],
        *[("write", None, value, None) for value in (1, 2)],
        *[
            ("cas", None, pair, result)
            for pair in itertools.product(VALUES, (1, 2))
            for result in (True, False)
        ],
    ]


def _cas_map() -> list[Template]:
    texts = (None, "a", "b", "ab")
    return [
        *[("read", "k", None, value) for value in texts],
        *[("write", "k", value, None) for value in ("a", "b")],
        *[("append", "k", value, None) for value in ("a", "b")],
        *[("delete", "k", None, result) for result in (None, True, False)],
        *[("cas", "k", pair, told) for pair in (("a", "b"), (None, "a")) for told in (True, False)],
    ]


def _kv() -> list[Template]:
    return [
        *[("get", "k", None, value) for value in ("", "a", "b", "ab", "ba", "bb", "aba")],
        *[("put", "k", value, None) for value in ("a", "b", "")],
        *[("append", "k", value, None) for value in ("a", "b")],
    ]


def _fenced(key: Any) -> list[Template]:
    fences = (1, 2, 3, 4)
    return [
        *[("acquire", key, None, fence) for fence in fences],
        ("acquire", key, None, False),
        *[("release", key, fence, told) for fence in fences for told in (None, False)],
        *[("expire", key, fence, None) for fence in (None, *fences)],
    ]


def _tree(paths: Sequence[str], *, children: bool) -> list[Template]:
    found: list[Template] = []
    for path in paths:
        found += [("create", path, "x", told) for told in (None, "node-exists", "no-node")]
        found += [
            ("set", path, ("y", expected), told)
            for expected in (None, 0, 1)
            for told in (1, 2, None, "bad-version", "no-node")
        ]
        found += [
            ("delete", path, expected, told)
            for expected in (None, 0)
            for told in (None, "bad-version", "no-node", "not-empty")
        ]
        found += [("get", path, None, told) for told in (("x", 0), ("y", 1), ("y", 2), "no-node")]
        found += [("exists", path, None, told) for told in (None, 0, 1, False)]
        if children:
            found += [("children", path, None, told) for told in ((), ("b",), "no-node")]
    return found


def _transactions() -> list[Template]:
    reads = [
        ("txn", None, (("read", "x", None), ("r", "y", None)), (("read", "x", x), ("r", "y", y)))
        for x, y in itertools.product(VALUES, VALUES)
    ]
    both = [("txn", None, (("write", "x", value), ("w", "y", value)), None) for value in (1, 2)]
    mixed = [
        ("txn", None, (("r", "x", None), ("w", "x", 2)), (("r", "x", value), ("w", "x", 2)))
        for value in VALUES
    ]
    return [*reads, *both, *mixed, ("txn", None, (("w", "x", 1),), None)]


POOLS: dict[str, list[Template]] = {
    "register": _register(),
    "cas-register": _register(),
    "cas-map": _cas_map(),
    "kv": _kv(),
    "counter": [
        *[("add", None, number, told) for number in (1, -1) for told in (None, -1, 0, 1, 2)],
        *[("read", None, None, told) for told in (-1, 0, 1, 2)],
    ],
    "lock": _fenced(None),
    "semaphore": _fenced("permits"),
    "mutex": [("acquire", None, None, None), ("release", None, None, None)],
    "queue": [
        *[("enqueue", None, item, None) for item in (1, 2)],
        *[("dequeue", None, None, item) for item in VALUES],
    ],
    "append-log": [
        *[("append", None, "a", told) for told in (None, 1, 2, 3)],
        *[("append", None, "b", told) for told in (None, 1, 2)],
        *[("read", None, None, told) for told in (0, 1, 2, (), ("a",), ("b", "a"), ("a", "b"))],
    ],
    "multi-register": _transactions(),
    "tree": _tree(("/a", "/a/b"), children=True),
    "subtrees": _tree(("/a", "/a/b", "/c"), children=False),
    "znode": _tree(("/a",), children=False),
}
"""For each model: operations that meet each other often."""


def made(template: Template, invoked: int = 0, returned: int = 1) -> Operation:
    """An operation out of its template."""
    function, key, argument, result = template
    return Operation(f"p{invoked}", function, key, argument, result, invoked, returned)


@st.composite
def histories(draw: st.DrawFn, model: Model, pool: list[Template]) -> list[Operation]:
    """A legal run of at most seven overlapping operations, often with a result exchanged."""
    states: dict[Hashable, Any] = {}
    run: list[Operation] = []
    for _ in range(draw(st.integers(1, 7))):
        legal = []
        for template in pool:
            operation = made(template)
            key = model.partition(operation)
            after = model.step(states.get(key, model.initial(key)), operation)
            if after is not ILLEGAL:
                legal.append((operation, key, after))
        operation, key, after = draw(st.sampled_from(legal))
        states[key] = after
        run.append(operation)
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(run) - 1))
        run[place] = made(draw(st.sampled_from(pool)))
    return _spread(draw, run)


def _spread(draw: st.DrawFn, run: list[Operation]) -> list[Operation]:
    """Let each begin before its place in the run and end after it; some never end."""
    moments: list[tuple[float, int, bool]] = []
    reach = st.sampled_from([0.1, 0.7, 1.3, 2.6, 4.1])
    lost = draw(st.integers(0, 3))
    for place in range(len(run)):
        moments.append((place - draw(reach), place, False))
        if lost and draw(st.booleans()):
            lost -= 1
        else:
            moments.append((place + draw(reach), place, True))
    calls: dict[int, int] = {}
    returns: dict[int, int] = {}
    for position, (_, place, is_return) in enumerate(sorted(moments)):
        (returns if is_return else calls)[place] = position
    spread = [
        operation._replace(
            process=place,
            invoked=calls[place],
            returned=returns.get(place, UNKNOWN_RETURN),
            result=operation.result if place in returns else None,
        )
        for place, operation in enumerate(run)
    ]
    return sorted(spread, key=lambda operation: operation.invoked)


def has_order(
    model: Model,
    operations: Sequence[Operation],
    states: Sequence[Hashable],
    until: int = UNKNOWN_RETURN,
) -> bool:
    """Whether some order explains what returned before ``until``: all orders are tried."""
    return any(_complete(model, list(operations), state, until) for state in states)


def _complete(model: Model, waiting: list[Operation], state: Any, until: int) -> bool:
    if all(operation.returned >= until for operation in waiting):
        return True
    for operation in waiting:
        rest = [other for other in waiting if other is not operation]
        if any(other.returned < operation.invoked for other in rest):
            continue
        after = model.step(state, operation)
        if after is not ILLEGAL and _complete(model, rest, after, until):
            return True
    return False


def is_linearizable(model: Model, operations: Sequence[Operation]) -> bool:
    """The definition, object by object."""
    objects: dict[Hashable, list[Operation]] = {}
    for operation in operations:
        objects.setdefault(model.partition(operation), []).append(operation)
    return all(has_order(model, found, [model.initial(key)]) for key, found in objects.items())
