"""A user's own state machine under faults: his class, his commands, his invariant.

``MachineTest`` says what is tested; ``MachineWorkload`` runs it on simulated replicas. The user's
class is the one that he replicates in earnest (``replication/state_machine.py``), unchanged. It
knows nothing of pytest and of the command line.

What clients can do, as scenario files write it:

    do COMMAND | do-hex 0123.. | ask QUESTION | ask-hex 0123..

A command is written as text when it is plain text of single words, otherwise in hexadecimal.

Besides what the user asks for, what every state machine must do is judged: a snapshot holds the
whole state as of its beginning, a command has the same result everywhere, nothing raises.

Invariant: the user's ``apply`` sees exactly the bytes that his ``commands`` drew; the number that
goes in front of them on the wire is taken off before.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import struct
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from quorate.checking.explain import explain
from quorate.checking.history import History, Operation
from quorate.checking.linearizability import check
from quorate.checking.model import Model
from quorate.checking.models.catalogue import model_named
from quorate.checking.verdict import Budget
from quorate.errors import UsageError
from quorate.replication.state_machine import ApplyContext, StateMachine
from quorate.simulation.properties import Violation, safety
from quorate.simulation.scenario import Scenario, Step
from quorate.simulation.workloads.replicas import ReplicaWorkload, bursts
from quorate.simulation.world import Dice

CONFIGURATIONS_MAX = 300_000
PIECE_BYTES = 61
SHARE_OF_QUESTIONS = 0.3
FRAMES_SHOWN = 3
COMMAND_BYTES_MAX = 100_000
_NUMBER = struct.Struct(">Q")
_COUNT = struct.Struct(">I")
_PLAIN = re.compile(r"[!\"$-~]+(?: [!\"$-~]+)*")  # printable, single blanks, no #
_METHODS = ("apply", "snapshot", "restore", "digest")
_T = TypeVar("_T")


@dataclass(frozen=True)
class MachineTest:
    """What a user wants to see tested.

    Attributes:
        machine: makes an empty state machine: his class, or a function.
        commands: draws a command.
        invariant: asked after every command and every restored snapshot, on every node. False, a
            text that says what is wrong, or a failing ``assert`` is a violation; True and None
            are not.
        questions: draws a question, for ``read``; about a third of all requests are questions.
        read: answers a question from a machine. Reads are linearizable: they wait for a quorum.
        operation: ``operation(request, result)`` gives the line of the history for a command or
            question: ``(function, key, argument, result)``, or None to leave it out. The result
            is None while the outcome is unknown.
        model: what the history must fit: a name that ``quorate check --model`` knows, or a Model.
    """

    machine: Callable[[], StateMachine]
    commands: Callable[[Dice], bytes]
    invariant: Callable[[Any], bool | str | None] | None = None
    questions: Callable[[Dice], bytes] | None = None
    read: Callable[[Any, bytes], Any] | None = None
    operation: Callable[[bytes, Any], tuple[str, Any, Any, Any] | None] | None = None
    model: str | Model | None = None

    def __post_init__(self) -> None:
        if (self.questions is None) != (self.read is None):
            raise UsageError("questions and read belong together: give both or none")
        if (self.operation is None) != (self.model is None):
            raise UsageError("operation and model belong together: give both or none")
        if isinstance(self.model, str):
            model_named(self.model)
        fresh = self.machine()
        missing = [name for name in _METHODS if not callable(getattr(fresh, name, None))]
        if missing:
            raise UsageError(
                f"{type(fresh).__name__} is no state machine: it has no {', '.join(missing)}; "
                "see quorate.replication.state_machine.StateMachine"
            )

    @property
    def name(self) -> str:
        """Name of the machine, for scenarios and reports."""
        return getattr(self.machine, "__name__", type(self.machine).__name__)


def load_machine_test(where: str) -> MachineTest:
    """Find a MachineTest by ``module:NAME`` or ``path/to/file.py:NAME``.

    Raises:
        UsageError: there is none; the message says what was looked for.
    """
    module_name, colon, name = where.rpartition(":")
    if not colon or not module_name or not name:
        raise UsageError(f"{where!r}: write module:NAME or path/to/file.py:NAME")
    try:
        module = _import(module_name)
    except Exception as error:
        raise UsageError(
            f"{where!r}: cannot import {module_name}: {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, name, None)
    if not isinstance(found, MachineTest):
        known = sorted(key for key, value in vars(module).items() if isinstance(value, MachineTest))
        there = f"it has {', '.join(known)}" if known else "it has none: NAME = MachineTest(...)"
        raise UsageError(f"{where!r}: {module_name} has no MachineTest called {name}; {there}")
    return found


def _import(name: str) -> Any:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = Path(name)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


# ---- bytes in scenario files --------------------------------------------------------------------


def words_of(verb: str, request: bytes) -> tuple[str, ...]:
    """How a request stands in a scenario file."""
    text = request.decode("ascii", "replace")
    if _PLAIN.fullmatch(text):
        return (verb, *text.split(" "))
    return (f"{verb}-hex", request.hex())


def request_of(words: tuple[str, ...]) -> bytes:
    """The bytes that stand in a scenario file.

    Raises:
        ValueError: odd hexadecimal.
    """
    if words[0].endswith("-hex"):
        return bytes.fromhex("".join(words[1:]))
    return " ".join(words[1:]).encode()


def show(request: bytes) -> str:
    """A request for messages: as text if it is text."""
    return repr(" ".join(words_of("do", request)[1:]))


def _where(error: Exception) -> str:
    """The lines of the user's code that led to an error."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if frame.filename != __file__][-FRAMES_SHOWN:]
    path = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in theirs)
    return f" ({path})" if path else ""


