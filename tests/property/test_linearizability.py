"""The checker against the definition: tiny histories of every model, all orders tried."""

from __future__ import annotations

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from linearizable_histories import POOLS, has_order, histories, is_linearizable, made

from quorate.checking.counterexample import cut_down
from quorate.checking.history import History, Operation
from quorate.checking.linearizability import AUTO, SEARCHES, check
from quorate.checking.model import ILLEGAL
from quorate.checking.models import MODEL_NAMES, model_named
from quorate.checking.verdict import Answer

NAMES = sorted(POOLS)


def test_every_model_has_a_pool() -> None:
    """No model is left out of what follows."""
    assert list(MODEL_NAMES) == NAMES


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_th_7_all_searches_agree_with_the_definition(name: str, data: st.DataObject) -> None:
    """Depth-first, just-in-time and both by turns say what trying all orders says."""
    model = model_named(name)
    operations = data.draw(histories(model, POOLS[name]))
    expected = is_linearizable(model, operations)
    event("linearizable" if expected else "not linearizable")
    for search in (AUTO, *sorted(SEARCHES)):
        verdict = check(History(operations), model, search=search)
        assert (verdict.answer is Answer.LINEARIZABLE) is expected, search
        assert verdict.answer is not Answer.UNDECIDED
        assert (verdict.counterexample is None) is expected


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_th_8_a_window_has_no_order_and_without_its_last_return_it_has(
    name: str, data: st.DataObject
) -> None:
    """What is shown is a counterexample by itself, and the longest order is one."""
    model = model_named(name)
    operations = data.draw(histories(model, POOLS[name]))
    objects: dict[object, list[Operation]] = {}
    for operation in operations:
        objects.setdefault(model.partition(operation), []).append(operation)
    for key, found in objects.items():
        if has_order(model, found, [model.initial(key)]):
            continue
        window, states = cut_down(model, key, found, 0)
        assert not has_order(model, window, states)
        last = max(
            operation.returned
            for operation in window
            if not operation.is_unknown
            and not has_order(model, window, states, operation.returned + 1)
            and has_order(model, window, states, operation.returned)
        )
        assert all(operation.invoked < last for operation in window)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_models_keep_their_promises(name: str, data: st.DataObject) -> None:
    """What only reads changes nothing; nothing becomes legal by what does not enable it."""
    model = model_named(name)
    pool = [made(template) for template in POOLS[name]]
    chosen = st.sampled_from(pool)
    key = model.partition(pool[0])
    state = model.initial(key)
    for operation in data.draw(st.lists(chosen, max_size=6)):
        after = model.step(state, operation)
        if after is not ILLEGAL and model.partition(operation) == key:
            state = after
    lost = [operation._replace(returned=1 << 62, result=None) for operation in pool]
    waiting_here = [
        operation
        for operation in pool
        if model.partition(operation) == key and model.step(state, operation) is ILLEGAL
    ]
    for operation in pool + lost:
        assert model.check_operation(operation) is None
        assert model.describe_operation(operation)
        if model.partition(operation) != key:
            continue
        after = model.step(state, operation)
        if model.only_reads(operation):
            assert after is ILLEGAL or after == state
        if after is ILLEGAL:
            continue
        assert model.describe_state(after)
        for waiting in waiting_here:
            if model.step(after, waiting) is not ILLEGAL:
                assert model.enables(operation, waiting), (operation, waiting)
