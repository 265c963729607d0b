"""What a node sees of itself: slow disks, late loops, lagging members; and whom it tells."""

import asyncio
import gc
import logging
import socket
from pathlib import Path
from typing import Any

import pytest

from quorate.consensus.engine import NO_LEADER, Leadership, RoleChange
from quorate.consensus.entry import Persist
from quorate.errors import DiskFailed
from quorate.node import events
from quorate.node.disk_watch import DiskWatch
from quorate.node.measures import BatchTimer, Histogram, Measures
from quorate.node.member_watch import LAG_ENTRIES, MemberWatch
from quorate.node.readiness import BEHIND_ENTRIES_MAX, why_not_ready
from quorate.node.service_manager import ServiceManager
from quorate.node.space_watch import SpaceWatch
from quorate.node.tell import Teller
from quorate.node.watch import Watch, describe
from quorate.tree.figures import Goodbye

from .fakes import FakeTurn, eventually, run


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    """Names of the events said so far."""
    caplog.set_level(logging.DEBUG, "quorate")
    logging.getLogger("quorate").propagate = True
    return lambda: [record.event.name for record in caplog.records]  # type: ignore[attr-defined]


# ---- measures ------------------------------------------------------------------------------------


def test_a_histogram_counts_by_size() -> None:
    """A value at a bound belongs to that bucket, one above all bounds to the last."""
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(value)
    assert histogram.counts == [2, 1, 1]
    assert (histogram.count, histogram.total, histogram.maximum) == (4, 7.65, 7.0)


def test_batches_are_timed_from_submission_to_apply() -> None:
    """One observation per submission, also when several are applied at once."""
    timer = BatchTimer(histogram := Histogram((1.0, 2.0, 3.0)))
    timer.submitted(1, 10.0)
    timer.submitted(4, 11.0)
    timer.submitted(5, 12.0)
    timer.applied(4, 12.5)
    assert histogram.counts == [0, 1, 1, 0]
    timer.applied(5, 12.6)
    assert histogram.count == 3


# ---- the disk ------------------------------------------------------------------------------------


def test_a_slow_write_is_counted_and_told(monkeypatch: Any, said: Any) -> None:
    """While it lasts it is a stall, told once; when it ends its time is told."""
    now = [100.0]
    monkeypatch.setattr("quorate.node.disk_watch.monotonic", lambda: now[0])
    measures = Measures()
    seen: list[tuple[bool, float]] = []

    def persist(steps: list[Persist]) -> None:
        for _ in range(len(steps)):
            now[0] += 0.2
            watch.look()
            watch.look()
            seen.append((watch.is_stalled, round(watch.busy_seconds, 1)))

    watch = DiskWatch(persist, measures, slow_ms=250)
    watch.persist([Persist(1)])
    watch.look()
    assert (seen, said(), measures.disk_stalls) == ([(False, 0.2)], [], 0)
    watch.persist([Persist(2), Persist(3)])
    assert (watch.is_stalled, watch.busy_seconds) == (False, 0.0)
    watch.look()
    assert seen[-1] == (True, 0.4)
    assert said() == ["disk_stalled", "disk_slow", "disk_recovered"]
    assert (measures.disk_stalls, measures.disk_write.count) == (1, 2)


def test_a_failed_write_is_no_measurement() -> None:
    """The error reaches the disk thread; no duration is counted for what did not happen."""

    def persist(_: list[Persist]) -> None:
        raise DiskFailed("no")

    watch = DiskWatch(persist, measures := Measures(), slow_ms=250)
    with pytest.raises(DiskFailed):
        watch.persist([Persist(1)])
    assert measures.disk_write.count == 0


# ---- members -------------------------------------------------------------------------------------


def picture(*members: tuple[int, int, bool], failures: int | None = 1, epoch: int = 1) -> Any:
    return {
        "epoch": epoch,
        "failures_tolerated": failures,
        "failures_tolerated_when_whole": 1,
        "members": [
            {"node_id": node, "lag_entries": lag, "active": active, "state": "replicate"}
            for node, lag, active in members
        ],
    }


