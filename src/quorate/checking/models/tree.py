"""A tree of nodes with data and versions, as ZooKeeper has it, and a single node of one.

``tree`` takes the whole tree as one object: a create concerns the parent's list of children, a
delete asks whether there are any, so paths must not be checked apart. ``subtrees`` checks each
top-level node with all below it apart; they have nothing in common but the root, so operations on
the root are refused. ``znode`` checks each path alone: it does not know parents and children, and
takes their refusals on trust; what it loses in rules it wins in speed. In all three, versions pin
the order of the changes, so the search is nearly straight.

Errors are results: "no-node", "node-exists", "bad-version", "not-empty". A refused operation
changed nothing. Versions begin at 0 with the create and count the sets; an expected version of -1
or null fits all. Sequential and ephemeral nodes are not modelled.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final, NamedTuple

from quorate.checking.history import UNKNOWN_RETURN, Operation
from quorate.checking.model import ILLEGAL
from quorate.checking.models.base import FIELDS_OF_PAIR, BaseModel, show

NO_NODE: Final = "no-node"
NODE_EXISTS: Final = "node-exists"
BAD_VERSION: Final = "bad-version"
NOT_EMPTY: Final = "not-empty"
REFUSALS: Final = (NO_NODE, NODE_EXISTS, BAD_VERSION, NOT_EMPTY)
READS: Final = frozenset(["get", "exists", "children"])


class Node(NamedTuple):
    """What a node holds, and how often it was set."""

    data: Any
    version: int


class Znode(BaseModel):
    """Each path alone."""

    name = "znode"
    functions = {  # noqa: RUF012
        "create": "argument: the data; result: node-exists, no-node, or anything else for done",
        "set": "argument: [data, expected version]; result: the new version, null, or a refusal",
        "delete": "argument: expected version; result: a refusal, or anything else for done",
        "get": "no argument; result: [data, version] or no-node",
        "exists": "no argument; result: the version, or null",
    }
    reading = READS

    def only_reads(self, operation: Operation) -> bool:
        """Reads and refusals."""
        if operation.function in READS:
            return True
        return operation.returned != UNKNOWN_RETURN and _is_refusal(operation.result)

    def check_operation(self, operation: Operation) -> str | None:
        """Shapes of keys, arguments and results."""
        wrong = super().check_operation(operation)
        if wrong is not None:
            return wrong
        _, function, path, argument, result, _, returned, *_ = operation
        if (
            not isinstance(path, str)
            or not path.startswith("/")
            or path.endswith("/") != (path == "/")
        ):
            return f"the key is a path like /a/b, not {path!r}"
        if function == "set" and not _is_pair(argument):
            return f"set wants [data, expected version], not {argument!r}"
        is_told = returned != UNKNOWN_RETURN
        if is_told and function == "get" and result != NO_NODE and not _is_pair(result):
            return f"get returns [data, version] or no-node, not {result!r}"
        return None

    def enables(self, change: Operation, waiting: Operation) -> bool:
        """A version comes from the set or the create that made it."""
        if waiting.function != "get" or change.key != waiting.key:
            return waiting.function != "get"
        if waiting.result == NO_NODE:
            return change.function == "delete"
        data, version = waiting.result
        if change.function == "create":
            return bool(version == 0 and data == change.argument)
        if change.function != "set" or change.argument[0] != data:
            return False
        return change.is_unknown or change.result is None or bool(change.result == version)

    def step(self, state: Any, operation: Operation) -> Any:
        """Ask the node."""
        result = operation.result
        is_unknown = operation.returned == UNKNOWN_RETURN
        if not is_unknown:
            if result == NO_NODE and operation.function == "create":
                return state if state is None else ILLEGAL
            if result == NOT_EMPTY and operation.function == "delete":
                return ILLEGAL if state is None else state
        after, answer = _change(state, operation)
        if is_unknown or _agrees(operation, answer):
            return after
        return ILLEGAL

    def describe_operation(self, operation: Operation) -> str:
        """Function, path, argument and result."""
        _, function, path, argument, result, _, returned, *_ = operation
        words = f"{function} {path}"
        if function == "set":
            words += f" = {show(argument[0])}" + _expecting(argument[1])
        elif function == "create":
            words += f" = {show(argument)}"
        elif function == "delete":
            words += _expecting(argument)
        if returned == UNKNOWN_RETURN:
            return f"{words}: outcome unknown"
        if function == "get" and _is_pair(result) and result != NO_NODE:
            return f"{words} -> {show(result[0])} in version {result[1]}"
        if _is_refusal(result):
            return f"{words}: {result}"
        if function == "set" and result is not None:
            return f"{words} -> version {result}"
        return f"{words} -> {show(result)}" if function in READS else words

    def describe_state(self, state: Any) -> str:
        """Data and version."""
        return "no node" if state is None else f"{show(state.data)} in version {state.version}"


class Tree(Znode):
    """The whole tree as one object; the root is there from the beginning."""

    name = "tree"
    functions = {  # noqa: RUF012
        **Znode.functions,
        "children": "no argument; result: the names, or no-node",
    }

    def initial(self, key: Hashable) -> Hashable:  # noqa: ARG002
        """The root alone."""
        return (("/", Node("", 0)),)

    def partition(self, operation: Operation) -> Any:  # noqa: ARG002
        """Parents and children belong together."""
        return None

    def step(self, state: Any, operation: Operation) -> Any:
        """Ask the node, its parent and its children."""
        nodes: dict[str, Node] = dict(state)
        _, function, path, _, result, _, returned, *_ = operation
        is_unknown = returned == UNKNOWN_RETURN
        node = nodes.get(path)
        if function == "children":
            answer: Any = NO_NODE if node is None else _children(nodes, path)
            told = tuple(sorted(result)) if isinstance(result, tuple) else result
            return state if is_unknown or told == answer else ILLEGAL
        if function == "create" and node is None and _parent(path) not in nodes:
            after, answer = node, NO_NODE
        else:
            after, answer = _change(node, operation)
            is_gone = function == "delete" and node is not None and after is None
            if is_gone and (path == "/" or _children(nodes, path)):
                after, answer = node, NOT_EMPTY
        if not is_unknown and not _agrees(operation, answer):
            return ILLEGAL
        if after == node:
            return state
        if after is None:
            del nodes[path]
        else:
            nodes[path] = after
        return tuple(sorted(nodes.items()))

    def describe_state(self, state: Any) -> str:
        """All nodes but the root."""
        found = [
            f"{path} = {show(node.data)} (version {node.version})"
            for path, node in state
            if path != "/"
        ]
        return ", ".join(found) or "no nodes"


class Subtrees(Tree):
    """Each top-level node with all below it apart; the root is nobody's."""

    name = "subtrees"

    def partition(self, operation: Operation) -> Any:
        """The first name of the path."""
        return "/" + operation.key.split("/", 2)[1]

    def check_operation(self, operation: Operation) -> str | None:
        """The root joins all subtrees, so it must not be touched."""
        wrong = super().check_operation(operation)
        if wrong is None and operation.key == "/":
            return "subtrees are checked apart, so the root cannot be used; choose model tree"
        return wrong


