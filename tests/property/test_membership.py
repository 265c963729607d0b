"""Configurations and changes: their bytes, and that every way through them is a valid one."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.consensus import change as steps
from quorate.consensus.change import Change, ChangeRefused, MemberRole, NewMember
from quorate.consensus.membership import ADDRESS_BYTES_MAX, Configuration
from quorate.errors import RemoteProtocolError, UsageError

IDS = st.integers(1, 9)
ADDRESSES = st.sampled_from(["a:1", "[::1]:2181", "höst.example:9", "x" * 255])
SETS = st.frozensets(IDS, max_size=5)


def _sorted(ids: frozenset[int]) -> tuple[int, ...]:
    return tuple(sorted(ids))


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    """Any configuration that may be."""
    voters = draw(st.frozensets(IDS, min_size=1, max_size=5))
    learners = draw(SETS) - voters
    outgoing, next_voters, next_learners = draw(SETS), frozenset[int](), frozenset[int]()
    if not outgoing and draw(st.booleans()):
        next_voters = draw(st.frozensets(IDS, min_size=1, max_size=5))
        next_learners = draw(SETS) - next_voters
    members = sorted({*voters, *learners, *outgoing, *next_voters, *next_learners})
    some = st.lists(st.sampled_from(members), unique=True)
    halves = [half for half in (voters, outgoing, next_voters) if half]
    witness = draw(st.sampled_from(members))
    is_sound = all(len(half) > 1 or witness not in half for half in halves)
    witnesses = (witness,) if is_sound and draw(st.booleans()) else ()
    ranked = [node for node in draw(some) if node not in witnesses]
    return Configuration(
        _sorted(voters),
        _sorted(learners),
        _sorted(outgoing),
        witnesses,
        _sorted(next_voters),
        _sorted(next_learners),
        tuple((node, draw(st.integers(1, 100))) for node in sorted(ranked)),
        tuple((node, draw(ADDRESSES)) for node in sorted(draw(some))),
    )


CHANGES = st.builds(
    Change,
    add=st.lists(
        st.builds(NewMember, IDS, st.sampled_from(MemberRole), st.just("host:1"), st.just(0)),
        max_size=3,
    ).map(tuple),
    remove=SETS.map(_sorted),
    promote=SETS.map(_sorted),
    demote=SETS.map(_sorted),
)


@given(configurations())
def test_a_configuration_survives_its_bytes(configuration: Configuration) -> None:
    """Equal configurations are equal bytes, and bytes give the configuration back."""
    assert Configuration.decode(configuration.encode()) == configuration


@given(st.binary(max_size=80))
def test_noise_is_refused_or_a_configuration(data: bytes) -> None:
    """Nothing else is raised, and what is accepted is what would be written."""
    try:
        configuration = Configuration.decode(data)
    except RemoteProtocolError:
        return
    assert configuration.encode() == data


@given(configurations(), st.data())
def test_damaged_bytes_are_refused_or_another_configuration(
    configuration: Configuration, data: st.DataObject
) -> None:
    """One byte more, fewer or different never gives the same configuration, or an odd error."""
    encoded = configuration.encode()
    place = data.draw(st.integers(0, len(encoded) - 1))
    flipped = encoded[:place] + bytes([encoded[place] ^ 1]) + encoded[place + 1 :]
    for damaged in (encoded[:-1], encoded + b"x", flipped):
        with suppress(RemoteProtocolError):
            assert Configuration.decode(damaged) != configuration


def test_data_directories_of_the_first_format_stay_readable() -> None:
    """Three lists of ids: written so for as long as nothing new is in them."""
    old = bytes.fromhex("0003 00000001 00000002 00000003 0001 00000004 0000".replace(" ", ""))
    configuration = Configuration.decode(old)
    assert configuration == Configuration.of([1, 2, 3], [4])
    assert configuration.encode() == old


def test_what_cannot_be_is_refused() -> None:
    """Each impossible configuration says why."""
    for wrong in (
        {"voters": (0,)},
        {"voters": (2, 1)},
        {"voters": (1,), "learners": (1,)},
        {"voters": (1,), "next_learners": (2,)},
        {"voters": (1,), "outgoing": (2,), "next_voters": (3,)},
        {"voters": (1,), "priorities": ((2, 1),)},
        {"voters": (1,), "priorities": ((1, 0),)},
        {"voters": (1,), "addresses": ((1, ""),)},
        {"voters": (1,), "addresses": ((1, "x" * (ADDRESS_BYTES_MAX + 1)),)},
        {"voters": (1,), "witnesses": (1,)},
        {"voters": tuple(range(1, 300))},
    ):
        with pytest.raises(UsageError):
            Configuration(**wrong)


def _way(current: Configuration, target: Configuration) -> list[Configuration]:
    """All configurations on the way to a target."""
    way = [current, steps.first_step(current, target)]
    if way[-1].is_planned:
        way.append(steps.joint(steps.given_up(way[-1]), steps.target_of(way[-1])))
    if way[-1].is_joint:
        way.append(steps.settled(way[-1]))
    return way


@given(st.lists(CHANGES, max_size=6))
def test_rf_4_every_way_is_valid_and_voters_change_through_both(changes: list[Change]) -> None:
    """Whatever is asked for, in whatever order: refused with words, or carried out exactly."""
    current = Configuration.of([1, 2, 3], [4])
    for change in changes:
        try:
            target = steps.requested(current, change)
        except ChangeRefused as refusal:
            assert str(refusal)
            continue
        way = _way(current, target)
        assert way[-1] == target
        for before, after in pairwise(way):
            if before.voters != after.voters:
                assert after.outgoing == before.voters or before.is_joint
            if after.is_planned:
                assert steps.given_up(after).voters == before.voters
                assert set(target.members) <= set(after.members)
        current = target


@given(st.lists(CHANGES, max_size=6))
def test_two_configurations_in_a_row_have_no_disjoint_majorities(changes: list[Change]) -> None:
    """Whoever decides by the one shares a voter with whoever decides by the next."""
    current = Configuration.of([1, 2, 3])
    for change in changes:
        try:
            target = steps.requested(current, change)
        except ChangeRefused:
            continue
        for before, after in pairwise(_way(current, target)):
            one = {half for half in (before.voters, before.outgoing) if half}
            other = {half for half in (after.voters, after.outgoing) if half}
            assert one & other, "they share a half, and a half has no disjoint majorities"
        current = target
