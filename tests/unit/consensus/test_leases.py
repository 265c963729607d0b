"""The two halves of a lease as numbers: how long, from when, and what ends it."""

from hypothesis import given
from hypothesis import strategies as st

from quorate.consensus.raft.leases import ROUNDING_MS, Lease, Promise, lease_ms


def held(length_ms=100, sent=((1, 50),), confirmed=1):
    lease = Lease(length_ms)
    for round_, now_ms in sent:
        lease.sent(round_, now_ms)
    lease.confirmed(confirmed)
    return lease


def test_a_lease_counts_from_when_its_round_was_sent():
    """However late the echoes came."""
    lease = held()
    assert lease.is_held(149)
    assert not lease.is_held(150)


def test_a_lease_is_renewed_by_the_latest_confirmed_round():
    """Rounds that nobody confirmed count for nothing; a later echo confirms earlier rounds."""
    lease = held(sent=((1, 50), (2, 60), (3, 70)), confirmed=2)
    assert lease.is_held(159)
    assert not lease.is_held(160)


def test_rounds_of_one_tick_count_together():
    """Many rounds between two ticks need one place, and any of them confirms it."""
    lease = held(sent=[(n, 50) for n in range(1, 1000)], confirmed=1)
    assert len(lease._rounds) == 0
    assert lease.is_held(149)
    lease = held(sent=[(n, 50) for n in range(5, 1000)], confirmed=4)
    assert not lease.is_held(51)


def test_rounds_without_echo_are_bounded():
    """What is older than a lease is worth nothing and is forgotten."""
    lease = held(sent=[(n, n) for n in range(1, 10_000)], confirmed=0)
    assert len(lease._rounds) <= 100


def test_drop_and_bar():
    """After a drop only a new round counts; after a bar none does until the next term."""
    lease = held()
    lease.sent(2, 60)
    lease.drop()
    lease.confirmed(2)
    assert not lease.is_held(61)
    lease.sent(3, 62)
    lease.confirmed(3)
    assert lease.is_held(63)
    lease.bar()
    lease.sent(4, 64)
    lease.confirmed(4)
    assert not lease.is_held(65)
    lease.begin_term()
    lease.sent(5, 66)
    lease.confirmed(5)
    assert lease.is_held(67)


def test_without_leases_nothing_is_held_or_promised():
    """A length of 0 switches both halves off."""
    assert not held(length_ms=0).is_held(50)
    promise = Promise(0, 10)
    promise.give()
    assert not promise.is_kept(10)
    assert promise.until_ms(10) == 10


def test_a_promise_counts_from_the_first_tick_after_it_was_given():
    """A process that stood still before it echoed has only an old time in its hands."""
    promise = Promise(100, 1_000)
    assert not promise.is_kept(1_000)
    promise.give()
    assert promise.is_kept(9_999), "no tick since: nobody knows how late it is"
    promise.tick(5_000)
    assert promise.is_kept(5_099)
    assert not promise.is_kept(5_100)
    assert promise.until_ms(5_050) == 5_100


@given(
    timeout_ms=st.integers(30, 5_000),
    percent=st.integers(100, 200),
    leader_speed=st.integers(900_000, 1_100_000),
    echo_us=st.integers(0, 2_000_000),
    offsets=st.tuples(st.integers(0, 999), st.integers(0, 999)),
)
def test_a_lease_ends_before_the_promise_while_clocks_keep_to_the_bound(
    timeout_ms, percent, leader_speed, echo_us, offsets
):
    """By arithmetic: the first moment a voter may vote is after the last of the lease."""
    voter_speed = leader_speed * percent // 100  # as fast as the bound allows
    million = 1_000_000

    def leader_ms(at_us):
        return (at_us * leader_speed // million + offsets[0]) // 1000

    def voter_ms(at_us):
        return (at_us * voter_speed // million + offsets[1]) // 1000

    length_ms = lease_ms(timeout_ms, percent)
    promised_ms = voter_ms(echo_us)
    free_us = echo_us  # the first time at which the voter's clock says that it may vote
    step = timeout_ms * 1000 * million // voter_speed
    free_us += max(0, step - 2_000)
    while voter_ms(free_us) - promised_ms < timeout_ms:
        free_us += 50
    assert leader_ms(free_us) - leader_ms(echo_us) >= length_ms, "sent no later than echoed"
    assert length_ms >= timeout_ms / 2 - ROUNDING_MS - 1