def _change(node: Node | None, operation: Operation) -> tuple[Node | None, Any]:
    """The node after an operation that parents and children have nothing against; its answer."""
    function, argument = operation.function, operation.argument
    if function == "create":
        return (Node(argument, 0), None) if node is None else (node, NODE_EXISTS)
    if node is None:
        return None, None if function == "exists" else NO_NODE
    if function == "get":
        return node, (node.data, node.version)
    if function == "exists":
        return node, node.version
    expected = argument[1] if function == "set" else argument
    if expected is not None and expected not in (-1, node.version):
        return node, BAD_VERSION
    if function == "delete":
        return None, None
    return Node(argument[0], node.version + 1), node.version + 1


def _agrees(operation: Operation, answer: Any) -> bool:
    """Whether the operation was told this answer, or nothing that contradicts it."""
    function, result = operation.function, operation.result
    is_refused = _is_refusal(answer) or _is_refusal(result)
    if is_refused and function != "exists":
        return bool(answer == result)
    if function in ("create", "delete") or (function == "set" and result is None):
        return True
    if function == "exists" and answer is None:
        return result is None or result is False or result == NO_NODE
    return bool(result == answer) and (function != "exists" or result is not False)


def _is_refusal(value: Any) -> bool:
    return isinstance(value, str) and value in REFUSALS


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == FIELDS_OF_PAIR


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _children(nodes: dict[str, Node], path: str) -> tuple[str, ...]:
    found = [other.rpartition("/")[2] for other in nodes if other != "/" and _parent(other) == path]
    return tuple(sorted(found))


def _expecting(version: Any) -> str:
    return "" if version is None or version == -1 else f" at version {version}"
