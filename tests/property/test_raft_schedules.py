"""Random schedules: loss, delay, reordering, duplication, crashes, partitions, slow disks.

RA-1: the five properties of Fig. 3 hold after every step, and after the faults stop the cluster
elects a leader, commits and agrees. The seed is the whole identity of a run.
"""

from __future__ import annotations

import pytest
from raft_schedule import Schedule

SEEDS = 100


@pytest.mark.parametrize("block", range(10))
def test_ra_1_random_schedules_keep_fig_3_and_recover(block: int) -> None:
    """RA-1: no fault schedule breaks Fig. 3, and once faults stop all nodes agree."""
    for seed in range(block * SEEDS // 10, (block + 1) * SEEDS // 10):
        schedule = Schedule(seed)
        try:
            schedule.run()
        except AssertionError as error:
            last = "\n".join(schedule.cluster.events[-15:])
            raise AssertionError(f"seed {seed}: {error}\n{last}") from error
