"""The quorum arithmetic against definitions that are too slow to be wrong."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from quorate.consensus.membership import Configuration
from quorate.consensus.quorum import EVERYTHING, Quorum, VoteResult

IDS = st.integers(1, 7)
HALVES = st.frozensets(IDS, max_size=5)


def configuration(voters: frozenset[int], outgoing: frozenset[int]) -> Configuration:
    return Configuration(tuple(sorted(voters)), (), tuple(sorted(outgoing)))


def majorities(half: frozenset[int]) -> list[set[int]]:
    """Every set of more than half of the voters."""
    return [
        set(chosen)
        for size in range(len(half) // 2 + 1, len(half) + 1)
        for chosen in combinations(sorted(half), size)
    ]


def naive_committed(half: frozenset[int], acks: dict[int, int]) -> int:
    """The best that any majority has wholly reached."""
    if not half:
        return EVERYTHING
    return max(min(acks.get(voter, 0) for voter in chosen) for chosen in majorities(half))


def naive_vote(half: frozenset[int], votes: dict[int, bool]) -> VoteResult:
    if not half or any(all(votes.get(v, False) for v in chosen) for chosen in majorities(half)):
        return VoteResult.WON
    possible = any(all(votes.get(v, True) for v in chosen) for chosen in majorities(half))
    return VoteResult.PENDING if possible else VoteResult.LOST


@given(HALVES, HALVES, st.dictionaries(st.integers(1, 9), st.integers(0, 12)))
def test_committed_equals_the_best_majority_of_both_halves(
    voters: frozenset[int], outgoing: frozenset[int], acks: dict[int, int]
) -> None:
    """Committed is what some majority of each half has reached; strangers never count."""
    expected = min(naive_committed(voters, acks), naive_committed(outgoing, acks))
    assert Quorum(configuration(voters, outgoing)).committed(acks) == expected


@given(HALVES, HALVES, st.dictionaries(st.integers(1, 9), st.booleans()))
def test_vote_result_equals_the_definition(
    voters: frozenset[int], outgoing: frozenset[int], votes: dict[int, bool]
) -> None:
    """A vote is won by a majority of each half, lost when one half can no longer be won."""
    results = {naive_vote(voters, votes), naive_vote(outgoing, votes)}
    expected = VoteResult.WON
    if VoteResult.LOST in results:
        expected = VoteResult.LOST
    elif VoteResult.PENDING in results:
        expected = VoteResult.PENDING
    assert Quorum(configuration(voters, outgoing)).vote_result(votes) is expected


@given(HALVES, HALVES, st.dictionaries(IDS, st.integers(0, 12)), IDS, st.integers(0, 5))
def test_committed_never_falls_when_an_answer_rises(
    voters: frozenset[int], outgoing: frozenset[int], acks: dict[int, int], node: int, more: int
) -> None:
    """More acknowledgements never take back what was committed."""
    quorum = Quorum(configuration(voters, outgoing))
    before = quorum.committed(acks)
    assert quorum.committed({**acks, node: acks.get(node, 0) + more}) >= before


@given(HALVES.filter(bool), st.dictionaries(IDS, st.integers(0, 12)))
def test_two_quorums_always_meet(voters: frozenset[int], acks: dict[int, int]) -> None:
    """Any two winning sets of votes share a voter: the root of every safety argument."""
    quorum = Quorum(configuration(voters, frozenset()))
    winners = [
        set(chosen)
        for size in range(len(voters) + 1)
        for chosen in combinations(sorted(voters), size)
        if quorum.vote_result(dict.fromkeys(chosen, True)) is VoteResult.WON
    ]
    assert all(a & b for a in winners for b in winners)


def test_describe_draws_bars_and_marks_the_committed_voter() -> None:
    """The picture for people is stable."""
    picture = Quorum(Configuration.of([1, 2, 3])).describe({1: 7, 2: 5, 3: 2})
    assert picture == "n1 ====>  7\nn2 ==>    5  <- committed\nn3 >      2"


def test_an_empty_quorum_commits_everything() -> None:
    """The neutral element needs no special case."""
    quorum = Quorum(Configuration.of([]))
    assert quorum.committed({}) == EVERYTHING
    assert quorum.vote_result({}) is VoteResult.WON
    assert quorum.describe({}) == "no voters: everything is committed"
