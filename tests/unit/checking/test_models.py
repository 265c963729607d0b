"""Every model rejects the mistake it exists for, and accepts the same history repaired (TH-8)."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.checking.history import UNKNOWN_RETURN, History, Operation
from quorate.checking.linearizability import check
from quorate.checking.model import ILLEGAL
from quorate.checking.models import MODEL_NAMES, model_named
from quorate.checking.verdict import Answer
from quorate.errors import UsageError

LOST = object()
"""Result of a call whose outcome nobody knows."""

Call = tuple[str, Any, Any]  # function, argument, result

# One operation after the other; bad is what must be rejected, good its repaired twin.
STORIES: dict[str, tuple[str, list[Call], list[Call]]] = {
    "stale read": (
        "register",
        [("write", 1, None), ("write", 2, None), ("read", None, 1)],
        [("write", 1, None), ("write", 2, None), ("read", None, 2)],
    ),
    "lost update": (
        "register",
        [("write", 1, None), ("cas", (1, 2), True), ("cas", (1, 3), True), ("read", None, 3)],
        [("write", 1, None), ("cas", (1, 2), True), ("cas", (1, 3), False), ("read", None, 2)],
    ),
    "refused although it matched": (
        "register",
        [("write", 1, None), ("cas", (1, 2), False)],
        [("write", 1, None), ("cas", (3, 2), False)],
    ),
    "read going back": (
        "cas-register",
        [("write", 1, None), ("write", 2, LOST), ("read", None, 2), ("read", None, 1)],
        [("write", 1, None), ("write", 2, LOST), ("read", None, 1), ("read", None, 2)],
    ),
    "double apply": (
        "counter",
        [("add", 1, LOST), ("read", None, 2)],
        [("add", 1, LOST), ("read", None, 1)],
    ),
    "sum that nobody added": (
        "counter",
        [("add", 1, 1), ("add", 2, 2), ("read", None, 3)],
        [("add", 1, 1), ("add", 2, 3), ("read", None, 3)],
    ),
    "append applied twice": (
        "kv",
        [("append", "x", None), ("get", None, "xx")],
        [("append", "x", None), ("get", None, "x")],
    ),
    "deleted key that comes back": (
        "cas-map",
        [("write", "a", None), ("delete", None, True), ("read", None, "a")],
        [("write", "a", None), ("delete", None, True), ("read", None, None)],
    ),
    "deleted twice": (
        "cas-map",
        [("write", "a", None), ("delete", None, True), ("delete", None, True)],
        [("write", "a", None), ("delete", None, True), ("delete", None, False)],
    ),
    "two lock holders": (
        "lock",
        [("acquire", None, 1), ("acquire", None, 2)],
        [("acquire", None, 1), ("release", 1, None), ("acquire", None, 2)],
    ),
    "fence going back": (
        "lock",
        [("acquire", None, 5), ("release", 5, None), ("acquire", None, 4)],
        [("acquire", None, 5), ("release", 5, None), ("acquire", None, 6)],
    ),
    "released with a dead fence": (
        "lock",
        [("acquire", None, 1), ("expire", 1, None), ("acquire", None, 2), ("release", 1, None)],
        [("acquire", None, 1), ("expire", 1, None), ("acquire", None, 2), ("release", 1, False)],
    ),
    "holder that nobody knows": (
        "lock",
        [("acquire", None, LOST), ("acquire", None, False), ("acquire", None, 2)],
        [("acquire", None, LOST), ("acquire", None, False), ("expire", None, LOST)],
    ),
    "fence below an unknown one": (
        "lock",
        [
            ("acquire", None, LOST),
            ("acquire", None, False),
            ("release", 4, None),
            ("acquire", None, 4),
        ],
        [
            ("acquire", None, LOST),
            ("acquire", None, False),
            ("release", 4, None),
            ("acquire", None, 5),
        ],
    ),
    "one permit too many": (
        "semaphore:2",
        [("acquire", None, 1), ("acquire", None, 2), ("acquire", None, 3)],
        [("acquire", None, 1), ("acquire", None, 2), ("release", 1, None), ("acquire", None, 3)],
    ),
    "mutex held twice": (
        "mutex",
        [("acquire", None, None), ("acquire", None, None)],
        [("acquire", None, None), ("release", None, LOST), ("acquire", None, None)],
    ),
    "lost queue item": (
        "queue",
        [("enqueue", 1, None), ("enqueue", 2, None), ("dequeue", None, 2)],
        [("enqueue", 1, None), ("enqueue", 2, None), ("dequeue", None, LOST), ("dequeue", None, 2)],
    ),
    "queue item delivered twice": (
        "queue",
        [("enqueue", 1, None), ("dequeue", None, 1), ("dequeue", None, 1)],
        [("enqueue", 1, None), ("dequeue", None, 1), ("dequeue", None, None)],
    ),
    "empty although it is not": (
        "queue",
        [("enqueue", 1, None), ("dequeue", None, None)],
        [("enqueue", 1, LOST), ("dequeue", None, None), ("dequeue", None, 1)],
    ),
    "one position given twice": (
        "append-log",
        [("append", "a", 1), ("append", "b", 1)],
        [("append", "a", 1), ("append", "b", 2), ("read", None, ("a", "b")), ("read", None, 2)],
    ),
    "entry that disappears": (
        "append-log",
        [("append", "a", 1), ("append", "b", 2), ("read", None, ("b",))],
        [("append", "a", LOST), ("append", "b", 1), ("read", None, ("b",))],
    ),
    "half a transaction": (
        "multi-register",
        [
            ("txn", (("w", "x", 1), ("w", "y", 1)), None),
            ("txn", (("r", "x", None), ("r", "y", None)), (("r", "x", 1), ("r", "y", 2))),
        ],
        [
            ("txn", (("w", "x", 1), ("w", "y", 1)), None),
            ("txn", (("r", "x", None), ("r", "y", None)), (("r", "x", 1), ("r", "y", None))),
        ],
    ),
}

# Trees have paths: function, path, argument, result.
TREES: dict[str, tuple[list[tuple[str, str, Any, Any]], list[tuple[str, str, Any, Any]]]] = {
    "version going back": (
        [("create", "/a", "x", None), ("set", "/a", ("y", 0), 1), ("get", "/a", None, ("x", 0))],
        [("create", "/a", "x", None), ("set", "/a", ("y", 0), 1), ("get", "/a", None, ("y", 1))],
    ),
    "version given twice": (
        [("create", "/a", "x", None), ("set", "/a", ("y", -1), 1), ("set", "/a", ("z", -1), 1)],
        [("create", "/a", "x", None), ("set", "/a", ("y", -1), 1), ("set", "/a", ("z", 1), 2)],
    ),
    "set in spite of the version": (
        [("create", "/a", "x", None), ("set", "/a", ("y", 3), 1)],
        [("create", "/a", "x", None), ("set", "/a", ("y", 3), "bad-version")],
    ),
    "created twice": (
        [("create", "/a", "x", None), ("create", "/a", "x", None)],
        [("create", "/a", "x", None), ("create", "/a", "x", "node-exists")],
    ),
    "deleted but there": (
        [("create", "/a", "x", None), ("delete", "/a", 0, None), ("exists", "/a", None, 0)],
        [("create", "/a", "x", None), ("delete", "/a", 0, None), ("exists", "/a", None, None)],
    ),
}

FAMILIES: dict[str, tuple[list[tuple[str, str, Any, Any]], list[tuple[str, str, Any, Any]]]] = {
    "child without a parent": (
        [("create", "/a/b", "x", None)],
        [("create", "/a/b", "x", "no-node"), ("create", "/a", "x", None)],
    ),
    "parent deleted before its child": (
        [("create", "/a", "x", None), ("create", "/a/b", "x", None), ("delete", "/a", -1, None)],
        [
            ("create", "/a", "x", None),
            ("create", "/a/b", "x", None),
            ("delete", "/a", -1, "not-empty"),
        ],
    ),
    "child that is not listed": (
        [("create", "/a", "x", None), ("create", "/a/b", "x", None), ("children", "/a", None, ())],
        [
            ("create", "/a", "x", None),
            ("create", "/a/b", "x", None),
            ("children", "/a", None, ("b",)),
        ],
    ),
}


def one_after_the_other(calls: list[tuple[str, Any, Any, Any]]) -> History:
    """Each by a process of its own."""
    operations = []
    for number, (function, key, argument, result) in enumerate(calls):
        returned = UNKNOWN_RETURN if result is LOST else 2 * number + 1
        told = None if result is LOST else result
        operations.append(Operation(number, function, key, argument, told, 2 * number, returned))
    return History(operations)


@pytest.mark.parametrize("story", STORIES)
def test_th_8_a_mistake_is_rejected_and_its_repaired_twin_accepted(story: str) -> None:
    """One operation after the other leaves no way out."""
    name, bad, good = STORIES[story]
    model = model_named(name)
    for calls, expected in ((bad, Answer.NOT_LINEARIZABLE), (good, Answer.LINEARIZABLE)):
        history = one_after_the_other([(call[0], None, *call[1:]) for call in calls])
        assert check(history, model).answer is expected


@pytest.mark.parametrize("name", ["tree", "subtrees", "znode"])
@pytest.mark.parametrize("story", TREES)
def test_th_9_versions_only_grow(name: str, story: str) -> None:
    """Whatever is checked apart, a version pins what a node holds."""
    bad, good = TREES[story]
    assert check(one_after_the_other(bad), model_named(name)).answer is Answer.NOT_LINEARIZABLE
    assert check(one_after_the_other(good), model_named(name)).answer is Answer.LINEARIZABLE


@pytest.mark.parametrize("name", ["tree", "subtrees"])
@pytest.mark.parametrize("story", FAMILIES)
def test_th_9_parents_and_children_belong_together(name: str, story: str) -> None:
    """Paths below one node are one object."""
    bad, good = FAMILIES[story]
    assert check(one_after_the_other(bad), model_named(name)).answer is Answer.NOT_LINEARIZABLE
    assert check(one_after_the_other(good), model_named(name)).answer is Answer.LINEARIZABLE


def test_objects_are_what_they_say() -> None:
    """Keys are apart, a tree is one, subtrees are apart by their first name, transactions never."""
    paths = [("create", path, "x", None) for path in ("/a", "/a/b", "/c")]
    calls = {"tree": 1, "subtrees": 2, "znode": 3}
    for name, objects in calls.items():
        assert check(one_after_the_other(paths), model_named(name)).partitions == objects


@pytest.mark.parametrize(
    ("name", "call", "message"),
    [
        ("register", ("append", None, 1, None), "no function 'append'; it has cas, read, write"),
        ("register", ("cas", None, 1, True), r"cas wants \[expected, new\], not 1"),
        ("cas-map", ("append", "k", 1, None), "append wants text"),
        ("kv", ("put", "k", None, None), "put wants text"),
        ("counter", ("add", None, "1", None), "add wants a whole number"),
        ("lock", ("acquire", None, None, None), "acquire returns a fence"),
        ("lock", ("release", None, None, None), "release wants the fence"),
        ("lock", ("expire", None, True, None), "expire wants the fence"),
        ("queue", ("enqueue", None, None, None), "enqueue wants an item"),
        ("append-log", ("append", None, 1, "a"), "append returns a position"),
        ("append-log", ("read", None, None, None), "read returns all entries"),
        ("multi-register", ("txn", None, 1, None), "txn wants a list"),
        ("multi-register", ("txn", None, (("r", "x", None),), 1), "txn returns a list"),
        ("multi-register", ("txn", None, (("r", "x", 0),), ()), "not about what was asked"),
        ("tree", ("create", "a", "x", None), "the key is a path"),
        ("tree", ("create", "/a/", "x", None), "the key is a path"),
        ("tree", ("set", "/a", "x", 1), r"set wants \[data, expected version\]"),
        ("tree", ("get", "/a", None, "x"), r"get returns \[data, version\]"),
        ("subtrees", ("children", "/", None, ()), "choose model tree"),
        ("znode", ("children", "/a", None, ()), "no function 'children'"),
    ],
)
def test_a_misshapen_operation_is_described(name: str, call: Any, message: str) -> None:
    """What was expected and what was found."""
    with pytest.raises(UsageError, match=message):
        check(one_after_the_other([call]), model_named(name))


def test_models_are_found_by_name_and_some_take_a_parameter() -> None:
    """An unknown name is answered with the known ones."""
    for name in MODEL_NAMES:
        assert model_named(name).name == name
        assert model_named(name).functions
    assert model_named("register:7").initial(None) == 7
    assert model_named("cas-register:-1").initial(None) == -1
    read = one_after_the_other([("txn", None, (("r", "x", None),), (("r", "x", 0),))])
    assert check(read, model_named("multi-register:0")).answer is Answer.LINEARIZABLE
    with pytest.raises(UsageError, match="no model 'regster'; there are append-log, cas-map"):
        model_named("regster")
    with pytest.raises(UsageError, match="number of permits"):
        model_named("semaphore:none")
    with pytest.raises(UsageError, match="takes no parameter"):
        model_named("queue:1")


@pytest.mark.parametrize(
    ("name", "call", "words"),
    [
        ("register", ("write", None, 3, None), "write 3"),
        ("register", ("cas", None, (1, 2), False), "cas 1 -> 2: refused"),
        ("register", ("read", None, None, None), "read -> nothing"),
        ("register", ("write", None, 3, LOST), "write 3: outcome unknown"),
        ("kv", ("get", "k", None, ""), "get -> ''"),
        ("counter", ("add", None, 2, 5), "add 2 -> 5"),
        ("lock", ("acquire", None, None, 4), "acquire -> fence 4"),
        ("queue", ("dequeue", None, None, 1), "dequeue -> 1"),
        ("append-log", ("append", None, "a", 2), "append a -> position 2"),
        (
            "multi-register",
            ("txn", None, (("r", "x", None), ("w", "y", 2)), LOST),
            "read x, write y = 2: outcome unknown",
        ),
        ("tree", ("set", "/a", ("x", 3), 4), "set /a = x at version 3 -> version 4"),
        ("tree", ("delete", "/a", -1, "not-empty"), "delete /a: not-empty"),
        ("tree", ("get", "/a", None, ("x", 3)), "get /a -> x in version 3"),
    ],
)
def test_operations_are_told_in_few_words(name: str, call: Any, words: str) -> None:
    """As they stand in pictures."""
    assert model_named(name).describe_operation(one_after_the_other([call]).operations[0]) == words


def test_states_are_told_in_few_words() -> None:
    """As they stand beside operations."""
    lock = model_named("lock")
    assert lock.describe_state(lock.initial(None)) == "free, last fence 0"
    operation = one_after_the_other([("acquire", None, None, LOST)]).operations[0]
    after = lock.step(lock.initial(None), operation)
    assert after is not ILLEGAL
    assert lock.describe_state(after) == ("held with an unknown fence, at least 1, last fence 1")
    tree = model_named("tree")
    created = one_after_the_other([("create", "/a", "x", None)]).operations[0]
    assert tree.describe_state(tree.initial(None)) == "no nodes"
    assert tree.describe_state(tree.step(tree.initial(None), created)) == "/a = x (version 0)"
