"""Election downtime: the shape of Fig. 16 of the Raft paper (TH-1, RA-11).

Each row is a small sample of what ``bench/election_downtime.py`` measures in full.
"""

import statistics

import pytest
from raft_wake import raft_wake

from quorate.consensus.registry import EngineSettings
from quorate.errors import SettingsError
from quorate.simulation.elections import ElectionTrial, crash_leader


def downtimes_ms(trials=60, **trial):
    """Sorted times until another node led; the cap where none did."""
    chosen = ElectionTrial(**trial)
    found = []
    for seed in range(trials):
        leader_us = crash_leader(chosen, seed, next_wake=raft_wake).leader_us
        found.append((chosen.cap_us if leader_us is None else leader_us) / 1000)
    return sorted(found)


def median(high_ms, **trial):
    return statistics.median(downtimes_ms(timeout_ms=(150, high_ms), logs_differ=False, **trial))


def test_equal_timeouts_never_elect_th_1():
    """Five equal nodes with equal timeouts split every vote: no leader within the cap."""
    times = downtimes_ms(6, timeout_ms=(150, 150), logs_differ=False, cap_us=20_000_000)
    assert times == [20_000.0] * 6


def test_more_randomness_elects_sooner_th_1_ra_11():
    """A few milliseconds of randomness cost seconds, tens of milliseconds are enough."""
    one = median(151, trials=8, cap_us=20_000_000)
    five, twenty_five, fifty = median(155), median(175), median(200)
    assert one > 3 * five
    assert five > 5 * twenty_five
    assert twenty_five >= fifty * 0.95
    assert fifty < 220


def test_recommended_range_elects_within_a_second_th_1_ra_11():
    """With 150 to 300 ms 99 of 100 crashes cost less than a second, whatever the logs."""
    for logs_differ in (True, False):
        times = downtimes_ms(200, timeout_ms=(150, 300), logs_differ=logs_differ)
        assert times[197] < 1000
        assert 120 < statistics.median(times) < 260


def test_a_split_vote_costs_milliseconds_when_lost_rounds_are_retried_early():
    """As the product does: no machine's loss is felt longer than the longest timeout."""
    common = {"logs_differ": False, "resolution_us": 1000}
    for high_ms in (155, 175, 300):
        as_paper = downtimes_ms(timeout_ms=(150, high_ms), **common)
        as_product = downtimes_ms(timeout_ms=(150, high_ms), retries=4, **common)
        assert as_product[-1] < as_paper[-1]
        assert as_product[-1] < 320
    hung = downtimes_ms(300, timeout_ms=(500, 1000), nodes=3, retries=4, **common)
    assert hung[-1] < 1000


def test_shorter_timeouts_elect_sooner_until_the_network_is_too_slow_ra_11():
    """Downtime falls with the timeouts; below the round trip a leader cannot even serve."""
    times = [
        statistics.median(downtimes_ms(timeout_ms=(low, 2 * low), logs_differ=False))
        for low in (150, 100, 50, 25)
    ]
    assert times == sorted(times, reverse=True)
    too_short = ElectionTrial((12, 24), logs_differ=False)
    outcomes = [crash_leader(too_short, seed, next_wake=raft_wake) for seed in range(10)]
    assert all(outcome.serving_us is None for outcome in outcomes)
    assert statistics.mean(outcome.epochs for outcome in outcomes) > 1.5


def test_pre_votes_keep_nodes_that_cannot_win_from_splitting_votes():
    """Where logs differ only those that can win campaign: even equal timeouts elect."""
    times = downtimes_ms(30, timeout_ms=(150, 150), logs_differ=True)
    assert statistics.median(times) < 1000


def test_across_a_continent():
    """With 30 to 40 ms one way and 300 to 600 ms, one dead of five costs about half a second."""
    wide = {"timeout_ms": (300, 600), "one_way_us": (30_000, 40_000), "logs_differ": False}
    one_dead = downtimes_ms(150, **wide)
    two_dead = downtimes_ms(150, dead=2, **wide)
    assert 400 < statistics.mean(one_dead) < 600 < statistics.mean(two_dead) < 900
    assert one_dead[-1] < 2000
    assert two_dead[-1] < 4000


@pytest.mark.parametrize("timeout_ms", [(150, 300), (12, 24)])
def test_skipping_idle_ticks_changes_nothing(timeout_ms):
    """A trial that wakes engines only when due ends as one that ticks all the time."""
    trial = ElectionTrial(timeout_ms, resolution_us=200, serving_cap_us=100_000)
    for seed in range(3):
        assert crash_leader(trial, seed) == crash_leader(trial, seed, next_wake=raft_wake)


def test_same_seed_same_trial():
    """One seed fixes a trial to the microsecond."""
    trial = ElectionTrial((150, 300), one_way_us=(5_000, 10_000))
    assert crash_leader(trial, 7, next_wake=raft_wake) == crash_leader(
        trial, 7, next_wake=raft_wake
    )
    assert crash_leader(trial, 7, next_wake=raft_wake) != crash_leader(
        trial, 8, next_wake=raft_wake
    )


def test_negative_retries_are_refused():
    """Settings say what is wrong with them."""
    with pytest.raises(SettingsError, match="must not be negative"):
        EngineSettings(election_retries=-1)


def test_negative_spread_is_refused():
    """A range that ends before it begins is a mistake of whoever set it."""
    with pytest.raises(SettingsError, match="spread"):
        EngineSettings(election_timeout_spread_ms=-1)