def test_a_member_lags_and_catches_up_once() -> None:
    """Between the two bounds nothing is told; silence counts as lag; times are told."""
    watch = MemberWatch()

    def look(lag: int, active: bool, now_ms: int) -> list[str]:
        found = watch.look(picture((2, lag, active)), now_ms)
        return [event.words.format(**fields) for event, fields in found]

    assert look(LAG_ENTRIES, True, 0) == []
    assert look(LAG_ENTRIES + 1, True, 1000) == ["node 2 lags behind: 1001 entries, replicate"]
    assert look(LAG_ENTRIES + 1, True, 2000) == []
    assert look(500, True, 3000) == []
    assert look(0, False, 4000) == []
    assert look(7, True, 5500) == ["node 2 has caught up, 4.5 s later"]
    assert look(7, False, 6000) == ["node 2 lags behind: 7 entries, no answer"]


def test_tolerance_is_told_when_it_changes() -> None:
    """Lower and higher are different events; a new leadership is compared with a whole cluster."""
    watch = MemberWatch()
    told = [
        [event.name for event, _ in watch.look(each, 0)]
        for each in (
            picture(failures=1),
            picture(failures=0),
            picture(failures=1),
            picture(failures=None),
            picture(failures=0),
            picture(failures=1, epoch=2),
        )
    ]
    lower, higher = ["tolerance_lower"], ["tolerance_higher"]
    assert told == [[], lower, higher, [], lower, []]


# ---- turns into lines ----------------------------------------------------------------------------


def test_turns_are_told(said: Any) -> None:
    """Causes of elections, who leads, and why connections ended."""
    teller = Teller(2)
    for turn in (
        FakeTurn(
            role_changes=[RoleChange("candidate", 3, "x"), RoleChange("leader", 4, "x")],
            leadership=Leadership(4, 2, False),
        ),
        FakeTurn(leadership=Leadership(4, 2, True)),
        FakeTurn(
            role_changes=[RoleChange("follower", 4, "no majority answers")],
            leadership=Leadership(4, NO_LEADER, False),
        ),
        FakeTurn(leadership=Leadership(5, NO_LEADER, False)),
        FakeTurn(leadership=Leadership(5, 3, False)),
        FakeTurn(goodbyes=[Goodbye(1, "h", 7, "hung up"), Goodbye(2, "h", 0, "nobody leads")]),
    ):
        teller.tell(turn)
    assert said() == [
        *("campaigning", "elected", "serving", "stepped_down", "leader_lost", "leader_known"),
        *("connection_ended", "connection_closed"),
    ]


# ---- the service manager -------------------------------------------------------------------------


