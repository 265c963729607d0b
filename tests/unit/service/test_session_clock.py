"""The leader's clock of sessions."""

from hypothesis import given
from hypothesis import strategies as st

from quorate.tree.session_clock import SessionClock, patience_ms


@given(
    timeout_ms=st.integers(50, 5_000),
    heard=st.lists(st.integers(1, 4_000), max_size=20),
    step_ms=st.integers(5, 50),
)
def test_a_session_is_found_after_its_patience_and_within_a_bucket(timeout_ms, heard, step_ms):
    """Never before timeout and a quarter since it was last heard; soon afterwards."""
    clock = SessionClock(bucket_ms=100)
    clock.watch(1, timeout_ms, 0)
    now = last = 0
    for gap in heard:
        if gap >= timeout_ms:
            continue
        end = now + gap
        while now + step_ms <= end:
            now += step_ms
            assert clock.silent(now) == []
        now = last = end
        clock.touch(1, now)
    while not (found := clock.silent(now)):
        now += step_ms
    assert found == [1]
    assert patience_ms(timeout_ms) <= now - last <= patience_ms(timeout_ms) + 100 + step_ms


def test_a_found_session_is_found_again_until_it_is_forgotten():
    """A lost proposal is made again; a session that is over is not."""
    clock = SessionClock()
    clock.watch(1, 4_000, 0)
    assert clock.silent(5_000) == [1]
    assert clock.silent(5_900) == []
    assert clock.silent(6_300) == [1]
    clock.forget(1)
    assert clock.silent(60_000) == []
    assert len(clock) == 0
    assert not (clock._buckets or clock._bucket_of or clock._heard_ms)


def test_a_shorter_timeout_counts_at_once_and_a_longer_one_too():
    """Attaching again may change the timeout either way."""
    clock = SessionClock()
    clock.watch(1, 40_000, 0)
    clock.watch(1, 4_000, 0)
    clock.watch(2, 4_000, 0)
    clock.watch(2, 40_000, 0)
    assert clock.silent(5_100) == [1]
    clock.forget(1)
    assert clock.silent(49_900) == []
    assert clock.silent(50_100) == [2]


def test_touching_what_is_not_watched_leaves_no_trace():
    """A follower's notice may name sessions that are over."""
    clock = SessionClock()
    clock.touch(9, 100)
    assert not clock._heard_ms


def test_a_tick_without_a_due_bucket_looks_at_nobody():
    """100 000 sessions heard meanwhile cost nothing until their bucket falls due."""
    clock = SessionClock()
    for session_id in range(100_000):
        clock.watch(session_id, 10_000, 0)
    assert len(clock._buckets) == 1
    assert clock.silent(12_499) == []
    assert len(clock._buckets) == 1
