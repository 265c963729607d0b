"""A toy: single-decree Paxos with two proposers and three acceptors, as a graph of configurations.

An illustration of the theorems, not an engine: nothing of the product is built on it. Proposer 0
wants value 0, proposer 1 wants value 1. A step is one *visit*: a proposer's question travels to one
acceptor, is answered, and the answer travels back, all at once; asynchrony is that visits happen
in any order and as late as anybody likes. Each proposer runs rounds:

    prepare   ask acceptors to promise a ballot; two promises are enough to go on
    accept    ask them to accept a value: that of the highest ballot heard of, else one's own
    retry     refused by anybody: begin anew with a ballot above all others

Two acceptances of one ballot decide. Only the *order* of ballots means anything, so they are
renamed to 1, 2, 3 ... after every step: thereby configurations repeat, the graph is finite, and a
run without end is a cycle that can be shown. Acceptors are interchangeable, so configurations that
differ only in their names count as one.

Source: Lamport 2001 (Paxos Made Simple); the configurations and valences are those of Fischer,
Lynch and Paterson 1985.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

ACCEPTORS = 3
QUORUM = 2
PREPARING, ACCEPTING, DECIDED = 1, 2, 3


class Acceptor(NamedTuple):
    """Its state (ballot 0: none yet), and which proposers' rounds have visited it, as bits."""

    promised: int = 0
    accepted: int = 0
    value: int = 0
    prepared_by: int = 0
    offered_by: int = 0


class Proposer(NamedTuple):
    """One round of a proposer."""

    wish: int
    ballot: int
    phase: int = PREPARING
    agreed: int = 0  # answers that count in this phase
    heard: int = 0  # highest accepted ballot among the promises
    value: int = 0  # what it will ask to accept
    is_refused: bool = False


class Configuration(NamedTuple):
    """Everything there is: states of all processes, and no message under way."""

    proposers: tuple[Proposer, ...]
    acceptors: tuple[Acceptor, ...]

    def decided(self) -> set[int]:
        """Values that some proposer knows to be decided: never more than one."""
        return {one.value for one in self.proposers if one.phase == DECIDED}

    def chosen(self) -> set[int]:
        """Values that a majority holds at one ballot, whether or not anybody knows it yet."""
        ballots = [one.accepted for one in self.acceptors if one.accepted]
        return {
            one.value for one in self.acceptors if one.accepted and ballots.count(one.accepted) > 1
        }


class Move(NamedTuple):
    """One step; ``acceptor`` is -1 for a retry."""

    kind: str  # "prepare", "accept" or "retry"
    proposer: int
    acceptor: int = -1

    def __str__(self) -> str:
        if self.kind == "retry":
            return f"P{self.proposer} retries"
        return f"P{self.proposer} {self.kind} A{self.acceptor + 1}"


def initial(wishes: tuple[int, int] = (0, 1)) -> Configuration:
    """Nobody has said anything; proposer 1 happens to hold the higher ballot."""
    proposers = tuple(
        Proposer(wish, ballot, value=wish) for ballot, wish in enumerate(wishes, start=1)
    )
    return Configuration(proposers, (Acceptor(),) * ACCEPTORS)


def moves(configuration: Configuration) -> Iterator[Move]:
    """Every step that may come next."""
    for number, proposer in enumerate(configuration.proposers):
        if proposer.phase == DECIDED:
            continue
        for place, acceptor in enumerate(configuration.acceptors):
            if not acceptor.prepared_by >> number & 1:
                yield Move("prepare", number, place)
            if proposer.phase == ACCEPTING and not acceptor.offered_by >> number & 1:
                yield Move("accept", number, place)
        if proposer.is_refused:
            yield Move("retry", number)


def apply(configuration: Configuration, move: Move) -> Configuration:
    """Return the configuration after a step, ballots renamed, acceptors still in their places."""
    proposers, acceptors = list(configuration.proposers), list(configuration.acceptors)
    number, place = move.proposer, move.acceptor
    proposer = proposers[number]
    if move.kind == "retry":
        top = max(*(one.ballot for one in proposers), *(one.promised for one in acceptors))
        proposers[number] = Proposer(proposer.wish, top + 1, value=proposer.wish)
        acceptors = [_forget_visits(acceptor, number) for acceptor in acceptors]
    elif move.kind == "prepare":
        proposers[number], acceptors[place] = _prepare(proposer, acceptors[place], number)
    else:
        proposers[number], acceptors[place] = _accept(proposer, acceptors[place], number)
        if proposers[number].phase == DECIDED:
            acceptors = [_forget_visits(acceptor, number) for acceptor in acceptors]
    return _rename_ballots(Configuration(tuple(proposers), tuple(acceptors)))


