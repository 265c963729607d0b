"""Clocks that drift and jump, and disks that slow down and stall."""

from __future__ import annotations

import itertools

import pytest

from quorate.simulation.clocks import DRIFT_PPM_MAX, WALL_ORIGIN_MS, DiskTiming, VirtualClock
from quorate.simulation.world import World

SECOND_US = 1_000_000


@pytest.mark.parametrize("ppm", [-DRIFT_PPM_MAX, -50, 0, 200, DRIFT_PPM_MAX])
def test_a_clock_runs_at_its_own_pace(ppm):
    """Ten seconds of the world are ten seconds and the drift; the wall clock drifts along."""
    world = World(1)
    clock = VirtualClock(world, drift_ppm=ppm)
    world.run(10 * SECOND_US)
    assert clock.now_us() == 10 * SECOND_US + 10 * ppm
    assert clock.now_ms() == clock.now_us() // 1000
    assert clock.wall_ms() == WALL_ORIGIN_MS + clock.now_ms()


def test_a_change_of_drift_never_makes_the_clock_jump_or_go_back():
    """Only its pace changes."""
    world = World(1)
    clock = VirtualClock(world)
    seen = []
    for ppm in (DRIFT_PPM_MAX, -DRIFT_PPM_MAX, 0, 17, -DRIFT_PPM_MAX):
        for _ in range(50):
            world.run(333)
            seen.append(clock.now_us())
        clock.drift(ppm)
        assert clock.drift_ppm == ppm
    steps = [b - a for a, b in itertools.pairwise(seen)]
    assert min(steps) >= 299
    assert max(steps) <= 367


def test_only_the_wall_clock_jumps():
    """Forward and back; what decides elections does not notice."""
    world = World(1)
    clock = VirtualClock(world, wall_offset_ms=500)
    world.run(SECOND_US)
    clock.jump(3_600_000)
    assert clock.now_ms() == 1_000
    assert clock.wall_ms() == WALL_ORIGIN_MS + 1_500 + 3_600_000
    clock.jump(-7_200_000)
    assert clock.now_ms() == 1_000
    assert clock.wall_ms() == WALL_ORIGIN_MS + 1_500 - 3_600_000


def test_a_reboot_begins_the_monotonic_clock_at_zero_and_not_the_wall_clock():
    """The origin of monotonic time means nothing, and is another after each boot."""
    world = World(1)
    clock = VirtualClock(world, drift_ppm=1_000)
    world.run(5 * SECOND_US)
    wall_ms = clock.wall_ms()
    clock.reboot()
    assert clock.now_ms() == 0
    assert clock.wall_ms() == wall_ms
    world.run(SECOND_US)
    assert clock.now_ms() == 1_001


@pytest.mark.parametrize("ppm", [-DRIFT_PPM_MAX, 0, 333, DRIFT_PPM_MAX])
def test_a_timer_of_the_node_goes_off_when_its_clock_says_so(ppm):
    """A fast clock's second is over before the world's."""
    world = World(1)
    clock = VirtualClock(world, drift_ppm=ppm)
    world.run(clock.world_us(SECOND_US))
    assert abs(clock.now_us() - SECOND_US) <= 2
    assert (clock.world_us(SECOND_US) < SECOND_US) == (ppm > 0)


def test_a_disk_takes_its_time_more_when_slow_and_for_ever_when_stalled():
    """Healthy, slow, stalled, healthy again."""
    world = World(1)
    timing = DiskTiming(world, (100, 103))
    assert {timing.next_us() for _ in range(100)} == {100, 101, 102, 103}
    timing.slow(1_000)
    assert {timing.next_us() for _ in range(100)} == {100_000, 101_000, 102_000, 103_000}
    timing.slow(1)
    timing.stall(SECOND_US)
    assert all(SECOND_US + 100 <= timing.next_us() <= SECOND_US + 103 for _ in range(10))
    world.run(SECOND_US - 10)
    assert timing.next_us() >= 110
    timing.calm()
    assert timing.next_us() <= 103
