"""Rules against what makes one replica differ from another, or one run from its replay (TH-10).

They look at syntax only and know no types, so they err on the quiet side: a set that is passed in
without annotation is not seen. The simulator's digests are the second net.
"""

from __future__ import annotations

import ast

from source import Finding, Source

BANNED_MODULES = frozenset(
    [
        "time",
        "datetime",
        "random",
        "secrets",
        "uuid",
        "os",
        "socket",
        "threading",
        "asyncio",
        "logging",
        "subprocess",
        "multiprocessing",
        "concurrent",
        "selectors",
        "select",
        "signal",
        "ssl",
        "tempfile",
    ]
)
UNSAFE_MODULES = frozenset(["pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle"])

SET_METHODS = frozenset(["union", "intersection", "difference", "symmetric_difference"])
ORDER_FREE = frozenset(
    ["sorted", "set", "frozenset", "any", "all", "sum", "len", "min", "max", "bool"]
)
ORDER_KEEPING = frozenset(
    ["list", "tuple", "enumerate", "iter", "zip", "map", "filter", "reversed", "dict"]
)
MUTATORS = frozenset(
    [
        "append",
        "extend",
        "insert",
        "add",
        "update",
        "setdefault",
        "pop",
        "popitem",
        "remove",
        "discard",
        "clear",
        "sort",
    ]
)
CONTAINER_CALLS = frozenset(
    [
        "list",
        "dict",
        "set",
        "bytearray",
        "defaultdict",
        "deque",
        "OrderedDict",
        "Counter",
        "WeakValueDictionary",
    ]
)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.DictComp, ast.GeneratorExp)