def _forget_visits(acceptor: Acceptor, number: int) -> Acceptor:
    promised, accepted, value, prepared_by, offered_by = acceptor
    others = ~(1 << number)
    return Acceptor(promised, accepted, value, prepared_by & others, offered_by & others)


def _prepare(proposer: Proposer, acceptor: Acceptor, number: int) -> tuple[Proposer, Acceptor]:
    wish, ballot, phase, agreed, heard, value, is_refused = proposer
    is_granted = acceptor.promised < ballot
    if not is_granted:
        is_refused = True
    elif phase == PREPARING:  # a later promise changes nothing: the round has gone on
        if acceptor.accepted > heard:
            heard, value = acceptor.accepted, acceptor.value
        agreed += 1
        if agreed == QUORUM:
            phase, agreed, heard = ACCEPTING, 0, 0
    return (
        Proposer(wish, ballot, phase, agreed, heard, value, is_refused),
        Acceptor(
            ballot if is_granted else acceptor.promised,
            acceptor.accepted,
            acceptor.value,
            acceptor.prepared_by | 1 << number,
            acceptor.offered_by,
        ),
    )


def _accept(proposer: Proposer, acceptor: Acceptor, number: int) -> tuple[Proposer, Acceptor]:
    promised, accepted, value, prepared_by, offered_by = acceptor
    offered_by |= 1 << number
    ballot = proposer.ballot
    if promised > ballot:
        proposer = proposer._replace(is_refused=True)
        return proposer, Acceptor(promised, accepted, value, prepared_by, offered_by)
    if proposer.agreed + 1 == QUORUM:
        proposer = Proposer(proposer.wish, 0, DECIDED, value=proposer.value)
    else:
        proposer = proposer._replace(agreed=proposer.agreed + 1)
    return proposer, Acceptor(ballot, ballot, proposer.value, prepared_by, offered_by)


def _rename_ballots(configuration: Configuration) -> Configuration:
    proposers, acceptors = configuration
    used = {0}
    for proposer in proposers:
        used.add(proposer.ballot)
        used.add(proposer.heard)
    for acceptor in acceptors:
        used.add(acceptor.promised)
        used.add(acceptor.accepted)
    if max(used) == len(used) - 1:
        return configuration
    rank = {ballot: place for place, ballot in enumerate(sorted(used))}
    return Configuration(
        tuple(one._replace(ballot=rank[one.ballot], heard=rank[one.heard]) for one in proposers),
        tuple(
            one._replace(promised=rank[one.promised], accepted=rank[one.accepted])
            for one in acceptors
        ),
    )


def canonical(configuration: Configuration) -> Configuration:
    """Return the representative of all configurations that differ by acceptors' names only."""
    first, second, third = configuration.acceptors
    if first <= second <= third:
        return configuration
    return Configuration(configuration.proposers, tuple(sorted(configuration.acceptors)))


# ---- the duel ----------------------------------------------------------------------------------


def duel() -> tuple[list[Move], list[Move]]:
    """A run without end in which every visit is made and nobody fails: (opening, cycle).

    Each proposer's requests to accept come just after the other's requests to prepare.
    """

    def all_three(kind: str, proposer: int) -> list[Move]:
        return [Move(kind, proposer, acceptor) for acceptor in range(ACCEPTORS)]

    def beaten(loser: int) -> list[Move]:
        return [
            *all_three("accept", loser),
            Move("retry", loser),
            *all_three("prepare", loser),
        ]

    opening = [*all_three("prepare", 0), *all_three("prepare", 1)]
    return opening, beaten(0) + beaten(1)


def run(configuration: Configuration, steps: Iterable[Move]) -> list[Configuration]:
    """Return the configurations along a run, the first one included.

    Raises:
        AssertionError: a step is not possible where it stands.
    """
    path = [configuration]
    for move in steps:
        assert move in moves(path[-1]), f"{move} is not possible here"
        path.append(apply(path[-1], move))
    return path


def fair_run(configuration: Configuration, steps_max: int) -> list[Configuration]:
    """Let one proposer at a time finish, the lowest-numbered first: a decision follows."""
    path = [configuration]
    while not path[-1].decided():
        assert len(path) <= steps_max, "no decision although nobody interferes"
        choice = min(moves(path[-1]), key=_fair_order)
        path.append(apply(path[-1], choice))
    return path


def _fair_order(move: Move) -> tuple[int, int, int]:
    return move.proposer, ("retry", "accept", "prepare").index(move.kind), move.acceptor
