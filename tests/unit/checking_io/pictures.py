"""Counter-examples to draw, and a model that knows their words."""

from __future__ import annotations

from quorate.checking.history import UNKNOWN_RETURN, Operation
from quorate.checking.models import model_named
from quorate.checking.verdict import Answer, Counterexample, Verdict

MODEL = model_named("cas-register")


def operation(  # an Operation with what pictures need
    process: int | str,
    function: str,
    value: object,
    invoked: int,
    returned: int | None,
    **more: int,
) -> Operation:
    reads = function == "read"
    return Operation(
        process,
        function,
        "a",
        None if reads else value,
        value if reads else None,
        invoked,
        UNKNOWN_RETURN if returned is None else returned,
        **more,
    )


def stale_read() -> Counterexample:
    """Process 1 reads 3 while process 2 overwrites 0 with 4."""
    first = operation(0, "write", 0, 0, 1, line=1)
    read = operation(1, "read", 3, 2, 4, line=3)
    second = operation(2, "write", 4, 3, None, line=4)
    return Counterexample(
        "a",
        [first, read, second],
        "nothing",
        [(first, "0"), (second, "4")],
        [(read, "the value is 4, and the answer was 3")],
        read,
    )


def crowd(count: int = 40) -> Counterexample:
    """Many overlapping writes of five processes."""
    operations = [
        operation(number % 5, "write", number, 2 * number, 2 * number + 9, line=number + 1)
        for number in range(count)
    ]
    return Counterexample(
        None,
        operations,
        "0",
        [(it, str(it.argument)) for it in operations[:-1]],
        [(operations[-1], "no reason " * 50)],
    )


def hostile() -> Counterexample:
    """Markup, control characters and lone surrogates wherever a history can put them."""
    evil = '</title><script>alert("x")</script>\x1b[31m\ud800'
    it = operation(evil, "write", evil, 0, 1)
    other = operation(1, "read", evil, 2, 3)
    return Counterexample(evil, [it, other], evil, [(it, evil)], [(other, evil)])


def verdict(found: Counterexample | None, answer: Answer = Answer.NOT_LINEARIZABLE) -> Verdict:
    return Verdict(answer, MODEL.name, 1234, 5, 99, "depth-first", found)
