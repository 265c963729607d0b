"""Locks and semaphores whose holders get a fence, and the bare mutex that Knossos knows.

A fence is a number that grows with each acquisition. Whoever is fenced off by it (a disk, a
database) refuses an older one, so a holder that was declared dead can do no harm. The model holds
the service to both promises: no more holders than permits, and fences that only grow.

An acquisition of unknown outcome may have been given any fence above the last one. The state keeps
such a holder as the least fence it can have, negated; whoever names a fence at least as large may
release it. Of several the one with the largest least fence is taken, because what stays allows
more then; so the model errs towards accepting.

A service that takes a lock away from a lost session has ``expire``, an operation of its own: the
recorder of a history adds it, mostly with unknown outcome, when a client can no longer be sure.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

from quorate.checking.history import UNKNOWN_RETURN, Operation
from quorate.checking.model import ILLEGAL
from quorate.checking.models.base import BaseModel


class Holders(NamedTuple):
    """Who holds permits.

    Attributes:
        last: the largest fence given so far, or the least that an unknown one can have been.
        fences: one for each permit held, ascending; negative: the least that it can be.
    """

    last: int
    fences: tuple[int, ...]


class Semaphore(BaseModel):
    """So many permits for each key; all free at first, and no fence given."""

    name = "semaphore"
    functions = {  # noqa: RUF012
        "acquire": "no argument; result: the fence, or false when no permit was free",
        "release": "argument: the fence; result: false when it held no permit",
        "expire": "argument: the fence, or null when it was never told; no result",
    }

    def __init__(self, permits: int) -> None:
        self.permits = permits

    def initial(self, key: Hashable) -> Hashable:  # noqa: ARG002
        """All permits are free."""
        return Holders(0, ())

    def only_reads(self, operation: Operation) -> bool:
        """What was refused changed nothing."""
        if operation.function == "expire" or operation.returned == UNKNOWN_RETURN:
            return False
        return operation.result is False

    def check_operation(self, operation: Operation) -> str | None:
        """Fences are whole numbers above 0."""
        function, argument, result = operation[1], operation[3], operation[4]
        if function == "acquire" and not operation.is_unknown and not _is_fence(result):
            if result is False:
                return None
            return f"acquire returns a fence (a whole number above 0) or false, not {result!r}"
        if function == "release" and not _is_fence(argument):
            return f"release wants the fence of the holder, not {argument!r}"
        if function == "expire" and argument is not None and not _is_fence(argument):
            return f"expire wants the fence of the holder or null, not {argument!r}"
        return super().check_operation(operation)

    def step(self, state: Holders, operation: Operation) -> Any:
        """Take a permit with a larger fence, or give one back."""
        if operation.function == "acquire":
            return self._acquire(state, operation)
        argument = operation.argument
        freed = _without(state, argument)
        if operation.function == "expire" or operation.is_unknown:
            return state if freed is None else freed
        if operation.result is False:
            return ILLEGAL if argument in state.fences else state
        return ILLEGAL if freed is None else freed

    def _acquire(self, state: Holders, operation: Operation) -> Any:
        last, fences = state
        fence = operation.result
        is_full = len(fences) >= self.permits
        if operation.is_unknown:
            fence = last + 1
            return state if is_full else Holders(fence, tuple(sorted((*fences, -fence))))
        if fence is False:
            return state if is_full else ILLEGAL
        if is_full or fence <= last:
            return ILLEGAL
        return Holders(fence, tuple(sorted((*fences, fence))))

    def describe_result(self, operation: Operation) -> str:
        """An acquisition tells the fence."""
        if operation.function == "acquire" and not operation.is_unknown and operation.result:
            return f" -> fence {operation.result}"
        return super().describe_result(operation)

    def describe_state(self, state: Holders) -> str:
        """Who holds what, and the last fence."""
        held = [
            f"fence {fence}" if fence > 0 else f"an unknown fence, at least {-fence}"
            for fence in state.fences
        ]
        return f"{'held with ' + ' and '.join(held) if held else 'free'}, last fence {state.last}"


class Lock(Semaphore):
    """A semaphore with one permit."""

    name = "lock"

    def __init__(self) -> None:
        super().__init__(1)


class Mutex(BaseModel):
    """Knossos' mutex: acquire succeeds when it is free, release when it is held."""

    name = "mutex"
    functions = {  # noqa: RUF012
        "acquire": "no argument, no result",
        "release": "no argument, no result",
    }

    def initial(self, key: Hashable) -> Hashable:  # noqa: ARG002
        """Free."""
        return False

    def step(self, state: bool, operation: Operation) -> Any:
        """Held becomes free and free becomes held; unknown outcomes may have been refused."""
        if (operation.function == "release") is state:
            return not state
        return state if operation.is_unknown else ILLEGAL

    def enables(self, change: Operation, waiting: Operation) -> bool:
        """Each makes room for the other."""
        return change.function != waiting.function

    def describe_state(self, state: bool) -> str:
        """Held or free."""
        return "held" if state else "free"


def _is_fence(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _without(state: Holders, fence: int | None) -> Holders | None:
    """Free the permit with this fence, or one of unknown fence that it may belong to."""
    last, fences = state
    if fence in fences:
        freed = fences.index(fence)
        return Holders(last, fences[:freed] + fences[freed + 1 :])
    for position, held in enumerate(fences):  # ascending: the largest least fence first
        if held < 0 and (fence is None or -held <= fence):
            rest = fences[:position] + fences[position + 1 :]
            return Holders(max(last, fence or 0), rest)
    return None
