"""Farms of real processes: the same verdicts as in one process, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quorate.simulation.farm import Errand, Farm, FarmFailed
from quorate.simulation.plan import Wishes
from quorate.simulation.trial import Failure, attempt
from quorate.simulation.workloads.catalogue import workload_named

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
SHORT = Errand(Wishes(duration_us=1_000_000, nodes=3))
BANK = str(ROOT / "examples" / "bank" / "test_bank.py")
WAIT_SECONDS = 20


def quorate(*words, **options):
    """Start the command line."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), **options.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, "-m", "quorate", "simulate", *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hear_ctrl_c,  # noqa: PLW1509 - these tests have no threads
        **options,
    )


def _hear_ctrl_c():
    """A shell's background jobs ignore it, and so would everything that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def children(pid):
    """Processes whose parent this is."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def wait_for(condition):
    """Until it holds."""
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.05)


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_th_10_a_farm_gives_what_one_process_gives():
    """Each seed once, with the digest that it has anywhere."""
    with Farm(SHORT, jobs=2) as farm:
        found = {verdict.seed: verdict for verdict in farm.run(range(6))}
    expected = {s: attempt(SHORT.scenario(s, workload_named)) for s in range(6)}
    assert found == expected


def test_a_stopped_farm_finishes_what_it_began():
    """No new seeds; those that were handed out still count."""
    seen = []
    with Farm(SHORT, jobs=2) as farm:
        for verdict in farm.run(range(1_000)):
            seen.append(verdict.seed)
            farm.stop()
    assert 1 <= len(seen) <= 5


def test_a_worker_that_dies_is_an_error():
    """The farm ends and names the seeds that got no verdict."""
    with Farm(SHORT, jobs=1) as farm, pytest.raises(FarmFailed, match="signal 9 with seeds"):
        for _ in farm.run(range(1_000)):
            for pid in children(os.getpid()):
                if b"farm_worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)


def test_a_run_that_takes_too_long_is_broken_off():
    """A run of hours is reported after a second."""
    errand = Errand(Wishes(duration_us=3_600_000_000, nodes=3), seconds_max=1)
    with Farm(errand, jobs=1) as farm:
        (failure,) = farm.run([1])
    assert isinstance(failure, Failure)
    assert failure.broken.name == "runs come to an end"


def test_ctrl_c_ends_cleanly(tmp_path):
    """A word on how far it came, exit code 130, no traceback, no worker left."""
    process = quorate("run", "--seeds", 10_000, "--duration", "1s", cwd=tmp_path)
    wait_for(lambda: len(children(process.pid)) >= 1)
    workers = children(process.pid)
    assert process.stdout.readline().startswith("quorate simulate run --first-seed 0")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 130, err
    assert "interrupted after" in err
    assert "Traceback" not in out + err
    assert all(is_gone(pid) for pid in workers)


def test_workers_end_with_the_farm_even_if_it_is_killed(tmp_path):
    """Nobody is left when the farm has no time to say goodbye."""
    process = quorate("run", "--seeds", 10_000, "--duration", "1s", cwd=tmp_path)
    wait_for(lambda: len(children(process.pid)) >= 1)
    workers = children(process.pid)
    process.kill()
    process.communicate()
    wait_for(lambda: all(is_gone(pid) for pid in workers))


def test_pl_9_the_same_line_gives_the_same_digest_in_another_process(tmp_path):
    """Neither the process, nor its hash seed, nor the number of workers changes a run."""
    words = ("run", "--seeds", 4, "--duration", "2s", "--json")
    found = []
    for jobs, hash_seed in ((1, "1"), (2, "77")):
        process = quorate(*words, "--jobs", jobs, cwd=tmp_path, env={"PYTHONHASHSEED": hash_seed})
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        found.append(json.loads(out))
    assert found[0]["digest"] == found[1]["digest"]
    assert found[0]["runs"] == found[1]["runs"]
    assert len(found[0]["runs"]) == 4


def test_a_users_machine_runs_on_a_farm(tmp_path):
    """Workers import it from a file; what fails there is written, and replays here."""
    machine = ("--machine", f"{BANK}:FORGETFUL")
    process = quorate("run", *machine, "--seeds", 200, "--duration", "10s", cwd=tmp_path)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 1, err
    file, *_ = sorted(tmp_path.glob("quorate-*.scenario"))
    assert f"VIOLATION in seed {file.stem.removeprefix('quorate-')}: " in out
    again = quorate("replay", file.name, *machine, cwd=tmp_path)
    out, err = again.communicate(timeout=60)
    assert again.returncode == 1, err
    assert "VIOLATION in seed" in out
