"""Verdicts: budgets, objects, races between searches, and what a counterexample tells."""

from __future__ import annotations

import pytest

from quorate.checking.history import UNKNOWN_RETURN, History, Operation
from quorate.checking.linearizability import AUTO, SEARCHES, check
from quorate.checking.models import model_named
from quorate.checking.search import is_new
from quorate.checking.verdict import Answer, Budget
from quorate.errors import BadInput, UsageError

REGISTER = model_named("register")


def write(value: object, invoked: int, returned: int = UNKNOWN_RETURN) -> Operation:
    return Operation(f"w{invoked}", "write", None, value, None, invoked, returned)


def read(value: object, invoked: int, returned: int) -> Operation:
    return Operation(f"r{invoked}", "read", None, None, value, invoked, returned)


def cas(expected: object, new: object, invoked: int, returned: int = UNKNOWN_RETURN) -> Operation:
    return Operation(f"c{invoked}", "cas", None, (expected, new), True, invoked, returned)


def crowd(count: int) -> list[Operation]:
    """Writes that all overlap, and a read of what nobody wrote: every order has to be tried."""
    return [*[write(n, n, 1000 + n) for n in range(count)], read("never", count, 999)]


def hard(count: int) -> list[Operation]:
    """Like a crowd, but the read is refused late: two reads that no one order serves."""
    writes = [write(n, n, 1000 + n) for n in range(count)]
    moment = 2000
    return [*writes, read(0, moment, moment + 1), read(1, moment + 2, moment + 3)]


def test_an_empty_history_is_linearizable() -> None:
    """Nothing contradicts nothing."""
    verdict = check(History([]), REGISTER)
    assert (verdict.answer, verdict.operations) == (Answer.LINEARIZABLE, 0)
    assert check(History([write(1, 0)]), REGISTER).answer is Answer.LINEARIZABLE


def test_an_unknown_write_may_happen_late_or_never_but_not_before_its_call() -> None:
    """Its effect may show at any time after the call, once."""
    seen = [write(1, 0, 1), write(2, 2), read(1, 3, 4), read(2, 5, 6)]
    assert check(History(seen), REGISTER).answer is Answer.LINEARIZABLE
    assert check(History([*seen, read(1, 7, 8)]), REGISTER).answer is Answer.NOT_LINEARIZABLE
    early = [write(1, 0, 1), read(2, 2, 3), write(2, 4)]
    assert check(History(early), REGISTER).answer is Answer.NOT_LINEARIZABLE


def test_overlapping_operations_may_take_effect_in_any_order() -> None:
    """Real time orders only what does not overlap."""
    assert check(History([write(1, 0, 3), read(1, 1, 2)]), REGISTER).answer is Answer.LINEARIZABLE
    assert check(History([write(1, 0, 2), read(None, 1, 3)]), REGISTER).answer is (
        Answer.LINEARIZABLE
    )


@pytest.mark.parametrize("search", [AUTO, *sorted(SEARCHES)])
def test_one_broken_object_decides_although_others_are_hard(search: str) -> None:
    """Each object is checked alone; a broken one is found behind one that takes too long."""
    register = [operation._replace(key="hard") for operation in hard(24)]
    broken = [write(1, 5000, 5001), read(2, 5002, 5003)]
    history = History(register + [operation._replace(key="broken") for operation in broken])
    verdict = check(history, REGISTER, budget=Budget(configurations_max=60_000), search=search)
    assert verdict.answer is Answer.NOT_LINEARIZABLE
    assert verdict.counterexample is not None
    assert verdict.counterexample.key == "broken"
    assert verdict.partitions == 2


@pytest.mark.parametrize("search", [AUTO, *sorted(SEARCHES)])
def test_th_7_a_spent_budget_is_undecided_and_never_a_guess(search: str) -> None:
    """The objects that took too long are named; no more is visited than was allowed."""
    budget = Budget(configurations_max=20_000)
    verdict = check(History(hard(24)), REGISTER, budget=budget, search=search)
    assert verdict.answer is Answer.UNDECIDED
    assert verdict.undecided == [None]
    assert verdict.counterexample is None
    assert verdict.configurations < 20_000 + 100


def test_a_callers_deadline_ends_the_search() -> None:
    """It is asked now and then, so that the checker needs no clock."""
    asked = []

    def is_over() -> bool:
        asked.append(1)
        return len(asked) > 3

    verdict = check(History(hard(24)), REGISTER, budget=Budget(is_over=is_over))
    assert verdict.answer is Answer.UNDECIDED
    assert len(asked) < 20


def test_an_end_that_is_out_of_reach_is_seen_at_once() -> None:
    """A read of what nobody wrote needs no search, however many writes overlap."""
    verdict = check(History(crowd(60)), REGISTER)
    assert verdict.answer is Answer.NOT_LINEARIZABLE
    assert verdict.configurations < 100


