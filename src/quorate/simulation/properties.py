"""Properties: what must hold, declared as safety or liveness, and what it is called.

Safety: nothing bad ever happens; checked at each step, and a finite run shows a breach. Liveness:
something good happens in the end; checked after faults have stopped, within a stated bound
(Alpern & Schneider 1985; the two modes of Paxos Made Live §5.1). A replica that always answers 42
is perfectly live: only both kinds together mean anything.

A property is a method of a judge. It returns None when all is well and otherwise says what it
saw; the decorator gives that a name and raises. So a mutant's report can say which property
caught it, and ``quorate simulate properties`` can list them all.

Invariant: the catalogue is complete: a judge can only raise through a declared property.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import wraps
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from quorate.errors import InvariantBroken

P = ParamSpec("P")
J = TypeVar("J")


class Kind(Enum):
    """When a property is checked."""

    SAFETY = "safety"
    LIVENESS = "liveness"


class Property(NamedTuple):
    """A declared property.

    Attributes:
        name: as in reports: "election safety".
        kind: safety or liveness.
        claim: what must hold, in a sentence.
        source: where it comes from.
    """

    name: str
    kind: Kind
    claim: str
    source: str


class Violation(InvariantBroken):
    """A property does not hold. The run's seed or scenario file shows it again.

    Args:
        broken: which property.
        detail: what was seen.
    """

    def __init__(self, broken: Property, detail: str) -> None:
        super().__init__(f"{broken.name}: {detail}")
        self.property = broken
        self.detail = detail

    def __reduce__(self) -> tuple[type[Violation], tuple[Property, str]]:
        """Travel between processes."""
        return Violation, (self.property, self.detail)


_CATALOGUE: dict[str, Property] = {}

Rule = Callable[Concatenate[J, P], str | None]
Check = Callable[Concatenate[J, P], None]


def _declare(kind: Kind, source: str) -> Callable[[Rule[J, P]], Check[J, P]]:
    def decorate(rule: Rule[J, P]) -> Check[J, P]:
        claim = (rule.__doc__ or "").split("\n\n")[0]
        declared = Property(
            rule.__name__.strip("_").replace("_", " "), kind, " ".join(claim.split()), source
        )
        assert claim, f"property {declared.name} does not say what it claims"
        assert declared.name not in _CATALOGUE, f"two properties are called {declared.name}"
        _CATALOGUE[declared.name] = declared

        @wraps(rule)
        def check(self: J, /, *args: P.args, **kwargs: P.kwargs) -> None:
            detail = rule(self, *args, **kwargs)
            if detail is not None:
                raise Violation(declared, detail)

        return check

    return decorate


def safety(source: str) -> Callable[[Rule[J, P]], Check[J, P]]:
    """Declare a method as a safety property: None, or what was seen to be wrong."""
    return _declare(Kind.SAFETY, source)


def liveness(source: str) -> Callable[[Rule[J, P]], Check[J, P]]:
    """Declare a method as a liveness property, asked once its bound has passed."""
    return _declare(Kind.LIVENESS, source)


def catalogue() -> list[Property]:
    """All properties declared by the judges that have been imported, by kind and name."""
    return sorted(_CATALOGUE.values(), key=lambda known: (known.kind.value, known.name))
