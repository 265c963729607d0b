"""Mutants: the real code with one rule taken out, to see whether the judges miss it.

A judge that never objects proves nothing. So every rule that keeps the cluster safe is removed
once, and an ordinary run, with the faults that its seed draws, must notice (acceptance TH-8;
Paxos Made Live §5.1 seeded known bugs for the same purpose, PL-11). A mutant is a name, the rule
that it removes in a sentence, where the rule comes from, and a patch; the modules beside this one
hold them by subject.

A patch changes modules and classes of this process, so one process hunts one mutant at a time and
gets the original back at the end.

Invariants:
    * after ``Patches`` is left, everything is as it was before
    * a patch makes no choice of its own: a mutant's run is as repeatable as any other
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import getattr_static
from types import TracebackType
from typing import Any, NamedTuple, Self

from quorate.simulation.plan import KINDS, MEMBERSHIP, REPAIR, Wishes

_ABSENT = object()


class Patches:
    """Changes of modules, classes and tables that are undone, newest first, on leaving."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._undo:
            self._undo.pop()()

    def put(self, owner: Any, name: str, value: Any) -> Any:
        """Replace an attribute of a module or class; returns what stood there."""
        original = getattr(owner, name)
        # As it stands in the owner itself: a property or static method must come back as one.
        own = getattr_static(owner, name) if name in vars(owner) else _ABSENT

        def undo() -> None:
            if own is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, own)

        self._undo.append(undo)
        setattr(owner, name, value)
        return original

    def put_item(self, table: dict[Any, Any], key: Any, value: Any) -> Any:
        """Replace an entry of a table; returns what stood there."""
        original = table[key]
        self._undo.append(lambda: table.__setitem__(key, original))
        table[key] = value
        return original


Patch = Callable[[Patches], None]


class Mutant(NamedTuple):
    """A rule that can be removed.

    Attributes:
        name: what the code does without the rule: "commits-old-terms-by-counting".
        removes: the rule.
        source: where it comes from.
        patch: takes it out.
        workload: what its runs run; nothing else can show it, or shows it sooner.
        faults: kinds that its runs draw from; None: all but changes of members and stories of
            repair. Given where the events that must meet are rare, and the mutant's entry says
            which.
        clients: how many act at the same time.
        leases: whether its runs answer reads by leases; None: some do.
        once: whether clients in its runs ask for writes exactly once; None: some do.
    """

    name: str
    removes: str
    source: str
    patch: Patch
    workload: str
    faults: tuple[str, ...] | None = None
    clients: int = 4
    leases: bool | None = None
    once: bool | None = None

    def wishes(self, duration_us: int) -> Wishes:
        """What its runs are like."""
        faults = self.faults or tuple(kind for kind in KINDS if kind not in (MEMBERSHIP, REPAIR))
        return Wishes(
            workload=self.workload,
            duration_us=duration_us,
            faults=faults,
            clients=self.clients,
            leases=self.leases,
            once=self.once,
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """This process runs the mutant meanwhile."""
        with Patches() as patches:
            self.patch(patches)
            yield


class Group:
    """Mutants of one subject, in the order in which their module defines them.

    Attributes:
        title: the subject, for reports.
        workload: what their runs run.
        faults: what their runs draw from, unless a mutant says otherwise.
        leases: whether these answer reads by leases; None: some do.
        once: whether their clients ask for writes exactly once; None: some do.
        mutants: what was registered.
    """

    def __init__(
        self,
        title: str,
        workload: str = "cells",
        faults: tuple[str, ...] | None = None,
        *,
        leases: bool | None = None,
        once: bool | None = None,
    ) -> None:
        self.title = title
        self.workload = workload
        self.faults = faults
        self.leases = leases
        self.once = once
        self.mutants: list[Mutant] = []

    def mutant(
        self, source: str, faults: tuple[str, ...] | None = None, clients: int = 4
    ) -> Callable[[Patch], Patch]:
        """Register a patch: its name is the mutant's, its docstring the rule that it removes."""

        def register(patch: Patch) -> Patch:
            removes = " ".join((patch.__doc__ or "").split())
            assert removes, f"{patch.__name__} does not say which rule it removes"
            name = patch.__name__.replace("_", "-")
            kinds = faults or self.faults
            self.mutants.append(
                Mutant(
                    name=name,
                    removes=removes,
                    source=source,
                    patch=patch,
                    workload=self.workload,
                    faults=kinds,
                    clients=clients,
                    leases=self.leases,
                    once=self.once,
                )
            )
            return patch

        return register