# ---- the machine as it runs ----------------------------------------------------------------------


class NumberedMachine:
    """The user's machine in a wrapper that knows each command by its number, and judges.

    Attributes:
        inner: the user's.
        identities: numbers of all commands that took effect, in order.
    """

    def __init__(self, test: MachineTest, judge: MachineWorkload) -> None:
        self.inner = judge.guarded("starting", test.machine)
        self.identities: list[int] = []
        self._test = test
        self._judge = judge

    def apply(self, payload: bytes, context: ApplyContext) -> Any:
        """Take the number off and pass the rest on."""
        (identity,) = _NUMBER.unpack_from(payload)
        command = payload[_NUMBER.size :]
        self.identities.append(identity)
        result = self._judge.guarded("apply", lambda: self.inner.apply(command, context))
        self._judge.results_are_the_same_everywhere(identity, command, result)
        self._judge.your_invariant_holds(self.inner, command)
        return result

    def snapshot(self) -> Iterator[bytes]:
        """The numbers, then the user's snapshot, which is tried out at its end."""
        digest = self.digest()
        numbers = b"".join(_NUMBER.pack(identity) for identity in self.identities)
        head = _COUNT.pack(len(self.identities)) + numbers
        pieces = self._judge.guarded("snapshot", self.inner.snapshot)
        return self._pieces(head, pieces, digest)

    def _pieces(self, head: bytes, pieces: Iterator[bytes], digest: int) -> Iterator[bytes]:
        yield head
        taken: list[bytes] = []
        while True:
            piece = self._judge.guarded("snapshot", lambda: next(pieces, None))
            if piece is None:
                break
            taken.append(bytes(piece))
            yield taken[-1]
        twin = NumberedMachine(self._test, self._judge)
        twin.restore([head, *taken])
        self._judge.snapshots_hold_the_whole_state(digest, twin.digest())

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Take the numbers off and restore the user's machine, from pieces of another size."""
        data = b"".join(chunks)
        (count,) = _COUNT.unpack_from(data)
        start = _COUNT.size + count * _NUMBER.size
        self.identities = [number for (number,) in _NUMBER.iter_unpack(data[_COUNT.size : start])]
        pieces = (data[at : at + PIECE_BYTES] for at in range(start, len(data), PIECE_BYTES))
        self._judge.guarded("restore", lambda: self.inner.restore(pieces))
        self._judge.your_invariant_holds(self.inner, None)

    def digest(self) -> int:
        """The user's digest."""
        return int(self._judge.guarded("digest", self.inner.digest))