def imported_modules(tree: ast.Module) -> list[tuple[ast.AST, str]]:
    """Top-level names of all imports, wherever they stand."""
    found: list[tuple[ast.AST, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node, alias.name.split(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.append((node, node.module.split(".")[0]))
    return found


def banned_imports(source: Source) -> list[Finding]:
    """Pure packages import no clock, I/O, randomness or concurrency; nobody imports pickle."""
    banned = UNSAFE_MODULES | (BANNED_MODULES if source.is_pure else frozenset())
    return [
        source.find(node, f"imports {name}, which is not allowed here")
        for node, name in imported_modules(source.tree)
        if name in banned and source.is_src
    ]


def identity_and_hash(source: Source) -> list[Finding]:
    """``hash()`` of text differs per process, ``id()`` per run, ``__del__`` runs at any time."""
    found = []
    for node in ast.walk(source.tree) if source.is_pure else ():
        if _called(node) in ("hash", "id"):
            found.append(source.find(node, f"{_called(node)}() differs from run to run"))
        elif isinstance(node, FUNCTIONS) and node.name == "__del__":
            found.append(source.find(node, "__del__ runs when the collector likes"))
    return found


def floats_in_consensus(source: Source) -> list[Finding]:
    """No decision of consensus rests on floating point: no float literal, float() or ``/``."""
    found = []
    for node in ast.walk(source.tree) if source.package == "consensus" else ():
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            found.append(source.find(node, f"float literal {node.value!r}"))
        elif _called(node) == "float":
            found.append(source.find(node, "float()"))
        elif isinstance(node, (ast.BinOp, ast.AugAssign)) and isinstance(node.op, ast.Div):
            found.append(source.find(node, "true division gives a float; use //"))
    return found


def swallowed_errors(source: Source) -> list[Finding]:
    """No bare ``except``, and no ``except Exception`` that does nothing."""
    found = []
    for node in ast.walk(source.tree) if source.is_src else ():
        if not isinstance(node, ast.ExceptHandler):
            continue
        if node.type is None:
            found.append(source.find(node, "bare except also catches what must stop the node"))
        elif _broad(node.type) and all(_does_nothing(statement) for statement in node.body):
            found.append(source.find(node, "swallows every error in silence"))
    return found


def module_state(source: Source) -> list[Finding]:
    """Containers at module level are constants: named like one, and never changed."""
    if not source.is_pure:
        return []
    found = []
    names = set()
    for statement in source.tree.body:
        for name, value in _assigned(statement):
            if not _is_container(value):
                continue
            names.add(name)
            if not (name.strip("_").isupper() or name.startswith("__")):
                found.append(source.find(statement, f"{name} is mutable state of the module"))
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Global):
            found.append(source.find(node, f"global {', '.join(node.names)}"))
        elif _mutated(node) in names:
            found.append(source.find(node, f"changes the constant {_mutated(node)}"))
    return found


def set_iteration(source: Source) -> list[Finding]:
    """The order of a set differs between processes: go through ``sorted`` before it matters."""
    if not source.is_pure:
        return []
    found: list[Finding] = []
    scopes = [source.tree, *(n for n in ast.walk(source.tree) if isinstance(n, FUNCTIONS))]
    attributes = _set_names(source.tree, attributes=True)
    for scope in scopes:
        known = _set_names(scope, attributes=False) | attributes
        found += [source.find(n, "order of a set; use sorted()") for n in _uses(scope, known)]
    return sorted(set(found), key=lambda finding: finding.line)


def _uses(scope: ast.AST, known: set[str]) -> list[ast.AST]:
    """Places in this scope (not in nested functions) where the order of a set gets out."""
    nodes = list(_own(scope))
    harmless = {
        id(argument) for n in nodes if _called(n) in ORDER_FREE for argument in _arguments(n)
    }
    found: list[ast.AST] = []
    for node in nodes:
        if isinstance(node, (ast.For, ast.AsyncFor)) and _is_set(node.iter, known):
            found.append(node)
        elif isinstance(node, COMPREHENSIONS) and id(node) not in harmless:
            found += [node for part in node.generators if _is_set(part.iter, known)]
        elif isinstance(node, ast.Starred) and _is_set(node.value, known):
            found.append(node)
        elif isinstance(node, ast.Call) and id(node) not in harmless:
            method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            ordered = _called(node) in ORDER_KEEPING or method in ("join", "extend")
            if (ordered and any(_is_set(argument, known) for argument in node.args)) or (
                method == "pop" and not node.args and _is_set(_receiver(node), known)
            ):
                found.append(node)
    return found


def _own(scope: ast.AST) -> list[ast.AST]:
    nodes, waiting = [], list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop()
        nodes.append(node)
        if not isinstance(node, FUNCTIONS):
            waiting += ast.iter_child_nodes(node)
    return nodes


def _set_names(scope: ast.AST, *, attributes: bool) -> set[str]:
    """Names (or ``.attributes``) that annotations or assignments say are sets."""
    found = set()
    nodes = ast.walk(scope) if attributes else _own(scope)
    for node in nodes:
        pairs: list[tuple[ast.expr, bool]] = []
        if isinstance(node, ast.AnnAssign):
            pairs = [(node.target, _is_set_annotation(node.annotation))]
        elif isinstance(node, ast.Assign):
            pairs = [(target, _is_set(node.value, set())) for target in node.targets]
        elif isinstance(node, ast.arg) and node.annotation is not None and not attributes:
            pairs = [(ast.Name(node.arg), _is_set_annotation(node.annotation))]
        for target, is_set in pairs:
            if is_set and isinstance(target, ast.Attribute if attributes else ast.Name):
                found.add(_key(target))
    if attributes:  # fields of dataclasses are read as attributes
        for node in ast.walk(scope):
            fields = node.body if isinstance(node, ast.ClassDef) else []
            for field in fields:
                if isinstance(field, ast.AnnAssign) and _is_set_annotation(field.annotation):
                    found.add("." + getattr(field.target, "id", ""))
    return found


def _is_set(node: ast.expr | None, known: set[str]) -> bool:
    if isinstance(node, (ast.Set, ast.SetComp)):
        return True
    if isinstance(node, ast.BinOp) and isinstance(
        node.op, (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)
    ):
        return _is_set(node.left, known) or _is_set(node.right, known)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute):
            return node.func.attr in SET_METHODS
        return _called(node) in ("set", "frozenset")
    return isinstance(node, (ast.Name, ast.Attribute)) and _key(node) in known


def _key(node: ast.expr) -> str:
    return "." + node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _is_set_annotation(node: ast.expr) -> bool:
    base = node.value if isinstance(node, ast.Subscript) else node
    names = ("set", "frozenset", "Set", "FrozenSet", "AbstractSet", "MutableSet")
    return isinstance(base, ast.Name) and base.id in names


def _called(node: ast.AST) -> str:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id
    return ""


def _arguments(node: ast.AST) -> list[ast.expr]:
    return node.args if isinstance(node, ast.Call) else []


def _receiver(node: ast.Call) -> ast.expr | None:
    return node.func.value if isinstance(node.func, ast.Attribute) else None


def _broad(node: ast.expr) -> bool:
    names = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(isinstance(n, ast.Name) and n.id in ("Exception", "BaseException") for n in names)


def _does_nothing(node: ast.stmt) -> bool:
    is_constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return isinstance(node, (ast.Pass, ast.Continue)) or is_constant


def _assigned(statement: ast.stmt) -> list[tuple[str, ast.expr]]:
    if isinstance(statement, ast.Assign):
        return [(t.id, statement.value) for t in statement.targets if isinstance(t, ast.Name)]
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        return [(getattr(statement.target, "id", ""), statement.value)]
    return []


def _is_container(node: ast.expr) -> bool:
    displays = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    return isinstance(node, displays) or _called(node) in CONTAINER_CALLS


def _mutated(node: ast.AST) -> str:
    """Name of the bare variable that this node changes in place, if it is one."""
    target: ast.expr | None = None
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del)):
        target = node.value
    elif isinstance(node, ast.AugAssign):
        target = node.target
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in MUTATORS:
        target = _receiver(node)
    return target.id if isinstance(target, ast.Name) else ""
