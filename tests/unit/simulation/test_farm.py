"""A farm's worker, and what travels between it and the farm. Whole farms: tests/process."""

from __future__ import annotations

import io
import json
import signal
import sys
from contextlib import contextmanager

import pytest

from quorate.errors import InvariantBroken, UsageError
from quorate.replication import outbox
from quorate.simulation.farm import Errand, cores, verdict_of
from quorate.simulation.farm_worker import Worker, around_named, work
from quorate.simulation.plan import Wishes
from quorate.simulation.trial import Failure, Overdue, attempt
from quorate.simulation.workloads.catalogue import workload_named
from quorate.simulation.world import World

SHORT = Errand(Wishes(duration_us=1_000_000, nodes=3))
LOSING = Errand(Wishes(duration_us=5_000_000, nodes=3), around=f"{__name__}:losing")


@contextmanager
def losing():
    """A batch lost on the way stays lost."""
    real = outbox.Outbox.resend
    outbox.Outbox.resend = lambda _: None
    try:
        yield None
    finally:
        outbox.Outbox.resend = real


def answers(errand, *seeds):
    """What a worker says."""
    lines = io.StringIO("".join(f"{line}\n" for line in (errand.to_json(), *seeds)))
    out = io.StringIO()
    work(lines, out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def direct(errand, seed):
    """The same without a worker."""
    return attempt(errand.scenario(seed, workload_named))


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    """Workers find this module by its name."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this())


def _this():
    import types

    module = types.ModuleType(__name__)
    module.losing = losing
    return module


def test_an_errand_travels():
    """Everything in it comes back, faults as they were."""
    for faults in (None, (), ("crash", "disk")):
        errand = Errand(Wishes("cells", 5, 2, 7, faults), "m:N", "a:b", 9)
        assert Errand.from_json(errand.to_json()) == errand


def test_a_worker_answers_each_seed_in_order():
    """Its verdicts are those of the same seeds run here."""
    found = [verdict_of(answer) for answer in answers(SHORT, 3, 1)]
    assert found == [direct(SHORT, 3), direct(SHORT, 1)]


def test_a_failure_travels_whole():
    """Property, detail, moment and scenario arrive, and the scenario fails there as well."""
    found = [verdict_of(answer) for answer in answers(LOSING, *range(12))]
    failure = next(one for one in found if isinstance(one, Failure))
    assert failure.broken.name == "replicas come to agree"
    with losing():
        assert attempt(failure.scenario) == failure
    assert not isinstance(attempt(failure.scenario), Failure)


def test_what_cannot_be_run_is_said_for_each_seed():
    """A wrong import path is the caller's mistake, not a violation."""
    for errand in (Errand(machine="no.such:T"), Errand(around="no.such:thing"), Errand(around="x")):
        (answer,) = answers(errand, 1)
        with pytest.raises(UsageError):
            verdict_of(answer)
    with pytest.raises(UsageError, match="nothing"):
        around_named("json:nothing")


def test_a_run_that_never_ends_is_a_failure(monkeypatch):
    """Too many events, or too much real time, and the run is broken off and reported."""
    monkeypatch.setattr("quorate.simulation.world.EVENTS_MAX", 100)
    failure = direct(SHORT, 1)
    assert isinstance(failure, Failure)
    assert "no end after 100 events" in failure.detail
    monkeypatch.undo()

    def up(*_):
        raise Overdue

    monkeypatch.setattr(World, "run", up)
    failure = direct(SHORT, 1)
    assert isinstance(failure, Failure)
    assert failure.broken.name == "runs come to an end"


def test_a_worker_sets_an_alarm_and_clears_it(monkeypatch):
    """Real time is bounded around each run, and nothing is left ticking."""
    alarms = []
    monkeypatch.setattr(signal, "setitimer", lambda which, seconds: alarms.append(seconds))
    Worker(SHORT).answer(1)
    assert alarms == [SHORT.seconds_max, 0]


def test_events_are_bounded_over_several_calls():
    """The bound is on the whole run, however it is cut into pieces."""
    world = World(1)
    world.events_max = 10

    def again():
        world.after(1, again)

    again()
    world.run(6)
    with pytest.raises(InvariantBroken):
        world.run(6)
    assert world.events == 11


def test_there_is_a_core():
    """How many processes a farm has by default."""
    assert cores() >= 1