class MachineWorkload(ReplicaWorkload):
    """Clients of a user's state machine."""

    def __init__(self, test: MachineTest) -> None:
        super().__init__()
        self._test = test
        self._results: dict[int, tuple[Any, str]] = {}
        self._undecided = 0

    def plan(self, dice: Dice, scenario: Scenario) -> list[Step]:
        """Draw what the clients do."""
        test = self._test

        def words(dice: Dice) -> tuple[str, ...]:
            if test.questions is not None and dice.chance(SHARE_OF_QUESTIONS):
                return words_of("ask", self._drawn("questions", test.questions, dice))
            return words_of("do", self._drawn("commands", test.commands, dice))

        return bursts(dice, scenario, words)

    def _drawn(self, what: str, draw: Callable[[Dice], Any], dice: Dice) -> bytes:
        try:
            request = draw(dice)
        except Exception as error:
            raise UsageError(
                f"{what} raised {type(error).__name__}: {error}{_where(error)}"
            ) from error
        if not isinstance(request, bytes):
            raise UsageError(f"{what} must return bytes, not {type(request).__name__}")
        if len(request) > COMMAND_BYTES_MAX:
            raise UsageError(
                f"{what} returned {len(request)} bytes; at most {COMMAND_BYTES_MAX} are meant"
            )
        return request

    def check_step(self, step: Step) -> str | None:
        """A request that can be read."""
        verb = step.words[0].removesuffix("-hex")
        if verb not in ("do", "ask"):
            return "a client can: do COMMAND, do-hex 0123.., ask QUESTION, ask-hex 0123.."
        if verb == "ask" and self._test.read is None:
            return "this test answers no questions: it has no `read`"
        try:
            request_of(step.words)
        except ValueError:
            return "after -hex stand pairs of hexadecimal digits"
        return None

    # ---- the state machine ---------------------------------------------------------------------

    def machine(self) -> NumberedMachine:
        """Make an empty machine."""
        return NumberedMachine(self._test, self)

    def encode(self, identity: int, words: tuple[str, ...]) -> bytes | None:
        """The number, then what the user drew."""
        if words[0].startswith("ask"):
            return None
        return _NUMBER.pack(identity) + request_of(words)

    def is_local(self, words: tuple[str, ...]) -> bool:  # noqa: ARG002 - the base class asks
        """All reads go through a quorum."""
        return False

    def read(self, machine: NumberedMachine, words: tuple[str, ...]) -> Any:
        """Answer a question."""
        read = self._test.read
        assert read is not None
        return self.guarded("read", lambda: read(machine.inner, request_of(words)))

    def position(self, machine: NumberedMachine) -> int:
        """How many commands took effect."""
        return len(machine.identities)

    def identities(self, machine: NumberedMachine) -> list[int]:
        """All commands that took effect."""
        return machine.identities

    def guarded(self, what: str, action: Callable[[], _T]) -> _T:
        """Let the user's code do something; whatever it raises is a violation."""
        try:
            return action()
        except Violation:
            raise
        except Exception as error:
            self.your_machine_raises_nothing(what, error)
            raise

    # ---- the history ---------------------------------------------------------------------------

    def operation(self, call: Any, result: Any, returned: int) -> Operation | None:
        """As the user's function says."""
        translate = self._test.operation
        if translate is None:
            return None
        line = self.guarded("operation", lambda: translate(request_of(call.words), result))
        if line is None:
            return None
        function, key, argument, told = line
        return Operation(call.client.process, function, key, argument, told, call.invoked, returned)

    def judge_history(self, history: History) -> None:
        """Check it if there is a model."""
        model = self._test.model
        if model is not None:
            self.answers_fit_your_model(
                history, model_named(model) if isinstance(model, str) else model
            )

    def figures(self) -> dict[str, int]:
        """What was done."""
        return {**super().figures(), "undecided": self._undecided}

    # ---- properties ----------------------------------------------------------------------------

    @safety("the user's test")
    def your_invariant_holds(self, machine: Any, command: bytes | None) -> str | None:
        """What the test calls its invariant holds on every node after every change of the state."""
        invariant = self._test.invariant
        if invariant is None:
            return None
        try:
            said = invariant(machine)
        except AssertionError as error:
            said = str(error) or "an assertion of it failed"
        except Exception as error:
            self.your_machine_raises_nothing("invariant", error)
            raise
        if said is None or said is True:
            return None
        name = getattr(invariant, "__name__", "the invariant")
        wrong = "does not hold" if said is False else said
        when = "restoring a snapshot" if command is None else show(command)
        return f"{name}: {wrong} (after {when})"

    @safety("the state machine contract")
    def your_machine_raises_nothing(self, what: str, error: Exception) -> str | None:
        """Errors of commands are results: an exception would stop the node that meets it."""
        return f"{what} raised {type(error).__name__}: {error}{_where(error)}"

    @safety("the state machine contract")
    def snapshots_hold_the_whole_state(self, taken_from: int, restored: int) -> str | None:
        """A snapshot restored into an empty machine gives the state as it was when it began."""
        if taken_from == restored:
            return None
        return (
            f"the digest was {taken_from:016x} when the snapshot began, and is {restored:016x} in "
            "a machine restored from it: something is left out, or crept in while it was written"
        )

    @safety("Schneider 1990")
    def results_are_the_same_everywhere(
        self, identity: int, command: bytes, result: Any
    ) -> str | None:
        """A command has the same result on every node and every time it is replayed."""
        now = (result, repr(result))
        known = self._results.setdefault(identity, now)
        if known[1] == now[1] or known[0] == now[0] or " at 0x" in now[1]:
            return None
        return f"{show(command)} gave {known[1]} and later {now[1]}"

    @safety("Herlihy & Wing 1990")
    def answers_fit_your_model(self, history: History, model: Model) -> str | None:
        """One order of all operations explains every answer and keeps real time."""
        verdict = check(history, model, budget=Budget(configurations_max=CONFIGURATIONS_MAX))
        self._undecided = len(verdict.undecided)
        if verdict.counterexample is None:
            return None
        return f"no order explains them\n{explain(verdict.counterexample, model)}"
