"""A user's state machine: what is judged is seen to fail once each, and a good one passes."""

from __future__ import annotations

import json
from zlib import crc32

import pytest

from quorate.checking.models.register import Register
from quorate.errors import UsageError
from quorate.simulation.plan import Wishes, draw_scenario
from quorate.simulation.scenario import format_scenario, parse_scenario
from quorate.simulation.trial import Failure, attempt, workload_of_machine
from quorate.simulation.workloads.machines import (
    MachineTest,
    load_machine_test,
    request_of,
    words_of,
)

SEEDS = range(12)


class Counters:
    """Counts words."""

    def __init__(self):
        self.counts = {}

    def apply(self, payload, context):
        word = payload.decode()
        self.counts[word] = self.counts.get(word, 0) + 1
        return self.counts[word]

    def snapshot(self):
        return iter([json.dumps(self.counts).encode()])

    def restore(self, chunks):
        self.counts = json.loads(b"".join(chunks))

    def digest(self):
        return crc32(json.dumps(sorted(self.counts.items())).encode())


def a_word(dice):
    return dice.pick((b"a", b"b", b"c"))


def tried(test, seeds=SEEDS, duration_us=3_000_000, **wishes):
    """The first failure, or all outcomes."""
    workload_of = workload_of_machine(test)
    outcomes = []
    for seed in seeds:
        scenario = draw_scenario(seed, Wishes("x:Y", 3, 4, duration_us, **wishes), workload_of)
        verdict = attempt(scenario, workload_of=workload_of)
        if isinstance(verdict, Failure):
            return verdict
        outcomes.append(verdict)
    return outcomes


def broken(test, **wishes):
    """What property the first failure is of, and what was seen."""
    failure = tried(test, **wishes)
    assert isinstance(failure, Failure)
    return failure.broken.name, failure.detail


def test_a_good_machine_passes():
    """No property is violated, and commands were carried out."""
    outcomes = tried(MachineTest(Counters, a_word, invariant=lambda machine: True))
    assert isinstance(outcomes, list)
    assert sum(outcome.figures["acknowledged"] for outcome in outcomes) > 100
    assert sum(outcome.crashes for outcome in outcomes) > 0


def test_th_10_a_run_of_ones_own_machine_repeats_bit_for_bit():
    """The same seed, the same digest."""
    test = MachineTest(Counters, a_word)
    assert tried(test, seeds=[5]) == tried(test, seeds=[5])


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        (False, "small: does not hold"),
        ("too many", "small: too many"),
        (AssertionError("9"), "small: 9"),
    ],
)
def test_an_invariant_may_answer_tell_or_assert(said, seen):
    """False, a text and a failing assert are violations; the command is named."""

    def small(machine):
        if sum(machine.counts.values()) < 5:
            return None
        if isinstance(said, Exception):
            raise said
        return said

    name, detail = broken(MachineTest(Counters, a_word, invariant=small))
    assert name == "your invariant holds"
    assert detail.startswith(seen)
    assert "(after '" in detail


def test_an_exception_is_a_violation_with_its_place():
    """Errors of commands are results; what raises is shown without our insides."""

    class Raises(Counters):
        def apply(self, payload, context):
            if super().apply(payload, context) > 3:
                raise KeyError("gone")

    name, detail = broken(MachineTest(Raises, a_word))
    assert name == "your machine raises nothing"
    assert detail.startswith("apply raised KeyError: 'gone' (test_machines.py:")
    assert "machines.py:2" not in detail.replace("test_machines", "")

    def impossible(machine):
        return machine.nothing

    name, detail = broken(MachineTest(Counters, a_word, invariant=impossible))
    assert name == "your machine raises nothing"
    assert detail.startswith("invariant raised AttributeError")


def test_a_snapshot_that_forgets_is_found():
    """A snapshot is restored into an empty machine as soon as it is complete."""

    class Forgets(Counters):
        def snapshot(self):
            return iter([json.dumps({k: v for k, v in self.counts.items() if k != "c"}).encode()])

    name, detail = broken(MachineTest(Forgets, a_word), duration_us=10_000_000)
    assert name == "snapshots hold the whole state"
    assert "left out" in detail


def test_a_snapshot_that_goes_on_changing_is_found():
    """What is applied while a snapshot is written must not show in it."""

    class Late(Counters):
        def snapshot(self):
            for word in list(self.counts):
                yield json.dumps([word, self.counts[word]]).encode() + b"\n"
            yield b"\n" * 900

        def restore(self, chunks):
            lines = b"".join(chunks).split(b"\n")
            self.counts = dict(json.loads(line) for line in lines if line)

    name, _ = broken(MachineTest(Late, a_word), duration_us=10_000_000, seeds=range(40))
    assert name == "snapshots hold the whole state"


def test_results_that_differ_between_nodes_are_found():
    """What a machine answers must not depend on the node."""

    class Local(Counters):
        def apply(self, payload, context):
            return super().apply(payload, context), context.local

    name, detail = broken(MachineTest(Local, a_word))
    assert name == "results are the same everywhere"
    assert "True" in detail
    assert "False" in detail


