"""Cells: registers under faults, judged by the linearizability checker.

The machine makes every mistake visible: it remembers the identity of each command that ever took
effect, so that a lost, doubled or reordered one shows (FoundationDB's advice: choose an invariant
that any error breaks). Clients write, compare and set, read with a quorum and read locally.

What clients can do, as scenario files write it:

    write KEY VALUE | cas KEY OLD NEW | read KEY | local KEY | flood COUNT

``flood`` submits many commands at once without waiting; all others wait for their answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from zlib import crc32

from quorate.checking.explain import explain
from quorate.checking.history import History, Operation
from quorate.checking.linearizability import check
from quorate.checking.models.catalogue import model_named
from quorate.checking.verdict import Budget
from quorate.replication.state_machine import ApplyContext
from quorate.simulation.properties import safety
from quorate.simulation.scenario import Scenario, Step
from quorate.simulation.workloads.replicas import ReplicaWorkload, bursts
from quorate.simulation.world import Dice

KEYS = "abcdefgh"
CONFIGURATIONS_MAX = 300_000
CHUNK = 7
PIECES = 8
FLOODS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 60)
"""How many commands at once; the last is many entries, so that a leader cut off has a long tail."""
_SHAPES = {"write": 3, "cas": 4, "read": 2, "local": 2, "flood": 2}


class Cells:
    """Registers by key, and the identities of all commands that took effect, in order."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.identities: list[int] = []
        self._digest = 0

    def apply(self, payload: bytes, context: ApplyContext) -> Any:
        """Carry out ``identity function key arguments``; the result is the client's."""
        assert context.time_ms >= 0
        identity, function, *arguments = payload.decode().split()
        self.identities.append(int(identity))
        self._digest = crc32(payload, self._digest)
        if function == "write":
            key, value = arguments[:2]
            self.values[key] = value
            return True
        if function == "cas":
            key, old, new = arguments[:3]
            if self.values.get(key, "-") != old:
                return False
            self.values[key] = new
        return True

    def snapshot(self) -> Iterator[bytes]:
        """Yield the state as of now in a few pieces."""
        lines = [f"{self._digest}", *(f"{key} {value}" for key, value in self.values.items())]
        lines += ["", *map(str, self.identities)]
        chunk = max(CHUNK, len(lines) // PIECES)
        return (
            "".join(f"{line}\n" for line in lines[at : at + chunk]).encode()
            for at in range(0, len(lines), chunk)
        )

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Read the state back, whatever the piece boundaries."""
        lines = b"".join(chunks).decode().split("\n")
        self._digest = int(lines[0])
        split = lines.index("", 1)
        self.values = dict(line.split() for line in lines[1:split])
        self.identities = [int(line) for line in lines[split + 1 : -1]]

    def digest(self) -> int:
        """Running checksum over all commands."""
        return self._digest


class CellsWorkload(ReplicaWorkload):
    """Clients of replicated registers."""

    def plan(self, dice: Dice, scenario: Scenario) -> list[Step]:
        """Draw what the clients do: a few keys, every value written once."""
        keys = KEYS[: dice.pick((1, 2, 4, len(KEYS)))]
        floods = dice.pick((0.03, 0.03, 0.3))
        recent = dict.fromkeys(keys, "-")
        count = 0

        def words(dice: Dice) -> tuple[str, ...]:
            nonlocal count
            kind, key = dice.draw(19), dice.pick(keys)
            if dice.chance(floods):
                return ("flood", str(FLOODS[dice.draw(len(FLOODS))]))
            if kind < 6:
                return ("read", key)
            if kind < 9:
                return ("local", key)
            count += 1
            old, recent[key] = recent[key], str(count)
            if kind < 13 and dice.chance(0.9):
                return ("cas", key, old, str(count))
            return ("write", key, str(count))

        return bursts(dice, scenario, words)

    def check_step(self, step: Step) -> str | None:
        """Known words, and as many as it takes."""
        name, *rest = step.words
        if _SHAPES.get(name) != len(step.words):
            return (
                "a client can: write KEY VALUE, cas KEY OLD NEW, read KEY, local KEY, flood COUNT"
            )
        if name == "flood" and not (rest[0].isdigit() and 0 < int(rest[0]) <= 1000):
            return f"flood {rest[0]}: COUNT is 1 to 1000"
        return None

    # ---- the state machine ---------------------------------------------------------------------

    def machine(self) -> Cells:
        """Make empty cells."""
        return Cells()

    def begin(self, step: Step, done: Callable[[], None]) -> None:
        """Ask for something; a flood is asked for without waiting."""
        if step.words[0] != "flood":
            super().begin(step, done)
            return
        client = self._clients[step.client]
        for _ in range(int(step.words[1])):
            super().begin(Step(step.at_us, 0, ("flood", str(client.number))), _nothing)
        self._clients[0].node = client.node
        done()

    def encode(self, identity: int, words: tuple[str, ...]) -> bytes | None:
        """The command: some are long, so that entries, messages and files fill unevenly."""
        if words[0] in ("read", "local"):
            return None
        padding = "x" * (identity * 37 % 120)
        return f"{identity} {' '.join(words)} {padding}".encode()

    def is_local(self, words: tuple[str, ...]) -> bool:
        """Local reads are answered at once."""
        return words[0] == "local"

    def read(self, machine: Cells, words: tuple[str, ...]) -> str | None:
        """The value of a key."""
        return machine.values.get(words[1])

    def position(self, machine: Cells) -> int:
        """How many commands took effect."""
        return len(machine.identities)

    def identities(self, machine: Cells) -> list[int]:
        """All commands that took effect."""
        return machine.identities

    # ---- the history ---------------------------------------------------------------------------

    def operation(self, call: Any, result: Any, returned: int) -> Operation | None:
        """Local reads and floods belong into no history of registers."""
        function, *rest = call.words
        if function in ("local", "flood"):
            return None
        argument: Any = rest[1] if function == "write" else None
        if function == "cas":
            argument = (None if rest[1] == "-" else rest[1], rest[2])
        return Operation(
            call.client.process, function, rest[0], argument, result, call.invoked, returned
        )

    def judge_history(self, history: History) -> None:
        """Check linearizability, with a last read of every key on every node."""
        operations, position = list(history.operations), self._positions
        for host in self._cluster.members():
            machine = host.core.machine.inner
            for key in KEYS:
                process = f"last read on node {host.node_id}"
                value = machine.values.get(key)
                position += 2
                operations.append(
                    Operation(process, "read", key, None, value, position - 1, position)
                )
        self.answers_are_linearizable(History(operations))

    @safety("Herlihy & Wing 1990")
    def answers_are_linearizable(self, history: History) -> str | None:
        """One order of all operations explains every answer and keeps real time."""
        budget = Budget(configurations_max=CONFIGURATIONS_MAX)
        model = model_named("cas-map")
        verdict = check(history, model, budget=budget)
        if verdict.counterexample is None:
            self._undecided = len(verdict.undecided)
            return None
        return f"no order explains them\n{explain(verdict.counterexample, model)}"

    def figures(self) -> dict[str, int]:
        """What was done."""
        return {**super().figures(), "undecided": getattr(self, "_undecided", 0)}


def _nothing() -> None:
    """A flood waits for nothing."""
