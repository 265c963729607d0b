"""How fast histories are checked: seconds of CPU for each, on one core.

    PYTHONPATH=src python bench/check_speed.py

The histories are made here: clients call reads, writes and cas on registers, each call takes
effect at a random moment before it returns, and the seed is fixed. For the broken ones a late read
is told a value that was overwritten long ago. ``public_histories.py`` measures other people's.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Any

from quorate.checking.history import UNKNOWN_RETURN, History, Operation
from quorate.checking.linearizability import check
from quorate.checking.models import model_named
from quorate.checking.verdict import Budget, Verdict

READS = 0.5
WRITES = 0.25
EXPECTED_RIGHT = 0.7
BUDGET = Budget(configurations_max=5_000_000)


@dataclass
class Running:
    """One call between its invocation and its return."""

    process: int
    function: str
    key: int
    argument: Any
    invoked: int
    result: Any = None
    happened: bool = False


@dataclass
class Workload:
    """Clients that each have one call open most of the time."""

    operations: int
    clients: int
    keys: int
    seed: int = 1
    values: int | None = None  # how many different ones; None: each write has its own
    lost: float = 0.0  # share of calls whose outcome nobody learns
    stale: bool = False
    registers: dict[int, Any] = field(default_factory=dict)

    def history(self) -> History:
        """Run it."""
        chance = random.Random(self.seed)
        running: dict[int, Running] = {}
        process_next = self.clients
        processes = list(range(self.clients))
        done: list[Operation] = []
        position = issued = 0
        while issued < self.operations or running:
            client = chance.randrange(self.clients)
            call = running.get(client)
            if call is None:
                if issued < self.operations:
                    issued += 1
                    running[client] = self._call(chance, processes[client], position, issued)
                    position += 1
            elif not call.happened:
                self._happen(call)
            else:
                del running[client]
                returned = position
                if chance.random() < self.lost:
                    returned = UNKNOWN_RETURN
                    processes[client] = process_next
                    process_next += 1
                position += 1
                done.append(
                    Operation(
                        call.process,
                        call.function,
                        call.key,
                        call.argument,
                        call.result,
                        call.invoked,
                        returned,
                    )
                )
        done.sort(key=lambda operation: operation.invoked)
        if self.stale:
            self._tell_an_old_value(chance, done)
        return History(done)

    def _call(self, chance: random.Random, process: int, position: int, number: int) -> Running:
        key = chance.randrange(self.keys)
        new = number if self.values is None else chance.randrange(self.values)
        kind = chance.random()
        if kind < READS:
            return Running(process, "read", key, None, position)
        if kind < READS + WRITES:
            return Running(process, "write", key, new, position)
        is_right = chance.random() < EXPECTED_RIGHT
        expected = self.registers.get(key) if is_right else -1
        return Running(process, "cas", key, (expected, new), position)

    def _happen(self, call: Running) -> None:
        present = self.registers.get(call.key)
        if call.function == "read":
            call.result = present
        elif call.function == "write":
            self.registers[call.key] = call.argument
        else:
            call.result = present == call.argument[0]
            if call.result:
                self.registers[call.key] = call.argument[1]
        call.happened = True

    def _tell_an_old_value(self, chance: random.Random, done: list[Operation]) -> None:
        reads = [
            index
            for index, operation in enumerate(done)
            if operation.function == "read" and not operation.is_unknown
        ]
        late = chance.choice(reads[-len(reads) // 4 :])
        old = [
            done[index].result
            for index in reads[: len(reads) // 2]
            if done[index].key == done[late].key
        ]
        done[late] = done[late]._replace(result=chance.choice(old))


WORKLOADS = {
    "100,000 operations, 1,000 keys, 20 clients": Workload(100_000, 20, 1000),
    "the same with 5 values": Workload(100_000, 20, 1000, values=5),
    "10,000 operations, 100 keys, 20 clients": Workload(10_000, 20, 100),
    "1,000 operations, 1 key, 10 clients": Workload(1000, 10, 1),
    "the same with 5 values ": Workload(1000, 10, 1, values=5),
    "the same, 2 % lost": Workload(1000, 10, 1, values=5, lost=0.02),
    "the same, 10 % lost": Workload(1000, 10, 1, values=5, lost=0.1),
    "1,000 operations, 1 key, one stale read": Workload(1000, 10, 1, stale=True),
    "the same, 5 values and 2 % lost": Workload(1000, 10, 1, values=5, lost=0.02, stale=True),
    "10,000 operations, 1 key, 10 clients": Workload(10_000, 10, 1),
    "1,000 operations, 1 key, 30 clients": Workload(1000, 30, 1),
}


def timed(history: History, model: str) -> tuple[Verdict, float]:
    """The verdict and the seconds of CPU it took."""
    began = time.process_time()
    verdict = check(history, model_named(model), budget=BUDGET)
    return verdict, time.process_time() - began


def report(name: str, verdict: Verdict, seconds: float) -> None:
    answer = f"{verdict.answer.value} ({verdict.search})"
    print(f"{name:45} {seconds:8.3f} s {verdict.configurations:9,} configurations  {answer}")


def main() -> None:
    for name, workload in WORKLOADS.items():
        report(name, *timed(workload.history(), "register"))


if __name__ == "__main__":
    main()
