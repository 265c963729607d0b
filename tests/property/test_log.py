"""The log in memory against a plain dict from index to entry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from quorate.consensus.entry import Entry, EntryKind
from quorate.consensus.log import Log


class LogAgainstDict(RuleBasedStateMachine):
    """Random operations on both; every question gets the same answer."""

    @initialize(base=st.integers(0, 5))
    def start(self, base: int) -> None:
        self.log = Log(base, base)
        self.model: dict[int, Entry] = {}
        self.base = (base, base)
        self.last = base

    def last_epoch(self) -> int:
        return self.model[self.last].epoch if self.last in self.model else self.base[1]

    @rule(step=st.integers(0, 2), size=st.integers(0, 9))
    def append(self, step: int, size: int) -> None:
        entry = Entry(self.last + 1, self.last_epoch() + step, EntryKind.BATCH, b"x" * size)
        self.log.append(entry)
        self.model[entry.index] = entry
        self.last += 1

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        index = data.draw(st.sampled_from(sorted(self.model)))
        self.log.truncate_from(index)
        self.model = {i: e for i, e in self.model.items() if i < index}
        self.last = index - 1

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        index = data.draw(st.sampled_from(sorted(self.model)))
        assert self.log.compact(index)
        assert not self.log.compact(index), "compacting twice changes nothing"
        self.base = (index, self.model[index].epoch)
        self.model = {i: e for i, e in self.model.items() if i > index}

    @rule(ahead=st.integers(0, 3), epoch=st.integers(0, 9))
    def reset(self, ahead: int, epoch: int) -> None:
        self.base = (self.last + ahead, epoch)
        self.last += ahead
        self.model = {}
        self.log.reset(*self.base)

    @rule(first=st.integers(0, 20), budget=st.integers(0, 40))
    def slice(self, first: int, budget: int) -> None:
        if first <= self.base[0]:
            return
        entries, size = self.log.slice(first, budget)
        available = [self.model[i] for i in sorted(self.model) if i >= first]
        assert entries == available[: len(entries)]
        assert size == sum(len(e.payload) for e in entries)
        assert size <= budget or len(entries) == 1
        if len(entries) < len(available):
            assert entries, "at least one entry travels"
            assert size + len(available[len(entries)].payload) > budget

    @invariant()
    def answers_are_equal(self) -> None:
        if not hasattr(self, "log"):
            return
        assert self.log.last_index == self.last
        assert self.log.first_index == self.base[0] + 1
        assert self.log.last_epoch == self.last_epoch()
        for index in range(self.last + 3):
            expected = self.model[index].epoch if index in self.model else None
            if index == self.base[0]:
                expected = self.base[1]
            assert self.log.epoch_at(index) == expected
        known = [*sorted(self.model)]
        for index in known:
            epoch = self.model[index].epoch
            same = [i for i in known if self.model[i].epoch == epoch]
            assert self.log.first_index_of_epoch_at(index) == same[0]
        for epoch in range(12):
            same = [i for i in known if self.model[i].epoch == epoch]
            if not same and epoch == self.base[1]:
                same = [self.base[0]]
            assert self.log.last_index_of_epoch(epoch) == (same[-1] if same else None)


TestLogAgainstDict = LogAgainstDict.TestCase


@given(st.tuples(st.integers(0, 5), st.integers(0, 5)), st.integers(0, 5), st.integers(0, 5))
def test_up_to_date_is_dictionary_order(own: tuple[int, int], term: int, index: int) -> None:
    """§5.4.1: the term decides, and only between equal terms the length."""
    log = Log(own[1], own[0])
    assert log.is_up_to_date(index, term) == ((term, index) >= own)


def test_gaps_and_falling_epochs_are_refused() -> None:
    """The log's own invariants are asserted where entries come in."""
    log = Log(3, 2)
    with pytest.raises(AssertionError):
        log.append(Entry(5, 2, EntryKind.BATCH, b""))
    with pytest.raises(AssertionError):
        log.append(Entry(4, 1, EntryKind.BATCH, b""))
    with pytest.raises(AssertionError):
        log.truncate_from(3)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=30),
    st.integers(0, 12),
    st.integers(0, 40),
    st.data(),
)
def test_what_stays_behind_a_snapshot_is_bounded_in_entries_and_bytes(
    sizes: list[int], keep_entries: int, keep_bytes: int, data: st.DataObject
) -> None:
    """As much is kept as both bounds allow, and never more."""
    log = Log()
    for index, size in enumerate(sizes, 1):
        log.append(Entry(index, 1, EntryKind.BATCH, b"x" * size))
    upto = data.draw(st.integers(0, len(sizes)))
    to = log.compactable_to(upto, keep_entries=keep_entries, keep_bytes=keep_bytes)
    kept = sizes[to:upto]
    assert len(kept) <= keep_entries
    assert sum(kept) <= keep_bytes
    if to > 0 and len(kept) < keep_entries:
        assert sum(kept) + sizes[to - 1] > keep_bytes