def test_states_that_differ_between_nodes_are_found():
    """Nodes compare digests of their states."""

    class Dirty(Counters):
        def apply(self, payload, context):
            super().apply(payload, context)
            self.counts["mine"] = int(context.local)
            return "done"

    name, _ = broken(MachineTest(Dirty, a_word))
    assert name in ("replicas agree with themselves", "replicas come to agree")


class Cell:
    """A register."""

    def __init__(self):
        self.value = self.before = ""

    def apply(self, payload, context):
        self.before, self.value = self.value, payload.decode()

    def snapshot(self):
        return iter([json.dumps([self.before, self.value]).encode()])

    def restore(self, chunks):
        self.before, self.value = json.loads(b"".join(chunks))

    def digest(self):
        return crc32(f"{self.before}/{self.value}".encode())


def in_words(request, result):
    if request == b"?":
        return ("read", None, None, result or None)
    return ("write", None, request.decode(), None)


def cell_test(read, model="register"):
    return MachineTest(
        Cell,
        commands=lambda dice: str(dice.draw(1_000_000)).encode(),
        questions=lambda dice: b"?",
        read=read,
        operation=in_words,
        model=model,
    )


def test_answers_are_held_against_a_model():
    """Reads of the last value fit a register, by name or as an object; older ones do not."""
    assert isinstance(tried(cell_test(lambda cell, _: cell.value), seeds=range(4)), list)
    right = tried(cell_test(lambda cell, _: cell.value, Register()), seeds=range(2))
    assert sum(outcome.figures["reads"] for outcome in right) > 5
    name, _ = broken(cell_test(lambda cell, _: cell.before))
    assert name == "answers fit your model"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"transfer ann bob 5",
        b'{"a": 1}',
        b"",
        b" ",
        b"a  b",
        b"x#y",
        b"\x00\xff",
        "é".encode(),
        b"\n",
    ],
)
def test_commands_stand_in_files_as_they_are(request_bytes):
    """Text stays text, everything else is hexadecimal, and both come back."""
    words = words_of("do", request_bytes)
    assert request_of(words) == request_bytes
    assert words[0] == ("do" if request_bytes in (b"transfer ann bob 5", b'{"a": 1}') else "do-hex")


def test_scenarios_of_machines_round_trip():
    """Binary and large commands are written, read back and carried out."""
    test = MachineTest(Counters, lambda dice: dice.pick((b"x" * 3_000, b"a b", b"a#b")))
    workload_of = workload_of_machine(test)
    scenario = draw_scenario(2, Wishes("x:Y", 3, 2, 2_000_000, ()), workload_of)
    assert parse_scenario(format_scenario(scenario), "file") == scenario
    outcome = attempt(scenario, workload_of=workload_of)
    assert not isinstance(outcome, Failure)
    assert outcome.figures["acknowledged"] == len(scenario.steps)


@pytest.mark.parametrize(
    ("words", "wrong"),
    [("jump", "a client can"), ("do-hex 0g", "hexadecimal"), ("ask who", "no `read`")],
)
def test_wrong_steps_are_refused(words, wrong):
    """A file's mistake is named before anything runs."""
    text = f"quorate scenario 1\nseed 1\nworkload x:Y\nclient 1 at 1s {words}\n"
    scenario = parse_scenario(text, "file")
    with pytest.raises(UsageError, match=wrong):
        attempt(scenario, workload_of=workload_of_machine(MachineTest(Counters, a_word)))


def test_what_a_test_gets_wrong_is_said():
    """Halves of pairs, unknown models, no state machine, commands that are no bytes."""
    with pytest.raises(UsageError, match="questions and read"):
        MachineTest(Counters, a_word, read=lambda machine, question: 1)
    with pytest.raises(UsageError, match="operation and model"):
        MachineTest(Counters, a_word, model="register")
    with pytest.raises(UsageError, match="no model 'regster'"):
        MachineTest(Counters, a_word, operation=in_words, model="regster")
    with pytest.raises(UsageError, match="dict is no state machine: it has no apply, snapshot"):
        MachineTest(dict, a_word)
    with pytest.raises(UsageError, match="commands must return bytes, not str"):
        tried(MachineTest(Counters, lambda dice: "text"))
    with pytest.raises(UsageError, match=r"commands raised ZeroDivisionError.*test_machines\.py:"):
        tried(MachineTest(Counters, lambda dice: 1 // 0))


def test_machines_are_found_by_name(tmp_path):
    """By file or module; what is missing is said, and what is there."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from quorate.simulation.workloads.machines import MachineTest\n"
        "from quorate.simulation.workloads.cells import Cells\n"
        "CELLS = MachineTest(Cells, lambda dice: b'1 write a 1')\n"
    )
    assert load_machine_test(f"{file}:CELLS").name == "Cells"
    for where, wrong in (
        (f"{file}:OTHER", "no MachineTest called OTHER; it has CELLS"),
        ("json:loads", "it has none"),
        ("nothing.at.all:X", "cannot import nothing.at.all"),
        (f"{tmp_path}/no.py:X", "cannot import"),
        ("plain", "write module:NAME"),
    ):
        with pytest.raises(UsageError, match=wrong):
            load_machine_test(where)