class Manager:
    """A datagram socket, as systemd's."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.environ = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000"}

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found


def test_the_manager_hears_ready_status_and_stopping(tmp_path: Path) -> None:
    """As sd_notify(3) words it; a status is sent when it changed; a lost socket is no error."""
    manager = Manager(tmp_path / "notify")
    service = ServiceManager(manager.environ, 7)
    assert service.watchdog_seconds == 0.4
    service.ready()
    service.status("follows node 1")
    service.status("follows node 1")
    service.status("leads\nepoch 2")
    service.alive()
    service.stopping()
    assert manager.heard() == [
        *("READY=1", "STATUS=follows node 1", "STATUS=leads epoch 2", "WATCHDOG=1", "STOPPING=1"),
    ]
    manager.socket.close()
    service.alive()
    service.close()
    service.alive()


def test_without_a_manager_nothing_is_sent_and_a_foreign_watchdog_is_not_ours(
    tmp_path: Path,
) -> None:
    """No NOTIFY_SOCKET, or a WATCHDOG_PID of another process: no reports."""
    ServiceManager({"WATCHDOG_USEC": "1000000"}, 7).alive()
    manager = Manager(tmp_path / "notify")
    service = ServiceManager(manager.environ | {"WATCHDOG_PID": "8"}, 7)
    service.alive()
    assert manager.heard() == []
    ours = ServiceManager(manager.environ | {"WATCHDOG_PID": "7"}, 7)
    assert ours.watchdog_seconds == 0.4
    ours.close()
    service.close()
    manager.socket.close()


def health() -> dict[str, Any]:
    return picture(failures=None) | {"serving": True, "leader": 3, "disk_full": False}


def never(_: object) -> None:
    raise AssertionError("there is space")


def test_alive_is_reported_only_while_turns_are_taken(
    tmp_path: Path, monkeypatch: Any, said: Any
) -> None:
    """A loop that runs without deciding anything gets no more of the watchdog's patience."""
    monkeypatch.setattr("quorate.node.watch.LOOK_SECONDS", 0.001)

    async def story() -> None:
        (tmp_path / "notify").unlink(missing_ok=True)
        manager, measures = Manager(tmp_path / "notify"), Measures()
        environ = manager.environ | {"WATCHDOG_USEC": "1000"}
        service = ServiceManager(environ, 7)
        watch = Watch(
            health=health,
            measures=measures,
            disk=DiskWatch(lambda _: None, measures, slow_ms=1000),
            space=SpaceWatch(lambda: 1 << 30, 1 << 20, never, never),
            manager=service,
            log=None,
            late_ms=60_000,
        )
        watch.start()
        heard: list[str] = []

        def hears(message: str) -> bool:
            heard.extend(manager.heard())
            return message in heard

        await eventually(lambda: hears("WATCHDOG=1"))
        assert "STATUS=follows node 3 in epoch 1" in heard
        looks = watch._looks
        heard.clear()
        await eventually(lambda: watch._looks > looks + 20)
        assert not hears("WATCHDOG=1"), "no turn was taken"
        measures.turns += 1
        await eventually(lambda: hears("WATCHDOG=1"))
        gc.collect()
        assert measures.gc_pause.count > 0
        watch.stop()
        collected = measures.gc_pause.count
        gc.collect()
        assert measures.gc_pause.count == collected
        service.close()
        manager.socket.close()

    run(story)
    assert "loop_blocked" not in said()


def test_a_late_loop_is_told(monkeypatch: Any, said: Any) -> None:
    """When the watch comes much later than it wanted, the process stood still."""
    now = [100.0]
    monkeypatch.setattr("quorate.node.watch.monotonic", lambda: now[0])

    async def story() -> None:
        measures = Measures()
        watch = Watch(
            health=health,
            measures=measures,
            disk=DiskWatch(lambda _: None, measures, slow_ms=1000),
            space=SpaceWatch(lambda: 1 << 30, 1 << 20, never, never),
            manager=ServiceManager({}, 7),
            log=None,
            late_ms=250,
        )
        watch.start()
        now[0] += 0.5
        watch._look()
        watch.stop()
        await asyncio.sleep(0)

    run(story)
    assert said()[0] == "loop_blocked"


def test_ready_means_serving_and_not_far_behind() -> None:
    """Each reason names what helps: who is missing, how far behind, a disk that hangs."""

    def why(reason: str, behind: int, *, linked: tuple[int, ...] = (), busy: float = 0.0) -> str:
        picture = {"why_not_serving": reason, "behind_entries": behind}
        return why_not_ready(picture, peers=(1, 3), linked=linked, disk_busy_seconds=busy)

    assert why("", 0) == why("", BEHIND_ENTRIES_MAX) == ""
    assert why("", 5000) == "catching up: 5000 entries behind the leader"
    assert why("no leader", 0) == "no leader; linked to nobody of 1, 3"
    assert why("no leader", 0, linked=(3,), busy=2.0) == (
        "no leader; linked to 3 of 1, 3; the disk has been busy with one write for 2.0 s"
    )


def test_the_status_is_a_sentence() -> None:
    """What systemctl shows says what the node is and how safe the cluster is."""
    base = health()
    assert describe(base) == "follows node 3 in epoch 1"
    leads = base | {"failures_tolerated": 0, "failures_tolerated_when_whole": 1}
    assert describe(leads) == "leads epoch 1; the cluster tolerates 0 more of 1 failures"
    waits = base | {"serving": False, "why_not_serving": "no leader is known"}
    assert describe(waits) == "does not serve: no leader is known"
    assert events.EVENTS["elected"] is events.ELECTED