@pytest.mark.parametrize("search", sorted(SEARCHES))
@pytest.mark.parametrize("first", [1, 2])
def test_an_unknown_outcome_used_on_one_way_may_be_needed_on_another(
    search: str, first: int
) -> None:
    """Two ways to one state differ in which unknown operations are left; both are followed."""
    start = [write(1, 0, 4), write(2, 1, 5), cas(1, 3, 2), cas(2, 3, 3)]
    ending = [read(3, 6, 7), write(first, 8, 9), read(3, 10, 11)]
    assert check(History(start + ending), REGISTER, search=search).answer is Answer.LINEARIZABLE
    both = [*ending, write(3 - first, 12, 13), read(3, 14, 15)]
    verdict = check(History(start + both), REGISTER, search=search)
    assert verdict.answer is Answer.NOT_LINEARIZABLE


def test_the_memo_keeps_the_ways_that_used_least() -> None:
    """A way that used more than a known one is dropped; one that used something else is not."""
    memo: dict[int, object] = {}
    assert is_new(memo, 1, 0b011)
    assert not is_new(memo, 1, 0b011)
    assert not is_new(memo, 1, 0b111)
    assert is_new(memo, 1, 0b101)
    assert is_new(memo, 1, 0b110)
    assert not is_new(memo, 1, 0b111)
    assert is_new(memo, 1, 0b001)
    assert memo[1] == (0b110, 0b001)
    assert is_new(memo, 1, 0)
    assert not is_new(memo, 1, 0b110)


def test_many_lost_writes_do_not_explode() -> None:
    """Forty writes of unknown outcome, and values that tell little."""
    lost = [write(n % 3, n) for n in range(40)]
    sequence = [0, 1, 2, 0, 2, 1, 0]
    reads = [read(value, 100 + 2 * n, 101 + 2 * n) for n, value in enumerate(sequence)]
    for search in (AUTO, *sorted(SEARCHES)):
        assert check(History(lost + reads), REGISTER, search=search).answer is Answer.LINEARIZABLE
    bad = [*reads, read(7, 300, 301)]
    verdict = check(History(lost + bad), REGISTER)
    assert verdict.answer is Answer.NOT_LINEARIZABLE


def test_th_8_a_counterexample_is_the_window_and_the_way_into_it() -> None:
    """A stale read among many others is shown with the write that it missed, and no more."""
    noise = [
        operation
        for n in range(50)
        for operation in (write(n, 10 * n, 10 * n + 2), read(n, 10 * n + 3, 10 * n + 4))
    ]
    stale = read(48, 600, 601)
    later = [write(60, 700, 701), read(60, 702, 703)]
    shown = check(History([*noise, stale, *later]), REGISTER).counterexample
    assert shown is not None
    assert shown.before == "48"
    assert shown.operations == [write(49, 490, 492), stale]
    assert shown.longest == [(write(49, 490, 492), "49")]
    assert shown.stuck == [(stale, "it does not fit: the state is 49")]


def test_a_counterexample_keeps_what_might_have_explained_it() -> None:
    """A lost write that could not help is left out; one that was needed before is not."""
    history = [write(5, 0), write(1, 1, 2), write(2, 3), read(2, 4, 5), read(1, 6, 7)]
    shown = check(History(history), REGISTER).counterexample
    assert shown is not None
    assert write(5, 0) not in shown.operations
    assert shown.operations[-1] == read(1, 6, 7)


def test_operations_and_searches_that_nobody_knows_are_named() -> None:
    """File and line for an operation, the list of what there is for a search."""
    odd = write(1, 0, 1)._replace(function="wrte", line=12)
    with pytest.raises(BadInput, match=r"^run\.jsonl:12: model register has no function 'wrte'"):
        check(History([odd], source="run.jsonl"), REGISTER)
    with pytest.raises(UsageError, match="auto, depth-first, just-in-time"):
        check(History([]), REGISTER, search="breadth-first")


def test_zero_is_not_false() -> None:
    """They are equal in Python; as results they say different things."""
    calls = [("exists", False), ("exists", 0), ("create", None)]
    operations = [
        Operation(n, function, "/a", None, result, 2 * n, 2 * n + 1)
        for n, (function, result) in enumerate(calls)
    ]
    for order in (operations, operations[1:2] + operations[:1]):
        verdict = check(History(order), model_named("znode"))
        assert verdict.answer is Answer.NOT_LINEARIZABLE


def test_a_value_that_cannot_be_hashed_is_named() -> None:
    """Lists have to arrive as tuples; which operation has one is said."""
    with pytest.raises(BadInput, match=r"history:3: .*cannot be hashed"):
        check(History([write([1], 0, 1)._replace(line=3)]), REGISTER)
